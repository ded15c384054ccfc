"""What encoders and decoders share: activations, and attention with grouped keys and values.

Softmax and norms are in float32 at least, whatever the precision of the rest. One text: no axis for batches,
use `jax.vmap`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdecay.language.shapes import Activation

_LOWEST = -1e30  # below every logit, and still finite: what sees nothing gets the mean of all, not NaN
_LONG = 1024  # tokens up to which all logits lie in memory at once
_BLOCK = 128  # tokens that take a turn together otherwise
ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "identity": lambda x: x,
}


def attend(
    query: Float[Array, "n g r e"],
    key: Float[Array, "n g e"],
    value: Float[Array, "n g e"],
    visible: Bool[Array, "n n"],
    *,
    scale: float,
    cap: float = 0.0,
) -> Float[Array, "n w"]:
    r"""Softmax attention of ``g`` groups of ``r`` heads; a group shares its keys and values.

    $$ y_i = \sum_j \mathrm{softmax}_j\bigl(\mathrm{cap}(s\,\langle q_i, k_j\rangle)\bigr)\, v_j, \qquad
    \mathrm{cap}(x) = c \tanh(x / c) $$

    over the $j$ with ``visible[i, j]``. Returns the heads side by side, ``w = g * r * e``.

    A long text's tokens take turns, so that memory is that of ``_BLOCK * n`` logits a head; the result is the
    same to rounding.

    References:
        Vaswani et al.: Attention is all you need (2017); Ainslie et al.: GQA (2023); Rabe, Staats:
        Self-attention does not need O(n^2) memory (2021), for the turns.
    """

    def rows(query: Array, visible: Array) -> Array:
        logits = jnp.einsum("igre,jge->grij", query * scale, key, preferred_element_type=jnp.float32)
        if cap:
            logits = cap * jnp.tanh(logits / cap)
        weights = jax.nn.softmax(jnp.where(visible[None, None], logits, _LOWEST), axis=-1)
        return jnp.einsum("grij,jge->igre", weights.astype(value.dtype), value).reshape(len(query), -1)

    n = len(query)
    if n <= _LONG:
        return rows(query, visible)
    short = -n % _BLOCK
    blocks = [
        jnp.pad(x, [(0, short)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, _BLOCK, *x.shape[1:])
        for x in (query, visible)
    ]
    turns = jax.lax.map(lambda part: jax.checkpoint(rows)(*part), tuple(blocks))
    return turns.reshape(n + short, -1)[:n]
