r"""Refits of how interest fades, everything else held fixed: what a bootstrap over users repeats many times.

A refit solves the score equations of the weighted log-posterior, $\sum_u m_u \nabla \ell_u(\theta) = \nabla
\text{penalty}(\theta)$, in the parameters $\theta$ that all users share (half-lives, periods, envelopes,
group and behaviour weights, levels), by Fisher scoring: the information matrix is summed from the users'
own scores once, each iteration costs one pass over the data. Vectors of items and the deviations of single
items and users stay where training left them; the intervals do not contain their uncertainty.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxdecay.data.batches import Batch, Batches
from jaxdecay.model import Interest
from jaxdecay.optimizer import is_decay, is_level
from jaxdecay.priors import penalty
from jaxdecay.train import Constants, batch_log_likelihood

_OWN = ("item_write", "user_read")
_DAMPING = (
    1.0  # of the information, in the units of a logit or a log half-life; slows a step, does not move its end
)


class Problem(NamedTuple):
    """The shared decay parameters of a trained model as one vector, and what a refit needs of the data."""

    start: Float[Array, " d"]
    restore: Callable[[Any], Any]
    """From a vector to the whole parameter tree."""
    scores: Callable[[Any, Batch], Any]
    """Gradient of each row's log-likelihood: (B, d)."""
    total: Callable[[Any, Batch, Any], Any]
    """Gradient of the weighted sum of the rows' log-likelihoods: (d,)."""
    prior: Callable[[Any], Any]
    """Gradient of the priors' log-density: (d,)."""
    batches: Batches
    information: np.ndarray
    """(d, d) Fisher information at the start, of all users, with the priors' curvature."""


def pose(model: Interest, params: Any, batches: Batches, constants: Constants) -> Problem:
    """Sets up the refits of a trained model: one pass over the data for the information matrix."""
    shared, fixed = _part(params)
    start, restore_shared = ravel_pytree(shared)

    def restore(theta: Float[Array, " d"]) -> Any:
        return _merge(restore_shared(theta), fixed)

    def likelihood(theta: Array, batch: Batch, constants: Constants, weight: Array) -> Array:
        rows = batch_log_likelihood(model, restore(theta), batch, constants).sum(-1)
        return (rows * weight).sum()

    def row_score(theta: Array, batch: Batch, constants: Constants) -> Array:
        one = jax.tree.map(lambda x: x[None], batch)
        return jax.grad(likelihood)(theta, one, constants, jnp.ones(1))

    scores = jax.jit(jax.vmap(row_score, in_axes=(None, 0, None)))
    total = jax.jit(jax.grad(likelihood))
    prior = jax.jit(lambda theta: -jax.grad(lambda t: penalty(restore(t), constants.priors))(theta))
    curvature = jax.jit(jax.hessian(lambda t: penalty(restore(t), constants.priors)))(start)
    problem = Problem(
        start,
        restore,
        lambda theta, batch: scores(theta, batch, constants),
        lambda theta, batch, weight: total(theta, batch, constants, weight),
        prior,
        batches,
        np.zeros((0, 0)),
    )
    information = _information(problem) + np.asarray(curvature, np.float64)
    return problem._replace(information=information + _DAMPING * np.eye(len(start)))


def solve(problem: Problem, start: np.ndarray, weights: np.ndarray, *, iterations: int = 3) -> np.ndarray:
    """The shared parameters refitted with each user counted ``weights[user]`` times (U+1,), as a vector
    (d,) to `Problem.restore`."""
    theta = np.asarray(start, np.float64)
    for _ in range(iterations):
        gradient = np.asarray(problem.prior(jnp.asarray(theta, jnp.float32)), np.float64)
        for batch in _epoch(problem.batches):
            weight = jnp.asarray(weights[batch.history.user], jnp.float32)
            gradient = gradient + np.asarray(
                problem.total(jnp.asarray(theta, jnp.float32), batch, weight), np.float64
            )
        theta = theta + np.clip(np.linalg.solve(problem.information, gradient), -1.0, 1.0)
    return theta


def _information(problem: Problem) -> np.ndarray:
    """Sum over users of the outer product of their scores, about their mean: rows of one user are added up
    first."""
    size = len(problem.start)
    users = problem.batches.histories.known_users
    by_user = np.zeros((users + 1, size))
    for batch in _epoch(problem.batches):
        np.add.at(by_user, batch.history.user, np.asarray(problem.scores(problem.start, batch), np.float64))
    return by_user.T @ by_user


def _epoch(batches: Batches) -> Any:
    return (batches[step] for step in range(batches.per_epoch))


def _part(params: Any) -> tuple[Any, Any]:
    """The shared decay parameters and levels, and the rest, as trees with None in each other's places."""

    def chosen(path: Any) -> bool:
        return (is_decay(path) or is_level(path)) and path[-1].key not in _OWN

    shared = jax.tree.map_with_path(lambda path, x: x if chosen(path) else None, params)
    fixed = jax.tree.map_with_path(lambda path, x: None if chosen(path) else x, params)
    return shared, fixed


def _merge(shared: Any, fixed: Any) -> Any:
    return jax.tree.map(lambda a, b: b if a is None else a, shared, fixed, is_leaf=lambda x: x is None)
