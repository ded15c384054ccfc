"""Curves as a few modes: the error that is stated is the error there is, it is small, and it has slopes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxdecay import expsum, kernels
from jaxdecay.algebra import Kernel
from jaxdecay.errors import InputError
from jaxdecay.expsum import approximate, modes_needed

FOUR_DECADES = (1.0, 1e4)


def power(shape: Any) -> Callable[[jax.Array], jax.Array]:
    return lambda age: (1 + age) ** -shape


def logarithm(age: jax.Array) -> jax.Array:
    return 1 / (1 + jnp.log1p(age))


EXACT = {
    "power .15": (power(0.1542), lambda age: (1 + age) ** -0.1542),
    "power .5": (power(0.5), lambda age: (1 + age) ** -0.5),
    "power 1": (power(1.0), lambda age: 1 / (1 + age)),
    "logarithm": (logarithm, lambda age: 1 / (1 + np.log1p(age))),
}


def in_float64(kernel: Kernel, age: np.ndarray) -> np.ndarray:
    rate, weight = np.asarray(kernel.rate, np.float64), np.asarray(kernel.cosine, np.float64)
    return np.exp(-np.outer(age, rate)) @ weight


@pytest.mark.parametrize(("modes", "limit"), [(8, 0.03), (12, 0.003), (16, 0.0003)])
@pytest.mark.parametrize("name", EXACT)
def test_the_stated_error_is_the_error_and_is_small(name: str, modes: int, limit: float) -> None:
    function, exact = EXACT[name]
    kernel, error = approximate(function, modes=modes, span=FOUR_DECADES, tolerance=limit)
    age = np.concatenate([[0.0], np.geomspace(1e-5, 1e4, 3456)])  # not the grid of the fit
    measured = abs(in_float64(kernel, age) / exact(age) - 1).max()
    np.testing.assert_allclose(error, measured, rtol=0.02, atol=2e-6)
    assert measured <= limit
    assert kernel.rate.shape == (modes,)
    assert kernel.states() == modes


def test_weights_stay_small_so_that_their_sum_keeps_its_digits() -> None:
    for name in EXACT:
        kernel, error = approximate(EXACT[name][0], modes=24, span=(1.0, 10.0))
        assert float(abs(kernel.cosine).sum()) < 8
        assert error < 1e-4


def test_slopes_in_the_shape_are_those_of_the_curve() -> None:
    def at_37(shape: jax.Array) -> jax.Array:
        return approximate(power(shape), modes=12, span=FOUR_DECADES).kernel(jnp.array(37.0))

    # 38^-α = e^(-α ln 38)
    slope, bend = jax.jit(lambda shape: (jax.grad(at_37)(shape), jax.grad(jax.grad(at_37))(shape)))(0.5)
    np.testing.assert_allclose(slope, -np.log(38) * 38**-0.5, rtol=3e-3)
    np.testing.assert_allclose(bend, np.log(38) ** 2 * 38**-0.5, rtol=1e-2)
    with jax.enable_x64(True):
        check_grads(jax.jit(lambda shape: at_37(jnp.asarray(shape))), (jnp.array(0.5),), order=1)


def test_in_a_traced_program_the_error_is_an_array_and_nothing_is_refused() -> None:
    def fit(shape: jax.Array) -> expsum.Approximation:
        return approximate(power(shape), modes=4, span=FOUR_DECADES, tolerance=1e-6)

    shapes = jnp.array([0.3, 0.9])
    kernels, errors = jax.jit(jax.vmap(fit))(shapes)
    for user in range(2):
        kernel, error = approximate(power(float(shapes[user])), modes=4, span=FOUR_DECADES)
        np.testing.assert_allclose(kernels.cosine[user], kernel.cosine, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(errors[user], error, rtol=1e-3)
    assert (errors > 1e-6).all()


def test_a_longer_half_life_is_the_same_fit_at_another_speed() -> None:
    once = approximate(power(0.5), modes=8, span=FOUR_DECADES).kernel
    slower = approximate(lambda age: (1 + age / 30) ** -0.5, modes=8, span=(30.0, 3e5)).kernel
    age = jnp.array([0.0, 1.0, 400.0, 2e5])
    np.testing.assert_allclose(slower(age), once.speed(1 / 30)(age), rtol=1e-4)


def test_above_the_tolerance_it_is_refused_with_the_error_and_the_remedies() -> None:
    with pytest.raises(InputError, match=r"modes=8 .* error of 0\.02\d*, above tolerance=0\.001") as refusal:
        approximate(power(1.0), modes=8, span=FOUR_DECADES, tolerance=0.001)
    for remedy in ("more modes", "narrower span", "dual form"):
        assert remedy in str(refusal.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda age: jnp.exp(-(age**2)), r"function is 0 at the age of 9\.\d+ days"),
        (lambda age: jnp.cos(age), "function is -"),
        (lambda age: jnp.log(age), "function is -inf at the age of 0 days"),
    ],
)
def test_what_has_no_relative_error_is_refused(function: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        approximate(function, modes=8, span=FOUR_DECADES)


@pytest.mark.parametrize(
    "options",
    [
        {"modes": 1, "span": (1.0, 10.0)},
        {"modes": 4, "span": (10.0, 1.0)},
        {"modes": 4, "span": (0.0, 1.0)},
        {"modes": 4, "span": (1.0, float("inf"))},
    ],
)
def test_impossible_options_are_refused(options: Any) -> None:
    with pytest.raises(InputError, match=r"expected modes=.* span="):
        approximate(power(1.0), **options)


def test_modes_needed_are_the_fewest_that_reach_the_tolerance() -> None:
    span = (1.0, 1e2)
    modes = modes_needed(power(0.5), span, 0.1)
    assert approximate(power(0.5), modes=modes, span=span).error <= 0.1
    assert approximate(power(0.5), modes=modes - 1, span=span).error > 0.1
    with pytest.raises(InputError, match=r"up to 4 reaches tolerance=0\.001 .* 4 come closest with 0\.03"):
        modes_needed(power(0.5), span, 0.001, most=4)


AGES = jnp.array([0.0, 0.5, 3.0, 7.0, 40.0])
STREAMING: dict[str, tuple[Any, ...]] = {
    "exponential": (kernels.exponential, 7.0),
    "bank": (kernels.bank, jnp.array([1.0, 90.0]), jnp.array([0.3, 0.7])),
    "raised cosine": (kernels.raised_cosine, 7.0),
    "damped cosine": (kernels.damped_cosine, 30.0, 7.0, 0.6, 0.5),
    "bump": (kernels.erlang, 9.0, 3),
    "bump of degree 0": (kernels.erlang, 9.0, 0),
    "q-exponential at its limit": (kernels.q_exponential, 7.0, 0.0),
    "power at its limit": (kernels.power, 7.0, float("inf")),
    "weibull of shape 1": (kernels.weibull, 7.0, 1.0),
    "logistic of steepness 1": (kernels.logistic, 7.0, 1.0),
}


@pytest.mark.parametrize("name", STREAMING)
def test_a_curve_that_streams_comes_back_exactly(name: str) -> None:
    family, *parameters = STREAMING[name]
    found = expsum.modes(family, *parameters, tolerance=1e-9, span=(1.0, 1e3))
    assert found.error == 0
    np.testing.assert_allclose(found.kernel(AGES), family(AGES, *parameters), rtol=3e-5, atol=3e-6)
    assert expsum.modes(found.kernel, tolerance=1e-9, span=(1.0, 1e3)).kernel is found.kernel


def test_a_bump_whose_amplitude_no_float_holds_is_refused() -> None:
    kernel = expsum.modes(kernels.erlang, 1.0, 30, tolerance=1e-3, span=(1.0, 1e2)).kernel
    ages = jnp.array([0.0, 0.5, 0.9, 1.0, 3.0, 100.0])
    np.testing.assert_allclose(kernel(ages), kernels.erlang(ages, 1.0, 30), rtol=2e-4, atol=1e-6)
    with pytest.raises(InputError, match="degree 60 has amplitudes beyond float32"):
        expsum.modes(kernels.erlang, 30.0, 60, tolerance=1e-3, span=(1.0, 1e2))


def test_any_other_curve_is_fitted_to_the_tolerance_or_refused() -> None:
    found = expsum.modes(kernels.power, 7.0, 0.5, tolerance=0.05, span=(2.0, 2e2))
    assert 0 < found.error <= 0.05
    np.testing.assert_allclose(found.kernel(AGES), kernels.power(AGES, 7.0, 0.5), rtol=0.05)
    with pytest.raises(InputError, match=r"modes=8 .* leave a relative error of"):
        expsum.modes(kernels.weibull, 7.0, 0.3, tolerance=1e-3, span=(1.0, 1e3), count=8)

    def left(shape: Any, count: int | None) -> Any:
        fit = expsum.modes(kernels.power, 7.0, shape, tolerance=0.02, span=(2.0, 2e3), count=count)
        return fit.kernel(AGES)[-1]

    slope = jax.jit(jax.grad(left), static_argnums=1)(0.5, 8)
    assert float(slope) == pytest.approx(float(jax.grad(kernels.power, 2)(AGES[-1], 7.0, 0.5)), rel=0.1)
    with pytest.raises(InputError, match="traced; say by count="):
        jax.grad(left)(0.5, None)


TABLE = [line for line in (expsum.__doc__ or "").splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("row", range(1, len(TABLE)))
def test_fits_err_by_less_than_the_table_says(row: int) -> None:
    def number(text: str) -> float:
        return float(text.replace(",", "").removesuffix("%")) / (100 if "%" in text else 1)

    counts, (reach, *limits) = ([cell.strip() for cell in TABLE[i].strip("|").split("|")] for i in (0, row))
    for count, limit in zip(counts[1:], limits, strict=True):
        worst = max(
            float(approximate(f, modes=int(count), span=(1.0, number(reach))).error)
            for f, _ in EXACT.values()
        )
        assert 0.4 * number(limit) < worst < number(limit), (reach, count, worst)
