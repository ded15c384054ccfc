r"""The one recurrence: a state that fades between events and takes each of them in.

$$ s_t = a_t \odot s_{t-1} + b_t, \qquad a_t = k_t\, e^{-\lambda \Delta_t} $$

with a rate $\lambda$ per dimension (or per head of dimensions), the gap $\Delta_t$ since the event before,
and $k_t = 0$ where a new history begins in a packed row. Events are impulses: one at a gap of zero counts in
full. With frequencies $\omega$ the state is complex, $a_t = k_t\, e^{-(\lambda - i\omega) \Delta_t}$, and
its real and imaginary parts are real arrays (XLA compiles complex scans slowly).

The derivative is written by hand. With $\bar s_t = g_t + \bar a_{t+1} \bar s_{t+1}$ (the same recurrence run
backwards): $\partial b_t = \bar s_t$, $\partial \lambda = -\sum_t \Delta_t\, \mathrm{Re}(\bar a_t \bar s_t)
\cdot s_{t-1}$, and likewise for gaps and frequencies. Only rates, gaps and states are kept for it: gates are
computed again, in registers, and never lie in memory.

One history, time along the leading axis. For many, `jax.vmap` with ``in_axes=1, out_axes=1`` on time-major
arrays (l, b, d) costs no transposition; ``in_axes=0`` on user-major ones is right, too.

References:
    Blelloch: Prefix sums and their applications (1990), for the associative form; Martin, Cundy:
    Parallelizing linear recurrent neural nets over sequence length (2018), for its derivative.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxdecay.errors import InputError
from jaxdecay.kernels.ages import aligned
from jaxdecay.modes import EXACT

_Pair = tuple[Array, Array | None]  # real and imaginary part; None where nothing oscillates


def decay_scan(
    rate: Float[Array, " k"],
    gap: Float[Array, " l"],
    events: Float[Array, "l d"],
    keep: Bool[Array, " l"] | None = None,
    *,
    frequency: Float[Array, " k"] | None = None,
    backend: str | None = None,
) -> Float[Array, "l d"] | Float[Array, "l 2 d"]:
    """The state after each event.

    ``rate`` (per day, from 0) of K heads of D / K dimensions each; ``gap`` (days; a negative one counts as
    0) to the event before, of which the first is not used; ``keep`` is False where a new history begins,
    which sees nothing of the one before, in value and gradient exactly, whatever stands there (NaN, too).
    ``frequency`` (radians per day): the state oscillates, and comes as its real and imaginary parts. Padding
    on any side is an event of zeros. States have the type of the rates, which may be wider than that of the
    events. Derivatives are backwards only (no `jax.jvp`).

    ``backend``: "sequential" (one pass in order; the fastest on a processor) or "associative" (a tree of
    depth log L, for accelerators). By default the second on GPUs and the first elsewhere, decided where the
    program is lowered. Both give the same to rounding, with the same derivative.

    >>> decay_scan(jnp.log(2.0)[None], jnp.array([0.0, 1.0, 0.0]), jnp.array([[4.0], [1.0], [1.0]]))[:, 0]
    Array([4., 3., 4.], dtype=float32)
    """
    length, width = events.shape
    if rate.ndim != 1 or not rate.size or width % rate.size:
        raise InputError(
            f"rate is {rate.shape} for {width} dimensions: give as many rates, or a divisor of it"
        )
    if not jnp.issubdtype(rate.dtype, jnp.floating):
        raise InputError(f"rate is {rate.dtype}: give floats, whose type the states take")
    if frequency is not None and frequency.shape != rate.shape:
        raise InputError(f"frequencies {frequency.shape} for rates {rate.shape}: give one for each")
    for name, given in (("gap", gap), ("keep", keep)):
        if given is not None and given.shape != (length,):
            raise InputError(f"{name} is {given.shape} for {length} events: give one for each")
    if backend not in (None, *_FORWARD):
        raise InputError(f"backend={backend!r}: give one of {', '.join(_FORWARD)}")
    # The first gap leads from nowhere: whatever it is, there is nothing yet to fade.
    first = jnp.arange(len(gap)) == 0
    on = ~first if keep is None else keep & ~first
    # A shut gate is written as a negative gap: one number less to fetch at every step.
    gap = jnp.where(on, jnp.where(gap < 0, 0.0, gap.astype(rate.dtype)), -1.0)
    return _scan(backend, *alike(rate, frequency, gap, events.astype(rate.dtype)))


def alike(*arrays: Any) -> list[Any]:
    """The same arrays, each varying over all mesh axes that any of them varies over: under `jax.shard_map`
    the slopes of shared rates are then summed over shards by whoever shared them. Costs nothing compiled."""
    token = sum(x.ravel()[:1].sum() for x in arrays if x is not None)
    return [None if x is None else jnp.where(False, token, x) for x in arrays]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(backend: str | None, rate: Array, frequency: Array | None, gap: Array, events: Array) -> Array:
    return _forward(backend, rate, frequency, gap, events)[0]


def _forward(
    backend: str | None, rate: Array, frequency: Array | None, gap: Array, events: Array
) -> tuple[Array, tuple]:
    inputs = (events, None if frequency is None else jnp.where(False, events, 0.0))
    states = _on(_FORWARD, backend, rate, frequency, gap, inputs)
    return _join(states), (rate, frequency, gap, states)


def _backward(backend: str | None, kept: tuple, given: Array) -> tuple:
    rate, frequency, gap, states = kept
    return _on(_BACKWARD, backend, rate, frequency, gap, states, _split(given, frequency))


_scan.defvjp(_forward, _backward)


def _on(forms: dict[str, Callable], backend: str | None, *given: Any) -> Any:
    """The form of a back end, or the one for the platform that this is lowered for."""
    if backend is not None:
        return forms[backend](*given)
    tree = forms["associative"]
    return lax.platform_dependent(*given, cuda=tree, rocm=tree, default=forms["sequential"])


def _sequential(rate: Array, frequency: Array | None, gap: Array, inputs: _Pair) -> _Pair:
    def step(state: _Pair, at: tuple) -> tuple[_Pair, _Pair]:
        gap, given = at
        state = _plus(_faded(rate, frequency, gap, state), given)
        return state, state

    nothing = jnp.where(False, gap.sum(), jnp.zeros_like(inputs[0], shape=inputs[0].shape[1:]))
    start = (nothing, None if frequency is None else nothing)
    return lax.scan(step, start, (gap, inputs))[1]


def _sequential_slopes(
    rate: Array, frequency: Array | None, gap: Array, states: _Pair, gradient: _Pair
) -> tuple:
    """One pass backwards that adds up the slopes of rates as it goes.

    What comes through the gate of an event meets the state before it one step later, where that state is at
    hand: no copy of the states, shifted by one, is made.
    """
    opposite = None if frequency is None else -frequency
    width = gradient[0].shape[1]
    nothing = jnp.where(False, gap.sum(), jnp.zeros_like(gradient[0], shape=(width,)))
    imaginary = None if frequency is None else nothing
    # One number per dimension, not per head, until the end: a sum over a few at every step would cost more.
    wide = partial(jnp.repeat, repeats=width // len(rate), total_repeat_length=width)
    speeds, turns = wide(rate), None if frequency is None else wide(frequency)

    def step(carry: tuple, at: tuple) -> tuple[tuple, tuple]:
        through, later, drate, dfrequency = carry
        gradient, gap, state = at
        real, turned = _inner(through, state, later < 0.0)
        dgap = -(speeds * real).sum()
        if turns is not None:
            dgap += (turns * turned).sum()
            dfrequency += later * turned
        adjoint = _plus(gradient, through)
        through = _faded(rate, opposite, gap, adjoint)
        return (through, gap, drate - later * real, dfrequency), (adjoint[0], dgap)

    start = ((nothing, imaginary), jnp.where(False, gap.sum(), -1.0), nothing, imaginary)
    (_, _, drate, dfrequency), (devents, dgap) = lax.scan(step, start, (gradient, gap, states), reverse=True)
    drate, dfrequency = (None if x is None else _heads(x, len(rate)).sum(-1) for x in (drate, dfrequency))
    return drate, dfrequency, jnp.roll(dgap, 1), devents


def _associative(
    rate: Array, frequency: Array | None, gap: Array, inputs: _Pair, *, reverse: bool = False
) -> _Pair:
    def join(first: tuple, second: tuple) -> tuple:
        (_, gate, state), (shut, fade, given) = first, second
        state = _where(shut[:, None], given, _plus(_times(fade, state), given))
        return shut | first[0], _product(fade, gate), state

    given = (gap < 0.0, _gate(rate, frequency, gap), inputs)
    return lax.associative_scan(join, given, reverse=reverse)[2]


def _associative_slopes(
    rate: Array, frequency: Array | None, gap: Array, states: _Pair, gradient: _Pair
) -> tuple:
    """The same recurrence backwards, then the slopes of all gates at once."""
    opposite = None if frequency is None else -frequency
    later = jnp.concatenate([gap[1:], jnp.full_like(gap[:1], -1.0)])
    adjoint = _associative(rate, opposite, later, gradient, reverse=True)
    # What reaches the state before event t: conj(a_t) times the adjoint at t.
    through = _times(_gate(rate, opposite, gap), adjoint)
    before = jax.tree.map(lambda state: jnp.roll(state, 1, 0), states)
    real, turned = _inner(through, before, (gap < 0.0)[:, None])
    real, turned = (_heads(x, len(rate)).sum(-1) for x in (real, turned))
    dfrequency, dgap = None, -jnp.matmul(real, rate, precision=EXACT)
    if frequency is not None:
        dfrequency = jnp.matmul(gap, turned, precision=EXACT)
        dgap += jnp.matmul(turned, frequency, precision=EXACT)
    return -jnp.matmul(gap, real, precision=EXACT), dfrequency, dgap, adjoint[0]


_FORWARD = {"sequential": _sequential, "associative": _associative}
_BACKWARD = {"sequential": _sequential_slopes, "associative": _associative_slopes}


def _faded(rate: Array, frequency: Array | None, gap: Array, state: _Pair) -> _Pair:
    """The state a gap later; nothing of it, not even a NaN, through a shut gate."""
    product = _times(_gate(rate, frequency, gap), state)
    return _where(gap < 0.0, jax.tree.map(jnp.zeros_like, product), product)


def _gate(rate: Array, frequency: Array | None, gap: Array) -> _Pair:
    """Real and imaginary part of the gate of each head; 1 where it is shut, for the caller to leave out."""
    gap = jnp.where(gap < 0.0, 0.0, gap)[..., None]
    gap, rate = aligned(1, gap, rate)
    fade = jnp.exp(-gap * rate)
    if frequency is None:
        return fade, None
    angle = gap * aligned(gap.ndim, frequency)[0]
    return fade * jnp.cos(angle), fade * jnp.sin(angle)


def _heads(array: Array, count: int) -> Array:
    """(..., d) as (..., k, d / k)."""
    *outer, width = array.shape
    return array.reshape(*outer, count, width // count)


def _times(gate: _Pair, state: _Pair) -> _Pair:
    """The state (..., d), every dimension times the gate (..., k) of its head."""
    shape, heads = state[0].shape, gate[0].shape[-1]
    real, imaginary = _product(
        (gate[0][..., None], None if gate[1] is None else gate[1][..., None]),
        (_heads(state[0], heads), None if state[1] is None else _heads(state[1], heads)),
    )
    return real.reshape(shape), None if imaginary is None else imaginary.reshape(shape)


def _product(one: _Pair, two: _Pair) -> _Pair:
    if one[1] is None or two[1] is None:
        return one[0] * two[0], None
    return one[0] * two[0] - one[1] * two[1], one[0] * two[1] + one[1] * two[0]


def _plus(one: _Pair, two: _Pair) -> _Pair:
    return one[0] + two[0], None if one[1] is None or two[1] is None else one[1] + two[1]


def _where(condition: Array, one: _Pair, two: _Pair) -> _Pair:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, two)


def _inner(one: _Pair, two: _Pair, shut: Array) -> tuple[Array, Array]:
    """The inner product of each pair of numbers as vectors of the plane, and that of one with two turned by
    a right angle; 0 where a gate was shut between them."""
    if one[1] is None or two[1] is None:
        real, turned = one[0] * two[0], jnp.zeros_like(one[0])
    else:
        real, turned = one[0] * two[0] + one[1] * two[1], one[1] * two[0] - one[0] * two[1]
    return jnp.where(shut, 0.0, real), jnp.where(shut, 0.0, turned)


def _join(state: _Pair) -> Array:
    real, imaginary = state
    return real if imaginary is None else jnp.stack([real, imaginary], axis=1)


def _split(array: Array, frequency: Array | None) -> _Pair:
    return (array, None) if frequency is None else (array[:, 0], array[:, 1])
