r"""Refits of how interest fades, everything else held fixed: what a bootstrap over users repeats many times.

A refit solves the score equations of the weighted log-posterior (`jaxdecay.posterior`), $\sum_u m_u \nabla
\ell_u(\theta) = \nabla \text{penalty}(\theta)$. The centre counts every user once: five steps of damped
Fisher scoring from the trained parameters, near the solution except where the data say little. From there a
refit is one more step, $\Delta\theta = \sum_u (m_u - 1)\, I^{-1} s_u / (1 - h_u)$, with the users' scores
$s_u$ at the centre, the information $I = \sum_u s_u s_u^\top$ with the priors' precision, and the leverage
$h_u = s_u^\top I^{-1} s_u$ (with it, leaving a user out moves the parameters as far as a step with the
information of the others would: the jackknife; Quenouille 1949, Tukey 1958). Where targets count differently,
the scores are weighted so, and the information is that of scores weighted by the root
(`jaxdecay.posterior.Scores`). `jaxdecay.influence` carries the step on to half-lives.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxdecay.data.batches import Batches
from jaxdecay.model import Interest
from jaxdecay.objective import Constants
from jaxdecay.posterior import Scores, posterior

# Added to the information, in units of a logit or a log half-life: on the way to the centre, where steps in
# directions that the data say nothing of run away, and for directions that nothing depends on.
_DAMPING, RIDGE = 0.5, 1e-4
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
    shared = posterior(model, params, constants, alike=batches.evidence_half_life is None)
    theta, slack = shared.start, np.eye(len(shared.start))

    def scored(sweep: int) -> tuple[Scores, np.ndarray]:
        """At theta, with the information there."""
        report({"sweep": sweep, "sweeps": iterations + 1})
        found = shared.scores(theta, batches)
        return found, found.roots.T @ found.roots + shared.precision

    for iteration in range(iterations):
        scores, information = scored(iteration + 1)
        gradient = scores.whole.sum(0) + shared.towards_prior(theta)
        step = np.linalg.solve(information + _DAMPING * slack, gradient)
        theta = theta + np.clip(step, -_STRIDE, _STRIDE)
    scores, information = scored(iterations + 1)
    return Problem(shared.restore, theta, jackknifed(*scores, information + RIDGE * slack))


def jackknifed(scores: np.ndarray, roots: np.ndarray, information: np.ndarray) -> np.ndarray:
    r"""(U, D) how far counting each row once more moves the parameters: $(I - r_u r_u^\top)^{-1} s_u$ with
    rows $s_u$ of ``scores`` and $r_u$ of ``roots`` (U, D); $I^{-1} s_u / (1 - h_u)$ where they are alike."""
    steps, others = (np.linalg.solve(information, rows.T).T for rows in (scores, roots))
    leverage = np.maximum(1 - np.einsum("ud,ud->u", roots, others), _LEAST)
    return steps + others * (np.einsum("ud,ud->u", roots, steps) / leverage)[:, None]
