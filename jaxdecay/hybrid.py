r"""Reads of one history at every position: what training on all targets of a long history needs.

$$ y_i = \sum_{j \le i} \sum_m r_{im}\, w_{jm}\, \varphi_m(t'_i - t_j)\, b_j $$

with the request times $t'_i$ not before $t_i$. Two exact forms:

- *dual*: the kernel of every pair, L x L; the cheapest up to about 64 events, and the only one for a kernel
  that is no sum of modes;
- *hybrid*: inside a chunk of C events pair by pair, between chunks one state per mode. L C + L M numbers
  instead of L L or L M D; the modes of an associative scan (L M D) never lie in memory.

Ages are differences of integers in both. One user, no batch axis: use `jax.vmap`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.modes import Modes, in_days

_SHORT = 64  # events up to which pairs are cheaper than states


def dual(
    kernel: Callable[[Float[Array, "l l"]], Float[Array, "l l"]],
    time: Int[Array, " l"],
    values: Float[Array, "l d"],
    *,
    at: Int[Array, " l"] | None = None,
    mask: Bool[Array, " l"] | None = None,
) -> Float[Array, "l d"]:
    """Reads by any kernel, a function of ages in days; arguments as in `read_all`."""
    at = time if at is None else at
    visible = jnp.tril(jnp.ones((len(time), len(time)), bool))
    if mask is not None:
        visible &= mask
    # Where an event is not visible it has no age: 0 keeps slopes finite.
    left = kernel(jnp.where(visible, in_days(at[:, None] - time), 0.0))
    return jnp.where(visible, left, 0.0) @ values


def read_all(
    modes: Modes,
    writes: Float[Array, "l m"],
    values: Float[Array, "l d"],
    reads: Float[Array, "l m"],
    time: Int[Array, " l"],
    *,
    at: Int[Array, " l"] | None = None,
    mask: Bool[Array, " l"] | None = None,
    chunk: int = 16,
) -> Float[Array, "l d"]:
    """The interest after each event, its own included, at the times ``at`` (int32 seconds like ``time``, not
    before it; by default the event's own).

    ``time`` ascends where ``mask``; padding may stand on either side. Histories up to 64 events are read pair
    by pair, longer ones by chunks (``chunk`` events): the same to rounding.
    """
    at = time if at is None else at
    mask = jnp.ones(len(time), bool) if mask is None else mask
    writes = jnp.where(mask[:, None], writes, 0.0)
    if len(time) <= _SHORT:
        ages = in_days(at[:, None] - time)
        visible = jnp.tril(jnp.ones((len(time), len(time)), bool)) & mask
        kernel = _mixed(modes, writes, reads, jnp.where(visible, ages, 0.0))
        return jnp.where(visible, kernel, 0.0) @ values
    return _hybrid(modes, writes, values, reads, _settled(time, mask), at, chunk)


def _settled(time: Int[Array, " l"], mask: Bool[Array, " l"]) -> Int[Array, " l"]:
    """Times that ascend through padding, too: that of the last event before, or of the first one."""
    lowest = jnp.iinfo(time.dtype).min
    first = jnp.min(jnp.where(mask, time, jnp.iinfo(time.dtype).max))
    return lax.cummax(jnp.maximum(jnp.where(mask, time, lowest), first))


def _mixed(
    modes: Modes, writes: Float[Array, "j m"], reads: Float[Array, "i m"], age: Float[Array, "i j"]
) -> Float[Array, "i j"]:
    """The kernel of each pair, mode by mode: no array of pairs and modes."""
    age = age.astype(modes.rate.dtype)
    total = jnp.zeros_like(age)
    for m in range(modes.rate.shape[0]):
        curve = jnp.exp(-modes.rate[m] * age)
        if modes.frequency is not None:
            curve *= jnp.cos(modes.frequency[m] * age)
        total += reads[:, m, None] * writes[:, m] * curve
    return total


def _hybrid(
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
        ages = jnp.where(visible, in_days(at[:, None] - time), 0.0)
        return jnp.where(visible, _mixed(modes, writes, reads, ages), 0.0) @ values

    # One state per mode at the last event of each chunk, of that chunk's own events.
    end = time[:, -1]
    to_end = modes.phasors(in_days(end[:, None] - time))
    own = jnp.einsum("ncm,pncm,ncd->npmd", writes, to_end, values)
    gaps = modes.phasors(in_days(jnp.diff(end, prepend=end[:1])))

    def carry(state: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        turn, own = step
        return modes.turn(state, turn) + own, state

    _, before = lax.scan(carry, jnp.zeros_like(own[0]), (jnp.moveaxis(gaps, 1, 0), own))
    since = modes.phasors(in_days(at - jnp.concatenate([end[:1], end[:-1]])[:, None])) * reads
    far = jax.vmap(modes.read, in_axes=(0, 1))(before, since)
    return (near(time, at, writes, reads, values) + far).reshape(-1, values.shape[-1])[:length]
