r"""The tally: what popularity is made of, for few items at the very moment of each request.

The full softmax reads the shares of all items at the points of a time grid (`jaxdecay.data.catalogue`). A
loss on negatives asks for few items, and needs no grid: after each of its events $k$ an item's faded count
is $c_k = 1 + 2^{-(t_k - t_{k-1})/h} c_{k-1}$, and until the next one nothing happens to it but fading. So
the share of an item at any moment $t$ is

$$ \frac{c_k}{C_m}\, 2^{-(t_m - t_k)/h}, $$

with $k$ the item's last event strictly before $t$, $m$ that of the whole catalogue, and $C$ the count of all
items together: two searches and one power, in memory of the number of events, whatever the number of items.
What is trained is then what is served, however fast items come and go.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_TOGETHER = 1 << 16  # pairs that are looked up at a time: what the caches hold


class Tally(flax.struct.PyTreeNode):
    """The faded counts after each event at R half-lives; `jaxdecay.data.tally.build_tally` makes it."""

    time: Int[Array, " n"]
    """int32 seconds of the N events of V items, one item after the other, ascending for each."""
    counts: Float[Array, "r n"]
    """Of the event's own item right after it, at its time."""
    first: Int[Array, " v1"]
    """Place of the first event of each item, last N."""
    moments: Int[Array, " m"]
    """int32 seconds of the events of all items, ascending."""
    totals: Float[Array, "r m"]
    """Counts of all items together right after each."""
    rates: Float[Array, " r"]
    """Halvings per second."""
    search_steps: int = flax.struct.field(pytree_node=False)
    """Steps of a search among the events of any one item."""

    def shares(self, item: Int[Array, " t"], at: Int[Array, " t"]) -> Float[Array, "r t"]:
        """One item's share, for each moment, of the counts of the events strictly before it; 0 before the
        item's first. Exact but for float32, and no slope goes through it."""
        return _stacked(self._shares(item, at), at.shape)

    def shares_among(self, items: Int[Array, " n"], at: Int[Array, " t"]) -> Float[Array, "r t n"]:
        """The shares of the same N items at each moment."""
        together = max(1, min(_TOGETHER // len(items), len(at)))
        found = jax.lax.map(lambda moment: self._shares(items, moment), at, batch_size=together)
        return _stacked(found, (len(at), len(items)))

    def _shares(self, item: Int[Array, " n"], at: Int[Array, "*n"]) -> tuple[Float[Array, " n"], ...]:
        """At each half-life."""
        first, end = self.first[item], self.first[item + 1]

        def further(step: Any, place: Array) -> Array:
            there = place + (1 << (self.search_steps - 1 - step))
            return jnp.where((there <= end) & (self.time[there - 1] < at), there, place)

        # The place after the last event before the moment.
        place = jax.lax.fori_loop(0, self.search_steps, further, first)
        taken, place = place > first, jnp.maximum(place - 1, 0)
        last = jnp.maximum(jnp.searchsorted(self.moments, at) - 1, 0)
        idle = (self.moments[last] - self.time[place]).astype(self.rates.dtype)
        return tuple(
            jnp.where(taken, counts[place] * jnp.exp2(-rate * idle) / totals[last], 0.0)
            for rate, counts, totals in zip(self.rates, self.counts, self.totals, strict=True)
        )


def _stacked(shares: tuple[Array, ...], shape: tuple[int, ...]) -> Array:
    return jax.lax.stop_gradient(jnp.stack(shares)) if shares else jnp.zeros((0, *shape))
