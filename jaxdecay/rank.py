"""Ranks, top-k lists and the masks behind them, on plain arrays.

NumPy only, and the batch axis is explicit: scores are (R, V), one row a request, one column an item, higher
is better. A score of -inf, like an excluded item, is no candidate: it is never listed and outranks nothing.
Ranks count from 1. Callers hand over chunks of requests, so that R·V stays within memory.
"""

from typing import NamedTuple

import numpy as np

_BLOCK = 2**23


def ranks(
    scores: np.ndarray, target_offsets: np.ndarray, targets: np.ndarray, *, excluded: np.ndarray | None = None
) -> np.ndarray:
    r"""Rank of every target among all candidates of its request, ties at their mean rank.

    A target whose score s is beaten by a items and shared by m items (itself included) has rank

    $$ a + i \frac{m + 1}{t + 1} $$

    where t of the m are targets of the same request and this is the i-th of them: the expectation of the
    i-th of t places drawn from the m tied ones. For a single target that is the mean rank a + (m + 1) / 2;
    several tied targets spread over the tie instead of all standing at its middle, so that no metric can
    exceed 1.

    Args:
        scores: (R, V) floats. target_offsets: (R+1,) the stretch of ``targets`` of each request.
        targets: (N,) items, no item twice in a request; negative for an item outside the catalogue.
        excluded: (R, V) bool, items that are no candidates of that request.

    Returns:
        (N,) float64; inf for a target that is no candidate.

    Raises ValueError when a score is NaN.
    """
    _refuse_nan(scores)
    lengths = np.diff(target_offsets)
    row = np.repeat(np.arange(len(lengths)), lengths)
    own = np.where(targets >= 0, scores[row, np.maximum(targets, 0)], -np.inf)
    if excluded is not None:
        scores = np.where(excluded, scores.dtype.type(-np.inf), scores)
        own[excluded[row, np.maximum(targets, 0)]] = -np.inf
    beaten_by, tied = _count(scores, row, own.astype(scores.dtype))
    place, among = _places(row, own) if (lengths > 1).any() else (1.0, 1.0)
    return np.where(np.isneginf(own), np.inf, beaten_by + place * (tied + 1) / (among + 1))


def _count(scores: np.ndarray, row: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) items above each target and (N,) items at its score, a block of targets at a time."""
    above, level = np.empty(len(row)), np.empty(len(row))
    size = max(_BLOCK // max(scores.shape[1], 1), 1)
    for begin in range(0, len(row), size):
        block = slice(begin, begin + size)
        chosen = row[block]
        one_each = np.array_equal(chosen, np.arange(chosen[0], chosen[0] + len(chosen)))
        rows = scores[chosen[0] : chosen[-1] + 1] if one_each else scores[chosen]
        above[block] = np.count_nonzero(rows > own[block, None], axis=1)
        level[block] = np.count_nonzero(rows == own[block, None], axis=1)
    return above, level


def _places(row: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) which of the equally scored targets of its request each is (from 1), and (N,) how many those
    are.
    """
    order = np.lexsort((own, row))
    begins = np.append(True, (np.diff(row[order]) != 0) | (own[order][1:] != own[order][:-1]))[: len(row)]
    group = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    place, among = np.empty(len(row)), np.empty(len(row))
    place[order] = np.arange(len(row)) - first[group] + 1
    among[order] = np.bincount(group)[group]
    return place, among


def top_k(scores: np.ndarray, k: int, *, excluded: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k best candidates of every request, best first; equal scores by lower item index.

    Returns ``items`` (R, k) int32 and their ``scores`` (R, k) float32. Where a request has fewer than k
    candidates the list ends with item -1 and score -inf. Scores are compared as float32.

    Raises ValueError when k is not between 1 and V, or a score is NaN.
    """
    items = scores.shape[1]
    if not 1 <= k <= items:
        raise ValueError(f"k={k} with {items} items; give a k from 1 to {items}")
    _refuse_nan(scores)
    values = np.array(scores, np.float32)
    if excluded is not None:
        values[excluded] = -np.inf
    listed = values >= np.partition(values, items - k, axis=1)[:, items - k, None]
    tied = np.count_nonzero(listed, axis=1) > k
    chosen = np.empty((len(values), k), np.int32)
    if tied.any():
        chosen[tied] = _top_of_ties(values[tied], k)
        listed = listed[~tied]
    ascending = (np.flatnonzero(listed) % items).reshape(-1, k)
    order = np.argsort(-np.take_along_axis(values[~tied], ascending, axis=1), axis=1, kind="stable")
    chosen[~tied] = np.take_along_axis(ascending, order, axis=1)
    found = np.take_along_axis(values, chosen, axis=1)
    return np.where(np.isneginf(found), np.int32(-1), chosen), found


def _top_of_ties(values: np.ndarray, k: int) -> np.ndarray:
    """(R, k) the best k items where the last place is shared.

    One integer carries the score (its bits, made monotone) and, below, the item, so that no two are equal.
    """
    items = values.shape[1]
    bits = (values + np.float32(0)).view(np.int32)  # -0 becomes 0
    keys = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64) << 32
    keys |= np.arange(items - 1, -1, -1)
    best = np.sort(np.partition(keys, items - k, axis=1)[:, items - k :], axis=1)[:, ::-1]
    return items - 1 - (best & 0xFFFFFFFF)


def _refuse_nan(scores: np.ndarray) -> None:
    if np.isnan(scores.min(initial=np.inf)):  # the minimum of anything with NaN is NaN
        raise ValueError(
            "scores hold NaN, so there is no order among them; give -inf for an item that is no candidate"
        )


class OwnItems(NamedTuple):
    """What each of R requests sees in its own history: P different (request, item) pairs, by request, then
    item.
    """

    row: np.ndarray
    """(P,) int64 request."""
    item: np.ndarray
    """(P,) int64 item."""
    last: np.ndarray
    """(P,) int64 row of the newest visible event of that item."""
    event: np.ndarray
    """(n,) int64 row of every visible event, by request, then in order."""
    pair: np.ndarray
    """(n,) int32 the pair that event belongs to."""
    items: int
    """V."""

    def find(self, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The pair of each (request, item), -1 where the request does not see that item (or the item is
        -1).
        """
        if not len(self.row):
            return np.full(row.shape, -1)
        wanted = row.astype(np.int64) * self.items + item
        keys = self.row * self.items + self.item
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[place] == wanted) & (item >= 0), place, -1)


def own_items(begin: np.ndarray, end: np.ndarray, item: np.ndarray, items: int) -> OwnItems:
    """The different items among the events ``begin : end`` of each request.

    Args:
        begin, end: (R,) rows of the visible history. item: (E,) item of every event. items: V; R·V integers
        are used.
    """
    lengths = end - begin
    starts = np.cumsum(lengths) - lengths
    row = np.repeat(np.arange(len(begin)), lengths)
    event = np.arange(len(row)) + np.repeat(begin - starts, lengths)
    key = row * items + item[event]
    table = np.full(len(begin) * items, -1, np.int32)
    table[key] = np.arange(len(key), dtype=np.int32)  # repeated keys keep the last value: the newest event
    found = np.flatnonzero(table >= 0)
    last = event[table[found]]
    table[found] = np.arange(len(found), dtype=np.int32)
    return OwnItems(found // items, found % items, last, event, table[key], items)
