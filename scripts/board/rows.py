"""From standings to rows: figures with intervals over users, seeds averaged, differences to a reference.

The means over seeds of a figure's replicates, all of the same draws of users, are the replicates of its mean:
an interval speaks of users, and the spread of seeds stands beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from board.logs import Board
from board.plan import Standing
from board.stored import load
from board.systems import FLAGSHIP
from board.trials import CUT
from jaxdecay.figures import Summary, compare, summarise
from jaxdecay.results import Difference, Time

METRICS = tuple(f"{name}@{CUT}" for name in ("hr", "ndcg", "mrr", "coverage", "debiased_ndcg"))
GROUPS = ("all", "repeats", "novelties", "warm")
_FACTS = ("seconds", "peak_mib", "events_per_second")

Row = dict[str, Any]


def mean(summaries: Sequence[Summary]) -> Summary:
    """One summary of several seeds; of figures without replicates the ends of the intervals are averaged."""
    whole = [
        (*parts[0][:2], *(float(np.mean(column)) for column in list(zip(*parts, strict=True))[2:]))
        for parts in zip(*(one.whole for one in summaries), strict=True)
    ]
    return Summary(
        keys=summaries[0].keys,
        values=np.mean([one.values for one in summaries], axis=0),
        drawn=np.mean([one.drawn for one in summaries], axis=0),
        whole=whole,  # type: ignore[arg-type]
    )


def rows(
    board: Board,
    standings: Sequence[Standing],
    *,
    bootstrap: int = 1000,
    references: Mapping[str, str] | None = None,
) -> list[Row]:
    """A row for each figure of each system; see `scripts/leaderboard.py` for what they hold.

    ``references``: by system, the one that it is compared with, where that is there, too; by default the
    flagship, for all."""
    by_seed = {one.entry.name: _summaries(board, one, bootstrap) for one in standings}
    merged = {
        (name, when): mean([seed[when] for seed in seeds])
        for name, seeds in by_seed.items()
        for when in seeds[0]
    }
    uses = {name: "withheld" in seeds[0] for name, seeds in by_seed.items()}
    if references is None:
        references = {name: FLAGSHIP for name in by_seed if name != FLAGSHIP}
    differences = _differences(merged, uses, references)
    reach = reached(standings)
    found: list[Row] = []
    for standing in standings:
        name = standing.entry.name
        facts = _facts(standing) | {"reach": reach[name]}
        for (system, when), summary in merged.items():
            if system == name:
                found += _figures(board, name, when, summary, by_seed[name], differences.get(name, []), facts)
    return found


def _differences(
    summaries: Mapping[tuple[str, Time], Summary], uses: Mapping[str, bool], references: Mapping[str, str]
) -> dict[str, list[Difference]]:
    """By system, minus its reference."""
    found: dict[str, list[Difference]] = {}
    for reference in dict.fromkeys(references.values()):
        if reference in uses:
            names = [reference, *(name for name in uses if references.get(name) == reference)]
            for one in compare(summaries, {name: uses[name] for name in names}, reference):
                if one.reference == reference != one.system:
                    found.setdefault(one.system, []).append(one)
    return found


def _summaries(board: Board, standing: Standing, bootstrap: int) -> list[dict[Time, Summary]]:
    """Of each seed, by time."""
    how: Row = {"k": (CUT,), "labels": board.labels, "replicates": bootstrap, "seed": 0}
    found = []
    for trial in standing.trials:
        outcomes, table = load(trial.outcomes, board.test)
        found.append(
            {time: summarise(each, table, board.histories, **how) for time, each in outcomes.items()}
        )
    return found


def _figures(
    board: Board,
    name: str,
    when: Time,
    summary: Summary,
    seeds: Sequence[dict[Time, Summary]],
    differences: Sequence[Difference],
    facts: Row,
) -> Iterator[Row]:
    each = [{(f.group, f.metric): f.value for f in seed[when].figures(name, when)} for seed in seeds]
    for figure in summary.figures(name, when):
        if figure.metric not in METRICS or figure.group not in GROUPS:
            continue
        values = [seed[figure.group, figure.metric] for seed in each]
        difference = _difference(differences, figure.metric, figure.group, when)
        yield {
            "log": board.log,
            "protocol": board.protocol,
            "system": name,
            "metric": _label(figure.metric, figure.group, when),
            "value": _number(figure.value),
            "low": _number(figure.low),
            "high": _number(figure.high),
            "seconds": facts["seconds"],
            "peak_mib": facts["peak_mib"],
            "group": figure.group,
            "time": when,
            "seeds": len(values),
            "seed_low": _number(min(values)),
            "seed_high": _number(max(values)),
            "difference": difference and _number(difference.value),
            "difference_low": difference and _number(difference.low),
            "difference_high": difference and _number(difference.high),
            **{key: value for key, value in facts.items() if key not in ("seconds", "peak_mib")},
        }


def _label(metric: str, group: str, when: Time) -> str:
    """A name that no other row of the system has: ``ndcg@10``, ``ndcg@10 (repeats, time withheld)``."""
    words = [group] if group != "all" else []
    words += ["time withheld"] if when == "withheld" else []
    return f"{metric} ({', '.join(words)})" if words else metric


def _difference(differences: Sequence[Difference], metric: str, group: str, when: Time) -> Difference | None:
    """A system minus its reference, at the same kind of time; none without one."""
    for one in differences:
        if (one.metric, one.group, one.time) == (metric, group, when):
            return one
    return None


def _facts(standing: Standing) -> Row:
    """What the system cost: means over its seeds, and what tuning took beside."""
    found: Row = {}
    for name in _FACTS:
        values = [one[name] for one in standing.trained if one.get(name) is not None]
        found[name] = round(float(np.mean(values)), 2) if values else None
    first = standing.trained[0]
    evaluated = [point[0] for point in first.get("curve") or ()]
    spent = [one["seconds"] for one in standing.tuning if one["seconds"] is not None]
    return found | {
        "parameters": first.get("parameters"),
        "validation": first.get("validation"),
        "epochs": first.get("epochs"),
        "epoch_seconds": round(float(np.median(np.diff(evaluated))), 2) if len(evaluated) > 1 else None,
        "candidates": len(standing.tuning),
        "tuning_seconds": round(sum(spent), 2) if spent else None,
        "configuration": standing.trials[0].configuration,
        "versions": first.get("versions", {}),
        "device": first.get("device"),
        "cores": first.get("cores"),
        "requests_without_a_list": first.get("settings", {}).get("requests_without_a_list"),
    }


def reached(standings: Sequence[Standing]) -> dict[str, dict[str, Row]]:
    """By system and peer: the peer's best validation NDCG@10, its seconds of training to it, and the seconds
    until this system was as good (None: never), both at the first seed."""
    found: dict[str, dict[str, Row]] = {one.entry.name: {} for one in standings}
    for peer in standings:
        curve = peer.trained[0].get("curve")
        if peer.entry.kind != "peer" or not curve:
            continue
        seconds, best = max(curve, key=lambda point: point[1])
        for one in standings:
            if points := one.trained[0].get("curve"):
                when = next((time for time, value in points if value >= best), None)
                found[one.entry.name][peer.entry.name] = {
                    "ndcg": best,
                    "peer_seconds": seconds,
                    "seconds": when,
                }
    return found


def _number(value: float) -> float | None:
    """NaN, which JSON does not know, as None."""
    return None if np.isnan(value) else float(value)
