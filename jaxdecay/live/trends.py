"""What everybody takes: the catalogue's counts at several half-lives, moved on by every event, and since when
each item has been there."""

import threading
from collections.abc import Sequence

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.live.weights import Popularity

_NEVER = np.iinfo(np.int64).max
_MOST = 500.0  # halvings by which counts are inflated before they are brought back


class Trends:
    """Counts of V items at R half-lives. Shares at a moment are of the events strictly before it.

    Counts grow instead of fading: an event at a time t adds $2^{(t - t_0)/h}$, so that it costs a few
    additions whatever the number of items; once in 500 half-lives all are brought back. Safe to use from
    several threads: what is asked settles counts, too.
    """

    def __init__(self, rates: np.ndarray, items: int) -> None:
        """``rates`` (R,): halvings per second; 0 never fades."""
        self.rates = np.asarray(rates, np.float64)
        self.counts = np.zeros((len(rates), items))
        self.came = np.full(items, _NEVER)
        """(V,) int64 seconds: when each item was first seen; the largest int64 for never."""
        self._base = self._last = 0  # seconds
        self._latest: list[int] = []  # items of the latest second, which nothing at it sees yet
        self._totals = np.zeros(len(rates))
        self._scores: tuple[Popularity, np.ndarray] | None = None  # of what is counted
        self._lock = threading.Lock()

    @classmethod
    def of(cls, histories: Histories, rates: np.ndarray, *, without: Sequence[int] = ()) -> "Trends":
        """Of all events but those of the users ``without``."""
        trends = cls(rates, histories.items)
        order = np.argsort(np.asarray(histories.time), kind="stable")
        if len(without):
            order = order[~np.isin(histories.user()[order], without)]
        columns = (
            np.asarray(histories.item)[order],
            np.asarray(histories.time)[order],
            histories.chosen[order],
        )
        for item, at, chosen in zip(*(column.tolist() for column in columns), strict=True):
            trends.add(item, at, chosen=chosen)
        return trends

    @property
    def latest(self) -> int:
        """Seconds: the latest event."""
        return self._last

    def add(self, item: int, at: int, *, chosen: bool = True) -> None:
        """Counts an event at ``at`` (seconds), which may be late; one that was no ``chosen`` item only tells
        that the item is there."""
        self.came[item] = min(self.came[item], at)
        if not chosen:
            return
        with self._lock:
            if at > self._last:
                self._settle()
                self._last = at
            if at == self._last:
                self._latest.append(item)
            else:
                self._count(item, at)

    def shares(self, at: int) -> np.ndarray:
        """(R, V) float32 at a moment, not before the latest event (earlier counts as then); 0 where there is
        nothing."""
        with self._lock:
            if at > self._last:
                self._settle()
            return (self.counts / self._per_total()).astype(np.float32)

    def scores(self, popularity: Popularity, at: int) -> np.ndarray:
        """(V,) float32 what popularity adds to the score of each item (`jaxdecay.heads.popularity`); not to
        be changed. It hangs on what is counted alone: until the next event the same array is given again."""
        with self._lock:
            if at > self._last:
                self._settle()
            if self._scores is None or self._scores[0] is not popularity:
                self._scores = popularity, self._scored(popularity)
            return self._scores[1]

    def _scored(self, popularity: Popularity) -> np.ndarray:
        mixture, cold = popularity.mixture / self._per_total().T, popularity.cold
        mixed = np.einsum("r,rv->v", mixture[0], self.counts)
        mixed += popularity.floor[0] / len(mixed)
        scores = np.log(mixed.astype(np.float32))  # ten times as fast as in float64
        scores *= popularity.exponent[0]
        if len(cold):
            mixed = np.einsum("r,rv->v", mixture[1], self.counts[:, cold])
            scores[cold] = popularity.exponent[1] * np.log(mixed + popularity.floor[1] / len(scores))
        scores.setflags(write=False)
        return scores

    def _per_total(self) -> np.ndarray:
        """(R, 1) all counts together, as they are divided by."""
        return np.maximum(self._totals, 1e-300)[:, None]

    def _settle(self) -> None:
        for item in self._latest:
            self._count(item, self._last)
        self._latest = []

    def _count(self, item: int, at: int) -> None:
        self._scores = None
        if not self._totals.any():
            self._base = at
        inflated = self.rates * (at - self._base)
        if inflated.max(initial=0.0) > _MOST:
            back = np.exp2(-inflated)
            self.counts *= back[:, None]
            self._totals *= back
            self.counts[self.counts < 1e-250] = 0.0  # arithmetic on denormal numbers is very slow
            self._base, inflated = at, np.zeros_like(inflated)
        # Shares outlast a pause of any length: where all has faded away, the last events are all there is.
        added = np.exp2(inflated)
        self.counts[:, item] += added
        self._totals += added
