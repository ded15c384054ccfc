"""Intervals from a bootstrap over users, and paired differences between systems.

NumPy only. Users are drawn, not requests: the requests of one user are not independent. Every user is drawn
a Poisson(1) number of times, which makes the replicates one matrix product with sums that each user has
contributed; nothing runs over replicates times requests. The same seed gives the same draws, so that the
replicates of two systems over the same users are paired, and their difference is the replicate of the
difference.

References:
    Efron: Bootstrap methods: another look at the jackknife, Annals of Statistics 1979. Chamandy,
    Muralidharan, Najmi, Naidu: Estimating uncertainty for massive data streams, 2012 (Poisson weights).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, factorial
from typing import NamedTuple

import numpy as np

_BLOCK = 4096


class UserSums(NamedTuple):
    """What each user contributes to M weighted means."""

    total: np.ndarray
    """(U, M) sum of weight times value."""
    weight: np.ndarray
    """(U, M) sum of weights."""

    def means(self) -> np.ndarray:
        """(M,) the weighted means; NaN where nobody has a value."""
        return _divide(self.total.sum(axis=0), self.weight.sum(axis=0))


@dataclass(frozen=True, eq=False)
class ByUser:
    """Requests gathered by user."""

    place: np.ndarray
    """(R,) which user, 0 to U-1, each request is of."""
    order: np.ndarray
    """(R,) requests, one user after the other."""
    starts: np.ndarray
    """(U,) where each user begins in ``order``."""

    @property
    def users(self) -> int:
        return len(self.starts)

    def sums(self, values: np.ndarray, weight: np.ndarray | None = None) -> UserSums:
        """Sums over the requests of each user.

        Args:
            values: (R, M), NaN where a request has no value. weight: (R, M) non-negative (default 1).
        """
        present = ~np.isnan(values)
        weight = np.where(present, 1.0 if weight is None else weight, 0.0)
        filled = np.where(present, values, 0.0) * weight
        if not self.users:
            return UserSums(filled, weight)
        return UserSums(
            np.add.reduceat(filled[self.order], self.starts),
            np.add.reduceat(weight[self.order], self.starts),
        )


def by_user(user: np.ndarray) -> ByUser:
    """Gathers requests by their (R,) user indices; users come out in ascending order."""
    names, place = np.unique(user, return_inverse=True)
    order = np.argsort(place, kind="stable")
    return ByUser(place, order, np.searchsorted(place[order], np.arange(len(names))))


def draws(users: int, *, replicates: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """How often each user is drawn: blocks of users with their (B, block) uint8 Poisson(1) numbers.

    Probabilities are rounded to 2^-16, which moves their mean and variance by less than 1e-4.
    """
    table = _poisson_table()
    for begin in range(0, users, _BLOCK):
        size = min(_BLOCK, users - begin)
        random = np.random.default_rng([seed, begin])
        yield (
            slice(begin, begin + size),
            table[random.integers(0, 2**16, (replicates, size), dtype=np.uint16)],
        )


def replicate(sums: UserSums, *, replicates: int = 1000, seed: int = 0) -> np.ndarray:
    """(B, M) the weighted means of B draws of users; NaN where a draw holds nobody with a value."""
    users, columns = sums.total.shape
    both = np.concatenate([sums.total, sums.weight], axis=1).astype(np.float32)
    result = np.zeros((replicates, 2 * columns))
    for block, drawn in draws(users, replicates=replicates, seed=seed):
        result += drawn.astype(np.float32) @ both[block]
    return _divide(result[:, :columns], result[:, columns:])


def interval(replicates: np.ndarray, *, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """(M,) lower and (M,) upper percentile of (B, M) replicates, those that are NaN left out."""
    ordered = np.sort(replicates, axis=0)  # NaN last
    count = np.sum(~np.isnan(ordered), axis=0)
    return _quantile(ordered, count, (1 - level) / 2), _quantile(ordered, count, (1 + level) / 2)


def _poisson_table() -> np.ndarray:
    """(65536,) uint8 quantile function of Poisson(1)."""
    cumulative = np.cumsum([exp(-1) / factorial(n) for n in range(12)])
    return np.searchsorted(cumulative, (np.arange(2**16) + 0.5) / 2**16).astype(np.uint8)


def _divide(total: np.ndarray, weight: np.ndarray) -> np.ndarray:
    positive = weight > 0
    return np.where(positive, total / np.where(positive, weight, 1.0), np.nan)


def _quantile(ordered: np.ndarray, count: np.ndarray, q: float) -> np.ndarray:
    """Linear interpolation between the two nearest of the first ``count`` rows of each column."""
    place = np.maximum(count - 1, 0) * q
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    columns = np.arange(ordered.shape[1])
    return ordered[below, columns] * (1 - place + below) + ordered[above, columns] * (place - below)
