"""Priors: half-lives of mixtures against roots, slopes against finite differences, penalties by hand."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.durations import Prior
from jaxdecay.errors import InputError
from jaxdecay.interest import write_start
from jaxdecay.priors import SHRINKAGE, half_life_priors, penalty, smooth_half_life

SMOOTH = jax.jit(smooth_half_life)
SLOPE = jax.jit(jax.grad(lambda decay, logits: jnp.log(smooth_half_life(decay, logits)[0]), (0, 1)))


def mixture(half_lives: list[float], weights: list[float]) -> tuple[Any, jax.Array]:
    """Parameters and logits whose kernel gives ``weights[0]`` to never fading, others to the half-lives."""
    logits = np.log(np.maximum(weights, 1e-12))[None]
    return {"log_half_life": jnp.log(jnp.asarray(half_lives, jnp.float32))}, jnp.asarray(logits, jnp.float32)


def root(log_half_lives: np.ndarray, logits: np.ndarray) -> Any:
    """The logarithm of the age at which the mixture's kernel is one half, in float64."""
    weights = np.exp(logits - logits.max())
    weights /= weights.sum()
    rates = np.concatenate([[0.0], math.log(2) / np.exp(log_half_lives)])
    return brentq(lambda x: weights @ np.exp(-rates * np.exp(x)) - 0.5, -12, 14, xtol=1e-13)


@pytest.mark.parametrize("half_life", [0.01, 1.0, 30.0, 3000.0])
def test_one_exponential_has_its_own_half_life(half_life: float) -> None:
    assert SMOOTH(*mixture([half_life], [0.0, 1.0]))[0] == pytest.approx(half_life, rel=2e-3)


@pytest.mark.parametrize("floor", [0.1, 0.3, 0.45])
def test_with_a_floor_the_rest_must_fade_further(floor: float) -> None:
    # floor + (1 - floor) 2^(-t/h) = 1/2
    expected = 5.0 * math.log2((1 - floor) / (0.5 - floor))
    assert SMOOTH(*mixture([5.0], [floor, 1 - floor]))[0] == pytest.approx(expected, rel=5e-3)


mixtures = st.tuples(
    st.lists(st.floats(-4, 5), min_size=3, max_size=3), st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4)
).map(lambda pair: (np.array(pair[0]), np.array([-1.0, 0, 0, 0]) + np.array(pair[1])))


def plain(logits: np.ndarray) -> bool:
    """Whether the floor is low enough for a root within a century and a kernel that is not flat there."""
    weights = np.exp(logits) / np.exp(logits).sum()
    return weights[0] < 0.4


@given(mixtures)
def test_half_lives_of_mixtures_are_the_roots(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    log_half_lives, logits = drawn
    if not plain(logits):
        return
    decay = {"log_half_life": jnp.asarray(log_half_lives, jnp.float32)}
    found = SMOOTH(decay, jnp.asarray(logits[None], jnp.float32))[0]
    assert math.log(found) == pytest.approx(root(log_half_lives, logits), abs=0.02)


@given(mixtures)
@settings(max_examples=25)
def test_slopes_are_those_of_finite_differences_of_the_root(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    log_half_lives, logits = drawn
    if not plain(logits):
        return
    decay = {"log_half_life": jnp.asarray(log_half_lives, jnp.float32)}
    of_decay, of_logits = SLOPE(decay, jnp.asarray(logits[None], jnp.float32))

    def difference(which: int, place: int) -> float:
        ends = []
        for step in (1e-5, -1e-5):
            moved = [log_half_lives.copy(), logits.copy()]
            moved[which][place] += step
            ends.append(root(*moved))
        return (ends[0] - ends[1]) / 2e-5

    expected = [difference(0, place) for place in range(3)]
    np.testing.assert_allclose(of_decay["log_half_life"], expected, atol=0.05, rtol=0.1)
    expected = [difference(1, place) for place in range(4)]
    np.testing.assert_allclose(of_logits[0], expected, atol=0.05, rtol=0.1)


@pytest.mark.parametrize("floor", [0.51, 0.7, 0.9, 0.999])
def test_a_kernel_that_never_halves_is_older_than_a_century_and_still_has_a_slope(floor: float) -> None:
    decay, logits = mixture([5.0], [floor, 1 - floor])
    assert SMOOTH(decay, logits)[0] > 36_500
    of_floor, of_rest = np.asarray(SLOPE(decay, logits)[1])[0]
    assert of_floor > 1e-3  # more floor, still longer
    assert of_rest < -1e-3


def test_rhythms_fade_by_their_envelope() -> None:
    decay, _ = mixture([5.0], [0.0, 1.0])
    decay |= {"log_envelope": jnp.log(jnp.array([40.0]))}
    logits = jnp.array([[-30.0, -30.0, 0.0], [-30.0, 0.0, -30.0]])
    np.testing.assert_allclose(SMOOTH(decay, logits), [40.0, 5.0], rtol=2e-3)


LEVELS = ["jazz", "rock", "folk"]


def test_priors_are_rows_by_the_codes_of_their_groups() -> None:
    found = half_life_priors([Prior("rock", 8.0, 2.0), Prior("jazz", 1.0, 4.0)], LEVELS)
    assert found.group.tolist() == [2, 1]
    assert found.log2_half_life.tolist() == [3.0, 0.0]
    assert found.log2_factor.tolist() == [1.0, 2.0]


def test_a_prior_without_a_group_holds_for_all_of_them_or_for_the_whole() -> None:
    assert half_life_priors([Prior(None, 8.0, 2.0)], LEVELS).group.tolist() == [1, 2, 3]
    assert half_life_priors([Prior(None, 8.0, 2.0)], []).group.tolist() == [0]
    assert half_life_priors([], LEVELS).group.shape == (0,)


@pytest.mark.parametrize(
    ("levels", "there"), [(LEVELS, "jazz, rock, folk; perhaps 'folk'"), ([], "none; give group_by")]
)
def test_a_prior_on_a_group_that_is_not_there_names_those_that_are(levels: list[str], there: str) -> None:
    with pytest.raises(InputError, match=rf"'folks'; there are {there}"):
        half_life_priors([Prior("folks", 8.0, 2.0)], levels)


def params(**changes: Any) -> Any:
    decay = {
        "log_half_life": jnp.log(jnp.array([5.0])),
        "write": jnp.array([-30.0, 0.0]),
        "group_write": jnp.zeros((4, 2)),
    }
    return {"revisit": {"level": jnp.array(3.0), "decay": decay | changes}}


def test_shrinkage_is_half_the_squares_in_units_of_its_scale() -> None:
    nothing = half_life_priors([], [])
    base = float(penalty(params(), nothing))
    assert base == 0
    moved = params(group_write=jnp.array([[0.0, 0.0], [1.0, -3.0], [0.0, 0.0], [0.0, 0.0]]))
    expected = (1 + 9) / SHRINKAGE["group_write"] ** 2 / 2
    assert float(penalty(moved, nothing)) == pytest.approx(expected, rel=1e-4)


def test_a_bank_is_held_where_it_starts() -> None:
    histories = toys.log()
    spec = toys.spec(
        histories, similarity_half_lives=(2.0, 9.0), revisit_half_lives=(4.0,), revisit_periods=(7.0,)
    )
    plain, rhythm = jnp.zeros(3), jnp.asarray(write_start(1, 1))
    given = {
        "similarity": {"decay": {"log_half_life": jnp.log(jnp.array([2.0, 9.0])), "write": plain}},
        "revisit": {
            "decay": {
                "log_half_life": jnp.log(jnp.array([4.0])),
                "log_envelope": jnp.log(jnp.array([60.0])),
                "write": rhythm,
            }
        },
    }
    held = half_life_priors([], [], spec)
    assert float(penalty(given, held)) == pytest.approx(0.0, abs=1e-6)
    # half of where one started and twice of another, and one write logit four higher
    given["similarity"]["decay"]["log_half_life"] = jnp.log(jnp.array([2.0, 4.5]))
    given["revisit"]["decay"]["log_envelope"] = jnp.log(jnp.array([120.0]))
    given["revisit"]["decay"]["write"] = rhythm.at[1].add(4.0)
    expected = 2 * (math.log(2) / 0.5) ** 2 / 2 + (4.0 / 8.0) ** 2 / 2
    assert float(penalty(given, held)) == pytest.approx(expected, rel=1e-4)


def test_a_prior_pulls_with_the_squared_distance_in_factors() -> None:
    nothing = half_life_priors([], LEVELS)
    # five days believed to be twenty, a factor of two up or down: two standard deviations
    twenty = half_life_priors([Prior("rock", 20.0, 2.0)], LEVELS)
    assert float(penalty(params(), twenty) - penalty(params(), nothing)) == pytest.approx(2.0, rel=0.01)

    def of_log_half_life(value: jax.Array) -> jax.Array:
        return penalty(params(log_half_life=value), twenty)

    slope = jax.jit(jax.grad(of_log_half_life))(jnp.log(jnp.array([5.0])))[0]
    assert float(slope) == pytest.approx(-2.0 / math.log(2), rel=0.05)  # d/dlog h of (log2 h - log2 20)^2 / 2


def test_a_group_s_own_weights_count_for_its_prior() -> None:
    five = half_life_priors([Prior("rock", 5.0, 2.0)], LEVELS)
    nothing = half_life_priors([], LEVELS)
    longer = jnp.zeros((4, 2)).at[2, 0].set(29.0)  # rock alone gets a floor
    assert float(penalty(params(), five) - penalty(params(), nothing)) == pytest.approx(0.0, abs=1e-3)
    with_floor = params(group_write=longer)
    assert float(penalty(with_floor, five) - penalty(with_floor, nothing)) > 0.1
    other = params(group_write=jnp.roll(longer, 1, axis=0))
    assert float(penalty(other, five) - penalty(other, nothing)) == pytest.approx(0.0, abs=1e-3)
