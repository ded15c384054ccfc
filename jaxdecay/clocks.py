r"""Clocks: on what the age of an event is measured, so that forgetting runs by time, by events, by sessions,
by what was learned, or by the logarithm of time.

A clock reads $g_j$ at event $j$ and $g(t)$ at a request; the age of the event is $g(t)-g_j$. Readings never
fall, so ages are additive: what an event ages until a later one and from there on adds up. A kernel that
streams in time therefore streams on every clock, exactly.

Every clock is one function of one user's history and requests, with the arguments of `jaxdecay.readout.ages`:
``time`` (n,) int32 seconds, ascending where ``mask``; request ``r`` is made at ``at[r]`` seconds and sees
the first ``past + seen[r]`` rows, those of them that ``mask`` keeps. Ties stand in row order. Rows that are
not kept move no clock. `ages_on` gives the ages, with which `jaxdecay.hybrid.dual` reads; `gaps_on` the steps
from event to event, by which `jaxdecay.scan.decay_scan` and `jaxdecay.chains` fade. No batch axis: use
`jax.vmap`.

| clock | counts | moved by an event that says nothing | moved by idle time |
|---|---|---|---|
| `wall` | days | no | yes |
| `events` | events | yes | no |
| `sessions` | sessions | if it divides a silence, or comes after one | once, after ``gap`` |
| `learned` | what was learned | yes | no |
| `log_since` | e-folds of the time since a landmark | no | yes, ever less |

Times shifted by a constant (and the landmark with them) change nothing, to the last bit.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from jaxdecay.modes import SECONDS_PER_DAY

_LAST = jnp.iinfo(jnp.int32).max


class Readings(NamedTuple):
    """What a clock shows, in units of which ``per`` make 1."""

    event: Num[Array, " n"]
    """At each row, never falling; a row that is not kept repeats the one before."""
    request: Num[Array, " r"]
    visible: Bool[Array, "r n"]
    """Which events each request sees."""
    per: Float[Array, ""]


def ages_on(readings: Readings) -> Float[Array, "r n"]:
    """Age of each event at each request, on the clock: 0 or more, 0 where the event is not visible.

    Whole readings (seconds, counts) are subtracted as integers and are exact to 2^24; float32 is reached
    only by their difference.

    >>> time, mask = jnp.array([0, 86_400, 86_400]), jnp.ones(3, bool)
    >>> at, seen = jnp.array([86_400, 4 * 86_400]), jnp.array([2, 3])
    >>> ages_on(wall(time, mask, at, seen)).tolist()
    [[1.0, 0.0, 0.0], [4.0, 3.0, 3.0]]
    >>> ages_on(events(time, mask, at, seen)).tolist()
    [[1.0, 0.0, 0.0], [2.0, 1.0, 0.0]]
    """
    passed = readings.request[:, None] - readings.event[None]
    return jnp.where(readings.visible, _in_units(passed, readings.per), 0)


def gaps_on(readings: Readings) -> Float[Array, " n"]:
    """By how much the clock moves before each event, 0 before the first: what a state fades by."""
    return _in_units(jnp.diff(readings.event, prepend=readings.event[:1]), readings.per)


def carried(time: Int[Array, " n"], mask: Bool[Array, " n"]) -> Int[Array, " n"]:
    """Times that ascend through rows that are not kept, too: each has that of the last kept row before it, or
    of the first one; 0 if none is kept."""
    first = jnp.where(mask.any(), jnp.min(time, initial=_LAST, where=mask), 0)
    return jax.lax.cummax(jnp.where(mask, time, first))


def wall(
    time: Int[Array, " n"], mask: Bool[Array, " n"], at: Int[Array, " r"], seen: Int[Array, " r"], *,
    past: int = 0,
) -> Readings:  # fmt: skip
    """Days. Readings are whole seconds since the first event; they are divided only as ages."""
    running, first = _running(time, mask)
    return Readings(running, at - first, _visible(mask, seen, past), _per(SECONDS_PER_DAY))


def events(
    time: Int[Array, " n"], mask: Bool[Array, " n"], at: Int[Array, " r"], seen: Int[Array, " r"], *,
    past: int = 0,
) -> Readings:  # fmt: skip
    """Counts events: the age of an event is the number of those that came after it, ties in row order."""
    count = jnp.cumsum(mask, dtype=jnp.int32)
    return Readings(count, _last(count, seen, past), _visible(mask, seen, past), _per(1.0))


def sessions(
    time: Int[Array, " n"], mask: Bool[Array, " n"], at: Int[Array, " r"], seen: Int[Array, " r"], *,
    gap: int, past: int = 0,
) -> Readings:  # fmt: skip
    """Counts sessions: one begins with an event, or with a request, that comes more than ``gap`` seconds
    after the last event; all within a session have the same age."""
    running, first = _running(time, mask)
    begins = mask & (jnp.diff(running, prepend=running[:1]) > gap)
    count = jnp.cumsum(begins, dtype=jnp.int32)
    silent = (at - first) - _last(running, seen, past) > gap
    return Readings(
        count, _last(count, seen, past) + silent.astype(jnp.int32), _visible(mask, seen, past), _per(1.0)
    )


def learned(
    time: Int[Array, " n"], mask: Bool[Array, " n"], at: Int[Array, " r"], seen: Int[Array, " r"], *,
    increments: Float[Array, " n"], past: int = 0,
) -> Readings:  # fmt: skip
    r"""Event $j$ moves the clock by $\operatorname{softplus}(x_j)\ge 0$, so that what came before it ages by
    that much: forgetting that content triggers, as the gates of Mamba and of the forgetting transformer.

    Differentiable in the increments. Readings are sums in float32, differenced afterwards: an age errs by
    1e-7 to 2e-7 of the *reading*, not of the age (measured from 100 to 100,000 events, where the reading is
    80,000 and the error .015). Sources: Gu & Dao, *Mamba* (2023); Lin et al.,
    *Forgetting transformer*, arXiv 2503.02130 (2025).
    """
    total = jnp.cumsum(jnp.where(mask, jax.nn.softplus(increments), 0))
    return Readings(total, _last(total, seen, past), _visible(mask, seen, past), _per(1.0))


def log_since(
    time: Int[Array, " n"], mask: Bool[Array, " n"], at: Int[Array, " r"], seen: Int[Array, " r"], *,
    landmark: int | Int[Array, ""], past: int = 0,
) -> Readings:  # fmt: skip
    r"""$\ln(t-L)$ since a landmark $L$ in seconds, on which $e^{-\beta\,\text{age}}$ is forward decay,
    $\bigl((t_j-L)/(t-L)\bigr)^\beta$: what has happened matters by how far along it was.

    The landmark belongs before the first event: what is less than a second after it reads as one second
    after it. Readings are at most 21.5, so that a float32 age errs by at most 4e-6. Source: Cormode,
    Shkapenyuk, Srivastava & Xu, *Forward decay* (2009).
    """
    running, first = _running(time, mask)
    event, request = (
        jnp.log(jnp.maximum(seconds - landmark, 1).astype(jnp.result_type(float)))
        for seconds in (running + first, at)
    )
    return Readings(event, request, _visible(mask, seen, past), _per(1.0))


def _running(time: Int[Array, " n"], mask: Bool[Array, " n"]) -> tuple[Int[Array, " n"], Int[Array, ""]]:
    """Seconds since the first event that is kept, carried over rows that are not; and when that was."""
    running = carried(time, mask)
    first = running[:1].sum(dtype=running.dtype)
    return running - first, first


def _last(reading: Num[Array, " n"], seen: Int[Array, " r"], past: int) -> Num[Array, " r"]:
    """The reading at the last row that each request sees; 0 where it sees none."""
    return jnp.concatenate([jnp.zeros(1, reading.dtype), reading])[past + seen]


def _visible(mask: Bool[Array, " n"], seen: Int[Array, " r"], past: int) -> Bool[Array, "r n"]:
    return (jnp.arange(mask.shape[0], dtype=seen.dtype)[None] < past + seen[:, None]) & mask[None]


def _in_units(passed: Num[Array, "..."], per: Float[Array, ""]) -> Float[Array, "..."]:
    return jnp.maximum(passed, 0).astype(per.dtype) / per


def _per(units: float) -> Float[Array, ""]:
    return jnp.array(units, jnp.result_type(float))
