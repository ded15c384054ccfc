"""The algebra of modes: closed forms, the laws of a ring, convolution by quadrature, half-lives by root
finding, and the number of states by the rank of a Hankel matrix."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy import optimize, stats

from jaxdecay.algebra import (
    Kernel,
    bank,
    constant,
    cosine,
    damped_cosine,
    erlang,
    exponential,
    exponentials,
    raised_cosine,
)
from jaxdecay.errors import InputError

AGES = np.array([0.0, 1e-3, 0.4, 1.7, 3.1, 5.0])
LIMIT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}  # float64; partial fractions lose some digits of 16


class Curve(NamedTuple):
    """A plain mode, an oscillating one and a chain of two, in float64."""

    rate: list[float]
    frequency: float
    amplitude: list[float]
    sine: float

    def kernel(self) -> Kernel:
        frequency, sine = np.array([0, self.frequency, 0]), np.array([0, self.sine, 0])
        arrays = (jnp.asarray(x) for x in (np.array(self.rate), frequency, np.array(self.amplitude), sine))
        return Kernel(*arrays, degree=(0, 0, 1), oscillates=(False, True, False))

    def __call__(self, age: np.ndarray) -> np.ndarray:
        plain, wave, chain = np.moveaxis(np.exp(-np.multiply.outer(age, self.rate)), -1, 0)
        angle = self.frequency * age
        turned = self.amplitude[1] * np.cos(angle) + self.sine * np.sin(angle)
        return self.amplitude[0] * plain + turned * wave + self.amplitude[2] * age * chain


def curves(slowest: float) -> st.SearchStrategy[Curve]:
    """Rates at least .1 apart from each other and, for another ``slowest``, from those of another curve."""
    amplitude = st.floats(-2, 2)
    jitter = st.floats(0, 0.1)
    rates = st.tuples(jitter, jitter, jitter).map(
        lambda extra: [slowest + 0.6 * m + more for m, more in enumerate(extra)]
    )
    return st.builds(Curve, rates, st.floats(0.5, 3), st.lists(amplitude, min_size=3, max_size=3), amplitude)


first, second, third = curves(0.0), curves(0.2), curves(0.4)


at_ages = jax.jit(lambda kernel, age: kernel(age))


def at(kernel: Kernel, age: Any = AGES) -> np.ndarray:
    return np.asarray(at_ages(kernel, jnp.asarray(age)))


def test_every_constructor_is_its_formula() -> None:
    t, wave = AGES, 2 * np.pi / 1.7
    fading = 2 ** (-t / 0.9)
    rhythm = 1 + 0.6 * np.cos(wave * t + 0.4)
    pair = 0.3 * 2**-t + 0.7 * 2 ** (-t / 9)
    formulas = [
        (exponential(0.9), fading),
        (constant(), np.ones_like(t)),
        (cosine(1.7), np.cos(wave * t)),
        (raised_cosine(1.7), (1 + np.cos(wave * t)) / 2),
        (raised_cosine(1.7, 5), ((1 + np.cos(wave * t)) / 2) ** 5),
        (damped_cosine(0.9, 1.7, 0.6, 0.4), fading * rhythm / rhythm[0]),
        (erlang(2.5, 1), np.exp(-2.5 * t)),
        (erlang(2.5, 4), (2.5 * t) ** 3 * np.exp(-2.5 * t) / 6),
        (exponentials(jnp.array([0.3, 2.0]), jnp.array([2.0, -1.0])), 2 * np.exp(-0.3 * t) - np.exp(-2 * t)),
        (bank(jnp.array([1.0, 9.0]), jnp.array([0.3, 0.7])), pair),
        (bank(jnp.array([1.0, 9.0]), jnp.array([0.3, 0.7]), 0.2), 0.2 + 0.8 * pair),
    ]  # fmt: skip
    ages = jnp.asarray(AGES, jnp.float32)
    found = jax.jit(lambda kernels: [kernel(ages) for kernel in kernels])([kernel for kernel, _ in formulas])
    for values, (_, expected) in zip(found, formulas, strict=True):
        np.testing.assert_allclose(values, expected, rtol=2e-6, atol=2e-6)
    assert [round(float(values[0]), 6) for values in found] == [1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1]


def test_an_erlang_bump_is_the_gamma_density_also_where_its_factors_leave_float32() -> None:
    rate, stages = (
        1440.0,
        12,
    )  # a minute a stage: an amplitude of 1e27; age^11 is infinite at 10 years
    ages = np.array([1 / 86_400, 0.002, 0.0076, 0.02, 0.5, 36_500.0])
    expected = stats.gamma.pdf(ages, stages, scale=1 / rate) / rate
    np.testing.assert_allclose(
        at(erlang(rate, stages), ages.astype(np.float32)), expected, rtol=1e-4, atol=1e-20
    )


@jax.jit
def calculated(x: Kernel, y: Kernel, number: Any, speed: Any, share: Any) -> list[jax.Array]:
    results = [x, x + y, x * y, number * x, x.speed(speed), x.floor(share), x.convolve(y)]
    return [kernel(jnp.asarray(AGES)) for kernel in results]


@given(first, second, st.floats(-2, 2), st.floats(0, 3), st.floats(0, 1))
def test_calculating_with_kernels_is_calculating_with_their_values(
    a: Curve, b: Curve, number: float, speed: float, share: float
) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(60)
    lag = np.outer(AGES, (nodes + 1) / 2)
    integral = AGES / 2 * ((a(lag) * b(AGES[:, None] - lag)) @ weights)
    expected = [
        a(AGES), a(AGES) + b(AGES), a(AGES) * b(AGES), number * a(AGES), a(speed * AGES),
        share + (1 - share) * a(AGES), integral,
    ]  # fmt: skip
    with jax.enable_x64(True):
        numbers = (jnp.array(x, float) for x in (number, speed, share))
        found = calculated(a.kernel(), b.kernel(), *numbers)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **LIMIT)


@jax.jit
def laws(x: Kernel, y: Kernel, z: Kernel) -> list[tuple[jax.Array, jax.Array]]:
    equal = [
        (x + y, y + x),
        ((x + y) + z, x + (y + z)),
        (x + 0.0 * constant(), x),
        (x + -1.0 * x, 0.0 * constant()),
        (x * y, y * x),
        ((x * y) * z, x * (y * z)),
        (x * constant(), x),
        (x * (y + z), x * y + x * z),
        (x.convolve(y), y.convolve(x)),
        (x.convolve(y + z), x.convolve(y) + x.convolve(z)),
        ((x * y).speed(0.7), x.speed(0.7) * y.speed(0.7)),
    ]
    return [(left(jnp.asarray(AGES)), right(jnp.asarray(AGES))) for left, right in equal]


@given(first, second, third)
def test_the_laws_of_a_ring(a: Curve, b: Curve, c: Curve) -> None:
    with jax.enable_x64(True):
        for left, right in laws(a.kernel(), b.kernel(), c.kernel()):
            np.testing.assert_allclose(left, right, **LIMIT)


def test_equal_poles_make_a_chain_of_one_degree_more() -> None:
    rate = 0.7
    with jax.enable_x64(True):
        fading = erlang(rate, 1)
        chain = fading
        for stages in (2, 3):
            chain = chain.convolve(fading)
            assert max(chain.degree) == stages - 1
            np.testing.assert_allclose(rate ** (stages - 1) * at(chain), at(erlang(rate, stages)), **LIMIT)
        # cos * cos = (t cos ωt + sin ωt / ω) / 2
        wave = cosine(2 * math.pi / rate)
        expected = (AGES * np.cos(rate * AGES) + np.sin(rate * AGES) / rate) / 2
        np.testing.assert_allclose(at(wave.convolve(wave)), expected, **LIMIT)
        # a constant counts: its convolution with itself is the age
        np.testing.assert_allclose(at(constant().convolve(constant())), AGES, **LIMIT)


def test_poles_too_close_to_tell_apart_are_refused_with_the_remedy() -> None:
    near, nearer = exponentials(jnp.array([0.7]), jnp.ones(1)), exponentials(jnp.array([0.7001]), jnp.ones(1))
    with pytest.raises(
        InputError, match=r"convolve: rates 0\.7 and 0\.7001 .* too close for float32"
    ) as refusal:
        near.convolve(nearer)
    assert "make them equal" in str(refusal.value)
    assert "float64" in str(refusal.value)
    with jax.enable_x64(True):
        both = [exponentials(jnp.array([rate]), jnp.ones(1)) for rate in (0.7, 0.7001)]
        expected = (np.exp(-0.7 * AGES) - np.exp(-0.7001 * AGES)) / 0.0001
        np.testing.assert_allclose(at(both[0].convolve(both[1])), expected, rtol=1e-8, atol=1e-10)
        closer = exponentials(jnp.array([0.70005]), jnp.ones(1))
        both[0].convolve(closer)
        with pytest.raises(InputError, match="too close for float64"):  # a chain loses digits faster
            erlang(0.7, 2).convolve(closer)


def test_traced_poles_are_taken_to_be_different() -> None:
    convolve = jax.jit(lambda x, y: x.convolve(y)(jnp.array([0.5, 2.0])))
    x, y = damped_cosine(3.0, 2.0, 0.5, 0.1), exponential(1.0)
    np.testing.assert_allclose(convolve(x, y), at(x.convolve(y), [0.5, 2.0]), rtol=1e-5)
    assert not np.isfinite(convolve(x, x)).any()


def test_half_life_in_closed_form() -> None:
    cases = [
        (exponential(3.0), 3.0),
        (exponential(3.0) * exponential(6.0), 2.0),  # 1 / (1/3 + 1/6)
        (exponential(math.inf), math.inf),
        (constant(), math.inf),
        (bank(jnp.array([1.0, 8.0]), jnp.array([0.5, 0.5]), 0.5), math.inf),
        (exponential(2.0).floor(0.25), 2 * math.log2(3)),  # 1/4 + 3/4 x = 1/2 at x = 1/3
        (raised_cosine(7.0), 7 / 4),
        (cosine(7.0), 7 / 6),  # of the cosine, a third of the half-turn
        (-1.0 * exponential(3.0), math.inf),
        (exponentials(jnp.array([1e-4, 3e3]), jnp.array([0.9, 0.1])), math.log(1.8) / 1e-4),
        (erlang(0.0, 3) + constant(), math.inf),
    ]
    for kernel, expected in cases:
        np.testing.assert_allclose(kernel.half_life(), expected, rtol=1e-5)


@pytest.mark.parametrize("stages", [2, 5])
def test_half_life_of_a_bump_counts_from_age_0_and_from_its_peak(stages: int) -> None:
    shape, rate = stages - 1, 0.3
    bump = lambda age: (rate * age) ** shape * math.exp(-rate * age)  # noqa: E731
    peak = shape / rate
    expected = optimize.brentq(lambda age: bump(age) - bump(peak) / 2, peak, 20 * peak)
    np.testing.assert_allclose(erlang(rate, stages).half_life(), expected, rtol=1e-5)


def test_half_life_of_a_rhythm_is_its_first_crossing() -> None:
    kernel = damped_cosine(60.0, 1.0, 0.5, 0.0)
    expected = optimize.brentq(
        lambda age: 2 ** (-age / 60) * (1 + 0.5 * math.cos(2 * math.pi * age)) / 1.5 - 0.5, 0.2, 0.5
    )
    np.testing.assert_allclose(kernel.half_life(), expected, rtol=1e-5)


def rhythm() -> Kernel:
    return exponential(2.0) * raised_cosine(1.5)


STREAMING = {
    "bank of 3 and a floor: 4": lambda: bank(jnp.array([0.3, 1.0, 5.0]), jnp.array([0.2, 0.3, 0.5]), 0.1),
    "envelope times a constant and a wave: 3": rhythm,
    "three stages: 3": lambda: erlang(1.1, 3),
    "a wave squared, a constant and a double wave: 3": lambda: cosine(2.0) * cosine(2.0),
    "a wave convolved with itself: 4": lambda: cosine(3.0).convolve(cosine(3.0)),
    "the same rate twice: 1": lambda: exponential(1.0) + exponential(1.0),
    "one rate's chains share states: 3": lambda: erlang(1.0, 3) + erlang(1.0, 2),
    "a rhythm convolved with its envelope: 4": lambda: rhythm().convolve(exponential(2.0)),
}


@pytest.mark.parametrize("name", STREAMING)
def test_states_are_the_rank_of_what_the_past_can_say_of_the_future(name: str) -> None:
    """A curve streams with n states and no fewer if its Hankel matrix φ(s + t) has rank n (Kronecker)."""
    steps = 0.37 * np.arange(12)
    with jax.enable_x64(True):
        kernel = STREAMING[name]()
        hankel = at(kernel, np.add.outer(steps, steps))
        merged = kernel.merged()
        np.testing.assert_allclose(at(merged), at(kernel), rtol=1e-12, atol=1e-12)
    values = np.linalg.svd(hankel, compute_uv=False)
    rank = int((values > 1e-11 * values[0]).sum())
    assert merged.states() == rank == int(name.rsplit(" ", 1)[1])
    assert kernel.states() >= rank
    assert len(merged.degree) <= len(kernel.degree)


def test_traced_rates_count_as_different_and_are_not_merged() -> None:
    found = []

    @jax.jit
    def count(kernel: Kernel) -> jax.Array:
        found.append(kernel.states())
        return kernel.rate

    count(exponential(1.0) + exponential(1.0) + cosine(2.0))
    assert found == [4]
    with pytest.raises(InputError, match="merged: the rates are traced"):
        jax.jit(lambda kernel: kernel.merged())(exponential(1.0))


def test_merging_knows_a_wave_that_turns_backwards() -> None:
    sines = Kernel(
        jnp.zeros(2), jnp.array([2.0, -2.0]), jnp.ones(2), jnp.array([1.0, 0.25]), (0, 0), (True, True)
    )
    merged = sines.merged()
    assert merged.degree == (0,)
    np.testing.assert_allclose(
        at(merged, AGES.astype(np.float32)), at(sines, AGES.astype(np.float32)), atol=1e-6
    )


def built(half_life: jax.Array, period: jax.Array, speed: jax.Array) -> Kernel:
    """Everything at once: a sum, a product, a floor, a speed, a convolution and a chain."""
    rhythm = damped_cosine(half_life, period, 0.5, 0.3) * raised_cosine(2.0 * period, 2)
    echo = exponential(2.5 * half_life).convolve(erlang(3.0 / half_life, 2))
    return (rhythm * exponential(7.0 * half_life) + echo).floor(0.1).speed(speed)


PARAMETERS = (3.0, 1.3, 0.8)


def test_jit_and_vmap_are_the_loop() -> None:
    ages = jnp.asarray(AGES, jnp.float32)
    many = [jnp.array([value, 1.5 * value]) for value in PARAMETERS]
    kernels = jax.jit(jax.vmap(built))(*many)
    assert kernels.rate.shape == (2, len(kernels.degree))
    found = jax.jit(jax.vmap(lambda kernel: kernel(ages)))(kernels)
    for user in range(2):
        kernel = built(*(x[user] for x in many))
        np.testing.assert_allclose(found[user], kernel(ages), rtol=2e-5, atol=1e-6)
        assert (kernel(ages.reshape(2, 3)) == kernel(ages).reshape(2, 3)).all()


def test_gradients_agree_with_finite_differences() -> None:
    with jax.enable_x64(True):
        kernel, step = built(*map(jnp.array, PARAMETERS)), 1e-7
        both = jax.jit(jax.value_and_grad(lambda age: kernel(age)))
        (start, slope), (later, _) = both(0.0), both(step)  # to the right: a negative age counts as 0
        assert float(slope) == pytest.approx(float(later - start) / step, rel=1e-5)
        ages, (half_life, period, speed) = jnp.array([0.1, 0.7, 4.0]), map(jnp.array, PARAMETERS)
        check_grads(
            jax.jit(lambda ages, *rest: built(*rest)(ages)), (ages, half_life, period, speed), order=1,
            modes=["rev"],
        )  # fmt: skip
        simple = jax.jit(lambda ages, h, p: (damped_cosine(h, p, 0.5) * erlang(1 / h, 2))(ages))
        check_grads(simple, (ages, half_life, period), order=2, modes=["rev"])


@pytest.mark.parametrize("age", [0.0, 1e-9, 1.0, 36_500.0])
@pytest.mark.parametrize("scale", [1 / 86_400, 1.0, 36_500.0])
def test_values_and_slopes_are_finite_in_float32(age: float, scale: float) -> None:
    inputs = (jnp.array(age), jnp.array(scale), jnp.array(scale / 2), jnp.array(1.0))
    value, slopes = slope_of(*inputs)
    assert np.isfinite([value, *slopes]).all()


slope_of = jax.jit(jax.value_and_grad(lambda age, *rest: built(*rest)(age), (0, 1, 2, 3)))


def test_numbers_multiply_from_either_side_whatever_their_kind() -> None:
    kernel = exponential(2.0)
    for number in (3, 3.0, np.float64(3.0), jnp.array(3.0)):
        assert float((number * kernel)(jnp.array(2.0))) == float((kernel * number)(jnp.array(2.0))) == 1.5


def test_strict_promotion_keeps_float32() -> None:
    with jax.numpy_dtype_promotion("strict"):
        shape = jax.eval_shape(lambda *rest: built(*rest)(rest[0]), *(jnp.array(x) for x in PARAMETERS))
    assert shape.dtype == jnp.float32


def test_a_bump_without_stages_is_refused() -> None:
    with pytest.raises(InputError, match="stages=0 >= 1"):
        erlang(1.0, 0)
