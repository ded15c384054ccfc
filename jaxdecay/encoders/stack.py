"""A stack of blocks over a history: mix, then transform each event, both beside what was there before.

Every block starts as the identity (what it adds begins at zero), so that a stack starts as the model without
it and learns what the data ask for.

A stack has two faces: over a whole history at once, for training, and one event at a time (`Stack.start`,
`Stack.step`), for serving. Both make the same of the same events, and rows that do not count change neither.

| kind | mixes | carries, in each block of width d | time |
|---|---|---|---|
| `mlp` | nothing: each event alone | nothing | |
| `cnn` | the last ``span`` events | (span - 1) d numbers | |
| `gru`, `lstm` | all, in a gated state | d, or 2 d | |
| `bank` | all, in a fading state | d and a time | days and events |
| `transformer` | the last ``context`` events | 2 context d and their times | if ``bias`` says so |
| `hstu` | the last ``context`` events | does not stream | days |
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.encoders.bank import DecayMixer
from jaxdecay.encoders.convolution import Convolution
from jaxdecay.encoders.events import Places, set_aside
from jaxdecay.encoders.hstu import TimedAttention
from jaxdecay.encoders.recurrent import Recurrent
from jaxdecay.encoders.transformer import Attention, Bias
from jaxdecay.errors import InputError

Kind = Literal["mlp", "cnn", "gru", "lstm", "bank", "transformer", "hstu"]
Carry = tuple[Any, ...]
"""What each block carries from one event to the next: arrays whose shapes do not hang on how many came."""
WINDOWED = ("cnn", "transformer", "hstu")
"""Kinds that look back by rows, and are shown those that count side by side."""


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
    """One mixer and one `FeedForward`, each on normalised input and beside it; `mlp` has no mixer."""

    mixer: Callable[..., nn.Module] | None
    dropout: float = 0.0
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d"], places: Places, training: bool, carry: Any = None
    ) -> tuple[Float[Array, "n d"], Any]:
        if self.mixer is not None:
            mixer = self.mixer(dtype=self.dtype, name="mixer")
            added, carry = mixer(nn.RMSNorm(dtype=self.dtype, name="norm")(x), places, carry)
            x = x + nn.Dropout(self.dropout)(added, deterministic=not training).astype(x.dtype)
        forward = FeedForward(dropout=self.dropout, dtype=self.dtype, name="forward")
        return forward(x, training=training), carry


class Stack(nn.Module):
    """``blocks`` blocks of one kind. ``heads`` and ``context`` are of attention, ``bias`` of the transformer,
    ``span`` of convolutions, ``half_lives`` of the bank and of attention biased by time, ``steps`` of the
    bank. ``remat``: what is inside a block is computed again for the gradient."""

    kind: Kind
    blocks: int
    heads: int = 1
    half_lives: tuple[float, ...] = ()
    steps: tuple[float, ...] = ()
    context: int = 0
    dropout: float = 0.0
    dtype: jax.typing.DTypeLike = jnp.float32
    remat: bool = False
    span: int = 8
    bias: Bias = "position"

    @nn.nowrap
    def rows(self, past: int) -> int:
        """How many of the last ``past`` events have to pass it for the last to come out as if all had."""
        reach = {"cnn": self.span, "transformer": self.context, "hstu": self.context}.get(self.kind, 0)
        return min(past, self.blocks * reach) if reach else past

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n d"],
        places: Places,
        *,
        training: bool = False,
        skip: int = 0,
        carry: Carry | None = None,
    ) -> Any:
        """What each event means after those before it; the row of an event that does not count is nobody's
        to read.

        ``skip``: so many rows pass as they are, the ones that do not count before the earliest of the others
        (only where ``rows`` bounds what the last hang on). With a ``carry``, one row: see `step`.
        """
        ordered, where, back = (x, places, None)
        if self.kind in WINDOWED and carry is None:
            ordered, where, back = set_aside(x, places)
        out, where = ordered[skip:], Places(*(field[skip:] for field in where))
        kind, after = Block, []
        if self.remat and carry is None:
            kind = nn.remat(Block, static_argnums=(3,))
        for number in range(self.blocks):
            block = kind(self._mixer(), dropout=self.dropout, dtype=self.dtype, name=f"block_{number}")
            out, kept = block(out, where, training, None if carry is None else carry[number])
            after.append(kept)
        if carry is not None:
            return tuple(after), out
        out = jnp.concatenate([ordered[:skip], out]) if skip else out
        return out if back is None else out[back]

    @nn.nowrap
    def start(self, width: int) -> Carry:
        """What is carried before the first event, for vectors of ``width`` numbers.

        Raises InputError for `hstu`, and for a transformer without a ``context``: they do not stream.
        """
        mixer = self._mixer()
        return tuple(() if mixer is None else mixer().start(width) for _ in range(self.blocks))

    def step(self, carry: Carry, x: Float[Array, " d"], place: Places) -> tuple[Carry, Float[Array, " d"]]:
        """One more event, of single numbers in ``place``: what is carried after it, and what it means after
        those before it, as in the row of a whole history.

        After an event that does not count the carry is what it was, and the vector nobody's to read. Pure,
        for `jax.jit`, `jax.lax.scan` over events and `jax.vmap` over users; nothing drops out.
        """
        after, out = self(x[None], Places(*(field[None] for field in place)), carry=carry)
        return after, out[0]

    @nn.nowrap
    def _mixer(self) -> Callable[..., nn.Module] | None:
        """What makes the mixer of a block."""
        match self.kind:
            case "mlp":
                return None
            case "cnn":
                return functools.partial(Convolution, self.span)
            case "gru" | "lstm":
                return functools.partial(Recurrent, self.kind)
            case "bank":
                return functools.partial(DecayMixer, self.half_lives, self.steps)
            case "transformer":
                return functools.partial(Attention, self.heads, self.context, self.bias, self.half_lives)
            case "hstu":
                return functools.partial(TimedAttention, self.heads, self.context)
        raise InputError(f"kind={self.kind!r}: there is no such encoder")
