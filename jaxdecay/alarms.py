r"""Older ways to see that something has changed, beside the fast-slow divergence (`jaxdecay.divergence`).

Page-Hinkley and CUSUM watch one number an event: how far its vector points away from what came before,
$e_t = 1 - \cos(x_t, s_{t-1})$ with the slow mean $s$. The literature of interest drift compares the fast and
the slow mean themselves by a cosine with a fixed threshold; with few events that is far from 0 without any
drift. All are O(1) an event. One user, no batch axis: use `jax.vmap`.

References:
    Page: Continuous inspection schemes (1954), for CUSUM; Hinkley: Inference about the change-point from
    cumulative sum tests (1971).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxdecay.errors import InputError
from jaxdecay.scan import decay_scan

_WARM = 10  # events before a mean and a deviation mean anything
_LEAST = 1e-12


class PageHinkley(NamedTuple):
    """Sum of what errors exceed their running mean by, less its minimum."""

    count: Array
    mean: Array
    total: Array
    least: Array


class Cusum(NamedTuple):
    """Sum of standardised errors beyond a slack, never below 0; mean and deviation are those of a user's
    first errors."""

    count: Array
    mean: Array
    square: Array
    total: Array


def page_hinkley(
    errors: Float[Array, " n"], mask: Bool[Array, " n"], *, tolerance: float = 0.02
) -> Float[Array, " n"]:
    """The statistic after each event; ``tolerance`` of an error is no change."""

    def step(state: PageHinkley, error: Array) -> tuple[PageHinkley, Array]:
        count = state.count + 1
        mean = state.mean + (error - state.mean) / count
        total = state.total + error - mean - tolerance
        least = jnp.minimum(state.least, total)
        return PageHinkley(count, mean, total, least), total - least

    zero = jnp.zeros(())
    return _over(step, PageHinkley(zero, zero, zero, zero), errors, mask)


def cusum(
    errors: Float[Array, " n"], mask: Bool[Array, " n"], *, slack: float = 0.5, reference: int = 60
) -> Float[Array, " n"]:
    """The statistic after each event; ``slack`` in standard deviations. Mean and deviation are those of a
    user's first ``reference`` errors, as far as there are so many."""

    def step(state: Cusum, error: Array) -> tuple[Cusum, Array]:
        learning = state.count < reference
        count = jnp.where(learning, state.count + 1, state.count)
        move = jnp.where(learning, error - state.mean, 0.0)
        mean = state.mean + move / jnp.maximum(count, 1.0)
        square = state.square + move * (error - mean)
        deviation = jnp.sqrt(jnp.maximum(square / jnp.maximum(count - 1.0, 1.0), _LEAST))
        moved = jnp.maximum(0.0, state.total + (error - mean) / deviation - slack)
        total = jnp.where(count > _WARM, moved, 0.0)
        return Cusum(count, mean, square, total), total

    zero = jnp.zeros(())
    return _over(step, Cusum(zero, zero, zero, zero), errors, mask)


def surprises(
    rate: Float[Array, ""], gap: Float[Array, " n"], vectors: Float[Array, "n d"], mask: Bool[Array, " n"]
) -> Float[Array, " n"]:
    """How far each event points away from the slow mean before it: 1 - cosine; 0 for the first."""
    vectors = jnp.where(mask[:, None], vectors, 0.0)
    slow = decay_scan(rate[None], gap, vectors)
    before = jnp.concatenate([jnp.zeros_like(slow[:1]), slow[:-1]])
    return jnp.where(mask & before.any(-1), 1.0 - _cosine(vectors, before), 0.0)


def distances(
    rate: Float[Array, "2"], gap: Float[Array, " n"], vectors: Float[Array, "n d"], mask: Bool[Array, " n"]
) -> Float[Array, " n"]:
    """1 - cosine between the fast and the slow mean after each event."""
    vectors = jnp.where(mask[:, None], vectors, 0.0)
    fast, slow = (decay_scan(rate[k : k + 1], gap, vectors) for k in (0, 1))
    return jnp.where(slow.any(-1), 1.0 - _cosine(fast, slow), 0.0)


def adwin(errors: np.ndarray, mask: np.ndarray, *, delta: float) -> np.ndarray:
    """(b, n) float32: 1 after each event at which ADWIN cuts its window, of b users' errors (b, n), else 0.

    ``delta`` bounds the probability of a cut without a change. Raises InputError without the package river.

    References:
        Bifet, Gavaldà: Learning from time-changing data with adaptive windowing (2007).
    """
    try:
        from river.drift import ADWIN
    except ModuleNotFoundError:
        raise InputError("ADWIN needs river, which is missing: pip install 'jaxdecay[drift]'") from None
    found = np.zeros(errors.shape, np.float32)
    for user, (own, there) in enumerate(zip(errors, mask, strict=True)):
        window = ADWIN(delta=delta)
        for event in np.flatnonzero(there):
            window.update(float(own[event]))
            found[user, event] = window.drift_detected
    return found


def _cosine(a: Float[Array, "n d"], b: Float[Array, "n d"]) -> Float[Array, " n"]:
    lengths = jnp.square(a).sum(-1) * jnp.square(b).sum(-1)
    return (a * b).sum(-1) / jnp.sqrt(jnp.maximum(lengths, _LEAST))


def _over(step: Callable, start: Any, errors: Array, mask: Array) -> Float[Array, " n"]:
    """One state after the other; at padding it stays, and so does the statistic."""

    def one(carry: tuple[Any, Array], given: tuple[Array, Array]) -> tuple[Any, Array]:
        state, last = carry
        moved, found = step(state, given[0])
        kept = jax.tree.map(lambda new, old: jnp.where(given[1], new, old), (moved, found), (state, last))
        return kept, kept[1]

    return jax.lax.scan(one, (start, jnp.zeros(())), (errors, mask))[1]
