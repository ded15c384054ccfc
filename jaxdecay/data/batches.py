"""Training batches: batch ``step`` is a pure function of (seed, step, host), gathered straight from the
flat arrays.

A row is up to ``window`` consecutive training events of one user (the targets), with the user's whole past
before them, never truncated. Rows of like length share a bucket and so a compiled shape; the bucket edges
are those that pad least.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxdecay.data.buckets import least_padding
from jaxdecay.data.catalogue import Catalogue, last_point
from jaxdecay.data.gather import Reference, Rows, gather
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.history import History, Requests

_WORTH = 16_384  # padded targets saved in an epoch that a further compiled shape must be worth
_MOMENTS = 4096  # at which what a target counts for may change: by 2 % at the shortest half-life, 0.01
_NO_TARGETS = (
    "nothing to learn from: no training event has a positive weight and a label other than 0, or none an item"
    " that was there before; give a later split, or more events"
)


class Batch(NamedTuple):
    """B rows: leaves of ``history`` are (B, P + W, ...), of ``requests``, ``target``, ``grid``, ``valid`` and
    ``evidence`` (B, W, ...)."""

    history: History
    requests: Requests
    target: Any
    grid: Any
    """Point of the catalogue's time grid before each target."""
    valid: Any
    evidence: Any
    """float32: what each target counts for in the likelihood, 1 in the mean over an epoch; 0 where it is not
    valid."""


@dataclass(frozen=True, eq=False)
class Batches:
    """A random-access source of training batches, for `grain` or a plain loop; an epoch visits every
    training event that was a choice once as a target (but for what brought an item)."""

    histories: Histories
    catalogue: Catalogue
    reference: Reference
    window: int = 64
    tokens: int = 4096
    """Targets in a batch, about."""
    seed: int = 0
    epochs: int = 1_000
    host: int = 0
    hosts: int = 1
    multiple: int = 1
    """A batch is filled up with empty rows to a multiple of this and of ``hosts``; its targets are the same
    whatever they are."""
    request_time: Literal["used", "ignored"] = "used"
    """ignored: a target is asked for at the time of the event before it."""
    first_seen: np.ndarray | None = None
    """(V,) int64 seconds: when each item came. It can be asked for from then on: what happened no later is no
    target. Default: all of them always."""
    evidence_half_life: float | None = None
    """As a share of an epoch's targets in order of time: a target counts half as much as one that comes so
    much later. Default: all count alike."""
    in_order: bool = False
    """Whether an epoch's rows come in the order of their last targets' times instead of shuffled: only about
    that of all targets, for a row may reach over a long time, and so may batches of a rare compiled shape."""

    def __repr__(self) -> str:
        host = f"{self.host}/{self.hosts}"
        return f"Batches(window={self.window}, tokens={self.tokens}, seed={self.seed}, host={host})"

    def __len__(self) -> int:
        return self.epochs * self.per_epoch

    @functools.cached_property
    def targets(self) -> int:
        """Training events that were a choice among candidates: targets in an epoch."""
        found = len(self._asked())
        if not found:
            raise InputError(_NO_TARGETS)
        return found

    def _asked(self) -> np.ndarray:
        """(T,) int64 seconds at which each target of an epoch is asked for."""
        histories = self.histories
        chosen = histories.chosen & (histories.part == 0)
        event = np.flatnonzero(chosen)
        if self.request_time == "ignored":
            event = np.maximum(event - 1, histories.offsets[histories.user()[event]])
        time = np.asarray(histories.time)[event]
        return time[self._there(np.asarray(histories.item)[chosen], time)]

    @functools.cached_property
    def _evidence(self) -> tuple[np.ndarray, np.ndarray]:
        """(M,) int64 moments in order of time, and the (M,) float32 that a target counts for from each on."""
        half_life = self.evidence_half_life
        if half_life is None:
            return np.zeros(1, np.int64), np.ones(1, np.float32)
        time = np.sort(self._asked())
        if not len(time):
            raise InputError(_NO_TARGETS)
        moments = np.unique(time[np.linspace(0, len(time) - 1, _MOMENTS).astype(np.int64)])
        later = 1 - np.searchsorted(time, moments, side="right") / len(time)
        counts = np.exp2(-later / half_life)
        return moments, (counts / counts[last_point(moments, time)].mean()).astype(np.float32)

    @functools.cached_property
    def rows(self) -> Rows:
        """Windows cut backwards from each user's last training event, and then from the last one before each
        window, so that only a user's first window is short, and it has no past. Events that are no training
        events, where they stand between some, are read and not asked for."""
        histories = self.histories
        train = np.asarray(histories.part) == 0
        if not train.any():
            raise InputError("no training events: give a later split, or more events")
        latest = np.maximum.accumulate(np.where(train, np.arange(len(train)), -1))
        user = np.arange(histories.users)
        end, found = np.array(histories.offsets[1:]), []
        while True:
            first = histories.offsets[user]
            some = end > first
            user, first = user[some], first[some]
            end = latest[end[some] - 1] + 1
            some = end > first
            user, first, end = user[some], first[some], end[some]
            if not len(user):
                break
            start = np.maximum(end - self.window, first)
            found.append(np.stack([user, first, start, end]))
            end = start
        user, first, start, end = np.concatenate(found, axis=1)
        order = np.argsort(user, kind="stable")
        return Rows(user[order].astype(np.int32), first[order], start[order], end[order])

    @functools.cached_property
    def buckets(self) -> list[tuple[int, int, np.ndarray]]:
        """(past, window, row indices) of each compiled shape."""
        rows = self.rows
        past, length = rows.start - rows.first, rows.end - rows.start
        short = np.flatnonzero(past == 0)
        found = [
            (0, edge, short[group]) for edge, group in least_padding(length[short], 3, step=2, worth=_WORTH)
        ]
        deep = np.flatnonzero(past > 0)
        found += [
            (edge, self.window, deep[group])
            for edge, group in least_padding(past[deep], 2, step=32, worth=16 * _WORTH)
        ]
        return found

    def rows_per_batch(self, bucket: int) -> int:
        """Rows of one batch, all hosts together and without those added to fill it up: so many that it holds
        about ``tokens`` targets."""
        past, window, members = self.buckets[bucket]
        wanted = max(1, int(self.tokens / self._asked_share) // (window + past // 16))
        return min(wanted, len(members))

    @functools.cached_property
    def _asked_share(self) -> float:
        """Share of the events in windows that are training events; 1 unless others stand between them."""
        return float((self.histories.part == 0).sum() / (self.rows.end - self.rows.start).sum())

    @functools.cached_property
    def per_epoch(self) -> int:
        return sum(-(-len(rows) // self.rows_per_batch(i)) for i, (_, _, rows) in enumerate(self.buckets))

    def __getitem__(self, index: int) -> Batch:
        epoch, place = divmod(index, self.per_epoch)
        bucket, members = self._plan(epoch)[place]
        past, window, _ = self.buckets[bucket]
        multiple = math.lcm(self.hosts, self.multiple)
        size = -(-self.rows_per_batch(bucket) // multiple) * multiple // self.hosts
        return self.batch(members[self.host :: self.hosts], past, window, size)

    def _plan(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """The batches of an epoch in their order: (bucket, row indices). The last two epochs are kept."""
        plan = self._plans.get(epoch)
        if plan is None:
            random, plan = np.random.default_rng([self.seed, epoch]), []
            for bucket, (_, _, rows) in enumerate(self.buckets):
                size = self.rows_per_batch(bucket)
                if self.in_order:
                    ordered = rows[np.argsort(self._ended[rows], kind="stable")]
                else:
                    ordered = random.permutation(rows)
                plan += [(bucket, ordered[i : i + size]) for i in range(0, len(rows), size)]
            if self.in_order:
                order = np.argsort([self._ended[rows].mean() for _, rows in plan], kind="stable")
            else:
                order = random.permutation(len(plan))
            plan = [plan[i] for i in order]
            self._plans[epoch] = plan
            for old in [e for e in list(self._plans) if abs(e - epoch) > 1]:
                self._plans.pop(old, None)
        return plan

    @functools.cached_property
    def _ended(self) -> np.ndarray:
        """(rows,) int64 seconds of the last target of each row."""
        return np.asarray(self.histories.time)[self.rows.end - 1]

    @functools.cached_property
    def _plans(self) -> dict[int, list[tuple[int, np.ndarray]]]:
        return {}

    def batch(self, members: np.ndarray, past: int, window: int, size: int) -> Batch:
        """The batch of the given rows, filled up with empty ones to ``size``."""
        empty = size - len(members)
        rows = Rows(
            *(
                np.append(field[members], np.full(empty, fill))
                for field, fill in zip(self.rows, (-1, 0, 0, 0), strict=True)
            )
        )
        history = gather(self.histories, rows, past, window, self.reference)
        at = history.time[:, past:]
        if self.request_time == "ignored":
            before = (
                history.time[:, past - 1 : -1] if past else np.concatenate([at[:, :1], at[:, :-1]], axis=1)
            )
            at = np.where(history.mask[:, past:], before, at)
        place = np.where(history.mask[:, past:], rows.start[:, None] + np.arange(window), 0)
        chosen = (history.weight[:, past:] > 0) & (self.histories.label[place] != 0)
        time = at.astype(np.int64) + self.reference.origin
        chosen &= self.histories.part[place] == 0
        valid = history.mask[:, past:] & chosen & self._there(history.item[:, past:], time)
        moments, counts = self._evidence
        seen = np.broadcast_to(np.arange(window, dtype=np.int32), at.shape)
        return Batch(
            history,
            Requests(at, seen, history.context_categorical[:, past:], history.context_numeric[:, past:]),
            history.item[:, past:],
            np.where(valid, self.catalogue.index(time.ravel()).reshape(at.shape), 0).astype(np.int32),
            valid,
            np.where(valid, counts[last_point(moments, time)], np.float32(0)),
        )

    def _there(self, item: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Whether each item was there at its time."""
        return np.ones(item.shape, bool) if self.first_seen is None else self.first_seen[item] < at
