r"""Reads of one history at every position: what training on all targets of a long history needs.

$$ y_i = \sum_{j \le i} \sum_m r_{im}\, w_{jm}\, \varphi_m(t'_i - t_j)\, b_j $$

with the request times $t'_i$ not before $t_i$. Two exact forms:

- *dual*: the kernel of every pair, L x L; the cheapest up to about 64 events, and the only one for a kernel
  that is no sum of modes;
- *hybrid*: inside a chunk of C events pair by pair, between chunks one state per mode. L C M + L M D / C
  numbers instead of L L M, or of the L M D of an associative scan over all states.

Ages are differences of integers in both. One user, no batch axis: use `jax.vmap`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxdecay import clocks
from jaxdecay.clocks import Readings
from jaxdecay.errors import InputError
from jaxdecay.modes import EXACT, Modes, in_days, whole
from jaxdecay.scan import alike

_SHORT = 64  # events up to which pairs are cheaper than states
_CHUNKS = range(16, 25)  # of them the one that pads least


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
    visible = readings.visible.any(0)[:, None]
    return jnp.matmul(left, jnp.where(visible, values, 0.0), precision=EXACT)


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
    64 events are read pair by pair, longer ones by chunks of 16 to 24 events: the same to rounding.
    ``chunk`` says how many in any case. What is masked reads 0. Derivatives are backwards only (no
    `jax.jvp`).
    """
    at = time if at is None else at
    if len(at) != len(time) or (chunk is not None and chunk < 1):
        raise InputError(
            f"chunk={chunk}, {len(at)} request times for {len(time)} events: give chunks of 1 or more, and"
            " one time for each event"
        )
    if mask is not None:
        writes, values, reads = (jnp.where(mask[:, None], x, 0.0) for x in (writes, values, reads))
        time = clocks.carried(time, mask)
        at = jnp.where(mask, at, time)
    if not len(time) or (chunk is None and len(time) <= _SHORT):
        return _pairs(modes, time, at, writes, values, reads)
    chunk = chunk or min(_CHUNKS, key=lambda size: -len(time) % size)
    return _by_chunks(modes, writes, values, reads, time, at, chunk)


def _pairs(
    modes: Modes,
    time: Int[Array, " c"],
    at: Int[Array, " c"],
    writes: Float[Array, "c m"],
    values: Float[Array, "c d"],
    reads: Float[Array, "c m"],
) -> Float[Array, "c d"]:
    visible = jnp.tril(jnp.ones((len(time), len(time)), bool))
    # Where an event is not visible it has no age: 0 keeps slopes finite.
    age = jnp.where(visible, whole(at[:, None] - time[None]), 0)
    # The curves of all pairs are computed again for the gradient: that costs less than to keep them.
    kernel = jax.checkpoint(_mixed)(modes, writes, reads, age)
    return _matmul(jnp.where(visible, kernel, 0.0), values)


def _mixed(
    modes: Modes, writes: Float[Array, "j m"], reads: Float[Array, "i m"], age: Int[Array, "i j"]
) -> Float[Array, "i j"]:
    """The kernel of each pair."""
    if modes.frequency is not None:
        return jnp.einsum("im,jm,ijm->ij", reads, writes, modes.curves(age), precision=EXACT)
    days = in_days(age).astype(modes.rate.dtype)
    total = jnp.zeros_like(days)
    for m in range(len(modes.rate)):  # fewer passes over the pairs than by a product of three
        total += reads[:, m, None] * writes[None, :, m] * jnp.exp(-modes.rate[m] * days)
    return total


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
    near = jax.vmap(functools.partial(_pairs, modes))
    # One state per mode at the last event of each chunk, of that chunk's own events; real and imaginary parts
    # below one another.
    end, parts = time[:, -1], 1 if modes.frequency is None else 2
    to_end = modes.phasors(whole(end[:, None] - time)) * writes[None]
    left = jnp.moveaxis(to_end, (0, 3), (1, 2)).reshape(len(time), -1, chunk)
    own = _matmul(left, values).reshape(len(time), parts, -1, values.shape[-1])
    gaps = modes.phasors(whole(jnp.diff(end, prepend=end[:1])))

    def carry(state: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        turn, own = step
        return modes.advance(state, turn) + own, state

    _, before = lax.scan(carry, jnp.zeros_like(own[0]), (jnp.moveaxis(gaps, 1, 0), own))
    since = modes.phasors(whole(at - jnp.concatenate([end[:1], end[:-1]])[:, None])) * reads[None]
    if parts == 2:
        since = jnp.stack([since[0], -since[1]])  # the real part of a complex product
    right = before.reshape(len(time), -1, values.shape[-1])
    far = _matmul(jnp.moveaxis(since, 0, 2).reshape(len(time), chunk, -1), right)
    return (near(time, at, writes, values, reads) + far).reshape(-1, values.shape[-1])[:length]


def _matmul(left: Float[Array, "... i j"], right: Float[Array, "... j d"]) -> Float[Array, "... i d"]:
    """Many small products. The slope of the right side multiplies by the left one transposed beforehand: on a
    processor XLA is faster with that than with a product over the first axes of both."""
    dtype = jnp.result_type(left, right)
    return _product(*alike(left.astype(dtype), right.astype(dtype)))


@jax.custom_vjp
def _product(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=EXACT)


def _product_forward(left: Array, right: Array) -> tuple[Array, tuple[Array, Array]]:
    return _product(left, right), (left, right)


def _product_backward(given: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    left, right = given
    transposed = lax.optimization_barrier(jnp.swapaxes(left, -1, -2))
    of_left = jnp.einsum("...id,...jd->...ij", slope, right, precision=EXACT)
    return of_left, jnp.matmul(transposed, slope, precision=EXACT)


_product.defvjp(_product_forward, _product_backward)
