"""Items' titles in the gradient: the upper layers of a language model, trained with the recommender.

What the layers below make of each title never changes, and is worked out once. In a step the layers above
are applied to the titles of the items that the batch names, its targets, negatives and histories, and the
gradient goes through them; all other items keep the vectors that they had when training began. With a loss on
negatives no others take part, but in older events, where more are named than a step goes through.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.history import Items
from jaxdecay.language import encoder, lora
from jaxdecay.language.shapes import LanguageConfig

_AT_ONCE = 64  # titles


class Titles(struct.PyTreeNode):
    """The titles of V items, as far as the frozen layers have come with them."""

    below: Float[Array | np.ndarray, "v t d"]
    """What the layers below make of each title, padded on the right."""
    mask: Bool[Array | np.ndarray, "v t"]
    """Which tokens are there: none of an item without a title, whose columns stay as they are."""
    frozen: Any
    """Parameters of the layers above, to which adapters are added."""
    config: LanguageConfig = struct.field(pytree_node=False)
    layers: int = struct.field(pytree_node=False)
    """How many layers lie below."""
    column: int = struct.field(pytree_node=False)
    """Where in an item's numeric columns its title's vector begins."""
    most: int = struct.field(pytree_node=False)
    """Titles that a step goes through: those of negatives first, then targets, then histories, the latest
    events first."""
    alpha: float = struct.field(pytree_node=False)
    """Of low-rank adapters; 0: the layers' own parameters are trained."""
    precision: str = struct.field(pytree_node=False)
    remat: bool = struct.field(pytree_node=False)

    def take(self, rows: np.ndarray) -> "Titles":
        """Those of some items, where they lie in memory."""
        return self.replace(below=self.below[rows], mask=self.mask[rows])

    def vectors(self, trained: Any, rows: Int[Array, " m"]) -> Float[Array, "m w"]:
        """What the whole model makes of the titles of some items."""
        params = lora.merge(self.frozen, trained, alpha=self.alpha) if self.alpha else self.frozen | trained

        def one(title: tuple[Array, Array]) -> Array:
            below, mask = title
            return encoder.upper(
                self.config, params, below, mask,
                layers=self.layers, dtype=jnp.dtype(self.precision),
            )  # fmt: skip

        titles = jnp.asarray(self.below)[rows], jnp.asarray(self.mask)[rows]
        if not self.remat:
            return jax.vmap(one)(titles)
        # Some titles at a time, each worked out again for the gradient: what is inside a layer is ten times
        # as wide as what comes out of it.
        return jax.lax.map(jax.checkpoint(one), titles, batch_size=_AT_ONCE)

    def renewed(self, trained: Any, items: Items, named: Int[Array, " n"]) -> Items:
        """The items with the vectors that the model makes now of the first ``most`` different ones of
        ``named``; numbers beyond the last item name none."""
        rows, there = first_named(named, items.index.shape[0], self.most)
        there &= jnp.asarray(self.mask)[rows].any(1)
        found = self.vectors(trained, rows)
        place = jnp.where(there, rows, items.index.shape[0])[:, None]
        columns = self.column + jnp.arange(self.config.width)
        return items._replace(
            numeric=jnp.asarray(items.numeric).at[place, columns[None]].set(found, mode="drop")
        )


def first_named(named: Int[Array, " n"], items: int, most: int) -> tuple[Int[Array, " m"], Bool[Array, " m"]]:
    """The first ``most`` different numbers below ``items`` in the order in which they are named, and whether
    there are so many.

    >>> rows, there = first_named(jnp.array([4, 9, 1, 4, 0]), 6, 4)
    >>> rows[there].tolist()
    [4, 1, 0]
    """
    place = jnp.arange(named.shape[0], dtype=jnp.int32)
    first = jnp.full(items, named.shape[0], jnp.int32).at[named].min(place, mode="drop")
    rows = jnp.argsort(first)[: min(most, items)]
    return rows, first[rows] < named.shape[0]
