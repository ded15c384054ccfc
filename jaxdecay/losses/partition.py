"""The normaliser of the full softmax, in tiles: memory does not grow with targets times items."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdecay.scorer import Scorer

_TILE = 1 << 20  # scores held at a time: about what the caches keep (4 MiB)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def log_partition(
    query: Float[Array, "t d"], grid: Int[Array, " t"], scorer: Scorer, item_chunk: int
) -> Float[Array, " t"]:
    r"""$\log\sum_i e^{s_i}$ for each query, without ever holding the T by V scores.

    Runs over blocks of queries and, beyond ``item_chunk`` items, over chunks of the catalogue with a
    running maximum (one chunk is the full softmax; the result is the same to rounding). The backward pass
    recomputes each tile: memory is one tile of about a million scores, plus the item table and popularity
    at the G points of time, cut into chunks, and their gradients.

    >>> scorer = Scorer(jnp.eye(3), jnp.zeros(3), jnp.zeros((1, 3)))
    >>> jnp.exp(log_partition(jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32), scorer, 2)).tolist()
    [3.0, 3.0]
    """
    return _forward(query, grid, scorer, item_chunk)[0]


def _tiles(
    query: Array, grid: Array, scorer: Scorer, item_chunk: int, *more: Array
) -> tuple[tuple[Array, ...], Scorer]:
    """Queries in blocks (padded with zeros) and items in chunks (padded with a bias of minus infinity)."""
    items = scorer.bias.shape[0]
    chunk = min(item_chunk, items)
    chunks = -(-items // chunk)
    block = int(np.clip(_TILE // chunk, 8, query.shape[0]))
    rows = -query.shape[0] % block
    blocks = tuple(
        jnp.pad(x, [(0, rows)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, block, *x.shape[1:])
        for x in (query, grid, *more)
    )
    spare = chunks * chunk - items
    targets = jnp.pad(scorer.targets, ((0, spare), (0, 0))).reshape(chunks, chunk, -1)
    bias = jnp.pad(scorer.bias, (0, spare), constant_values=-jnp.inf).reshape(chunks, chunk)
    popularity = jnp.pad(scorer.popularity, ((0, 0), (0, spare)))
    popularity = popularity.reshape(-1, chunks, chunk).swapaxes(0, 1)
    return blocks, Scorer(targets, bias, popularity)


def _forward(query: Array, grid: Array, scorer: Scorer, item_chunk: int) -> tuple[Array, tuple]:
    blocks, chunks = _tiles(query, grid, scorer, item_chunk)

    def block(inputs: tuple[Array, Array]) -> Array:
        def add(carry: tuple[Array, Array], part: Scorer) -> tuple[tuple[Array, Array], None]:
            top, total = carry
            scores = part.scores(*inputs)
            higher = jnp.maximum(top, scores.max(-1))
            total = total * jnp.exp(top - higher) + jnp.exp(scores - higher[:, None]).sum(-1)
            return (higher, total), None

        start = jnp.full(inputs[1].shape, -1e30, query.dtype), jnp.zeros(inputs[1].shape, query.dtype)
        (top, total), _ = jax.lax.scan(add, start, chunks)
        return top + jnp.log(total)

    result = jax.lax.map(block, blocks).reshape(-1)[: query.shape[0]]
    return result, (query, grid, scorer, result)


def _backward(item_chunk: int, residuals: tuple, cotangent: Array) -> tuple[Array, np.ndarray, Scorer]:
    query, grid, scorer, result = residuals
    blocks, chunks = _tiles(query, grid, scorer, item_chunk, result, cotangent)

    def block(total: Scorer, inputs: tuple[Array, ...]) -> tuple[Scorer, Array]:
        query, grid, result, cotangent = inputs

        def chunk(carry: Array, parts: tuple[Scorer, Scorer]) -> tuple[Array, Scorer]:
            part, grown = parts
            # never above 1, except in the rows of padding, whose result is 0: kept from inf * 0 there
            share = jnp.exp(jnp.minimum(part.scores(query, grid) - result[:, None], 0.0)) * cotangent[:, None]
            grown = Scorer(
                grown.targets + share.T @ query,
                grown.bias + share.sum(0),
                grown.popularity.at[grid].add(share),
            )
            return carry + share @ part.targets, grown

        towards, total = jax.lax.scan(chunk, jnp.zeros_like(query), (chunks, total))
        return total, towards

    total, towards = jax.lax.scan(block, jax.tree.map(jnp.zeros_like, chunks), blocks)
    items = scorer.bias.shape[0]
    gradient = Scorer(
        total.targets.reshape(-1, query.shape[1])[:items],
        total.bias.reshape(-1)[:items],
        total.popularity.swapaxes(0, 1).reshape(scorer.popularity.shape[0], -1)[:, :items],
    )
    return (
        towards.reshape(-1, query.shape[1])[: len(query)],
        np.zeros(grid.shape, jax.dtypes.float0),
        gradient,
    )


log_partition.defvjp(_forward, _backward)
