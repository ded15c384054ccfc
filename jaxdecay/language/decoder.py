r"""Decoders with grouped-query attention and rotary positions: Qwen3, and the Gemma family.

$$ x \leftarrow x + W_o\,\mathrm{attend}(\mathrm{norm}(x)), \qquad x \leftarrow x + W_d\bigl(\phi(W_g\,
\mathrm{norm}(x)) \odot W_u\,\mathrm{norm}(x)\bigr) $$

with $\mathrm{norm}(x) = w \odot x / \sqrt{\overline{x^2} + \epsilon}$ and a last norm at the end. Gemma has
$1 + w$ for $w$, norms each part's output as well, and multiplies embeddings by $\sqrt d$. Queries and keys
are turned by their places, so that only distances count. One text: no axis for batches, use `jax.vmap`.

References:
    Qwen team: Qwen3 technical report (2025); Gemma team: Gemma 2 (2024), Gemma 3 (2025), EmbeddingGemma
    (2025), which sees both ways; Su et al.: RoFormer (2021), for the rotary positions; Shazeer: GLU variants
    improve transformer (2020).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.language.layers import ACTIVATIONS, attend
from jaxdecay.language.shapes import DecoderShape
from jaxdecay.language.weights import Source

PREFIXES = ("", "model.", "language_model.", "model.language_model.")
UNUSED = ("lm_head.", "rotary_emb.")
"""Tensors that a folder may hold and a text's vector does not need."""


class Norm(nn.Module):
    """Root mean square brought to 1, in float32, over the last axis; then times the weight, or 1 + weight."""

    epsilon: float
    one_more: bool
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        start = nn.initializers.zeros if self.one_more else nn.initializers.ones
        weight = self.param("weight", start, (x.shape[-1],)).astype(jnp.float32)
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        factor = 1.0 + weight if self.one_more else weight
        return (wide * jnp.expand_dims(factor, range(x.ndim - 1))).astype(self.dtype)


def rotate(x: Float[Array, "n h e"], theta: float, stretch: float) -> Float[Array, "n h e"]:
    r"""Turns the pairs $(x_k, x_{k + e/2})$ at place $i$ by the angle $(i / \mathrm{stretch})\,
    \theta^{-2k/e}$."""
    half = x.shape[2] // 2
    rates = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = (jnp.arange(len(x), dtype=jnp.float32) / stretch)[:, None] * rates[None]
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=2).astype(x.dtype)


def sight(mask: Bool[Array, " n"], window: int, causal: bool) -> Bool[Array, "n n"]:
    """Which tokens (columns) a token (row) sees."""
    ago = jnp.arange(len(mask))[:, None] - jnp.arange(len(mask))[None]
    near = jnp.abs(ago) < window if window else jnp.ones_like(ago, bool)
    return mask[None] & near & (ago >= 0 if causal else True)


class Attention(nn.Module):
    """Of layer ``index``."""

    shape: DecoderShape
    index: int
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], mask: Bool[Array, " n"]) -> Float[Array, "n d"]:
        shape, i = self.shape, self.index
        heads = {"query": shape.heads, "key": shape.groups, "value": shape.groups}
        query, key, value = (
            nn.Dense(count * shape.head_width, use_bias=shape.biased, dtype=self.dtype, name=name)(x).reshape(
                len(x), count, shape.head_width
            )
            for name, count in heads.items()
        )
        if shape.head_norms:
            query, key = (
                Norm(shape.epsilon, shape.gemma, self.dtype, name=name)(one)
                for name, one in (("query_norm", query), ("key_norm", key))
            )
        query, key = (rotate(one, shape.thetas[i], shape.stretches[i]) for one in (query, key))
        query = query.reshape(len(x), shape.groups, -1, shape.head_width)
        visible = sight(mask, shape.windows[i], shape.causal)
        mixed = attend(query, key, value, visible, scale=shape.scale, cap=shape.cap)
        return nn.Dense(shape.width, use_bias=shape.biased, dtype=self.dtype, name="out")(mixed)


class Layer(nn.Module):
    """Attention and the gated feed-forward part of layer ``index``."""

    shape: DecoderShape
    index: int
    dtype: jax.typing.DTypeLike = jnp.float32

    def setup(self) -> None:
        def dense(width: int) -> nn.Dense:
            return nn.Dense(width, use_bias=False, dtype=self.dtype)

        def norm() -> Norm:
            return Norm(self.shape.epsilon, self.shape.gemma, self.dtype)

        self.attention = Attention(self.shape, self.index, self.dtype)
        self.gate, self.up, self.down = (
            dense(self.shape.inner),
            dense(self.shape.inner),
            dense(self.shape.width),
        )
        self.before_attention, self.before_inner = norm(), norm()
        if self.shape.gemma:
            self.after_attention, self.after_inner = norm(), norm()

    def __call__(self, x: Float[Array, "n d"], mask: Bool[Array, " n"]) -> Float[Array, "n d"]:
        mixed = self.attention(self.before_attention(x), mask)
        x = x + (self.after_attention(mixed) if self.shape.gemma else mixed)
        y = self.before_inner(x)
        y = self.down(ACTIVATIONS[self.shape.activation](self.gate(y)) * self.up(y))
        return x + (self.after_inner(y) if self.shape.gemma else y)


class Decoder(nn.Module):
    """Parameters: ``word``, ``layer_0``, ``layer_1`` and so on, and ``norm``.

    ``remat``: what is inside a layer is computed again for the gradient, so that memory is that of the
    layers' outputs.
    """

    shape: DecoderShape
    dtype: jax.typing.DTypeLike = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        shape = self.shape
        kind = nn.remat(Layer) if self.remat else Layer
        self.word = nn.Embed(shape.vocabulary, shape.width, dtype=self.dtype)
        self.layer = [kind(shape, i, self.dtype) for i in range(shape.layers)]
        self.norm = Norm(shape.epsilon, shape.gemma, self.dtype)

    def lower(self, ids: Int[Array, " n"], mask: Bool[Array, " n"], upto: int) -> Float[Array, "n d"]:
        """What layers 0 to ``upto`` - 1 make of a text; with 0, its embeddings."""
        x = self.word(ids)
        return self._through(x * self.shape.width**0.5 if self.shape.gemma else x, mask, 0, upto)

    def upper(self, x: Float[Array, "n d"], mask: Bool[Array, " n"], start: int) -> Float[Array, "n d"]:
        """What the layers from ``start`` on and the last norm make of what `lower` made."""
        return self.norm(self._through(x, mask, start, self.shape.layers))

    def __call__(self, ids: Int[Array, " n"], mask: Bool[Array, " n"]) -> Float[Array, "n d"]:
        """Vectors of the tokens; ``mask`` is False at padding, on the right."""
        return self.upper(self.lower(ids, mask, self.shape.layers), mask, self.shape.layers)

    def _through(self, x: Array, mask: Array, start: int, stop: int) -> Array:
        for layer in self.layer[start:stop]:
            x = layer(x, mask)
        return x


def sources(shape: DecoderShape) -> dict[tuple[str, ...], Source]:
    """The name in Hugging Face's files of each parameter."""
    names: dict[tuple[str, ...], Source] = {
        ("word", "embedding"): Source("embed_tokens.weight"),
        ("norm", "weight"): Source("norm.weight"),
    }
    for i in range(shape.layers):
        for ours, theirs in _parts(shape).items():
            path, name = (f"layer_{i}", *ours), f"layers.{i}.{theirs}"
            if ours[-1].startswith(("query_norm", "key_norm", "before", "after")):
                names[(*path, "weight")] = Source(f"{name}.weight")
                continue
            names[(*path, "kernel")] = Source(f"{name}.weight", turned=True)
            if shape.biased and ours[0] == "attention":
                names[(*path, "bias")] = Source(f"{name}.bias")
    return names


def _parts(shape: DecoderShape) -> dict[tuple[str, ...], str]:
    parts: dict[tuple[str, ...], str] = {
        ("attention", "query"): "self_attn.q_proj",
        ("attention", "key"): "self_attn.k_proj",
        ("attention", "value"): "self_attn.v_proj",
        ("attention", "out"): "self_attn.o_proj",
        ("gate",): "mlp.gate_proj",
        ("up",): "mlp.up_proj",
        ("down",): "mlp.down_proj",
        ("before_attention",): "input_layernorm",
        ("before_inner",): "post_attention_layernorm",
    }
    if shape.head_norms:
        parts |= {
            ("attention", "query_norm"): "self_attn.q_norm",
            ("attention", "key_norm"): "self_attn.k_norm",
        }
    if shape.gemma:
        parts |= {
            ("after_attention",): "post_attention_layernorm",
            ("before_inner",): "pre_feedforward_layernorm",
            ("after_inner",): "post_feedforward_layernorm",
        }
    return parts
