r"""Matrix factorisation of implicit feedback by alternating least squares.

NumPy only. With n_ui training events of user u with item i, preference p = 1 where n > 0, confidence
c = 1 + α (1 + log n) there and 1 elsewhere, it minimises

$$ \sum_{u,i} c_{ui} (p_{ui} - x_u^\top y_i)^2 + \lambda \left(\sum_u \lVert x_u \rVert^2 + \sum_i \lVert
y_i \rVert^2\right) $$

Item factors are then frozen; the factors of whoever asks are solved from the visible history at each
request, so that known and new users are alike and histories move on.

References:
    Hu, Koren, Volinsky: Collaborative filtering for implicit feedback datasets, ICDM 2008.
    Takács, Pilászy, Tikk: Applications of the conjugate gradient method for implicit feedback collaborative
    filtering, RecSys 2011.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxdecay.baselines.choose import Judge
from jaxdecay.baselines.counts import visible
from jaxdecay.baselines.popularity import Popularity
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests

FACTORS = 64
CONFIDENCES: tuple[float, ...] = (1, 4, 16, 64)
"""The grid of α."""
_REGULARISATION = 1.0
_ROUNDS = 8
_MOST_USERS = 50_000
_GATHERED = 2**17
_TINY = np.float32(1e-20)


@dataclass(frozen=True, eq=False)
class Factorisation:
    """Item factors, and users solved from their histories; popularity for who has none."""

    name: str
    histories: Histories
    factors: np.ndarray
    """(V, D) float32."""
    confidence: float
    backing: Popularity
    uses_time: bool = False
    """The history enters without times; only a user without history gets popularity, which moves with the
    time.
    """
    settings: dict[str, Any] = field(default_factory=dict)

    def scores(self, requests: Requests) -> np.ndarray:
        """(R, V) float32 predicted preference, or popularity for a request without history."""
        own = visible(self.histories, requests)
        counts = np.bincount(own.pair, minlength=len(own.row))
        starts = np.searchsorted(own.row, np.arange(len(requests) + 1))
        users = solve(self.factors, starts, own.item, 1 + np.log(counts), self.confidence)
        scores = users @ self.factors.T
        cold = np.flatnonzero(np.diff(starts) == 0)
        if len(cold):
            scores[cold] = self.backing.counts(requests.at[cold])
        return scores


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
    gram = factors.T @ factors + np.float32(_REGULARISATION) * np.eye(factors.shape[1], dtype=np.float32)
    lengths = np.diff(starts)
    result = np.zeros((len(lengths), factors.shape[1]), np.float32)
    # Rows of similar length together: a rectangle with little padding, and einsum instead of sums over
    # stretches.
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    end = len(order)
    while end > 0:
        longest = int(lengths[order[end - 1]])
        begin = max(end - max(_GATHERED // longest, 1), 0)
        rows = order[begin:end]
        real = np.arange(longest) < lengths[rows, None]
        place = np.where(real, starts[rows, None] + np.arange(longest), 0)
        extra = np.where(real, confidence * strength[place], 0).astype(np.float32)
        x = result[rows] if first is None else first[rows]
        result[rows] = _gradients(gram, factors[column[place]], extra, extra + real, x, steps)
        end = begin
    return result


def _gradients(
    gram: np.ndarray, y: np.ndarray, extra: np.ndarray, wanted: np.ndarray, x: np.ndarray, steps: int
) -> np.ndarray:
    """Conjugate gradients on (gram + Σ extra · y yᵀ) x = Σ wanted · y for n rows at once.

    ``y`` is (n, L, D), ``extra`` and ``wanted`` (n, L), 0 in the padding. No (D, D) matrix is made for any
    row: thousands of small products and solves are what threaded BLAS does worst.
    """

    def product(v: np.ndarray) -> np.ndarray:
        return v @ gram + np.einsum("nld,nl->nd", y, extra * np.einsum("nld,nd->nl", y, v))

    residual = np.einsum("nld,nl->nd", y, wanted.astype(np.float32)) - product(x)
    direction, square = residual, np.einsum("nd,nd->n", residual, residual)
    for _ in range(steps):
        ahead = product(direction)
        length = square / np.maximum(np.einsum("nd,nd->n", direction, ahead), _TINY)
        x = x + length[:, None] * direction
        residual = residual - length[:, None] * ahead
        before, square = square, np.einsum("nd,nd->n", residual, residual)
        direction = residual + (square / np.maximum(before, _TINY))[:, None] * direction
    return x


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
    rows = np.flatnonzero(histories.part == 0)
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
