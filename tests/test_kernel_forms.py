"""Forgetting curves: their formulas in NumPy and SciPy, their half-lives, their limits, their refusals."""

from collections.abc import Callable
from decimal import Decimal, getcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import lambertw
from scipy.stats import gamma

from jaxdecay import kernels
from jaxdecay.errors import InputError
from jaxdecay.kernels import LN2, exponential, raised_cosine

half_life = jax.jit(kernels.bank_half_life)
half_lives = st.floats(2.0**-16, 36_500, width=32)  # from a second to a century
ages = st.floats(0, 36_500, width=32)


@given(ages, half_lives)
def test_exponential_is_two_to_the_minus_age_over_half_life(age: float, half_life: float) -> None:
    found = exponential(jnp.array(age), jnp.array(half_life))
    np.testing.assert_allclose(found, 2.0 ** (-age / half_life), rtol=1e-4, atol=1e-30)


def test_an_infinite_half_life_never_fades() -> None:
    assert exponential(jnp.array([0.0, 1.0, 1e6]), jnp.array([jnp.inf] * 3)).tolist() == [1, 1, 1]


@given(st.floats(0, 300, width=32), st.floats(0.25, 400, width=32))
def test_raised_cosine_is_one_half_of_one_plus_cosine(age: float, period: float) -> None:
    found = raised_cosine(jnp.array(age), jnp.array(period))
    phase = 2 * np.pi * age / period
    np.testing.assert_allclose(found, (1 + np.cos(phase)) / 2, atol=1e-6 * (1 + phase))
    assert 0 <= found <= 1


@pytest.mark.parametrize("sharpness", [0, -1])
def test_a_sharpness_that_is_no_whole_number_from_one_is_refused(sharpness: Any) -> None:
    with pytest.raises(InputError, match="give a whole number from 1"):
        raised_cosine(jnp.array(1.0), 7.0, sharpness)


@given(st.floats(0.01, 100), st.floats(0.1, 100))
def test_slope_in_the_half_life_is_the_formula(age: float, half_life: float) -> None:
    slope = jax.grad(lambda h: exponential(jnp.array(age), h))(jnp.array(half_life))
    expected = LN2 * age / half_life**2 * 2 ** (-age / half_life)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-7)


def cosines(t: Any, h: float, period: float, depth: float, phase: float) -> Any:
    turned = 2 * np.pi * t / period + phase
    return 2 ** (-t / h) * (1 + depth * np.cos(turned)) / (1 + depth * np.cos(phase))


def power_law(t: Any, h: float, shape: float) -> Any:
    return (1 + (2 ** (1 / shape) - 1) * t / h) ** -shape


def sigmoid(t: Any, h: float, k: float) -> Any:
    """The logistic curve by its middle and width, made to start at 1."""
    width = h / (k * np.log(2))
    middle = width * np.log(2**k - 2)
    return (1 + np.exp(-middle / width)) / (1 + np.exp((t - middle) / width))


def bump(t: Any, h: float) -> Any:
    """Three stages, by SciPy's gamma density and its Lambert W."""
    rate = 3 * -lambertw(-(2 ** (-1 / 3)) / np.e, -1).real / h
    return gamma.pdf(t, 4, scale=1 / rate) / gamma.pdf(3 / rate, 4, scale=1 / rate)


FORMULAS: dict[str, tuple[Any, Any, tuple[float, ...]]] = {
    "damped_cosine": (kernels.damped_cosine, cosines, (20.0, 7.0, 0.4, 0.9)),
    "erlang": (lambda t, h: kernels.erlang(t, h, 3), bump, (7.0,)),
    "q_exponential": (kernels.q_exponential, lambda t, h, k: power_law(t, h, 1 / k), (7.0, 0.8)),
    "power": (kernels.power, power_law, (7.0, 0.3)),
    "power_short": (kernels.power, power_law, (7.0, 4.0)),
    "hyperbolic": (kernels.hyperbolic, lambda t, h: h / (h + t), (7.0,)),
    "fsrs": (kernels.fsrs, lambda t, s, d: (1 + (0.9 ** (-1 / d) - 1) * t / s) ** -d, (3.0, 0.5)),
    "logarithmic": (
        kernels.logarithmic,
        lambda t, h, c: 1 / (1 + c * np.log(1 + t * (np.exp(1 / c) - 1) / h)),
        (7.0, 0.2),
    ),
    "weibull": (kernels.weibull, lambda t, h, b: 2 ** -((t / h) ** b), (7.0, 0.6)),
    "gaussian": (kernels.gaussian, lambda t, h: np.exp(-(t**2) / (2 * (h**2 / (2 * np.log(2))))), (7.0,)),
    "logistic": (kernels.logistic, sigmoid, (7.0, 3.0)),
    "logistic_steep": (kernels.logistic, sigmoid, (7.0, 40.0)),
    "logistic_low": (
        kernels.logistic,
        lambda t, h, k: (2**k - 1) / (2**k - 2 + 2 ** (k * t / h)),
        (7.0, 0.5),
    ),
    "forward": (kernels.forward, lambda t, total, b: np.maximum(1 - t / total, 0) ** b, (15.0, 0.7)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_curve_is_its_formula(name: str) -> None:
    curve, formula, parameters = FORMULAS[name]
    ages = np.concatenate([[0.0, 1e-3], np.linspace(0.2, 21, 53)])
    expected = formula(ages, *parameters)
    curve = jax.jit(curve)
    found = curve(jnp.asarray(ages, jnp.float32), *parameters)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        found = np.asarray(curve(jnp.asarray(ages), *parameters))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_bank_and_piecewise_are_numpys() -> None:
    ages = np.linspace(0, 60, 61)
    h, w = np.array([1.0, 8.0, 90.0]), np.array([0.5, 0.3, 0.2])
    at, *of = (jnp.asarray(x, jnp.float32) for x in (ages, h, w))
    found = kernels.bank(at, of[0], of[1], 0.1)
    np.testing.assert_allclose(found, 0.1 + 0.9 * 2 ** (-ages[:, None] / h) @ w, rtol=2e-6)
    knots, values = np.array([0.0, 2.0, 10.0, 30.0]), np.array([1.0, 0.6, 0.5, 0.0])
    found = kernels.piecewise(*(jnp.asarray(x, jnp.float32) for x in (ages, knots, values)))
    np.testing.assert_allclose(found, np.interp(ages, knots, values), rtol=2e-6, atol=1e-7)


def test_banks_of_several_users_broadcast_over_the_leading_axes() -> None:
    ages, h = jnp.array([0.5, 3.0]), jnp.array([[1.0, 9.0], [2.0, 20.0]])
    w, floor = jnp.array([0.25, 0.75]), jnp.array([0.0, 0.3])
    one_each = [float(kernels.bank(ages[i], h[i], w, floor[i])) for i in range(2)]
    np.testing.assert_allclose(kernels.bank(ages, h, w, floor), one_each, rtol=1e-6)
    one_each = [float(half_life(h[i], w, floor[i])) for i in range(2)]
    np.testing.assert_allclose(half_life(h, w, floor), one_each, rtol=1e-6)


@pytest.mark.parametrize("stages", [1, 2, 10, 1000])
def test_peak_of_the_bump_is_by_lamberts_function(stages: int) -> None:
    expected = -lambertw(-(2 ** (-1 / stages)) / np.e, -1).real
    np.testing.assert_allclose(kernels.half_over_peak(stages), expected, rtol=1e-12 * stages)


@pytest.mark.parametrize("kappa", [0.0, 1e-6, 1e-3, 0.3, 2.0])
def test_gradient_in_kappa_keeps_its_digits_down_to_the_exponential(kappa: float) -> None:
    """Against a difference quotient of 60 digits."""
    getcontext().prec = 90

    def curve(ratio: Decimal, kappa: Decimal) -> Decimal:
        return (-(1 + (Decimal(2) ** kappa - 1) * ratio).ln() / kappa).exp()

    step, at, ratios = Decimal("1e-25"), Decimal(float(np.float32(kappa))), [0.0, 0.25, 1.0, 3.0, 12.0]
    around = [(curve(Decimal(r), at - step), curve(Decimal(r), at + step)) for r in ratios]
    expected = [float(up) for _, up in around], [float((up - down) / (2 * step)) for down, up in around]
    slopes = jax.jit(jax.vmap(jax.value_and_grad(kernels.q_exponential, 2), (0, None, None)))
    for found, wanted in zip(
        slopes(jnp.array(ratios), jnp.array(1.0), jnp.array(kappa)), expected, strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=5e-7)


def test_families_meet_in_their_limits() -> None:
    ages = jnp.array([0.0, 0.1, 7.0, 30.0, 100.0])
    plain, rational = exponential(ages, 7.0), kernels.hyperbolic(ages, 7.0)
    pairs = {
        "kappa 0": (kernels.q_exponential(ages, 7.0, 0.0), plain),
        "kappa 1/shape": (kernels.q_exponential(ages, 7.0, 4.0), kernels.power(ages, 7.0, 0.25)),
        "shape 1": (kernels.power(ages, 7.0, 1.0), rational),
        "shape infinite": (kernels.power(ages, 7.0, jnp.inf), plain),
        "log, infinite": (kernels.logarithmic(ages, 7.0, jnp.inf), rational),
        "weibull 1": (kernels.weibull(ages, 7.0, 1.0), plain),
        "weibull 2": (kernels.weibull(ages, 7.0, 2.0), kernels.gaussian(ages, 7.0)),
        "logistic 1": (kernels.logistic(ages, 7.0, 1.0), plain),
        "logistic 0": (kernels.logistic(ages, 7.0, 1e-3), rational),
        "degree 0": (kernels.erlang(ages, 7.0, 0), plain),
        "no depth": (kernels.damped_cosine(ages, 7.0, 3.0, 0.0), plain),
        "no damping": (kernels.damped_cosine(ages, jnp.inf, 3.0, 1.0), raised_cosine(ages, 3.0)),
        "fsrs": (kernels.fsrs(ages, 2.0, 0.5), kernels.power(ages, kernels.fsrs_half_life(2.0, 0.5), 0.5)),
        "one rate": (kernels.bank(ages, jnp.array([7.0]), jnp.array([1.0])), plain),
        "far landmark": (kernels.forward(ages, 1e6, 1e6 * LN2 / 7.0), plain),
    }  # fmt: skip
    for name, (found, expected) in pairs.items():
        rtol = 6e-3 if name in ("logistic 0", "far landmark") else 2e-5
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-6, err_msg=name)


BANKS = (
    ((2.0, 30.0), (0.5, 0.5), 0.0),
    ((1.0, 10.0, 300.0), (0.6, 0.3, 0.1), 0.2),
    ((1 / 86_400, 36_500.0), (0.51, 0.49), 0.0),
    ((1 / 86_400, 36_500.0), (0.3, 0.7), 0.0),
    ((3.0, 1e-3), (1.0, 0.0), 0.45),
)


@pytest.mark.parametrize("bank", BANKS, ids=str)
def test_half_life_of_a_bank_is_brents_and_its_gradient_that_of_the_root(bank: tuple[Any, ...]) -> None:
    half_lives, weights, floor = (np.array(part) for part in bank)

    def root(theta: Any) -> float:
        h, w, p = theta[:-1].reshape(2, -1)[0], theta[:-1].reshape(2, -1)[1], theta[-1]
        curve = lambda log_age: p + (1 - p) * w @ 2 ** (-np.exp(log_age) / h) - 0.5  # noqa: E731
        return float(np.exp(brentq(curve, -20, 20, xtol=1e-15, rtol=1e-15)))

    theta = np.concatenate([half_lives, weights, [floor]])
    np.testing.assert_allclose(
        half_life(*(jnp.asarray(part, jnp.float32) for part in bank)), root(theta), rtol=3e-5
    )
    with jax.enable_x64(True):
        arrays = [jnp.asarray(part) for part in (half_lives, weights, floor)]
        found, slopes = jax.jit(jax.value_and_grad(kernels.bank_half_life, (0, 1, 2)))(*arrays)
        found = np.asarray(found)
        slopes = np.concatenate([np.ravel(slope) for slope in slopes])
    np.testing.assert_allclose(found, root(theta), rtol=1e-11)
    steps = 1e-6 * np.diag(np.maximum(theta, 1e-4))
    expected = [(root(theta + step) - root(theta - step)) / (2 * step.sum()) for step in steps]
    np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-6)


def test_half_life_over_a_floor_has_the_derivatives_of_its_closed_form_for_one_rate() -> None:
    """The floor is left aside: 7 log2((1 - p) / (1/2 - p)), whose derivatives in p are arithmetic."""
    floor = 0.2
    with jax.enable_x64(True):
        half_life = lambda p: kernels.bank_half_life(jnp.array([7.0]), jnp.array([1.0]), p)  # noqa: E731
        slope = jax.grad(half_life)
        found = [
            float(part) for part in jax.jit(lambda p: (half_life(p), *jax.value_and_grad(slope)(p)))(floor)
        ]
    stays, left = 1 - floor, 0.5 - floor
    expected = [np.log(stays / left), 1 / left - 1 / stays, 1 / left**2 - 1 / stays**2]
    np.testing.assert_allclose(found, 7 / LN2 * np.array(expected), rtol=1e-10)


def test_half_life_is_infinite_where_half_never_fades() -> None:
    h, w = jnp.array([1.0, 30.0, jnp.inf]), jnp.array([0.5, 0.2, 0.3])
    value, slopes = jax.jit(jax.value_and_grad(kernels.bank_half_life, (0, 1, 2)))(h, w, jnp.array(0.3))
    assert value == jnp.inf
    assert all((np.asarray(slope) == 0).all() for slope in slopes)
    assert half_life(h[:2], jnp.array([0.4, 0.6]), 1.0) == jnp.inf
    as_floor = half_life(h[:2], w[:2] / 0.7, 0.3)
    np.testing.assert_allclose(half_life(h, w, 0.0), as_floor, rtol=1e-5)
    knots, values = jnp.array([0.0, 4.0]), jnp.array([1.0, 0.6])
    assert kernels.piecewise_half_life(knots, values) == jnp.inf
    slope = jax.grad(kernels.piecewise_half_life, (0, 1))(knots, values)
    assert np.asarray(slope).tolist() == [[0, 0], [0, 0]]


def test_regressed_half_life_is_a_power_of_two_within_its_bounds() -> None:
    features = jnp.array([[1.0, 0.0], [1.0, 3.0], [1.0, -2.0], [1.0, 1e5], [1.0, -1e5]])
    found = kernels.regressed_half_life(features, jnp.array([1.0, 0.5]))
    np.testing.assert_allclose(found, [2, 2**2.5, 1, 274, 15 / 1440], rtol=1e-6)
    slope = jax.jacobian(kernels.regressed_half_life, 1)(features, jnp.array([1.0, 0.5]))
    np.testing.assert_allclose(slope[:3], LN2 * found[:3, None] * features[:3], rtol=1e-5)
    assert (slope[3:] == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kernels.erlang(jnp.ones(1), 1.0, -1), "degree: -1; give 0"),
        (lambda: kernels.piecewise(jnp.ones(1), jnp.zeros(1), jnp.ones(1)), "knots: 1 of them; give two"),
        (lambda: kernels.piecewise_half_life(jnp.zeros(1), jnp.ones(1)), "knots: 1 of them; give two"),
    ],
)
def test_what_cannot_be_used_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
