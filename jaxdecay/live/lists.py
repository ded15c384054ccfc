"""Lists of the best items, by whatever table items are kept in, and how near they are to the exact ones."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from jaxdecay.errors import InputError
from jaxdecay.live.live import Live, Reading
from jaxdecay.live.search import Indexed
from jaxdecay.live.tables import KINDS
from jaxdecay.live.topk import Exact
from jaxdecay.names import perhaps

TABLES = (*KINDS, "usearch")
"""How items can be kept to be listed (`jaxdecay.live.tables`, `jaxdecay.live.search`)."""


@runtime_checkable
class Lists(Protocol):
    """What gives lists."""

    def best(self, reading: Reading, k: int, excluded: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(n,) int64 items, best first, and (n,) float32 their scores: k, or all there are where those are
        fewer. ``excluded`` (V,) bool: items that may not be listed. Ties go to the lower item index."""
        ...

    @property
    def bytes(self) -> int:
        """What is held in memory to find them, beside `Live`."""
        ...


def lists_by(live: Live, table: str) -> Lists:
    """Lists by one of `TABLES`. Raises InputError for another, and for "usearch" where that is missing."""
    if table not in TABLES:
        raise InputError(f"table {table!r} is not known; {perhaps(table, TABLES)}")
    return Indexed(live) if table == "usearch" else Exact(live, table)


class Agreement(NamedTuple):
    """How lists compare with the exact ones."""

    recall: float
    """The share of the items of the exact lists that are listed."""
    error: float
    """The largest difference between two scores of an item that both list."""


def agreement(lists: Lists, readings: Sequence[Reading], k: int, live: Live) -> Agreement:
    """Of lists of k items for each of the ``readings``, nothing excluded."""
    exact = Exact(live)
    there, error = [], 0.0
    for reading in readings:
        items, scores = exact.best(reading, k, None)
        found, near = lists.best(reading, k, None)
        _, first, second = np.intersect1d(items, found, return_indices=True)
        there.append(len(first) / len(items))
        error = max(error, float(np.abs(scores[first] - near[second]).max(initial=0.0)))
    return Agreement(float(np.mean(there)), error)
