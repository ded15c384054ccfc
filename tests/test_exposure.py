"""Exposure: bounds against all patterns and all lists by brute force, what is refused and what can be had
instead, and the bonus over all lists against a scan."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import exposure
from jaxdecay.rerank import rerank

WEIGHT = [1 / math.log2(1 + place) for place in range(1, 9)]


def shares(places: int, others: int, own: int) -> dict[tuple[int, ...], float]:
    """The group's share by pattern, of all that so many candidates can fill."""
    return {
        pattern: sum(w for w, mine in zip(WEIGHT, pattern, strict=False) if mine) / sum(WEIGHT[:places])
        for pattern in itertools.product((0, 1), repeat=places)
        if sum(pattern) <= own and places - sum(pattern) <= others
    }


BOUNDS = [(0.3, 1.0), (0.0, 0.2), (0.25, 0.4), (0.5, 0.52), (0.0, 0.0), (1.0, 1.0), (0.61, 0.63)]


@pytest.mark.parametrize(("least", "most"), BOUNDS)
@pytest.mark.parametrize("places", [1, 2, 5, 8])
def test_feasible_is_what_some_pattern_is(places: int, least: float, most: float) -> None:
    reach = exposure.completions(places, least, most)
    for others, own in itertools.product(range(places + 2), repeat=2):
        if others + own < places:
            continue
        met = [least - 1e-7 <= one <= most + 1e-7 for one in shares(places, others, own).values()]
        found = exposure.feasible(reach, np.array([others]), np.array([own]))[0]
        assert found == any(met), (others, own)


@pytest.mark.parametrize(("least", "most"), BOUNDS)
def test_the_list_is_the_first_of_all_that_meet_the_bounds(least: float, most: float) -> None:
    """First by its first place, then by its second, and so on."""
    random = np.random.default_rng(1)
    chosen = random.random(40) < 0.4
    items = np.stack([random.permutation(40)[:9] for _ in range(40)]).astype(np.int32)
    scores = np.tile(np.linspace(2, 0, 9, dtype=np.float32), (40, 1))
    own = chosen[items].sum(axis=1)
    left = np.stack([9 - own, own], axis=1)
    reach, k = exposure.completions(5, least, most), 5
    can = exposure.feasible(reach, left[:, 0], left[:, 1])
    assert can.any()
    found = rerank(
        items[can], scores[can], np.zeros((40, 1), np.float32), k,
        chosen=chosen, reach=reach, left=left[can],
    )  # fmt: skip
    for row, places in zip(items[can], found, strict=True):
        mine = chosen[row]
        good = [
            pattern
            for pattern, share in shares(k, int((~mine).sum()), int(mine.sum())).items()
            if least - 1e-7 <= share <= most + 1e-7
        ]
        lists = []
        for pattern in good:
            left_over = {of: iter(np.flatnonzero(mine == bool(of))) for of in (0, 1)}
            lists.append([int(next(left_over[of])) for of in pattern])
        assert places.tolist() == min(lists)


def test_a_bound_that_cannot_be_met_is_told_with_what_can_be_had() -> None:
    for least, most, others, own in (
        (0.5, 1.0, 9, 1),
        (0.0, 0.1, 3, 9),
        (0.9, 1.0, 9, 2),
        (0.55, 0.57, 2, 1),
    ):
        places = 5 if others > 2 else 3
        value = exposure.nearest(places, least, most, others, own)
        had = shares(places, others, own).values()
        assert not any(least <= one <= most for one in had)
        bounds = (value, most) if value < least else (least, value)
        reach = exposure.completions(places, *bounds)
        assert exposure.feasible(reach, np.array([others]), np.array([own]))[0]
        away = min(max(least - one, one - most) for one in had)
        assert abs(value - least if value < least else value - most) <= away + 0.01


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_the_bonus_is_the_smallest_that_does(seed: int, bound: float) -> None:
    random = np.random.default_rng(seed)
    scores = -np.sort(-random.normal(size=(6, 8)).astype(np.float32), axis=1)
    scores[0, 6:] = -np.inf
    chosen, k = random.random((6, 8)) < 0.5, 4

    def share(value: float) -> float:
        promoted = np.where(chosen, scores.astype(np.float64) + value, scores)
        order = np.argsort(-promoted, axis=1, kind="stable")[:, :k]
        return float(np.take_along_axis(chosen & np.isfinite(scores), order, 1) @ WEIGHT[:k] @ np.ones(6)) / (
            6 * sum(WEIGHT[:k])
        )

    for least, most in ((bound, 1.0), (0.0, bound)):
        value, found = exposure.bonus(scores, chosen, k, least, most)
        assert found == pytest.approx(share(value), abs=1e-6)
        all_of_it = share(99.0 if least else -99.0)
        if not least - 1e-6 <= all_of_it <= most + 1e-6:
            assert not least <= found <= most
            continue
        assert least - 1e-6 <= found <= most + 1e-6
        if value:
            assert not least <= share(value * (1 - 1e-4) - math.copysign(1e-5, value)) <= most


@given(st.integers(0, 10_000), st.floats(0.1, 0.85))
def test_lists_that_are_alike_change_one_after_the_other(seed: int, low: float) -> None:
    """The same list for everybody, and few different scores: one bonus would move all at once."""
    random = np.random.default_rng(seed)
    one = -np.sort(-random.integers(0, 3, 8).astype(np.float32))
    scores, k, lists = np.tile(one, (12, 1)), 4, 12
    chosen = np.tile(np.arange(8) % 2 == random.integers(2), (lists, 1))
    bounds = low, low + 0.05
    places, found = exposure.together(scores, chosen, k, *bounds)
    listed = np.take_along_axis(chosen, places, axis=1)
    share = (listed @ WEIGHT[:k]).sum() / (lists * sum(WEIGHT[:k]))
    assert found == pytest.approx(share, abs=1e-6)
    assert low - 1e-9 <= found <= low + 0.05 + 1e-9
    assert all(len(set(row)) == k for row in places.tolist())
    # At the bonus every list is worth what the best order is worth.
    value, _ = exposure.bonus(scores, chosen, k, *bounds)
    promoted = np.where(chosen, scores.astype(np.float64) + value, scores)
    best = -np.sort(-promoted, axis=1)[:, :k] @ WEIGHT[:k]
    np.testing.assert_allclose(np.take_along_axis(promoted, places, axis=1) @ WEIGHT[:k], best, atol=1e-5)


def test_empty_lists_have_no_exposure_to_share() -> None:
    scores = np.array([[2.0, 1.0, 0.0, -1.0], [-np.inf] * 4], np.float32)
    chosen = np.array([[False, True, False, True]] * 2)
    alone = exposure.together(scores[:1], chosen[:1], 2, 0.5, 1.0)
    both = exposure.together(scores, chosen, 2, 0.5, 1.0)
    assert both[1] == alone[1] >= 0.5
    assert both[0][0].tolist() == alone[0][0].tolist()
    assert math.isnan(exposure.together(scores[1:], chosen[1:], 2, 0.5, 1.0)[1])


def test_shares_of_lists() -> None:
    chosen = np.array([[True, False, True], [True, True, True], [False, False, False]])
    listed = np.array([[True, True, True], [True, False, False], [False, False, False]])
    expected = [(1 + 0.5) / (1 + 1 / math.log2(3) + 0.5), 1.0, math.nan]
    np.testing.assert_allclose(exposure.share(chosen, listed), expected, atol=1e-6)
