"""The collaborative strategy over a log: who is near at a moment, and what those do then."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxdecay.baselines.counts import visible
from jaxdecay.data.catalogue import DAY, counted_live
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.heads.neighbours import Kernel, counts, half_life_kernel, interests, nearest
from jaxdecay.interest import bounded
from jaxdecay.predict import Predictor

NEIGHBOURS = 100


class Others(NamedTuple):
    """What may be known of other users: their catalogue events (`jaxdecay.data.catalogue`), by user, then
    time."""

    starts: np.ndarray
    """(U+1,) the stretch of each user."""
    item: np.ndarray
    """(E',) int32."""
    time: np.ndarray
    """(E',) int64 seconds; with a relative clock up to the user's last, which is then at 0."""
    relative: bool

    @classmethod
    def of(cls, histories: Histories) -> "Others":
        counted = histories.chosen
        if not counted_live(histories):
            counted &= histories.part == 0
        rows = np.flatnonzero(counted)
        starts = np.searchsorted(rows, histories.offsets)
        time, relative = np.asarray(histories.time)[rows], histories.clock == "relative"
        if relative:  # there is no common time: everybody is as when last seen
            lengths = np.diff(starts)
            last = np.zeros(len(lengths), np.int64)
            last[lengths > 0] = time[starts[1:][lengths > 0] - 1]
            time = time - np.repeat(last, lengths)
        return cls(starts, np.asarray(histories.item)[rows], time, relative)

    def left(self, kernel: Kernel, at: int) -> np.ndarray:
        """(E',) float32 what is left of each event at a moment; 0 of those that are not strictly before."""
        age = (at - self.time) / DAY
        if self.relative:
            return kernel.left(age)
        return np.where(age > 0, kernel.left(np.maximum(age, 0)), np.float32(0))


def kernel_of(predictor: Predictor) -> Kernel:
    """The kernel of an average event in the run's similarity head, as the average user reads it; one that
    never fades where the head has no bank."""
    decay = predictor.params["similarity"].get("decay")
    if decay is None:
        return Kernel(np.zeros(1), np.ones(1))
    half_lives = np.asarray(bounded(decay["log_half_life"])) if "log_half_life" in decay else np.zeros(0)
    write = np.exp(np.asarray(decay["write"], np.float64))
    return Kernel(np.append(0.0, np.log(2) / half_lives), write / write.sum())


class Collaborative:
    """Neighbours of whoever asks, and their counts."""

    def __init__(self, predictor: Predictor) -> None:
        self.histories, self.vectors = predictor.histories, predictor.unit_vectors()
        self.kernel, self.others = kernel_of(predictor), Others.of(predictor.histories)

    def near(self, requests: Requests) -> Iterator[tuple[np.ndarray, int, sparse.csr_array]]:
        """For each moment that is asked about: the requests (r,), the moment, and who is near (r, U)."""
        own, others = self._own(requests), self.others
        moments = np.zeros(len(requests), np.int64) if others.relative else requests.at
        for at in np.unique(moments).tolist():
            rows = np.flatnonzero(moments == at)
            table = interests(others.starts, others.item, others.left(self.kernel, at), self.vectors)
            yield rows, at, nearest(own[rows], table, requests.user[rows], NEIGHBOURS)

    def counts(self, at: int, near: sparse.csr_array, half_life: float) -> np.ndarray:
        """(r, V) float32 what those who are near do at a moment, by counts of a half-life in days."""
        left = self.others.left(half_life_kernel(half_life), at)
        return counts(near, self.others.starts, self.others.item, left, self.histories.items)

    def scores(self, requests: Requests, half_life: float) -> np.ndarray:
        """(R, V) float32 counts for every request."""
        result = np.empty((len(requests), self.histories.items), np.float32)
        for rows, at, near in self.near(requests):
            result[rows] = self.counts(at, near, half_life)
        return result

    def _own(self, requests: Requests) -> np.ndarray:
        """(R, D) unit interest of who asks, of what the request sees."""
        own = visible(self.histories, requests)
        row = own.row[own.pair]
        age = (requests.at[row] - np.asarray(self.histories.time)[own.event]) / DAY
        starts = np.searchsorted(row, np.arange(len(requests) + 1))
        item = np.asarray(self.histories.item)[own.event]
        return interests(starts, item, self.kernel.left(age), self.vectors)
