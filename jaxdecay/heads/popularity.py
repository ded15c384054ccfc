r"""Popularity: what everybody wants at time $t$, from the catalogue's own faded counts.

$$ p_i(t) = \alpha \log\Bigl( \sum_r v_r\, \frac{c_{ir}(t)}{\sum_{i'} c_{i'r}(t)} + \frac{v_0}{V} \Bigr) $$

The shares of the counts $c_{ir}(t)=\sum_{t_j<t} 2^{-(t-t_j)/h_r}$ at a few fixed half-lives come from
`jaxdecay.data.catalogue`, in training on negatives from `jaxdecay.tally`; the mixture $v$ and the exponent
$\alpha$ are learned, so that $\sum_r v_r 2^{-\text{age}/h_r}$ is the kernel by which items age. Of items that
training does not know nothing else is known either: they have a mixture and an exponent of their own.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Popularity(nn.Module):
    """The mixture of the catalogue's shares and its exponent; with ``cold`` also those of unknown items."""

    rates: int
    cold: bool = False

    def setup(self) -> None:
        zeros, half = nn.initializers.zeros, nn.initializers.constant(0.5)
        self.exponent = self.param("exponent", half, ())
        self.mixture = self.param("decay_mixture", zeros, (self.rates + 1,))
        self.cold_exponent = self.param("cold_exponent", half, ()) if self.cold else self.exponent
        mixture = self.param("decay_cold_mixture", zeros, (self.rates + 1,)) if self.cold else self.mixture
        self.cold_mixture = mixture

    def weights(self) -> tuple[Float[Array, "2 r1"], Float[Array, " 2"]]:
        """Of known and of unknown items the mixture over the catalogue's half-lives, last the share of a
        uniform floor, and the exponent."""
        mixtures = jax.nn.softmax(jnp.stack([self.mixture, self.cold_mixture]))
        return mixtures, jnp.stack([self.exponent, self.cold_exponent])


def popularity(
    shares: Float[Array, "r *g n"],
    weights: Float[Array, "2 r1"],
    exponent: Float[Array, " 2"],
    cold: Int[Array, " n"],
    *,
    items: int,
) -> Float[Array, "*g n"]:
    """The scores of N of so many ``items`` from their shares at each rate (they sum to 1 over the items, or
    are 0), at one point of time each or at G; ``weights`` and ``exponent``: see `Popularity.weights`,
    ``cold``: 1 for unknown items."""

    # Term by term, not as a product of matrices: these are the largest arrays of a step, and the slope of a
    # weight, a sum over all of them, is off by a per cent where a product adds it up in one run.
    def of_items(known_unknown: Float[Array, " 2"]) -> Float[Array, "*g n"]:
        known, unknown = known_unknown
        return jnp.broadcast_to(jnp.where(cold > 0, unknown, known), shares.shape[1:])

    *each, floor = map(of_items, weights.T)
    mixed = sum((weight * share for weight, share in zip(each, shares, strict=True)), floor / items)
    return of_items(exponent) * jnp.log(mixed)
