"""An encoder one event at a time: the one part of a served model that needs JAX."""

import functools
from typing import Any

import jax
import numpy as np

from jaxdecay.encoders import Carry, Places
from jaxdecay.model import Interest
from jaxdecay.predict import Predictor


class Encoding:
    """What each event writes after those before it, and what becomes of the interest that is read.

    Raises InputError for an encoder that does not stream (`jaxdecay.encoders.Stack.start`).
    """

    def __init__(self, predictor: Predictor) -> None:
        spec = predictor.model.spec
        params = predictor.params
        of_events = ("encoder", "behaviour", "event_calendar")
        self.params = {name: params["similarity"][name] for name in of_events if name in params["similarity"]}
        """All that what is carried depends on."""
        self._step = functools.partial(_step, predictor.model, params)
        self._finish = functools.partial(_finish, predictor.model, params)
        self._start = jax.tree.map(np.asarray, spec.encoder.stack().start(spec.features))
        last = params["similarity"].get("last")
        self.last = None if last is None else np.asarray(last["kernel"], np.float32)
        """(D, D) that the last event passes beside the bank; None: it is all that is read."""

    def start(self) -> Carry:
        """What is carried before any event."""
        return self._start

    def step(
        self, carry: Carry, written: np.ndarray, behaviour: int, at: int, *, counts: bool
    ) -> tuple[Carry, np.ndarray]:
        """What is carried after an event at ``at`` (seconds since the origin), and what it writes (D,)."""
        when: Any = np.int32(at)
        seen: Any = np.bool_(counts)
        place = Places(when, when, seen)
        carry, encoded = self._step(carry, written, np.int32(behaviour), place)
        return carry, np.asarray(encoded)

    def finish(self, query: np.ndarray) -> np.ndarray:
        """(D,) the interest as it is compared with items, before its length is softened."""
        return np.asarray(self._finish(query))


@functools.partial(jax.jit, static_argnums=0)
def _step(model: Interest, params: dict, carry: Any, written: Any, behaviour: Any, place: Places) -> Any:
    def one(bound: Any) -> Any:
        return bound.similarity.step(carry, written, behaviour, place)

    return model.apply({"params": params}, method=one)


@functools.partial(jax.jit, static_argnums=0)
def _finish(model: Interest, params: dict, query: Any) -> Any:
    def one(bound: Any) -> Any:
        return bound.similarity.forward(query[None])[0]

    return model.apply({"params": params}, method=one)
