"""What gives every item its base score: an inner product, a bias, and popularity at a point of time."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Scorer(NamedTuple):
    """What gives V items their base score: target vectors, biases, and popularity at G points of time."""

    targets: Float[Array, "v d"]
    bias: Float[Array, " v"]
    popularity: Float[Array, "g v"]

    def scores(self, query: Float[Array, "t d"], grid: Int[Array, " t"]) -> Float[Array, "t v"]:
        """The base score of every item for each query at its point of the time grid."""
        return query @ self.targets.T + self.bias[None] + self.popularity[grid]

    def score(
        self, query: Float[Array, "t d"], grid: Int[Array, " t"], item: Int[Array, " t"]
    ) -> Float[Array, " t"]:
        """The base score of one item for each query."""
        inner = jnp.einsum("td,td->t", query, self.targets[item])
        return inner + self.bias[item] + self.popularity[grid, item]
