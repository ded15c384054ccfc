"""The catalogue in time: how often each item was taken, faded to a moment, and since when it has been there.

NumPy only. A count of half-life h (days) at time t is the sum, over an item's catalogue events strictly
before t, of 2^(-(t - t_event) / h); an infinite half-life counts all of them alike. Catalogue events are
those that were a choice for their item (`Histories.chosen`) and may be counted live: all of them under a
global-time split (the future is excluded by "strictly before"), only the training part under leave-one-out
and per-user-time, so that no held-out event is counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError

DAY = 86_400.0
NEVER = np.iinfo(np.int64).max
_FLUSH = 1e-250
_MAX_GRID = 4096


class Timeline(NamedTuple):
    """The catalogue events of a log in time order."""

    item: np.ndarray
    """(N,) int32."""
    time: np.ndarray
    """(N,) int64 seconds, ascending."""
    items: int
    """V."""
    relative: bool
    """Whether times count from each user's first event: then nothing fades and counts are totals."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Shares of the decayed counts at any moment, and the time grid at whose points training reads them.

    A share is an item's part of all items' counts. Without an event in between it does not change, for all
    counts of one half-life fade alike.
    """

    grid: np.ndarray
    """(G,) int64 seconds, ascending."""
    points: np.ndarray
    """(K,) those of the grid whose shares are kept; the first is among them."""
    shares: np.ndarray
    """(R, K, V) float32: of the events strictly before the point, faded by each of R half-lives; 0 where
    there are none."""
    totals: np.ndarray
    """(R, K) float64 counts of all items together, faded to the last event before each point."""
    rates: np.ndarray
    """(R,) halvings per second."""
    events: Timeline
    """What is counted: `at` moves on by it from a point."""

    def index(self, at: np.ndarray) -> np.ndarray:
        """(n,) int32 last grid point at or before each time (the first one, whose shares are 0, for earlier
        times)."""
        return last_point(self.grid, at)

    def at(self, moments: np.ndarray) -> np.ndarray:
        """(R, M, V) float32 exact shares of the events strictly before each of M moments, in any order: those
        of the point before, moved on by the events since.

        With a relative clock they are the shares of the totals of the training part at every moment.
        """
        point = last_point(self.points, moments)
        found = np.take(self.shares, point, axis=1)
        if self.events.relative or not len(moments):
            return found
        order = np.argsort(moments, kind="stable")
        for together in np.split(order, np.flatnonzero(np.diff(point[order])) + 1):
            here, later = point[together[0]], moments[together]
            begin = int(np.searchsorted(self.events.time, self.points[here], side="left"))
            for row, rate in enumerate(self.rates):
                start = self.shares[row, here].astype(np.float64), float(self.totals[row, here]), begin
                for place, (share, _) in zip(
                    together, _faded_shares(self.events, rate, later, *start), strict=True
                ):
                    found[row, place] = share
        return found


def counted_live(histories: Histories) -> bool:
    """Whether held-out events are counted as they come, and items are candidates once they have come: under a
    split by one moment in time."""
    return histories.config["split"].get("kind", "global-time") == "global-time"


def timeline(histories: Histories, *, chosen: bool = True) -> Timeline:
    """The catalogue events of ``histories`` in time order (ties in row order); ``chosen`` leaves out those
    that were no choice for their item."""
    item, time = np.asarray(histories.item), np.asarray(histories.time)
    counted = histories.chosen if chosen else np.ones(len(item), bool)
    if not counted_live(histories):
        counted &= histories.part == 0
    item, time = item[counted], time[counted]
    order = np.argsort(time, kind="stable")
    return Timeline(item[order], time[order], histories.items, histories.clock == "relative")


def build_catalogue(
    histories: Histories, half_lives: Sequence[float], *, budget_mib: float = 256, between: int = 4096
) -> Catalogue:
    """Shares at several half-lives, and a grid of event-time quantiles, so fine that all its shares together
    would fill ``budget_mib``. They are kept at points with about ``between`` events from one to the next.

    The first grid point is the first event (nothing is counted yet), the last one second after the last
    event. With a relative clock there is one grid point, with the totals of the training part at every
    half-life.

    Guarantee: shares are exact at every moment (float64 until the end), however coarse the grid.
    """
    rates = _rates(half_lives)
    events = timeline(histories)
    if events.relative or not len(events.time):
        counts = np.bincount(events.item, minlength=events.items)
        totals = np.full((len(rates), 1), float(counts.sum()))
        shares = np.tile((counts / max(counts.sum(), 1)).astype(np.float32), (len(rates), 1, 1))
        return Catalogue(np.zeros(1, np.int64), np.zeros(1, np.int64), shares, totals, rates, events)
    affordable = budget_mib * 2**20 / (4 * max(events.items, 1) * len(rates))
    grid = _grid(events.time, int(np.clip(affordable, 2, _MAX_GRID)))
    before = np.searchsorted(events.time, grid, side="left")
    points = grid[np.diff(before // between, prepend=-1) > 0]
    shares = np.empty((len(rates), len(points), events.items), np.float32)
    totals = np.empty((len(rates), len(points)))
    for row, rate in enumerate(rates):
        for point, (share, total) in enumerate(
            _faded_shares(events, rate, points, np.zeros(events.items), 0.0, 0)
        ):
            shares[row, point], totals[row, point] = share, total
    return Catalogue(grid, points, shares, totals, rates, events)


def decayed_counts_at(events: Histories | Timeline, half_life: float, at: np.ndarray) -> np.ndarray:
    """(R, V) float32: exact decayed counts of every item strictly before each of the R times, in any order.

    One call costs a pass over the events plus O(R·V); give requests in chunks to bound memory, and a
    ``timeline`` instead of histories to sort the events once. Several half-lives: one call each. With a
    relative clock every row holds the total counts of the training part.
    """
    events = events if isinstance(events, Timeline) else timeline(events)
    (rate,) = _rates([half_life])
    counts = np.empty((len(at), events.items), np.float32)
    if events.relative:
        counts[:] = np.bincount(events.item, minlength=events.items)
        return counts
    moments, row = np.unique(at, return_inverse=True)
    order = np.argsort(row, kind="stable")
    first = np.searchsorted(row[order], np.arange(len(moments) + 1))
    for moment, faded in enumerate(_faded_counts(events, rate, moments)):
        counts[order[first[moment] : first[moment + 1]]] = faded
    return counts


def first_seen(histories: Histories) -> np.ndarray:
    """(V,) int64 time of the first catalogue event of each item, chosen or not; the largest int64 if it has
    none."""
    events = timeline(histories, chosen=False)
    seen = np.full(events.items, NEVER)
    items, first = np.unique(events.item, return_index=True)
    seen[items] = events.time[first]
    return seen


def known_before(first_seen: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(R, V) bool: which items had been seen strictly before each of the R times."""
    return first_seen[None, :] < np.asarray(at)[:, None]


def _rates(half_lives: Sequence[float]) -> np.ndarray:
    """(R,) halvings per second."""
    days = np.asarray(half_lives, np.float64)
    if days.ndim != 1 or not len(days) or not (days > 0).all():
        raise InputError(
            f"half_lives {np.asarray(half_lives).tolist()}: give one or more days above 0 (inf never fades)"
        )
    return 1 / (days * DAY)


def last_point(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(n,) int32 last of the ascending points at or before each time, or else the first."""
    return np.maximum(np.searchsorted(points, at, side="right") - 1, 0).astype(np.int32)


def _grid(time: np.ndarray, size: int) -> np.ndarray:
    """Every distinct event time or, if those are too many, quantiles; and one second after the last."""
    distinct = np.unique(time)
    if len(distinct) >= size:
        distinct = np.unique(time[np.linspace(0, len(time) - 1, size - 1).astype(np.int64)])
    return np.append(distinct, time[-1] + 1)


def _faded_shares(
    events: Timeline, rate: float, moments: np.ndarray, share: np.ndarray, total: float, begin: int
) -> Iterator[tuple[np.ndarray, float]]:
    """Yields the (V,) float64 shares of the counts strictly before each of the ascending ``moments`` and the
    counts' total, faded to the last event before it; goes on from those of the first ``begin`` events, in
    place.

    A total is never below 1, the last event's own part of it: shares outlast a pause of any length.
    """
    ends = np.searchsorted(events.time, moments, side="left")
    for step, end in enumerate(ends.tolist()):
        if end > begin:
            last = events.time[end - 1]
            weights = np.exp2(-rate * (last - events.time[begin:end]))
            before = total * np.exp2(-rate * (last - events.time[begin - 1])) if begin else 0.0
            total = before + float(weights.sum())
            share *= before / total
            share += np.bincount(events.item[begin:end], weights / total, events.items)
            begin = end
        if step % 64 == 0:
            share[share < _FLUSH] = 0.0  # arithmetic on denormal numbers is very slow
        yield share, total


def _faded_counts(events: Timeline, rate: float, moments: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the (V,) float64 counts strictly before each of the ascending ``moments``; the array is reused.

    What has been counted fades from moment to moment, and each event in between enters with its own age.
    """
    ends = np.searchsorted(events.time, moments, side="left")
    counts = np.zeros(events.items)
    begin, before = 0, None
    for step, (end, moment) in enumerate(zip(ends.tolist(), moments.tolist(), strict=True)):
        if before is not None and rate:
            counts *= np.exp2(-rate * (moment - before))
        if end > begin:
            ages = moment - events.time[begin:end]
            counts += np.bincount(events.item[begin:end], np.exp2(-rate * ages), events.items)
        if step % 64 == 0:
            counts[counts < _FLUSH] = (
                0.0  # below the range of float32; arithmetic on denormal numbers is very slow
            )
        begin, before = end, moment
        yield counts
