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

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxdecay.errors import InputError

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

    ``rate`` (per day, from 0) of K heads of D / K dimensions each; ``gap`` (days, from 0) to the event
    before, of which the first is not used; ``keep`` is False where a new history begins, which sees nothing
    of the one before, in value and gradient exactly. ``frequency`` (radians per day): the state oscillates,
    and comes as its real and imaginary parts. Padding on any side is an event of zeros.

    ``backend``: "sequential" (one pass in order; the fastest on a processor) or "associative" (a tree of
    depth log L; for accelerators with histories that are long and few). By default the first on processors
    and TPUs, the second on GPUs. Both give the same to rounding, with the same derivative.

    >>> decay_scan(jnp.log(2.0)[None], jnp.array([0.0, 1.0, 0.0]), jnp.array([[4.0], [1.0], [1.0]]))[:, 0]
    Array([4., 3., 4.], dtype=float32)
    """
    heads, width = len(rate), events.shape[1]
    if not heads or width % heads:
        raise InputError(f"{heads} rates for {width} dimensions: give as many rates, or a divisor of it")
    chosen = backend or ("associative" if jax.default_backend() == "gpu" else "sequential")
    if chosen not in _RUN:
        raise InputError(f"backend={chosen!r}: give one of {', '.join(_RUN)}")
    # The first gap leads from nowhere: whatever it is, there is nothing yet to fade.
    first = jnp.arange(len(gap)) == 0
    on = ~first if keep is None else keep & ~first
    # A shut gate is written as a negative gap: one number less to fetch at every step.
    return _scan(chosen, *_alike(rate, frequency, jnp.where(on, gap, -1.0), events))


def _alike(*arrays: Array | None) -> list[Array | None]:
    """The same arrays, each varying over all mesh axes that any of them varies over: under `jax.shard_map`
    the slopes of shared rates are then summed over shards by whoever shared them. Costs nothing compiled."""
    token = sum(x.ravel()[0] for x in arrays if x is not None)
    return [None if x is None else jnp.where(False, token, x) for x in arrays]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(backend: str, rate: Array, frequency: Array | None, gap: Array, events: Array) -> Array:
    return _forward(backend, rate, frequency, gap, events)[0]


def _forward(
    backend: str, rate: Array, frequency: Array | None, gap: Array, events: Array
) -> tuple[Array, tuple]:
    inputs = (events, None if frequency is None else jnp.where(False, events, 0.0))
    states = _RUN[backend](rate, frequency, gap, inputs, False)
    return _join(states), (rate, frequency, gap, states)


def _backward(backend: str, kept: tuple, given: Array) -> tuple:
    rate, frequency, gap, states = kept
    gradient = _split(given, frequency)
    if backend == "sequential":
        return _swept(rate, frequency, gap, states, gradient)
    later = jnp.concatenate([gap[1:], jnp.full_like(gap[:1], -1.0)])
    opposite = None if frequency is None else -frequency
    adjoint = _RUN[backend](rate, opposite, later, gradient, True)
    # What reaches the state before event t: conj(a_t) times the adjoint at t; nothing does before the first.
    gates = _gate(rate, opposite, gap[:, None])
    real, turned = _inner(_times(gates, adjoint), jax.tree.map(lambda s: jnp.roll(s, 1, 0), states))
    real, turned = (_heads(x, len(rate)).sum(-1) for x in (real, turned))
    dfrequency, dgap = None, -(real @ rate)
    if frequency is not None:
        dfrequency = gap @ turned
        dgap += turned @ frequency
    return -(gap @ real), dfrequency, dgap, adjoint[0]


def _swept(rate: Array, frequency: Array | None, gap: Array, states: _Pair, gradient: _Pair) -> tuple:
    """One pass backwards that adds up the slopes of rates as it goes.

    What comes through the gate of an event meets the state before it one step later, where that state is at
    hand: no copy of the states, shifted by one, is made.
    """
    opposite = None if frequency is None else -frequency
    nothing = jnp.where(False, gradient[0][0], 0.0)  # zeros that vary over mesh axes as events do
    imaginary = None if frequency is None else nothing
    # One number per dimension, not per head, until the end: a sum over a few at every step would cost more.
    wide = partial(jnp.repeat, repeats=len(nothing) // len(rate), total_repeat_length=len(nothing))
    speeds, turns = wide(rate), None if frequency is None else wide(frequency)

    def step(carry: tuple, at: tuple) -> tuple[tuple, tuple]:
        through, later, drate, dfrequency = carry
        gradient, gap, state = at
        real, turned = _inner(through, state)
        dgap = -(speeds * real).sum()
        if turns is not None:
            dgap += (turns * turned).sum()
            dfrequency += later * turned
        adjoint = _plus(gradient, through)
        through = _times(_gate(rate, opposite, gap), adjoint)
        return (through, gap, drate - later * real, dfrequency), (adjoint[0], dgap)

    start = ((nothing, imaginary), jnp.where(False, gap[0], 0.0), nothing, imaginary)
    (_, _, drate, dfrequency), (devents, dgap) = lax.scan(step, start, (gradient, gap, states), reverse=True)
    drate, dfrequency = (None if x is None else _heads(x, len(rate)).sum(-1) for x in (drate, dfrequency))
    return drate, dfrequency, jnp.roll(dgap, 1), devents


_scan.defvjp(_forward, _backward)


def _sequential(rate: Array, frequency: Array | None, gap: Array, inputs: _Pair, reverse: bool) -> _Pair:
    def step(state: _Pair, at: tuple) -> tuple[_Pair, _Pair]:
        gap, given = at
        state = _plus(_times(_gate(rate, frequency, gap), state), given)
        return state, state

    nothing = jnp.where(False, inputs[0][0], 0.0)
    start = (nothing, None if frequency is None else nothing)
    return lax.scan(step, start, (gap, inputs), reverse=reverse)[1]


def _associative(rate: Array, frequency: Array | None, gap: Array, inputs: _Pair, reverse: bool) -> _Pair:
    def join(first: tuple[_Pair, _Pair], second: tuple[_Pair, _Pair]) -> tuple[_Pair, _Pair]:
        return _product(second[0], first[0]), _plus(_times(second[0], first[1]), second[1])

    gates = _gate(rate, frequency, gap[:, None])
    return lax.associative_scan(join, (gates, inputs), reverse=reverse)[1]


_RUN = {"sequential": _sequential, "associative": _associative}


def _gate(rate: Array, frequency: Array | None, gap: Array) -> _Pair:
    """Real and imaginary part of the gate of each head; 0 where the gap is negative."""
    fade = jnp.where(gap < 0.0, 0.0, jnp.exp(-rate * gap))
    if frequency is None:
        return fade, None
    angle = frequency * gap
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


def _inner(one: _Pair, two: _Pair) -> tuple[Array, Array]:
    """The inner product of each pair of numbers as vectors of the plane, and that of one with two turned by
    a right angle."""
    if one[1] is None or two[1] is None:
        return one[0] * two[0], jnp.zeros_like(one[0])
    return one[0] * two[0] + one[1] * two[1], one[1] * two[0] - one[0] * two[1]


def _join(state: _Pair) -> Array:
    real, imaginary = state
    return real if imaginary is None else jnp.stack([real, imaginary], axis=1)


def _split(array: Array, frequency: Array | None) -> _Pair:
    return (array, None) if frequency is None else (array[:, 0], array[:, 1])
