r"""Refits of how interest fades, everything else held fixed: what a bootstrap over users repeats many times.

A refit solves the score equations of the weighted log-posterior, $\sum_u m_u \nabla \ell_u(\theta) =
\nabla \text{penalty}(\theta)$, in the parameters $\theta$ that all users share (half-lives, periods,
envelopes, group and behaviour weights, levels), by one step of Fisher scoring from the centre, with the
information that the users' own scores add up to. The centre is five such steps on the unweighted equations
from the trained parameters: near their solution, except where the data say little. A pass over the data
gives every user's score there, so refits cost no further pass. (Further steps with the same information
were tried: in directions that the data say little of they run away.) A user's score is divided by
$1 - h_u$, with the leverage $h_u = s_u^\top I^{-1} s_u$: then leaving a user out moves the parameters as
far as a step with the information of the others would (the jackknife; Quenouille 1949, Tukey 1958).
Vectors of items and the deviations of single items and users stay where training left them; the spread of
refits does not contain their uncertainty.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from jaxdecay.data.batches import Batch, Batches
from jaxdecay.model import Interest
from jaxdecay.optimizer import is_decay, is_level
from jaxdecay.priors import penalty
from jaxdecay.train import Constants, batch_log_likelihood

_OWN = ("item_write", "user_read")
# Added to the information, in units of a logit or a log half-life: what the data say little of moves less
# than a refit that runs to its end would move it.
_DAMPING = 0.5
_AT_ONCE = 16  # rows
_LEAST = 0.1  # of one minus a leverage: a user who is alone in what he tells counts tenfold, not boundlessly
_STRIDE = 1.0  # most that a logit or a log half-life moves in an iteration


class Problem(NamedTuple):
    """The shared decay parameters of a trained model as one vector of D numbers, and what a refit needs."""

    restore: Callable[[Any], Any]
    """From a vector to the whole parameter tree."""
    centre: np.ndarray
    """(D,) where the steps with every user counted once end."""
    scores: np.ndarray
    """(U+1, D) the gradient of each user's log-likelihood there, divided by one minus his leverage. The last
    row is nobody."""
    information: np.ndarray
    """(D, D) information of all users there, with the priors' curvature."""


def pose(
    model: Interest, params: Any, batches: Batches, constants: Constants, *, iterations: int = 5
) -> Problem:
    """Sets up the refits of a trained model: a pass over the data for each iteration towards the centre,
    and one there."""
    shared, fixed = _part(params)
    start, restore_shared = ravel_pytree(shared)

    def restore(theta: Any) -> Any:
        return _merge(restore_shared(jnp.asarray(theta, jnp.float32)), fixed)

    def row_likelihood(theta: Array, row: Batch, constants: Constants) -> Array:
        one = jax.tree.map(lambda x: x[None], row)
        return batch_log_likelihood(model, restore(theta), one, constants).sum()

    @jax.jit
    def row_scores(theta: Array, batch: Batch, constants: Constants) -> Array:
        # Some rows at a time: each has a gradient of the whole catalogue's popularity on the way.
        return jax.lax.map(
            lambda row: jax.grad(row_likelihood)(theta, row, constants), batch, batch_size=_AT_ONCE
        )

    prior = jax.jit(lambda theta: -jax.grad(lambda t: penalty(restore(t), constants.priors))(theta))
    curvature = np.asarray(jax.jit(jax.jacfwd(prior))(start), np.float64)

    def user_scores(theta: np.ndarray) -> np.ndarray:
        total = np.zeros((batches.histories.known_users + 1, len(start)))
        for batch in _epoch(batches):
            scores = row_scores(jnp.asarray(theta, jnp.float32), batch, constants)
            np.add.at(total, batch.history.user, np.asarray(scores, np.float64))
        return total

    def scored(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = user_scores(theta)
        return scores, scores.T @ scores - curvature + _DAMPING * np.eye(len(theta))

    theta = np.asarray(start, np.float64)
    scores, information = scored(theta)
    for _ in range(iterations):
        theta = theta + _stride(information, scores.sum(0) + _gradient(prior, theta))
        scores, information = scored(theta)
    leverage = np.einsum("ud,de,ue->u", scores, np.linalg.inv(information), scores)
    influence = scores / np.maximum(1 - leverage, _LEAST)[:, None]
    return Problem(restore, theta, influence, information)


def solve(problem: Problem, weights: np.ndarray) -> np.ndarray:
    """(D,) the shared parameters refitted with each user counted ``weights[user]`` times (U+1,)."""
    return problem.centre + _stride(problem.information, (weights - 1) @ problem.scores)


def _stride(information: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return np.clip(np.linalg.solve(information, gradient), -_STRIDE, _STRIDE)


def _gradient(function: Callable[[Array], Array], theta: np.ndarray) -> np.ndarray:
    return np.asarray(function(jnp.asarray(theta, jnp.float32)), np.float64)


def _epoch(batches: Batches) -> Iterator[Batch]:
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
