r"""Neighbours: what those do now whose interests are like the user's.

$$ n_i(t) = \sum_{v \in N(u, t)} \max\bigl(\cos(q_u(t), q_v(t)), 0\bigr)
   \sum_{j:\, i_j = i,\, t_j < t} 2^{-(t - t_j)/h}, \qquad
   q_u(t) = \sum_{j:\, t_j < t} \varphi(t - t_j)\, x_{i_j} $$

with $x_i$ the item vectors of length 1, $\varphi$ a kernel of exponentials, the same for everybody so that
interests can be compared, and $N(u, t)$ the n users with the largest cosine at that very time, $u$ not among
them. The inner sum runs over the neighbour's own events.

On plain arrays, NumPy and SciPy: a neighbourhood is a sparse matrix, which thousands of users at one moment
share. Events lie by user: those of user $u$ are ``starts[u] : starts[u + 1]``. Everybody's interests at one
moment are sums over the events (`interests`); at many, states that each event is added to once, and that fade
until they are read (`interests_in_time`, as in `jaxdecay.state_numpy`).

References:
    Resnick, Iacovou, Suchak, Bergstrom, Riedl: GroupLens: an open architecture for collaborative filtering
    of netnews, CSCW 1994.
    Ding, Li: Time weight collaborative filtering, CIKM 2005.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

_TINY = 1e-30
_CELLS = 2**23
_DAY = 86_400.0


class Kernel(NamedTuple):
    """A sum of exponentials."""

    rates: np.ndarray
    """(M,) per day; 0 never fades."""
    weights: np.ndarray
    """(M,)"""

    def left(self, age: np.ndarray) -> np.ndarray:
        """(n,) float32 what is left after so many days."""
        return self.weights.astype(np.float32) @ self.faded(age)

    def faded(self, age: np.ndarray) -> np.ndarray:
        """(M, n) float32 what is left of each exponential after so many days."""
        return np.exp(-self.rates[:, None].astype(np.float32) * age[None].astype(np.float32))


def half_life_kernel(half_life: float) -> Kernel:
    """One exponential; ``half_life`` in days, inf never fades."""
    return Kernel(np.array([np.log(2) / half_life]), np.ones(1))


def interests(starts: np.ndarray, item: np.ndarray, left: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(n, D) unit interests of n users: the sum of the vectors (V, D) of their items by what is ``left`` (E,)
    of each event; 0 for one of whom nothing is left."""
    return _unit(_table(starts, item, left, len(vectors)) @ vectors)


def interests_in_time(
    starts: np.ndarray,
    item: np.ndarray,
    time: np.ndarray,
    kernel: Kernel,
    vectors: np.ndarray,
    moments: np.ndarray,
) -> Iterator[np.ndarray]:
    """Yields the unit interests (n, D) of n users at each moment, of their events strictly before it.

    One pass over the events, and n M D multiplications a moment; n M D float32 are kept. ``time`` (E,), of
    each user ascending, and ``moments`` (m,), ascending: int64 seconds on one clock.
    """
    user = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.argsort(time, kind="stable")
    bound = np.append(0, np.searchsorted(time[order], moments))
    state = np.zeros((len(starts) - 1, len(kernel.rates), vectors.shape[1]), np.float32)
    latest = np.full(len(state), time.min(initial=np.iinfo(np.int64).max))
    for begin, end, moment in zip(bound[:-1], bound[1:], moments, strict=True):
        new = np.sort(order[begin:end])
        if len(new):
            who, first = np.unique(user[new], return_index=True)
            own = np.append(first, len(new))
            last = time[new[own[1:] - 1]]
            left = kernel.faded((np.repeat(last, np.diff(own)) - time[new]) / _DAY)
            since = kernel.faded((last - latest[who]) / _DAY)
            for mode, one in enumerate(left):
                added = _table(own, item[new], one, len(vectors)) @ vectors
                state[who, mode] = state[who, mode] * since[mode, :, None] + added
            latest[who] = last
        # Before a user's first event the state is 0, and so is what is read of it.
        since = kernel.faded(np.maximum(moment - latest, 0) / _DAY)
        read = kernel.weights.astype(np.float32) * since.T
        yield _unit(np.matmul(read[:, None], state)[:, 0])


def _unit(found: np.ndarray) -> np.ndarray:
    """(n, D) of length 1; 0 stays 0."""
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.divide(found, length, out=np.zeros_like(found), where=length > _TINY)


def nearest(own: np.ndarray, others: np.ndarray, user: np.ndarray, neighbours: int) -> sparse.csr_array:
    """(R, U) sparse: the cosines, where above 0, of the nearest users to each of R interests.

    ``own`` (R, D) and ``others`` (U, D) are unit interests at one moment; ``user`` (R,) is who asks, -1 for
    one who is not among the others.
    """
    users, size = len(others), min(neighbours, len(others))
    step = max(1, _CELLS // max(users, 1))
    blocks = []
    for begin in range(0, len(own), step):
        asker = user[begin : begin + step]
        cosine = own[begin : begin + step] @ others.T
        known = np.flatnonzero(asker >= 0)
        cosine[known, asker[known]] = -np.inf
        best = np.argpartition(-cosine, size - 1, axis=1)[:, :size]
        found = np.maximum(np.take_along_axis(cosine, best, axis=1), 0.0)
        place = np.arange(0, best.size + 1, size)
        blocks.append(sparse.csr_array((found.ravel(), best.ravel(), place), shape=(len(asker), users)))
    return sparse.csr_array(sparse.vstack(blocks)) if blocks else sparse.csr_array((0, users))


def counts(
    near: sparse.csr_array, starts: np.ndarray, item: np.ndarray, left: np.ndarray, items: int
) -> np.ndarray:
    """(R, V) float32 what neighbours do: their faded counts of each item, by how near they are."""
    return (near @ _table(starts, item, left, items)).toarray().astype(np.float32, copy=False)


def _table(starts: np.ndarray, item: np.ndarray, left: np.ndarray, items: int) -> sparse.csr_array:
    """(users, V): the sum of what is left of each user's events with each item."""
    return sparse.csr_array((left, item, starts), shape=(len(starts) - 1, items))
