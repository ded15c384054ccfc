"""The collaborative strategy over a log: who is near at a moment, and what those do then."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from jaxdecay.baselines.counts import visible
from jaxdecay.data.catalogue import DAY, counted_live
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.heads.neighbours import (
    Kernel,
    counts,
    half_life_kernel,
    interests,
    interests_in_time,
    nearest,
)
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

    def take(self, users: np.ndarray) -> "Others":
        """Some of them."""
        lengths = np.diff(self.starts)[users]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        event = np.arange(starts[-1]) + np.repeat(self.starts[users] - starts[:-1], lengths)
        return Others(starts, self.item[event], self.time[event], self.relative)

    def interests(self, kernel: Kernel, vectors: np.ndarray, moments: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the unit interests (U, D) at each of the moments (m,), ascending."""
        if len(moments) > 1:
            yield from interests_in_time(self.starts, self.item, self.time, kernel, vectors, moments)
            return
        for at in moments.tolist():
            yield interests(self.starts, self.item, self.left(kernel, at), vectors)

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

    def near(self, requests: Requests) -> sparse.csr_array:
        """(R, U) who is near to each, and how near."""
        own, (moments, stretches) = self._own(requests), self._moments(requests)
        tables = self.others.interests(self.kernel, self.vectors, moments)
        found = [sparse.csr_array((0, self.histories.users), dtype=np.float32)]
        for rows, table in zip(stretches, tables, strict=True):
            found.append(nearest(own[rows], table, requests.user[rows], NEIGHBOURS))
        near = sparse.csr_array(sparse.vstack(found))
        near.eliminate_zeros()
        return sparse.csr_array(near[np.argsort(np.concatenate([*stretches, np.zeros(0, np.int64)]))])

    def counts(self, requests: Requests, near: sparse.csr_array, half_life: float) -> np.ndarray:
        """(R, V) float32 what those who are ``near`` (R, U) do at the time of each request, by counts of a
        half-life in days."""
        result = np.empty((len(requests), self.histories.items), np.float32)
        kernel = half_life_kernel(half_life)
        for at, rows in zip(*self._moments(requests), strict=True):
            here = sparse.csr_array(near[rows])
            # The events of those alone who are near to somebody now.
            users, column = np.unique(here.indices, return_inverse=True)
            here = sparse.csr_array((here.data, column, here.indptr), shape=(len(rows), len(users)))
            others = self.others.take(users)
            left = others.left(kernel, int(at))
            result[rows] = counts(here, others.starts, others.item, left, self.histories.items)
        return result

    def scores(self, requests: Requests, half_life: float) -> np.ndarray:
        """(R, V) float32 counts for every request."""
        return self.counts(requests, self.near(requests), half_life)

    def _moments(self, requests: Requests) -> tuple[np.ndarray, list[np.ndarray]]:
        """The different moments (m,) that are asked about, ascending, and the requests of each."""
        asked = np.zeros(len(requests), np.int64) if self.others.relative else requests.at
        moments, place = np.unique(asked, return_inverse=True)
        order = np.argsort(place, kind="stable")
        return moments, np.split(order, np.searchsorted(place[order], np.arange(len(moments))))[1:]

    def _own(self, requests: Requests) -> np.ndarray:
        """(R, D) unit interest of who asks, of what the request sees."""
        own = visible(self.histories, requests)
        row = own.row[own.pair]
        age = (requests.at[row] - np.asarray(self.histories.time)[own.event]) / DAY
        starts = np.searchsorted(row, np.arange(len(requests) + 1))
        item = np.asarray(self.histories.item)[own.event]
        return interests(starts, item, self.kernel.left(age), self.vectors)
