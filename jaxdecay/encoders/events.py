"""What an encoder is told of N events besides their vectors: when they happened and which of them count."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Places(NamedTuple):
    """N events of one user in the order of their rows, padded on any side."""

    time: Int[Array, " n"]
    """Seconds, ascending where ``mask``."""
    until: Int[Array, " n"]
    """Seconds: when what comes after each event is asked for, not before ``time``."""
    mask: Bool[Array, " n"]
    """Which events count: others are seen by none."""


def latest(mask: Bool[Array, " n"], seen: Int[Array, " r"]) -> Int[Array, " r"]:
    """The row of the last event that counts among the first ``seen[r]``; -1 where there is none.

    >>> latest(jnp.array([False, True, True, False]), jnp.array([0, 1, 2, 4])).tolist()
    [-1, -1, 1, 2]
    """
    so_far = jax.lax.cummax(jnp.where(mask, jnp.arange(len(mask)), -1))
    return jnp.concatenate([jnp.full(1, -1), so_far])[seen]


def places(
    time: Int[Array, " n"],
    mask: Bool[Array, " n"],
    at: Int[Array, " r"],
    seen: Int[Array, " r"],
    *,
    known: bool = True,
) -> Places:
    """The places of N events of which R requests see the first ``seen[r]`` rows, at ``at[r]`` seconds.

    What comes after an event is asked for when the next one comes and, after the last that a request sees, at
    that request. ``known`` False: at the event's own time, for a model that is not told when it is asked.

    >>> time, mask = jnp.array([0, 5, 9]), jnp.array([True, True, True])
    >>> places(time, mask, jnp.array([20]), jnp.array([3])).until.tolist()
    [5, 9, 20]
    """
    until = jnp.concatenate([time[1:], time[-1:]]) if known else time
    # Several requests may follow the same event, where events of no weight come after it: training asks at
    # every event. Only the last of them is a target, since those events are none.
    until = until.at[latest(mask, seen)].max(at, mode="drop", wrap_negative_indices=False)
    return Places(time, until, mask)


def set_aside(x: Float[Array, "n d"], places: Places) -> tuple[Float[Array, "n d"], Places, Int[Array, " n"]]:
    """Rows that do not count first, then the others side by side, both in their order; and the row of the
    result that each has gone to.

    >>> told = Places(jnp.arange(4), jnp.arange(4), jnp.array([True, False, True, False]))
    >>> _, moved, back = set_aside(jnp.zeros((4, 1)), told)
    >>> moved.time.tolist(), back.tolist()
    ([1, 3, 0, 2], [2, 0, 3, 1])
    """
    order = jnp.argsort(places.mask, stable=True)
    return x[order], Places(*(field[order] for field in places)), jnp.argsort(order)
