"""Planted half-lives and shapes come back by maximum likelihood from recalls whose chance is the curve."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecay import kernels

TRIALS = 40_000


def two_rates(age: Any, theta: Any) -> Any:
    share = jax.nn.sigmoid(theta[2])
    return kernels.bank(age, jnp.exp(theta[:2]), jnp.stack([share, 1 - share]))


def rhythm(age: Any, theta: Any) -> Any:
    return kernels.damped_cosine(age, jnp.exp(theta[0]), jnp.exp(theta[1]), jax.nn.sigmoid(theta[2]))


PLANTED: dict[str, tuple[Callable[..., Any], list[float], list[float]]] = {
    # the curve of unconstrained parameters, what is planted, and where the search starts
    "exponential": (
        lambda t, theta: kernels.exponential(t, jnp.exp(theta[0])),
        [np.log(3.0)],
        [np.log(10.0)],
    ),
    "power": (
        lambda t, theta: kernels.power(t, jnp.exp(theta[0]), jnp.exp(theta[1])),
        [np.log(3.0), np.log(0.5)],
        [np.log(6.0), 0.0],
    ),
    "weibull": (
        lambda t, theta: kernels.weibull(t, jnp.exp(theta[0]), jnp.exp(theta[1])),
        [np.log(3.0), np.log(0.5)],
        [np.log(6.0), 0.0],
    ),
    "two rates": (two_rates, [np.log(0.2), np.log(20.0), 0.3], [np.log(0.5), np.log(10.0), 0.0]),
    "rhythm": (rhythm, [np.log(15.0), np.log(7.0), 1.0], [np.log(25.0), np.log(7.3), 0.0]),
}


def scored(curve: Callable[..., Any], ages: Any, recalled: Any, start: list[float]) -> tuple[Any, Any]:
    """Estimate and standard errors by Fisher scoring, in float64 and with steps of at most one half."""

    @jax.jit
    def score_and_information(theta: Any) -> tuple[Any, Any]:
        chance = jnp.clip(curve(ages, theta), 1e-9, 1 - 1e-9)
        slopes = jax.jacfwd(lambda theta: curve(ages, theta))(theta)
        weighted = slopes.T / (chance * (1 - chance))[None]
        return weighted @ (recalled - chance), weighted @ slopes

    theta = np.array(start)
    for _ in range(40):
        score, information = map(np.asarray, score_and_information(jnp.asarray(theta)))
        step = np.linalg.solve(information, score)
        theta = theta + step / max(1.0, 2 * np.abs(step).max())
    assert np.abs(step).max() < 1e-6
    return theta, np.sqrt(np.diag(np.linalg.inv(information)))


@pytest.mark.parametrize("name", PLANTED)
def test_what_was_planted_is_found_within_three_standard_errors(name: str) -> None:
    curve, planted, start = PLANTED[name]
    random = np.random.default_rng(len(name))
    with jax.enable_x64(True):
        ages = jnp.asarray(np.exp(random.uniform(np.log(0.01), np.log(60), TRIALS)))
        chance = np.asarray(curve(ages, jnp.asarray(planted)))
        recalled = jnp.asarray((random.random(TRIALS) < chance).astype(np.float64))
        found, error = scored(curve, ages, recalled, start)
    assert (error < 0.15).all()  # else three of them would prove nothing
    assert (np.abs(found - planted) < 3 * error).all()
