"""The streaming face in plain NumPy, for a machine that serves: the functions of `jaxdecay.state`, with the
same results to rounding and a few microseconds an event.

No JAX here. Times are whole seconds from 0. Modes are a pair of float32 arrays, rates (m,) per day and
frequencies (m,) in radians per day or None (`jaxdecay.modes.Modes` of NumPy arrays is one).
"""

from typing import NamedTuple

import numpy as np

_SECONDS_PER_DAY = 86_400.0
Modes = tuple[np.ndarray, np.ndarray | None]


class State(NamedTuple):
    """What is left of all events at the time of the latest."""

    value: np.ndarray
    """(m, d): float32, or complex64 where modes oscillate."""
    time: int
    """Seconds."""


def init(modes: Modes, width: int) -> State:
    """The state before any event, of vectors of ``width`` numbers."""
    rate, frequency = modes
    return State(np.zeros((len(rate), width), np.float32 if frequency is None else np.complex64), 0)


def update(modes: Modes, state: State, at: int, writes: np.ndarray, event: np.ndarray) -> State:
    """The state after an event (d,) at ``at`` (seconds), written by ``writes`` (m,); it may be late."""
    gap = at - state.time
    if gap < 0:
        return State(state.value + (writes * _turn(modes, -gap))[:, None] * event, state.time)
    value = state.value * _turn(modes, gap)[:, None]
    value += writes[:, None] * event
    return State(value, at)


def read(modes: Modes, state: State, at: int, reads: np.ndarray) -> np.ndarray:
    """(d,) the interest at ``at``, not before the latest event (earlier counts as then)."""
    return ((reads * _turn(modes, max(at - state.time, 0))) @ state.value).real


def merge(modes: Modes, one: State, two: State) -> State:
    """The state of the events of both, in whatever order they came."""
    early, late = (one, two) if one.time <= two.time else (two, one)
    return State(late.value + early.value * _turn(modes, late.time - early.time)[:, None], late.time)


def forget(modes: Modes, state: State, at: int, writes: np.ndarray, event: np.ndarray) -> State:
    """The state without an event that has been in it, given as it was written."""
    return update(modes, state, at, writes, -event)


def _turn(modes: Modes, seconds: int) -> np.ndarray:
    """(m,) by what each mode has faded and turned after so many seconds."""
    rate, frequency = modes
    if frequency is None:
        return np.exp(rate * (seconds / -_SECONDS_PER_DAY))
    days = np.float32(seconds / _SECONDS_PER_DAY)
    return np.exp(-rate * days) * np.exp(np.complex64(1j) * (frequency * days))
