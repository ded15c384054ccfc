"""Lists and scores from a trained model, chunk by chunk: nothing here knows ids, files or clocks.

Every event of the histories counts as known: there is no evaluation to keep honest, only the request time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from jaxdecay.data.catalogue import first_seen
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.evaluate import Rules, chunks
from jaxdecay.predict import Context, Predictor
from jaxdecay.rank import top_k

_BUDGET = 2**23


def all_known(histories: Histories) -> Histories:
    """The same histories with every event in the training part, so that popularity counts it whatever the
    split was."""
    return histories.replace(part=np.zeros(histories.events, np.int8))


@runtime_checkable
class Scoring(Protocol):
    """What lists are made by: the model, one whose reads are moved, or strategies."""

    @property
    def histories(self) -> Histories: ...

    def scores(self, requests: Requests, context: Context | None = None) -> np.ndarray:
        """(R, V) float32, higher is better."""
        ...


@dataclass(frozen=True)
class Filters:
    """What may be listed."""

    seen: np.ndarray | None
    """(V,) int64 when each item was first seen: only those seen strictly before a request are its candidates.
    None: all are, at any time."""
    allowed: np.ndarray | None
    """(V,) bool, or None for all items."""
    exclude_seen: bool
    """Leave out what the user's visible history holds."""

    def excluded(self, histories: Histories, requests: Requests) -> np.ndarray | None:
        """(R, V) bool, or None when every item is a candidate of every request."""
        mask = Rules(histories, self.seen, self.exclude_seen).excluded(requests)
        if self.allowed is None:
            return mask
        denied = np.broadcast_to(~self.allowed, (len(requests), histories.items))
        return denied if mask is None else mask | denied


def seen_since(histories: Histories) -> np.ndarray | None:
    """When each item was first seen; None with a relative clock, where there is no common time."""
    return None if histories.clock == "relative" else first_seen(histories)


def scored(
    system: Scoring, requests: Requests, context: Context, filters: Filters
) -> Iterator[tuple[slice, Requests, np.ndarray, np.ndarray | None]]:
    """Yields a stretch of the requests, these themselves, their (r, V) scores, and (r, V) which items are no
    candidates, or None."""
    for chunk in chunks(system.histories, requests, budget=_BUDGET):
        asked = requests.take(chunk)
        scores = system.scores(asked, context.take(chunk))
        yield chunk, asked, scores, filters.excluded(system.histories, asked)


def top_lists(
    system: Scoring, requests: Requests, context: Context, filters: Filters, k: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yields a stretch of the requests, their items (r, k) int32 and scores (r, k) float32, best first.

    Ties go to the lower item index. A list with fewer than k candidates ends with items -1.
    """
    for chunk, _, scores, excluded in scored(system, requests, context, filters):
        yield chunk, *top_k(scores, k, excluded=excluded)


def pair_scores(
    predictor: Predictor, requests: Requests, context: Context, row: np.ndarray, item: np.ndarray
) -> np.ndarray:
    """(n,) float32 scores of the items ``item`` (n,) for the requests ``row`` (n,)."""
    order = np.argsort(row, kind="stable")
    result = np.empty(len(row), np.float32)
    for chunk in chunks(predictor.histories, requests, budget=_BUDGET):
        mine = order[slice(*np.searchsorted(row[order], [chunk.start, chunk.stop]))]
        asked = requests.take(chunk)
        scores = predictor.scores(asked, context.take(chunk))
        result[mine] = scores[row[mine] - chunk.start, item[mine]]
    return result


def most_similar(
    vectors: np.ndarray, items: np.ndarray, allowed: np.ndarray | None, k: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yields a stretch of ``items`` (n,), the k items nearest by cosine (r, k) and the cosines (r, k), best
    first, without the item itself.

    ``vectors``: (V, D) of length 1, or 0 for an item of which nothing is known: such an item is near to none.
    Short lists end with -1.
    """
    nothing = np.logical_not(vectors.any(axis=1))
    denied = nothing if allowed is None else nothing | ~allowed
    step = max(1, _BUDGET // len(vectors))
    for begin in range(0, len(items), step):
        chosen = items[begin : begin + step]
        excluded = np.repeat(denied[None, :], len(chosen), axis=0)
        excluded[np.arange(len(chosen)), chosen] = True
        excluded[nothing[chosen]] = True
        found, cosine = top_k(vectors[chosen] @ vectors.T, k, excluded=excluded)
        yield slice(begin, begin + len(chosen)), found, cosine
