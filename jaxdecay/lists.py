r"""What recommended lists are like beyond hits: novelty, diversity, coverage, concentration.

NumPy only. Lists are (R, k) item indices, best first, -1 for a slot left empty.
"""

import numpy as np
from numpy.typing import ArrayLike


def novelty(items: np.ndarray, counts: np.ndarray) -> np.ndarray:
    r"""(R,) mean surprise in bits of the items listed, by their share of training events; NaN for an empty
    list.

    $$ \frac{1}{k} \sum_{i \in L} -\log_2 \frac{1 + n_i}{V + \sum_j n_j} $$

    References:
        Zhou, Kuscsik, Liu, Medo, Wakeling, Zhang: Solving the apparent diversity-accuracy dilemma, PNAS 2010.

    Args:
        counts: (V,) training events of each item.
    """
    surprise = -np.log2((1.0 + counts) / (len(counts) + counts.sum()))
    listed = items >= 0
    total = np.where(listed, surprise[items], 0.0).sum(axis=1)
    return _ratio(total, listed.sum(axis=1))


def diversity(items: np.ndarray, categories: np.ndarray) -> np.ndarray:
    r"""(R,) one minus the mean cosine between the items of a list; NaN where fewer than two have a category.

    $$ 1 - \frac{2}{k (k - 1)} \sum_{i < j \in L} \frac{\#\{c : x_{ic} = x_{jc} \ne 0\}}{\sqrt{f_i f_j}} $$

    The vector of an item is the one-hot code of its categories; f is how many it has.

    References:
        Ziegler, McNee, Konstan, Lausen: Improving recommendation lists through topic diversification, WWW
        2005.

    Args:
        categories: (V, F) int codes, 0 for missing.
    """
    filled = (categories > 0).sum(axis=1)
    listed = (items >= 0) & (filled[items] > 0)
    codes = np.where(listed[..., None], categories[items], 0)
    norm = np.sqrt(np.maximum(filled[items], 1))
    total, pairs = np.zeros(len(items)), np.zeros(len(items), np.int64)
    for step in range(1, items.shape[1]):
        left, right = codes[:, :-step], codes[:, step:]
        shared = ((left == right) & (left > 0)).sum(axis=2)
        total += (shared / (norm[:, :-step] * norm[:, step:])).sum(axis=1)
        pairs += (listed[:, :-step] & listed[:, step:]).sum(axis=1)
    return 1 - _ratio(total, pairs)


def distance(items: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    r"""(R,) mean over pairs of one minus their cosine; NaN for lists of fewer than two items.

    $$ \frac{2}{k (k - 1)} \sum_{i < j \in L} (1 - \langle x_i, x_j \rangle) $$

    References:
        Ziegler, McNee, Konstan, Lausen (see `diversity`).

    Args:
        vectors: (V, D) of length 1, or 0 for an item like no other.
    """
    listed = items >= 0
    found = np.where(listed[..., None], vectors[items], 0.0).astype(np.float64)
    # Of the square of the sum, what is left without each item's own is twice that of all pairs.
    both = np.square(found.sum(axis=1)).sum(axis=1) - np.square(found).sum(axis=(1, 2))
    number = listed.sum(axis=1)
    return 1 - _ratio(both, number * (number - 1))


def exposures(items: np.ndarray, group: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(G, V) how often each item is listed in the requests of each group; ``group`` is (R,), ``shape`` (G,
    V).
    """
    listed = items >= 0
    key = (group[:, None].astype(np.int64) * shape[1] + items)[listed]
    return np.bincount(key, minlength=shape[0] * shape[1]).reshape(shape)


def coverage(exposures: np.ndarray, *, items: int | None = None) -> np.ndarray:
    r"""Share of items that are listed at all: (..., V) exposures of the candidates to (...) values.

    ``items``: how many candidates there are, where some that are not listed have been left out.
    """
    return np.asarray(np.sum(exposures > 0, axis=-1) / (items or exposures.shape[-1]))


def gini(exposures: np.ndarray, *, items: int | None = None) -> np.ndarray:
    r"""How unequally items are listed: 0 when all alike, towards 1 when only one; (..., V) to (...).

    $$ \frac{\sum_{i=1}^{V} (2 i - V - 1)\, x_{(i)}}{V \sum_i x_i} \qquad (x_{(1)} \le x_{(2)} \le \dots) $$

    ``items``: V, where some items that are not listed have been left out.
    """
    ordered = np.sort(exposures, axis=-1)
    size = items or ordered.shape[-1]
    weight = (2.0 * np.arange(1, size + 1) - size - 1)[size - ordered.shape[-1] :]
    return _ratio(ordered @ weight, size * ordered.sum(axis=-1))


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """NaN where the denominator is 0."""
    numerator, denominator = np.asarray(numerator), np.asarray(denominator)
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)
