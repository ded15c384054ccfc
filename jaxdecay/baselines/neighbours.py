r"""Item neighbours with decay: what is taken by those who take what this user took, the recent counting more.

NumPy only. Items i and j are as similar as the cosine of the sets of users who took them in training,

$$ s_{ij} = \frac{|U_i \cap U_j|}{\sqrt{|U_i| |U_j|}} $$

of which the nearest few of each item are kept, and a request at time t scores
$\sum_j s_{ij} \, c_j(t)$ with c the decayed counts of the user's own items.

References:
    Sarwar, Karypis, Konstan, Riedl: Item-based collaborative filtering recommendation algorithms, WWW 2001.
    Ding, Li: Time weight collaborative filtering, CIKM 2005.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxdecay.baselines.choose import Judge
from jaxdecay.baselines.counts import log_counts, visible
from jaxdecay.baselines.popularity import Popularity
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests

NEIGHBOURS = 64
HALF_LIVES: tuple[float, ...] = (1, 7, 30, 90, np.inf)
"""Days, the grid for the user's own history; coarser than that of the counts, for a score costs more."""
_BLOCK = 2**23
_LONGEST = 2000


class Similar(NamedTuple):
    """The nearest items of each item, nearest first; the item itself is not among them."""

    item: np.ndarray
    """(V, N) int32, 0 where there are fewer."""
    cosine: np.ndarray
    """(V, N) float32, 0 where there are fewer."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Item neighbours of a decayed history, over popularity where nothing is near."""

    name: str
    histories: Histories
    similar: Similar
    half_life: float
    """Days."""
    own: float
    """Similarity of an item to itself: 1 lets the user's own items be recommended for their own sake, 0
    does not.
    """
    backing: Popularity
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def uses_time(self) -> bool:
        """Counts faded at one pace keep the order; only popularity moves with the request time."""
        return self.backing.uses_time

    def scores(self, requests: Requests) -> np.ndarray:
        """(R, V) float32: 1 + similarity where there is any (at most 2 for the best of a request),
        popularity below.
        """
        own = visible(self.histories, requests)
        weight = _to_one(
            np.exp2(log_counts(own, self.histories.time, self.half_life)), own.row, len(requests)
        )
        near = np.empty((len(requests), own.items), np.float32)
        starts = np.searchsorted(own.row, np.arange(len(requests) + 1))
        for rows in _blocks(starts, self.similar.item.shape[1]):
            pairs = slice(starts[rows.start], starts[rows.stop])
            near[rows] = self._near(own.row[pairs] - rows.start, own.item[pairs], weight[pairs], rows)
        near /= np.maximum(near.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        popular = self.backing.counts(requests.at)
        popular /= 2 * np.maximum(popular.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return np.where(near > 0, 1 + near, popular)

    def _near(self, row: np.ndarray, item: np.ndarray, weight: np.ndarray, rows: slice) -> np.ndarray:
        """(rows, V) float64 weighted sum of the similarities to the given (request, own item) pairs."""
        size, items = rows.stop - rows.start, self.histories.items
        key = (row[:, None] * items + self.similar.item[item]).ravel()
        near = np.bincount(key, (weight[:, None] * self.similar.cosine[item]).ravel(), size * items)
        near = near.astype(np.float64, copy=False)  # counts of nothing come as integers
        near[row * items + item] += self.own * weight
        return near.reshape(size, items)


def _to_one(weight: np.ndarray, row: np.ndarray, rows: int) -> np.ndarray:
    """Weights divided by their sum in each request."""
    return weight / np.maximum(np.bincount(row, weight, rows), 1e-300)[row]


def _blocks(starts: np.ndarray, neighbours: int) -> list[slice]:
    """Stretches of requests with about ``_BLOCK`` (own item, neighbour) pairs each, one request at least."""
    blocks, begin = [], 0
    while begin < len(starts) - 1:
        limit = starts[begin] + _BLOCK // neighbours
        end = max(int(np.searchsorted(starts, limit, side="right")) - 1, begin + 1)
        blocks.append(slice(begin, end))
        begin = end
    return blocks


def similar_items(histories: Histories, neighbours: int = NEIGHBOURS) -> Similar:
    """Cosine neighbours from the training part, in blocks of items so that V·V is never held.

    A user with more than 2,000 different items counts with the 2,000 that were taken last for the first
    time: a robot's history says nothing about similarity, and costs its square.
    """
    user, item = _training_pairs(histories)
    items, width = histories.items, min(neighbours, max(histories.items - 1, 1))
    taken = np.bincount(item, minlength=items)
    of_user = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=histories.users))])
    by_item = np.argsort(item, kind="stable")
    users_of = user[by_item]
    of_item = np.concatenate([[0], np.cumsum(taken)])
    near, cosine = np.zeros((items, width), np.int32), np.zeros((items, width), np.float32)
    work = np.concatenate([[0], np.cumsum(of_user[users_of + 1] - of_user[users_of])])[of_item]
    norm = np.sqrt(np.maximum(taken, 1))
    for block in _item_blocks(work, items):
        chosen = slice(of_item[block.start], of_item[block.stop])
        members = users_of[chosen]
        lengths = of_user[members + 1] - of_user[members]
        row = np.repeat(item[by_item][chosen] - block.start, lengths)
        ends = np.cumsum(lengths)
        other = item[np.arange(len(row)) + np.repeat(of_user[members] - (ends - lengths), lengths)]
        size = block.stop - block.start
        shared = np.bincount(row * items + other, minlength=size * items).reshape(size, items)
        values = (shared / (norm[block, None] * norm[None, :])).astype(np.float32)
        values[np.arange(size), np.arange(block.start, block.stop)] = 0
        best = np.argpartition(-values, width - 1, axis=1)[:, :width] if width < items else None
        best = np.broadcast_to(np.arange(items), values.shape)[:, :width] if best is None else best
        found = np.take_along_axis(values, best, axis=1)
        near[block], cosine[block] = np.where(found > 0, best, 0), found
    return Similar(near, cosine)


def _training_pairs(histories: Histories) -> tuple[np.ndarray, np.ndarray]:
    """User and item of each different pair in training, by user, at most ``_LONGEST`` a user."""
    rows = np.flatnonzero((histories.part == 0) & histories.chosen)
    user = np.searchsorted(histories.offsets, rows, side="right") - 1
    key = user * max(histories.items, 1) + histories.item[rows]
    first = np.sort(np.unique(key, return_index=True)[1])
    user, item = user[first], histories.item[rows[first]].astype(np.int64)
    left = np.searchsorted(user, user, side="right") - np.arange(len(user))
    return user[left <= _LONGEST], item[left <= _LONGEST]


def _item_blocks(work: np.ndarray, items: int) -> list[slice]:
    """Stretches of items with about ``_BLOCK`` co-occurrences and at most ``_BLOCK`` cells each, one item
    at least.
    """
    blocks, begin, most = [], 0, max(_BLOCK // max(items, 1), 1)
    while begin < items:
        end = int(np.searchsorted(work, work[begin] + _BLOCK, side="right")) - 1
        end = min(max(end, begin + 1), begin + most, items)
        blocks.append(slice(begin, end))
        begin = end
    return blocks


def fit_neighbours(judge: Judge, backing: Popularity) -> Neighbours:
    """Item neighbours; the half-life of the history and whether own items count for themselves chosen by
    validation.
    """
    similar = similar_items(judge.histories)

    def make(choice: tuple[float, float]) -> Neighbours:
        half_life, own = choice
        settings = {"half_life_days": half_life, "own": own, "neighbours": similar.item.shape[1]}
        return Neighbours("item neighbours", judge.histories, similar, half_life, own, backing, settings)

    # Whether own items count is a matter of the log, half-lives are of degree: one after the other.
    _, (_, own), _ = judge.choose(make, [(30.0, 1.0), (30.0, 0.0)])
    system, _, found = judge.choose(make, [(half_life, own) for half_life in HALF_LIVES])
    system.settings["validation_ndcg@10"] = found
    return system
