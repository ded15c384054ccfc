"""When interests moved: detections over a log, of users, of cohorts, or of the catalogue.

The statistic is the fast-slow divergence (`jaxdecay.divergence`) of what a stream of events points at; older
ways stand beside it (`jaxdecay.alarms`). Its threshold is chosen by the share of streams without drift that
would ever be alarmed: of the same streams with their events shuffled among their own times, eight in a row
together, which keeps what they hold, how much and when, and that people repeat themselves for a while, and
leaves no order that could drift.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxdecay import alarms, divergence
from jaxdecay.divergence import Paces
from jaxdecay.durations import days
from jaxdecay.errors import InputError
from jaxdecay.expect import whole
from jaxdecay.kernels import LN2
from jaxdecay.streams import Streams, means, weights

_DAY = 86_400.0
_PLACES = 1 << 17  # padded events in one call
_FAST, _SLOW = 4.0, 40.0  # events of a typical stream in one half-life, where no half-lives are given
_EVIDENCE = 20.0  # events of a stream's own that count as much as what vectors vary by in general
_TOGETHER = 8  # events in a row that are shuffled as one: two fast half-lives
_CLEARLY = 0.01  # of streams that did not move would be taken for ones that did
_ENOUGH, _MOST = 500, 5_000  # shuffled streams that a quantile is read from

Method = Literal["divergence", "cosine", "page-hinkley", "cusum", "adwin"]


@dataclass(frozen=True)
class DriftOptions:
    """How drift is looked for."""

    fast: str | None = None
    """Half-life of what counts as lately, such as 4d; by default the time in which a typical user has 4
    events (of cohorts and the catalogue: days with events)."""
    slow: str | None = None
    """Half-life of what lately is compared with; by default that of 40 events."""
    false_alarms: float = 0.05
    """Share of users without drift who would ever be alarmed, over all their events. ADWIN takes it for its
    own bound on a false alarm at any event."""
    method: Method = "divergence"
    """The standardised fast-slow divergence; the plain cosine of both; or Page-Hinkley, CUSUM or ADWIN (extra
    ``drift``) on how far each event points away from what came before."""
    seed: int = 0
    """Of the shuffle that the threshold is chosen by."""

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InputError(f"method={self.method!r}: give one of {', '.join(get_args(Method))}")
        if not (isinstance(self.false_alarms, Real) and 0 < self.false_alarms < 1):
            raise InputError(
                f"false_alarms={self.false_alarms!r}: give a share between 0 and 1, such as 0.05"
            )
        for name in ("fast", "slow"):
            if (value := getattr(self, name)) is not None:
                days(value, name)
        whole("seed", self.seed)


class Drift(NamedTuple):
    """What was found."""

    detections: pl.DataFrame
    """A row for each: stream, event (both indices), timestamp (seconds), since (seconds: when it most
    probably began), statistic, distance (1 - cosine of what came lately and what came before)."""
    statistic: np.ndarray
    """(E,) float32 after each event; of the divergence, about 1 without drift."""
    threshold: float
    half_lives: tuple[float, float]
    """Fast and slow, in days."""
    watched: int
    """Streams with enough events to be watched."""


class Calibration(NamedTuple):
    """What drift is judged by, taken from streams of which hardly any drifts at any one time."""

    paces: Paces
    half_lives: tuple[float, float]
    """Fast and slow, in days."""
    threshold: float


def calibrate(among: Streams, options: DriftOptions = DriftOptions()) -> Calibration:
    """Half-lives, variance and threshold from streams, a sample of 5,000 where there are more. Raises
    InputError where none has two events at different times, and for a share of false alarms that no threshold
    can be read at."""
    there = np.flatnonzero(np.diff(among.offsets) > 1)
    if len(there) > _MOST:
        there = np.random.default_rng(options.seed).choice(there, _MOST, replace=False)
    among = among.take(there)
    half_lives = _half_lives(among, options)
    paces = _paces(half_lives, among)
    shuffled = _rounds(len(there)) * len(there)
    if options.method != "adwin" and options.false_alarms * shuffled < 1:
        raise InputError(
            f"false_alarms={options.false_alarms:g}: the threshold is read from {shuffled} shuffled streams, "
            f"which tell no share below one of them; give at least {math.ceil(1e6 / shuffled) / 1e6:g}"
        )
    threshold = 0.5 if options.method == "adwin" else _threshold(among, paces, options)
    return Calibration(paces, half_lives, threshold)


def paces_of(streams: Streams, options: DriftOptions = DriftOptions()) -> Paces:
    """What is fast and what slow in these streams, and what their vectors vary by."""
    return _paces(_half_lives(streams, options), streams)


def _paces(half_lives: tuple[float, float], streams: Streams) -> Paces:
    rate = LN2 / jnp.array(half_lives, jnp.float32)
    return Paces(rate, jnp.float32(_variance(streams)), jnp.float32(_EVIDENCE))


def detect(
    streams: Streams, options: DriftOptions = DriftOptions(), *, among: Streams | None = None
) -> Drift:
    """Watches every stream, judged by what streams ``among`` which they are do (default: themselves)."""
    paces, half_lives, threshold = calibrate(streams if among is None else among, options)
    found = statistics(streams, paces, options)
    watched = int((np.diff(streams.offsets) > 1).sum())
    rows = _alarms(streams.stream, found, threshold)
    began = np.array([onset(streams, row, half_lives) for row in rows], np.int64)
    frame = pl.DataFrame(
        {
            "stream": streams.stream[rows],
            "event": np.array(rows, np.int64),
            "timestamp": np.asarray(streams.time)[rows],
            "since": np.asarray(streams.time)[began],
            "statistic": found[rows],
            "distance": [_distance(*means(streams, row, half_lives)) for row in rows],
        },
        schema_overrides={"since": pl.Int64, "distance": pl.Float64},
    )
    return Drift(frame, found, threshold, half_lives, watched)


def statistics(streams: Streams, paces: Paces, options: DriftOptions = DriftOptions()) -> np.ndarray:
    """(E,) float32: the statistic of a method after each event."""
    result = np.zeros(len(streams.item), np.float32)
    offsets = np.asarray(streams.offsets)
    length = np.diff(offsets)
    places = np.maximum(16, 4 ** np.ceil(np.log(np.maximum(length, 1)) / np.log(4) - 1e-9)).astype(np.int64)
    table, item, time = (
        jnp.asarray(streams.vectors, jnp.float32),
        np.asarray(streams.item),
        np.asarray(streams.time),
    )
    known = np.any(np.asarray(streams.vectors), axis=1)
    for size in np.unique(places[length > 0]):
        members = np.flatnonzero((places == size) & (length > 0))
        rows = int(max(1, min(_PLACES // size, 1 << int(np.ceil(np.log2(len(members)))))))
        for start in range(0, len(members), rows):
            some = members[start : start + rows]
            index = offsets[some][:, None] + np.arange(size)
            mask = index < offsets[some + 1][:, None]
            index = np.where(mask, index, 0)
            when = np.where(mask, time[index], 0)
            gap = np.diff(when, axis=1, prepend=when[:, :1]) / _DAY
            fill = ((0, rows - len(some)), (0, 0))
            there = mask & known[item[index]]
            given = (np.where(mask, gap, 0).astype(np.float32), item[index], there)
            watch = partial(_watch, "surprise" if options.method == "adwin" else options.method, paces, table)
            z = np.asarray(watch(*(np.pad(x, fill) for x in given)))[: len(some)]
            if options.method == "adwin":
                z = alarms.adwin(z, there, delta=options.false_alarms)
            result[index[mask]] = z[mask]
    return result


@partial(jax.jit, static_argnums=0)
def _watch(
    method: str, paces: Paces, table: jax.Array, gap: jax.Array, item: jax.Array, mask: jax.Array
) -> jax.Array:
    """(b, n) the statistic of each of b streams."""

    def one(gap: jax.Array, item: jax.Array, mask: jax.Array) -> jax.Array:
        vectors = table[item]
        if method == "divergence":
            return divergence.after_each(paces, gap, vectors, mask)
        if method == "cosine":
            return alarms.distances(paces.rate, gap, vectors, mask)
        errors = alarms.surprises(paces.rate[1], gap, vectors, mask)
        watch: dict[str, Callable] = {"page-hinkley": alarms.page_hinkley, "cusum": alarms.cusum}
        return watch[method](errors, mask) if method in watch else errors

    return jax.vmap(one)(gap, item, mask)


def onset(streams: Streams, event: int, half_lives: tuple[float, float]) -> int:
    r"""The event with which a change found at ``event`` most probably began: the split of the stream's events
    of three slow half-lives whose two means lie furthest apart for their numbers, $n_1 n_2 / (n_1 + n_2)\,
    \lVert m_1 - m_2 \rVert^2$ (maximum likelihood; Hinkley 1970), within the last of them."""
    rows, (_, slow) = weights(streams, event, half_lives)
    first = rows.start + int(np.argmax(slow >= 1 / 8))
    pointed = np.asarray(streams.vectors, np.float64)[np.asarray(streams.item)[first : event + 1]]
    total, count = np.cumsum(pointed, axis=0), np.cumsum(pointed.any(axis=1)).astype(float)
    before, after = count[:-1, None], count[-1] - count[:-1, None]
    apart = total[:-1] / np.maximum(before, 1) - (total[-1] - total[:-1]) / np.maximum(after, 1)
    gain = (before * after)[:, 0] * np.square(apart).sum(axis=1)
    late = slow[first - rows.start + 1 :] >= 0.5
    return first + 1 + int(np.argmax(np.where(late, gain, -1.0))) if len(gain) else event


def _distance(one: np.ndarray, two: np.ndarray) -> float:
    return 1 - float(one @ two) / max(float(np.linalg.norm(one) * np.linalg.norm(two)), 1e-30)


def _half_lives(streams: Streams, options: DriftOptions) -> tuple[float, float]:
    offsets, time = np.asarray(streams.offsets), np.asarray(streams.time)
    there = np.diff(offsets) > 1
    spans = (time[offsets[1:][there] - 1] - time[offsets[:-1][there]]) / _DAY
    gaps = spans[spans > 0] / (np.diff(offsets)[there][spans > 0] - 1)
    if not len(gaps):
        raise InputError("nobody has two events at different times: there is nothing that could drift")
    typical = float(np.median(gaps))
    fast = _FAST * typical if options.fast is None else days(options.fast)
    slow = _SLOW * typical if options.slow is None else days(options.slow)
    if fast >= slow:
        raise InputError(f"fast={fast:g}d is no shorter than slow={slow:g}d; give a shorter fast half-life")
    return fast, slow


def _variance(streams: Streams) -> float:
    """Of an event's vector about the mean of its stream's, all dimensions together, pooled over streams."""
    vectors, item, stream = np.asarray(streams.vectors), np.asarray(streams.item), streams.stream
    known = np.any(vectors, axis=1)[item]
    item, stream = item[known], stream[known]
    count = np.bincount(stream, minlength=len(streams.offsets) - 1)
    total = np.zeros((len(count), vectors.shape[1]))
    np.add.at(total, stream, vectors[item])
    means = total / np.maximum(count, 1)[:, None]
    left = float(np.square(vectors[item] - means[stream]).sum())
    return left / max(1, len(item) - int((count > 0).sum()))


def _threshold(streams: Streams, paces: Paces, options: DriftOptions) -> float:
    """What the given share of streams exceeds at some event, once their events are shuffled. Streams beyond
    what one in a hundred exceeds are left out: what moved is a mixture when shuffled, and differs from itself
    by more than chance."""
    strict = _quantile(streams, paces, options, 1 - _CLEARLY)
    kept = np.flatnonzero(_largest(streams, statistics(streams, paces, options)) <= strict)
    calm = streams.take(kept) if len(kept) else streams
    return _quantile(calm, paces, options, 1 - options.false_alarms)


def _quantile(streams: Streams, paces: Paces, options: DriftOptions, share: float) -> float:
    """What this share of shuffled streams nowhere exceeds."""
    random, most, length = np.random.default_rng(options.seed), [], np.diff(streams.offsets)
    place = np.arange(len(streams.item)) - np.repeat(streams.offsets[:-1], length)
    for _ in range(_rounds(len(length))):
        begin = np.repeat(random.integers(0, _TOGETHER, len(length)), length)
        together = (place + begin) // _TOGETHER
        lot = random.random((len(length), int(together.max()) + 1))[streams.stream, together]
        order = np.lexsort((place, lot, streams.stream))
        shuffled = streams._replace(item=streams.item[order])
        most.append(_largest(streams, statistics(shuffled, paces, options)))
    return float(np.quantile(np.concatenate(most), share))


def _rounds(streams: int) -> int:
    """How often so many streams are shuffled."""
    return -(-_ENOUGH // streams)


def _largest(streams: Streams, found: np.ndarray) -> np.ndarray:
    """(S,) of streams that all have events."""
    return np.maximum.reduceat(found, streams.offsets[:-1])


def _alarms(stream: np.ndarray, found: np.ndarray, threshold: float) -> list[int]:
    """Rows at which an alarm begins: the statistic exceeds the threshold, and has been below half of it since
    the alarm before."""
    rows: list[int] = []
    at, alarmed = -1, False
    for row in np.flatnonzero((found > threshold) | (found < threshold / 2)):
        if stream[row] != at:
            at, alarmed = stream[row], False
        if found[row] > threshold and not alarmed:
            rows.append(int(row))
        alarmed = found[row] > threshold
    return rows
