"""Evaluation: every system ranks the whole catalogue for every request, under the same rules.

NumPy only. Requests are scored in chunks in order of time, so that memory holds one chunk of scores. The
rules:

- Candidates: under a global-time split the items first seen strictly before the request; otherwise, or where
  ``every_item`` asks for it, all items. A target that is no candidate is a miss for everyone.
- The user's visible history is removed from the ranking (a repeat is then a miss) unless repeats make up
  more than 5 % of the training part, or ``exclude_history`` says otherwise.
- Ties count as the mean rank.
- A system is asked twice, once with the request time and once with the time of the user's last event instead
  ("withheld"), unless it ignores the time. What may be recommended follows the true request time in both.
"""

import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxdecay import groups, rank
from jaxdecay.data.catalogue import counted_live, first_seen, known_before
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, withheld
from jaxdecay.figures import ListMetric, compare, summarise
from jaxdecay.outcomes import Outcome, Table
from jaxdecay.results import Report, Time

REPEAT_SHARE = 0.05
"""The history stays in the ranking when more than this share of training events are repeats."""
_BUDGET = 2**23


@runtime_checkable
class System(Protocol):
    """What is evaluated.

    Optional attributes are read when present. ``settings``: dict, what was chosen and how, copied into the
    report. ``logits``: True when a softmax of the scores is meant as a probability; the report then has the
    expected share of each age of interest. ``pair_logits``: True when a score is meant as the log odds of a
    positive label; labelled pairs then also have accuracy and log loss.
    """

    @property
    def name(self) -> str:
        """What the table calls it."""
        ...

    @property
    def uses_time(self) -> bool:
        """Whether scores depend on the request time."""
        ...

    def scores(self, requests: Requests) -> np.ndarray:
        """(R, V) float32, higher is better, -inf for an item never to be recommended; R requests are a chunk.

        May look at nothing later than each request's history and time.
        """
        ...


@dataclass(frozen=True)
class Rules:
    """Which items are candidates of a request."""

    histories: Histories
    seen: np.ndarray | None
    """(V,) int64 when each item was first seen, or None when all items are candidates at any time."""
    exclude_history: bool

    def own(self, requests: Requests) -> rank.OwnItems:
        """What the requests see in their own histories."""
        begin = self.histories.offsets[requests.user]
        return rank.own_items(begin, requests.history_end, self.histories.item, self.histories.items)

    def excluded(self, requests: Requests, own: rank.OwnItems | None = None) -> np.ndarray | None:
        """(R, V) bool, or None when every item is a candidate."""
        mask = None if self.seen is None else ~known_before(self.seen, requests.at)
        if self.exclude_history:
            own = own or self.own(requests)
            mask = np.zeros((len(requests), self.histories.items), bool) if mask is None else mask
            mask[own.row, own.item] = True
        return mask

    def ranks(self, system: System, requests: Requests) -> np.ndarray:
        """(N,) rank of every target, time given."""
        result = np.empty(len(requests.targets))
        for chunk in chunks(self.histories, requests):
            asked = requests.take(chunk)
            found = rank.ranks(
                system.scores(asked), asked.target_offsets, asked.targets, excluded=self.excluded(asked)
            )
            result[requests.target_offsets[chunk.start] : requests.target_offsets[chunk.stop]] = found
        return result


def rules(histories: Histories, exclude_history: bool | None = None, *, every_item: bool = False) -> Rules:
    """The rules that a prepared log asks for (``exclude_history``: None lets the training part decide)."""
    if exclude_history is None:
        exclude_history = histories.repeat_share <= REPEAT_SHARE
    live = counted_live(histories) and not every_item
    return Rules(histories, first_seen(histories) if live else None, exclude_history)


def chunks(histories: Histories, requests: Requests, *, budget: int = _BUDGET) -> Iterator[slice]:
    """Stretches of requests whose scores, and visible events, stay within ``budget`` numbers (one request
    at least).
    """
    cost = np.cumsum(histories.items + requests.history_end - histories.offsets[requests.user])
    begin = 0
    while begin < len(requests):
        spent = cost[begin - 1] if begin else 0
        end = max(int(np.searchsorted(cost, spent + budget, side="right")), begin + 1)
        yield slice(begin, end)
        begin = end


def rank_requests(
    system: System,
    histories: Histories,
    requests: Requests,
    *,
    exclude_history: bool | None = None,
) -> np.ndarray:
    """(N,) rank of every target, under the rules of evaluation, time given; what validation and choices
    use.
    """
    return rules(histories, exclude_history).ranks(system, requests)


def evaluate(
    systems: Sequence[System],
    histories: Histories,
    requests: Requests,
    *,
    k: Sequence[int] = (10,),
    exclude_history: bool | None = None,
    every_item: bool = False,
    labels: np.ndarray | None = None,
    of_lists: Mapping[str, ListMetric] = MappingProxyType({}),
    reference: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Report:
    """Scores every system on every request.

    Args:
        k: list lengths, at most V. exclude_history: whether the visible history is removed from the ranking
        (None: the training part decides).
        every_item: whether items are candidates that have not come before the request, too.
        labels: (R,) 1 or 0 (or NaN) for the first target of each request, when the log labels its pairs. Rank
            metrics then leave out targets labelled 0; AUC, and for ``logits`` accuracy and log loss, are
            added.
        of_lists: more metrics of what is listed, by name.
        reference: name of the system that the others are compared with (default: the first).
        bootstrap: replicates of the intervals. seed: of the bootstrap.

    Raises ValueError when there are no requests, names repeat, k is out of range, or a score is NaN.
    """
    _check(systems, histories, requests, k, reference)
    order = np.argsort(requests.at, kind="stable")
    requests = requests.take(order)
    labels = None if labels is None else np.asarray(labels, np.float64)[order]
    applied = rules(histories, exclude_history, every_item=every_item)
    outcomes, table = score(systems, applied, requests, max(k))
    summaries = {
        key: summarise(
            outcome, table, histories, k=k, labels=labels, of_lists=of_lists, replicates=bootstrap, seed=seed
        )
        for key, outcome in outcomes.items()
    }
    uses_time = {system.name: system.uses_time for system in systems}
    facts = {
        system.name: {
            "uses_time": system.uses_time,
            "seconds": round(outcomes[system.name, "given"].seconds, 3),
            "settings": dict(getattr(system, "settings", {})),
        }
        for system in systems
    }
    return Report(
        protocol={
            **_protocol(applied, requests, exclude_history),
            "k": list(k),
            "interval": f"95 %, {bootstrap} bootstrap replicates over users, seed {seed}",
        },
        figures=[figure for key, summary in summaries.items() for figure in summary.figures(*key)],
        differences=compare(summaries, uses_time, reference or systems[0].name),
        systems=facts,
    )


def _check(
    systems: Sequence[System],
    histories: Histories,
    requests: Requests,
    k: Sequence[int],
    reference: str | None,
) -> None:
    names = [system.name for system in systems]
    if not len(requests):
        raise ValueError("there are no requests to evaluate; the log has no events in that part")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"systems {names}: give at least one, each with a name of its own")
    if reference is not None and reference not in names:
        raise ValueError(f"reference {reference!r} is none of the systems {names}")
    if not k or not all(1 <= size <= histories.items for size in k):
        raise ValueError(f"k={list(k)}: give list lengths from 1 to the {histories.items} items of the log")


def score(
    systems: Sequence[System], applied: Rules, requests: Requests, k: int
) -> tuple[dict[tuple[str, Time], Outcome], Table]:
    """What every system did, time given and withheld, and what the requests were like.

    Requests in order of time are scored fastest. What is returned can be kept, and gives `summarise` and
    `compare` of `jaxdecay.figures` all they need without scoring again.
    """
    told: dict[Time, Requests] = {"given": requests, "withheld": withheld(requests, applied.histories)}
    outcomes: dict[tuple[str, Time], Outcome] = {}
    for system in systems:
        for when in told if system.uses_time else ("given",):
            meant = {name: getattr(system, name, False) for name in ("logits", "pair_logits")}
            outcomes[system.name, when] = Outcome.empty(requests, applied.histories.items, k, **meant)
    table = Table.empty(requests)
    for chunk in chunks(applied.histories, requests):
        asked = requests.take(chunk)
        own = applied.own(asked)
        age = groups.age_bucket((asked.at[own.row] - applied.histories.time[own.last]) / groups.DAY)
        excluded = applied.excluded(asked, own)
        flat = slice(int(requests.target_offsets[chunk.start]), int(requests.target_offsets[chunk.stop]))
        table.fill(chunk, flat, asked, applied.histories, own, age)
        for system in systems:
            for when in told if system.uses_time else ("given",):
                begin = clock.perf_counter()
                scores = np.asarray(system.scores(told[when].take(chunk)))
                seconds = clock.perf_counter() - begin
                if scores.shape != (len(asked), applied.histories.items):
                    wanted = (len(asked), applied.histories.items)
                    raise ValueError(f"{system.name}: scores are {scores.shape}, expected {wanted}")
                if np.isnan(scores.min()):  # the minimum of anything with NaN is NaN
                    raise ValueError(f"{system.name}: scores hold NaN, so there is no order among them")
                outcomes[system.name, when].fill(chunk, flat, asked, scores, excluded, own, age, seconds)
    return outcomes, table


def _protocol(applied: Rules, requests: Requests, asked: bool | None) -> dict[str, Any]:
    histories = applied.histories
    split = dict(histories.config["split"])
    share = f"{histories.repeat_share:.1%} of training events are repeats"
    by = f"{share}, and the limit is {REPEAT_SHARE:.0%}" if asked is None else f"as asked; {share}"
    live = counted_live(histories)
    liked = requests.take(histories.chosen[requests.event])
    return {
        "split": split.get("kind", "global-time"),
        "targets": split.get("targets", "successive"),
        "clock": histories.clock,
        "requests": len(liked),
        "targets_total": len(liked.targets),
        "users": len(np.unique(liked.user)),
        "not_taken": len(requests) - len(liked),
        "items": histories.items,
        "candidates": "all items" if applied.seen is None else "items first seen before the request",
        "catalogue_counts": "live, strictly before the request" if live else "training part only",
        "history": "removed" if applied.exclude_history else "kept",
        "history_why": by,
        "ties": "mean rank",
        "warnings": list(split.get("warnings", [])),
    }
