"""Rates of heads whose half-lives are learned."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.interest import LONGEST, SHORTEST, within
from jaxdecay.kernels import LN2


def learned(starts: tuple[float, ...]) -> int:
    """How many of the half-lives are learned: those that are finite."""
    return sum(start < float("inf") for start in starts)


def check(name: str, starts: tuple[float, ...]) -> None:
    """Raises InputError for a half-life out of range; infinite ones are none."""
    for start in starts:
        if start < float("inf"):
            within(name, start, SHORTEST, LONGEST)


def rates(starts: tuple[float, ...], shift: Float[Array, " k"] | None) -> Float[Array, " h"]:
    """Rates of heads whose finite half-lives are moved by ``shift`` (a logarithm); 0 for infinite ones."""
    found, place = [], 0
    for start in starts:
        if start < float("inf"):
            assert shift is not None
            found.append(LN2 / start * jnp.exp(-jnp.clip(shift[place], -12.0, 12.0)))
            place += 1
        else:
            found.append(jnp.zeros((), jnp.float32))
    return jnp.stack(found) if found else jnp.zeros(0, jnp.float32)
