"""Forgetting curves: their defining equations, and finite values and slopes at both ends of time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdecay.kernels import LN2, exponential, raised_cosine

half_lives = st.floats(2.0**-16, 36_500, width=32)  # from a second to a century
ages = st.floats(0, 36_500, width=32)


@given(ages, half_lives)
def test_exponential_is_two_to_the_minus_age_over_half_life(age: float, half_life: float) -> None:
    found = exponential(jnp.array(age), jnp.array(half_life))
    np.testing.assert_allclose(found, 2.0 ** (-age / half_life), rtol=1e-4, atol=1e-30)


@given(half_lives)
def test_exponential_starts_at_one_and_is_one_half_at_its_half_life(half_life: float) -> None:
    h = jnp.array(half_life)
    assert exponential(jnp.array(0.0), h) == 1
    np.testing.assert_allclose(exponential(h, h), 0.5, rtol=1e-6)
    np.testing.assert_allclose(exponential(3 * h, h), 0.125, rtol=1e-5)


def test_an_infinite_half_life_never_fades() -> None:
    assert exponential(jnp.array([0.0, 1.0, 1e6]), jnp.array([jnp.inf] * 3)).tolist() == [1, 1, 1]


@given(st.floats(0, 300, width=32), st.floats(0.25, 400, width=32))
def test_raised_cosine_is_one_half_of_one_plus_cosine(age: float, period: float) -> None:
    found = raised_cosine(jnp.array(age), jnp.array(period))
    phase = 2 * np.pi * age / period
    np.testing.assert_allclose(found, (1 + np.cos(phase)) / 2, atol=1e-6 * (1 + phase))
    assert 0 <= found <= 1


def test_raised_cosine_comes_back_after_every_period_and_is_nothing_half_way() -> None:
    ages = jnp.arange(0, 50, 3.5)
    np.testing.assert_allclose(raised_cosine(ages, jnp.full_like(ages, 7.0)), [1, 0] * 7 + [1], atol=1e-5)


@pytest.mark.parametrize("curve", [exponential, raised_cosine])
@pytest.mark.parametrize("age", [0.0, 1e-9, 1.0, 40_000.0])
@pytest.mark.parametrize("scale", [1 / 86_400, 1.0, 36_500.0])
def test_values_and_slopes_are_finite_at_every_age(curve, age: float, scale: float) -> None:
    value, slopes = jax.value_and_grad(curve, (0, 1))(jnp.array(age), jnp.array(scale))
    assert np.isfinite([value, *slopes]).all()


@given(st.floats(0.01, 100), st.floats(0.1, 100))
def test_slope_in_the_half_life_is_the_formula(age: float, half_life: float) -> None:
    slope = jax.grad(lambda h: exponential(jnp.array(age), h))(jnp.array(half_life))
    expected = LN2 * age / half_life**2 * 2 ** (-age / half_life)
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-7)
