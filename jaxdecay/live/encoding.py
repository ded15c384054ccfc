"""An encoder one event at a time: what each event writes after those before it, and what becomes of the
interest that is read."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxdecay.live import clock
from jaxdecay.live.layers import Forward, normed
from jaxdecay.live.mixers import Mixer

Carry = tuple[Any, ...]
"""What each block carries (`jaxdecay.encoders.Stack.start`): arrays of fixed shapes."""


@runtime_checkable
class Encoding(Protocol):
    """The two faces of it: `Encoder` in NumPy, `jaxdecay.live.compiled.Compiled` in JAX."""

    @property
    def params(self) -> Any:
        """All that what is carried depends on."""
        ...

    @property
    def last(self) -> np.ndarray | None:
        """(D, D) float32 that the last event passes beside the bank; None: it is all that is read."""
        ...

    def start(self) -> Carry:
        """What is carried before any event."""
        ...

    def step(
        self, carry: Carry, written: np.ndarray, behaviour: int, at: int, *, counts: bool
    ) -> tuple[Carry, np.ndarray]:
        """What is carried after an event at ``at`` (seconds since the origin), and what it writes (D,)."""
        ...

    def finish(self, query: np.ndarray) -> np.ndarray:
        """(D,) the interest as it is compared with items, before its length is softened."""
        ...


class Block(NamedTuple):
    """A mixer, which reads what is normalised by ``norm`` (D,), and a feed-forward."""

    norm: np.ndarray | None
    mixer: Mixer | None
    """None: each event by itself."""
    forward: Forward


class Encoder(NamedTuple):
    """In NumPy, for the encoders of `jaxdecay.live.mixers`, in float32."""

    params: Any
    last: np.ndarray | None
    begin: Carry
    blocks: tuple[Block, ...]
    behaviour: np.ndarray | None
    """(B, D) float32 what the encoder is told of each behaviour."""
    hours: np.ndarray | None
    """(8, D) float32 and of the calendar."""
    forward: Forward
    """That of the query."""

    def start(self) -> Carry:
        return self.begin

    def step(
        self, carry: Carry, written: np.ndarray, behaviour: int, at: int, *, counts: bool
    ) -> tuple[Carry, np.ndarray]:
        if not counts:
            return carry, np.zeros_like(written)
        x, after = written, []
        if self.behaviour is not None:
            x = x + self.behaviour[behaviour]
        if self.hours is not None:
            x = x + clock.calendar(at) @ self.hours
        for block, held in zip(self.blocks, carry, strict=True):
            if block.mixer is not None:
                assert block.norm is not None
                held, found = block.mixer.step(held, normed(x, block.norm), at)
                x = x + found
            after.append(held)
            x = block.forward(x)
        return tuple(after), x

    def finish(self, query: np.ndarray) -> np.ndarray:
        return self.forward(query)
