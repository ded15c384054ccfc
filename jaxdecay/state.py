r"""The streaming face: one user's interest as a state that each event updates, in JAX.

Mode $m$ of the state at the time $T$ of the latest event holds $z_m = \sum_j w_{jm}\, e^{-(\lambda_m - i
\omega_m)(T - t_j)}\, b_j$; a request at $t \ge T$ reads $\mathrm{Re} \sum_m r_m\, e^{-(\lambda_m - i\omega_m)
(t - T)} z_m$. That is the same sum as the parallel reads of `jaxdecay.readout` and `jaxdecay.hybrid`, to
rounding. Time passes for free: nothing is touched until something happens.

Everything is linear in the events. So an event may come late, two states of different events are merged by
adding them, and an event is forgotten by subtracting it, exactly, for writers that see one event at a time.
A writer that sees more (a gate, a recurrent encoder) gives this up: its history must be replayed.

Times are integer seconds from 0 on one clock and are differenced as integers. One user, no batch axis: use
`jax.vmap`. `jaxdecay.state_numpy` is the same in NumPy, for a machine that serves.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdecay.errors import InputError
from jaxdecay.modes import Modes, whole


class State(NamedTuple):
    """What is left of all events at the time of the latest."""

    value: Float[Array, "p m d"]
    """Real part of each mode and, where modes oscillate, the imaginary part."""
    time: Int[Array, ""]
    """Seconds."""


def init(modes: Modes, width: int) -> State:
    """The state before any event, of vectors of ``width`` numbers."""
    parts = 1 if modes.frequency is None else 2
    return State(jnp.zeros((parts, len(modes.rate), width), modes.rate.dtype), jnp.int32(0))


def update(
    modes: Modes,
    state: State,
    at: Int[Array, ""],
    writes: Float[Array, " m"],
    event: Float[Array, " d"],
) -> State:
    """The state after an event at ``at``, which may be late: then it has faded since."""
    time = jnp.maximum(state.time, at)
    fresh = modes.phasors(whole(time - at)) * writes[None]
    return State(_later(modes, state, time) + fresh[..., None] * event[None, None], time)


def read(modes: Modes, state: State, at: Int[Array, ""], reads: Float[Array, " m"]) -> Float[Array, " d"]:
    """The interest at ``at``, not before the latest event (earlier counts as then)."""
    return modes.read(state.value, reads[None] * modes.phasors(whole(at - state.time)))


def merge(modes: Modes, one: State, two: State) -> State:
    """The state of the events of both, in whatever order they came. Raises InputError if their modes or
    widths differ."""
    if one.value.shape != two.value.shape:
        raise InputError(f"merge: states of {one.value.shape} and {two.value.shape} have nothing in common")
    time = jnp.maximum(one.time, two.time)
    return State(_later(modes, one, time) + _later(modes, two, time), time)


def forget(
    modes: Modes,
    state: State,
    at: Int[Array, ""],
    writes: Float[Array, " m"],
    event: Float[Array, " d"],
) -> State:
    """The state without an event that has been in it, given as it was written."""
    return update(modes, state, at, writes, -event)


def _later(modes: Modes, state: State, time: Int[Array, ""]) -> Float[Array, "p m d"]:
    return modes.advance(state.value, modes.phasors(whole(time - state.time)))
