r"""Metrics of single requests, on NumPy and JAX arrays alike.

The rank metrics share one signature, ``f(ranks, *, k, where=None)``. The last axis of ``ranks`` runs over
the targets of one request; every other axis is kept, so that (R, T) ranks give (R,) values. A rank counts
from 1, may be fractional (ties at their mean rank) and is inf for a miss; a hit at k is a rank of at most
k. ``where`` (bool, same shape) marks the real targets; a request without any has no value: NaN. Below, n is
the number of targets and r their ranks.

The pair metrics, ``f(scores, labels, *, where=None)``, judge labelled pairs of user and item. Their last
axis runs over pairs; ``where`` is a mask or non-negative weights and may have further axes in front (one
value for each).

    >>> import numpy as np
    >>> ndcg(np.array([[1.0], [3.0], [np.inf]]), k=10)
    array([1. , 0.5, 0. ])
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Real

Array = jax.Array | np.ndarray
Ranks = Real[Array, "*batch targets"]
Targets = Bool[Array, "*batch targets"]
Values = Real[Array, "*batch"]


def hit_rate(ranks: Ranks, *, k: int, where: Targets | None = None) -> Values:
    r"""Whether any target is among the first k.

    $$ \operatorname{HR}@k = \max_j \mathbf{1}[r_j \le k] $$
    """
    xp, where, n = _prepare(ranks, where)
    return _defined(xp, xp.any((ranks <= k) & where, axis=-1) * 1.0, n)


def recall(ranks: Ranks, *, k: int, where: Targets | None = None) -> Values:
    r"""Share of the targets that are among the first k.

    $$ \operatorname{Recall}@k = \frac{1}{n} \sum_j \mathbf{1}[r_j \le k] $$
    """
    xp, where, n = _prepare(ranks, where)
    return _defined(xp, _hits(xp, ranks, k, where) / xp.maximum(n, 1), n)


def precision(ranks: Ranks, *, k: int, where: Targets | None = None) -> Values:
    r"""Share of the first k that are targets.

    $$ \operatorname{Precision}@k = \frac{1}{k} \sum_j \mathbf{1}[r_j \le k] $$
    """
    xp, where, n = _prepare(ranks, where)
    return _defined(xp, _hits(xp, ranks, k, where) / k, n)


def f1(ranks: Ranks, *, k: int, where: Targets | None = None) -> Values:
    r"""Harmonic mean of precision and recall, 0 when there is no hit.

    $$ \operatorname{F1}@k = \frac{2 \sum_j \mathbf{1}[r_j \le k]}{k + n} $$
    """
    xp, where, n = _prepare(ranks, where)
    return _defined(xp, 2 * _hits(xp, ranks, k, where) / (k + n), n)


def mrr(ranks: Ranks, *, k: int, where: Targets | None = None) -> Values:
    r"""Reciprocal rank of the best target, 0 beyond k.

    $$ \operatorname{MRR}@k = \max_j \frac{\mathbf{1}[r_j \le k]}{r_j} $$
    """
    xp, where, n = _prepare(ranks, where)
    reciprocal = xp.where((ranks <= k) & where, 1 / ranks, 0.0)
    return _defined(xp, xp.max(reciprocal, axis=-1, initial=0.0), n)


def average_precision(ranks: Ranks, *, k: int, where: Targets | None = None) -> Values:
    r"""Precision at each target that is found, averaged over those that could be; its mean over requests is
    MAP.

    $$ \operatorname{AP}@k = \frac{1}{\min(n, k)} \sum_j \mathbf{1}[r_j \le k]\, \frac{j}{r_j}
       \qquad (r_1 \le r_2 \le \dots) $$
    """
    xp, where, n = _prepare(ranks, where)
    ordered = xp.sort(xp.where(where, ranks, xp.inf), axis=-1)
    found = xp.arange(1, ranks.shape[-1] + 1).reshape((1,) * (ranks.ndim - 1) + (-1,))
    terms = xp.where(ordered <= k, found / ordered, 0.0)
    return _defined(xp, xp.sum(terms, axis=-1) / xp.maximum(xp.minimum(n, k), 1), n)


def ndcg(
    ranks: Ranks,
    *,
    k: int,
    where: Targets | None = None,
    gain: Real[Array, "*batch targets"] | None = None,
) -> Values:
    r"""Discounted gain of the targets found, over that of the best possible list.

    $$ \operatorname{NDCG}@k = \frac{\sum_j \mathbf{1}[r_j \le k]\, g_j / \log_2(1 + r_j)}
       {\sum_{i=1}^{\min(n, k)} g_{(i)} / \log_2(1 + i)} \qquad (g_{(1)} \ge g_{(2)} \ge \dots) $$

    With a single target this is 1 / log2(1 + r). ``gain`` (non-negative, default 1) says how much each
    target is worth; a request whose targets are worth nothing has no value.

    References:
        Järvelin, Kekäläinen: Cumulated gain-based evaluation of IR techniques, TOIS 2002.
    """
    xp, where, n = _prepare(ranks, where)
    gains = xp.where(where, 1.0 if gain is None else gain, 0.0)
    found = xp.where((ranks <= k) & where, gains / xp.log2(1 + ranks), 0.0)
    best = -xp.sort(-gains, axis=-1)[..., :k]
    place = xp.arange(1, best.shape[-1] + 1).reshape((1,) * (ranks.ndim - 1) + (-1,))
    ideal = xp.sum(best / xp.log2(1.0 + place), axis=-1)
    positive = ideal > 0
    return _defined(xp, xp.sum(found, axis=-1) / xp.where(positive, ideal, 1.0), n * positive)


RANK_METRICS: dict[str, Callable[..., Any]] = {
    "ndcg": ndcg,
    "hr": hit_rate,
    "recall": recall,
    "precision": precision,
    "f1": f1,
    "mrr": mrr,
    "map": average_precision,
}
"""The rank metrics by the name a table gives them, ``name@k``."""


def inverse_propensity(counts: Real[Array, "*shape"], *, power: float = 0.5) -> Real[Array, "*shape"]:
    r"""What a target with so many training events is worth when popularity is taken out of the log.

    $$ w_i = (1 + n_i)^{-p} $$

    A log shows popular items more often than they are liked. If item i is observed with a propensity
    proportional to (1 + n_i)^p, weighting by its inverse and dividing by the sum of weights
    (self-normalisation, which keeps the variance bounded and makes the unknown factor cancel) estimates the
    metric over what is liked.

    References:
        Yang, Cui, Xuan, Wang, Belongie, Estrin: Unbiased offline recommender evaluation for
        missing-not-at-random implicit feedback, RecSys 2018 (propensities as a power of observed
        popularity).
        Swaminathan, Joachims: The self-normalized estimator for counterfactual learning, NeurIPS 2015.
    """
    return (1.0 + counts) ** -power


def auc(scores: Real[Array, " pairs"], labels: Real[Array, " pairs"], *, where: Any = None) -> Values:
    r"""Chance that a positive pair scores above a negative one, ties counting half; NaN without both kinds.

    $$ \operatorname{AUC} = \frac{\sum_{i: y_i = 1} \sum_{j: y_j = 0}
       w_i w_j (\mathbf{1}[s_i > s_j] + \tfrac{1}{2} \mathbf{1}[s_i = s_j])}
       {\sum_{i: y_i = 1} w_i \sum_{j: y_j = 0} w_j} $$

    The weights w are ``where``; O(n log n) once, then O(n) for each of its leading axes.

    References:
        Mann, Whitney: On a test of whether one of two random variables is stochastically larger, 1947.
    """
    xp = scores.__array_namespace__()
    order = xp.argsort(scores)
    ordered, positive = scores[order], labels[order] > 0
    weight = xp.ones(scores.shape) if where is None else where[..., order] * 1.0
    negatives = xp.cumsum(weight * ~positive, axis=-1)
    below = xp.concat([xp.zeros_like(negatives[..., :1]), negatives], axis=-1)
    first = xp.searchsorted(ordered, ordered, side="left")
    last = xp.searchsorted(ordered, ordered, side="right")
    wins = xp.sum(weight * positive * (below[..., first] + below[..., last]) / 2, axis=-1)
    pairs = xp.sum(weight * positive, axis=-1) * xp.sum(weight * ~positive, axis=-1)
    return _defined(xp, wins / xp.where(pairs > 0, pairs, 1.0), pairs)


def accuracy(scores: Real[Array, " pairs"], labels: Real[Array, " pairs"], *, where: Any = None) -> Values:
    r"""Share of pairs on the right side of even odds; scores are logits.

    $$ \frac{\sum_i w_i \mathbf{1}[(s_i > 0) = (y_i = 1)]}{\sum_i w_i} $$
    """
    return _weighted_mean(((scores > 0) == (labels > 0)) * 1.0, where)


def log_loss(scores: Real[Array, " pairs"], labels: Real[Array, " pairs"], *, where: Any = None) -> Values:
    r"""Mean negative log likelihood (nats) of the labels; scores are logits.

    $$ \frac{\sum_i w_i \left(\log(1 + e^{s_i}) - y_i s_i\right)}{\sum_i w_i} $$
    """
    xp = scores.__array_namespace__()
    return _weighted_mean(xp.logaddexp(xp.zeros_like(scores), scores) - (labels > 0) * scores, where)


def _prepare(ranks: Array, where: Array | None) -> tuple[Any, Any, Any]:
    """The array module, the mask and (…,) the number of targets."""
    xp: Any = ranks.__array_namespace__()
    where = xp.ones(ranks.shape, bool) if where is None else where
    return xp, where, xp.sum(where, axis=-1)


def _hits(xp: Any, ranks: Array, k: int, where: Array) -> Any:
    return xp.sum((ranks <= k) & where, axis=-1) * 1.0


def _defined(xp: Any, value: Any, weight: Any) -> Array:
    """NaN where the weight is 0."""
    return xp.where(weight > 0, value, xp.nan)


def _weighted_mean(values: Array, where: Array | None) -> Array:
    xp: Any = values.__array_namespace__()
    weight = xp.ones(values.shape) if where is None else where * 1.0
    total = xp.sum(weight, axis=-1)
    return _defined(xp, xp.sum(weight * values, axis=-1) / xp.where(total > 0, total, 1.0), total)
