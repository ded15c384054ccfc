r"""The k best of very many items, found in a graph of neighbours (HNSW, through usearch) without scoring all.

An item's score but for what comes back is an inner product: of the query and 1 with its vector and its prior
(bias and popularity). The graph is of distances, between which and inner products one more number

$$ \lVert (q, 1, 0) - (t, p, r) \rVert^2 = \lVert q \rVert^2 + 1 + M^2 - 2\, (\langle q, t \rangle + p),
\qquad r = \sqrt{M^2 - \lVert t \rVert^2 - p^2} $$

makes no difference: M is the length of the longest (t, p). (A graph of inner products found half of the
best.) Priors in the graph are those of the moment it was made; whatever has become more popular since is a
candidate of every list. Candidates are scored exactly. The sum over all items is that over candidates and,
for the rest, an estimate from items drawn at random, the popular ones more often.

References:
    Bachrach et al., Speeding up the Xbox recommender system using a Euclidean transformation for
    inner-product spaces, RecSys 2014.
    Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using hierarchical navigable
    small world graphs, 2016, https://arxiv.org/abs/1603.09320.
"""

from typing import Any

import numpy as np

from jaxdecay.errors import InputError
from jaxdecay.live.live import Live, Reading
from jaxdecay.live.topk import Exact, among, ordered

_FOUND, _FEWEST = 512, 500  # candidates that are looked for at least, and of how many items one
_DRAWN = 8192
_RISEN = 0.05  # by how much a prior may grow before its item is a candidate of every list


class Indexed:
    """Lists out of the neighbours of a query, as `jaxdecay.live.topk.Exact` gives them but for what the graph
    misses and for the error of the sum (`jaxdecay.live.lists.agreement` measures both).

    What may not be listed is not: where too few are found that may, more are looked for, and at last all are
    scored.
    """

    def __init__(self, live: Live, *, seed: int = 0) -> None:
        """Takes about three minutes for a million items on two cores. Raises InputError without usearch."""
        self.live, self._exact = live, Exact(live)
        targets, prior = live.weights.targets, live.prior(live.trends.latest + 1)
        self._prior = prior
        self._risen: tuple[np.ndarray, np.ndarray] = prior, np.zeros(0, np.int64)  # since, by then
        self._index = _index(targets, prior - prior.mean())
        likely = np.exp((prior - prior.max()).astype(np.float64))
        likely = 0.5 * likely / likely.sum() + 0.5 / len(prior)
        drawn = np.random.default_rng(seed).choice(len(prior), _DRAWN, p=likely / likely.sum())
        self._drawn, self._vectors = drawn, targets[drawn]
        self._log_chance = np.log(_DRAWN * likely[drawn])

    def best(self, reading: Reading, k: int, excluded: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """As `jaxdecay.live.lists.Lists.best`."""
        near = self._near(reading.query, k, excluded)
        if near is None:
            return self._exact.best(reading, k, excluded)
        prior = self.live.prior(reading.moment)
        items = np.unique(np.concatenate([near, reading.items, self._newly(prior)]))
        scores = np.vecdot(self.live.weights.targets[items], reading.query) + prior[items]
        scores -= np.float32(self._log_of_sum(items, scores, reading, prior))
        places, mine = among(items, reading.items)
        scores[places] = np.logaddexp(scores[places], reading.excited[mine])
        if excluded is not None:
            allowed = ~excluded[items]
            items, scores = items[allowed], scores[allowed]
        return ordered(items, scores, k)

    @property
    def bytes(self) -> int:
        """What the graph holds in memory, beside the vectors."""
        return int(self._index.memory_usage)

    def _near(self, query: np.ndarray, k: int, excluded: np.ndarray | None) -> np.ndarray | None:
        """Items near the query, of which four times k may be listed; None where it is better to score all."""
        there = len(self._prior)
        wanted = max(_FOUND, there // _FEWEST, 8 * k)
        point = np.concatenate([query, np.ones(1, np.float32), np.zeros(1, np.float32)])
        while 4 * wanted <= there:
            found = np.asarray(self._index.search(point, wanted, threads=1).keys).astype(np.int64)
            if excluded is None or np.count_nonzero(~excluded[found]) >= 4 * k:
                return found
            wanted *= 4
        return None

    def _newly(self, prior: np.ndarray) -> np.ndarray:
        """Items that have become more popular since the graph was made."""
        known = self._risen
        if known[0] is not prior:
            known = self._risen = prior, np.flatnonzero(prior > self._prior + np.float32(_RISEN))
        return known[1]

    def _log_of_sum(
        self, items: np.ndarray, scores: np.ndarray, reading: Reading, prior: np.ndarray
    ) -> float:
        """As `Live.log_of_sum`, of the candidates' scores (n,) and an estimate of the others'."""
        listed = np.zeros(len(prior), bool)
        listed[items] = True
        others = ~listed[self._drawn]
        rest = np.vecdot(self._vectors, reading.query) + prior[self._drawn] - self._log_chance
        parts = np.concatenate([scores, rest[others]])
        if self.live.weights.entering:
            these = np.concatenate([items, self._drawn[others]])
            known = self.live.trends.came[these] < reading.moment
            parts = parts[known] if known.any() else parts
        most = parts.max()
        return float(most + np.log(np.exp(parts - most).sum(dtype=np.float64)))


def _index(targets: np.ndarray, prior: np.ndarray) -> Any:
    """The graph of the points (t, p, r)."""
    try:
        from usearch.index import Index
    except ImportError:
        raise InputError(
            "the table 'usearch' needs usearch, which is missing: pip install 'jaxdecay[search]'"
        ) from None
    points = np.concatenate([targets, prior[:, None]], axis=1)
    squares = np.square(points, dtype=np.float64).sum(axis=1)
    points = np.concatenate([points, np.sqrt(squares.max() - squares)[:, None]], axis=1, dtype=np.float32)
    index = Index(ndim=points.shape[1], metric="l2sq", dtype="f16", expansion_add=64, expansion_search=_FOUND)
    index.add(np.arange(len(points)), points)
    return index
