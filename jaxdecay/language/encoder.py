"""From token ids to a text's vector, whole or in two parts: the layers below ``k``, and those from ``k`` on.

Parameters are one plain tree: those of the body (``embeddings`` or ``word``, ``layer_0``, ``layer_1`` and so
on, ``norm``) and ``dense_0``, ``dense_1`` and so on after pooling. To train the upper layers alone, keep what
`lower` gives for each text, and differentiate `upper`, which reads nothing of the layers below.

One text: ``ids`` (n,) int32 and ``mask`` (n,), False at padding, which stands on the right. Batches come from
`jax.vmap` over both.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.language import bert, decoder
from jaxdecay.language.layers import ACTIVATIONS
from jaxdecay.language.pooling import pool, unit
from jaxdecay.language.shapes import BertShape, LanguageConfig

Params = Any
"""Nested dictionaries of arrays."""


def body(
    config: LanguageConfig, *, dtype: jax.typing.DTypeLike = jnp.float32, remat: bool = False
) -> bert.Bert | decoder.Decoder:
    """The Flax module of the layers."""
    if isinstance(config.body, BertShape):
        return bert.Bert(config.body, dtype, remat)
    return decoder.Decoder(config.body, dtype, remat)


def init(config: LanguageConfig, key: Array) -> Params:
    """Random parameters, for tests and for training from nothing; as large as the model."""
    ids = jnp.zeros(2, jnp.int32)
    params = dict(body(config).init(key, ids, ids == 0)["params"])
    for i, dense in enumerate(config.dense):
        kernel = jax.random.normal(jax.random.fold_in(key, i), (dense.inputs, dense.outputs))
        params[f"dense_{i}"] = {"kernel": kernel / dense.inputs**0.5}
        if dense.biased:
            params[f"dense_{i}"]["bias"] = jnp.zeros(dense.outputs)
    return params


def lower(
    config: LanguageConfig,
    params: Params,
    ids: Int[Array, " n"],
    mask: Bool[Array, " n"],
    *,
    layers: int,
    dtype: jax.typing.DTypeLike = jnp.float32,
    remat: bool = False,
) -> Float[Array, "n d"]:
    """What the embeddings and the first ``layers`` layers make of a text."""
    module: Any = body(config, dtype=dtype, remat=remat)
    return module.apply({"params": params}, ids, mask, layers, method="lower")


def upper(
    config: LanguageConfig,
    params: Params,
    x: Float[Array, "n d"],
    mask: Bool[Array, " n"],
    *,
    layers: int,
    dtype: jax.typing.DTypeLike = jnp.float32,
    remat: bool = False,
) -> Float[Array, " w"]:
    """The vector that the rest of the layers, pooling and what follows it make of what `lower` made with the
    same ``layers``; float32.

    ``params`` may lack the embeddings and the layers below. A text without any token gets 0 where there are
    no dense layers.
    """
    module: Any = body(config, dtype=dtype, remat=remat)
    tokens = module.apply({"params": params}, x.astype(dtype), mask, layers, method="upper")
    vector = pool(tokens, mask, config.pooling)
    for i, dense in enumerate(config.dense):
        one = params[f"dense_{i}"]
        vector = vector @ one["kernel"].astype(jnp.float32)
        vector = ACTIVATIONS[dense.activation](vector + one["bias"] if dense.biased else vector)
    return unit(vector) if config.normalise else vector


def encode(
    config: LanguageConfig,
    params: Params,
    ids: Int[Array, " n"],
    mask: Bool[Array, " n"],
    *,
    dtype: jax.typing.DTypeLike = jnp.float32,
    remat: bool = False,
) -> Float[Array, " w"]:
    """A text's vector, float32."""
    x = lower(config, params, ids, mask, layers=config.body.layers, dtype=dtype, remat=remat)
    return upper(config, params, x, mask, layers=config.body.layers, dtype=dtype, remat=remat)
