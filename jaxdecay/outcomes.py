"""What ``evaluate`` writes down while it scores, chunk by chunk: ranks, lists and ages, no scores.

NumPy only. R requests with N targets in all; k slots a list.
"""

from dataclasses import dataclass

import numpy as np

from jaxdecay import groups, rank
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests


@dataclass
class Table:
    """What the requests are like, whoever answers them."""

    requests: Requests
    own: np.ndarray
    """(N,) int8 age bucket of the user's last event with each target."""
    last: np.ndarray
    """(R,) int8 age bucket of the user's last event."""

    @classmethod
    def empty(cls, requests: Requests) -> "Table":
        return cls(requests, np.empty(len(requests.targets), np.int8), np.empty(len(requests), np.int8))

    def fill(
        self,
        chunk: slice,
        flat: slice,
        asked: Requests,
        histories: Histories,
        own: rank.OwnItems,
        age: np.ndarray,
    ) -> None:
        """Looks at one chunk of requests; ``age`` is the (P,) bucket of each own item."""
        row = np.repeat(np.arange(len(asked)), np.diff(asked.target_offsets))
        pair = own.find(row, asked.targets)
        self.own[flat] = _lookup(age, pair)
        cold = asked.history_end == histories.offsets[asked.user]
        gap = asked.at - histories.time[np.maximum(asked.history_end - 1, 0)]
        self.last[chunk] = groups.age_bucket(np.where(cold, np.nan, gap / groups.DAY))


@dataclass
class Outcome:
    """What one system did with the requests, at one kind of time."""

    ranks: np.ndarray
    """(N,) float64."""
    listed: np.ndarray
    """(R, k) int32 items, -1 for an empty slot."""
    listed_age: np.ndarray
    """(R, k) int8 age bucket of the user's last event with each item listed."""
    score: np.ndarray
    """(R,) float32 score of the first target."""
    expected: np.ndarray | None
    """(R, buckets) float32 probability of each age of interest, for a system whose scores are logits."""
    candidates: np.ndarray
    """(V,) bool, items that were a candidate of some request."""
    pair_logits: bool
    """Whether scores are log odds of a positive label."""
    seconds: float = 0.0

    @classmethod
    def empty(
        cls, requests: Requests, items: int, k: int, *, logits: bool = False, pair_logits: bool = False
    ) -> "Outcome":
        size = len(requests)
        expected = np.empty((size, groups.NO_AGE + 1), np.float32) if logits else None
        return cls(
            ranks=np.empty(len(requests.targets)),
            listed=np.empty((size, k), np.int32),
            listed_age=np.empty((size, k), np.int8),
            score=np.empty(size, np.float32),
            expected=expected,
            candidates=np.zeros(items, bool),
            pair_logits=pair_logits,
        )

    def fill(
        self,
        chunk: slice,
        flat: slice,
        asked: Requests,
        scores: np.ndarray,
        excluded: np.ndarray | None,
        own: rank.OwnItems,
        age: np.ndarray,
        seconds: float,
    ) -> None:
        """Takes in the scores of one chunk of requests, whose targets are the stretch ``flat``."""
        self.seconds += seconds
        self.candidates |= True if excluded is None else ~excluded.all(axis=0)
        first = asked.target_offsets[:-1]
        self.score[chunk] = scores[np.arange(len(asked)), asked.targets[first]]
        scores = np.array(scores, np.float32)
        if excluded is not None:
            scores[excluded] = -np.inf
        self.ranks[flat] = rank.ranks(scores, asked.target_offsets, asked.targets)
        items, _ = rank.top_k(scores, self.listed.shape[1])
        self.listed[chunk] = items
        row = np.broadcast_to(np.arange(len(asked))[:, None], items.shape)
        self.listed_age[chunk] = _lookup(age, own.find(row, items))
        if self.expected is not None:
            self.expected[chunk] = _probability_by_age(scores, own, age)


def _lookup(age: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """The age bucket of each pair, ``NO_AGE`` for -1."""
    return np.append(age, np.int8(groups.NO_AGE))[pair]


def _probability_by_age(scores: np.ndarray, own: rank.OwnItems, age: np.ndarray) -> np.ndarray:
    """(R, buckets) share of the softmax that falls on own items of each age; the rest is last."""
    top = scores.max(axis=1, keepdims=True)
    weight = np.exp(scores - np.where(np.isfinite(top), top, 0))
    buckets = groups.NO_AGE + 1
    share = weight[own.row, own.item] / np.maximum(weight.sum(axis=1, dtype=np.float64), 1e-300)[own.row]
    table = np.bincount(own.row * buckets + age, share, len(scores) * buckets).reshape(-1, buckets)
    table[:, -1] = np.maximum(1 - table[:, :-1].sum(axis=1), 0)
    return table
