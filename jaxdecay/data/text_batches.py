"""Token ids into padded batches of few shapes, with little padding: texts of like length together."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

_STEP = 4  # padded lengths are multiples of this, at least
_DISTINCT = 512  # of which so many are weighed


class Batch(NamedTuple):
    """Texts of like length."""

    rows: np.ndarray
    """Indices of the texts, as many as there are; what ``ids`` has beyond them is padding."""
    ids: np.ndarray
    """(b, n) int32."""
    mask: np.ndarray
    """(b, n), False at padding, which stands on the right."""


def batches(
    ids: Sequence[np.ndarray], *, tokens: int, longest: int, compiling: int = 4_096
) -> Iterator[Batch]:
    """Every text once, the longest first; a batch has at most ``tokens`` tokens with padding, or is one text.

    All batches of one length have one shape. ``longest``: the greatest length, no padded one is beyond it.
    ``compiling``: tokens that are encoded in the time that compiling for one shape more takes; the lengths
    are those at which padding and compiling together take least (`padded_lengths`).
    """
    lengths = np.array([len(one) for one in ids], np.int64)
    upto = np.minimum(padded_lengths(lengths, compiling), longest)
    classes = np.searchsorted(upto, lengths)
    for i, width in reversed(list(enumerate(upto.tolist()))):
        members = np.flatnonzero(classes == i)
        count = -(-len(members) // max(1, tokens // width))
        size = -(-len(members) // count)  # all of one size, so that the last one is full too
        for start in range(0, len(members), size):
            rows = members[start : start + size]
            batch = Batch(rows, np.zeros((size, width), np.int32), np.zeros((size, width), bool))
            for at, row in enumerate(rows):
                batch.ids[at, : lengths[row]], batch.mask[at, : lengths[row]] = ids[row], True
            yield batch


def padded_lengths(lengths: np.ndarray, each: int) -> np.ndarray:
    """Ascending lengths up to which texts are padded, such that the padded tokens of all texts, and ``each``
    more for every such length, are the fewest. Every one has texts.

    Exact by dynamic programming, but for lengths rounded up to multiples of 4, or of more where texts are
    very long.

    >>> padded_lengths(np.array([4, 4, 5, 8, 40]), 2).tolist()
    [4, 8, 40]
    >>> padded_lengths(np.array([4, 4, 5, 8, 40]), 20).tolist()
    [8, 40]
    """
    if not len(lengths):
        return np.zeros(0, np.int64)
    step = _STEP * max(1, -(-int(lengths.max()) // (_STEP * _DISTINCT)))
    edges, counts = np.unique(-(-np.maximum(lengths, 1) // step) * step, return_counts=True)
    upto = np.concatenate([[0], np.cumsum(counts)])
    # least[j]: of the texts up to edges[j - 1], which is the last length chosen; before[j]: the one before it
    least = np.zeros(len(edges) + 1)
    before = np.zeros(len(edges) + 1, np.int64)
    for j, edge in enumerate(edges, start=1):
        costs = least[:j] + edge * (upto[j] - upto[:j]) + each
        before[j] = costs.argmin()
        least[j] = costs[before[j]]
    chosen = []
    j = len(edges)
    while j:
        chosen.append(edges[j - 1])
        j = before[j]
    return np.array(chosen[::-1])
