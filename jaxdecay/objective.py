"""What training makes small: a loss of every target of a batch. Pure functions of arrays."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from jaxdecay import losses
from jaxdecay.data.batches import Batch
from jaxdecay.history import Items
from jaxdecay.model import Interest, Read
from jaxdecay.priors import Priors

Loss = Literal["softmax", "sampled-softmax", "gbce", "bce"]


class Constants(struct.PyTreeNode):
    """What every step reads and no step changes."""

    items: Items
    shares: Float[Array, "g v r"]
    priors: Priors
    taken: Int[Array, " v"]
    """How often each item and all those before it were targets of training: what negatives are drawn by."""


class Objective(NamedTuple):
    """Which loss, and what it draws its negatives by: see `jaxdecay.train.TrainOptions`."""

    loss: Loss = "softmax"
    negatives: int = 0
    uniform_negatives: float = 0.0
    calibration: float = 0.0
    seed: int = 0
    """Of negatives and of what drops out."""


def batch_loss(
    model: Interest,
    params: Any,
    batch: Batch,
    constants: Constants,
    objective: Objective,
    step: Int[Array, ""],
) -> Float[Array, "b w"]:
    """The loss of every target of a batch; 0 where the place is padding.

    Negatives, and what drops out, are drawn for the batch of each ``step`` from (seed, step) alone. With a
    loss on negatives nothing as large as targets by items is computed, nor as points of time by items.
    """
    draws, drops = jax.random.split(jax.random.fold_in(jax.random.key(objective.seed), step))
    dropout = drops if model.spec.encoder.dropout else None
    if objective.loss == "softmax":
        return -batch_log_likelihood(model, params, batch, constants, dropout)
    negatives = losses.draw(draws, constants.taken, objective.negatives, uniform=objective.uniform_negatives)
    asked = negatives.item if objective.loss != "sampled-softmax" else None
    scorer, read = _read(model, params, batch, constants, Interest.sparse_scorer, asked, dropout)
    loss = {
        "sampled-softmax": losses.sampled_softmax,
        "gbce": functools.partial(losses.gbce, calibration=objective.calibration),
        "bce": losses.bce,
    }[objective.loss]
    result = loss(*_flat(read, batch, scorer), negatives=negatives, where=batch.valid.reshape(-1))
    return result.reshape(batch.valid.shape)


def batch_log_likelihood(
    model: Interest, params: Any, batch: Batch, constants: Constants, dropout: Array | None = None
) -> Float[Array, "b w"]:
    """Log-likelihood of every target of a batch among all items; 0 where the place is padding. ``dropout``:
    the key by which parts of the encoder drop out, as in training."""
    scorer, read = _read(model, params, batch, constants, Interest.scorer, None, dropout)
    result = losses.log_likelihood(*_flat(read, batch, scorer))
    return jnp.where(batch.valid, result.reshape(batch.valid.shape), 0.0)


def _read(
    model: Interest,
    params: Any,
    batch: Batch,
    constants: Constants,
    method: Any,
    negatives: Int[Array, " n"] | None,
    dropout: Array | None,
) -> tuple[Any, Read]:
    """What scores items, by ``method``, and what the requests of each row read."""
    variables = {"params": params}
    scorer, vectors = model.apply(variables, constants.items, constants.shares, method=method)

    def user(history: Any, requests: Any, target: Array, key: Array | None) -> Any:
        given = (history, requests, target, constants.items, vectors, negatives)
        drawn = None if key is None else {"dropout": key}
        return model.apply(variables, *given, training=key is not None, rngs=drawn)

    keys = None if dropout is None else jax.random.split(dropout, len(batch.target))
    return scorer, jax.vmap(user)(batch.history, batch.requests, batch.target, keys)


def _flat(read: Read, batch: Batch, scorer: Any) -> tuple[Any, ...]:
    """The arguments of every loss, rows and their places on one axis."""
    flat = functools.partial(jax.tree.map, lambda x: x.reshape(-1, *x.shape[2:]))
    return flat(read.query), flat(batch.grid), flat(batch.target), scorer, flat(read.excitation)
