"""From histories to scores of every item: the compiled steps of a `jaxdecay.predict.Predictor`, each over a
batch of requests, one a row."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.heads.revisit import with_excitation
from jaxdecay.heads.similarity import Pieces
from jaxdecay.history import History, Items
from jaxdecay.history import Requests as Asked
from jaxdecay.model import Interest, Written
from jaxdecay.scorer import Scorer


@functools.partial(jax.jit, static_argnums=0)
def catalogue_scorer(model: Interest, params: dict, items: Items, shares: Array) -> tuple[Scorer, Written]:
    found: Any = model.apply({"params": params}, items, shares, method=Interest.scorer)
    return found


@functools.partial(jax.jit, static_argnums=0)
def trend(model: Interest, params: dict, items: Items, shares: Float[Array, "r m v"]) -> Float[Array, "m v"]:
    """The popularity of every item at M moments."""
    scorer, _ = catalogue_scorer(model, params, items, shares)
    return scorer.popularity


@functools.partial(jax.jit, static_argnums=0)
def serve(
    model: Interest,
    params: dict,
    history: History,
    asked: Asked,
    items: Items,
    written: Written,
    scorer: Scorer,
    popularity: Float[Array, "b v"],
) -> tuple[Float[Array, "b d"], Float[Array, "b n"], Float[Array, "b v"]]:
    """The query, what is left of each past event, and every item's base score, for one request a row."""

    def one(history: History, asked: Asked) -> Any:
        return model.apply({"params": params}, history, asked, items, written, method=Interest.serve)

    query, kernel = jax.vmap(one)(history, asked)
    base = _products(query[:, 0], scorer.targets) + (scorer.bias[None] + popularity)
    return query[:, 0], kernel[:, 0], base


def _products(query: Float[Array, "b d"], targets: Float[Array, "v d"]) -> Float[Array, "b v"]:
    """Inner products, in four parts that are added up in pairs: in one run over the dimensions, as matrix
    products have it on processors, scores of 30 are off by 1e-5, so by 4e-6."""
    cuts = [query.shape[1] * part // 4 for part in (1, 2, 3)]
    parts = zip(jnp.split(query, cuts, axis=1), jnp.split(targets, cuts, axis=1), strict=True)
    one, two, three, four = (some @ of_items.T for some, of_items in parts)
    return (one + two) + (three + four)


@functools.partial(jax.jit, static_argnums=0)
def pieces(
    model: Interest, params: dict, history: History, asked: Asked, items: Items, written: Written
) -> tuple[Pieces, Float[Array, "b 1 n"]]:
    def one(history: History, asked: Asked) -> Any:
        return model.apply({"params": params}, history, asked, items, written, method=Interest.pieces)

    return jax.vmap(one)(history, asked)


@functools.partial(jax.jit, static_argnums=0)
def total(
    model: Interest,
    params: dict,
    base: Float[Array, "b v"],
    there: Bool[Array, "b v"] | None,
    kernel: Float[Array, "b n"],
    item: Int[Array, "b n"],
) -> tuple[Float[Array, "b v"], Float[Array, "b v"]]:
    """Log-intensities, which are base log-probabilities with the excitation of each user's own items added;
    and the base log-probabilities among the items that are there (of the others: what they would be)."""
    base -= jax.nn.logsumexp(base, axis=1, keepdims=True, where=there)
    if not model.spec.revisit:
        return base, base
    counts = jax.vmap(lambda k, i: jnp.zeros(base.shape[1], k.dtype).at[i].add(k))(kernel, item)
    excitation: Any = model.apply({"params": params}, jnp.maximum(counts, 0.0), method=Interest.excitation)
    return jnp.where(counts > 0, with_excitation(base, excitation), base), base
