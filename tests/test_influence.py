"""Refits: the steps to their centre, how far a user moves it, and how far that moves half-lives."""

from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import refit
from jaxdecay.assembly import assemble
from jaxdecay.configure import configure
from jaxdecay.curves import Curve, Events, mean_kernels
from jaxdecay.data.histories import Histories
from jaxdecay.half_lives import _student
from jaxdecay.influence import influences
from jaxdecay.model import Interest
from jaxdecay.model_options import ModelOptions
from jaxdecay.modes import first_half
from jaxdecay.priors import penalty
from jaxdecay.train import TrainOptions, init_params

OPTIONS = ModelOptions(
    features=3, modes=2, periods=("1d", "1d±3h"), group_by="genre", columns=False, calendar=False
)
TRAIN = TrainOptions(batch_targets=512, window=16, evidence_half_life=0.5)


class Posed(NamedTuple):
    histories: Histories
    model: Interest
    problem: refit.Problem
    curves: list[Curve]
    gained: float
    """By how much the log-posterior is higher at the centre than where it was sought from."""


@pytest.fixture(scope="module")
def posed() -> Posed:
    with jax.numpy_rank_promotion("allow"):
        histories = toys.log((12,) * 40)
        spec = configure(histories, OPTIONS)
        pieces = assemble(histories, spec, OPTIONS, TRAIN)
        params = jax.jit(lambda constants: init_params(pieces.model, constants, 0))(pieces.constants)
        problem = refit.pose(pieces.model, params, pieces.batches, pieces.constants, iterations=2)
        curves = mean_kernels(histories, pieces.model, problem.restore(problem.centre))

        def log_posterior(params: Any) -> float:
            batches = [pieces.batches[step] for step in range(pieces.batches.per_epoch)]
            rows = (
                batch.evidence * toys.log_likelihood(pieces.model, params, batch, pieces.constants)
                for batch in batches
            )
            return float(sum(row.sum() for row in rows) - penalty(params, pieces.constants.priors))

        gained = log_posterior(problem.restore(problem.centre)) - log_posterior(params)
        return Posed(histories, pieces.model, problem, curves, gained)


def test_a_user_moves_parameters_as_leaving_him_out_does() -> None:
    random = np.random.default_rng(0)
    roots = random.normal(size=(30, 4))
    prior = np.diag(random.random(4))
    information = roots.T @ roots + prior
    for scores in (roots, random.normal(size=(30, 4))):
        steps = refit.jackknifed(scores, roots, information)
        for score, root, step in zip(scores, roots, steps, strict=True):
            without = information - np.outer(root, root)
            np.testing.assert_allclose(step, np.linalg.solve(without, score), rtol=1e-8)


def test_steps_spread_as_weighted_estimates_do() -> None:
    """Of the mean of normal targets that count differently; the information of the weighted scores themselves
    would have it far too sure."""
    random = np.random.default_rng(0)
    weight = np.exp2(-random.random((400, 10)) / 0.1)
    weight /= weight.mean()
    draws = random.normal(size=(200, 400, 10))
    means = (weight * draws).sum((1, 2)) / weight.sum()
    told = []
    for drawn, mean in zip(draws, means, strict=True):
        scores, roots = ((w * (drawn - mean)).sum(1, keepdims=True) for w in (weight, np.sqrt(weight)))
        moves = refit.jackknifed(scores, roots, roots.T @ roots)
        told.append(np.sqrt((moves**2).sum()))
    assert np.mean(told) == pytest.approx(means.std(), rel=0.12)


def test_refits_move_parameters_and_half_lives_as_they_should(posed: Posed) -> None:
    """One test, so that the model is compiled once."""
    assert posed.gained > 1  # the centre is likelier than where it was sought from
    assert posed.problem.moves.shape == (posed.histories.known_users + 1, len(posed.problem.centre))
    assert np.abs(posed.problem.moves[-1]).max() == 0  # nobody moves nothing
    assert np.abs(posed.problem.moves[:-1]).max(1).min() > 0
    as_kernels_do(posed)
    towards_his_own(posed)


def as_kernels_do(posed: Posed) -> None:
    """A user moves half-lives as the mean kernels of moved parameters do."""
    problem, (histories, model) = posed.problem, posed[:2]
    users, size = histories.known_users, len(problem.centre)
    count = influences(histories, model, problem._replace(moves=np.zeros((users + 1, size))), posed.curves)
    slopes = np.zeros((size, len(posed.curves)))
    for start in range(0, size, users):
        some = np.eye(size)[start : start + users]
        unit = np.zeros((users + 1, size))
        unit[: len(some)] = some
        moved = influences(histories, model, problem._replace(moves=unit), posed.curves)
        slopes[start : start + users] = (moved - count)[: len(some)]

    def logs(theta: np.ndarray) -> np.ndarray:
        curves = mean_kernels(histories, model, problem.restore(theta))
        return np.log([float(first_half(curve.age, curve.value)) for curve in curves])

    finite = np.isfinite(logs(problem.centre))
    assert finite.sum() >= 3
    assert np.isnan(slopes[:, ~finite]).all()
    compared = 0
    for place in range(size):
        both = []
        for width in (0.005, 0.002):
            step = width * np.eye(size)[place]
            both.append((logs(problem.centre + step) - logs(problem.centre - step)) / (2 * width))
        # Where a ripple rises to one half the first crossing jumps, and there is no slope to compare with.
        smooth = finite & np.isclose(*both, rtol=0.1, atol=3e-3)
        np.testing.assert_allclose(slopes[place, smooth], both[1][smooth], rtol=0.05, atol=3e-3)
        compared += smooth.sum()
    assert compared > 0.95 * size * finite.sum()


def towards_his_own(posed: Posed) -> None:
    """A user counted twice moves the mean, and all users counted alike move nothing."""
    problem, (histories, model) = posed.problem, posed[:2]
    users, size = histories.known_users, len(problem.centre)
    count = influences(histories, model, problem._replace(moves=np.zeros((users + 1, size))), posed.curves)
    finite = np.isfinite(count[0])
    # All users counted more alike move nothing: a mean knows no total.
    np.testing.assert_allclose(count[:, finite].sum(0), 0.0, atol=1e-4)
    assert np.abs(count[:, finite]).max() > 1e-4
    events = Events.of(histories, model, problem.restore(problem.centre))
    assert len(events.item) == (np.asarray(histories.part) == 0).sum()


def test_students_quantile() -> None:
    stats = pytest.importorskip("scipy.stats")
    for freedom in (10, 20, 399):
        assert _student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)
