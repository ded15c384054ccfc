r"""Refits of how interest fades, everything else held fixed: what a bootstrap over users repeats many times.

A refit solves the score equations of the weighted log-posterior, $\sum_u m_u \nabla \ell_u(\theta) =
\nabla \text{penalty}(\theta)$, in the parameters $\theta$ that all users share (half-lives, periods,
envelopes, group and behaviour weights, levels). The centre counts every user once: five steps of damped
Fisher scoring from the trained parameters, near the solution except where the data say little. From there a
refit is one more step, $\Delta\theta = \sum_u (m_u - 1)\, I^{-1} s_u / (1 - h_u)$, with the users' scores
$s_u$ at the centre, the information $I = \sum_u s_u s_u^\top$ with the priors' curvature, and the leverage
$h_u = s_u^\top I^{-1} s_u$ (with it, leaving a user out moves the parameters as far as a step with the
information of the others would: the jackknife; Quenouille 1949, Tukey 1958).
Where targets count differently (`jaxdecay.data.batches.Batch.evidence`), the scores are weighted so, and the
information is that of scores weighted by the root: scores of targets are uncorrelated, each given what came
before it, so that their squares add up to the curvature $\sum_t w_t i_t$, and not to $\sum_t w_t^2 i_t$.
`jaxdecay.influence` carries the step on to half-lives. Vectors of items and the deviations of single items
and users stay where training left them; the spread of refits does not contain their uncertainty.
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
from jaxdecay.objective import Constants, batch_log_likelihood
from jaxdecay.optimizer import is_decay, is_level
from jaxdecay.priors import penalty

_OWN = ("item_write", "content_write", "user_read", "cold_level", "cold_exponent", "decay_cold_mixture")
# Added to the information, in units of a logit or a log half-life: on the way to the centre, where steps in
# directions that the data say nothing of run away, and for directions that nothing depends on.
_DAMPING, _RIDGE = 0.5, 1e-4
_AT_ONCE = 16  # rows
_LEAST = 0.1  # of one minus a leverage: a user who is alone in what he tells counts tenfold, not boundlessly
_STRIDE = 1.0  # most that a logit or a log half-life moves in an iteration


class Problem(NamedTuple):
    """The shared decay parameters of a trained model as one vector of D numbers, and what a refit needs."""

    restore: Callable[[Any], Any]
    """From a vector to the whole parameter tree."""
    centre: np.ndarray
    """(D,) where the steps with every user counted once end."""
    moves: np.ndarray
    """(U+1, D) how far each user moves it, if counted once more. The last row is nobody."""


def pose(
    model: Interest,
    params: Any,
    batches: Batches,
    constants: Constants,
    *,
    iterations: int = 5,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Problem:
    """The refits of a trained model: a pass over the data for each iteration towards the centre, and one
    there."""
    shared, fixed = _part(params)
    powers = (1.0,) if batches.evidence_half_life is None else (1.0, 0.5)
    start, restore_shared = ravel_pytree(shared)

    def restore(theta: Any) -> Any:
        return _merge(restore_shared(jnp.asarray(theta, jnp.float32)), fixed)

    def row_likelihood(theta: Array, row: Batch, constants: Constants) -> Array:
        one = jax.tree.map(lambda x: x[None], row)
        likelihood = batch_log_likelihood(model, restore(theta), one, constants)[0]
        return jnp.stack([(row.evidence**power * likelihood).sum() for power in powers])

    @jax.jit
    def row_scores(theta: Array, batch: Batch, constants: Constants) -> Array:
        # Some rows at a time: each has a gradient of the whole catalogue's popularity on the way.
        return jax.lax.map(
            lambda row: jax.jacrev(row_likelihood)(theta, row, constants), batch, batch_size=_AT_ONCE
        )

    prior = jax.jit(lambda theta: -jax.grad(lambda t: penalty(restore(t), constants.priors))(theta))
    curvature = np.asarray(jax.jit(jax.jacfwd(prior))(start), np.float64)

    def scored(theta: np.ndarray, sweep: int) -> tuple[np.ndarray, np.ndarray]:
        """(U+1, D) scores of each user, and those weighted by the root."""
        report({"sweep": sweep, "sweeps": iterations + 1})
        total = np.zeros((batches.histories.known_users + 1, len(powers), len(start)))
        for batch in _epoch(batches):
            scores = row_scores(jnp.asarray(theta, jnp.float32), batch, constants)
            np.add.at(total, batch.history.user, np.asarray(scores, np.float64))
        return total[:, 0], total[:, -1]

    theta, slack = np.asarray(start, np.float64), np.eye(len(start))
    scores, roots = scored(theta, 1)
    for iteration in range(iterations):
        gradient = scores.sum(0) + _gradient(prior, theta)
        step = np.linalg.solve(roots.T @ roots - curvature + _DAMPING * slack, gradient)
        theta = theta + np.clip(step, -_STRIDE, _STRIDE)
        scores, roots = scored(theta, iteration + 2)
    information = roots.T @ roots - curvature + _RIDGE * slack
    return Problem(restore, theta, jackknifed(scores, roots, information))


def jackknifed(scores: np.ndarray, roots: np.ndarray, information: np.ndarray) -> np.ndarray:
    r"""(U, D) how far counting each row once more moves the parameters: $(I - r_u r_u^\top)^{-1} s_u$ with
    rows $s_u$ of ``scores`` and $r_u$ of ``roots`` (U, D); $I^{-1} s_u / (1 - h_u)$ where they are alike."""
    steps, others = (np.linalg.solve(information, rows.T).T for rows in (scores, roots))
    leverage = np.maximum(1 - np.einsum("ud,ud->u", roots, others), _LEAST)
    return steps + others * (np.einsum("ud,ud->u", roots, steps) / leverage)[:, None]


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
