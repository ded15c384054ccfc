r"""Causal convolution as a sequence mixer: what each event makes of itself and of the few before it.

$$ y_j = W_o\, \mathrm{silu}\Bigl( b + \sum_{k=0}^{s-1} W_k\, x_{j-k} \Bigr) $$

over the last $s$ events; before the first there are zeros. No time enters. It streams: what it carries is the
last $s-1$ of its inputs.

References:
    Yuan et al.: A simple convolutional generative network for next item recommendation (NextItNet, 2019), for
    causal convolutions over histories.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.encoders.events import Places
from jaxdecay.errors import InputError


class Convolution(nn.Module):
    """``span``: events that each sees, its own included."""

    span: int
    dtype: jax.typing.DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.span < 1:
            raise InputError(f"span={self.span}: give 1 or more events")

    @nn.nowrap
    def start(self, width: int) -> Float[Array, "s d"]:
        """What is carried before the first event: ``span`` - 1 rows of nothing."""
        return jnp.zeros((self.span - 1, width), jnp.float32)

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d"], places: Places, carry: Float[Array, "s d"] | None = None
    ) -> tuple[Float[Array, "n d"], Float[Array, "s d"] | None]:
        """Rows that do not count are zeros and stand in the way of none if they come first. With a ``carry``
        the rows are one, and the carry after it comes beside what it finds."""
        length, width = x.shape
        x = jnp.where(places.mask[:, None], x, 0.0)
        before = self.start(width).astype(x.dtype) if carry is None else carry.astype(x.dtype)
        rows = jnp.concatenate([before, x])
        # A matrix product over copies side by side: convolutions are slow to differentiate on processors.
        beside = [rows[ago : ago + length] for ago in range(self.span)]
        inner = nn.silu(nn.Dense(width, dtype=self.dtype, name="in")(jnp.concatenate(beside, axis=1)))
        if carry is not None:
            carry = jnp.where(places.mask[0], rows[1:].astype(carry.dtype), carry)
        zeros = nn.initializers.zeros
        return nn.Dense(width, dtype=self.dtype, kernel_init=zeros, name="out")(inner), carry
