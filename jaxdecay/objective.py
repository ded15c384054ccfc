"""The loss of every target of a batch. Pure functions of arrays."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from jaxdecay import losses
from jaxdecay.data.batches import Batch
from jaxdecay.errors import InputError
from jaxdecay.history import Items
from jaxdecay.layout import Layout
from jaxdecay.model import Interest, Read, Written
from jaxdecay.optimizer import TEXT
from jaxdecay.priors import Priors
from jaxdecay.scorer import AnyScorer
from jaxdecay.tally import Tally
from jaxdecay.titles import Titles

_HIDDEN = 0.25  # share of the late items that a batch hides
_LATE = 0.3  # share of the log, at most, that is left when a late item comes

Loss = Literal["softmax", "sampled-softmax", "gbce", "bce"]


class Constants(struct.PyTreeNode):
    """What every step reads and no step changes."""

    items: Items
    shares: Float[Array, "r g v"] | None
    """At the points of the catalogue's time grid, for the softmax alone."""
    entry: Int[Array, " v"] | None
    """Point of that grid from which each item is a candidate; every target is one."""
    tally: Tally | None
    """What shares are worked out from, for losses on negatives alone."""
    came: Int[Array, " v"] | None
    """int32 seconds, as those of requests: after which each item is a candidate."""
    priors: Priors
    taken: Int[Array, " v"]
    """How often each item and all those before it were taken in training: what negatives are drawn by."""
    since: Float[Array, " v"]
    """Share of the training events that were no earlier than the item's first."""
    titles: Titles | None = None
    """Where a language model is trained along."""


class Objective(NamedTuple):
    """Which loss, and what it draws its negatives by: see `jaxdecay.train.TrainOptions`."""

    loss: Loss = "softmax"
    negatives: int = 0
    uniform_negatives: float = 0.0
    calibration: float = 0.0
    seed: int = 0
    """Of negatives and of what drops out."""
    id_dropout: float = 0.0


def batch_loss(
    model: Interest,
    params: Any,
    batch: Batch,
    constants: Constants,
    objective: Objective,
    step: Int[Array, ""] | None,
    layout: Layout = Layout(),  # noqa: B008 (frozen)
) -> Float[Array, "b w"]:
    """The loss of every target of a batch among the items that were candidates when it was taken; 0 where the
    place is padding.

    Negatives, and what drops out, are drawn for the batch of each ``step`` from (seed, step) alone; without a
    step nothing drops out, and the softmax alone is there. Its popularity is that of the last point of the
    time grid before each target; with a loss on negatives it is that of the very moment, and of items that
    were not drawn nothing is computed but their vectors.
    """
    negatives = dropout = None
    if step is not None:
        key = jax.random.fold_in(jax.random.key(objective.seed), step)
        draws, drops, hides = jax.random.split(key, 3)
        alones = jax.random.fold_in(hides, 2)  # as split, it counts from 0: hiding has the first two
        if model.spec.cold_items:
            constants = constants.replace(items=hidden(constants, hides))
        if objective.id_dropout:
            constants = constants.replace(items=alone(constants.items, objective.id_dropout, alones))
        dropout = drops if model.spec.encoder.dropout else None
        if objective.loss != "softmax":
            share = objective.uniform_negatives
            negatives = losses.draw(draws, constants.taken, objective.negatives, uniform=share)
    params, constants = _with_titles(params, batch, constants, negatives)
    asked = negatives.item if negatives and objective.loss != "sampled-softmax" else None
    scorer, written = _scorer(model, params, constants, sparse=negatives is not None)
    read = _read(model, params, batch, constants, written, asked, dropout)
    loss: Any = {
        "softmax": losses.softmax,
        "sampled-softmax": losses.sampled_softmax,
        "gbce": functools.partial(losses.gbce, calibration=objective.calibration),
        "bce": losses.bce,
    }[objective.loss]

    def of_rows(query: Array, moment: Array, target: Array, excitation: Any, where: Array) -> Array:
        return loss(query, moment, target, scorer, excitation, negatives=negatives, where=where)

    flat = functools.partial(jax.tree.map, lambda x: x.reshape(-1, *x.shape[2:]))
    moment = batch.requests.at if negatives else batch.grid
    rows = (read.query, moment, batch.target, read.excitation, batch.valid)
    return layout.by_rows(of_rows)(*map(flat, rows)).reshape(batch.valid.shape)


def _with_titles(
    params: Any, batch: Batch, constants: Constants, negatives: losses.Negatives | None
) -> tuple[Any, Constants]:
    """The model's own parameters, and items with titles as the language model reads them now."""
    if constants.titles is None:
        return params, constants
    nobody = constants.items.index.shape[0]
    history = jnp.where(batch.history.mask, batch.history.item, nobody)[:, ::-1]
    named = [
        *([] if negatives is None else [negatives.item]),
        jnp.where(batch.valid, batch.target, nobody).ravel(),
        history.T.ravel(),  # everybody's latest event first
    ]
    items = constants.titles.renewed(params[TEXT], constants.items, jnp.concatenate(named))
    own = {name: part for name, part in params.items() if name != TEXT}
    return own, constants.replace(items=items)


def hidden(constants: Constants, key: Array) -> Items:
    """The catalogue of one batch: some of the latest items have no vector, bias or weights of their own, as
    if training had ended before they came.

    So what is left of an item that came after training, its columns and its popularity, learns to speak for
    it. Hiding what cold items lack is an idea of Volkovs, Yu and Poutanen, *DropoutNet* (2017); here it is
    what time would hide.
    """
    when, which = jax.random.split(key)
    late = constants.since < _LATE * jax.random.uniform(when)
    hide = late & jax.random.bernoulli(which, _HIDDEN, late.shape)
    return constants.items._replace(index=jnp.where(hide, late.shape[0], constants.items.index))


def alone(items: Items, share: float, key: Array) -> Items:
    """The catalogue of one batch: the vectors of a share of the items are left out, so that their columns
    learn to stand alone."""
    keep = jax.random.bernoulli(key, 1.0 - share, items.index.shape)
    return items._replace(own=keep)


def batch_log_likelihood(
    model: Interest, params: Any, batch: Batch, constants: Constants
) -> Float[Array, "b w"]:
    """Log-likelihood of every target of a batch among the candidates of its moment, nothing dropped out; 0
    where the place is padding."""
    return -batch_loss(model, params, batch, constants, Objective(), None)


def _scorer(model: Interest, params: Any, constants: Constants, *, sparse: bool) -> tuple[AnyScorer, Written]:
    """What scores items that are candidates, and what their events write."""
    apply: Any = functools.partial(model.apply, {"params": params}, constants.items)
    if (constants.tally if sparse else constants.shares) is None:
        kind = "a loss on negatives" if sparse else "the softmax"
        raise InputError(
            f"these constants are not for {kind}: assemble them with the loss they are used with"
        )
    if sparse:
        scorer, written = apply(constants.tally, method=Interest.sparse_scorer)
        return scorer._replace(came=constants.came), written
    scorer, written = apply(constants.shares, method=Interest.scorer)
    return scorer.from_entry(constants.entry), written


def _read(
    model: Interest,
    params: Any,
    batch: Batch,
    constants: Constants,
    written: Written,
    negatives: Int[Array, " n"] | None,
    dropout: Array | None,
) -> Read:
    """What the requests of each row read."""
    variables = {"params": params}

    def user(history: Any, requests: Any, target: Array, key: Array | None) -> Any:
        given = (history, requests, target, constants.items, written, negatives)
        drawn = None if key is None else {"dropout": key}
        return model.apply(variables, *given, training=key is not None, rngs=drawn)

    keys = None
    if dropout is not None:  # by whose row it is, not by where it stands in the batch: layouts differ in that
        own = jax.vmap(jax.random.fold_in, (None, 0))(dropout, batch.history.user)
        keys = jax.vmap(jax.random.fold_in)(own, batch.requests.at[:, 0])
    return jax.vmap(user)(batch.history, batch.requests, batch.target, keys)
