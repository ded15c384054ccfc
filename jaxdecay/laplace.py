r"""How sure the shared decay parameters are by the curvature of their log-posterior, where training left them
(Laplace): one pass over some users, in place of the many that refits take (`jaxdecay.refit`).

The covariance is $A^{-1} (B + P)\, A^{-1}$, with the prior's precision $P$, the information $A = \sum_u r_u
r_u^\top + P$, and $B = \sum_u s_u s_u^\top$ of what the slopes vary by (`jaxdecay.posterior.Scores`). Where
all targets count alike, $s_u = r_u$, it is $A^{-1}$. Both sums are over users drawn at random, over what
share of all targets is theirs. What the prior alone holds is as unsure here as the prior says; refits all
have the same prior, so that their intervals are narrower there.

References:
    Laplace: Mémoire sur la probabilité des causes par les événements (1774). White: Maximum likelihood
    estimation of misspecified models (1982), for the sandwich where targets count differently.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxdecay.data.batches import Batches
from jaxdecay.model import Interest
from jaxdecay.objective import Constants
from jaxdecay.posterior import posterior
from jaxdecay.refit import RIDGE


class Laplace(NamedTuple):
    """The shared decay parameters of a trained model as one vector of D numbers, and how sure they are."""

    restore: Callable[[Any], Any]
    """From a vector to the whole parameter tree."""
    centre: np.ndarray
    """(D,) as trained."""
    covariance: np.ndarray
    """(D, D)"""


def laplace(
    model: Interest, params: Any, batches: Batches, constants: Constants, *, users: int = 500, seed: int = 0
) -> Laplace:
    """From a pass over so many ``users``, drawn by the seed (all, where there are no more)."""
    shared = posterior(model, params, constants, alike=batches.evidence_half_life is None)
    some = _of_some(batches, users, seed)
    scores, roots = shared.scores(shared.start, some)
    times = batches.targets / some.targets
    inverse = np.linalg.inv(times * roots.T @ roots + shared.precision + RIDGE * np.eye(len(shared.start)))
    varied = times * scores.T @ scores + shared.precision
    return Laplace(shared.restore, shared.start, inverse @ varied @ inverse)


def _of_some(batches: Batches, users: int, seed: int) -> Batches:
    """The batches without the targets of all but so many users."""
    histories = batches.histories
    train, of = np.asarray(histories.part) == 0, histories.user()
    there = np.unique(of[train & histories.chosen])
    if len(there) <= users:
        return batches
    drawn = np.random.default_rng([seed, 8]).choice(there, users, replace=False)
    part = np.where(train & ~np.isin(of, drawn), 3, histories.part).astype(np.int8)
    return dataclasses.replace(batches, histories=histories.replace(part=part))
