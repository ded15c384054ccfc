"""Modes: the curves they add up to, the state they turn, and the age at which a curve has halved."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdecay.basis import Basis
from jaxdecay.errors import InputError
from jaxdecay.interest import Bank
from jaxdecay.modes import Modes, first_half, in_days

AGES = jnp.array([0.0, 1e-3, 0.4, 3.0, 17.5, 400.0])
HALF_LIVES, ENVELOPES, PERIODS = jnp.array([0.5, 9.0]), jnp.array([30.0, 90.0]), jnp.array([1.0, 7.0])


def basis(half_lives: Any, envelopes: Any, periods: Any, sharpness: tuple[int, ...] = ()) -> Basis:
    """That of a bank that has learned these."""
    made = Bank(tuple(half_lives.tolist()), tuple(periods.tolist()), sharpness)
    decay = {
        "log_half_life": jnp.log(half_lives),
        "log_envelope": jnp.log(envelopes),
        "period_shift": jnp.zeros_like(periods),
        "write": jnp.zeros(made.curves),
    }
    return made.bind({"params": {name: x for name, x in decay.items() if x.size}}).basis()


def test_times_that_are_no_integers_are_refused() -> None:
    with pytest.raises(InputError, match="times are float32: give whole seconds"):
        in_days(jnp.array([1.7e9]))


def curve_by_curve(ages: Any, sharpness: tuple[int, ...] = (1, 1)) -> np.ndarray:
    """(A, 1 + K + P) float64: what the bank promises, a curve at a time."""
    ages = np.asarray(ages, np.float64)
    fading = [2 ** (-ages / float(h)) for h in HALF_LIVES]
    rhythms = [
        2 ** (-ages / float(h)) * ((1 + np.cos(2 * np.pi * ages / float(p))) / 2) ** m
        for h, p, m in zip(ENVELOPES, PERIODS, sharpness, strict=True)
    ]
    return np.stack([np.ones_like(ages), *fading, *rhythms], axis=-1)


@pytest.mark.parametrize("sharpness", [(), (2, 8), (9, 1)])
def test_a_bank_is_its_curves_and_their_modes(sharpness: tuple[int, ...]) -> None:
    weights = jnp.array([0.1, 0.2, 0.3, 0.15, 0.25])
    made = basis(HALF_LIVES, ENVELOPES, PERIODS, sharpness)
    expected = curve_by_curve(AGES, sharpness or (1, 1))
    np.testing.assert_allclose(made.curves(AGES), expected, atol=2e-5)
    expanded = made.modes().curves(AGES) @ made.expand_writes(weights)
    np.testing.assert_allclose(expanded, expected @ np.asarray(weights, np.float64), atol=2e-5)


def turned(days: Any, sharpness: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float64: (A, M) phasors, as complex numbers, and the slope in each period of the sum of the squares of
    their real parts, with the sum of the sizes of its terms."""
    days = np.asarray(days, np.float64)
    plain = [np.ones_like(days), *(2 ** (-days / float(h)) for h in (*HALF_LIVES, *ENVELOPES))]
    found, slope, size = [one.astype(complex) for one in plain], np.zeros(2), np.zeros(2)
    for order in range(1, max(sharpness) + 1):
        for i, (envelope, period) in enumerate(zip(ENVELOPES, PERIODS, strict=True)):
            if order <= sharpness[i]:
                angle, fade = 2 * np.pi * order * days / float(period), 2 ** (-days / float(envelope))
                found.append(fade * np.exp(1j * angle))
                step = 2 * fade**2 * angle / float(period)
                slope[i] += (step * np.cos(angle) * np.sin(angle)).sum()
                size[i] += step.sum()
    return np.stack(found, -1), slope, size


@pytest.mark.parametrize("sharpness", [(1, 1), (3, 8), (8, 3)])
def test_powers_of_a_turn_are_the_phasors_of_its_harmonics(sharpness: tuple[int, ...]) -> None:
    made = basis(HALF_LIVES, ENVELOPES, PERIODS, sharpness)
    seconds = jnp.array([0, 1, 3_600, 86_400 * 2 + 77, 86_400 * 365 + 40_000], jnp.int32)
    for age, days in ((seconds, np.asarray(seconds) / 86_400), (AGES[:-1], AGES[:-1])):
        expected, slope, size = turned(days, sharpness)
        # Angles of whole seconds keep their phase; those of days are floats, and rounded as such.
        rounded = 0.0 if age is seconds else 6e-8 * 2 * np.pi * max(sharpness) * float(days.max())
        np.testing.assert_allclose(
            made.phasors(age), [expected.real, expected.imag], rtol=0, atol=3e-6 + rounded
        )
        # The harmonics' own frequencies are rounded, each by itself.
        np.testing.assert_allclose(
            made.modes().phasors(age), [expected.real, expected.imag], rtol=0, atol=8e-6 + rounded
        )

        def squares(period: jax.Array, age: jax.Array = age) -> jax.Array:
            return (made.replace(period=period).phasors(age)[0] ** 2).sum()

        error = np.abs(np.asarray(jax.jit(jax.grad(squares))(made.period)) - slope)
        assert (error <= (5e-6 + rounded) * size).all()


def test_writes_and_reads_expanded_multiply_to_the_product_per_curve() -> None:
    random = np.random.default_rng(0)
    write, read = random.random((2, 5)).astype(np.float32)
    made = basis(HALF_LIVES, ENVELOPES, PERIODS, (3, 1))
    product = made.expand_writes(jnp.asarray(write)) * made.expand_reads(jnp.asarray(read))
    expected = curve_by_curve(AGES, (3, 1)) @ (write * read).astype(np.float64)
    np.testing.assert_allclose(made.modes().curves(AGES) @ product, expected, atol=5e-5)


def test_a_bank_without_rhythm_has_no_frequency_and_needs_no_expansion() -> None:
    made = basis(HALF_LIVES, jnp.zeros(0), jnp.zeros(0))
    assert made.modes().frequency is None
    for kind in (made, made.modes()):
        np.testing.assert_allclose(kind.curves(AGES), curve_by_curve(AGES)[:, :3], rtol=1e-5, atol=1e-30)
        np.testing.assert_array_equal(kind.phasors(AGES), kind.curves(AGES)[None])
        weights = jnp.ones((4, 3))
        assert kind.expand_writes(weights) is weights
        assert kind.expand_reads(weights) is weights


def test_a_bank_without_half_lives_never_fades() -> None:
    assert (basis(jnp.zeros(0), jnp.zeros(0), jnp.zeros(0)).curves(AGES) == 1).all()


@pytest.mark.parametrize("frequency", [None, jnp.array([0.0, 0.9, 2.0])])
@given(first=st.floats(0, 30, width=32), second=st.floats(0, 30, width=32))
def test_turning_by_two_stretches_of_time_is_the_curve_of_their_sum(
    frequency: jnp.ndarray | None, first: float, second: float
) -> None:
    modes = Modes(jnp.array([0.0, 0.05, 2.0]), frequency)
    turned = modes.real_product(modes.phasors(jnp.array(first)), modes.phasors(jnp.array(second)))
    rate = np.array([0.0, 0.05, 2.0])
    angle = np.zeros(3) if frequency is None else np.asarray(frequency, np.float64)
    expected = np.exp(-rate * (first + second)) * np.cos(angle * (first + second))
    np.testing.assert_allclose(turned, expected, atol=3e-5)
    np.testing.assert_allclose(modes.curves(jnp.array(first + second)), expected, atol=3e-5)


def test_first_half_of_straight_lines_is_exact() -> None:
    age = np.array([0.0, 1.0, 4.0])
    lines = np.array([[1.0, 0.75, 0.0], [2.0, 1.0, 0.5], [1.0, 0.9, 0.6], [4.0, 0.0, 0.0]])
    # from .75 at 1 to 0 at 4: one half at 2; at the sample itself; never; half-way to the first sample
    np.testing.assert_allclose(first_half(age, lines), [2.0, 1.0, np.inf, 0.5])


@given(st.floats(0.01, 500))
def test_first_half_of_an_exponential_is_its_half_life(half_life: float) -> None:
    age = np.concatenate([[0.0], np.geomspace(1e-3, 5000, 2000)])
    np.testing.assert_allclose(first_half(age, 3 * 2 ** (-age / half_life)), half_life, rtol=1e-3)


def test_first_half_is_the_first_of_several_crossings() -> None:
    age = np.linspace(0, 2, 2001)
    np.testing.assert_allclose(first_half(age, (1 + np.cos(2 * np.pi * age)) / 2), 0.25, rtol=1e-3)


def test_first_half_of_nothing_is_at_once() -> None:
    assert first_half(np.array([0.0, 1.0]), np.zeros((1, 2))).tolist() == [0.0]
