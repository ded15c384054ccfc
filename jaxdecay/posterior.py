r"""The log-posterior of how interest fades, everything else held fixed: $\sum_u \ell_u(\theta) -
\text{penalty}(\theta)$ in the parameters $\theta$ that all users share (half-lives, periods, envelopes, group
and behaviour weights, levels).

Vectors of items and the deviations of single items and users stay where training left them; what is read off
this posterior does not contain their uncertainty.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from jaxdecay.data.batches import Batch, Batches
from jaxdecay.model import Interest
from jaxdecay.objective import Constants, batch_log_likelihood
from jaxdecay.optimizer import is_decay, is_level
from jaxdecay.priors import penalty

_OWN = ("item_write", "content_write", "user_read", "cold_level", "cold_exponent", "decay_cold_mixture")


class Scores(NamedTuple):
    """Slopes of each user's log-likelihood; the last of the U+1 rows is nobody."""

    whole: np.ndarray
    """(U+1, D) with each target as often as it counts (`jaxdecay.data.batches.Batch.evidence`)."""
    roots: np.ndarray
    """(U+1, D) with the root of that: scores of targets are uncorrelated, each given what came before it, so
    that these squares add up to the curvature, and those of the others to what the slopes vary by."""


class Posterior(NamedTuple):
    """The log-posterior of a trained model, in a vector of D numbers."""

    start: np.ndarray
    """(D,) the trained parameters."""
    restore: Callable[[Any], Any]
    """From a vector to the whole parameter tree."""
    scores: Callable[[np.ndarray, Batches], Scores]
    """At a vector, over an epoch."""
    towards_prior: Callable[[np.ndarray], np.ndarray]
    """(D,) the slope of the prior's logarithm."""
    precision: np.ndarray
    """(D, D) of the prior, at the start."""


def posterior(model: Interest, params: Any, constants: Constants, *, alike: bool) -> Posterior:
    """That of a model over the log whose ``constants`` are for the full softmax. ``alike``: all targets count
    alike, so that one slope does for both kinds of scores."""
    shared, fixed = _part(params)
    start, restore_shared = ravel_pytree(shared)

    def restore(theta: Any) -> Any:
        return _merge(restore_shared(jnp.asarray(theta, jnp.float32)), fixed)

    def likelihood(theta: Array, row: Batch, constants: Constants) -> Array:
        """(w,) of each target of a row."""
        row, constants = _own_moments(row, constants)
        one = jax.tree.map(lambda x: x[None], row)
        return batch_log_likelihood(model, restore(theta), one, constants)[0]

    @jax.jit
    def slopes(theta: Array, batch: Batch, constants: Constants) -> Array:
        """(b, 1 or 2, D) by evidence, and by its root."""

        def of_row(row: Batch) -> Array:
            _, back = jax.vjp(lambda theta: likelihood(theta, row, constants), theta)
            counts = (row.evidence,) if alike else (row.evidence, jnp.sqrt(row.evidence))
            return jnp.stack([back(count)[0] for count in counts])

        # Row by row: the scores of all items for several of them would not stay in the caches.
        return jax.lax.map(of_row, batch)

    def scores(theta: np.ndarray, batches: Batches) -> Scores:
        total = np.zeros((batches.histories.known_users + 1, 1 if alike else 2, len(start)))
        for step in range(batches.per_epoch):
            batch = batches[step]
            found = slopes(jnp.asarray(theta, jnp.float32), batch, constants)
            np.add.at(total, batch.history.user, np.asarray(found, np.float64))
        return Scores(total[:, 0], total[:, -1])

    prior = jax.jit(lambda theta: -jax.grad(lambda t: penalty(restore(t), constants.priors))(theta))

    def towards_prior(theta: np.ndarray) -> np.ndarray:
        return np.asarray(prior(jnp.asarray(theta, jnp.float32)), np.float64)

    precision = -np.asarray(jax.jit(jax.jacfwd(prior))(start), np.float64)
    return Posterior(np.asarray(start, np.float64), restore, scores, towards_prior, precision)


def _own_moments(row: Batch, constants: Constants) -> tuple[Batch, Constants]:
    """The row with its own targets' points of the time grid in place of all: a slope goes through the
    popularity of every item at each of them."""
    points = jax.lax.cummax(row.grid)  # targets are in order of time; what is none stands at 0
    assert constants.shares is not None
    assert constants.entry is not None
    came = jnp.searchsorted(points, constants.entry).astype(row.grid.dtype)
    own = constants.replace(shares=constants.shares[:, points], entry=came)
    return row._replace(grid=jnp.arange(len(points), dtype=row.grid.dtype)), own


def _part(params: Any) -> tuple[Any, Any]:
    """The shared decay parameters and levels, and the rest, as trees with None in each other's places."""

    def chosen(path: Any) -> bool:
        return (is_decay(path) or is_level(path)) and path[-1].key not in _OWN

    shared = jax.tree.map_with_path(lambda path, x: x if chosen(path) else None, params)
    fixed = jax.tree.map_with_path(lambda path, x: None if chosen(path) else x, params)
    return shared, fixed


def _merge(shared: Any, fixed: Any) -> Any:
    return jax.tree.map(lambda a, b: b if a is None else a, shared, fixed, is_leaf=lambda x: x is None)
