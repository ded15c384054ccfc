"""Histories gathered from the flat arrays, as the model reads them: for training, for evaluation and for
serving alike."""

from typing import NamedTuple

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.history import History

_MONDAY, _WEEK = 4 * 86_400, 604_800  # 1970-01-05 was a Monday


class Rows(NamedTuple):
    """What to gather: the user, the first event of the user, and the stretch of events whose ends are asked
    for."""

    user: np.ndarray
    first: np.ndarray
    start: np.ndarray
    end: np.ndarray


class Reference(NamedTuple):
    """What times and weights are measured from, taken from the log once and kept in the run."""

    origin: int
    """int64 seconds: midnight (UTC) of the Monday before the first event, or 0 for relative times."""
    weight: float
    """Mean absolute weight of the training events: a weight of this size writes with strength 1."""

    @classmethod
    def of(cls, histories: Histories) -> "Reference":
        train = histories.weight[histories.part == 0]
        weight = float(np.abs(train).mean(dtype=np.float64)) if len(train) else 1.0
        if histories.clock == "relative" or not histories.events:
            return cls(0, weight or 1.0)
        first = int(histories.time.min())
        return cls(first - (first - _MONDAY) % _WEEK, weight or 1.0)

    def seconds(self, time: np.ndarray) -> np.ndarray:
        """int32 seconds since the origin; refuses what is more than 68 years away."""
        since = np.asarray(time, np.int64) - self.origin
        if since.size and (since.max() > 2**31 - 1 or since.min() < -(2**31)):
            raise InputError("a time lies more than 68 years from the first event of the log: check its unit")
        return since.astype(np.int32)


def gather(histories: Histories, rows: Rows, past: int, window: int, reference: Reference) -> History:
    """Histories of the rows, (B, past + window): the last ``past`` places before ``start`` and the stretch
    itself, padded. Events with the label 0 write nothing in a log without behaviours."""
    start = rows.start[:, None]
    index = np.concatenate([start - past + np.arange(past), start + np.arange(window)], axis=1)
    mask = (index >= rows.first[:, None]) & (index < rows.end[:, None])
    index = np.where(mask, index, 0)
    weight = histories.weight[index] / np.float32(reference.weight)
    if len(histories.config["behaviours"]) <= 1:  # else each behaviour learns what it writes
        weight = np.where(histories.label[index] == 0, np.minimum(weight, np.float32(0)), weight)
    known = np.where(rows.user >= 0, rows.user, 0)
    return History(
        user=np.where(
            (rows.user >= 0) & (rows.user < histories.known_users), rows.user, histories.known_users
        ).astype(np.int32),
        user_categorical=np.where(rows.user[:, None] >= 0, histories.user_categorical[known], 0),
        user_numeric=np.where(rows.user[:, None] >= 0, histories.user_numeric[known], np.float32(0)),
        item=np.where(mask, histories.item[index], 0).astype(np.int32),
        time=reference.seconds(histories.time[index]),
        mask=mask,
        behaviour=np.where(mask, histories.behaviour[index], 0).astype(np.int32),
        weight=np.where(mask, weight, np.float32(0)),
        context_categorical=np.where(mask[..., None], histories.context_categorical[index], 0),
        context_numeric=np.where(mask[..., None], histories.context_numeric[index], np.float32(0)),
    )
