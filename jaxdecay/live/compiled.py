"""The encoder of a trained model, one event at a time: its arrays taken out for NumPy where that has a face
of it, and else its own JAX step, compiled."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecay.encoders import Carry, Places
from jaxdecay.encoders.rates import rates
from jaxdecay.live.encoding import Block, Encoder, Encoding
from jaxdecay.live.layers import Dense, Forward
from jaxdecay.live.mixers import Convolved, Fading, Mixer, recurrent
from jaxdecay.model import Interest
from jaxdecay.predict import Predictor
from jaxdecay.spec import Encoder as Shape

IN_NUMPY = ("mlp", "cnn", "gru", "lstm", "bank")


def encoding_of(predictor: Predictor) -> Encoding:
    """Of a model with an encoder. Raises InputError for one that does not stream
    (`jaxdecay.encoders.Stack.start`)."""
    shape = predictor.model.spec.encoder
    if shape.kind not in IN_NUMPY or shape.precision != "float32":
        return Compiled(predictor)
    params: Any = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), predictor.params["similarity"])
    blocks = [_block(shape, params["encoder"][f"block_{number}"]) for number in range(shape.blocks)]
    return Encoder(
        *_told(predictor), tuple(blocks), params.get("behaviour"), params.get("event_calendar"),
        Forward.of(params["forward"]),
    )  # fmt: skip


class Compiled:
    """In JAX."""

    def __init__(self, predictor: Predictor) -> None:
        self.params, self.last, self._start = _told(predictor)
        self._step = functools.partial(_step, predictor.model, predictor.params)
        self._finish = functools.partial(_finish, predictor.model, predictor.params)

    def start(self) -> Carry:
        return self._start

    def step(
        self, carry: Carry, written: np.ndarray, behaviour: int, at: int, *, counts: bool
    ) -> tuple[Carry, np.ndarray]:
        when: Any = np.int32(at)
        seen: Any = np.bool_(counts)
        carry, encoded = self._step(carry, written, np.int32(behaviour), Places(when, when, seen))
        return carry, np.asarray(encoded)

    def finish(self, query: np.ndarray) -> np.ndarray:
        return np.asarray(self._finish(query))


def _told(predictor: Predictor) -> tuple[Any, np.ndarray | None, Carry]:
    """What both have: parameters that the carry depends on, those of the last event, and the start."""
    params, spec = predictor.params["similarity"], predictor.model.spec
    of_events = [name for name in ("encoder", "behaviour", "event_calendar") if name in params]
    last = params.get("last")
    last = None if last is None else np.asarray(last["kernel"], np.float32)
    start = jax.tree.map(np.asarray, spec.encoder.stack().start(spec.features))
    return {name: params[name] for name in of_events}, last, start


def _block(shape: Shape, params: Mapping[str, Any]) -> Block:
    forward, mixer = Forward.of(params["forward"]), params.get("mixer")
    if mixer is None:
        return Block(None, None, forward)
    return Block(params["norm"]["scale"], _mixer(shape, mixer), forward)


def _mixer(shape: Shape, params: Mapping[str, Any]) -> Mixer:
    if "cell" in params:
        return recurrent(params)
    out = Dense.of(params["out"])
    if "in" in params:
        return Convolved(Dense.of(params["in"]), out)
    days = _rates(shape.half_lives, params, "decay_days_shift")
    steps = _rates(shape.steps, params, "decay_steps_shift")
    days, steps = np.append(days, np.zeros_like(steps)), np.append(np.zeros_like(days), steps)
    softness = np.float32(np.exp(2.0 * params["log_softness"]))
    return Fading(days, steps, Dense.of(params["value"], params["gate"]), out, softness)


def _rates(starts: tuple[float, ...], params: Mapping[str, Any], name: str) -> np.ndarray:
    return np.asarray(rates(starts, jnp.asarray(params[name]) if name in params else None))


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
