"""Figures of an evaluation by age, of the interest that came back or of the last event before a request, and
by cohort of users.

``report`` is what `jaxdecay evaluate` writes to ``metrics.json``. Ages are the buckets of `jaxdecay.groups`,
and so are cohorts: how many events a user had, and the values of a column of users.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from jaxdecay.assess import ABLATION, MODEL
from jaxdecay.errors import InputError
from jaxdecay.groups import ACTIVITY, AGES
from jaxdecay.names import perhaps
from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes

_MARKERS = [("o", paper.ORANGE, "-"), ("s", paper.DARK, (0, (5, 2))), ("^", paper.BLUE, (0, (1.5, 1.2)))]
_NUMBERS = dict.fromkeys(("value", "low", "high"), pl.Float64)
_SAID = {"never": "never\nbefore", "none": "first\nvisit"}
_BUCKETS = {bucket: bucket.replace("-", "–") for bucket in (*AGES, *ACTIVITY)}
_FAR = 2.5  # times the greatest value: how far an interval is followed
_BESIDE = 60  # characters that names side by side have room for


def calibration_frame(report: Mapping[str, Any]) -> pl.DataFrame:
    """How often what came was of that age, and how often the model expected it: columns age, what ("happened"
    or "expected"), value, low, high, by the age of the user's last event with the same item."""
    rows = []
    for age in (*AGES, "never"):
        group = _groups(report, MODEL).get(f"own-event:{age}", {})
        kinds = ("happened", "share_of_targets"), ("expected", "share_expected")
        figures = [(age, what, *figure) for what, metric in kinds if (figure := _figure(group, metric))]
        if any(value for _, _, value, *_ in figures):  # no interest is older than the log
            rows += figures
    if not any(what == "expected" for _, what, *_ in rows):
        raise InputError("calibration: the model's scores are no probabilities, so nothing was expected")
    return pl.DataFrame(rows, schema={"age": pl.String, "what": pl.String} | _NUMBERS, orient="row")


def plot_calibration(frame: pl.DataFrame, ax: Axes | None = None) -> Axes:
    """A filled dot for what happened, a hollow square for what was expected, by age of interest."""
    looks = {"happened": ("o", paper.DARK, "-"), "expected": ("s", paper.ORANGE, "none")}
    ax = _side_by_side(frame.rename({"age": "group", "what": "series"}), ax, looks)
    ax.set_xlabel("age of the interest: since the user last had what came next")
    ax.set_ylabel("share of requests")
    return ax


def cohorts(report: Mapping[str, Any]) -> list[str]:
    """By what an evaluation tells users apart: activity, and columns of users with few values."""
    groups = list(_groups(report, MODEL))
    columns = (name.removeprefix("user:").partition("=")[0] for name in groups if name.startswith("user:"))
    activity = ("activity" for name in groups if name.startswith("activity:"))
    return list(dict.fromkeys([*activity, *columns]))


def ablation_frame(
    report: Mapping[str, Any], metric: str = "ndcg@10", *, by: str | None = None
) -> pl.DataFrame:
    """The model against the same model without decay: columns cohort, system, value, low, high.

    ``by``: one of `cohorts`; default: the age of the interest that came back. Raises InputError when either
    system was not evaluated, and for other cohorts, with the nearest.
    """
    names = {age: f"own-event:{age}" for age in (*AGES, "never")}
    if by is not None:
        if by not in (there := cohorts(report)):
            raise InputError(f"ablation by {by!r}: {perhaps(by, there)}; or evaluate again")
        of_column = [name for name in _groups(report, MODEL) if name.startswith(f"user:{by}=")]
        names = {name.partition("=")[2]: name for name in of_column}
        names = {name: f"activity:{name}" for name in ACTIVITY} if by == "activity" else names
    return _systems_frame(report, (MODEL, ABLATION), metric, names).rename({"group": "cohort"})


def plot_ablation(
    frame: pl.DataFrame, ax: Axes | None = None, *, name: str = "NDCG@10", by: str | None = None
) -> Axes:
    """A dot and its 95 % interval for each cohort, with decay and without. ``by``: as of the frame."""
    orders = {None: (*AGES, *_SAID), "activity": ACTIVITY}
    order = orders.get(by, list(dict.fromkeys(frame["cohort"])))
    told = frame.rename({"cohort": "group", "system": "series"})
    ax = _side_by_side(told, ax, _looks(frame), order=order)
    said = {None: "age of the interest: since the user last had what came next"}
    said |= {"activity": "events of the user before the request"}
    ax.set_xlabel(said.get(by, f"{by} of the user"))
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
    names = {age: f"last-event:{age}" for age in (*AGES, "none")}
    return _systems_frame(report, systems, metric, names).rename({"group": "age"})


def plot_staleness(frame: pl.DataFrame, ax: Axes | None = None, *, name: str = "NDCG@10") -> Axes:
    """A line and its 95 % intervals for each system, by how long the user was away."""
    ax = _side_by_side(frame.rename({"age": "group", "system": "series"}), ax, _looks(frame), joined=True)
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
    report: Mapping[str, Any], systems: Sequence[str], metric: str, names: Mapping[str, str]
) -> pl.DataFrame:
    """Columns group (one of ``names``, which says what the report calls each), system, value, low, high."""
    rows = [
        (group, system, *figure)
        for system in systems
        for group, name in names.items()
        if (figure := _figure(_groups(report, system).get(name, {}), metric))
    ]
    if not rows:
        raise InputError(f"metric {metric!r}: there is none by group; NDCG and HR are, at the -k evaluated")
    return pl.DataFrame(rows, schema={"group": pl.String, "system": pl.String} | _NUMBERS, orient="row")


def _looks(frame: pl.DataFrame) -> dict[str, tuple[str, str, Any]]:
    names = frame["system"].unique(maintain_order=True)
    return {name: _MARKERS[place % len(_MARKERS)] for place, name in enumerate(names)}


def _side_by_side(
    frame: pl.DataFrame,
    ax: Axes | None,
    looks: Mapping[str, tuple[str, str, Any]],
    *,
    order: Sequence[str] = (*AGES, *_SAID),
    joined: bool = False,
) -> Axes:
    """Groups across, in order; each series with its marker, "none" for a hollow one."""
    ax = ax or paper.axes(6.4, 3.4)
    order = [group for group in order if group in set(frame["group"])]
    for place, (series, (marker, colour, style)) in enumerate(looks.items()):
        own = frame.filter(series=series)
        x = [order.index(group) + (place - (len(looks) - 1) / 2) * 0.18 for group in own["group"]]
        for at, low, high in zip(x, own["low"], own["high"], strict=True):
            if low is not None and high is not None:
                ax.plot([at, at], [low, high], color=colour, lw=1.8, solid_capstyle="butt", zorder=2)
        if joined:
            ax.plot(x, own["value"], color=colour, ls=style, lw=1.2, zorder=2)
        fill = "white" if style == "none" else colour
        ax.plot(x, own["value"], marker, color=fill, mec=colour, mew=1.6, ms=7, zorder=3)
        ax.plot([], [], marker, color=fill, mec=colour, mew=1.6, ms=7, label=series)
    names = [_SAID.get(group, _BUCKETS.get(group, paper.short(group))) for group in order]
    ax.set_xticks(range(len(order)), names)
    ax.tick_params(axis="x", length=0, labelsize=8.5)
    if sum(map(len, names)) > _BESIDE:
        ax.tick_params(axis="x", labelrotation=90)
    # An interval that says next to nothing runs out of the picture, instead of setting its scale.
    highest, surest = (frame[name].drop_nulls().to_numpy().max(initial=0.0) for name in ("high", "value"))
    ax.set_ylim(0, 1.08 * max(min(highest, _FAR * surest), surest) or 1.0)
    paper.plain(ax)
    paper.legend_above(ax)
    return ax
