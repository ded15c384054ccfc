r"""Popularity: what everybody wants at time $t$, from the catalogue's own faded counts.

$$ p_i(t) = \alpha \log\Bigl( \sum_r v_r\, \frac{c_{ir}(t)}{\sum_{i'} c_{i'r}(t)} + \frac{v_0}{V} \Bigr) $$

The counts $c_{ir}(t)=\sum_{t_j<t} 2^{-(t-t_j)/h_r}$ at a few fixed half-lives come from
`jaxdecay.data.catalogue`; the mixture $v$ and the exponent $\alpha$ are learned, so that $\sum_r v_r
2^{-\text{age}/h_r}$ is the kernel by which items age.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Popularity(nn.Module):
    """The mixture of the catalogue's shares and its exponent."""

    rates: int

    def setup(self) -> None:
        self.exponent = self.param("exponent", nn.initializers.constant(0.5), ())
        self.mixture = self.param("decay_mixture", nn.initializers.zeros, (self.rates + 1,))

    def weights(self) -> Float[Array, " r1"]:
        """The mixture over the catalogue's half-lives, and last the share of a uniform floor."""
        return jax.nn.softmax(self.mixture)


def popularity(
    shares: Float[Array, "*n r"], weights: Float[Array, " r1"], exponent: Float[Array, ""], *, items: int
) -> Float[Array, "*n"]:
    """The score of one of so many ``items``, at one point of time, from its share at each rate (they sum to 1
    over the items, or are 0); ``weights`` are those of the rates and last of the uniform floor."""
    return exponent * jnp.log(shares @ weights[:-1] + weights[-1] / items)
