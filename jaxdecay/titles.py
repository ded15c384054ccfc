"""Items' titles in the gradient: the upper layers of a language model, trained with the recommender.

What the layers below make of each title never changes, and is worked out once. The layers above make every
title's vector in one *pass*, and the recommender is trained with these vectors as with any others, by the
loss over all items, while the gradients with respect to them add up. A few times an epoch these sums go back
through the layers above, which take one step, and all titles are read anew: the chain rule in two halves,

$$ \\frac{\\partial}{\\partial \\theta} \\sum_s L_s(V(\\theta))
   = \\Bigl(\\frac{\\partial V}{\\partial \\theta}\\Bigr)^\\top \\sum_s \\frac{\\partial L_s}{\\partial V}, $$

exact while the layers rest, which they do between passes. So no item is ever scored by a vector that another
model made, and a pass, which costs many steps of the recommender, serves many.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from jaxdecay.history import Items
from jaxdecay.language import encoder, lora
from jaxdecay.language.shapes import LanguageConfig


class Titled(struct.PyTreeNode):
    """Which of V items have titles, and where their vectors stand."""

    there: Bool[Array, " v"]
    column: int = struct.field(pytree_node=False)
    """Where in an item's numeric columns its title's vector begins."""

    def items(self, items: Items, vectors: Float[Array, "all w"]) -> Items:
        """The items with these vectors of their titles; without a title, columns stay as they are."""
        columns = slice(self.column, self.column + vectors.shape[1])
        numeric = jnp.asarray(items.numeric)
        own = jnp.where(self.there[:, None], vectors[: numeric.shape[0]], numeric[:, columns])
        return items._replace(numeric=numeric.at[:, columns].set(own))


class Chunk(NamedTuple):
    """Some titles of like length, as far as the frozen layers have come with them."""

    rows: np.ndarray
    """Their items, as many as there are; what the others have beyond them is padding."""
    below: np.ndarray
    """(b, t, d) bfloat16: what the layers below make of each, padded on the right."""
    mask: np.ndarray
    """(b, t): which tokens are there."""


class Reader:
    """The trained layers over all titles."""

    def __init__(
        self,
        config: LanguageConfig,
        frozen: Any,
        chunks: Sequence[Chunk],
        *,
        items: int,
        layers: int,
        alpha: float,
        precision: str,
        remat: bool,
    ) -> None:
        """``frozen``: parameters of the layers from ``layers`` on. ``alpha``: of low-rank adapters; 0: the
        layers' own parameters are trained. ``precision``: of products of matrices. ``remat``: the inside of a
        layer is computed again for the gradient."""
        self.config, self.chunks, self.items, self.alpha = config, chunks, items, alpha

        def vectors(frozen: Any, trained: Any, below: Array, mask: Array) -> Array:
            params = lora.merge(frozen, trained, alpha=alpha) if alpha else frozen | trained

            def one(below: Array, mask: Array) -> Array:
                return encoder.upper(
                    config, params, below, mask, layers=layers, dtype=jnp.dtype(precision), remat=remat
                )

            return jax.vmap(one)(below, mask)

        def back(frozen: Any, trained: Any, below: Array, mask: Array, slope: Array, total: Any) -> Any:
            _, pull = jax.vjp(lambda trained: vectors(frozen, trained, below, mask), trained)
            return jax.tree.map(jnp.add, total, pull(slope)[0])

        self._frozen = jax.device_put(frozen)
        self._vectors, self._back = jax.jit(vectors), jax.jit(back, donate_argnums=5)

    def merged(self, params: Any, trained: Any) -> Any:
        """``params`` of the whole model, tuned."""
        trained = jax.device_get(trained)
        return lora.merge(params, trained, alpha=self.alpha) if self.alpha else params | trained

    @property
    def there(self) -> np.ndarray:
        """(V,): which items have titles."""
        found = np.zeros(self.items, bool)
        for chunk in self.chunks:
            found[chunk.rows] = True
        return found

    def vectors(self, trained: Any) -> Float[np.ndarray, "v w"]:
        """What the whole model makes of each item's title; 0 without one."""
        found = np.zeros((self.items, self.config.width), np.float32)
        for chunk in self.chunks:
            made = self._vectors(self._frozen, trained, chunk.below, chunk.mask)
            found[chunk.rows] = np.asarray(made)[: len(chunk.rows)]
        return found

    def gradient(self, trained: Any, slopes: Float[np.ndarray, "v w"]) -> Any:
        """The gradient with respect to ``trained`` of the sum of ``slopes * vectors(trained)``."""
        total = jax.tree.map(jnp.zeros_like, trained)
        for chunk in self.chunks:
            slope = np.zeros((len(chunk.below), self.config.width), np.float32)
            slope[: len(chunk.rows)] = slopes[chunk.rows]
            total = self._back(self._frozen, trained, chunk.below, chunk.mask, slope, total)
        return total
