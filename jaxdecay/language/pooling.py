"""One vector of a text's tokens."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdecay.language.shapes import Pooling


def pool(x: Float[Array, "n d"], mask: Bool[Array, " n"], pooling: Pooling) -> Float[Array, " d"]:
    """The mean over the tokens, the first or the last of them, in float32; ``mask`` is False at padding, on
    the right. A text without any token gets 0.

    >>> x, mask = jnp.array([[1.0], [3.0], [9.0]]), jnp.array([True, True, False])
    >>> [float(pool(x, mask, way)[0]) for way in ("mean", "cls", "last")]
    [2.0, 1.0, 3.0]
    """
    count = mask.sum()
    if pooling == "mean":
        weights = mask / jnp.maximum(count, 1)
        return jnp.where(mask[:, None], x, 0.0).astype(jnp.float32).T @ weights.astype(jnp.float32)
    one = x[0] if pooling == "cls" else x[jnp.maximum(count - 1, 0)]
    return jnp.where(count > 0, one.astype(jnp.float32), 0.0)


def unit(x: Float[Array, " d"]) -> Float[Array, " d"]:
    """``x`` at length 1; 0 stays 0, with a gradient that is finite, and NaN stays NaN.

    >>> unit(jnp.array([3.0, 4.0])).tolist()
    [0.6, 0.8]
    """
    square = jnp.sum(x * x)
    return jnp.where(square == 0, 0.0, x / jnp.sqrt(jnp.where(square == 0, 1.0, square)))
