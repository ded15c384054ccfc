"""What the blocks of an encoder find of the events before, one event at a time, in NumPy: the mixers of
`jaxdecay.encoders` that carry a state of fixed size. Each takes what it carries and the (D,) float32 of an
event that counts, and gives what it carries then and what it finds; nothing is changed in place.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxdecay.live.clock import DAY
from jaxdecay.live.layers import Dense, sigmoid, silu


class Fading(NamedTuple):
    """States of H heads, faded by time and by events (`jaxdecay.encoders.bank`)."""

    days: np.ndarray
    """(H,) float32 rates per day, 0 for heads that fade by events."""
    steps: np.ndarray
    """(H,) float32 rates per event, likewise."""
    read: Dense
    """(D, 2 D): values, then gates."""
    out: Dense
    softness: np.float32
    """Squared."""

    def step(self, carry: Any, x: np.ndarray, at: int) -> tuple[Any, np.ndarray]:
        """At ``at`` (seconds since the origin); the carry is a `jaxdecay.encoders.bank.Faded`."""
        state, time = carry
        read, width = self.read(x), len(x)
        lost = self.days * np.float32(max(at - int(time), 0) / DAY) + self.steps
        state = (state.reshape(len(lost), -1) * np.exp(-lost)[:, None]).ravel() + read[:width]
        length = np.sqrt(np.float32(state @ state) / np.float32(len(state)) + self.softness)
        return type(carry)(state, np.int32(at)), self.out(state / length * silu(read[width:]))


class Gru(NamedTuple):
    """(`jaxdecay.encoders.recurrent`)"""

    read: Dense
    """(D, 3 D): reset, update, new."""
    again: Dense
    """Likewise of what is carried."""
    out: Dense

    def step(self, carry: np.ndarray, x: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
        width, fresh, held = len(x), self.read(x), self.again(carry)
        gates = sigmoid(fresh[: 2 * width] + held[: 2 * width])
        new = np.tanh(fresh[2 * width :] + gates[:width] * held[2 * width :])
        after = new + gates[width:] * (carry - new)
        return after, self.out(after)


class Lstm(NamedTuple):
    """(`jaxdecay.encoders.recurrent`)"""

    read: Dense
    """(2 D, 4 D): of what is carried and of the event, side by side; in, forget, out, then memory."""
    out: Dense

    def step(self, carry: Any, x: np.ndarray, at: int) -> tuple[Any, np.ndarray]:
        memory, output = carry
        found = self.read(np.concatenate([output, x]))
        width = len(x)
        gates, new = sigmoid(found[: 3 * width]), np.tanh(found[3 * width :])
        memory = gates[width : 2 * width] * memory + gates[:width] * new
        output = gates[2 * width :] * np.tanh(memory)
        return (memory, output), self.out(output)


class Convolved(NamedTuple):
    """(`jaxdecay.encoders.convolution`)"""

    read: Dense
    """(S D, D): the oldest first."""
    out: Dense

    def step(self, carry: np.ndarray, x: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.concatenate([carry, x[None]])
        return rows[1:], self.out(silu(self.read(rows.ravel())))


Mixer: TypeAlias = Fading | Gru | Lstm | Convolved


def recurrent(params: Mapping[str, Any]) -> Gru | Lstm:
    """Of a `jaxdecay.encoders.recurrent.Recurrent`."""
    cell, out = params["cell"], Dense.of(params["out"])
    if "ir" in cell:
        read, again = (Dense.of(*(cell[side + gate] for gate in "rzn")) for side in "ih")
        return Gru(read, again, out)
    event, carried = (Dense.of(*(cell[side + gate] for gate in "ifog")) for side in "ih")
    return Lstm(Dense(np.concatenate([carried.kernel, event.kernel]), carried.bias + event.bias), out)
