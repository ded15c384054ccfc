"""What diversity costs: how good and how diverse lists for held-out requests are at several trade-offs."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from jaxdecay import groups, lists
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.evaluate import chunks, rules
from jaxdecay.metrics import ndcg
from jaxdecay.pools import candidates
from jaxdecay.predict import Predictor
from jaxdecay.rerank import rerank
from jaxdecay.steering import POOL, Diversity, Steering

TRADE_OFFS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)


def diversity_tradeoff(
    predictor: Predictor,
    requests: Requests,
    trade_offs: Sequence[float] = TRADE_OFFS,
    *,
    k: int = 10,
    diversity: Diversity = "mmr",
    pool: int = POOL,
) -> pl.DataFrame:
    """A row for each trade-off: trade_off, ndcg (of the targets by their places in the list of k), distance
    (`jaxdecay.lists.distance` of the learned item vectors), both means over the requests.

    ``predictor``: over the histories that the requests are of (`jaxdecay.assembly.load_predictor`).
    Candidates are those of its evaluation (`jaxdecay.evaluate.rules`). ``diversity`` and ``pool`` as in
    `Steering`. Raises InputError for what that refuses, a k below 2, and no requests.
    """
    Steering(trade_off=0.0, diversity=diversity, pool=pool)  # refused beside relevance alone
    for value in trade_offs:
        Steering(trade_off=value)
    if k < 2 or not len(requests):
        raise InputError(
            f"k={k} and {len(requests)} requests: a trade-off needs lists of 2 items or more, and requests"
        )
    applied, vectors = rules(predictor.histories), predictor.unit_vectors()
    good, far = (np.empty((len(trade_offs), len(requests))) for _ in range(2))
    for chunk in chunks(predictor.histories, requests):
        asked = requests.take(chunk)
        found, best, _ = candidates(predictor.scores(asked), applied.excluded(asked), max(pool, k), k, None)
        for row, value in enumerate(trade_offs):
            places = rerank(found, best, vectors, k, trade_off=value, diversity=diversity)
            items = np.where(places < 0, -1, np.take_along_axis(found, places, axis=1))
            good[row, chunk] = _ndcg(items, asked)
            far[row, chunk] = lists.distance(items, vectors)
    return pl.DataFrame(
        {
            "trade_off": np.asarray(trade_offs, np.float64),
            "ndcg": good.mean(axis=1),
            "distance": np.nanmean(far, axis=1),
        }
    )


def _ndcg(items: np.ndarray, requests: Requests) -> np.ndarray:
    """(R,) of the targets, by their places in the lists."""
    row = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    hit = items[row] == requests.targets[:, None]
    rank = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1.0, np.inf)
    ranks = groups.padded(rank, requests.target_offsets, np.inf)
    where = groups.padded(np.ones(len(rank), bool), requests.target_offsets, False)
    return np.asarray(ndcg(ranks, k=items.shape[1], where=where))
