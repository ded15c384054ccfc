r"""Softmax attention over the events before, with a learned bias for each distance in the row of events: the
mixer of SASRec with relative places.

$$ y_j = W_o \sum_{i \le j} \mathrm{softmax}_i\Bigl( \frac{\langle q_j, k_i \rangle}{\sqrt{d_h}} + b_h(j - i)
\Bigr)\, v_i $$

Distances are counted in events and shared beyond the longest, so that histories of any length are read; no
time enters.

References:
    Kang, McAuley: Self-attentive sequential recommendation (2018); Raffel et al.: Exploring the limits of
    transfer learning (2020), for places as biases of distances.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.encoders.events import Places
from jaxdecay.encoders.pairs import REACH, distance, in_heads, seen

_LOWEST = -1e30


class Attention(nn.Module):
    """``heads`` of equal width; ``context``: events that each sees, its own included, 0 for all before it."""

    heads: int
    context: int = 0
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], places: Places) -> Float[Array, "n d"]:
        width = x.shape[1]
        split = in_heads(x.shape, self.heads)
        query, key, value = (
            nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(x).reshape(split)
            for name in ("query", "key", "value")
        )
        near = self.param("distance", nn.initializers.zeros, (self.heads, REACH))
        logits = jnp.einsum("qhd,khd->hqk", query, key, preferred_element_type=jnp.float32)
        logits = logits / split[2] ** 0.5 + near[:, distance(len(x))]
        visible = seen(places, self.context)
        weights = jax.nn.softmax(jnp.where(visible[None], logits, _LOWEST), axis=-1)
        weights = jnp.where(visible[None], weights, 0.0).astype(self.dtype)
        mixed = jnp.einsum("hqk,khd->qhd", weights, value).reshape(x.shape)
        return nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(mixed)
