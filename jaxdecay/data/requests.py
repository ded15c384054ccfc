"""Requests: who asks, when, seeing which events, and what they then took. What evaluation scores.

NumPy only. A request sees the events of its user in the rows ``histories.offsets[user] : history_end`` and
no others; ties in time are resolved by row order, so that a target sees only earlier rows.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError

Targets = Literal["last", "successive", "all"]
Which = Literal["all", "warm", "cold"]


@dataclass(frozen=True, eq=False)
class Requests:
    """R requests, in row order of their first targets."""

    user: np.ndarray
    """(R,) int32."""
    history_end: np.ndarray
    """(R,) int64 row: the visible history is ``offsets[user] : history_end`` (empty for a cold user)."""
    at: np.ndarray
    """(R,) int64 seconds, the request time."""
    target_offsets: np.ndarray
    """(R+1,) int64, the stretch of ``targets`` of each request."""
    targets: np.ndarray
    """(N,) int32 items, no item twice in one request."""
    event: np.ndarray
    """(R,) int64 row of the first target event, whose context columns the request has."""

    def __len__(self) -> int:
        return len(self.user)

    def take(self, index: np.ndarray | slice) -> "Requests":
        """The requests at ``index`` (positions, a mask or a slice), in that order."""
        chosen = np.arange(len(self))[index]
        begin, lengths = self.target_offsets[chosen], np.diff(self.target_offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], lengths)
        one_each = {name: getattr(self, name)[chosen] for name in ("user", "history_end", "at", "event")}
        return Requests(**one_each, target_offsets=offsets, targets=self.targets[flat])


def requests(
    histories: Histories, part: int, targets: Targets | None = None, *, chosen: bool = False
) -> Requests:
    """The requests of a part (1 validation, 2 test).

    Args:
        targets: "last": each user's last event of the part. "successive": every event of the part, one
            target each; histories move on. "all": one request a user, at the first event of the part, for
            all different items of the part. Default: what ``prepare`` was told.
        chosen: only events that were a choice for their item (`Histories.chosen`) are targets.

    Users without a visible history are kept.
    """
    targets = targets or histories.config["split"].get("targets", "successive")
    event = np.flatnonzero((histories.part == part) & (histories.chosen if chosen else True))
    user = (np.searchsorted(histories.offsets, event, side="right") - 1).astype(np.int32)
    if targets == "all":
        return _all_targets(histories, event, user)
    if targets == "last":
        last = np.append(user[1:] != user[:-1], True)[: len(user)]
        event, user = event[last], user[last]
    elif targets != "successive":
        raise InputError(f"targets {targets!r}: give last, successive or all")
    return Requests(
        user=user,
        history_end=event,
        at=histories.time[event],
        target_offsets=np.arange(len(event) + 1),
        targets=histories.item[event],
        event=event,
    )


def _all_targets(histories: Histories, event: np.ndarray, user: np.ndarray) -> Requests:
    pair = user.astype(np.int64) * max(histories.items, 1) + histories.item[event]
    first = np.sort(np.unique(pair, return_index=True)[1])  # each item once a user, by first appearance
    begins = np.append(True, user[1:] != user[:-1])[: len(user)]
    asked = event[begins]
    counts = np.bincount(user[first], minlength=histories.users)[user[begins]]
    return Requests(
        user=user[begins],
        history_end=asked,
        at=histories.time[asked],
        target_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        targets=histories.item[event[first]],
        event=asked,
    )


def of_items(requests: Requests, histories: Histories, part: int, which: Which) -> Requests:
    """The same requests with targets of some items only; those that are left with none are dropped.

    warm: items that occur in the training part. cold: items that occur in no part before this one.
    """
    if which == "all":
        return requests
    known = np.zeros(histories.items, bool)
    known[histories.item[histories.part < (1 if which == "warm" else part)]] = True
    keep = known[requests.targets] == (which == "warm")
    row = np.repeat(np.arange(len(requests)), np.diff(requests.target_offsets))
    counts = np.bincount(row[keep], minlength=len(requests))
    left = counts > 0
    return replace(
        requests.take(left),
        target_offsets=np.concatenate([[0], np.cumsum(counts[left])]).astype(np.int64),
        targets=requests.targets[keep],
    )


def withheld(requests: Requests, histories: Histories) -> Requests:
    """The same requests with the request time withheld: ``at`` becomes the time of the last visible event.

    A user without a visible history is asked at the end of the training part (its last event), which is no
    later than the request, or at the request's own time if that is earlier.
    """
    if not len(requests):
        return requests
    cold = requests.history_end == histories.offsets[requests.user]
    last = histories.time[np.maximum(requests.history_end - 1, 0)]
    trained = histories.time[histories.part == 0]
    end = np.minimum(requests.at, trained.max()) if len(trained) else requests.at
    return replace(requests, at=np.where(cold, end, last))


def sample(requests: Requests, n: int, seed: int) -> Requests:
    """``n`` of the requests drawn without replacement, in their order; all of them when there are no more."""
    if n >= len(requests):
        return requests
    chosen = np.random.default_rng(seed).choice(len(requests), n, replace=False)
    return requests.take(np.sort(chosen))
