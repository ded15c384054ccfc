"""The tally of a log's catalogue events: each item's faded count after each of its events."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from jaxdecay.data.catalogue import DAY, Timeline
from jaxdecay.tally import Tally

_NOTHING = 2.0**-40  # of one event, times all there are: no float32 count sees it


def build_tally(
    events: Timeline, half_lives: Sequence[float], *, items: int, origin: int, until: int
) -> Tally:
    """The tally of the events strictly before ``until``, of the first ``items`` items, at half-lives in days;
    times are seconds since ``origin``. A share is still one of all items' counts.

    With a relative clock nothing fades and every event comes before every moment. For N
    events at R half-lives 8 N (R + 1) bytes, on every device, and O(R N log N) time.
    """
    rates = 1 / (np.asarray(half_lives, np.float64) * DAY)
    kept = slice(None) if events.relative else slice(int(np.searchsorted(events.time, until)))
    item, time = events.item[kept], events.time[kept] - origin
    if events.relative:
        rates, time = np.zeros_like(rates), np.full_like(time, np.iinfo(np.int32).min)
    order = np.argsort(item, kind="stable")
    first = np.searchsorted(item[order], np.arange(items + 1))
    order = order[: first[-1]]
    begins = first[item[order]]
    most = int(np.diff(first).max(initial=0))
    if not len(order):  # of nothing there is one place to look at
        order, begins, time = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64)
    return Tally(
        time=jnp.asarray(time[order], jnp.int32),
        counts=jnp.asarray(_faded(time[order], begins, rates)),
        first=jnp.asarray(first, jnp.int32),
        moments=jnp.asarray(time, jnp.int32),
        totals=jnp.asarray(_faded(time, np.zeros(len(time), np.int64), rates)),
        rates=jnp.asarray(rates, jnp.float32),
        search_steps=most.bit_length(),
    )


def _faded(time: np.ndarray, begins: np.ndarray, rates: np.ndarray) -> np.ndarray:
    """(R, N) float32 faded count after each event, of those of its own stretch of places, which begins at
    ``begins``.

    By doubling: the sum over the last 2d events is that over the last d and that over the d before, faded.
    In float64, until what is added is nothing.
    """
    found = np.empty((len(rates), len(time)), np.float32)
    own = np.arange(len(time)) - begins  # how many of its stretch came before
    for row, rate in enumerate(rates):
        counts, reach = np.ones(len(time)) if rate else own + 1.0, 1
        while rate and reach <= own.max(initial=0):
            passed = np.maximum(time[reach:] - time[:-reach], 0)  # below 0 from one stretch to the next
            weights = np.where(own[reach:] >= reach, np.exp2(-rate * passed), 0.0)
            if weights.max() * len(time) < _NOTHING:
                break
            counts[reach:] += weights * counts[:-reach]
            reach *= 2
        found[row] = counts
    return found
