r"""A user's own items first: by recency, by count, or by decayed count; popularity breaks ties and fills
the list.

NumPy only. The decayed count of item i at time t is

$$ \sum_{j:\, i_j = i} 2^{-(t - t_j) / h} $$

over the user's visible events. Half-life h → 0 orders by recency alone, h → ∞ by plain counts.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxdecay import rank
from jaxdecay.baselines.choose import HALF_LIVES, Judge
from jaxdecay.baselines.popularity import Popularity
from jaxdecay.data.catalogue import DAY
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests


@dataclass(frozen=True, eq=False)
class OwnCounts:
    """Own items by decayed count, then by popularity; then all other items by popularity."""

    name: str
    histories: Histories
    half_life: float
    """Days; 0 orders by recency (later row first), inf by plain counts."""
    backing: Popularity
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def uses_time(self) -> bool:
        """Own counts faded at one pace keep their order; only popularity moves with the request time."""
        return self.backing.uses_time

    def scores(self, requests: Requests) -> np.ndarray:
        """(R, V) float32: own items 1, 2, … from the lowest (equal ones alike), others below 1 by
        popularity.
        """
        popular = self.backing.counts(requests.at)
        own = visible(self.histories, requests)
        return layered(own, log_counts(own, self.histories.time, self.half_life), popular)


def visible(histories: Histories, requests: Requests) -> rank.OwnItems:
    """The different items that each request sees chosen (`Histories.chosen`) in its user's history."""
    place = np.flatnonzero(histories.chosen)
    before = np.searchsorted(place, np.append(histories.offsets[requests.user], requests.history_end))
    begin, end = np.split(before, 2)
    own = rank.own_items(begin, end, histories.item[place], histories.items)
    return own._replace(last=place[own.last], event=place[own.event])


def log_counts(own: rank.OwnItems, time: np.ndarray, half_life: float) -> np.ndarray:
    """(P,) log2 of the decayed count of each own item at one common time of its request (the newest event's).

    In logarithms nothing underflows, however old an event. A half-life of 0 gives the row of the newest
    event.
    """
    if half_life == 0:
        return own.last.astype(np.float64)
    rate = 1 / (half_life * DAY)
    newest = time[own.last]
    age = newest[own.pair] - time[own.event]
    count = np.bincount(own.pair, np.exp2(-rate * age), len(own.last))
    latest = np.full(int(own.row.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    np.maximum.at(latest, own.row, newest)
    return np.log2(count) - rate * (latest[own.row] - newest)


def layered(own: rank.OwnItems, key: np.ndarray, popular: np.ndarray) -> np.ndarray:
    """(R, V) float32 scores that put own items first, by ``key`` and then by popularity, and the rest by
    popularity.

    Weights cannot do that: a small multiple of popularity vanishes beside a large count in float32, and
    beside a small one it dominates. So own items get their rank, counted from the lowest, equal pairs
    alike.
    """
    scores = popular / (2 * np.maximum(popular.max(axis=1, keepdims=True), np.finfo(np.float32).tiny))
    tie = popular[own.row, own.item]
    order = np.lexsort((tie, key, own.row))
    row, key, tie = own.row[order], key[order], tie[order]
    first = np.append(True, row[1:] != row[:-1])[: len(row)]
    rises = first | np.append(True, (key[1:] != key[:-1]) | (tie[1:] != tie[:-1]))[: len(row)]
    level = np.cumsum(rises)
    start = level[first][np.cumsum(first) - 1] if len(row) else level
    scores[row, own.item[order]] = level - start + 1
    return scores


def own_counts(histories: Histories, half_life: float, backing: Popularity, *, name: str) -> OwnCounts:
    """Own counts of a given half-life (days) over a given popularity."""
    settings = {"half_life_days": half_life, "popularity_half_life_days": backing.half_life}
    return OwnCounts(name, histories, half_life, backing, settings)


def fit_decayed_own_counts(judge: Judge, backing: Popularity) -> OwnCounts:
    """Decayed own counts, the half-life chosen by validation, over a popularity that has been chosen already.

    Where the history is removed from the ranking all half-lives are the same, and none is chosen: inf.
    """

    def make(half_life: float) -> OwnCounts:
        return own_counts(judge.histories, half_life, backing, name="decayed own counts")

    if judge.rules.exclude_history:
        return make(np.inf)
    system, _, found = judge.choose(make, HALF_LIVES)
    system.settings["validation_ndcg@10"] = found
    return system
