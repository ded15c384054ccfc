"""Forgetting curves: one battery over every family; their formulas stand in `test_kernel_forms.py`."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecay import kernels

SECOND, CENTURY, THIRTY_YEARS = 1 / 86_400, 36_500.0, 10_957.0


class Family(NamedTuple):
    name: str
    curve: Callable[..., Any]
    parameters: tuple[Any, ...]
    half_life: Callable[..., Any] = lambda half_life, *_: half_life
    monotone: bool = True
    mixture: bool = False  # of exponentials with positive weights: completely monotone

    def arrays(self, dtype: Any = jnp.float32) -> tuple[Any, ...]:
        return tuple(jnp.asarray(parameter, dtype) for parameter in self.parameters)


BANK = ((0.5, 9.0, 30.0), (0.3, 0.3, 0.4), 0.1)
SEGMENTS = ((0.0, 3.0, 9.0, 40.0), (1.0, 0.7, 0.4, 0.1))
SHARP = partial(kernels.raised_cosine, sharpness=8)
SHARP_HALF = np.arccos(2 ** (-1 / 16)) / np.pi  # of its period
FAMILIES = (
    Family("exponential", kernels.exponential, (7.0,), mixture=True),
    Family("bank", kernels.bank, BANK, kernels.bank_half_life, mixture=True),
    Family("raised_cosine", kernels.raised_cosine, (28.0,), lambda period: period / 4, monotone=False),
    Family("raised_cosine_sharp", SHARP, (28.0,), lambda period: SHARP_HALF * period, monotone=False),
    Family("damped_cosine", kernels.damped_cosine, (14.0, 7.0, 0.6), monotone=False),
    Family("damped_cosine_phase", kernels.damped_cosine, (14.0, 7.0, 0.3, 0.5), monotone=False),
    Family("erlang_0", partial(kernels.erlang, degree=0), (7.0,), mixture=True),
    Family("erlang_1", partial(kernels.erlang, degree=1), (7.0,), monotone=False),
    Family("erlang_6", partial(kernels.erlang, degree=6), (7.0,), monotone=False),
    Family("q_exponential_0", kernels.q_exponential, (7.0, 0.0), mixture=True),
    Family("q_exponential", kernels.q_exponential, (7.0, 0.7), mixture=True),
    Family("power", kernels.power, (7.0, 0.5), mixture=True),
    Family("hyperbolic", kernels.hyperbolic, (7.0,), mixture=True),
    Family("fsrs", kernels.fsrs, (2.0, 0.1542), kernels.fsrs_half_life, mixture=True),
    Family("logarithmic", kernels.logarithmic, (7.0, 0.4), mixture=True),
    Family("weibull_low", kernels.weibull, (7.0, 0.5), mixture=True),
    Family("weibull_high", kernels.weibull, (7.0, 2.5)),
    Family("gaussian", kernels.gaussian, (7.0,)),
    Family("logistic_low", kernels.logistic, (7.0, 0.4), mixture=True),
    Family("logistic_1", kernels.logistic, (7.0, 1.0), mixture=True),
    Family("logistic_high", kernels.logistic, (7.0, 5.0)),
    Family("piecewise", kernels.piecewise, SEGMENTS, kernels.piecewise_half_life),
    Family("forward", kernels.forward, (20.0, 1.5), kernels.forward_half_life),
)
# Second derivatives are run once: their compilation is what costs.
quickly = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def start(family: Family) -> float:
    return 0.0 if family.name in ("erlang_1", "erlang_6") else 1.0


@every_family
def test_starts_at_one_and_is_one_half_at_its_half_life(family: Family) -> None:
    parameters = family.arrays()
    half_life = jnp.asarray(family.half_life(*parameters))
    assert family.curve(jnp.array(0.0), *parameters) == start(family)
    np.testing.assert_allclose(family.curve(half_life, *parameters), 0.5, rtol=2e-6)


@every_family
def test_stays_between_nothing_and_one_and_falls_if_it_says_so(family: Family) -> None:
    ages = jnp.concatenate([jnp.zeros(1), jnp.geomspace(1e-4, 4e4, 400)])
    found = np.asarray(jax.jit(family.curve)(ages, *family.arrays()))
    assert (found >= 0).all()
    assert (found <= 1 + 3e-7).all()
    assert (np.diff(found) <= 2e-7).all() == family.monotone


@every_family
def test_is_a_mixture_of_exponentials_if_it_says_so(family: Family) -> None:
    """Differences of order n of a completely monotone curve have the sign of (-1)^n, and only of these."""
    with jax.enable_x64(True):
        ages = jnp.linspace(0, 35, 71)
        found = np.asarray(jax.jit(family.curve)(ages, *family.arrays(jnp.float64)))
    signed = [np.diff(found, order) * (-1) ** order for order in range(9)]
    assert all((differences >= -1e-12).all() for differences in signed) == family.mixture


@every_family
def test_jit_is_eager_and_vmap_is_a_loop(family: Family) -> None:
    ages, parameters = jnp.array([0.0, 0.3, 90.0]), family.arrays()
    loop = [float(family.curve(age, *parameters)) for age in ages]
    np.testing.assert_allclose(jax.jit(family.curve)(ages, *parameters), loop, rtol=5e-6, atol=1e-12)
    one_each = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), parameters)
    np.testing.assert_allclose(jax.jit(jax.vmap(family.curve))(ages, *one_each), loop, rtol=5e-6, atol=1e-12)


@every_family
def test_a_mask_over_everything_leaves_no_gradient_and_no_nan(family: Family) -> None:
    ages = jnp.array([-jnp.inf, -1.0, 1e-30, 5.0, THIRTY_YEARS, jnp.inf])

    def total(mask: Any, *arguments: Any) -> Any:
        curve = family.curve(*arguments)
        return jnp.where(mask, curve, 0.0).sum(), curve

    slopes = jax.jit(jax.grad(total, tuple(range(1, 2 + len(family.parameters))), has_aux=True))
    found, _ = slopes(jnp.zeros(6, bool), ages, *family.arrays())
    assert all((np.asarray(slope) == 0).all() for slope in found)
    found, _ = slopes(jnp.arange(6) == 3, ages, *family.arrays())
    assert all(np.isfinite(slope).all() for slope in found)
    assert (found[0] != 0).tolist() == [False] * 3 + [True] + [False] * 2
    # Nothing masked: a negative age is none, an infinite one a very long one, and neither has a slope.
    found, curve = slopes(jnp.ones(6, bool), ages, *family.arrays())
    assert all(np.isfinite(slope).all() for slope in found)
    assert found[0][jnp.array([0, 1, 5])].tolist() == [0, 0, 0]
    assert curve[:2].tolist() == [start(family)] * 2
    at_last = family.curve(jnp.array(kernels.LONGEST), *family.arrays())
    np.testing.assert_allclose(curve[-1], at_last, rtol=1e-5)


@every_family
def test_derivatives_are_those_of_finite_differences_to_the_second_order(family: Family) -> None:
    """What `jax.test_util.check_grads` does, compiled once for all points; at age 0 to the right."""
    sizes = np.cumsum([np.size(parameter) for parameter in family.parameters])[:-1] + 1
    rest = np.concatenate([np.ravel(parameter) for parameter in family.parameters])
    direction, step = np.random.default_rng(0).normal(size=1 + rest.size), 1e-5

    def flat(point: Any) -> Any:
        age, *parts = jnp.split(point, [1, *sizes])
        shaped = (part.reshape(np.shape(own)) for part, own in zip(parts, family.parameters, strict=True))
        return family.curve(age[0], *shaped)

    def derivatives(point: Any) -> Any:
        return flat(point), *jax.jvp(jax.grad(flat), (point,), (jnp.asarray(direction),))

    base = np.stack([np.append(age, rest) for age in (0.4, 11.0)])
    along = step * np.concatenate([direction[None], np.eye(len(direction))])
    inside = np.concatenate([base[:, None], base[:, None] + along, base[:, None] - along], 1)
    first = np.stack([np.append(age, rest) for age in (0.0, 1e-7)])
    with jax.enable_x64(True):
        points = np.concatenate([*inside, first])
        found = [np.asarray(part) for part in quickly(jax.vmap(derivatives))(jnp.asarray(points))]
    values, slopes, bends = (part[:-2].reshape(2, -1, *part.shape[1:]) for part in found)
    value, slope = found[0][-2:], found[1][-2:]
    up, down = slice(1, 1 + len(along)), slice(1 + len(along), None)
    expected = (values[:, up] - values[:, down]) / (2 * step)
    np.testing.assert_allclose(slopes[:, 0], expected[:, 1:], rtol=1e-5, atol=1e-8)
    expected = (slopes[:, up] - slopes[:, down]) / (2 * step)
    np.testing.assert_allclose(bends[:, 0], expected[:, 0], rtol=1e-5, atol=1e-8)
    rise = (value[1] - value[0]) / 1e-7
    if family.name == "weibull_low":  # infinite, and therefore said to be 0
        assert rise < -500
        assert slope[0, 0] == 0
    else:
        np.testing.assert_allclose(slope[0, 0], rise, rtol=1e-4, atol=1e-6)


@every_family
def test_float32_stays_float32_under_strict_promotion(family: Family) -> None:
    with jax.numpy_dtype_promotion("strict"):
        assert jax.eval_shape(family.curve, jnp.zeros(2), *family.arrays()).dtype == jnp.float32
        assert jax.eval_shape(family.half_life, *family.arrays()).dtype == jnp.float32
        with jax.enable_x64(True):
            ages = jnp.zeros(2, jnp.float64)
            assert jax.eval_shape(family.curve, ages, *family.arrays(jnp.float64)).dtype == jnp.float64


# The sensible ranges that the docstrings state; the first parameter of each is a time scale.
RANGES = {
    "exponential": (kernels.exponential,),
    "raised_cosine": (kernels.raised_cosine,),
    "raised_cosine_sharp": (SHARP,),
    "damped_cosine": (kernels.damped_cosine, (SECOND, 1.0, CENTURY), (0.0, 0.5, 1.0), (-1.0, 0.0, 1.0)),
    "erlang_1": (partial(kernels.erlang, degree=1),),
    "erlang_2": (partial(kernels.erlang, degree=2),),
    "erlang_100": (partial(kernels.erlang, degree=100),),
    "q_exponential": (kernels.q_exponential, (0.0, 1e-12, 1e-6, 1e-3, 0.7, 10.0, 70.0)),
    "power": (kernels.power, (0.02, 0.1542, 1.0, 30.0, 1e4, jnp.inf)),
    "hyperbolic": (kernels.hyperbolic,),
    "fsrs": (kernels.fsrs, (0.02, 0.1, 0.1542, 0.8, 100.0)),
    "logarithmic": (kernels.logarithmic, (0.02, 0.3, 1.0, 100.0, 1e6, jnp.inf)),
    "weibull": (kernels.weibull, (0.1, 0.5, 1.0, 2.0, 10.0)),
    "gaussian": (kernels.gaussian,),
    "logistic": (kernels.logistic, (0.1, 0.5, 1.0, 1.001, 10.0, 100.0)),
    "forward": (kernels.forward, (0.0, 0.1, 0.5, 1.0, 2.0, 100.0)),
    "bank": (
        lambda age, h, w: kernels.bank(age, jnp.stack([h, 30 * h]), jnp.stack([w, 1 - w])),
        (0.0, 0.3, 1.0),
    ),
    "piecewise": (lambda age, h: kernels.piecewise(age, jnp.arange(3) * h, jnp.array([1.0, 0.4, 0.2])),),
}
EXTREME_AGES = (-jnp.inf, -1.0, 0.0, 1e-38, 1e-20, 1e-9, SECOND, 1.0, THIRTY_YEARS, 1e8, jnp.inf)


@pytest.mark.parametrize("name", RANGES)
def test_values_and_slopes_are_finite_at_every_age_and_scale(name: str) -> None:
    curve, *shapes = RANGES[name]
    scales = (SECOND, 1.0, 365.0, CENTURY, jnp.inf) if name != "piecewise" else (SECOND, 1.0, CENTURY)
    grid = jnp.array(list(product(EXTREME_AGES, scales, *shapes)), jnp.float32).T
    slopes = jax.jit(jax.vmap(jax.value_and_grad(curve, tuple(range(len(grid))))))
    values, gradients = slopes(*grid)
    assert np.isfinite(gradients).all()
    assert (values >= 0).all()
    most = 1 if name != "damped_cosine" else 2 / (1 + np.cos(1))
    assert (values <= most + 1e-5).all()
