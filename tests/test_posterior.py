"""The log-posterior of how interest fades: slopes of users are those of their likelihood, and its curvature
says how sure half-lives are."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import Pieces
from jaxdecay.laplace import laplace
from jaxdecay.posterior import Posterior, Scores, posterior
from jaxdecay.refit import RIDGE

USERS = 12


@pytest.fixture(scope="module")
def made() -> tuple[Pieces, Any]:
    """Items are candidates once they have come; popularity moves; targets count differently; two windows."""
    with jax.numpy_rank_promotion("allow"):
        histories = toys.live(toys.log((12,) * USERS, items=9))
        chosen = {"window": 8, "batch_targets": 64, "evidence_half_life": 0.5}
        spec = toys.bare(histories, behaviours=2, popularity_half_lives=(3.0, float("inf")))
        pieces = toys.pieces(histories, spec, **chosen)
        return pieces, toys.random_params(pieces)


@pytest.fixture(scope="module")
def shared(made: tuple[Pieces, Any]) -> Posterior:
    pieces, params = made
    return posterior(pieces.model, params, pieces.constants, alike=False)


@pytest.fixture(scope="module")
def scores(made: tuple[Pieces, Any], shared: Posterior) -> Scores:
    with jax.numpy_rank_promotion("allow"):
        return shared.scores(shared.start, made[0].batches)


def test_slopes_of_a_user_are_those_of_his_likelihood(
    made: tuple[Pieces, Any], shared: Posterior, scores: Scores
) -> None:
    """The likelihood as training reads it, at all points of the time grid, by central differences."""
    pieces, _ = made
    batches = [pieces.batches[step] for step in range(pieces.batches.per_epoch)]

    def of_users(theta: np.ndarray, power: float) -> np.ndarray:
        total = np.zeros(USERS + 1)
        for batch in batches:
            each = toys.log_likelihood(pieces.model, shared.restore(theta), batch, pieces.constants)
            counted = np.asarray(batch.evidence, np.float64) ** power * np.asarray(each, np.float64)
            np.add.at(total, batch.history.user, counted.sum(1))
        return total

    assert np.abs(scores.whole[-1]).max() == 0  # nobody
    assert not np.allclose(scores.whole, scores.roots, rtol=0.05)
    width = 0.02
    for place in range(0, len(shared.start), 3):
        step = width * np.eye(len(shared.start))[place]
        for power, found in ((1.0, scores.whole), (0.5, scores.roots)):
            slope = (of_users(shared.start + step, power) - of_users(shared.start - step, power)) / (
                2 * width
            )
            np.testing.assert_allclose(found[:, place], slope, rtol=0.01, atol=5e-3)
    assert np.abs(scores.whole).max() > 0.1


def test_a_vector_is_the_parameters_that_all_users_share(made: tuple[Pieces, Any], shared: Posterior) -> None:
    _, params = made
    jax.tree.map(np.testing.assert_array_equal, shared.restore(shared.start), params)
    moved = shared.restore(shared.start + 1)
    changed = {
        "/".join(key.key for key in path)
        for (path, one), other in zip(jax.tree.leaves_with_path(params), jax.tree.leaves(moved), strict=True)
        if not np.array_equal(one, other)
    }
    assert "revisit/decay/log_half_life" in changed
    assert "similarity/decay/write" in changed
    assert not [name for name in changed if "embedding" in name]


def test_the_covariance_is_the_sandwich_of_all_users(
    made: tuple[Pieces, Any], shared: Posterior, scores: Scores
) -> None:
    pieces, params = made
    found = laplace(pieces.model, params, pieces.batches, pieces.constants)
    information = scores.roots.T @ scores.roots + shared.precision
    bread = np.linalg.inv(information + RIDGE * np.eye(len(information)))
    meat = scores.whole.T @ scores.whole + shared.precision
    np.testing.assert_allclose(found.covariance, bread @ meat @ bread, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.centre, shared.start)


def test_some_users_stand_for_all(made: tuple[Pieces, Any]) -> None:
    """Where all users are the same one, any of them says what all say."""
    pieces, params = made
    histories = pieces.histories
    names = ("item", "time", "behaviour", "weight", "context_categorical", "context_numeric")
    first = {name: np.asarray(getattr(histories, name))[:12] for name in names}
    alike = histories.replace(**{name: np.concatenate([one] * USERS) for name, one in first.items()})
    batches = dataclasses.replace(pieces.batches, histories=alike, window=16, evidence_half_life=None)
    every = laplace(pieces.model, params, batches, pieces.constants)
    some = laplace(pieces.model, params, batches, pieces.constants, users=3)
    np.testing.assert_allclose(some.covariance, every.covariance, rtol=1e-3, atol=1e-6)
