"""Decayed counts against a plain double loop, and which events may be counted."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdecay.data.catalogue import (
    build_catalogue,
    decayed_counts_at,
    first_seen,
    known_before,
    timeline,
)
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError

DAY = 86_400
ITEMS = 6
HALF_LIVES = [0.5, 7.0, np.inf]


def make(
    seed: int, events: int = 80, kind: str = "global-time", clock: str = "utc", days: int = 40
) -> Histories:
    random = np.random.default_rng(seed)
    time = random.integers(0, days * DAY, events)
    time[: events // 4] = time[0]  # ties
    return Histories.from_arrays(
        random.integers(0, 5, events),
        random.integers(0, ITEMS - 1, events),  # the last item never occurs
        time,
        items=ITEMS,
        part=random.integers(0, 3, events),
        config={"clock": clock, "split": {"kind": kind}},
    )


def plain_count(
    histories: Histories, half_life: float, at: int, parts: tuple[int, ...] = (0, 1, 2)
) -> list[float]:
    counts = [0.0] * histories.items
    for item, time, part in zip(histories.item, histories.time, histories.part, strict=True):
        if time < at and part in parts:
            counts[item] += 2.0 ** (-(int(at) - int(time)) / DAY / half_life)
    return counts


def of_all(counts: Any) -> np.ndarray:
    """Each row's parts of its sum; 0 where that is 0."""
    total = np.sum(counts, axis=-1, keepdims=True)
    return np.divide(counts, total, out=np.zeros(np.shape(counts)), where=total > 0)


@given(st.integers(0, 10**6), hnp.arrays(np.int64, 12, elements=st.integers(-DAY, 50 * DAY)))
def test_decayed_counts_are_those_of_a_double_loop(seed: int, at: np.ndarray) -> None:
    histories = make(seed)
    at[:3] = histories.time[:3]  # at an event's own time: that event is not counted
    for half_life in HALF_LIVES:
        expected = [plain_count(histories, half_life, moment) for moment in at.tolist()]
        found = decayed_counts_at(histories, half_life, at)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_chunks_in_any_order_give_the_same_counts() -> None:
    histories = make(1)
    events, at = timeline(histories), np.random.default_rng(0).integers(0, 40 * DAY, 30)
    whole = decayed_counts_at(histories, 3.0, at)
    for chunk in np.array_split(np.random.default_rng(1).permutation(30), 4):
        np.testing.assert_allclose(decayed_counts_at(events, 3.0, at[chunk]), whole[chunk], rtol=1e-6)
    assert decayed_counts_at(events, 3.0, at[:0]).shape == (0, ITEMS)


@pytest.mark.parametrize("between", [1, 9, 10_000])
@pytest.mark.parametrize("kind", ["global-time", "leave-one-out", "per-user-time"])
def test_catalogue_is_exact_at_every_grid_point(kind: str, between: int) -> None:
    histories = make(2, kind=kind)
    catalogue = build_catalogue(histories, HALF_LIVES, between=between)
    parts = (0, 1, 2) if kind == "global-time" else (0,)
    shares = catalogue.at(catalogue.grid)
    assert shares.dtype == catalogue.shares.dtype == np.float32
    assert catalogue.shares.shape == (3, len(catalogue.points), ITEMS)
    assert (np.diff(catalogue.grid) > 0).all()
    for point, moment in enumerate(catalogue.grid):
        expected = [plain_count(histories, h, moment, parts) for h in HALF_LIVES]
        np.testing.assert_allclose(shares[:, point], of_all(expected), rtol=1e-6, atol=1e-9)
    assert not shares[:, 0].any()
    if between == 1:
        np.testing.assert_array_equal(catalogue.points, catalogue.grid)
        assert catalogue.totals[2, -1] == np.isin(histories.part, parts).sum()  # nothing is left uncounted


def test_shares_are_kept_at_few_points_of_the_grid() -> None:
    histories = make(4, events=500)
    catalogue = build_catalogue(histories, [1.0], between=100)
    assert np.isin(catalogue.points, catalogue.grid).all()
    assert catalogue.points[0] == catalogue.grid[0]
    assert len(catalogue.points) == 6
    counted = np.searchsorted(np.sort(histories.time), catalogue.points)
    assert np.diff(counted).max() < 200


def test_index_is_the_last_grid_point_at_or_before() -> None:
    catalogue = build_catalogue(make(3), [1.0])
    grid = catalogue.grid
    at = np.concatenate([grid - 1, grid, grid + 1])
    index = catalogue.index(at)
    assert index.dtype == np.int32
    expected = [max(sum(int(g) <= int(moment) for g in grid) - 1, 0) for moment in at.tolist()]
    assert index.tolist() == expected


def test_a_budget_bounds_the_grid_and_keeps_shares_exact() -> None:
    histories = make(4, events=500)
    budget = 10 * 4 * ITEMS * 2 / 2**20
    catalogue = build_catalogue(histories, [1.0, 30.0], budget_mib=budget)
    assert catalogue.at(catalogue.grid).nbytes <= budget * 2**20
    assert 5 < len(catalogue.grid) <= 10  # quantiles that fall on tied events are one point
    assert catalogue.grid[0] == histories.time.min()
    assert catalogue.grid[-1] == histories.time.max() + 1
    for row, half_life in enumerate([1.0, 30.0]):
        exact = decayed_counts_at(histories, half_life, catalogue.grid)
        np.testing.assert_allclose(catalogue.at(catalogue.grid)[row], of_all(exact), rtol=1e-6)


@given(
    st.integers(0, 10**6),
    st.integers(2, 40),
    st.integers(1, 50),
    hnp.arrays(np.int64, 9, elements=st.integers(-DAY, 50 * DAY)),
)
def test_shares_at_any_moment_are_those_of_a_double_loop_however_coarse_the_grid(
    seed: int, points: int, between: int, at: np.ndarray
) -> None:
    histories = make(seed)
    at[:3] = histories.time[:3]  # at an event's own time: that event is not counted
    budget = points * 4 * ITEMS * 3 / 2**20
    catalogue = build_catalogue(histories, HALF_LIVES, budget_mib=budget, between=between)
    found = catalogue.at(at)
    assert found.dtype == np.float32
    for row, half_life in enumerate(HALF_LIVES):
        expected = of_all([plain_count(histories, half_life, moment) for moment in at.tolist()])
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(catalogue.at(catalogue.points), catalogue.shares)
    assert catalogue.at(at[:0]).shape == (3, 0, ITEMS)


@pytest.mark.parametrize("points", [2, 40])
@pytest.mark.parametrize("half_life", [0.01, 1.0])
def test_what_has_long_faded_keeps_its_shares(points: int, half_life: float) -> None:
    first = make(10)
    pause = 1_200 * DAY
    histories = Histories.from_arrays(
        np.concatenate([first.user(), first.user()]),
        np.concatenate([first.item, first.item]),
        np.concatenate([first.time, first.time + 40 * DAY + pause]),
        items=ITEMS,
        config=first.config,
    )
    budget = points * 4 * ITEMS / 2**20
    catalogue = build_catalogue(histories, [half_life], budget_mib=budget, between=10)
    before, after = int(first.time.max()) + 1, int(first.time.min()) + 40 * DAY + pause
    for last in (before, int(histories.time.max()) + 1):
        expected = of_all(plain_count(histories, half_life, last))
        late = after if last == before else last + 20_000 * DAY
        found = catalogue.at(np.array([late, last]))[0]
        np.testing.assert_allclose(found, np.tile(expected, (2, 1)), rtol=1e-5, atol=1e-7)


def test_relative_clock_has_one_point_with_the_totals_of_training() -> None:
    histories = make(5, kind="per-user-time", clock="relative")
    totals = np.bincount(histories.item[histories.part == 0], minlength=ITEMS)
    catalogue = build_catalogue(histories, HALF_LIVES)
    assert catalogue.grid.tolist() == [0]
    shares = (totals / totals.sum()).astype(np.float32)
    np.testing.assert_array_equal(catalogue.shares, np.tile(shares, (3, 1, 1)))
    np.testing.assert_array_equal(catalogue.at(np.array([3, 9])), np.tile(shares, (3, 2, 1)))
    assert catalogue.index(np.array([0, 10**9])).tolist() == [0, 0]
    np.testing.assert_array_equal(decayed_counts_at(histories, 7.0, np.array([3, 9])), [totals, totals])


def test_short_half_lives_over_long_logs_vanish_without_trouble() -> None:
    histories = make(6, days=20_000)
    at = np.linspace(0, 20_000 * DAY, 300).astype(np.int64)
    with np.errstate(all="raise", under="ignore"):
        found = decayed_counts_at(histories, 0.01, at)
    expected = [plain_count(histories, 0.01, moment) for moment in at.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("kind", ["global-time", "leave-one-out"])
def test_first_seen(kind: str) -> None:
    histories = make(7, kind=kind)
    counted = histories.part == 0 if kind == "leave-one-out" else histories.part >= 0
    seen = first_seen(histories)
    for item in range(ITEMS):
        times = histories.time[counted & (histories.item == item)]
        assert seen[item] == (times.min() if len(times) else np.iinfo(np.int64).max)
    assert seen[-1] == np.iinfo(np.int64).max


def test_known_before_is_strict() -> None:
    seen = np.array([5, 7, np.iinfo(np.int64).max])
    assert known_before(seen, np.array([5, 6, 8])).tolist() == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
    ]


@pytest.mark.parametrize("half_lives", [[], [0.0], [-1.0, 2.0], [np.nan]])
def test_half_lives_are_above_zero(half_lives: Any) -> None:
    with pytest.raises(InputError, match="give one or more days above 0"):
        build_catalogue(make(8), half_lives)


def test_a_log_without_catalogue_events_counts_nothing() -> None:
    histories = make(9, kind="leave-one-out").replace(part=np.full(80, 2, np.int8))
    catalogue = build_catalogue(histories, [1.0])
    assert not catalogue.shares.any()
    assert not catalogue.at(np.array([10 * DAY])).any()
    assert not decayed_counts_at(histories, 1.0, np.array([10 * DAY])).any()
