r"""An item's own vector and what its columns say of it, fused by gates that look at both.

$$ v = 2\sigma(W_o z) \odot e + 2\sigma(W_c z) \odot c', \qquad c' = c + \mathrm{FFN}(c), \qquad
z = [e; c'] / \sqrt{\overline{[e; c']^2} + \sigma^2} $$

with the item's own vector $e$, 0 for an item that training does not know, the columns' sum $c$
(`jaxdecay.heads.features`), and $\sigma$ the size of what is not known yet. It starts as the plain sum $e +
c$ and learns by how much either counts: of an item seen often its own vector, of a new one what it is like.
Of an item of which nothing is known it makes 0.

References:
    Arevalo, Solorio, Montes-y-Gómez, González: Gated multimodal units for information fusion (2017).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.encoders import FeedForward


class Fusion(nn.Module):
    """``softness``: root mean square of a vector of which little is known."""

    softness: float

    @nn.compact
    def __call__(self, own: Float[Array, "v d"], content: Float[Array, "v d"]) -> Float[Array, "v d"]:
        width = own.shape[1]
        content = FeedForward(bias=False, name="content")(content)
        both = jnp.concatenate([own, content], axis=1)
        both *= jax.lax.rsqrt(jnp.square(both).mean(1, keepdims=True) + self.softness**2)
        gates = nn.Dense(2 * width, kernel_init=nn.initializers.zeros, name="gates")(both)
        of_own, of_content = jnp.split(2.0 * nn.sigmoid(gates), 2, axis=1)
        return of_own * own + of_content * content
