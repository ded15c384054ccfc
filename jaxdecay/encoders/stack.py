"""A stack of blocks over a history: mix, then transform each event, both beside what was there before.

Every block starts as the identity (what it adds begins at zero), so that a stack starts as the model without
it and learns what the data ask for.
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.encoders.bank import DecayMixer
from jaxdecay.encoders.events import Places
from jaxdecay.encoders.hstu import TimedAttention
from jaxdecay.encoders.transformer import Attention

Kind = Literal["bank", "transformer", "hstu"]


class FeedForward(nn.Module):
    """Two layers with a gate (SwiGLU; Shazeer 2020), of twice the width, beside the input. ``bias`` False:
    nothing comes of nothing."""

    bias: bool = True
    dropout: float = 0.0
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], *, training: bool = False) -> Float[Array, "n d"]:
        width = x.shape[-1]
        normed = nn.RMSNorm(dtype=self.dtype, name="norm")(x)
        inner = nn.Dense(4 * width, use_bias=False, dtype=self.dtype, name="in")(normed)
        value, gate = jnp.split(inner, 2, axis=-1)
        zeros = nn.initializers.zeros
        out = nn.Dense(width, use_bias=self.bias, dtype=self.dtype, kernel_init=zeros, name="out")
        added = out(value * nn.silu(gate))
        return x + nn.Dropout(self.dropout)(added, deterministic=not training).astype(x.dtype)


class Block(nn.Module):
    """One mixer and one `FeedForward`, each on normalised input and beside it."""

    kind: Kind
    heads: int = 1
    half_lives: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()
    context: int = 0
    dropout: float = 0.0
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], places: Places, training: bool) -> Float[Array, "n d"]:
        if self.kind == "bank":
            mixer: nn.Module = DecayMixer(self.half_lives, self.steps, dtype=self.dtype, name="mixer")
        else:
            attention = {"transformer": Attention, "hstu": TimedAttention}[self.kind]
            mixer = attention(self.heads, self.context, dtype=self.dtype, name="mixer")
        added = mixer(nn.RMSNorm(dtype=self.dtype, name="norm")(x), places)
        x = x + nn.Dropout(self.dropout)(added, deterministic=not training).astype(x.dtype)
        return FeedForward(dropout=self.dropout, dtype=self.dtype, name="forward")(x, training=training)


class Stack(nn.Module):
    """``blocks`` blocks of one kind. ``remat``: what is inside a block is computed again for the gradient."""

    kind: Kind
    blocks: int
    heads: int = 1
    half_lives: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()
    context: int = 0
    dropout: float = 0.0
    dtype: jax.typing.DTypeLike = jnp.float32
    remat: bool = False

    def rows(self, past: int) -> int:
        """How many of the last ``past`` events have to pass it for the last to come out as if all had."""
        return min(past, self.blocks * self.context) if self.context else past

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d"], places: Places, *, training: bool = False
    ) -> Float[Array, "n d"]:
        """What each event means after those before it; the row of an event that does not count is nobody's
        to read."""
        block = nn.remat(Block, static_argnums=(3,)) if self.remat else Block
        for number in range(self.blocks):
            one = block(
                self.kind,
                heads=self.heads,
                half_lives=self.half_lives,
                steps=self.steps,
                context=self.context,
                dropout=self.dropout,
                dtype=self.dtype,
                name=f"block_{number}",
            )
            x = one(x, places, training)
        return x
