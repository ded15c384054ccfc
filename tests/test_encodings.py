"""Encodings of one column: what they give, on missing and unknown values too."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.preprocessing import StandardScaler

from jaxdecay.data.features import Encoder, Features, FeatureSpec, fit_features
from jaxdecay.errors import InputError

LOGS = Path(__file__).parents[2] / "shared" / "data"
NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_nan=False, width=32), min_size=1, max_size=30)
GAPPED = st.lists(st.one_of(st.none(), st.floats(-1e30, 1e30)), max_size=20)


def fit(column: Any, encoding: Any, **options: int) -> Encoder:
    return fit_features(pl.DataFrame({"x": column}, strict=False), FeatureSpec({"x": encoding}, **options))


def encoded(column: Any, encoding: Any, later: Any = None, **options: int) -> Features:
    later = column if later is None else later
    return fit(column, encoding, **options).apply(pl.DataFrame({"x": later}, strict=False))


def test_standardised_like_scikit_learn() -> None:
    numbers = np.random.default_rng(0).normal(7, 3, 200)
    later = np.array([-100.0, 0.0, 7.0, 100.0])
    scaler = StandardScaler().fit(numbers[:, None])
    found = encoded(numbers, "standardise", later).numeric
    np.testing.assert_allclose(found, scaler.transform(later[:, None]), rtol=1e-5)


def test_missing_numbers_become_the_training_mean_with_a_flag() -> None:
    encoder = fit([1.0, None, float("nan"), 3.0], "standardise")
    assert encoder.numeric_names == ("x", "x_missing")
    found = encoder.apply(pl.DataFrame({"x": [1.0, None, 2.0]})).numeric
    np.testing.assert_array_equal(found, [[-1, 0], [0, 1], [0, 0]])
    unflagged = fit([1.0, 3.0], "standardise")  # nothing was missing in the training part
    assert unflagged.numeric_names == ("x",)
    np.testing.assert_array_equal(unflagged.apply(pl.DataFrame({"x": [None, 3.0]})).numeric, [[0], [1]])


@given(NUMBERS)
@settings(deadline=None, max_examples=40)
def test_ranks_like_scipy(numbers: list[float]) -> None:
    expected = 2 * (rankdata(numbers) - 0.5) / len(numbers) - 1
    np.testing.assert_allclose(encoded(numbers, "rank").numeric[:, 0], expected, atol=1e-6)


def test_ranks_outside_the_training_values_and_with_many_knots() -> None:
    np.testing.assert_allclose(encoded([1.0, 2.0], "rank", [-9.0, 1.5, 9.0]).numeric[:, 0], [-0.5, 0, 0.5])
    numbers = np.random.default_rng(0).lognormal(0, 3, 5_000)
    expected = 2 * (rankdata(numbers) - 0.5) / len(numbers) - 1
    encoder = fit(numbers, "rank")
    assert len(encoder.to_json()["scaled"][0]["knots"]) == 1_001
    np.testing.assert_allclose(encoder.apply(pl.DataFrame({"x": numbers})).numeric[:, 0], expected, atol=2e-3)


@pytest.mark.parametrize("encoding", ["standardise", "rank", "bucket", "category"])
@given(training=GAPPED, later=GAPPED)
@settings(deadline=None, max_examples=25)
def test_always_finite(encoding: Any, training: list, later: list) -> None:
    """Constant, empty and all-missing columns included."""
    schema = {"x": pl.Float64}
    encoder = fit_features(pl.DataFrame({"x": training}, schema=schema), FeatureSpec({"x": encoding}))
    found = encoder.apply(pl.DataFrame({"x": later}, schema=schema))
    assert np.isfinite(found.numeric).all()
    assert found.numeric.shape == (len(later), len(encoder.numeric_names))
    assert found.categorical.shape == (len(later), sum(encoder.widths))
    for block, cardinality in zip(encoder.blocks, encoder.cardinalities, strict=True):
        assert found.categorical[:, block].min(initial=0) >= 0
        assert found.categorical[:, block].max(initial=0) < cardinality


@pytest.mark.parametrize("column", [[5.0, 5.0, 5.0], [None, None], [float("nan")] * 2, [1e300, -1e300]])
@pytest.mark.parametrize("encoding", ["standardise", "rank"])
def test_constant_missing_and_huge_columns(column: Any, encoding: Any) -> None:
    series = pl.Series("x", column, dtype=pl.Float64)
    found = encoded(series, encoding).numeric
    assert np.isfinite(found).all()
    if len(set(column)) == 1:
        np.testing.assert_array_equal(found[:, 0], 0)


def test_buckets() -> None:
    found = encoded(list(range(8)), "bucket", [-5, 0, 1, 2, 7, 99, None], buckets=4).categorical[:, 0]
    np.testing.assert_array_equal(found, [1, 1, 1, 2, 4, 4, 0])  # edges 1.75, 3.5, 5.25
    assert fit([3, 3, 3], "bucket").cardinalities == (2,)


def test_categories_by_frequency_and_unknown() -> None:
    encoder = fit(["b", "a", "b", None, "c"], "category", max_categories=2)
    assert encoder.to_json()["coded"][0]["values"] == ["b", "a"]
    assert encoder.cardinalities == (3,)
    found = encoder.apply(pl.DataFrame({"x": ["a", "b", "c", "new", None, ""]})).categorical[:, 0]
    np.testing.assert_array_equal(found, [2, 1, 0, 0, 0, 0])
    assert encoder.notes[0]["categories_cut"] == 1


def test_one_category_whatever_its_type() -> None:
    """pandas turns integers into floats where one is missing."""
    encoder = fit([1, 2, 2], "category")
    for later in (pl.Series([2, 1], dtype=pl.Int8), pl.Series([2.0, 1.0]), pl.Series(["2", "1"])):
        np.testing.assert_array_equal(encoder.apply(pl.DataFrame({"x": later})).categorical[:, 0], [1, 2])
    np.testing.assert_array_equal(encoded([True, False, True], "category").categorical[:, 0], [1, 2, 1])


@pytest.mark.parametrize(
    "column",
    [["a|b", "b", None, "c|a|b|a", "", "new"], [["a", "b"], ["b"], None, ["c", "a", "b", "a"], [], ["new"]]],
)
def test_multi_valued_blocks(column: Any) -> None:
    encoder = fit(column[:4], "multi")
    assert encoder.categorical_names == ("x",)
    assert encoder.to_json()["coded"][0]["values"] == ["b", "a", "c"]
    assert (encoder.widths, encoder.cardinalities, encoder.blocks) == ((3,), (4,), (slice(0, 3),))
    found = encoder.apply(pl.DataFrame({"x": column})).categorical
    np.testing.assert_array_equal(found, [[2, 1, 0], [1, 0, 0], [0, 0, 0], [3, 2, 1], [0, 0, 0], [0, 0, 0]])


def test_multi_valued_rows_are_cut_and_counted() -> None:
    encoder = fit(["a|b|c", "a"], "multi", multi_width=2)
    assert encoder.notes[0]["rows_cut"] == 1
    np.testing.assert_array_equal(encoder.apply(pl.DataFrame({"x": ["c|b|a"]})).categorical, [[3, 2]])


def test_coordinates_lie_on_the_sphere() -> None:
    places = pl.DataFrame({"shop_lat": [0.0, 90.0, 0.0, None], "shop_lon": [0.0, 45.0, 90.0, 3.0]})
    encoder = fit_features(places)
    stem = "shop_lat_shop_lon"
    assert encoder.numeric_names == (f"{stem}_x", f"{stem}_y", f"{stem}_z", f"{stem}_missing")
    third = 1 / 3
    expected = [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [third, third, third, 1]]
    np.testing.assert_allclose(encoder.apply(places).numeric, expected, atol=1e-7)
    with pytest.raises(InputError, match=r"'shop_lat' holds degrees outside -90 to 90 \(row 1\)"):
        encoder.apply(pl.DataFrame({"shop_lat": [91.0], "shop_lon": [0.0]}))
    with pytest.raises(InputError, match="two columns"):
        fit_features(places, FeatureSpec({"shop_lat": "coordinates", "shop_lon": "ignore"}))
    named = fit_features(
        places.rename({"shop_lat": "a", "shop_lon": "b"}),
        FeatureSpec({"a": "coordinates", "b": "coordinates"}),
    )
    np.testing.assert_allclose(
        named.apply(places.rename({"shop_lat": "a", "shop_lon": "b"})).numeric, expected, atol=1e-7
    )


@pytest.mark.parametrize("kind", [pl.List(pl.Float32), pl.Array(pl.Float32, 2), pl.List(pl.Int16)])
def test_given_vectors(kind: Any) -> None:
    column = pl.Series("x", [[1, 2], None, [3, 6]], dtype=kind)
    encoder = fit(column, "vector")
    assert encoder.numeric_names == ("x_0", "x_1", "x_missing")
    found = encoder.apply(pl.DataFrame({"x": column})).numeric
    np.testing.assert_array_equal(found, [[1, 2, 0], [2, 4, 1], [3, 6, 0]])


def test_vectors_of_other_lengths_are_refused() -> None:
    with pytest.raises(InputError, match=r"other lengths than 2 \(row 2\)"):
        fit([[1.0, 2.0], [1.0]], "vector")
    later = pl.DataFrame({"x": [[1.0, 2.0], [1.0], [1.0, 2.0, 3.0]]})
    with pytest.raises(InputError, match=r"of 1, 3 numbers, but .* training part have 2 \(rows 2, 3\); make"):
        fit([[1.0, 2.0]], "vector").apply(later)


@pytest.mark.parametrize("column", [[[[1.0]], [[2.0]]], [["a"], ["b"]], ["a", "b"]])
def test_what_is_no_vector_is_refused(column: list) -> None:
    with pytest.raises(InputError, match=r"column 'x' holds .*no vectors; give lists or arrays of numbers"):
        fit(column, "vector")


def test_vectors_beyond_float32_are_refused() -> None:
    """Clipped, they would be of a size that no training survives."""
    largest = float(np.finfo(np.float32).max)
    assert encoded([[largest, -largest], [0.0, 1.0]], "vector").numeric[0].tolist() == [largest, -largest]
    with pytest.raises(InputError, match=r"infinite or beyond float32 \(row 2\)"):
        fit([[1.0, 2.0], [1.0, -1e39]], "vector")


@pytest.mark.parametrize("column", [[None, None], [[], None], [[], []]])
def test_vectors_that_are_never_there_take_no_columns(column: list) -> None:
    never = fit(pl.Series("x", column, dtype=pl.List(pl.Float64)), "vector")
    assert never.numeric_names == ()
    assert never.apply(pl.DataFrame({"x": [[1.0]]})).numeric.shape == (1, 0)
    assert (never.notes[0]["missing"], never.notes[0]["width"]) == (2, 0)


def test_every_vector_that_the_mean_replaces_counts_as_missing() -> None:
    encoder = fit([[1.0, 2.0], None, [], [float("nan"), 1.0], [None, 1.0]], "vector")
    assert encoder.notes[0]["missing"] == 4
    flags = encoder.apply(pl.DataFrame({"x": [[1.0, 2.0], [], [1.0, float("nan")]]})).numeric[:, -1]
    assert flags.tolist() == [0, 1, 1]
