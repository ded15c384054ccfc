r"""Exponential sums: any forgetting curve as a few modes, by a fit that is differentiable and states its
error.

A completely monotone curve (power, logarithm) is an infinite mixture of exponentials, $\varphi(t)=\int
e^{-\lambda t}\,d\mu(\lambda)$, and a sum of K of them comes close exponentially fast in K. The rates
are a fixed grid, even in the logarithm; the weights solve a linear least-squares problem, so that they are
smooth in whatever the curve depends on, and a shape can be learned through them.

Largest relative error, of which the fit of $(1+t/\tau)^{-\alpha}$ for $\alpha=.15,\,.5,\,1$ and of
$1/(1+\ln(1+t/\tau))$ stays below, over the ages from 0 to a multiple of the scale $\tau$ (the left column;
measured in float32):

| modes | 4 | 6 | 8 | 10 | 12 | 16 | 20 |
|---|---|---|---|---|---|---|---|
| 100 | 8 % | .9 % | .16 % | 2.2e-4 | 5e-5 | 5e-5 | 5e-5 |
| 1,000 | 20 % | 4 % | .8 % | .18 % | 3.2e-4 | 4e-5 | 4e-5 |
| 10,000 | 43 % | 9 % | 2.5 % | .7 % | .19 % | 1.4e-4 | 4e-5 |
| 1,000,000 | 80 % | 32 % | 9 % | 3.7 % | 1.5 % | .2 % | 3.2e-4 |

A curve that is an exponential polynomial already need not be fitted: `modes` returns it exactly. Curves with
an infinite slope at age 0 (Weibull below shape 1: 2 % at shape .7 with 8 modes over one decade) or with a
corner are fitted badly, and those that fall faster than any exponential (Gaussian, logistic) not far, with
weights of both signs: read them in the dual form, pair by pair, which is exact.

Sources: Braess & Hackbusch, *Approximation of 1/x by exponential sums* (2005); Beylkin & Monzón, *On
approximation of functions by exponential sums* (2005); McLean, arXiv 1606.00123 (2016).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdecay import algebra, kernels
from jaxdecay.algebra import Kernel, exponentials
from jaxdecay.errors import InputError

Curve = Callable[[Float[Array, " n"]], Float[Array, " n"]]

_FITTED, _CHECKED = 128, 1000  # ages at which the fit is made, and at which it is measured
_SLOWEST = 0.35  # the slowest rate, times the longest age
# Keeps the weights small (their sizes add up to less than 8 on power laws), so that float32 loses at most one
# digit when they are added up. It costs accuracy only below 1e-4.
_RIDGE = 1e-4


class Approximation(NamedTuple):
    """A kernel that streams, and how far it is from the curve it stands for."""

    kernel: Kernel
    error: Float[Array, ""]
    """Largest relative error on a dense grid of ages from 0 to the end of the span."""


def modes(
    curve: Kernel | Callable[..., Float[Array, "..."]],
    *parameters: Any,
    tolerance: float,
    span: tuple[float, float],
    count: int | None = None,
) -> Approximation:
    """A forgetting curve as a kernel that streams: exactly where it is one, else as the fit with the fewest
    modes that errs by no more than ``tolerance``.

    ``curve`` is a kernel of `jaxdecay.algebra` (returned as it is) or a function of ages and then
    ``parameters``, above all one of `jaxdecay.kernels`. Exact, with an error of 0: `exponential`, `bank`,
    `raised_cosine`, `damped_cosine`, `erlang`, and `q_exponential` of curvature 0, `weibull` and `logistic`
    of shape 1, `power` of an infinite one, where these are concrete. All else is fitted as by `approximate`,
    on the same ``span``; with traced parameters ``count`` must say by how many modes.

    Raises InputError when no fit reaches the tolerance (which a traced program cannot: look at the error).

    >>> modes(kernels.exponential, 7.0, tolerance=0.01, span=(1.0, 365.0)).error.tolist()
    0.0
    >>> len(modes(kernels.power, 7.0, 0.5, tolerance=0.01, span=(2.0, 2e3)).kernel.rate)
    7
    """
    exact = curve if isinstance(curve, Kernel) else _exact(curve, parameters)
    if exact is not None:
        return Approximation(exact, jnp.zeros((), exact.rate.dtype))
    if not callable(curve) or isinstance(curve, Kernel):
        raise InputError(f"modes: {curve!r} is no forgetting curve; give a function of ages, or a Kernel")

    def function(age: Float[Array, " n"]) -> Float[Array, " n"]:
        return curve(age, *parameters)

    if count is None and any(isinstance(x, jax.core.Tracer) for x in parameters):
        raise InputError("modes: the parameters are traced; say by count= how many modes there shall be")
    count = modes_needed(function, span, tolerance) if count is None else count
    return approximate(function, modes=count, span=span, tolerance=tolerance)


def _exact(curve: Callable[..., Any], given: tuple[Any, ...]) -> Kernel | None:
    """The curve of a family that streams, None if it does not."""
    made = {
        kernels.exponential: algebra.exponential,
        kernels.bank: algebra.bank,
        kernels.raised_cosine: algebra.raised_cosine,
        kernels.damped_cosine: algebra.damped_cosine,
        kernels.erlang: _bump,
    }
    # Families that are exponential at one value of their second parameter.
    limits = {
        kernels.q_exponential: 0.0,
        kernels.power: math.inf,
        kernels.weibull: 1.0,
        kernels.logistic: 1.0,
    }
    for family, make in made.items():
        if curve is family:
            return make(*given)
    for family, limit in limits.items():
        if curve is family and len(given) > 1 and not isinstance(given[1], jax.core.Tracer):
            return algebra.exponential(given[0]) if (np.asarray(given[1]) == limit).all() else None
    return None


def _bump(half_life: algebra.Scalar, degree: int) -> Kernel:
    """`kernels.erlang`, whose peak is 1: the chain of Erlang's of one stage more, scaled."""
    if not degree:
        return algebra.exponential(half_life)
    rate = jnp.asarray(degree * kernels.half_over_peak(degree) / half_life, jnp.result_type(float))[None]
    log_height = degree * (jnp.log(rate) + 1 - math.log(degree))
    concrete = not isinstance(log_height, jax.core.Tracer)
    if concrete and abs(float(log_height[0])) > 85:  # float32 ends at e^88
        raise InputError(
            f"modes: erlang of degree {degree} has amplitudes beyond float32; take the dual form"
        )
    zero = jnp.zeros_like(rate)
    return Kernel(rate, zero, jnp.exp(log_height), zero, (degree,), (False,))


def approximate(
    function: Curve, *, modes: int, span: tuple[float, float], tolerance: float | None = None
) -> Approximation:
    r"""The curve as a sum of ``modes`` exponentials, fitted in relative error.

    ``function`` maps ages (n,) in days to values above 0, 1 at age 0. ``span`` is where its ages lie, in
    days: the first is the age at which it begins to fall in earnest (about $1/|\varphi'(0)|$; the fastest
    modes resolve it, and shorter ages need none), the second the longest age at which it is needed. The fit
    holds from age 0 on. Beyond the span it fades exponentially, whatever the curve does.

    The weights may be negative, add up to 1 within the error, and are differentiable in everything that
    ``function`` depends on, under ``jit``, ``grad`` and ``vmap``. The ages and rates are constants: a span
    cannot be traced. A kernel of a longer half-life is the same fit with `Kernel.speed`.

    Concrete values that err by more than ``tolerance`` are refused, as is a curve that is not above 0
    everywhere. In a traced program nothing can be refused: ``error`` is there to be looked at.

    >>> fit = approximate(lambda age: 1 / (1 + age), modes=8, span=(1.0, 1e4), tolerance=0.03)
    >>> fit.kernel(jnp.array([0.0, 1.0, 99.0])).round(2).tolist()
    [1.0, 0.5, 0.01]
    """
    near, far = span
    if not (modes >= 2 and 0 < near < far < math.inf):
        raise InputError(
            f"approximate: expected modes={modes} >= 2 and span={span} in days with 0 < first < second"
        )
    dtype = jnp.result_type(float)
    fitted, checked = (
        jnp.asarray(np.concatenate([[0.0], near * np.geomspace(start, far / near, count - 1)]), dtype)
        for start, count in ((1e-2, _FITTED), (1e-3, _CHECKED))
    )
    rate = jnp.asarray(_rates(modes, far / near) / near, dtype)
    wanted = function(checked)
    weight, error = _fit(rate, fitted, function(fitted), checked, wanted)
    if not isinstance(error, jax.core.Tracer):
        _check(float(error), np.asarray(wanted), np.asarray(checked), modes, span, tolerance)
    return Approximation(exponentials(rate, weight), error)


def modes_needed(function: Curve, span: tuple[float, float], tolerance: float, *, most: int = 24) -> int:
    """The smallest number of modes, from 2 to ``most``, whose fit on the span errs by no more than the
    tolerance.

    For concrete curves; refused if ``most`` are not enough.

    >>> modes_needed(lambda age: 1 / jnp.sqrt(1 + age), (1.0, 1e2), 0.1)
    3
    """
    errors = {}
    for modes in range(2, most + 1):
        errors[modes] = float(approximate(function, modes=modes, span=span).error)
        if errors[modes] <= tolerance:
            return modes
    best = min(errors, key=lambda modes: errors[modes])
    raise InputError(
        f"modes_needed: no number of modes up to {most} reaches tolerance={tolerance:g} on span={span};"
        f" {best} come closest with {errors[best]:.2g}. Take a narrower span or the dual form"
    )


def _rates(modes: int, reach: float) -> np.ndarray:
    """The grid of rates in units of the shortest age. The denser it is, the further beyond that age's rate it
    pays to go; the factor was chosen on power laws and logarithms over 2 to 6 decades."""
    density = modes / (math.log10(reach) + 1)
    return np.geomspace(_SLOWEST / reach, min(max(0.7 * density**2, 0.7), 20.0), modes)


@jax.jit
def _fit(
    rate: Float[Array, " m"],
    fitted: Float[Array, " n"],
    target: Float[Array, " n"],
    checked: Float[Array, " c"],
    wanted: Float[Array, " c"],
) -> tuple[Float[Array, " m"], Float[Array, ""]]:
    r"""The weights and their largest relative error: $\arg\min_w \sum_t (\sum_m w_m e^{-\lambda_m t}
    /\varphi(t) - 1)^2 + \rho^2\sum_m w_m^2$, by QR, as the normal equations would square a condition that is
    bad already."""
    ridge = jnp.asarray(_RIDGE, rate.dtype) * jnp.eye(rate.size, dtype=rate.dtype)
    q, r = jnp.linalg.qr(jnp.concatenate([_relative(rate, fitted, target), ridge]))
    weight = jax.scipy.linalg.solve_triangular(r, q[: fitted.size].sum(0))
    return weight, abs((_relative(rate, checked, wanted) * weight[None]).sum(-1) - 1).max()


def _relative(
    rate: Float[Array, " m"], age: Float[Array, " n"], value: Float[Array, " n"]
) -> Float[Array, "n m"]:
    """Each mode divided by the curve."""
    return jnp.exp(-rate[None] * age[:, None]) / value[:, None]


def _check(
    error: float, wanted: np.ndarray, age: np.ndarray, modes: int, span: tuple[float, float],
    tolerance: float | None,
) -> None:  # fmt: skip
    """Refuse what has no relative error, or too large a one."""
    bad = ~((wanted > 0) & np.isfinite(wanted))
    if bad.any():
        raise InputError(
            f"approximate: function is {wanted[bad][0]:g} at the age of {age[bad][0]:.3g} days, and a"
            f" relative error needs values above 0; take a span that ends sooner than span={span},"
            " or the dual form"
        )
    if tolerance is not None and not error <= tolerance:
        raise InputError(
            f"approximate: modes={modes} on span={span} leave a relative error of {error:.2g}, above"
            f" tolerance={tolerance:g}; take more modes, a narrower span, or the dual form, which is exact"
        )
