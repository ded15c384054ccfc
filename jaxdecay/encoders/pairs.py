"""What attention asks of N events two by two."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxdecay.encoders.events import Places
from jaxdecay.errors import InputError

REACH = 64
"""Distances with a bias of their own."""


def in_heads(shape: tuple[int, ...], heads: int) -> tuple[int, int, int]:
    """The shape of vectors (n, d) as (n, heads, d / heads)."""
    length, width = shape
    if width % heads:
        raise InputError(f"{heads} heads for {width} dimensions: give a divisor of it")
    return length, heads, width // heads


def distance(length: int) -> Int[Array, "n n"]:
    """Events from each column to each row, at most `REACH` - 1; 0 for later ones."""
    place = jnp.arange(length)
    return jnp.clip(place[:, None] - place[None], 0, REACH - 1)


def seen(places: Places, context: int) -> Bool[Array, "n n"]:
    """Whether the row's event sees the column's: its own and earlier ones, ``context`` at most (0 for all).

    The bound is each event's own: what an event means does not hang on where a history was cut.
    """
    place = jnp.arange(len(places.mask))
    ago = place[:, None] - place[None]
    return (ago >= 0) & (ago < (context or len(place))) & places.mask[None]
