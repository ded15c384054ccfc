"""Ranks, lists and own items against loops that can be read."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdecay.rank import own_items, ranks, top_k

ROWS, ITEMS = 3, 6
SCORES = hnp.arrays(np.float32, (ROWS, ITEMS), elements=st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0, -np.inf]))
MASKS = hnp.arrays(bool, (ROWS, ITEMS))
TARGETS = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=0, max_size=4, unique=True), min_size=ROWS, max_size=ROWS
)


def flat(targets: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and flat targets."""
    offsets = np.cumsum([0, *map(len, targets)])
    return offsets, np.array(list(itertools.chain(*targets)), np.int32)


def expected_ranks(scores: np.ndarray, targets: list[int], excluded: np.ndarray) -> list[float]:
    """Places averaged over every order that ties could be broken in; tied targets take theirs in the given
    order.
    """
    candidates = [item for item in range(len(scores)) if not excluded[item] and scores[item] > -np.inf]
    found = []
    for target in targets:
        if target not in candidates:
            found.append(np.inf)
            continue
        above = sum(scores[item] > scores[target] for item in candidates)
        tied = [item for item in candidates if scores[item] == scores[target]]
        mates = [item for item in targets if item in tied]
        places = [
            sorted(order.index(mate) for mate in mates)[mates.index(target)]
            for order in itertools.permutations(tied)
        ]
        found.append(1 + above + float(np.mean(places)))
    return found


@given(SCORES, MASKS, TARGETS)
def test_ranks_are_places_averaged_over_all_ways_to_break_ties(scores, excluded, targets):
    offsets, items = flat(targets)
    expected = [
        rank for row in range(ROWS) for rank in expected_ranks(scores[row], targets[row], excluded[row])
    ]
    np.testing.assert_allclose(ranks(scores, offsets, items, excluded=excluded), expected)


@given(SCORES, TARGETS)
def test_excluding_nothing_changes_nothing(scores, targets):
    offsets, items = flat(targets)
    nothing = np.zeros(scores.shape, bool)
    np.testing.assert_array_equal(
        ranks(scores, offsets, items), ranks(scores, offsets, items, excluded=nothing)
    )


def test_a_tie_counts_as_its_mean_rank():
    scores = np.array([[3.0, 1.0, 1.0, 1.0, 0.0]])
    assert ranks(scores, np.array([0, 1]), np.array([2])) == [1 + (1 + 2 + 3) / 3]


def test_two_targets_in_a_tie_of_two_take_both_places():
    np.testing.assert_allclose(ranks(np.zeros((1, 2)), np.array([0, 2]), np.array([0, 1])), [1, 2])


def test_an_unknown_or_excluded_target_is_a_miss():
    scores = np.array([[1.0, 2.0, 3.0]])
    excluded = np.array([[True, False, False]])
    found = ranks(scores, np.array([0, 3]), np.array([-1, 0, 1]), excluded=excluded)
    np.testing.assert_array_equal(found, [np.inf, np.inf, 2])


def test_rows_without_targets_and_blocks_of_rows(monkeypatch):
    scores = np.random.default_rng(0).random((7, 5))
    offsets, items = flat([[1, 2], [], [3], [0], [4, 1, 2], [], [2]])
    whole = ranks(scores, offsets, items)
    monkeypatch.setattr("jaxdecay.rank._BLOCK", 10)
    np.testing.assert_array_equal(ranks(scores, offsets, items), whole)


@pytest.mark.parametrize(
    "function", [lambda s: ranks(s, np.array([0, 1]), np.array([0])), lambda s: top_k(s, 1)]
)
def test_nan_is_refused(function):
    with pytest.raises(ValueError, match="NaN"):
        function(np.array([[np.nan, 1.0]]))


@given(SCORES, MASKS, st.integers(1, ITEMS))
def test_top_k_is_the_sorted_list_with_ties_by_item(scores, excluded, k):
    items, values = top_k(scores, k, excluded=excluded)
    for row in range(ROWS):
        candidates = [i for i in range(ITEMS) if not excluded[row, i] and scores[row, i] > -np.inf]
        best = sorted(candidates, key=lambda i: (-scores[row, i], i))[:k]
        assert items[row].tolist() == best + [-1] * (k - len(best))
        assert values[row].tolist() == [scores[row, i] for i in best] + [-np.inf] * (k - len(best))


def test_top_k_leaves_the_scores_alone_and_orders_the_extremes():
    scores = np.array(
        [[np.finfo(np.float32).max, -np.finfo(np.float32).max, np.inf, 1e-45, -1e-45]], np.float32
    )
    before = scores.copy()
    items, _ = top_k(scores, 5, excluded=np.zeros((1, 5), bool))
    assert items.tolist() == [[2, 0, 3, 4, 1]]
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("k", [0, 7])
def test_a_k_outside_the_catalogue_is_refused(k):
    with pytest.raises(ValueError, match=r"k=\d with 6 items"):
        top_k(np.zeros((1, 6)), k)


@given(
    st.lists(st.integers(0, 3), min_size=6, max_size=6), st.lists(st.integers(0, 3), min_size=4, max_size=4)
)
def test_own_items_are_what_a_loop_finds(item, ends):
    item, begin = np.array(item), np.array([0, 0, 3, 3])
    end = np.minimum(begin + np.array(ends), 6)
    own = own_items(begin, end, item, 4)
    pairs = list(zip(own.row.tolist(), own.item.tolist(), own.last.tolist(), strict=True))
    expected = []
    for row in range(4):
        events = range(begin[row], end[row])
        expected += [
            (row, i, max(e for e in events if item[e] == i)) for i in sorted({item[e] for e in events})
        ]
    assert pairs == expected
    assert all(own.item[pair] == item[event] for pair, event in zip(own.pair, own.event, strict=True))
    wanted_row, wanted_item = np.divmod(np.arange(20), 5)
    wanted_item = wanted_item - 1
    known = {(row, i): place for place, (row, i, _) in enumerate(pairs)}
    assert own.find(wanted_row, wanted_item).tolist() == [
        known.get(pair, -1) for pair in zip(wanted_row.tolist(), wanted_item.tolist(), strict=True)
    ]
