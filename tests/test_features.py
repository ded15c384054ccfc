"""Features: fitted on the training part, finite whatever comes, and the same after a round trip through
JSON."""

import datetime as dt
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdecay.data.events import read_events, read_items, read_users
from jaxdecay.data.features import ENCODINGS, Encoder, FeatureSpec, calendar, fit_features
from jaxdecay.errors import InputError

LOGS = Path(__file__).parents[2] / "shared" / "data"
NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_nan=False, width=32), min_size=1, max_size=30)
GAPPED = st.lists(st.one_of(st.none(), st.floats(-1e30, 1e30)), max_size=20)


def fit(column: Any, encoding: Any, **options: int) -> Encoder:
    return fit_features(pl.DataFrame({"x": column}, strict=False), FeatureSpec({"x": encoding}, **options))


def test_inference() -> None:
    rows = 200
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {
            "item_id": range(rows),
            "price": rng.normal(10, 2, rows),
            "heavy": [1e6, *rng.normal(0, 1, rows - 1)],
            "stars": rng.integers(1, 6, rows),
            "category": rng.integers(1000, 1050, rows),
            "views": rng.permutation(rows * 10)[:rows],
            "row": range(rows),
            "colour": rng.choice(["red", "blue"], rows),
            "genres": rng.choice(["x|y", "x", "z"], rows),
            "title": [f"a fine thing {row}" for row in range(rows)],
            "sku": [f"s{row}" for row in range(rows)],
            "new": rng.random(rows) < 0.5,
            "tags": [["a"], ["b", "c"]] * (rows // 2),
            "image": [[0.5, 1.5]] * rows,
            "made": [dt.date(2020, 1, 1) + dt.timedelta(days=int(day)) for day in rng.integers(0, 900, rows)],
            "same": ["x"] * rows,
            "never": [None] * rows,
            "codes": [[1, 2], [3]] * (rows // 2),
            "nested": [[[0.5], [1.5]]] * rows,
            "empty": [[], None] * (rows // 2),
        },
        schema_overrides={"empty": pl.List(pl.Float64)},
    )
    table = table.with_columns(
        pl.Series("pixels", [[1, 2]] * rows, pl.Array(pl.UInt8, 2)),
        pl.Series("grid", [[[1.0, 2.0]]] * rows, pl.Array(pl.Float64, (1, 2))),
    )
    chosen = {note["column"]: note["encoding"] for note in fit_features(table).notes}
    assert chosen == {
        "price": "standardise",
        "heavy": "rank",
        "stars": "category",
        "category": "category",
        "views": "standardise",
        "row": "ignore",
        "colour": "category",
        "genres": "multi",
        "title": "text",
        "sku": "ignore",
        "new": "category",
        "tags": "multi",
        "image": "vector",
        "made": "standardise",
        "same": "ignore",
        "never": "ignore",
        "codes": "multi",
        "nested": "ignore",
        "empty": "ignore",
        "pixels": "vector",
        "grid": "ignore",
    }
    assert fit_features(table).text_names == ("title",)
    assert all(note["why"] for note in fit_features(table).notes)


def test_event_roles_are_no_features() -> None:
    table = pl.DataFrame(
        {"user_id": [1, 2], "item_id": [1, 2], "timestamp": [1, 2], "weight": [1.0, 2.0], "x": [1.5, 2.5]}
    )
    assert fit_features(table).numeric_names == ("x",)
    assert fit_features(table.drop("timestamp")).numeric_names == ("weight", "x")  # a table of items
    assert fit_features(table, FeatureSpec({"weight": "standardise"})).numeric_names == ("weight", "x")
    bare = fit_features(table.drop("x")).apply(table)
    assert (bare.categorical.shape, bare.numeric.shape) == ((2, 0), (2, 0))


def test_only_the_training_part_is_looked_at() -> None:
    training, later = pl.DataFrame({"x": [0.0, 2.0]}), pl.DataFrame({"x": [1e9]})
    encoder = fit_features(training)
    before = encoder.to_json()
    encoder.apply(later)
    assert encoder.to_json() == before
    assert encoder.apply(training).numeric[:, 0].tolist() == [-1, 1]


def test_bad_columns_are_refused() -> None:
    encoder = fit([1.0, 2.0], "standardise")
    for table, words in [
        (pl.DataFrame({"y": [1.0]}), "no column 'x'"),
        (pl.DataFrame({"x": ["red"]}), r"no number \(row 1\)"),
        (pl.DataFrame({"x": [1.0, float("inf")]}), r"infinite numbers \(row 2\)"),
        (pl.DataFrame({"x": [[1.0]]}), "no numbers"),
    ]:
        with pytest.raises(InputError, match=words):
            encoder.apply(table)
    with pytest.raises(InputError, match="no column 'price'"):
        fit_features(pl.DataFrame({"x": [1]}), FeatureSpec({"price": "rank"}))
    with pytest.raises((InputError, TypeError), match="onehot"):
        FeatureSpec({"x": cast(Any, "onehot")})
    with pytest.raises(InputError, match="buckets 0"):
        FeatureSpec(buckets=0)
    with pytest.raises(InputError, match="no single values"):
        fit([[1.0]], "category")
    with pytest.raises(InputError, match="no vectors"):
        fit([1.0], "vector")


@given(
    st.lists(
        st.tuples(st.one_of(st.none(), st.floats(-1e9, 1e9)), st.text(max_size=3)), min_size=1, max_size=15
    )
)
@settings(deadline=None, max_examples=40)
def test_json_round_trip(rows: list) -> None:
    table = pl.DataFrame(rows, schema={"x": pl.Float64, "y": pl.String}, orient="row")
    table = table.with_columns(z=pl.col("x"), b=pl.col("x"), m=pl.col("y"), v=pl.concat_list("x", "x"))
    spec = FeatureSpec(
        {"x": "standardise", "z": "rank", "b": "bucket", "y": "category", "m": "multi", "v": "vector"}
    )
    encoder = fit_features(table, spec)
    again = Encoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again == encoder
    for one, other in zip(again.apply(table), encoder.apply(table), strict=True):
        np.testing.assert_array_equal(one, other)


def test_json_of_another_version_is_refused() -> None:
    for data in ({}, {"coded": [{"kind": "Hashes"}], "scaled": [], "text_names": [], "notes": []}):
        with pytest.raises(InputError, match="prepare the log again"):
            Encoder.from_json(data)


def test_calendar() -> None:
    monday = 345_600  # 1970-01-05
    found = calendar(
        np.array([monday, monday + 6 * 3_600, monday + 7 * 86_400, monday + 3 * 86_400 + 43_200])
    )
    np.testing.assert_allclose(found[0], [0, 1, 0, 1], atol=1e-7)
    np.testing.assert_allclose(found[1, :2], [1, 0], atol=1e-7)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)
    np.testing.assert_allclose(found[3], [0, -1, 0, -1], atol=1e-6)
    assert found.dtype == np.float32
    for stamp in (0, 1_500_000_000):
        moment = dt.datetime.fromtimestamp(stamp, dt.UTC)
        day = (moment.hour * 3_600 + moment.minute * 60 + moment.second) / 86_400
        week = (moment.weekday() + day) / 7
        expected = [f(2 * np.pi * phase) for phase in (day, week) for f in (np.sin, np.cos)]
        np.testing.assert_allclose(calendar(np.array([stamp]))[0], expected, atol=1e-6)


def test_spec_knows_every_encoding() -> None:
    assert FeatureSpec(dict.fromkeys("abcdefghi", "text"))
    for encoding in ENCODINGS:
        FeatureSpec({"x": encoding})


@pytest.mark.parametrize(
    "path",
    [
        "online-retail/events",
        "taobao/events",
        "electronics/items",
        "foursquare/items",
        "ml-1m-2999/items",
        "ml-1m-2999/users",
        "beauty/items",
    ],
)
def test_real_tables(path: str) -> None:
    source = LOGS / f"{path}.parquet"
    if not source.exists():
        pytest.skip(f"{path} is not beside the repository")
    reader = {"events": lambda s: read_events(s).frame, "items": read_items, "users": read_users}[source.stem]
    table = reader(source)
    encoder = fit_features(table)
    found = encoder.apply(table)
    assert np.isfinite(found.numeric).all()
    assert len(encoder.categorical_names) + len(encoder.numeric_names) > 0
    assert Encoder.from_json(json.loads(json.dumps(encoder.to_json()))) == encoder
