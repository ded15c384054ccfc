r"""Lists that are more than their best scores: diverse, of few items of a kind, with a share for a group.

A list is chosen from a pool of P candidates one place at a time: each place goes to the candidate with the
greatest gain among those that the bounds still allow. With the relevance $r_i$ (`relevance`) and the
similarity $c_{ij} = (1 + \cos_{ij}) / 2$ of item vectors, all between 0 and 1, the gain of candidate i behind
the list S is

- of `mmr`: $\lambda r_i - \frac{1 - \lambda}{k - 1} \sum_{j \in S} c_{ij}$ (maximal marginal relevance; the
  sum in place of the greatest similarity, since it is of the sum that the distance within a list is made);
- of `dpp`: $\lambda r_i + (1 - \lambda) (\log\det L_{S \cup i} - \log\det L_S)$, with the kernel $L_{ij} = (1
  - \varepsilon) c_{ij}$ and a diagonal of 1 (a determinantal point process, maximised greedily; the
  determinant grows with one row of a Cholesky factor a place, O(k P) instead of O(k³ P)).

Guarantees: with the trade-off $\lambda = 1$ and no bounds the list is the plain one, ties included; bounds
hold whatever the trade-off. An item beyond the pool is not listed, diverse though it may be.

One list, no batch axis: use `jax.vmap`, as `rerank` does.

References:
    Carbonell, Goldstein: The use of MMR, diversity-based reranking for reordering documents and producing
    summaries, SIGIR 1998.
    Gollapudi, Sharma: An axiomatic approach for result diversification, WWW 2009 (sums of distances).
    Chen, Zhang, Zhou: Fast greedy MAP inference for determinantal point process to improve recommendation
    diversity, NeurIPS 2018.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.exposure import Reach
from jaxdecay.modes import EXACT
from jaxdecay.steering import Diversity

_BATCH = 256  # lists in one call
_RIDGE = 1e-3  # of the kernel: lists may be longer than vectors, and hold an item's double


class Pool(NamedTuple):
    """P candidates of one list, best first; where there are fewer, the last have a score of -inf."""

    scores: Float[Any, " p"]
    """Logits."""
    vectors: Float[Any, "p d"]
    """Of length 1, or 0 for an item of which nothing is known."""
    group: Int[Any, " p"]
    """Of which a list may hold but a few; -1 for an item that belongs to none."""
    chosen: Bool[Any, " p"]
    """Whether the item is of the group whose exposure is bounded."""


class Bounds(NamedTuple):
    """What a list must keep to."""

    cap: int | Int[Any, ""]
    """Most items of a group."""
    reach: Reach | None = None
    """Of the exposure, for a list of k places (`jaxdecay.exposure.completions`); None: any will do."""
    left: Int[Any, " 2"] | None = None
    """How many of the other candidates, and of the chosen group's, a list can hold under the cap."""


def relevance(scores: Float[Array, " p"]) -> Float[Array, " p"]:
    r"""What the candidates are worth beside similarities: $1 / \sqrt{n}$ for the n-th best, 0 for none.

    By place, as people look at lists: a trade-off then means the same whatever the spread of the logits, and
    costs the first places last. On the validation part of electronics a quarter more distance within lists
    cost 3 % of NDCG so, and 10 % by logits scaled over the pool with the greatest similarity.
    """
    return jnp.where(jnp.isfinite(scores), jnp.arange(1.0, len(scores) + 1.0) ** -0.5, 0.0)


def mmr(pool: Pool, k: int, trade_off: float | Float[Array, ""], bounds: Bounds) -> Int[Array, " k"]:
    """Places in the pool of the k items listed, -1 where there is none left."""
    worth, share = trade_off * relevance(pool.scores), (1.0 - trade_off) / max(k - 1, 1)

    def gain(total: Array, place: Array) -> Array:
        return worth - share * total

    def after(total: Array, place: Array, best: Array) -> Array:
        return total + _similarity(pool, best)

    return _greedy(pool, k, bounds, jnp.zeros_like(worth), gain, after)


def dpp(pool: Pool, k: int, trade_off: float | Float[Array, ""], bounds: Bounds) -> Int[Array, " k"]:
    """Places in the pool of the k items listed, -1 where there is none left."""
    worth = trade_off * relevance(pool.scores)
    size = len(worth)

    def gain(state: tuple[Array, Array], place: Array) -> Array:
        return worth + (1.0 - trade_off) * jnp.log(jnp.maximum(state[1], 1e-9))

    def after(state: tuple[Array, Array], place: Array, best: Array) -> tuple[Array, Array]:
        rows, left = state
        kernel = ((1.0 - _RIDGE) * _similarity(pool, best)).at[best].set(1.0)
        known = jnp.matmul(rows[:, best], rows, precision=EXACT)
        row = (kernel - known) / jnp.sqrt(jnp.maximum(left[best], 1e-9))
        return rows.at[place].set(row), left - jnp.square(row)

    return _greedy(pool, k, bounds, (jnp.zeros((k, size)), jnp.ones(size)), gain, after)


def _similarity(pool: Pool, item: Array) -> Float[Array, " p"]:
    """Of all candidates with one, from 0 to 1."""
    return (1.0 + jnp.matmul(pool.vectors, pool.vectors[item], precision=EXACT)) / 2.0


def _greedy(
    pool: Pool,
    k: int,
    bounds: Bounds,
    state: Any,
    gain: Callable[[Any, Array], Array],
    after: Callable[[Any, Array, Array], Any],
) -> Int[Array, " k"]:
    """``gain``: of every candidate, from the state and the number of items listed. ``after``: the state when
    one more is."""

    def step(place: Array, carry: Any) -> Any:
        listed, free, used, exposed, own, state = carry
        allowed = free & (used < bounds.cap)
        if bounds.reach is not None:
            allowed &= jnp.where(pool.chosen, *(_open(bounds, place, exposed, own, to) for to in (1, 0)))
        best = jnp.argmax(jnp.where(allowed, gain(state, place), -jnp.inf))
        alike = (pool.group == pool.group[best]) & (pool.group >= 0)
        mine = pool.chosen[best].astype(jnp.int32)
        if bounds.reach is not None:
            exposed += mine * bounds.reach.weight[place]
        return (
            listed.at[place].set(jnp.where(allowed.any(), best, -1)),
            free.at[best].set(False),
            used + alike,
            exposed,
            own + mine,
            after(state, place, best),
        )

    nothing, none = jnp.int32(0), jnp.zeros(len(pool.scores), jnp.int32)
    carry = jnp.full(k, -1, jnp.int32), jnp.isfinite(pool.scores), none, nothing, nothing, state
    return jax.lax.fori_loop(0, k, step, carry)[0]


def _open(bounds: Bounds, place: Array, exposed: Array, own: Array, to: int) -> Bool[Array, ""]:
    """Whether a place may go to one of the group (``to`` 1) or another item (0): whether the places after it
    can then still be filled within the bounds."""
    reach, left = bounds.reach, bounds.left
    assert reach is not None
    assert left is not None
    exposed, own = exposed + to * reach.weight[place], own + to
    number = jnp.arange(reach.low.shape[1])  # of the group, in the places after
    others = place + 1 - own + (len(reach.weight) - 1 - place - number)
    fits = (own + number <= left[1]) & (others <= left[0])
    inside = (reach.low[place + 1] <= exposed) & (exposed <= reach.high[place + 1])
    return (fits & inside.any(axis=1)).any()


def rerank(
    items: np.ndarray,
    scores: np.ndarray,
    vectors: Array | np.ndarray,
    k: int,
    *,
    trade_off: float = 1.0,
    diversity: Diversity = "mmr",
    group: np.ndarray | None = None,
    cap: int | None = None,
    chosen: np.ndarray | None = None,
    reach: Reach | None = None,
    left: np.ndarray | None = None,
) -> np.ndarray:
    """(R, k) int32 places in the pools of what is listed, best first, -1 where nothing is left.

    Args:
        items: (R, P) int, the candidates of each list, best first, -1 for none. scores: (R, P) float32, -inf
            for none.
        vectors: (V, D) float32 of length 1 or 0. k: at most P.
        group: (V,) int, -1 for none, of each of which a list holds at most ``cap`` items.
        chosen: (V,) bool, the items whose exposure is bounded by ``reach``, with ``left`` (R, 2) as in
            `Bounds`, which says that every list can meet it.
    """
    found = np.empty((len(items), k), np.int32)
    size = min(_BATCH, 1 << (max(len(items), 1) - 1).bit_length())
    number = len(vectors)
    shared = (
        jnp.asarray(vectors),
        jnp.asarray(np.full(number, -1) if group is None or cap is None else group, jnp.int32),
        jnp.asarray(np.zeros(number, bool) if chosen is None else chosen),
        jnp.int32(k if cap is None else cap),
        reach,
        jnp.float32(trade_off),
    )
    for begin in range(0, len(items), size):
        some = slice(begin, begin + size)
        count = len(items[some])
        rows = (items[some], scores[some], *(() if left is None else (left[some].astype(np.int32),)))
        # Filled up with copies of the last: one shape to compile.
        filled = [np.concatenate([x, np.repeat(x[-1:], size - count, axis=0)]) for x in rows]
        made = _lists(*shared, filled[0], filled[1], *filled[2:], k=k, by=diversity)
        found[some] = np.asarray(made)[:count]
    return found


@functools.partial(jax.jit, static_argnames=("by", "k"))
def _lists(
    vectors: Float[Array, "v d"],
    group: Int[Array, " v"],
    chosen: Bool[Array, " v"],
    cap: Int[Array, ""],
    reach: Reach | None,
    trade_off: Float[Array, ""],
    items: Int[Array, "r p"],
    scores: Float[Array, "r p"],
    left: Int[Array, "r 2"] | None = None,
    *,
    k: int,
    by: Diversity,
) -> Int[Array, "r k"]:
    def one(items: Array, scores: Array, left: Array | None) -> Array:
        row = jnp.maximum(items, 0)
        pool = Pool(scores, vectors[row], group[row], chosen[row])
        return (mmr if by == "mmr" else dpp)(pool, k, trade_off, Bounds(cap, reach, left))

    return jax.vmap(one, in_axes=(0, 0, None if left is None else 0))(items, scores, left)
