r"""Reads of one history at every position: what training on all targets of a long history needs.

$$ y_i = \sum_{j \le i} \sum_m r_{im}\, w_{jm}\, \varphi_m(t'_i - t_j)\, b_j $$

with the request times $t'_i$ not before $t_i$. Two exact forms:

- *dual*: the kernel of every pair, L x L; the cheapest up to about 64 events, and the only one for a kernel
  that is no sum of modes;
- *hybrid*: inside a chunk of C events pair by pair, between chunks one state per mode. L C M + L M D / C
  numbers instead of L L M, or of the L M D of an associative scan over all states.

Ages are differences of integers in both. One user, no batch axis: use `jax.vmap`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxdecay import clocks
from jaxdecay.clocks import Readings
from jaxdecay.errors import InputError
from jaxdecay.modes import Modes, in_days

_SHORT = 64  # events up to which pairs are cheaper than states
_CHUNK = 16


def dual(
    kernel: Callable[[Float[Array, "r n"]], Float[Array, "r n"]],
    readings: Readings,
    values: Float[Array, "n d"],
) -> Float[Array, "r d"]:
    """Reads by any kernel on any clock: ``kernel`` is a function of ages in units of the clock that gave
    ``readings`` (`jaxdecay.clocks`).

    >>> time, mask = jnp.array([0, 86_400]), jnp.ones(2, bool)
    >>> clock = clocks.events(time, mask, time, jnp.array([1, 2]))
    >>> dual(lambda age: 0.5**age, clock, jnp.array([[4.0], [1.0]]))[:, 0].tolist()
    [4.0, 3.0]
    """
    left = jnp.where(readings.visible, kernel(clocks.ages_on(readings)), 0.0)
    return left @ jnp.where(readings.visible.any(0)[:, None], values, 0.0)


def read_all(
    modes: Modes,
    writes: Float[Array, "l m"],
    values: Float[Array, "l d"],
    reads: Float[Array, "l m"],
    time: Int[Array, " l"],
    *,
    at: Int[Array, " l"] | None = None,
    mask: Bool[Array, " l"] | None = None,
    chunk: int | None = None,
) -> Float[Array, "l d"]:
    """The interest after each event, its own included, at the times ``at`` (int32 seconds like ``time``, not
    before it; by default the event's own).

    ``time`` ascends where ``mask``; padding may stand on either side, with whatever values. Histories up to
    64 events are read pair by pair, longer ones by chunks of 16 events: the same to rounding. ``chunk`` says
    how many in any case.
    """
    at = time if at is None else at
    if len(at) != len(time) or (chunk is not None and chunk < 1):
        raise InputError(
            f"chunk={chunk}, {len(at)} times at for {len(time)} events: give 1 or more, and one each"
        )
    mask = jnp.ones(len(time), bool) if mask is None else mask
    if chunk is None and len(time) <= _SHORT:
        clock = clocks.wall(time, mask, at, 1 + jnp.arange(len(time), dtype=jnp.int32))
        return dual(lambda age: _mixed(modes, writes, reads, age), clock, values)
    writes, values = (jnp.where(mask[:, None], x, 0.0) for x in (writes, values))
    return _by_chunks(modes, writes, values, reads, clocks.carried(time, mask), at, chunk or _CHUNK)


def _mixed(
    modes: Modes, writes: Float[Array, "j m"], reads: Float[Array, "i m"], age: Float[Array, "i j"]
) -> Float[Array, "i j"]:
    """The kernel of each pair."""
    return jnp.einsum("im,jm,ijm->ij", reads, writes, modes.curves(age))


def _by_chunks(
    modes: Modes,
    writes: Float[Array, "l m"],
    values: Float[Array, "l d"],
    reads: Float[Array, "l m"],
    time: Int[Array, " l"],
    at: Int[Array, " l"],
    chunk: int,
) -> Float[Array, "l d"]:
    length, spare = len(time), -len(time) % chunk

    def chunks(x: Array, mode: str = "constant") -> Array:
        pad = jnp.pad(x, [(0, spare)] + [(0, 0)] * (x.ndim - 1), mode=mode)
        return pad.reshape(-1, chunk, *x.shape[1:])

    time, at = chunks(time, "edge"), chunks(at, "edge")
    writes, values, reads = chunks(writes), chunks(values), chunks(reads)
    visible = jnp.tril(jnp.ones((chunk, chunk), bool))

    @jax.vmap
    def near(
        time: Int[Array, " c"], at: Int[Array, " c"], writes: Array, reads: Array, values: Array
    ) -> Array:
        ages = jnp.where(visible, in_days(at[:, None] - time[None]), 0.0)
        return jnp.where(visible, _mixed(modes, writes, reads, ages), 0.0) @ values

    # One state per mode at the last event of each chunk, of that chunk's own events.
    end = time[:, -1]
    to_end = modes.phasors(in_days(end[:, None] - time))
    own = jnp.einsum("ncm,pncm,ncd->npmd", writes, to_end, values)
    gaps = modes.phasors(in_days(jnp.diff(end, prepend=end[:1])))

    def carry(state: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        turn, own = step
        return modes.advance(state, turn) + own, state

    _, before = lax.scan(carry, jnp.zeros_like(own[0]), (jnp.moveaxis(gaps, 1, 0), own))
    since = modes.phasors(in_days(at - jnp.concatenate([end[:1], end[:-1]])[:, None])) * reads[None]
    far = jax.vmap(modes.read, in_axes=(0, 1))(before, since)
    return (near(time, at, writes, reads, values) + far).reshape(-1, values.shape[-1])[:length]
