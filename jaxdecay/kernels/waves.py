r"""Curves that come and go: cosines, and the Erlang bump. All of them stream exactly."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdecay.errors import InputError
from jaxdecay.kernels.ages import LN2, Number, counted
from jaxdecay.kernels.exponentials import exponential


def raised_cosine(age: Float[Array, "..."], period: Number, sharpness: int = 1) -> Float[Array, "..."]:
    r"""$\varphi(t) = \bigl(\frac{1}{2}(1+\cos(2\pi t/P))\bigr)^m$: back to 1 after every period $P$ in days,
    0 half-way; the larger the ``sharpness`` $m$, a Python int from 1, the less is left away from the period.

    Half-life: $\frac{P}{\pi}\arccos 2^{-1/(2m)}$, the first of many such ages ($P/4$ for $m=1$). Guarantees:
    between 0 and 1; not monotone; streams exactly (a constant mode and $m$ oscillating ones, the first $m$
    harmonics: $2m+1$ real states).

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | 0 |
    | negative age | 1 | 0 |
    | infinite age | the phase of 1e8 days: bounded, without meaning | 0 in the age |
    | masked | the caller's `where` | 0, never NaN |
    | age far beyond the period | float32 knows the phase to about age / period / 1e7 turns | finite |

    Source: Fourier (1822).

    >>> raised_cosine(jnp.array([0.0, 3.5, 7.0]), jnp.array(7.0)).tolist()
    [1.0, 0.0, 1.0]
    """
    if sharpness < 1:
        raise InputError(f"sharpness: {sharpness}; give a whole number from 1 (the plain raised cosine)")
    return (0.5 * (1.0 + jnp.cos(2.0 * jnp.pi * counted(age) / period))) ** sharpness


def harmonics(sharpness: int) -> np.ndarray:
    r"""(m + 1,) float64 amplitudes $c_k$ of `raised_cosine` as a sum of cosines,
    $\bigl(\frac{1}{2}(1+\cos x)\bigr)^m = \sum_{k=0}^m c_k \cos kx$: above 0, and 1 altogether.

    $c_0=\binom{2m}{m}/4^m$ and $c_k=2\binom{2m}{m-k}/4^m$, from the binomial theorem for $\cos^{2m}(x/2)$.

    >>> harmonics(1).tolist(), harmonics(2).tolist()
    ([0.5, 0.5], [0.375, 0.5, 0.125])
    """
    if sharpness < 1:
        raise InputError(f"sharpness: {sharpness}; give a whole number from 1 (the plain raised cosine)")
    above = [math.comb(2 * sharpness, sharpness - k) / 4**sharpness for k in range(sharpness + 1)]
    return np.array(above) * np.where(np.arange(sharpness + 1) == 0, 1.0, 2.0)


def damped_cosine(
    age: Float[Array, "..."], half_life: Number, period: Number, depth: Number, phase: Number = 0.0
) -> Float[Array, "..."]:
    r"""$\varphi(t) = 2^{-t/h}\,\dfrac{1+\rho\cos(2\pi t/P+\psi)}{1+\rho\cos\psi}$: a rhythm of period $P$
    days and depth $\rho$ under an envelope of half-life $h$.

    $0\le\rho\le 1$ keeps the curve from falling below 0; the phase $\psi$ is in radians, and $\rho=1$ with
    $\psi=\pi$ is excluded, for the curve would start at 0.

    Half-life: $h$ is that of the envelope, $\varphi(nP)=2^{-nP/h}$ after n whole periods; the age of one half
    has no closed form unless $h$ is a multiple of $P$. Guarantees: within $[0, 1]$ for $\psi=0$, and below
    $(1+\rho)/(1+\rho\cos\psi)$ otherwise; not monotone in general; streams exactly (one real and one complex
    state).

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | finite; 0 in $h$, $P$, $\rho$ and $\psi$ |
    | negative age | 1 | 0 |
    | infinite age | 0 | 0 |
    | masked | the caller's `where` | 0, never NaN |
    | $\rho=0$ | the exponential | 0 in $P$ and $\psi$ |
    | $h$ infinite, $\rho=1$, $\psi=0$ | `raised_cosine` | 0 in $h$ |

    Source: the complex diagonal modes of linear recurrent units, Orvieto et al. (2023).

    >>> damped_cosine(jnp.array([0.0, 3.5, 7.0]), 7.0, 7.0, 1.0).tolist()
    [1.0, 0.0, 0.5]
    """
    phase = jnp.asarray(phase, jnp.result_type(age))
    turned = 2.0 * jnp.pi * counted(age) / period + phase
    wave = (1.0 + depth * jnp.cos(turned)) / (1.0 + depth * jnp.cos(phase))
    return exponential(age, half_life) * wave


def erlang(age: Float[Array, "..."], half_life: Number, degree: int) -> Float[Array, "..."]:
    r"""$\varphi(t) = \bigl(x e^{1-x}\bigr)^n$ with $x=\lambda t/n$: the Erlang bump
    $(\lambda t)^n e^{-\lambda t}/n!$ of $n$ = ``degree``, scaled to 1 at its peak, the age $n/\lambda$.

    What is wanted again after a while (a refill, the next volume). ``degree`` is a Python int, one less than
    the stages of Erlang's chain; 0 is the exponential. For $n\ge 1$ this is the one family with
    $\varphi(0)=0$.

    Half-life: $h$ is the age, after the peak, at which the bump has fallen to one half:
    $\lambda h/n = x_n = -W_{-1}\bigl(-2^{-1/n}/e\bigr)$ with the lower branch of Lambert's function, so the
    peak is at $h/x_n$ ($x_1=2.68$, $x_3=1.83$, $x_{10}=1.42$). Guarantees: within $[0, 1]$ up to rounding;
    rises, then falls; streams exactly with n + 1 states (a chain of equal rates).

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 0 (1 for degree 0) | $e x_1/h$ in the age for n = 1, 0 for more; 0 in $h$ |
    | negative age | 0 (1 for degree 0) | 0 |
    | infinite age | 0 | 0 |
    | masked | the caller's `where` | 0, never NaN |
    | degree above 100 | correct to about degree / 1e7 in float32 | finite |

    Source: Erlang (1909); as a memory: the gamma model of de Vries & Principe (1992).

    >>> peak = 30.0 / half_over_peak(2)
    >>> erlang(jnp.array([0.0, peak, 30.0]), 30.0, 2).tolist()
    [0.0, 1.0, 0.5]
    """
    if degree < 0:
        raise InputError(f"degree: {degree}; give 0 (the exponential) or more")
    if degree == 0:
        return exponential(age, half_life)
    ratio = half_over_peak(degree) * counted(age) / half_life
    return (ratio * jnp.exp(1.0 - ratio)) ** degree


def half_over_peak(degree: int) -> float:
    r"""$x_n = -W_{-1}(-2^{-1/n}/e)$ for $n\ge 1$: the half-life of an `erlang` bump over the age of its peak.

    $u=x_n-1$ solves $u-\ln(1+u)=\ln 2/n$; Newton's method on the host in float64, from the first two terms of
    the series in $\sqrt{2\ln 2/n}$, which lie below the root of this convex function by little.
    Source: Corless et al., *On the Lambert W function* (1996).

    >>> half_over_peak(1)
    2.678346990016661
    """
    level = LN2 / degree
    excess = np.sqrt(2.0 * level) + 2.0 * level / 3.0
    for _ in range(6):
        excess -= (excess - np.log1p(excess) - level) * (1.0 + excess) / excess
    return float(1.0 + excess)
