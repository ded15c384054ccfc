r"""The encoder of BERT and its kin (MiniLM, E5, GTE, BGE, RoBERTa): a norm after each residual sum.

$$ x \leftarrow \mathrm{norm}(x + W_o\,\mathrm{attend}(x)), \qquad x \leftarrow \mathrm{norm}(x + W_2\,
\phi(W_1 x)) $$

from $x_i = \mathrm{norm}(w_{t_i} + p_i + s_0)$: a token's word, its place, and type 0, of a single text. No
dropout. One text: no axis for batches, use `jax.vmap`.

References:
    Devlin et al.: BERT (2019); Liu et al.: RoBERTa (2019), whose positions begin behind the padding's.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.language.layers import ACTIVATIONS, attend
from jaxdecay.language.shapes import BertShape
from jaxdecay.language.weights import Source

PREFIXES = ("", "bert.", "roberta.", "model.", "encoder_model.")
UNUSED = ("pooler.", "cls.", "lm_head.", "classifier.", "embeddings.position_ids")
"""Tensors that a folder may hold and a text's vector does not need."""


class Embeddings(nn.Module):
    """Word, place and type, normed."""

    shape: BertShape
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, ids: Int[Array, " n"]) -> Float[Array, "n d"]:
        shape, normal = self.shape, nn.initializers.normal(0.02)
        tables = {"word": shape.vocabulary, "position": shape.positions, "type": shape.types}
        word, position, kind = (
            jnp.asarray(self.param(name, normal, (rows, shape.width))) for name, rows in tables.items()
        )
        x = word[ids] + position[shape.first : shape.first + len(ids)] + kind[:1]
        return nn.LayerNorm(shape.epsilon, dtype=self.dtype, use_fast_variance=False, name="norm")(x)


class Layer(nn.Module):
    """Attention and the feed-forward part."""

    shape: BertShape
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], mask: Bool[Array, " n"]) -> Float[Array, "n d"]:
        shape = self.shape
        split = (len(x), shape.heads, 1, shape.width // shape.heads)
        query, key, value = (
            nn.Dense(shape.width, dtype=self.dtype, name=name)(x).reshape(split)
            for name in ("query", "key", "value")
        )
        visible = jnp.broadcast_to(mask[None], (len(x), len(x)))
        mixed = attend(query, key[:, :, 0], value[:, :, 0], visible, scale=split[3] ** -0.5)
        x = self._norm("attention_norm", x + nn.Dense(shape.width, dtype=self.dtype, name="out")(mixed))
        inner = nn.Dense(shape.inner, dtype=self.dtype, name="up")(x)
        outer = nn.Dense(shape.width, dtype=self.dtype, name="down")(ACTIVATIONS[shape.activation](inner))
        return self._norm("norm", x + outer)

    def _norm(self, name: str, x: Array) -> Array:
        return nn.LayerNorm(self.shape.epsilon, dtype=self.dtype, use_fast_variance=False, name=name)(x)


class Bert(nn.Module):
    """Parameters: ``embeddings`` and ``layer_0``, ``layer_1`` and so on, each with its projections.

    ``remat``: what is inside a layer is computed again for the gradient, so that memory is that of the
    layers' outputs.
    """

    shape: BertShape
    dtype: jax.typing.DTypeLike = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        kind = nn.remat(Layer) if self.remat else Layer
        self.embeddings = Embeddings(self.shape, self.dtype)
        self.layer = [kind(self.shape, self.dtype) for _ in range(self.shape.layers)]

    def lower(self, ids: Int[Array, " n"], mask: Bool[Array, " n"], upto: int) -> Float[Array, "n d"]:
        """What layers 0 to ``upto`` - 1 make of a text; with 0, its embeddings."""
        return self._through(self.embeddings(ids), mask, 0, upto)

    def upper(self, x: Float[Array, "n d"], mask: Bool[Array, " n"], start: int) -> Float[Array, "n d"]:
        """What the layers from ``start`` on make of what `lower` made."""
        return self._through(x, mask, start, self.shape.layers)

    def __call__(self, ids: Int[Array, " n"], mask: Bool[Array, " n"]) -> Float[Array, "n d"]:
        """Vectors of the tokens; ``mask`` is False at padding."""
        return self.lower(ids, mask, self.shape.layers)

    def _through(self, x: Array, mask: Array, start: int, stop: int) -> Array:
        for layer in self.layer[start:stop]:
            x = layer(x, mask)
        return x


def sources(shape: BertShape) -> dict[tuple[str, ...], Source]:
    """The name in Hugging Face's files of each parameter."""
    names: dict[tuple[str, ...], Source] = {
        ("embeddings", "word"): Source("embeddings.word_embeddings.weight"),
        ("embeddings", "position"): Source("embeddings.position_embeddings.weight"),
        ("embeddings", "type"): Source("embeddings.token_type_embeddings.weight"),
        **_norm(("embeddings", "norm"), "embeddings.LayerNorm"),
    }
    dense = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "out": "attention.output.dense",
        "up": "intermediate.dense",
        "down": "output.dense",
    }
    for i in range(shape.layers):
        at = f"encoder.layer.{i}."
        for ours, theirs in dense.items():
            names[f"layer_{i}", ours, "kernel"] = Source(f"{at}{theirs}.weight", turned=True)
            names[f"layer_{i}", ours, "bias"] = Source(f"{at}{theirs}.bias")
        names |= _norm((f"layer_{i}", "attention_norm"), f"{at}attention.output.LayerNorm")
        names |= _norm((f"layer_{i}", "norm"), f"{at}output.LayerNorm")
    return names


def _norm(path: tuple[str, ...], name: str) -> dict[tuple[str, ...], Source]:
    return {(*path, "scale"): Source(f"{name}.weight"), (*path, "bias"): Source(f"{name}.bias")}
