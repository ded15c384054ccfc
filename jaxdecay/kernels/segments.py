r"""A curve drawn by hand: straight lines between knots."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.errors import InputError
from jaxdecay.kernels.ages import counted


def piecewise(
    age: Float[Array, "..."], knots: Float[Array, " k"], values: Float[Array, " k"]
) -> Float[Array, "..."]:
    r"""$\varphi(t) = v_i + (v_{i+1}-v_i)\,\dfrac{t-a_i}{a_{i+1}-a_i}$ for $a_i\le t\le a_{i+1}$, and the last
    value from the last knot on: steep, slower and flat segments.

    ``knots`` are K ages in days, ascending from 0; ``values`` are what is left there, 1 at first. Neither is
    checked. For a curve per user or item, `jax.vmap`.

    Half-life: `piecewise_half_life`. Guarantees: monotone if the values descend; between the smallest and the
    largest value; never completely monotone unless constant (it has kinks), yet convex, and thus a mixture
    of straight lines to 0, if its slopes rise; does not stream.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | the first value, 1 | the first slope in the age |
    | at a knot | its value | the slope to its right; beyond the last knot 0 |
    | negative age | 1 | 0 in the age |
    | infinite age | the last value | 0 in the age |
    | masked | the caller's `where` | 0, never NaN |

    Source: Wu et al., arXiv:1010.3988 (2010).

    >>> knots, values = jnp.array([0.0, 2.0, 6.0]), jnp.array([1.0, 0.5, 0.1])
    >>> piecewise(jnp.array([0.0, 1.0, 4.0, 99.0]), knots, values).tolist()
    [1.0, 0.75, 0.3, 0.1]
    """
    _check(knots)
    return jnp.interp(counted(age), knots, values)


def piecewise_half_life(knots: Float[Array, " k"], values: Float[Array, " k"]) -> Float[Array, ""]:
    r"""$h = a_i + (a_{i+1}-a_i)\,\dfrac{v_i-1/2}{v_i-v_{i+1}}$ days for the first segment that ends at one
    half or below: the first age at which `piecewise` has fallen to one half.

    Infinite, with a gradient of 0, if no value is as low as one half.

    >>> piecewise_half_life(jnp.array([0.0, 2.0, 6.0]), jnp.array([1.0, 0.75, 0.25])).tolist()
    4.0
    """
    _check(knots)
    low = values[1:] <= 0.5
    end = jnp.argmax(low) + 1
    drop = values[end - 1] - values[end]
    share = (values[end - 1] - 0.5) / jnp.where(low.any(), drop, 1.0)
    crossing = knots[end - 1] + share * (knots[end] - knots[end - 1])
    return jnp.where(low.any(), crossing, jnp.inf)


def _check(knots: Float[Array, " k"]) -> None:
    if knots.shape[0] < 2:
        raise InputError(f"knots: {knots.shape[0]} of them; give two or more, with one value each")
