r"""What gives every item its intensity: a base score (an inner product, a bias, and popularity at a point of
time), and what the revisit head adds for the items of the user's own history."""

from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdecay.heads.popularity import popularity
from jaxdecay.tally import Tally

_ABSENT = -1e4
"""The score of what is no candidate: no share of anything, and finite, so that no slope is NaN."""


class Scorer(NamedTuple):
    """What gives V items their base score: target vectors, biases, and popularity at G points of time."""

    targets: Float[Array, "v d"]
    bias: Float[Array, " v"]
    popularity: Float[Array, "g v"]

    def from_entry(self, entry: Int[Array, " v"]) -> "Scorer":
        """The same, without the items that are no candidates yet: each is one from its point of time on."""
        there = entry[None] <= jnp.arange(self.popularity.shape[0])[:, None]
        return self._replace(popularity=jnp.where(there, self.popularity, _ABSENT))

    def scores(self, query: Float[Array, "t d"], grid: Int[Array, " t"]) -> Float[Array, "t v"]:
        """The base score of every item for each query at its point of the time grid."""
        return query @ self.targets.T + self.bias[None] + self.popularity[grid]

    def score(
        self, query: Float[Array, "t d"], grid: Int[Array, " t"], item: Int[Array, " t"]
    ) -> Float[Array, " t"]:
        """The base score of one item for each query."""
        inner = jnp.einsum("td,td->t", query, self.targets[item])
        return inner + self.bias[item] + self.popularity[grid, item]

    def among(
        self, query: Float[Array, "t d"], grid: Int[Array, " t"], items: Int[Array, " n"]
    ) -> Float[Array, "t n"]:
        """The base scores of the same N items for each query."""
        return query @ self.targets[items].T + self.bias[items][None] + self.popularity[:, items][grid]


class SparseScorer(NamedTuple):
    """The same for losses that ask for few items: popularity is worked out for those alone, at the very
    moment of each request, which takes the place of a point of a time grid: int32 seconds."""

    targets: Float[Array, "v d"]
    bias: Float[Array, " v"]
    tally: Tally
    mixture: Float[Array, "2 r1"]
    """Of items that training knows, and of those it does not."""
    exponent: Float[Array, " 2"]
    cold: Int[Array, " v"]
    """1 for items that training does not know."""
    came: Int[Array, " v"] | None = None
    """int32 seconds: after which each item is a candidate; None: all always."""

    def score(
        self, query: Float[Array, "t d"], at: Int[Array, " t"], item: Int[Array, " t"]
    ) -> Float[Array, " t"]:
        """The base score of one item for each query, which must be a candidate there."""
        inner = jnp.einsum("td,td->t", query, self.targets[item])
        return inner + self.bias[item] + self._popularity(self.tally.shares(item, at), item)

    def among(
        self, query: Float[Array, "t d"], at: Int[Array, " t"], items: Int[Array, " n"]
    ) -> Float[Array, "t n"]:
        """As that of `Scorer`."""
        trend = self._popularity(self.tally.shares_among(items, at), items)
        scores = query @ self.targets[items].T + self.bias[items][None] + trend
        if self.came is None:
            return scores
        return jnp.where(self.came[items][None] < at[:, None], scores, _ABSENT)

    def _popularity(self, shares: Float[Array, "r *t n"], item: Int[Array, " n"]) -> Float[Array, "*t n"]:
        return popularity(shares, self.mixture, self.exponent, self.cold[item], items=self.bias.shape[0])


AnyScorer: TypeAlias = Scorer | SparseScorer


class Excitation(NamedTuple):
    r"""What the revisit head adds to intensities, as logarithms $\theta + \log n$; very negative where
    nothing."""

    target: Float[Array, " t"]
    """Of the target."""
    total: Float[Array, " t"]
    """Of all items together."""
    negatives: Float[Array, "t n"] | None = None
    """Of each of the negatives that all targets share, for losses that ask for it."""
