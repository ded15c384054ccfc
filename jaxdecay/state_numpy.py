"""The streaming face in plain NumPy, for a machine that serves: the functions of `jaxdecay.state`, with the
same results to rounding and a few microseconds an event.

No JAX here. Times are whole seconds from 0. Modes are a pair of arrays, rates (m,) per day and frequencies
(m,) in radians per day or None (`jaxdecay.modes.Modes` of NumPy arrays is one). A state has the precision of
the rates, float32 or float64.
"""

import operator
from typing import NamedTuple

import numpy as np
from scipy.linalg import get_blas_funcs

from jaxdecay.errors import InputError

_SECONDS_PER_DAY = 86_400.0
# One pass over the state instead of two, and no array between: an event costs little more than the calls.
_ADD_OUTER = {kind: get_blas_funcs("ger" if kind in "fd" else "geru", dtype=kind) for kind in "fdFD"}
Modes = tuple[np.ndarray, np.ndarray | None]
Seconds = int | np.integer


class State(NamedTuple):
    """What is left of all events at the time of the latest (seconds)."""

    value: np.ndarray
    """(m, d): real, or complex where modes oscillate."""
    time: int


def init(modes: Modes, width: int) -> State:
    """The state before any event, of vectors of ``width`` numbers."""
    rate, frequency = modes
    dtype = rate.dtype if frequency is None else np.result_type(rate, np.complex64)
    return State(np.zeros((len(rate), width), dtype), 0)


def update(modes: Modes, state: State, at: Seconds, writes: np.ndarray, event: np.ndarray) -> State:
    """The state after an event (d,) at ``at`` (seconds), written by ``writes`` (m,); it may be late."""
    at = operator.index(at)  # int32 times would overflow, and a float is no time
    value, time = state
    gap = at - time
    if gap < 0:
        return State(_added(value.T.copy("F"), writes * _turn(modes, -gap), event), time)
    return State(_added(value.T * _turn(modes, gap), writes, event), at)


def read(modes: Modes, state: State, at: Seconds, reads: np.ndarray) -> np.ndarray:
    """(d,) the interest at ``at``, not before the latest event (earlier counts as then)."""
    return ((reads * _turn(modes, max(operator.index(at) - state.time, 0))) @ state.value).real


def merge(modes: Modes, one: State, two: State) -> State:
    """The state of the events of both, in whatever order they came. Raises InputError if their modes or
    widths differ."""
    if one.value.shape != two.value.shape:
        raise InputError(f"merge: states of {one.value.shape} and {two.value.shape} have nothing in common")
    early, late = (one, two) if one.time <= two.time else (two, one)
    return State(late.value + early.value * _turn(modes, late.time - early.time)[:, None], late.time)


def forget(modes: Modes, state: State, at: Seconds, writes: np.ndarray, event: np.ndarray) -> State:
    """The state without an event that has been in it, given as it was written."""
    return update(modes, state, at, writes, -event)


def _added(value: np.ndarray, writes: np.ndarray, event: np.ndarray) -> np.ndarray:
    """The state of which ``value`` (d, m), overwritten, is the transpose, plus the outer product."""
    # By position (steps of 1, then what may be overwritten): keywords would cost as much as the sum.
    return _ADD_OUTER[value.dtype.char](1.0, event, writes, 1, 1, value, 1, 1, 1).T


def _turn(modes: Modes, seconds: int) -> np.ndarray:
    """(m,) by what each mode has faded and turned after so many seconds."""
    rate, frequency = modes
    if frequency is None:
        turn = np.multiply(rate, seconds / -_SECONDS_PER_DAY)
        return np.exp(turn, out=turn)
    # In float64: in float32 the angle of a daily rhythm is off by 4e-4 radians after three years.
    days = seconds / _SECONDS_PER_DAY
    turn = np.exp((1j * frequency.astype(np.float64) - rate) * days)
    return turn.astype(np.result_type(rate, np.complex64))
