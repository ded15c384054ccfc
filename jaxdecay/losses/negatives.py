r"""Negatives: items drawn once for a batch and shared by all of its targets, partly from the whole catalogue
alike and partly as often as they are taken; and items drawn for each target alone from what was taken just
before it.

Drawn as often as they are taken alone, items of the tail would hardly ever be told that they are wrong;
drawn evenly alone, the strong rivals of a target would hardly ever be seen. The mixture of both is *mixed
negative sampling* (Yang et al. 2020); here popular ones come from the counts of training rather than from
the batch, so that what is expected is known exactly. Where interest fades within hours the rivals of a target
are those of its hour, and of a whole log's draws hardly any was: these are the last.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdecay.tally import Tally

_TOGETHER = 1 << 16  # pairs of target and negative that are looked up at a time


class Negatives(NamedTuple):
    """N items for all of T targets, in any order; an item may have been drawn several times, and then counts
    as often. And K for each."""

    item: Int[Array, " n"]
    log_expected: Float[Array, "*t n"]
    """Logarithm of how often this item was expected among all N (+ K) draws, which with draws of each
    target's own differs from target to target."""
    own: Int[Array, "t k"] | None = None
    log_expected_own: Float[Array, "t k"] | None = None
    """Infinite for what is no draw."""


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
    return Negatives(item, jnp.log(_expected(item, cumulative, count, uniform)))


def draw_recent(
    keys: Array,
    shared: Negatives,
    at: Int[Array, " t"],
    tally: Tally,
    cumulative: Int[Array, " v"],
    count: int,
    *,
    uniform: float,
) -> Negatives:
    r"""``count`` more for each target, from the last thousand events before its moment (or all, if there are
    fewer), at which its item $i$ was taken $w_i$ times of $w$:

    $$ m_i = \frac{n_u}{V} + n_f \frac{c_i}{\sum_{i'} c_{i'}} + n_r \frac{w_i}{w} \text{ times.} $$

    Args:
        keys: one for each target.
        shared: what `draw` gave for ``cumulative`` and ``uniform``.
        at: int32 seconds, as those of the ``tally``.

    Guarantees: a target's draws depend on its own key and moment alone. One before all events has none.
    """

    own, each, since = jax.vmap(lambda key, moment: tally.recent(key, moment, count))(keys, at)

    def expected(target: tuple[Array, ...]) -> tuple[Array, Array]:
        moment, own, each, since = target
        others = _expected(own, cumulative, len(shared.item), uniform)
        often = jnp.exp(shared.log_expected) + each * tally.taken(shared.item, since, moment)
        often_own = jnp.where(each > 0, others + each * tally.taken(own, since, moment), jnp.inf)
        return jnp.log(often), jnp.log(often_own)

    together = max(1, min(_TOGETHER // (len(shared.item) + count), len(at)))
    log_expected, log_expected_own = jax.lax.map(expected, (at, own, each, since), batch_size=together)
    return Negatives(shared.item, log_expected, own, log_expected_own)


def _expected(
    item: Int[Array, " n"], cumulative: Int[Array, " v"], count: int, uniform: float
) -> Float[Array, " n"]:
    """How often each item is expected among the ``count`` of `draw`."""
    evenly = round(count * uniform)
    times = cumulative[item] - jnp.where(item > 0, cumulative[jnp.maximum(item - 1, 0)], 0)
    share = times.astype(jnp.float32) / cumulative[-1].astype(jnp.float32)
    return evenly / cumulative.shape[0] + (count - evenly) * share
