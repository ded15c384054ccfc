r"""Forgetting curves $\varphi(\text{age})$ as plain functions: $\varphi(0)=1$, ages and half-lives in days.

Each is written by its half-life $h$, the age at which it has fallen to one half, broadcasts over its
arguments, and has finite values and gradients for every age from 0 to centuries. Negative ages are the
caller's to exclude: an event that has not happened has no age.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LN2 = float(np.log(2.0))


def exponential(age: Float[Array, "..."], half_life: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""$2^{-\text{age}/h}$, the only curve under which the relative weight of two events never changes.

    An infinite half-life never fades. Guarantees: monotone, completely monotone, streams exactly with one
    state. Source: Ebbinghaus (1885); as a recommender's weight: Ding & Li, *Time weight collaborative
    filtering* (2005).

    >>> exponential(jnp.array([0.0, 7.0, 14.0]), jnp.array(7.0)).tolist()
    [1.0, 0.5, 0.25]
    """
    return jnp.exp2(-age / half_life)


def raised_cosine(age: Float[Array, "..."], period: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""$\frac{1}{2}\bigl(1+\cos(2\pi\,\text{age}/p)\bigr)$: back to 1 after every period $p$ in days, 0
    half-way.

    Guarantees: between 0 and 1, streams exactly (a constant mode and one oscillating mode).

    >>> raised_cosine(jnp.array([0.0, 3.5, 7.0]), jnp.array(7.0)).tolist()
    [1.0, 0.0, 1.0]
    """
    return 0.5 * (1.0 + jnp.cos(2.0 * jnp.pi * age / period))
