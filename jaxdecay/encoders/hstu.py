r"""Attention without a softmax, biased by distance and by time, gated: the mixer of HSTU.

$$ y_j = W_o \Bigl( \mathrm{norm}\Bigl( \frac{1}{n_j} \sum_{i \le j} \mathrm{silu}\bigl( \langle q_j, k_i
\rangle + b_h(j - i) + c_h(\tau_j - t_i) \bigr)\, v_i \Bigr) \odot u_j \Bigr) $$

with $q, k, v, u = \mathrm{silu}(W x)$. The age runs from each event to the time $\tau_j$ at which what comes
after $j$ is asked for, in buckets of its logarithm (a factor of 1.35 each); $n_j$ counts the events seen.
So what it makes of an event is not known before the next one comes, and it does not stream.

References:
    Zhai et al.: Actions speak louder than words (HSTU, 2024).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.encoders.events import Places
from jaxdecay.encoders.pairs import REACH, distance, in_heads, seen
from jaxdecay.errors import InputError
from jaxdecay.modes import whole

_WIDTH = 0.301  # of a bucket, in natural logarithms of seconds
_BUCKETS = 72  # the last begins at sixty years


class TimedAttention(nn.Module):
    """``heads`` of equal width; ``context``: events that each sees, its own included, 0 for all before it."""

    heads: int
    context: int = 0
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.nowrap
    def start(self, width: int) -> None:
        """Refused."""
        raise InputError(
            "hstu does not stream: what it makes of an event changes until the next one comes; read the whole"
            " history instead"
        )

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d"], places: Places, carry: None = None
    ) -> tuple[Float[Array, "n d"], None]:
        width = x.shape[1]
        split = in_heads(x.shape, self.heads)
        projected = nn.silu(nn.Dense(4 * width, use_bias=False, dtype=self.dtype, name="in")(x))
        query, key, value, gate = (part.reshape(split) for part in jnp.split(projected, 4, axis=1))
        near = self.param("distance", nn.initializers.zeros, (self.heads, REACH))
        ago = self.param("age", nn.initializers.zeros, (self.heads, _BUCKETS))
        logits = jnp.einsum("qhd,khd->hqk", query, key, preferred_element_type=jnp.float32)
        logits += near[:, distance(len(x))] + ago[:, _bucket(places)]
        visible = seen(places, self.context)
        count = jnp.maximum(visible.sum(1), 1).astype(jnp.float32)
        weights = jnp.where(visible[None], nn.silu(logits), 0.0) / count[None, :, None]
        mixed = jnp.einsum("hqk,khd->qhd", weights.astype(self.dtype), value).reshape(x.shape)
        mixed = nn.LayerNorm(use_bias=False, use_scale=False, dtype=self.dtype, name="norm")(mixed)
        mixed *= gate.reshape(x.shape)
        zeros = nn.initializers.zeros
        return nn.Dense(width, dtype=self.dtype, kernel_init=zeros, name="out")(mixed), None


def _bucket(places: Places) -> Array:
    """(n, n) bucket of the age of the column's event when what follows the row's is asked for."""
    age = whole(places.until[:, None] - places.time[None]).astype(jnp.float32)
    return jnp.clip(jnp.log(jnp.maximum(age, 1.0)) / _WIDTH, 0, _BUCKETS - 1).astype(jnp.int32)
