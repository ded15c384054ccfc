r"""Negatives: items drawn once for a batch and shared by all of its targets, partly from the whole catalogue
alike and partly as often as they are taken.

Drawn as often as they are taken alone, items of the tail would hardly ever be told that they are wrong;
drawn evenly alone, the strong rivals of a target would hardly ever be seen. The mixture of both is *mixed
negative sampling* (Yang et al. 2020); here popular ones come from the counts of training rather than from
the batch, so that what is expected is known exactly.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Negatives(NamedTuple):
    """N items, in any order; an item may have been drawn several times, and then counts as often."""

    item: Int[Array, " n"]
    log_expected: Float[Array, " n"]
    """Logarithm of how often this item was expected among the N."""


def draw(key: Array, cumulative: Int[Array, " v"], count: int, *, uniform: float) -> Negatives:
    r"""``count`` items: ``uniform`` of them (rounded to a whole number $n_u$) from all V items alike, the
    other $n_f$ as often as they were taken. Item $i$, taken $c_i$ times, is expected

    $$ m_i = \frac{n_u}{V} + n_f \frac{c_i}{\sum_{i'} c_{i'}} \text{ times.} $$

    Args:
        cumulative: how often each item and all those before it were taken, $\sum_{i' \le i} c_{i'}$. In whole
            numbers, so that rare items of a long log are drawn as often as they should be.

    Guarantees: a pure function of ``key``; each draw is independent of the others; the cost grows with
    ``count`` and the logarithm of V. Without uniform draws an item that was never taken is never drawn, and
    the losses know nothing of it.

    >>> taken = draw(jax.random.key(0), jnp.cumsum(jnp.array([0, 3, 0, 1])), 8, uniform=0.0)
    >>> sorted(set(taken.item.tolist())), jnp.exp(taken.log_expected).max().item()
    ([1, 3], 6.0)
    """
    evenly, items = round(count * uniform), cumulative.shape[0]
    even_key, often_key = jax.random.split(key)
    event = jax.random.randint(often_key, (count - evenly,), 0, cumulative[-1], cumulative.dtype)
    taken = jnp.searchsorted(cumulative, event, side="right").astype(jnp.int32)
    item = jnp.concatenate([jax.random.randint(even_key, (evenly,), 0, items, jnp.int32), taken])
    times = cumulative[item] - jnp.where(item > 0, cumulative[jnp.maximum(item - 1, 0)], 0)
    share = times.astype(jnp.float32) / cumulative[-1].astype(jnp.float32)
    return Negatives(item, jnp.log(evenly / items + (count - evenly) * share))
