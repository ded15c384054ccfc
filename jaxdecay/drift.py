"""When interests moved: detections over a log, with what rose and what fell.

The statistic is the fast-slow divergence (`jaxdecay.divergence`) of the vectors of a user's items, as a run
has learned them. Its threshold is chosen by the share of users without drift who would ever be alarmed: of
the same users with their events shuffled among their own times, which keeps who they are, how much they do
and when, and leaves no order that could drift.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxdecay import divergence
from jaxdecay.data.histories import Histories
from jaxdecay.divergence import Paces
from jaxdecay.durations import days
from jaxdecay.errors import InputError
from jaxdecay.kernels import LN2

_DAY = 86_400.0
_PLACES = 1 << 17  # padded events in one call
_FAST, _SLOW = 4.0, 40.0  # events of a typical user in one half-life, where no half-lives are given
_EVIDENCE = 20.0  # events of a user's own that count as much as what vectors vary by in general
_BACK = 1.0  # of the statistic: what it is without drift, at which an alarm ends
_MOVED = 0.1  # share of a category that rises or falls


@dataclass(frozen=True)
class DriftOptions:
    """How drift is looked for."""

    fast: str | None = None
    """Half-life of what counts as lately, such as 4d; by default the time in which a typical user has 4
    events."""
    slow: str | None = None
    """Half-life of what lately is compared with; by default that of 40 events."""
    false_alarms: float = 0.05
    """Share of users without drift who would ever be alarmed, over all their events."""
    column: str | None = None
    """Item column by which interests are named; by default the first of few values, else items themselves."""
    seed: int = 0
    """Of the shuffle that the threshold is chosen by."""

    def __post_init__(self) -> None:
        if not 0 < self.false_alarms < 1:
            raise InputError(f"false_alarms={self.false_alarms}: give a share between 0 and 1")


@dataclass(frozen=True)
class Drift:
    """What was found."""

    detections: pl.DataFrame
    """A row for each: user (index), event (row of the histories), timestamp (seconds), statistic."""
    statistic: np.ndarray
    """(E,) float32 after each event of the histories; about 1 without drift."""
    threshold: float
    paces: tuple[float, float]
    """Half-lives, fast and slow, in days."""
    users: int
    """With enough events to be watched."""


def detect(histories: Histories, vectors: np.ndarray, options: DriftOptions = DriftOptions()) -> Drift:
    """Watches every user of the histories. ``vectors`` (V, D): of items, 0 for one of which nothing is known,
    whose events are passed over."""
    half_lives = _half_lives(histories, options)
    paces = _paces(half_lives, histories, vectors)
    found = statistics(histories, vectors, paces)
    random = np.random.default_rng(options.seed)
    order = np.lexsort((random.random(histories.events), histories.user()))
    chance = statistics(histories.replace(item=np.asarray(histories.item)[order]), vectors, paces)
    most = _most(histories, chance)
    watched = np.isfinite(most)
    if not watched.any():
        raise InputError("no user has two events: there is nothing that could drift")
    threshold = float(np.quantile(most[watched], 1 - options.false_alarms))
    rows = _alarms(histories, found, threshold)
    detections = pl.DataFrame(
        {
            "user": histories.user()[rows],
            "event": rows,
            "timestamp": np.asarray(histories.time)[rows],
            "statistic": found[rows],
        }
    )
    return Drift(detections, found, threshold, half_lives, int(watched.sum()))


def paces_of(histories: Histories, vectors: np.ndarray, options: DriftOptions = DriftOptions()) -> Paces:
    """What is fast and what slow in these histories, and what their vectors vary by."""
    return _paces(_half_lives(histories, options), histories, vectors)


def _paces(half_lives: tuple[float, float], histories: Histories, vectors: np.ndarray) -> Paces:
    return Paces(
        LN2 / jnp.array(half_lives, jnp.float32),
        jnp.float32(_variance(histories, vectors)),
        jnp.float32(_EVIDENCE),
    )


def statistics(histories: Histories, vectors: np.ndarray, paces: Paces) -> np.ndarray:
    """(E,) float32: the divergence after each event, in the order of the histories."""
    result = np.zeros(histories.events, np.float32)
    length = np.diff(histories.offsets)
    places = np.maximum(16, 4 ** np.ceil(np.log(np.maximum(length, 1)) / np.log(4) - 1e-9)).astype(np.int64)
    table, item, time = (
        jnp.asarray(vectors, jnp.float32),
        np.asarray(histories.item),
        np.asarray(histories.time),
    )
    known = np.asarray(vectors).any(axis=1)
    for size in np.unique(places[length > 0]):
        members = np.flatnonzero((places == size) & (length > 0))
        rows = int(max(1, min(_PLACES // size, 1 << int(np.ceil(np.log2(len(members)))))))
        for start in range(0, len(members), rows):
            some = members[start : start + rows]
            index = histories.offsets[some][:, None] + np.arange(size)
            mask = index < histories.offsets[some + 1][:, None]
            index = np.where(mask, index, 0)
            when = np.where(mask, time[index], 0)
            gap = np.diff(when, axis=1, prepend=when[:, :1]) / _DAY
            fill = ((0, rows - len(some)), (0, 0))
            given = (np.where(mask, gap, 0).astype(np.float32), item[index], mask & known[item[index]])
            z = np.asarray(_watch(paces, table, *(np.pad(x, fill) for x in given)))[: len(some)]
            result[index[mask]] = z[mask]
    return result


@jax.jit
def _watch(paces: Paces, table: jax.Array, gap: jax.Array, item: jax.Array, mask: jax.Array) -> jax.Array:
    return jax.vmap(lambda g, i, m: divergence.after_each(paces, g, table[i], m))(gap, item, mask)


def _half_lives(histories: Histories, options: DriftOptions) -> tuple[float, float]:
    length = np.diff(histories.offsets)
    there = length > 1
    time = np.asarray(histories.time)
    spans = (time[histories.offsets[1:][there] - 1] - time[histories.offsets[:-1][there]]) / _DAY
    gaps = spans[spans > 0] / (length[there][spans > 0] - 1)
    if not len(gaps):
        raise InputError("no user has two events at different times: there is nothing that could drift")
    typical = float(np.median(gaps))
    fast = days(options.fast) if options.fast else _FAST * typical
    slow = days(options.slow) if options.slow else _SLOW * typical
    if fast >= slow:
        raise InputError(f"fast={fast:g}d is no shorter than slow={slow:g}d; give a shorter fast half-life")
    return fast, slow


def _variance(histories: Histories, vectors: np.ndarray) -> float:
    """Of an item's vector about the mean of its user's, all dimensions together, pooled over users."""
    item, user = np.asarray(histories.item), histories.user()
    known = vectors.any(axis=1)[item]
    item, user = item[known], user[known]
    count = np.bincount(user, minlength=histories.users)
    means = np.zeros((histories.users, vectors.shape[1]))
    np.add.at(means, user, vectors[item])
    means /= np.maximum(count, 1)[:, None]
    left = float(np.square(vectors[item] - means[user]).sum())
    return left / max(1, len(item) - int((count > 0).sum()))


def _most(histories: Histories, found: np.ndarray) -> np.ndarray:
    """(U,) the largest statistic of each user; -inf of one without two events."""
    most = np.full(histories.users, -np.inf)
    np.maximum.at(most, histories.user(), found)
    most[np.diff(histories.offsets) < 2] = -np.inf
    return most


def _alarms(histories: Histories, found: np.ndarray, threshold: float) -> np.ndarray:
    """Rows at which an alarm begins: the statistic exceeds the threshold, and has been back to what it is
    without drift since the alarm before."""
    rows, user = [], histories.user()
    at, alarmed = -1, False
    for row in np.flatnonzero((found > threshold) | (found < _BACK)):
        if user[row] != at:
            at, alarmed = user[row], False
        if found[row] > threshold and not alarmed:
            rows.append(row)
        alarmed = found[row] > threshold
    return np.array(rows, np.int64)


def shares(
    histories: Histories, event: int, kind: np.ndarray, kinds: int, paces: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K,) each: what part of a user's events up to one is of each kind, lately, before, and in all counted
    alike. ``kind`` (V,) of items, -1 for none."""
    begin = int(histories.offsets[histories.user()[event]])
    rows = slice(begin, event + 1)
    time, of = np.asarray(histories.time)[rows], kind[np.asarray(histories.item)[rows]]
    age, there = (time[-1] - time) / _DAY, of >= 0
    weights = (np.exp2(-age / paces[0]), np.exp2(-age / paces[1]), np.ones(len(age)))
    counted = (np.bincount(of[there], weights=weight[there], minlength=kinds) for weight in weights)
    fast, slow, all_alike = (one / max(one.sum(), 1e-12) for one in counted)
    return fast, slow, all_alike


def named(drift: Drift, histories: Histories, kind: np.ndarray, names: list[Any]) -> pl.DataFrame:
    """The detections with what rose and what fell: lists of names, the largest first, and what it is called.

    - emerging: something rises that was not there before;
    - returning: something rises that was there once, but not within the slow half-life before it rose;
    - vanishing: something falls, and nothing in particular rises;
    - shifting: what rises and what falls were both there all the time.
    """
    rows = []
    for event in drift.detections["event"]:
        fast, slow, _ = shares(histories, event, kind, len(names), drift.paces)
        rise = np.argsort(slow - fast, kind="stable")[: (fast - slow >= _MOVED).sum()]
        fall = np.argsort(fast - slow, kind="stable")[: (slow - fast >= _MOVED).sum()]
        rows.append(
            {
                "change": _change(histories, event, kind, rise, drift.paces) if len(rise) else "vanishing",
                "rising": [names[one] for one in rise],
                "falling": [names[one] for one in fall],
                "moved": float(np.maximum(fast - slow, 0).sum()),
            }
        )
    schema = {
        "change": pl.String,
        "rising": pl.List(pl.String),
        "falling": pl.List(pl.String),
        "moved": pl.Float64,
    }
    return drift.detections.hstack(pl.DataFrame(rows, schema=schema))


def _change(
    histories: Histories, event: int, kind: np.ndarray, rise: np.ndarray, paces: tuple[float, float]
) -> str:
    """What the largest rise is called."""
    begin = int(histories.offsets[histories.user()[event]])
    time = np.asarray(histories.time)[begin : event + 1]
    own = kind[np.asarray(histories.item)[begin : event + 1]] == rise[0]
    age = (time[-1] - time) / _DAY
    lately = age < 3 * paces[0]  # an eighth of what was then is left in the fast mean
    before = age[own & ~lately]
    if not len(before):
        return "emerging"
    first = age[own & lately].max(initial=0.0)
    return "returning" if before.min() - first > paces[1] else "shifting"
