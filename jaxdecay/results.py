"""What an evaluation found: figures with intervals, paired differences, and the protocol they hold under."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Time = Literal["given", "withheld"]


@dataclass(frozen=True)
class Figure:
    """One number of one system, with its 95 % interval over users (NaN where there is none)."""

    system: str
    metric: str
    value: float
    low: float
    high: float
    time: Time = "given"
    """Whether the system was told the request time, or the time of the last event instead."""
    group: str = "all"
    """Which targets: all, repeats, novelties, cold, warm, a bucket of age or activity, or a user group."""


@dataclass(frozen=True)
class Difference:
    """``system`` minus ``reference`` in one metric, over the same users, with its 95 % interval."""

    system: str
    reference: str
    metric: str
    value: float
    low: float
    high: float
    time: Time = "given"
    reference_time: Time = "given"
    group: str = "all"

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Report:
    """Everything an evaluation found."""

    protocol: Mapping[str, Any]
    """Split, targets, candidates, whether the history was removed and why, ties, sizes, bootstrap."""
    figures: Sequence[Figure]
    differences: Sequence[Difference]
    systems: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name: ``uses_time``, ``seconds`` (spent scoring, time given), ``settings`` (what was chosen, and
    how).
    """

    def figure(self, system: str, metric: str, *, time: Time = "given", group: str = "all") -> Figure:
        """One figure; KeyError when there is none. A system that ignores the time has the same one for
        both.
        """
        if time == "withheld" and not self.systems[system]["uses_time"]:
            time = "given"
        for figure in self.figures:
            if (figure.system, figure.metric, figure.time, figure.group) == (system, metric, time, group):
                return figure
        raise KeyError(f"no figure {metric!r} of {system!r} (time {time}, group {group!r})")

    def difference(
        self, system: str, metric: str, reference: str, *, time: Time = "given", group: str = "all"
    ) -> Difference:
        """``system`` minus ``reference`` in one metric, both at ``time``; KeyError when there is none."""
        wanted = (system, metric, reference, time, time, group)
        for d in self.differences:
            if (d.system, d.metric, d.reference, d.time, d.reference_time, d.group) == wanted:
                return d
        raise KeyError(f"no difference in {metric!r} between {system!r} and {reference!r} (group {group!r})")

    def to_json(self) -> dict[str, Any]:
        """One object of plain types, NaN as null.

        ``protocol``; ``split``; ``systems[name]`` with ``metrics`` (all targets, time given) by name, each
        with ``value``, ``low``, ``high``; ``withheld`` likewise; ``groups[group]`` likewise; and
        ``differences``.
        """
        systems: dict[str, dict[str, Any]] = {}
        for name, facts in self.systems.items():
            systems[name] = {**facts, "metrics": {}, "withheld": {}, "groups": {}, "withheld_groups": {}}
        for figure in self.figures:
            entry = systems[figure.system]
            given = figure.time == "given"
            if figure.group == "all":
                place = entry["metrics" if given else "withheld"]
            else:
                place = entry["groups" if given else "withheld_groups"].setdefault(figure.group, {})
            place[figure.metric] = {"value": figure.value, "low": figure.low, "high": figure.high}
        return _plain(
            {
                "protocol": dict(self.protocol),
                "split": self.protocol.get("split"),
                "systems": systems,
                "differences": [asdict(difference) for difference in self.differences],
            }
        )

    def table(self, metrics: Iterable[str], *, group: str = "all") -> tuple[list[str], list[list[str]]]:
        """Header and rows of text: one row a system and time, ``value [low, high]`` in each column."""
        metrics = list(metrics)
        rows = []
        for system, facts in self.systems.items():
            times: tuple[Time, ...] = ("given", "withheld") if facts["uses_time"] else ("given",)
            for time in times:
                cells = [self._cell(system, metric, time, group) for metric in metrics]
                rows.append([system, time if facts["uses_time"] else "ignored", *cells])
        return ["system", "time", *metrics], rows

    def _cell(self, system: str, metric: str, time: Time, group: str) -> str:
        try:
            figure = self.figure(system, metric, time=time, group=group)
        except KeyError:
            return ""
        if math.isnan(figure.value):
            return ""
        return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


def _plain(value: Any) -> Any:
    """Plain Python types, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
