"""Columns as vectors: categorical codes through embeddings, numbers through a linear map, added up."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Columns(nn.Module):
    """The sum of one embedding per categorical column (code 0, missing, adds nothing) and a linear map of
    the numeric ones.

    A multi-valued column stands in ``widths[c]`` places side by side and is averaged over those that are
    present.
    """

    cardinalities: tuple[int, ...]
    widths: tuple[int, ...]
    numeric: int
    features: int

    @nn.compact
    def __call__(
        self, categorical: Int[Array, "... c"], numeric: Float[Array, "... f"]
    ) -> Float[Array, "... d"]:
        total = jnp.zeros((*categorical.shape[:-1], self.features), jnp.float32)
        start = 0
        for column, (cardinality, width) in enumerate(zip(self.cardinalities, self.widths, strict=True)):
            codes = categorical[..., start : start + width]
            start += width
            table = self.param(f"column_{column}", nn.initializers.normal(0.1), (cardinality, self.features))
            present = (codes > 0)[..., None]
            vectors = jnp.where(present, table[codes], 0.0).sum(-2)
            total += vectors / jnp.maximum(present.sum(-2), 1)
        if self.numeric:
            slope = self.param("numeric", nn.initializers.normal(0.1), (self.numeric, self.features))
            total += numeric @ slope
        return total
