r"""The algebra of modes: forgetting curves with which one can calculate, and which stream exactly.

A kernel is an exponential polynomial, a sum of modes of the age $t$ in days,

$$ \varphi(t) = \sum_m t^{n_m}\, e^{-\lambda_m t}\,(c_m \cos\omega_m t + s_m \sin\omega_m t), $$

with rates $\lambda_m\ge 0$ per day, frequencies $\omega_m$ in radians per day and degrees $n_m$. These
curves, and among the continuous ones only these, have a state of finite size that is advanced by time
alone. They form a ring: sums, products, convolutions and changes of speed of them are such curves again,
and are formed here exactly. Curves that are none of them (power, Weibull, logarithm) come in through
`jaxdecay.expsum`, with an error that is stated.

Source: the exponential polynomials are the solutions of linear differential equations with constant
coefficients (Euler, 1743); that only they have a finite linear state is the theory of realisations (Ho &
Kalman, 1966).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from jaxdecay.errors import InputError
from jaxdecay.kernels import LN2, counted, harmonics
from jaxdecay.modes import Modes
from jaxdecay.terms import Terms, convolution, curve, half_life, joined, merged, product, states

Scalar = float | Float[Array, ""]


class Kernel(struct.PyTreeNode):
    """A sum of modes; a pytree, made by the functions of this module and by calculating with kernels.

    | age | value |
    |---|---|
    | 0 | the sum of ``cosine`` over the modes of degree 0 |
    | negative | that of age 0, with a slope of 0 |
    | infinite | that of 1e8 days, with a slope of 0 |

    Guarantees: value and gradient are finite at every age as long as the amplitudes are; streams with
    `states` numbers (`jaxdecay.chains`). An angle is known to 6e-8 of itself in float32: after ten years a
    daily oscillation is off by a thousandth of a radian.

    >>> weekly = exponential(30.0) * raised_cosine(7.0)
    >>> weekly(jnp.array([0.0, 3.5, 30.0 * 7.0])).tolist()
    [1.0, 0.0, 0.0078125]
    """

    rate: Any
    """(m,) per day, 0 or more."""
    frequency: Any
    """(m,) radians per day; 0 where the mode does not oscillate."""
    cosine: Any
    """(m,) amplitude of the cosine, or of the whole mode where it does not oscillate."""
    sine: Any
    """(m,) amplitude of the sine; 0 where the mode does not oscillate."""
    degree: tuple[int, ...] = struct.field(pytree_node=False)
    """Power of the age that multiplies each mode: 0 but for chains (Erlang, convolutions)."""
    oscillates: tuple[bool, ...] = struct.field(pytree_node=False)
    """Which modes have a frequency, known without looking at the arrays."""

    __array_ufunc__ = None  # a NumPy scalar times a kernel is the kernel's to calculate

    def __call__(self, age: Float[Array, "..."] | float) -> Float[Array, "..."]:
        """The curve at the ages (days), in any shape."""
        age = counted(jnp.asarray(age, self.rate.dtype))
        return curve(self.terms, age.reshape(-1)).reshape(age.shape)

    @property
    def terms(self) -> Terms:
        """The fields as a tuple."""
        return Terms(self.rate, self.frequency, self.cosine, self.sine, self.degree, self.oscillates)

    def __add__(self, other: "Kernel") -> "Kernel":
        """The sum: both kernels' modes."""
        return Kernel(*joined(self.terms, other.terms))

    def __mul__(self, other: "Kernel | Scalar") -> "Kernel":
        r"""The product with a number or a kernel. Rates and degrees of two modes add; two oscillations
        become one at the sum and one at the difference of their frequencies ($\cos a \cos b = \frac{1}{2}
        (\cos(a+b)+\cos(a-b))$)."""
        if isinstance(other, Kernel):
            return Kernel(*product(self.terms, other.terms))
        factor = jnp.asarray(other, self.cosine.dtype)
        return self.replace(cosine=factor * self.cosine, sine=factor * self.sine)

    __rmul__ = __mul__

    def floor(self, share: Scalar) -> "Kernel":
        """The kernel above a floor that never fades: ``share + (1 - share) * self``."""
        share = jnp.asarray(share, self.rate.dtype)
        return share * constant(self.rate.dtype) + (1 - share) * self

    def speed(self, factor: Scalar) -> "Kernel":
        r"""The kernel $\varphi(s t)$ whose time runs $s\ge 0$ times as fast: half-lives are divided by
        it."""
        factor = jnp.asarray(factor, self.rate.dtype)
        stretch = jnp.stack([factor**n for n in self.degree])
        return Kernel(
            factor * self.rate, factor * self.frequency, stretch * self.cosine, stretch * self.sine,
            self.degree, self.oscillates,
        )  # fmt: skip

    def convolve(self, other: "Kernel") -> "Kernel":
        r"""$\int_0^t \varphi_1(u)\,\varphi_2(t-u)\,du$: what is remembered of what was remembered (days).

        Exact, by partial fractions: each mode keeps its rate, and its amplitude is multiplied by the other
        kernel's Laplace transform at its pole $-\lambda+i\omega$. Two modes with one and the same pole give
        a mode of one degree more than theirs together.

        Poles are compared where they are concrete. Equal means equal to the last bit; poles so close that
        less than half of the digits would survive the division by their difference are refused. Traced
        rates cannot be compared: all poles are taken to be different, digits are lost where they are close,
        and the result is not finite where they are equal (build such chains with `erlang`, or outside
        ``jit``). The amplitude of a chain is 0 at age 0: the result is no $\varphi(0)=1$ kernel.
        """
        return Kernel(*convolution(self.terms, other.terms))

    def merged(self) -> "Kernel":
        """The same curve with modes of equal rate, frequency and degree added up, and oscillations of
        frequency 0 made plain.

        Products make such modes. The rates and frequencies must be concrete; amplitudes may be traced.
        """
        return Kernel(*merged(self.terms))

    def states(self) -> int:
        """With how many real numbers a coordinate the kernel streams: one for a plain mode, two for an
        oscillating one, and one or two more for each degree. Modes with the same rate and frequency share
        theirs; where these are traced, they count as different."""
        return states(self.terms)

    def modes(self) -> tuple[Modes, Float[Array, " m"]]:
        """Modes and their weights, for `jaxdecay.state` and `jaxdecay.hybrid`: write with the weights and
        read with ones, or the other way round.

        Raises InputError for modes with a phase or a degree, which have no such weights: stream them by
        `jaxdecay.chains`. (A phase that is traced cannot be seen; it must be 0.)
        """
        phase = not isinstance(self.sine, jax.core.Tracer) and bool((np.asarray(self.sine) != 0).any())
        if any(self.degree) or phase:
            raise InputError("modes: the kernel has a phase or a degree; stream it by jaxdecay.chains")
        return Modes(self.rate, self.frequency if any(self.oscillates) else None), self.cosine

    def half_life(self) -> float:
        """The first age (days) after its peak at which the kernel has fallen to half of the peak; infinite
        if it never has, or if it is nowhere above 0.

        In NumPy and float64, on concrete values: it is for reading, not for a traced program. The curve is
        searched on a grid until what fades is gone, of an oscillation at most 30,000 turns, at 32 ages a
        turn.

        >>> round(exponential(3.0).speed(2.0).half_life(), 6), constant().half_life()
        (1.5, inf)
        """
        return half_life(self.terms)


def exponentials(rate: Float[Array, " m"], weight: Float[Array, " m"]) -> Kernel:
    r"""$\sum_m w_m e^{-\lambda_m t}$: weights of any sign, rates per day."""
    zero, m = jnp.zeros_like(rate), rate.shape[0]
    return Kernel(rate, zero, weight, zero, (0,) * m, (False,) * m)


def exponential(half_life: Scalar) -> Kernel:
    """$2^{-t/h}$; an infinite half-life (days) never fades."""
    rate = LN2 / _row(half_life)
    return exponentials(rate, jnp.ones_like(rate))


def constant(dtype: Any = None) -> Kernel:
    """1 at every age, the unit of multiplication; ``0.0 * constant()`` is the zero of addition."""
    return exponentials(jnp.zeros(1, dtype), jnp.ones(1, dtype))


def bank(half_lives: Float[Array, " k"], weights: Float[Array, " k"], floor: Scalar | None = None) -> Kernel:
    r"""$p + (1-p)\sum_k w_k 2^{-t/h_k}$, without $p$ where ``floor`` is None; 1 at age 0 if the weights add
    up to 1."""
    kernel = exponentials(LN2 / half_lives, weights)
    return kernel if floor is None else kernel.floor(floor)


def cosine(period: Scalar) -> Kernel:
    r"""$\cos(2\pi t/p)$ with the period $p$ in days; below 0 half of the time."""
    frequency = 2 * math.pi / _row(period)
    zero = jnp.zeros_like(frequency)
    return Kernel(zero, frequency, jnp.ones_like(frequency), zero, (0,), (True,))


def raised_cosine(period: Scalar, sharpness: int = 1) -> Kernel:
    r"""$\bigl(\frac{1}{2}(1+\cos(2\pi t/p))\bigr)^m$, between 0 and 1: a constant and the first $m$
    harmonics; $m$ = ``sharpness``."""
    still, *moving = harmonics(sharpness).tolist()
    frequency = 2 * math.pi / _row(period)
    frequency = frequency * jnp.arange(1, sharpness + 1, dtype=frequency.dtype)
    zeros, share = jnp.zeros_like(frequency), jnp.asarray(moving, frequency.dtype)
    waves = Kernel(zeros, frequency, share, zeros, (0,) * sharpness, (True,) * sharpness)
    return still * constant(frequency.dtype) + waves


def damped_cosine(half_life: Scalar, period: Scalar, depth: Scalar, phase: Scalar = 0.0) -> Kernel:
    r"""$2^{-t/h}\,(1+\rho\cos(\omega t+\psi))/(1+\rho\cos\psi)$ with $\omega=2\pi/p$: a rhythm under an
    envelope of half-life $h$.

    Nowhere negative for depths $-1\le\rho\le 1$. A depth of 1 with a phase of $\pi$ divides by 0: such a
    rhythm has nothing at age 0.
    """
    wave = cosine(period)
    depth, phase = jnp.asarray(depth, wave.rate.dtype), jnp.asarray(phase, wave.rate.dtype)
    turned = wave.replace(cosine=jnp.cos(phase)[None], sine=-jnp.sin(phase)[None])
    rhythm = constant(wave.rate.dtype) + depth * turned
    return (1 / (1 + depth * jnp.cos(phase))) * (exponential(half_life) * rhythm)


def erlang(rate: Scalar, stages: int) -> Kernel:
    r"""$(\lambda t)^{k-1} e^{-\lambda t}/(k-1)!$ with $k$ stages: a bump that peaks at the age
    $(k-1)/\lambda$, where a chain of $k$ fading states ends.

    One stage is the exponential; from two on it is 0 at age 0. It is the $k$-fold convolution of
    $e^{-\lambda t}$, times $\lambda^{k-1}$. Amplitudes are powers of the rate: in float32,
    $\lambda^{k-1}$ has to stay between 1e-38 and 1e38. Source: Erlang (1917).
    """
    if stages < 1:
        raise InputError(f"erlang: expected stages={stages} >= 1; one stage is an exponential")
    row = _row(rate)
    zero = jnp.zeros_like(row)
    height = row ** (stages - 1) * math.exp(-math.lgamma(stages))
    return Kernel(row, zero, height, zero, (stages - 1,), (False,))


def _row(value: Scalar) -> Float[Array, " 1"]:
    """As an array of one mode; a Python number takes the default float type."""
    array = value if isinstance(value, jax.Array) else jnp.array(value, jnp.result_type(float))
    return array[None]
