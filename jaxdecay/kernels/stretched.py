r"""Curves whose steepness is a parameter: Weibull (the stretched exponential), Gaussian, logistic."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.kernels.ages import LN2, Number, counted

_NO_AGE = 1e-18  # of a half-life: what is younger is new; its inverse has a square in float32
_ALL_GONE = 7.0  # the log of 1,097 halvings, which are nothing in float64


def weibull(age: Float[Array, "..."], half_life: Number, shape: Number) -> Float[Array, "..."]:
    r"""$\varphi(t) = 2^{-(t/h)^\beta}$ with $\beta$ = ``shape``: the stretched exponential below 1, the
    exponential at 1, ever closer to a step above.

    Half-life: $h$. Guarantees: monotone; completely monotone for $\beta\le 1$; streams exactly at $\beta=1$
    only, where `exponential` is its form. For $\beta<1$ a few modes fit it badly, and its slope at age 0
    would be infinite ($-\ln 2/h$ for $\beta=1$): the gradient in the age is defined as 0 there. Shapes:
    $0.1\le\beta\le 10$.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0, or below 1e-18 half-lives | 1 | 0, by definition |
    | negative age | 1 | 0 |
    | infinite age | 0 | 0 |
    | masked | the caller's `where` | 0, never NaN |
    | more than 1,000 halvings | 0 | 0 |
    | $h$ infinite | 1: never fades | 0 |

    Source: Kohlrausch (1854), Weibull (1951); as forgetting: Wixted & Ebbesen (1991).

    >>> weibull(jnp.array([0.0, 7.0, 28.0]), 7.0, 0.5).tolist()
    [1.0, 0.5, 0.25]
    """
    ratio = counted(age) / half_life
    started = ratio > _NO_AGE
    log_halvings = shape * jnp.log(jnp.where(started, ratio, 1.0))
    halvings = jnp.exp(jnp.where(log_halvings > _ALL_GONE, _ALL_GONE, log_halvings))
    return jnp.where(started, jnp.exp2(-halvings), 1.0)


def gaussian(age: Float[Array, "..."], half_life: Number) -> Float[Array, "..."]:
    r"""$\varphi(t) = 2^{-(t/h)^2}$: `weibull` of shape 2, hardly any loss at first and then all of it.

    The standard deviation is $h/\sqrt{2\ln 2}=0.85\,h$. Half-life: $h$. Guarantees: monotone; not completely
    monotone (log-concave: the newest event takes over); does not stream.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | 0 |
    | negative age | 1 | 0 |
    | infinite age | 0 | 0 |
    | masked | the caller's `where` | 0, never NaN |
    | $h$ infinite | 1: never fades | 0 |

    Source: Gauss (1809); as the kernel of event histories: Xu, Farajtabar & Zha (2016).

    >>> gaussian(jnp.array([0.0, 7.0, 14.0]), 7.0).tolist()
    [1.0, 0.5, 0.0625]
    """
    ratio = counted(age) / half_life
    return jnp.exp2(-(ratio * ratio))


def logistic(age: Float[Array, "..."], half_life: Number, steepness: Number) -> Float[Array, "..."]:
    r"""$\varphi(t) = \dfrac{2^k-1}{2^k-2+2^{kt/h}}$ with $k$ = ``steepness`` $\ge 1$: sigmoid forgetting,
    kept for a while and then lost.

    For $k>1$ it is the logistic curve of middle $m$ and width $s$, made to start at 1:

    $$ \frac{1+e^{-m/s}}{1+e^{(t-m)/s}}, \qquad s=\frac{h}{k\ln 2}, \qquad m=s\ln(2^k-2); $$

    the middle lies before the half-life and nears it as $k$ grows. $k=1$ is the exponential. Below 1 the same
    form is a mixture of exponentials, $(2^k-1)\sum_{n\ge 0}(2-2^k)^n\,2^{-(n+1)kt/h}$, and goes to
    `hyperbolic` as $k\to 0$.

    Half-life: $h$, exactly, and $\varphi(0)=1$. Guarantees: monotone; completely monotone for $k\le 1$;
    log-concave for $k\ge 1$; streams exactly at $k=1$ only, where `exponential` is its form. Steepness:
    $0.1\le k\le 100$.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | $-k\ln 2/((2^k-1)h)$ in the age, 0 in $h$ and $k$ |
    | negative age | 1 | 0 |
    | infinite age | 0 | 0 |
    | masked | the caller's `where` | 0, never NaN |
    | $k=100$ | a step at $h$, 1 % of $h$ wide | finite |
    | $h$ infinite | 1: never fades | 0 |

    Source: Verhulst (1845).

    >>> logistic(jnp.array([0.0, 7.0, 14.0]), 7.0, 1.0).tolist()
    [1.0, 0.5, 0.25]
    >>> logistic(jnp.array([0.0, 7.0, 14.0]), 7.0, 8.0).round(4).tolist()
    [1.0, 0.5, 0.0039]
    """
    # The odds of having been lost are (e^x - 1) / (e^y - 1) with x = y t / h: never formed where x is large.
    y = LN2 * jnp.asarray(steepness, jnp.result_type(age))
    x = y * (counted(age) / half_life)
    log_rise = y + jnp.log(-jnp.expm1(-y))
    near = x < 1.0
    early = 1.0 / (1.0 + jnp.expm1(jnp.where(near, x, 0.0)) * jnp.exp(-log_rise))
    late = jnp.where(near, 1.0, x)
    return jnp.where(near, early, jax.nn.sigmoid(log_rise - late - jnp.log(-jnp.expm1(-late))))
