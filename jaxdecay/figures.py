"""From ranks and lists to figures with intervals over users, and to paired differences between systems.

NumPy only. Every mean over requests becomes sums of each user; the intervals come from drawing users.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from jaxdecay import bootstrap, groups, lists, metrics
from jaxdecay.data.histories import Histories
from jaxdecay.outcomes import Outcome, Table
from jaxdecay.results import Difference, Figure, Time

_AGE_METRICS = ("ndcg", "hr")
_LIST_REPLICATES = 200
_LIST_GROUPS = 200
_DRAWN_AT_ONCE = 50

ListMetric = Callable[[np.ndarray], np.ndarray]
"""(R, k) items, -1 for an empty slot, to (R,) values, NaN for none."""
Column = tuple[str, str, np.ndarray, np.ndarray | None]
"""Group, metric, (R,) values (NaN for none), (R,) weights (None for 1)."""
Whole = tuple[str, str, float, float, float]
"""Group, metric, value, low, high."""


@dataclass(frozen=True)
class Summary:
    """M figures of one system at one kind of time, with replicates that pair with every other summary's."""

    keys: list[tuple[str, str]]
    """(group, metric) of each figure."""
    values: np.ndarray
    """(M,)"""
    drawn: np.ndarray
    """(B, M)"""
    whole: list[Whole]
    """Of all lists together and of labelled pairs; these have no paired replicates."""

    def figures(self, system: str, time: Time) -> Iterator[Figure]:
        """All of them, named."""
        low, high = bootstrap.interval(self.drawn)
        for (group, metric), *numbers in zip(self.keys, self.values, low, high, strict=True):
            value, bottom, top = (float(number) for number in numbers)
            yield Figure(system, metric, value, bottom, top, time, group)
        for group, metric, value, bottom, top in self.whole:
            yield Figure(system, metric, value, bottom, top, time, group)


def summarise(
    outcome: Outcome,
    table: Table,
    histories: Histories,
    *,
    k: Sequence[int],
    labels: np.ndarray | None,
    replicates: int,
    seed: int,
    of_lists: Mapping[str, ListMetric] = MappingProxyType({}),
) -> Summary:
    """All figures of one outcome. ``labels`` is (R,) 1, 0 or NaN, of the first target of each request;
    ``of_lists`` are more metrics of lists by name."""
    by_user = bootstrap.by_user(table.requests.user)
    cohorts = groups.by_user(table.requests, histories)
    trained = np.bincount(histories.item[histories.part == 0], minlength=histories.items)
    first = table.requests.target_offsets[:-1]
    rows = {"all": np.ones(len(first), bool)} | {name: mask[first] for name, mask in cohorts.items()}
    columns = [
        *_rank_columns(outcome, table, histories, cohorts, k, labels, trained),
        *_list_columns(outcome, rows, histories, k, trained, of_lists),
        *_age_columns(outcome, table, k),
    ]
    sums = [by_user.sums(values[:, None], None if w is None else w[:, None]) for _, _, values, w in columns]
    joined = bootstrap.UserSums(
        np.concatenate([one.total for one in sums], axis=1),
        np.concatenate([one.weight for one in sums], axis=1),
    )
    whole = _concentration(outcome, by_user, rows, histories, k, seed)
    if labels is not None:
        whole += _labelled(outcome, by_user, rows, labels, replicates, seed)
    return Summary(
        keys=[(group, metric) for group, metric, _, _ in columns],
        values=joined.means(),
        drawn=bootstrap.replicate(joined, replicates=replicates, seed=seed),
        whole=whole,
    )


def compare(
    summaries: Mapping[tuple[str, Time], Summary], uses_time: Mapping[str, bool], reference: str
) -> list[Difference]:
    """Every system minus the reference at the same kind of time, and time given minus time withheld."""
    found: list[Difference] = []
    for system, uses in uses_time.items():
        if system != reference:
            found += _differences(summaries, (system, "given"), (reference, "given"))
        if uses and system != reference:
            other: Time = "withheld" if uses_time[reference] else "given"
            found += _differences(summaries, (system, "withheld"), (reference, other))
        if uses:
            found += _differences(summaries, (system, "given"), (system, "withheld"))
    return found


def _differences(
    summaries: Mapping[tuple[str, Time], Summary], key: tuple[str, Time], other: tuple[str, Time]
) -> Iterator[Difference]:
    first, second = summaries[key], summaries[other]
    places = {name: place for place, name in enumerate(second.keys) if name[0] in groups.MAIN}
    shared = [(place, places[name]) for place, name in enumerate(first.keys) if name in places]
    left, right = (np.array(side, np.int64) for side in zip(*shared, strict=True))
    low, high = bootstrap.interval(first.drawn[:, left] - second.drawn[:, right])
    value = first.values[left] - second.values[right]
    for place, *numbers in zip(left, value, low, high, strict=True):
        group, metric = first.keys[place]
        mean, bottom, top = (float(number) for number in numbers)
        yield Difference(key[0], other[0], metric, mean, bottom, top, key[1], other[1], group)


def _rank_columns(
    outcome: Outcome,
    table: Table,
    histories: Histories,
    cohorts: Mapping[str, np.ndarray],
    k: Sequence[int],
    labels: np.ndarray | None,
    trained: np.ndarray,
) -> Iterator[Column]:
    requests = table.requests
    offsets = requests.target_offsets
    ranks = groups.padded(outcome.ranks, offsets, np.inf)
    gain = groups.padded(np.asarray(metrics.inverse_propensity(trained[requests.targets])), offsets, 0.0)
    liked = histories.chosen[requests.event]
    if labels is not None:
        liked &= labels != 0
    masks = groups.groups(requests, table.own, table.last, histories.known_items)
    for group, mask in (masks | dict(cohorts)).items():
        whole = group in groups.MAIN or group in cohorts
        where = groups.padded(mask, offsets, False) & liked[:, None]
        rows = np.flatnonzero(where.any(axis=1))
        names = metrics.RANK_METRICS if whole else _AGE_METRICS
        for size in k:
            for name in names:
                value = metrics.RANK_METRICS[name](ranks[rows], k=size, where=where[rows])
                yield group, f"{name}@{size}", _spread(value, rows, len(requests)), None
            if whole:
                value = metrics.ndcg(ranks[rows], k=size, where=where[rows], gain=gain[rows])
                weight = np.where(where, gain, 0.0).sum(axis=1) / np.maximum(where.sum(axis=1), 1)
                yield group, f"debiased_ndcg@{size}", _spread(np.asarray(value), rows, len(requests)), weight


def _list_columns(
    outcome: Outcome,
    rows: Mapping[str, np.ndarray],
    histories: Histories,
    k: Sequence[int],
    trained: np.ndarray,
    of_lists: Mapping[str, ListMetric],
) -> Iterator[Column]:
    for size in k:
        listed = outcome.listed[:, :size]
        values = {f"novelty@{size}": lists.novelty(listed, trained)}
        if histories.item_categorical.shape[1] and size > 1:
            values[f"diversity@{size}"] = lists.diversity(listed, histories.item_categorical)
        values |= {f"{name}@{size}": metric(listed) for name, metric in of_lists.items()}
        for group, inside in rows.items():
            for name, value in values.items():
                yield group, name, np.where(inside, value, np.nan), None


def _age_columns(outcome: Outcome, table: Table, k: Sequence[int]) -> Iterator[Column]:
    """Calibration by age: of targets, of list slots and of probability, the share that falls on each age."""
    offsets = table.requests.target_offsets
    row = np.repeat(np.arange(len(table.requests)), np.diff(offsets))
    for bucket, name in enumerate((*groups.AGES, "never")):
        group = f"own-event:{name}"
        hits = np.bincount(row, table.own == bucket, len(table.requests))
        yield group, "share_of_targets", hits / np.diff(offsets), None
        for size in k:
            filled = outcome.listed[:, :size] >= 0
            inside = filled & (outcome.listed_age[:, :size] == bucket)
            number = filled.sum(axis=1)
            share = np.where(number > 0, inside.sum(axis=1) / np.maximum(number, 1), np.nan)
            yield group, f"share_of_list@{size}", share, None
        if outcome.expected is not None:
            yield group, "share_expected", outcome.expected[:, bucket].astype(np.float64), None


def _concentration(
    outcome: Outcome,
    by_user: bootstrap.ByUser,
    rows: Mapping[str, np.ndarray],
    histories: Histories,
    k: Sequence[int],
    seed: int,
) -> list[Whole]:
    """Coverage and Gini of all lists together, and of those of each group of users, among the items that
    were a candidate of any request.

    A draw of users repeats some and so covers less than all of them: percentiles would miss the value
    itself. The interval is therefore the value ± 1.96 standard deviations of the replicates, and users are
    drawn in groups.
    """
    shuffled = np.random.default_rng(seed).permutation(by_user.users) % _LIST_GROUPS
    drawn = np.concatenate(
        [block for _, block in bootstrap.draws(_LIST_GROUPS, replicates=_LIST_REPLICATES, seed=seed)], axis=1
    ).astype(np.float32)
    found, candidates = [], int(outcome.candidates.sum())
    for size, (group, inside) in itertools.product(k, rows.items()):
        items, place = outcome.listed[inside, :size], shuffled[by_user.place[inside]]
        exposures = lists.exposures(items, place, (_LIST_GROUPS, histories.items)).astype(np.float32)
        # Candidates that nobody of the group is given: only their number matters.
        exposures = exposures[:, outcome.candidates & exposures.any(axis=0)]
        replicates = drawn @ exposures
        replicates = replicates[replicates.any(axis=1)]  # where there are few users a draw may hold nobody
        for name, function in (("coverage", lists.coverage), ("gini", lists.gini)):
            value = float(function(exposures.sum(axis=0), items=candidates))
            spread = np.std(function(replicates, items=candidates)) if len(replicates) else np.nan
            margin = 1.96 * float(spread)
            found.append((group, f"{name}@{size}", value, max(value - margin, 0.0), min(value + margin, 1.0)))
    return found


def _labelled(
    outcome: Outcome,
    by_user: bootstrap.ByUser,
    rows: Mapping[str, np.ndarray],
    labels: np.ndarray,
    replicates: int,
    seed: int,
) -> list[Whole]:
    """AUC over all labelled pairs, and over those of each group of users; for logits, accuracy and log loss,
    too."""
    judged = ~np.isnan(labels) & np.isfinite(outcome.score)
    drawn = np.concatenate(
        [block for _, block in bootstrap.draws(by_user.users, replicates=replicates, seed=seed)], axis=1
    )
    functions = {"auc": metrics.auc}
    if outcome.pair_logits:
        functions |= {"accuracy": metrics.accuracy, "log_loss": metrics.log_loss}
    found = []
    for (group, inside), name in itertools.product(rows.items(), functions):
        some = judged & inside
        score, label, place = outcome.score[some].astype(np.float64), labels[some], by_user.place[some]
        parts = [
            functions[name](score, label, where=drawn[begin : begin + _DRAWN_AT_ONCE][:, place])
            for begin in range(0, replicates, _DRAWN_AT_ONCE)
        ]
        low, high = bootstrap.interval(np.concatenate(parts)[:, None])
        found.append((group, name, float(functions[name](score, label)), float(low[0]), float(high[0])))
    return found


def _spread(values: np.ndarray, rows: np.ndarray, size: int) -> np.ndarray:
    """(size,) with the values at ``rows`` and NaN elsewhere."""
    result = np.full(size, np.nan)
    result[rows] = values
    return result
