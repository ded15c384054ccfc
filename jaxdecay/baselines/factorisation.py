r"""Matrix factorisation of implicit feedback by alternating least squares.

NumPy and JAX. With n_ui training events of user u with item i, preference p = 1 where n > 0, confidence
c = 1 + α (1 + log n) there and 1 elsewhere, it minimises

$$ \sum_{u,i} c_{ui} (p_{ui} - x_u^\top y_i)^2 + \lambda \left(\sum_u \lVert x_u \rVert^2 + \sum_i \lVert
y_i \rVert^2\right) $$

Item factors are then frozen; the factors of whoever asks are solved from the visible history at each
request, so that known and new users are alike and histories move on. With a half-life what a user's history
says fades to the request time: 1 + log n is multiplied by the mean of what is left of the n events.

References:
    Hu, Koren, Volinsky: Collaborative filtering for implicit feedback datasets, ICDM 2008.
    Takács, Pilászy, Tikk: Applications of the conjugate gradient method for implicit feedback collaborative
    filtering, RecSys 2011.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdecay.baselines.choose import Judge
from jaxdecay.baselines.counts import visible
from jaxdecay.baselines.popularity import Popularity
from jaxdecay.data.catalogue import DAY
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.rank import OwnItems

FACTORS = 64
CONFIDENCES: tuple[float, ...] = (1, 4, 16, 64)
"""The grid of α."""
_REGULARISATION = 1.0
_ROUNDS = 8
_MOST_USERS = 50_000
_GATHERED = 2**15
_TINY = 1e-20


@dataclass(frozen=True, eq=False)
class Factorisation:
    """Item factors, and users solved from their histories; popularity for who has none."""

    name: str
    histories: Histories
    factors: np.ndarray
    """(V, D) float32."""
    confidence: float
    backing: Popularity
    settings: dict[str, Any] = field(default_factory=dict)
    half_life: float = np.inf
    """Days in which what a history says fades by half."""

    @property
    def uses_time(self) -> bool:
        """Without a half-life the history enters without times; only a user without history gets popularity,
        which moves with the time."""
        return bool(np.isfinite(self.half_life))

    def scores(self, requests: Requests) -> np.ndarray:
        """(R, V) float32 predicted preference, or popularity for a request without history."""
        own = visible(self.histories, requests)
        counts = np.bincount(own.pair, minlength=len(own.row))
        starts = np.searchsorted(own.row, np.arange(len(requests) + 1))
        strength = (1 + np.log(counts)) * self._left(own, requests.at, counts)
        users = solve(self.factors, starts, own.item, strength, self.confidence)
        scores = np.array(jnp.asarray(users) @ self.factors.T)  # a copy: arrays of JAX cannot be written to
        cold = np.flatnonzero(np.diff(starts) == 0)
        if len(cold):
            scores[cold] = self.backing.counts(requests.at[cold])
        return scores

    def _left(self, own: OwnItems, at: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """(P,) mean of what is left of the events with each own item."""
        age = (at[own.row[own.pair]] - self.histories.time[own.event]) / DAY
        return np.bincount(own.pair, np.exp2(-age / self.half_life), len(counts)) / counts


def solve(
    factors: np.ndarray,
    starts: np.ndarray,
    column: np.ndarray,
    strength: np.ndarray,
    confidence: float,
    *,
    first: np.ndarray | None = None,
    steps: int = 8,
) -> np.ndarray:
    """(n, D) float32 least-squares factors of n rows, given those of the columns, by conjugate gradients.

    Args:
        factors: (m, D) of the columns. starts: (n+1,) the stretch of ``column`` and ``strength`` of each row.
        column: (nnz,) index. strength: (nnz,) 1 + log count. confidence: α.
        first: (n, D) where to start (default 0). A row without columns comes out as 0.
    """
    width = factors.shape[1]
    gram = jnp.asarray(factors.T) @ factors + np.float32(_REGULARISATION) * np.eye(width, dtype=np.float32)
    lengths = np.diff(starts)
    result = np.zeros((len(lengths), width), np.float32)
    for rows, longest, size in _rectangles(lengths):
        real = np.zeros((size, longest), bool)
        real[: len(rows)] = np.arange(longest) < lengths[rows, None]
        place = np.zeros((size, longest), np.int64)
        place[: len(rows)] = starts[rows, None] + np.arange(longest)
        place[~real] = 0
        extra = np.where(real, confidence * strength[place], 0).astype(np.float32)
        x = np.zeros((size, width), np.float32)
        if first is not None:
            x[: len(rows)] = first[rows]
        solved = _gradients(gram, factors[column[place]], extra, extra + real, x, steps)
        result[rows] = np.asarray(solved)[: len(rows)]
    return result


def _rectangles(lengths: np.ndarray) -> Iterator[tuple[np.ndarray, int, int]]:
    """Rows of similar length, the length and the number to pad them to; few shapes, for each is compiled."""
    padded = 8 * 4 ** np.ceil(np.log2(np.maximum(lengths, 8) / 8) / 2).astype(np.int64)
    for length in np.unique(padded[lengths > 0]).tolist():
        members = np.flatnonzero((padded == length) & (lengths > 0))
        size = max(_GATHERED // length, 1)
        for begin in range(0, len(members), size):
            yield members[begin : begin + size], length, size


@jax.jit
def _gradients(
    gram: Float[Array, "D D"],
    y: Float[Array, "n L D"],
    extra: Float[Array, "n L"],
    wanted: Float[Array, "n L"],
    x: Float[Array, "n D"],
    steps: Int[Array, ""] | int,
) -> Float[Array, "n D"]:
    """Conjugate gradients on (gram + Σ extra · y yᵀ) x = Σ wanted · y for n rows at once; 0 in the padding.

    No (D, D) matrix is made for any row. In JAX because thousands of small products are what threaded BLAS
    does worst.
    """

    def product(v: Array) -> Array:
        return v @ gram + jnp.einsum("nld,nl->nd", y, extra * jnp.einsum("nld,nd->nl", y, v))

    def step(_: Any, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        x, residual, direction, square = state
        ahead = product(direction)
        length = square / jnp.maximum(jnp.sum(direction * ahead, axis=1), _TINY)
        x = x + length[:, None] * direction
        residual = residual - length[:, None] * ahead
        after = jnp.sum(residual * residual, axis=1)
        direction = residual + (after / jnp.maximum(square, _TINY))[:, None] * direction
        return x, residual, direction, after

    residual = jnp.einsum("nld,nl->nd", y, wanted) - product(x)
    state = (x, residual, residual, jnp.sum(residual * residual, axis=1))
    return jax.lax.fori_loop(0, steps, step, state)[0]


def item_factors(
    histories: Histories, *, confidence: float, factors: int = FACTORS, seed: int = 0
) -> np.ndarray:
    """(V, D) float32 item factors from the training part, of at most 50,000 users (drawn by ``seed``).

    Items that training never saw have factors 0.
    """
    user, item, strength = _training_counts(histories, seed)
    by_item = np.argsort(item, kind="stable")
    user_starts = np.concatenate([[0], np.cumsum(np.bincount(user))]) if len(user) else np.zeros(1, np.int64)
    item_starts = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=histories.items))])
    random = np.random.default_rng(seed)
    y = (random.standard_normal((histories.items, factors)) * 0.1).astype(np.float32)
    y[np.diff(item_starts) == 0] = 0
    x = None
    for _ in range(_ROUNDS):
        x = solve(y, user_starts, item, strength, confidence, first=x, steps=3)
        y = solve(x, item_starts, user[by_item], strength[by_item], confidence, first=y, steps=3)
    return y


def _training_counts(histories: Histories, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User (renumbered), item and 1 + log count of each different pair in training, by user."""
    rows = np.flatnonzero((histories.part == 0) & histories.chosen)
    user = np.searchsorted(histories.offsets, rows, side="right") - 1
    names = np.unique(user)
    if len(names) > _MOST_USERS:
        names = np.sort(np.random.default_rng(seed).choice(names, _MOST_USERS, replace=False))
        kept = np.isin(user, names)
        rows, user = rows[kept], user[kept]
    key = np.searchsorted(names, user) * max(histories.items, 1) + histories.item[rows]
    pairs, counts = np.unique(key, return_counts=True)
    return pairs // max(histories.items, 1), pairs % max(histories.items, 1), 1 + np.log(counts)


def fit_factorisation(judge: Judge, backing: Popularity, *, seed: int = 0) -> Factorisation:
    """Matrix factorisation, the confidence α chosen by validation."""

    def make(confidence: float) -> Factorisation:
        y = item_factors(judge.histories, confidence=confidence, seed=seed)
        settings = {"confidence": confidence, "factors": y.shape[1]}
        return Factorisation(
            "matrix factorisation", judge.histories, y, confidence, backing, settings=settings
        )

    system, _, found = judge.choose(make, CONFIDENCES)
    system.settings["validation_ndcg@10"] = found
    return system
