"""Figures of an evaluation by age: of the interest that came back, and of the last event before a request.

``report`` is what `jaxdecay evaluate` writes to ``metrics.json``. Ages are the buckets of `jaxdecay.groups`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from jaxdecay.assess import ABLATION, MODEL
from jaxdecay.errors import InputError
from jaxdecay.groups import AGES
from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes

_MARKERS = [("o", paper.ORANGE, "-"), ("s", paper.DARK, (0, (5, 2))), ("^", paper.BLUE, (0, (1.5, 1.2)))]
_NUMBERS = dict.fromkeys(("value", "low", "high"), pl.Float64)
_SAID = {"never": "never\nbefore", "none": "first\nvisit"}


def calibration_frame(report: Mapping[str, Any]) -> pl.DataFrame:
    """How often what came was of that age, and how often the model expected it: columns age, what ("happened"
    or "expected"), value, low, high, by the age of the user's last event with the same item."""
    rows = []
    for age in (*AGES, "never"):
        group = _groups(report, MODEL).get(f"own-event:{age}", {})
        for what, metric in (("happened", "share_of_targets"), ("expected", "share_expected")):
            if figure := _figure(group, metric):
                rows.append((age, what, *figure))
    if not any(what == "expected" for _, what, *_ in rows):
        raise InputError("calibration: the model's scores are no probabilities, so nothing was expected")
    return pl.DataFrame(rows, schema={"age": pl.String, "what": pl.String} | _NUMBERS, orient="row")


def plot_calibration(frame: pl.DataFrame, ax: Axes | None = None) -> Axes:
    """A filled dot for what happened, a hollow square for what was expected, by age of interest."""
    looks = {"happened": ("o", paper.DARK, "-"), "expected": ("s", paper.ORANGE, "none")}
    ax = _by_age(frame.rename({"what": "series"}), ax, looks)
    ax.set_xlabel("age of the interest: since the user last had what came next")
    ax.set_ylabel("share of requests")
    return ax


def ablation_frame(report: Mapping[str, Any], metric: str = "ndcg@10") -> pl.DataFrame:
    """The model against the same model without decay, by age of interest: columns age, system, value, low,
    high. Raises InputError when either was not evaluated."""
    return _systems_frame(report, (MODEL, ABLATION), metric, "own-event", (*AGES, "never"))


def plot_ablation(frame: pl.DataFrame, ax: Axes | None = None, *, name: str = "NDCG@10") -> Axes:
    """A dot and its 95 % interval for each age of interest, with decay and without."""
    ax = _by_age(frame.rename({"system": "series"}), ax, _looks(frame))
    ax.set_xlabel("age of the interest: since the user last had what came next")
    ax.set_ylabel(name)
    return ax


def staleness_frame(
    report: Mapping[str, Any], metric: str = "ndcg@10", systems: Sequence[str] = ()
) -> pl.DataFrame:
    """Quality by how long the user was away: columns age, system, value, low, high.

    ``systems``: by default the model, the same without decay, and the best baseline.
    """
    if not systems:
        others = [name for name in report["systems"] if name not in (MODEL, ABLATION)]
        best = max(others, key=lambda name: _value(report["systems"][name]["metrics"], metric), default=None)
        systems = [name for name in (MODEL, ABLATION, best) if name and name in report["systems"]]
    return _systems_frame(report, systems, metric, "last-event", (*AGES, "none"))


def plot_staleness(frame: pl.DataFrame, ax: Axes | None = None, *, name: str = "NDCG@10") -> Axes:
    """A line and its 95 % intervals for each system, by how long the user was away."""
    ax = _by_age(frame.rename({"system": "series"}), ax, _looks(frame), joined=True)
    ax.set_xlabel("how long the user was away: age of the last event")
    ax.set_ylabel(name)
    return ax


def _groups(report: Mapping[str, Any], system: str) -> Mapping[str, Any]:
    if system not in report["systems"]:
        there = ", ".join(report["systems"])
        raise InputError(f"{system!r} was not evaluated, only {there}; evaluate again, with --ablation")
    return report["systems"][system]["groups"]


def _figure(figures: Mapping[str, Any], metric: str) -> tuple[Any, Any, Any] | None:
    found = figures.get(metric)
    if not found or found["value"] is None:
        return None
    return found["value"], found["low"], found["high"]


def _value(figures: Mapping[str, Any], metric: str) -> float:
    found = _figure(figures, metric)
    return found[0] if found else -1.0


def _systems_frame(
    report: Mapping[str, Any], systems: Sequence[str], metric: str, kind: str, ages: Sequence[str]
) -> pl.DataFrame:
    rows = [
        (age, system, *figure)
        for system in systems
        for age in ages
        if (figure := _figure(_groups(report, system).get(f"{kind}:{age}", {}), metric))
    ]
    if not rows:
        raise InputError(f"metric {metric!r}: there is none by age; NDCG and HR are, at the -k evaluated")
    return pl.DataFrame(rows, schema={"age": pl.String, "system": pl.String} | _NUMBERS, orient="row")


def _looks(frame: pl.DataFrame) -> dict[str, tuple[str, str, Any]]:
    names = frame["system"].unique(maintain_order=True)
    return {name: _MARKERS[place % len(_MARKERS)] for place, name in enumerate(names)}


def _by_age(
    frame: pl.DataFrame, ax: Axes | None, looks: Mapping[str, tuple[str, str, Any]], *, joined: bool = False
) -> Axes:
    """Ages across, in order; each series with its marker, "none" for a hollow one."""
    ax = ax or paper.axes(6.4, 3.4)
    order = [age for age in (*AGES, *_SAID) if age in set(frame["age"])]
    for place, (series, (marker, colour, style)) in enumerate(looks.items()):
        own = frame.filter(series=series)
        x = [order.index(age) + (place - (len(looks) - 1) / 2) * 0.18 for age in own["age"]]
        for at, low, high in zip(x, own["low"], own["high"], strict=True):
            if low is not None and high is not None:
                ax.plot([at, at], [low, high], color=colour, lw=1.8, solid_capstyle="butt", zorder=2)
        if joined:
            ax.plot(x, own["value"], color=colour, ls=style, lw=1.2, zorder=2)
        fill = "white" if style == "none" else colour
        ax.plot(x, own["value"], marker, color=fill, mec=colour, mew=1.6, ms=7, zorder=3)
        ax.plot([], [], marker, color=fill, mec=colour, mew=1.6, ms=7, label=series)
    ax.set_xticks(range(len(order)), [_SAID.get(age, age.replace("-", "–")) for age in order])
    ax.tick_params(axis="x", length=0, labelsize=8.5)
    ax.set_ylim(bottom=0)
    paper.plain(ax)
    paper.legend_above(ax)
    return ax
