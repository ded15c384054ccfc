"""Popularity: what everybody takes, ever, of late in a window, or faded with a half-life.

NumPy only. Counts are of catalogue events strictly before the request time (all of the log under a
global-time split, only training events otherwise). With a relative clock there is no common time, and
counts are those of the training part.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxdecay.baselines.choose import HALF_LIVES, WINDOWS, Judge
from jaxdecay.data.catalogue import DAY, Timeline, decayed_counts_at, timeline
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests

_SNAPSHOTS = 64


@dataclass(frozen=True, eq=False)
class Popularity:
    """Counts of items at the request time, in a window or faded (not both)."""

    name: str
    events: Timeline
    half_life: float
    """Days; inf counts all events alike."""
    window: float
    """Days; inf counts since the beginning."""
    grid: np.ndarray
    """(G,) int64 ascending times at which counts are kept, so that a chunk need not count from the
    beginning.
    """
    kept: np.ndarray
    """(G, V) float32 counts strictly before each of them."""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def uses_time(self) -> bool:
        return not self.events.relative

    def scores(self, requests: Requests) -> np.ndarray:
        """(R, V) float32 counts."""
        return self.counts(requests.at)

    def counts(self, at: np.ndarray) -> np.ndarray:
        """(R, V) float32 counts strictly before each time; the closer together the times, the faster."""
        if self.events.relative or not len(at):
            return decayed_counts_at(self.events, np.inf, at)
        counts = self._since_ever(at)
        if np.isfinite(self.window):
            counts -= self._since_ever(at - round(self.window * DAY))
        return counts

    def _since_ever(self, at: np.ndarray) -> np.ndarray:
        base = max(int(np.searchsorted(self.grid, at.min(), side="right")) - 1, 0)
        since = self.grid[base]
        begin = int(np.searchsorted(self.events.time, since, side="left"))
        later = self.events._replace(item=self.events.item[begin:], time=self.events.time[begin:])
        counts = decayed_counts_at(later, self.half_life, at)
        if np.isfinite(self.half_life):
            faded = np.exp2(-np.maximum(at - since, 0) / (self.half_life * DAY)).astype(np.float32)
            counts += faded[:, None] * self.kept[base]
        else:
            counts += self.kept[base]
        return counts


def popularity(
    events: Histories | Timeline,
    *,
    half_life: float = np.inf,
    window: float = np.inf,
    name: str = "popularity",
) -> Popularity:
    """Popularity with a given half-life or window (days)."""
    events = events if isinstance(events, Timeline) else timeline(events)
    count = len(events.time)
    places = np.linspace(0, count - 1, min(_SNAPSHOTS, count)).astype(np.int64) if count else []
    grid = np.unique(events.time[places]) if count else np.zeros(1, np.int64)
    settings = {"half_life_days": half_life, "window_days": window}
    kept = decayed_counts_at(events, half_life, grid)
    return Popularity(name, events, half_life, window, grid, kept, settings)


def fit_windowed(judge: Judge, events: Timeline) -> Popularity:
    """Popularity in the window that validation chooses."""
    system, _, found = judge.choose(
        lambda window: popularity(events, window=window, name="windowed popularity"), WINDOWS
    )
    system.settings["validation_ndcg@10"] = found
    return system


def fit_decayed(judge: Judge, events: Timeline) -> Popularity:
    """Popularity faded with the half-life that validation chooses."""
    system, _, found = judge.choose(
        lambda half_life: popularity(events, half_life=half_life, name="decayed popularity"), HALF_LIVES
    )
    system.settings["validation_ndcg@10"] = found
    return system
