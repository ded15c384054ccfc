r"""The age that counts: what every curve does with ages that no event has."""

from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

LN2 = float(np.log(2.0))
LONGEST = 1e8
"""Days (270,000 years): what an infinite age counts as. Large enough that every curve has come to its end,
small enough that its ratio to a half-life of one second has a square in float32."""

Number: TypeAlias = Float[Array, "..."] | float


def counted(age: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""$\min(\max(\text{age}, 0), 10^8)$ days, with the slope 1 at age 0 and at $10^8$, 0 outside.

    | age | counts as | slope |
    |---|---|---|
    | negative: the event has not happened | 0 | 0 |
    | 0 | 0 | 1, so that curves keep their slope to the right |
    | infinite | 1e8 | 0 |
    | NaN | NaN | NaN |

    >>> counted(jnp.array([-3.0, 0.0, 7.0, jnp.inf])).tolist()
    [0.0, 0.0, 7.0, 100000000.0]
    """
    # Not `jnp.clip`: at the bounds its slope is one half, and most ages in a log with ties are 0.
    age = jnp.where(age < 0.0, 0.0, age)
    return jnp.where(age > LONGEST, LONGEST, age)


def aligned(rank: int, *arrays: Num[Array, "..."]) -> list[Num[Array, "..."]]:
    """The arrays with axes of length 1 in front up to ``rank``: broadcasting across ranks, said by hand."""
    rank = max(rank, *(array.ndim for array in arrays))
    return [array.reshape((1,) * (rank - array.ndim) + array.shape) for array in arrays]
