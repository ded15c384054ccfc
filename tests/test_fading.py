"""Families and deviations as modules: where they start, what they learn, and under which names."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.stats import norm

from jaxdecay import fading, optimizer
from jaxdecay.deviations import PerBehaviour, PerItem, PerUser
from jaxdecay.errors import InputError

HALF_LIVES = (0.5, 9.0)
FAMILIES = {
    "exponential": fading.Exponential(HALF_LIVES),
    "hyperbolic": fading.Hyperbolic(HALF_LIVES),
    "power": fading.Power(HALF_LIVES, shape=0.7),
    "logarithmic": fading.Logarithmic(HALF_LIVES),
    "weibull": fading.Weibull(HALF_LIVES, shape=0.6),
    "gaussian": fading.Gaussian(HALF_LIVES),
    "logistic": fading.Logistic(HALF_LIVES, steepness=5.0),
    "periodic": fading.Periodic(HALF_LIVES, periods=(0.25, 3.0)),
    "erlang": fading.Erlang(HALF_LIVES, degree=2),
}
# What each is at age t with x = t / h, written by hand in float64.
FORMULAS = {
    "exponential": lambda x: 2**-x,
    "hyperbolic": lambda x: 1 / (1 + x),
    "power": lambda x: (1 + (2 ** (1 / 0.7) - 1) * x) ** -0.7,
    "logarithmic": lambda x: 1 / (1 + 0.3 * np.log(1 + x * (np.exp(1 / 0.3) - 1))),
    "weibull": lambda x: 2 ** -(x**0.6),
    "gaussian": lambda x: 2 ** -(x**2),
    "logistic": lambda x: (2**5 - 1) / (2**5 - 2 + 2 ** (5 * x)),
}
AGES = jnp.array([0.0, 0.3, *HALF_LIVES, 4.0, 80.0])
EXTREMES = jnp.array([-5.0, 0.0, 1e-6, 11_000.0, jnp.inf])
every_family = pytest.mark.parametrize("name", FAMILIES)


def start(name: str) -> Any:
    return started(FAMILIES[name])


def started(module: Any) -> Any:
    return module.init(jax.random.key(0), AGES)


def applied(module: Any, params: Any, *given: Any) -> Any:
    return module.apply(params, *given)


@functools.partial(jax.jit, static_argnums=0)
def left(module: Any, params: Any, ages: Any = AGES) -> Any:
    return applied(module, params, ages)


def moved(params: Any) -> Any:
    """Parameters away from where they start, each by its own step."""
    leaves, tree = jax.tree.flatten(params)
    return tree.unflatten([x + 0.1 * i * jnp.cos(jnp.arange(1.0 * len(x))) for i, x in enumerate(leaves, 1)])


def test_a_curve_drawn_by_hand_starts_as_drawn_and_learns_to_descend_otherwise() -> None:
    module = fading.Piecewise((0.0, 1.0, 8.0), (1.0, 0.6, 0.1))
    params = started(module)
    ages = jnp.array([0.0, 0.5, 1.0, 4.5, 99.0])
    np.testing.assert_allclose(applied(module, params, ages), [1.0, 0.8, 0.6, 0.35, 0.1], rtol=1e-5)
    values = module.values_of(
        jax.tree.map(lambda x: x + jnp.array([0.0, 2.0, -1.0]), params)["params"]["decay"]
    )
    assert values[0] == 1
    assert (jnp.diff(values, append=0.0) < 0).all()
    slopes = jax.grad(lambda p: applied(module, p, ages).sum())(params)["params"]["decay"]["logit_lost"]
    assert np.isfinite(slopes).all()
    assert (slopes != 0).all()


@pytest.mark.parametrize(
    ("knots", "values", "message"),
    [
        ((0.0,), (1.0,), "two or more"),
        ((1.0, 2.0), (1.0, 0.5), "ascending from 0"),
        ((0.0, 2.0, 2.0), (1.0, 0.5, 0.2), "ascending from 0"),
        ((0.0, 2.0), (1.0, 0.5, 0.2), "one value each"),
        ((0.0, 2.0), (0.9, 0.5), "start at 1"),
        ((0.0, 2.0), (1.0, 0.0), "above 0"),
    ],
)
def test_a_curve_drawn_wrongly_is_refused(knots: Any, values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        started(fading.Piecewise(knots, values))


@every_family
def test_it_starts_with_the_half_lives_given(name: str) -> None:
    params = start(name)
    found = np.asarray(left(FAMILIES[name], params))
    assert found.shape == (6, 2)
    np.testing.assert_allclose(found[0], 0.0 if name == "erlang" else 1.0)
    np.testing.assert_allclose([found[2, 0], found[3, 1]], 0.5, rtol=1e-5)
    np.testing.assert_allclose(fading.half_lives(params["params"]["decay"]), HALF_LIVES, rtol=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_values_are_those_of_the_formula(name: str) -> None:
    found = left(FAMILIES[name], start(name))
    expected = np.stack([FORMULAS[name](np.asarray(AGES, np.float64) / h) for h in HALF_LIVES], axis=-1)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)


def test_a_rhythm_is_as_deep_as_said_and_back_after_its_period() -> None:
    found = left(FAMILIES["periodic"], start("periodic"), jnp.array([1.5, 3.0]))[:, 1]
    np.testing.assert_allclose(found, [2 ** (-1.5 / 9) * 0.1 / 1.9, 2 ** (-3 / 9)], rtol=1e-5)


def test_a_rhythm_moves_its_period_a_thirtieth_as_fast() -> None:
    params = start("periodic")
    params["params"]["decay"]["period_shift"] = jnp.full(2, 30 * np.log(2), jnp.float32)
    found = left(FAMILIES["periodic"], params, jnp.array([3.0, 6.0]))[:, 1]
    np.testing.assert_allclose(found, [2 ** (-3 / 9) * 0.1 / 1.9, 2 ** (-6 / 9)], rtol=1e-5)


@every_family
def test_a_mask_and_any_age_leave_values_and_slopes_finite(name: str) -> None:
    module, params = FAMILIES[name], moved(start(name))

    def loss(params: Any, ages: Any, mask: Any) -> Any:
        found = applied(module, params, ages)
        return jnp.where(mask[:, None], found, 0.0).sum(), found

    slopes = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    for mask in (jnp.ones(5, bool), jnp.zeros(5, bool)):
        (_, found), moves = slopes(params, EXTREMES, mask)
        assert np.isfinite(found).all()
        assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(moves))
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(moves))  # all is masked: exactly nothing


@pytest.mark.parametrize("name", ["exponential", "power", "logistic", "periodic"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    with jax.enable_x64(True):
        module = FAMILIES[name]
        params = jax.tree.map(lambda x: x.astype(jnp.float64), moved(start(name)))
        assert len(jax.tree.leaves(params)) == len(jax.tree.leaves(start(name)))
        ages = jnp.array([0.3, 0.5, 4.0, 9.0])
        check_grads(jax.jit(lambda p: module.apply(p, ages)), (params,), order=1, modes=["rev"], rtol=1e-5)


@every_family
def test_all_that_fades_is_a_decay_parameter_and_paces_can_be_frozen(name: str) -> None:
    groups = optimizer.groups_of({"params": {"anything": start(name)["params"]}})
    decay = groups["params"]["anything"]["decay"]
    assert decay.pop("log_half_life") == "paces"
    assert decay.pop("period_shift", "paces") == "paces"
    assert set(decay.values()) <= {"decay"}


@pytest.mark.parametrize("name", ["power", "periodic"])
def test_users_at_once_are_users_one_by_one_and_jit_is_eager(name: str) -> None:
    module, params = FAMILIES[name], moved(start(name))
    users = jnp.stack([AGES, 3 * AGES])[:, :, None]  # of two axes each
    together = jax.jit(jax.vmap(module.apply, in_axes=(None, 0)))(params, users)
    assert together.shape == (2, 6, 1, 2)
    for found, ages in zip(together, users, strict=True):
        np.testing.assert_allclose(found, left(module, params, ages), rtol=2e-6)
    np.testing.assert_allclose(together[0], applied(module, params, users[0]), rtol=2e-6)


@pytest.mark.parametrize("wild", [-1e4, 1e4])
def test_wild_parameters_stay_within_their_bounds(wild: float) -> None:
    for module, low, high in ((FAMILIES["power"], 0.02, 50.0), (FAMILIES["weibull"], 0.1, 10.0)):
        params = started(module)
        params["params"]["decay"]["log_shape"] = jnp.full(2, wild)
        bound = module.clone(shape=low if wild < 0 else high)
        expected = left(module, started(bound))
        np.testing.assert_allclose(left(module, params), expected, rtol=1e-5, atol=1e-30)
    extreme = fading.half_lives({"log_half_life": jnp.array([wild])})
    np.testing.assert_allclose(extreme, 1 / 86_400 if wild < 0 else 3.65e6, rtol=1e-5)


def test_a_half_life_that_features_set() -> None:
    module, features = fading.Regressed(4.0), jnp.array([[0.0, 5.0], [1.0, 0.0]])
    ages = jnp.array([4.0, 4.0])
    params = module.init(jax.random.key(0), ages, features)
    call = jax.jit(module.apply)
    np.testing.assert_allclose(call(params, ages, features), [0.5, 0.5], rtol=1e-6)
    params["params"]["decay"]["weights"] = jnp.array([1.0, 0.0])  # doubles it
    np.testing.assert_allclose(call(params, ages, features), [0.5, 2**-0.5], rtol=1e-6)


def test_starts_that_cannot_be_are_refused() -> None:
    for module, message in (
        (fading.Exponential(()), r"half_lives=\(\)"),
        (fading.Exponential((1.0, 0.0)), "half_lives=0"),
        (fading.Power((1.0,), shape=100.0), "shape=100: start between 0.02 and 50"),
        (fading.Logistic((1.0,), steepness=0.0), "steepness=0"),
        (fading.Periodic((1.0,), periods=(1.0, 7.0)), "2 periods, 1 half_lives"),
        (fading.Periodic((1.0,), periods=(7.0,), depth=1.5), "depth=1.5"),
    ):
        with pytest.raises(InputError, match=message):
            module.init(jax.random.key(0), AGES)


ROWS = np.array([[0.5, -1.0, 0.0], [2.0, 0.25, -0.5]], np.float32)


@pytest.mark.parametrize(
    ("kind", "name"), [(PerUser, "user_read"), (PerItem, "item_write"), (PerBehaviour, "behaviour_write")]
)
def test_deviations_start_at_the_average_under_the_name_the_priors_know(kind: Any, name: str) -> None:
    module = kind(rows=2, curves=3)
    params = module.init(jax.random.key(0), jnp.array([0], jnp.int32))
    assert optimizer.groups_of(params)["params"]["decay"] == {name: "decay"}
    assert not np.asarray(params["params"]["decay"][name]).any()
    assert params["params"]["decay"][name].shape == (2, 3)
    params["params"]["decay"][name] = jnp.asarray(ROWS)
    index = jnp.array([[1, 0], [2, 10**6], [-1, 1]], jnp.int32)
    expected = np.array([[ROWS[1], ROWS[0]], [0 * ROWS[0]] * 2, [0 * ROWS[0], ROWS[1]]])
    assert np.array_equal(module.apply(params, index), expected)
    assert np.array_equal(jax.vmap(lambda i: module.apply(params, i))(index), expected)


def test_a_stranger_reads_like_the_average_and_teaches_nothing() -> None:
    module = PerUser(rows=2, curves=3)

    @jax.jit
    def reads(table: Any, user: int) -> Any:
        deviation = applied(module, {"params": {"decay": {"user_read": table}}}, user)
        return jax.nn.softmax(jnp.array([0.1, 0.2, 0.3]) + deviation)

    np.testing.assert_allclose(reads(jnp.asarray(ROWS), 2), jax.nn.softmax(jnp.array([0.1, 0.2, 0.3])))
    slopes = jax.jit(jax.jacrev(reads))
    assert not np.asarray(slopes(jnp.asarray(ROWS), 2)).any()
    of_rows = np.abs(slopes(jnp.asarray(ROWS), 1)).sum((0, 2))
    assert of_rows[0] == 0
    assert of_rows[1] > 0.1


def test_the_prior_is_that_of_a_normal_law() -> None:
    params = {"params": {"decay": {"item_write": jnp.asarray(ROWS)}}}

    def prior(params: Any) -> Any:
        return PerItem(rows=2, curves=3).apply(params, 0.4, method="negative_log_prior")

    log_density = norm.logpdf(ROWS, scale=0.4) - norm.logpdf(0.0, scale=0.4)
    np.testing.assert_allclose(prior(params), -log_density.sum(), rtol=1e-5)
    slope = jax.grad(prior)(params)["params"]["decay"]["item_write"]
    np.testing.assert_allclose(slope, ROWS / 0.16, rtol=1e-5)


@every_family
def test_types_are_strict_and_kept(name: str) -> None:
    module, params = FAMILIES[name], start(name)
    with jax.numpy_dtype_promotion("strict"):
        assert applied(module, params, AGES).dtype == jnp.float32
        ages = np.asarray(AGES)
        with jax.enable_x64(True):
            assert applied(module, params, jnp.asarray(ages, jnp.float64)).dtype == jnp.float64
