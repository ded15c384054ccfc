r"""The angle of an oscillation after whole seconds, as exact after years as within a day: to 1e-7 times the
frequency and less than a millionth of a radian.

In float32 the product of a frequency and an age is known to 6e-8 of itself: after three years a daily rhythm
is off by 4e-4 radians, and two sums that take different ways to the same age disagree by as much. Only the
part of a turn matters, however, and that is counted here in fixed point, where whole turns drop out by
themselves: turns a day as a fraction of $2^{32}$, times the days, modulo $2^{32}$. What is left of the day is
small enough for floats.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxdecay.kernels.ages import aligned

_DAY = 86_400
_UNIT = 2.0**32  # of a turn


def _pieces(value: float, count: int) -> list[float]:
    """A number as a sum of numbers of 12 bits, so that their products with others of 12 bits are exact."""
    found = []
    for _ in range(count):
        scale = 2.0 ** (12 - np.frexp(value)[1])
        found.append(float(np.trunc(value * scale) / scale))
        value -= found[-1]
    return [*found, float(value)]


_TURNS = _pieces(1 / (2 * np.pi), 2)


@jax.custom_jvp
def angle(frequency: Float[Array, " m"], seconds: Int[Array, "..."]) -> Float[Array, "... m"]:
    """Radians, modulo whole turns, of float32 frequencies (radians per day) after ``seconds``, from 0.

    Differentiable in the frequency (by the age in days).

    >>> once_a_day = jnp.array([2 * jnp.pi])
    >>> angle(once_a_day, jnp.array([21_600, 100 * 86_400 + 21_600])).round(4)[:, 0].tolist()
    [1.5708, 1.5708]
    """
    seconds = seconds.astype(jnp.int32)
    day = (seconds // _DAY)[..., None]
    rest = (seconds % _DAY).astype(jnp.float32)[..., None] / _DAY
    whole, part, frequency = aligned(day.ndim, *_turns(frequency), frequency)
    turned = lax.bitcast_convert_type(whole * day.astype(jnp.uint32), jnp.int32).astype(jnp.float32)
    return 2 * jnp.pi / _UNIT * (turned + part * day.astype(jnp.float32)) + frequency * rest


@angle.defjvp
def _slope(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    frequency, seconds = primals
    days = seconds.astype(jnp.float32)[..., None] / _DAY
    return angle(frequency, seconds), days * aligned(days.ndim, tangents[0])[0]


def _turns(frequency: Float[Array, " m"]) -> tuple[Array, Float[Array, " m"]]:
    """Turns a day in units of 2^-32, modulo one turn: as uint32, and what is less than a unit."""
    coarse = lax.reduce_precision(frequency, exponent_bits=8, mantissa_bits=11)
    fine = frequency - coarse
    first, second, last = _TURNS
    products = (coarse * first, coarse * second, fine * first, fine * second, frequency * last)
    units = [_UNIT * (product - jnp.round(product)) for product in products]
    # Half a turn is one whichever way; forwards it would be one unit beyond int32.
    units = [jnp.where(unit >= 0.5 * _UNIT, -0.5 * _UNIT, unit) for unit in units]
    whole = [jnp.round(unit) for unit in units]
    # The sum wraps around, as it should.
    total = sum(lax.bitcast_convert_type(x.astype(jnp.int32), jnp.uint32) for x in whole)
    return jnp.asarray(total), sum(
        (unit - x for unit, x in zip(units, whole, strict=True)), jnp.zeros_like(coarse)
    )
