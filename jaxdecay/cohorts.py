"""Streams to watch for drift: of users, of cohorts of them, of the whole catalogue.

What was no choice (`jaxdecay.data.histories.Histories.chosen`) says nothing. Cohorts and the catalogue have
too many events to watch one by one, and those of one day are not independent of each other: all of a day
count as one event, which points at their mean. So a stream of days differs from day to day by more than
chance picks, and drift is judged against that.
"""

from typing import NamedTuple

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.streams import Streams

_DAY = 86_400
_BLOCK = 1 << 18  # events whose vectors are summed at once


class Pooled(NamedTuple):
    """Streams of days."""

    streams: Streams
    share: np.ndarray | None
    """(days, K) what part of the events of a day is of each kind of item; None where there are no kinds."""


def of_users(histories: Histories, vectors: np.ndarray) -> Streams:
    """A stream for each user. ``vectors`` (V, D): of items. Events that were no choice
    (`Histories.chosen`) are of an item more, of which nothing is known."""
    item = np.where(histories.chosen, np.asarray(histories.item), len(vectors))
    unknown = np.zeros((1, vectors.shape[1]), vectors.dtype)
    return Streams(
        np.asarray(histories.offsets), np.asarray(histories.time), item, np.concatenate([vectors, unknown])
    )


def pooled(
    histories: Histories,
    cohort: np.ndarray,
    vectors: np.ndarray,
    kind: np.ndarray | None = None,
    kinds: int = 0,
) -> Pooled:
    """A stream for each cohort, an event for each of its days (UTC) with any, at noon.

    ``cohort`` (U,) of each user, from 0; -1 for none. ``vectors`` (V, D) of items; ``kind`` (V,) of each,
    from 0 to ``kinds``, -1 for none. Raises InputError where times are relative: there is no common day.
    """
    if histories.clock == "relative":
        raise InputError("the log's times are relative: its users have no day in common; ask by user")
    item, time = np.asarray(histories.item), np.asarray(histories.time)
    known = np.any(vectors, axis=1)
    of = cohort[histories.user()]
    kept = (of >= 0) & known[item] & histories.chosen
    of, item, day = of[kept], item[kept], time[kept] // _DAY
    rows, row, counted = np.unique(
        np.stack([of, day], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    row = row.ravel()
    total = np.zeros((len(rows), vectors.shape[1]))
    for begin in range(0, len(item), _BLOCK):
        some = slice(begin, begin + _BLOCK)
        np.add.at(total, row[some], vectors[item[some]])
    share = None
    if kind is not None:
        there = kind[item] >= 0
        share = np.zeros((len(rows), kinds))
        np.add.at(share, (row[there], kind[item[there]]), 1.0)
        share /= np.maximum(share.sum(axis=1, keepdims=True), 1.0)
    offsets = np.searchsorted(rows[:, 0], np.arange(int(cohort.max(initial=-1)) + 2))
    streams = Streams(offsets, rows[:, 1] * _DAY + _DAY // 2, np.arange(len(rows)), total / counted[:, None])
    return Pooled(streams, share)
