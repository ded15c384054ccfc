"""The k best of many items, from the scores of all of them."""

import numpy as np

from jaxdecay.live.live import Live, Reading
from jaxdecay.live.tables import Table
from jaxdecay.rank import top_k

_BLOCK = 128
_HEAVY = 100  # items that hold most of the sum, which are added to it exactly
_LOWEST = np.finfo(np.float32).min


class Exact:
    """Lists out of the scores of all items: those of `Live.scores`.

    With a smaller table the order is that of float32 all the same, and the scores of a list are off together,
    by what the table makes of the logarithm of the sum (`jaxdecay.live.lists.agreement` measures it). An item
    that comes back can change places with one that does not where their scores are as close as that.
    """

    def __init__(self, live: Live, kind: str = "float32") -> None:
        """``kind``: one of `jaxdecay.live.tables.KINDS`. With a smaller table ``live``, too, reads its
        vectors from the file."""
        self.live, self.table = live, Table.of(live.weights.targets, kind)
        live.weights = live.weights._replace(targets=self.table.exact)

    @property
    def bytes(self) -> int:
        """Of the table."""
        return self.table.bytes

    def best(self, reading: Reading, k: int, excluded: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """As `jaxdecay.live.lists.Lists.best`."""
        table, query, own = self.table, reading.query, reading.items
        base, radius, prior = table.products(query), table.radius(query), self.live.prior(reading.moment)
        base += prior
        if radius:
            heavy = np.union1d(own, shortlist(base, _HEAVY))
            base[heavy] = table.exactly(heavy, query) + prior[heavy]
        total = self.live.log_of_sum(base, reading.moment)
        scores = self.live.finished(base, total, reading)
        if excluded is not None:
            np.copyto(scores, -np.inf, where=excluded)
        chosen = shortlist(scores, k, 2 * radius)
        if not radius:
            return ordered(chosen, scores[chosen], k)
        found = table.exactly(chosen, query) + prior[chosen] - np.float32(total)
        places, mine = among(chosen, own)
        found[places] = np.logaddexp(found[places], reading.excited[mine])
        return ordered(chosen, found, k)


def shortlist(scores: np.ndarray, k: int, slack: float = 0.0) -> np.ndarray:
    """(n,) int64 items, ascending: all whose score is at most ``slack`` below the k-th best, and few others.

    -inf is no candidate. The k-th best of the maxima of blocks is no better than the k-th best of all.
    """
    most, bound = scores, _LOWEST
    if (blocks := len(scores) // _BLOCK) >= k:
        most = scores[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
    if len(most) >= k:
        bound = max(np.partition(most, len(most) - k)[len(most) - k] - np.float32(slack), _LOWEST)
    return np.flatnonzero(~(scores < bound))  # NaN stays, to be refused


def ordered(items: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of some items (n,), which ascend, and their scores; -inf is none. Raises ValueError for
    NaN."""
    if not len(items):
        return items, scores
    (places,), (best,) = top_k(scores[None], min(k, len(items)))
    there = places >= 0
    return items[places[there]], best[there]


def among(items: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where those of the ``own`` items (n,) that are among ``items``, which ascend, stand in either."""
    places = np.minimum(np.searchsorted(items, own), len(items) - 1)
    mine = np.flatnonzero(items[places] == own) if len(items) else np.zeros(0, np.int64)
    return places[mine], mine
