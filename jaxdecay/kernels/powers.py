r"""Curves with long tails: the power law and its relatives, all completely monotone.

One function underlies them. A rate that is uncertain fades as $(1+\kappa z)^{-1/\kappa}$ rather than
$e^{-z}$ (the Laplace transform of a gamma law of rates), so that the time $z$ passes more slowly the older
the event: as $\ln(1+\kappa z)/\kappa$ in place of $z$. At $\kappa=0$ that is the exponential.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdecay.kernels.ages import LN2, Number, counted

_LN_TEN_NINTHS = float(np.log(10.0 / 9.0))


def q_exponential(age: Float[Array, "..."], half_life: Number, kappa: Number) -> Float[Array, "..."]:
    r"""$\varphi(t) = \bigl(1+(2^\kappa-1)\,t/h\bigr)^{-1/\kappa}$: between the exponential ($\kappa=0$,
    exactly) and ever longer tails; $\kappa=1$ is `hyperbolic`, $\kappa=1/\alpha$ is `power`.

    Half-life: $h$. Guarantees: monotone; completely monotone; streams exactly at $\kappa=0$ only (as an
    exponential). Value and gradients, also the one in $\kappa$, keep their digits down to $\kappa=0$.
    Shapes: $0\le\kappa\le 70$.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | $-(2^\kappa-1)/(\kappa h)$ in the age, 0 in $h$ and $\kappa$ |
    | negative age | 1 | 0 |
    | infinite age | that of 1e8 days | 0 in the age |
    | masked | the caller's `where` | 0, never NaN |
    | $\kappa=0$ | $2^{-t/h}$ | $\frac{1}{2}\varphi\,(\ln 2)^2\,r(r-1)$ in $\kappa$, with $r=t/h$ |
    | $\kappa>70$ | not a number once $2^\kappa$ overflows float32 | |

    Source: Tsallis (1988); in discounting Cajueiro (2006).

    >>> q_exponential(jnp.array([0.0, 7.0, 14.0]), 7.0, 0.0).tolist()
    [1.0, 0.5, 0.25]
    >>> q_exponential(jnp.array([0.0, 7.0, 21.0]), 7.0, 1.0).tolist()
    [1.0, 0.5, 0.25]
    """
    return jnp.exp(-_slowed(counted(age) / half_life, kappa, LN2))


def power(age: Float[Array, "..."], half_life: Number, shape: Number) -> Float[Array, "..."]:
    r"""$\varphi(t) = \bigl(1+(2^{1/\alpha}-1)\,t/h\bigr)^{-\alpha}$ with $\alpha$ = ``shape``: the power law
    of forgetting.

    Half-life: $h$. Guarantees: monotone; completely monotone (the average of exponentials whose rates follow
    a gamma law of shape $\alpha$); does not stream. Shapes: $\alpha\ge 0.02$; an infinite one is the
    exponential.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | $-\alpha(2^{1/\alpha}-1)/h$ in the age: $-2\cdot 10^{13}/h$ at $\alpha=0.02$ |
    | negative age | 1 | 0 |
    | infinite age | that of 1e8 days | 0 in the age |
    | masked | the caller's `where` | 0, never NaN |
    | $\alpha$ infinite | $2^{-t/h}$ | 0 in $\alpha$ |

    Source: Wixted & Ebbesen, *On the form of forgetting* (1991).

    >>> power(jnp.array([0.0, 7.0, 35.0]), 7.0, 0.5).tolist()
    [1.0, 0.5, 0.25]
    """
    return q_exponential(age, half_life, 1.0 / shape)


def hyperbolic(age: Float[Array, "..."], half_life: Number) -> Float[Array, "..."]:
    r"""$\varphi(t) = \dfrac{1}{1+t/h}$: the `power` law of shape 1.

    Half-life: $h$. Guarantees: monotone; completely monotone; does not stream.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | $-1/h$ in the age, 0 in $h$ |
    | negative age | 1 | 0 |
    | infinite age | that of 1e8 days | 0 in the age |
    | masked | the caller's `where` | 0, never NaN |
    | $h$ infinite | 1: never fades | 0 |

    Source: Mazur, *An adjusting procedure for studying delayed reinforcement* (1987).

    >>> hyperbolic(jnp.array([0.0, 7.0, 21.0]), 7.0).tolist()
    [1.0, 0.5, 0.25]
    """
    return 1.0 / (1.0 + counted(age) / half_life)


def fsrs(age: Float[Array, "..."], stability: Number, decay: Number = 0.1542) -> Float[Array, "..."]:
    r"""$\varphi(t) = \bigl(1+(0.9^{-1/d}-1)\,t/S\bigr)^{-d}$: the retrievability of FSRS-6, with the
    stability $S$, the age in days at which 0.9 are left, and the decay $d$.

    The power law in other parameters. In FSRS the age is the time since the last review and every review
    changes $S$; a sum over all events of a history is another model.

    Half-life: `fsrs_half_life`, $S\,(2^{1/d}-1)/(0.9^{-1/d}-1)$, 90.4 stabilities at the default decay.
    Guarantees: monotone; completely monotone; does not stream (per review it does: $S$ is the state).
    Decays: $d\ge 0.02$; FSRS keeps $0.1\le d\le 0.8$.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | $-d(0.9^{-1/d}-1)/S$ in the age, 0 in $S$ and $d$ |
    | negative age | 1 | 0 |
    | infinite age | that of 1e8 days | 0 in the age |
    | masked | the caller's `where` | 0, never NaN |
    | $d$ infinite | $0.9^{t/S}$ | 0 in $d$ |

    Source: Ye, *FSRS-6*, open-spaced-repetition (2025).

    >>> fsrs(jnp.array([0.0, 10.0]), 10.0).tolist()
    [1.0, 0.9]
    """
    return jnp.exp(-_slowed(counted(age) / stability, 1.0 / decay, _LN_TEN_NINTHS))


def fsrs_half_life(stability: Number, decay: Number = 0.1542) -> Float[Array, "..."]:
    r"""$h = S\,\dfrac{2^{1/d}-1}{0.9^{-1/d}-1}$ days: the age at which `fsrs` has fallen to one half.

    >>> fsrs_half_life(jnp.array(1.0)).round(1).tolist()
    90.4
    """
    kappa = 1.0 / jnp.asarray(decay, jnp.result_type(stability))
    rises = LN2 * _growth(kappa * LN2) / (_LN_TEN_NINTHS * _growth(kappa * _LN_TEN_NINTHS))
    return stability * rises


def logarithmic(age: Float[Array, "..."], half_life: Number, shape: Number) -> Float[Array, "..."]:
    r"""$\varphi(t) = \dfrac{1}{1+c\ln(1+t/\tau)}$ with $c$ = ``shape`` and $\tau = h/(e^{1/c}-1)$: the
    slowest of all, a steep start and then hardly any loss.

    Half-life: $h$. Guarantees: monotone; completely monotone (a completely monotone function of a Bernstein
    function); does not stream. Shapes: $c\ge 0.02$; an infinite one is `hyperbolic`.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | $-c(e^{1/c}-1)/h$ in the age: $-10^{20}/h$ at $c=0.02$ |
    | negative age | 1 | 0 |
    | infinite age | that of 1e8 days: still 0.26 at $c=0.1$, $h=1$ day | 0 in the age |
    | masked | the caller's `where` | 0, never NaN |
    | $c$ infinite | $1/(1+t/h)$ | 0 in $c$ |

    Source: the savings curve of Ebbinghaus, *Über das Gedächtnis* (1885), $k/(\ln^{1.25} t+k)$, with the
    exponent 1 and a logarithm that starts at 0.

    >>> logarithmic(jnp.array([0.0, 7.0]), 7.0, 0.3).tolist()
    [1.0, 0.5]
    """
    return 1.0 / (1.0 + _slowed(counted(age) / half_life, 1.0 / shape, 1.0))


def _slowed(ratio: Float[Array, "..."], kappa: Number, level: float) -> Float[Array, "..."]:
    r"""$\ln\bigl(1+(e^{\kappa\ell}-1)r\bigr)/\kappa$, which is $\ell r$ at $\kappa=0$ and $\ell$ at $r=1$."""
    kappa = jnp.asarray(kappa, ratio.dtype)
    rise = level * _growth(kappa * level) * ratio
    near = kappa * rise < 0.125
    close = rise * _logarithm(jnp.where(near, kappa * rise, 0.0))
    far = jnp.log1p(jnp.where(near, 1.0, kappa * rise)) / jnp.where(near, 1.0, kappa)
    return jnp.where(near, close, far)


def _growth(x: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""$(e^x-1)/x$ for $x\ge 0$, 1 at 0, with derivatives that keep their digits near 0.

    There it is $e^{x/2}\,\sinh(x/2)/(x/2)$, an even series, which leaves out 3e-17 below $x=\frac{1}{4}$.
    """
    near = x < 0.25
    half = 0.5 * jnp.where(near, x, 0.0)
    series = _polynomial(half * half, [1.0 / float(np.prod(np.arange(1, 2 * k + 2))) for k in range(5)])
    far = jnp.where(near, 1.0, x)
    return jnp.where(near, jnp.exp(half) * series, jnp.expm1(far) / far)


def _logarithm(z: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""$\ln(1+z)/z$ for $0\le z\le\frac{1}{8}$, 1 at 0, with derivatives that keep their digits near 0.

    $\ln(1+z)=2\operatorname{artanh}s$ with $s=z/(2+z)\le\frac{1}{17}$, a series in $s^2$ that leaves out
    5e-19.
    """
    s = z / (2.0 + z)
    return 2.0 / (2.0 + z) * _polynomial(s * s, [1.0 / (2 * k + 1) for k in range(7)])


def _polynomial(x: Float[Array, "..."], coefficients: list[float]) -> Float[Array, "..."]:
    """Horner's scheme, the coefficient of the power 0 first."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
