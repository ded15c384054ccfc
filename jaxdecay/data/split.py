"""Training, validation and test parts of a log, and what may be counted from the training part only.

NumPy only. Times are int64 seconds; events are sorted by user, then time, then file order (see
``histories.py``), so that every part of a user is a stretch of that user's rows and ties keep file order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, Targets, requests, sample, withheld
from jaxdecay.errors import InputError

__all__ = [
    "Requests",
    "SplitOptions",
    "assign_parts",
    "describe_split",
    "known_first",
    "repeat_share",
    "requests",
    "rolling_folds",
    "sample",
    "withheld",
]

Clock = Literal["utc", "relative"]


@dataclass(frozen=True)
class SplitOptions:
    """How a log is divided into training, validation and test."""

    kind: Literal["global-time", "leave-one-out", "per-user-time"] = "global-time"
    """global-time: everything before one moment trains, everything after it tests. leave-one-out: each
    user's last event tests, the one before it validates. per-user-time: each user's last share of events."""
    test: float = 0.1
    """Share of events in the test part (leave-one-out takes one event a user instead)."""
    validation: float = 0.1
    """Share of events in the validation part, just before the test part."""
    targets: Targets = "successive"
    """What a request asks for. last: each user's last event of the part. successive: every event, one by
    one. all: one request a user, for all of that user's items of the part."""
    folds: int = 3
    """Rolling folds inside the training part, where something is chosen by cross-validation."""

    def __post_init__(self) -> None:
        for name in ("test", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--split.{name} {getattr(self, name)}: give a share from 0 to below 1")
        if self.test + self.validation >= 1:
            raise InputError(
                f"--split.test {self.test} and --split.validation {self.validation} leave nothing to train; "
                "give shares that sum to less than 1"
            )
        if self.folds < 1:
            raise InputError(f"--split.folds {self.folds}: give at least 1")


def assign_parts(
    time: np.ndarray,
    offsets: np.ndarray,
    options: SplitOptions | None = None,
    *,
    clock: Clock = "utc",
    where: str = "the log",
    users: str = "user_id",
) -> np.ndarray:
    """Part of every event: (E,) int8, 0 training, 1 validation, 2 test.

    Guarantees: the parts of a user follow each other in row order. Under global-time no training event is
    at or after the validation cut and no validation event at or after the test cut. Under leave-one-out and
    per-user-time a user with fewer than three events only trains, and every other user keeps at least one
    training event.

    Args:
        time: (E,) int64 seconds. offsets: (U+1,) int64, the rows of each user.
        where: opens messages. users: the column of the users, for messages.

    Raises:
        InputError: nobody has two events; the log is too short or too simultaneous for the split; a
            global-time split of a log whose times count from each user's first event.
    """
    options = options or SplitOptions()
    lengths = np.diff(offsets)
    if lengths.max(initial=0) < 2:
        raise InputError(
            f"{where}: column {users!r}: nobody has two events, so there is no history to learn from; "
            "check that it holds the users, or name the right one with --columns.user"
        )
    if options.kind == "global-time":
        if clock == "relative":
            raise InputError(
                f"{where}: times that count from each user's first event cannot be cut at one moment; "
                "use --split per-user-time --clock relative"
            )
        cuts = _cut_times(np.sort(time), options, where)
        part = np.zeros(len(time), np.int8)
        for cut in cuts:
            part += time >= cut
        return part
    if lengths.max() < 3:
        raise InputError(
            f"{where}: column {users!r}: nobody has three events, which --split {options.kind} needs; "
            "use --split global-time"
        )
    return _last_events(offsets, *_held_out(lengths, options))


def _cut_times(ordered: np.ndarray, options: SplitOptions, where: str) -> list[int]:
    """[validation cut, test cut] as times; a cut that is not wanted is left out or, if only test is, lies
    at its end."""
    starts = np.flatnonzero(np.diff(ordered)) + 1
    wanted = [1 - options.test - options.validation, 1 - options.test]
    if not options.validation:
        wanted = wanted[1:]
    if not options.test and wanted:
        wanted = wanted[:-1]
    places = _cut_places(starts, [share * len(ordered) for share in wanted])
    if places is None:
        raise InputError(
            f"{where}: {len(starts) + 1} distinct times are too few for training, validation and test; "
            "use --split leave-one-out"
        )
    cuts = [int(ordered[place]) for place in places]
    if options.test and not options.validation:
        cuts = cuts * 2  # no validation part: the test part (2) begins where validation would
    return cuts


def _cut_places(starts: np.ndarray, wanted: Sequence[float]) -> list[int] | None:
    """For each wanted place the nearest start of a distinct time, strictly rising; None where there are too
    few."""
    if len(starts) < len(wanted):
        return None
    chosen: list[int] = []
    above = len(starts)
    for left, place in sorted(enumerate(wanted), reverse=True):
        nearest = int(np.argmin(np.abs(starts - place)))
        above = min(max(nearest, left), above - 1)
        chosen.append(int(starts[above]))
    return chosen[::-1]


def _held_out(lengths: np.ndarray, options: SplitOptions) -> tuple[np.ndarray, np.ndarray]:
    """(U,) number of test events and (U,) number of validation events of each user."""
    enough = lengths >= 3
    if options.kind == "leave-one-out":
        return enough.astype(np.int64), enough.astype(np.int64)
    validates = options.validation > 0
    test = np.clip(np.rint(options.test * lengths), 1, np.maximum(lengths - 1 - validates, 1)) * (
        options.test > 0
    )
    validation = (
        np.clip(np.rint(options.validation * lengths), 1, np.maximum(lengths - 1 - test, 1)) * validates
    )
    return (test * enough).astype(np.int64), (validation * enough).astype(np.int64)


def _last_events(offsets: np.ndarray, test: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """(E,) int8 parts: the last ``test`` events of each user are 2, the ``validation`` events before them
    1."""
    lengths = np.diff(offsets)
    row = np.arange(offsets[-1])
    from_test = np.repeat(offsets[1:] - test, lengths)
    from_validation = np.repeat(offsets[1:] - test - validation, lengths)
    return (row >= from_test).astype(np.int8) + (row >= from_validation)


def rolling_folds(histories: Histories, folds: int | None = None, *, share: float = 0.1) -> list[np.ndarray]:
    """Successive parts inside the training part, oldest first, for choosing something by cross-validation.

    Each is a ``part`` array, (E,) int8: 0 trains, 1 validates (``share`` of the training events each), -1
    is out of the fold: everything later, and the log's own validation and test events. Cuts are moments
    under global-time; otherwise each user's own training events are stepped through (leave-one-out: one
    event a fold). Use with ``histories.replace(part=fold)``; ``known_items`` stays that of the whole
    training part.

    Raises InputError when there are too few distinct times for so many folds.
    """
    split = histories.config["split"]
    folds = int(split.get("folds", 3)) if folds is None else folds
    if folds < 1 or folds * share >= 1:
        raise InputError(
            f"{folds} rolling folds, each {share:g} of the training part: give from 1 to below 1/share"
        )
    train = histories.part == 0
    if split.get("kind", "global-time") == "global-time":
        return _folds_in_time(histories.time, train, folds, share)
    return _folds_by_user(histories, train, folds, 0 if split["kind"] == "leave-one-out" else share)


def _folds_in_time(time: np.ndarray, train: np.ndarray, folds: int, share: float) -> list[np.ndarray]:
    ordered = np.sort(time[train])
    starts = np.flatnonzero(np.diff(ordered)) + 1
    places = _cut_places(starts, [(1 - (folds - fold) * share) * len(ordered) for fold in range(folds)])
    if places is None:
        raise InputError(
            f"the training part: {len(starts) + 1} distinct times are too few for {folds} folds; give fewer"
        )
    cuts = [*ordered[places].tolist(), np.inf]
    return [
        np.where(train & (time < end), time >= begin, -1).astype(np.int8) for begin, end in pairwise(cuts)
    ]


def _folds_by_user(histories: Histories, train: np.ndarray, folds: int, share: float) -> list[np.ndarray]:
    user = histories.user()
    trained = np.bincount(user[train], minlength=histories.users)
    window = np.maximum(np.rint(share * trained), 1).astype(np.int64)
    window *= trained > folds * window  # a user with too few events trains in every fold
    end = (histories.offsets[:-1] + trained)[user]
    row, step = np.arange(histories.events), window[user]
    parts = []
    for left in range(folds, 0, -1):
        part = (row >= end - left * step).astype(np.int8)
        part[(row >= end - (left - 1) * step) | ~train] = -1
        parts.append(part)
    return parts


def repeat_share(user: np.ndarray, item: np.ndarray, part: np.ndarray) -> float:
    """Share of training events whose item the same user already had earlier in training (0 without any)."""
    train = part == 0
    pairs = user[train].astype(np.int64) * (int(item.max(initial=0)) + 1) + item[train]
    pairs.sort()
    return float(np.mean(pairs[1:] == pairs[:-1]) * (len(pairs) - 1) / len(pairs)) if len(pairs) > 1 else 0.0


def known_first(codes: np.ndarray, part: np.ndarray, size: int) -> tuple[np.ndarray, int]:
    """New code of each of ``size`` old ones: those of the training part first, both groups in the old order.

    Returns (size,) int32 and how many occur in the training part.
    """
    known = np.zeros(size, bool)
    known[codes[part == 0]] = True
    new = np.empty(size, np.int32)
    new[np.argsort(~known, kind="stable")] = np.arange(size, dtype=np.int32)
    return new, int(known.sum())


def describe_split(histories: Histories, options: SplitOptions) -> dict[str, Any]:
    """``config["split"]``: the options, the cuts, events and users of each part, cold users, and
    ``warnings``."""
    part, time, user = histories.part, histories.time, histories.user()
    names = ("train", "validation", "test")
    taken = [np.bincount(user[part == number], minlength=histories.users) > 0 for number in range(3)]
    users = {name: int(taken[number].sum()) for number, name in enumerate(names)}
    begins = {
        name: int(time[part == number].min()) if options.kind == "global-time" and users[name] else None
        for number, name in enumerate(names)
    }
    return {
        **{name: getattr(options, name) for name in ("kind", "test", "validation", "targets", "folds")},
        "validation_from": begins["validation"],
        "test_from": begins["test"],
        "events": dict(zip(names, np.bincount(part, minlength=3).tolist(), strict=True)),
        "users": users,
        "cold_users": int((~taken[0] & (taken[1] | taken[2])).sum()),
        "warnings": _warnings(histories, options),
    }


def _warnings(histories: Histories, options: SplitOptions) -> list[str]:
    if options.kind == "global-time" or histories.clock == "relative" or not (histories.part > 0).any():
        return []
    held_out = histories.time[histories.part > 0]
    later = float(np.mean(histories.time[histories.part == 0] >= np.median(held_out)))
    return [
        f"{options.kind} leaks the future: {later:.0%} of training events are not earlier than the median "
        "held-out event, so figures flatter and compare only with tables of the same protocol; "
        "--split global-time is honest"
    ]
