"""Streams of events that point somewhere: of users, of cohorts, of the catalogue; and where one has pointed
lately and before."""

from typing import NamedTuple

import numpy as np

_DAY = 86_400.0


class Streams(NamedTuple):
    """S streams of events, in order of time within each, and what each event points at."""

    offsets: np.ndarray
    """(S+1,) int64: events of stream s are ``offsets[s] : offsets[s + 1]``."""
    time: np.ndarray
    """(E,) int64 seconds."""
    item: np.ndarray
    """(E,) rows of ``vectors``."""
    vectors: np.ndarray
    """(V, D); 0 for an item of which nothing is known, whose events are passed over."""

    @property
    def stream(self) -> np.ndarray:
        """(E,) which stream each event is of."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def take(self, chosen: np.ndarray) -> "Streams":
        """Some of the streams, by index, in this order."""
        length = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(length)])
        rows = np.repeat(self.offsets[:-1][chosen] - offsets[:-1], length) + np.arange(offsets[-1])
        return Streams(offsets, np.asarray(self.time)[rows], np.asarray(self.item)[rows], self.vectors)

    def where(self, there: np.ndarray) -> "Streams":
        """The same streams with some of their events, of a mask (E,)."""
        rows = np.flatnonzero(there)
        offsets = np.searchsorted(rows, self.offsets)
        return Streams(offsets, np.asarray(self.time)[rows], np.asarray(self.item)[rows], self.vectors)


def means(streams: Streams, event: int, half_lives: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """(D,) each: what a stream pointed at lately and before, as of an event of it."""
    rows, (fast, slow) = weights(streams, event, half_lives)
    pointed = np.asarray(streams.vectors)[np.asarray(streams.item)[rows]]
    there = pointed.any(axis=1)
    return tuple((one * there) @ pointed / max((one * there).sum(), 1e-30) for one in (fast, slow))  # type: ignore[return-value]


def weights(
    streams: Streams, event: int, half_lives: tuple[float, float]
) -> tuple[slice, tuple[np.ndarray, np.ndarray]]:
    """The rows of a stream up to an event of it, and what is left of each, fast and slow."""
    stream = int(np.searchsorted(streams.offsets, event, side="right")) - 1
    rows = slice(int(streams.offsets[stream]), event + 1)
    age = (streams.time[event] - np.asarray(streams.time)[rows]) / _DAY
    return rows, (np.exp2(-age / half_lives[0]), np.exp2(-age / half_lives[1]))
