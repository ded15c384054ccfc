"""Pictures: half-lives, kernels, metrics, training. Each is a frame of what is drawn, and a function that
draws the frame into a matplotlib `Axes`.

Everything that a colour says is also said by a shape, a dash or a place, so that the pictures read in grey. A
plot function takes ``ax`` (default: a new figure that no window shows) and returns it; `save` writes it. The
extra ``plots`` is needed.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxdecay.durations import show_days
from jaxdecay.errors import InputError

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError:
    raise InputError("pictures need matplotlib, which is missing: pip install 'jaxdecay[plots]'") from None

_DARK, _BLUE, _ORANGE, _PALE = "#1a1a1a", "#0072b2", "#d55e00", "#b8b8b8"
_HEADS = {"revisit": ("o", _BLUE), "similarity": ("s", _ORANGE), "popularity": ("^", _DARK)}
# Dark to light, each with a dash of its own: twelve groups stay apart without colour.
_LINES = [
    (colour, dash, width)
    for width in (2.6, 1.4)
    for colour, dash in (
        (_DARK, "-"),
        (_BLUE, (0, (6, 2))),
        (_ORANGE, "-"),
        ("#009e73", (0, (3, 1, 1, 1))),
        ("#cc79a7", (0, (1.2, 1.2))),
        ("#7f7f7f", (0, (9, 3))),
    )
]
_TICKS = {
    1 / 86_400: "1 s", 1 / 1440: "1 min", 1 / 144: "10 min", 1 / 24: "1 h", 0.25: "6 h", 1.0: "1 d",
    7.0: "1 w", 30.0: "30 d", 90.0: "90 d", 365.25: "1 y", 3652.5: "10 y", 36_525.0: "100 y",
}  # fmt: skip


def half_lives_frame(half_lives: pl.DataFrame, truth: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """Learned half-lives with the planted ones beside them.

    Args:
        half_lives: what `jaxdecay.half_lives.half_lives` returns. truth: ``truth.json`` of a simulated log.

    Returns columns head, group, half_life_days, low, high (null: not estimated), planted_days (null: nothing
    was planted), a row per head and group. What the simulator plants is how soon people come back to an item,
    so it stands beside the revisit head.
    """
    planted = {name: one["half_life_days"] for name, one in (truth or {}).get("categories", {}).items()}
    there = pl.col("head") == "revisit"
    value = pl.col("group").replace_strict(planted, default=None, return_dtype=pl.Float64)
    return half_lives.select(
        "head", "group", "half_life_days", "low", "high", pl.when(there).then(value).alias("planted_days")
    )


def plot_half_lives(frame: pl.DataFrame, ax: Axes | None = None) -> Axes:
    """Half-lives by group (rows) and head (marker), 95 % intervals, a bar where one was planted."""
    ax = ax or _axes(6.4, 1.4 + 0.44 * frame["group"].n_unique())
    heads = [head for head in _HEADS if head in set(frame["head"])]
    groups = _by_length(frame.filter(head=heads[0]).select("group", "half_life_days"), frame["group"])
    finite = _finite(frame, "half_life_days", "low", "high", "planted_days")
    left, right = finite.min(initial=1.0) / 2, finite.max(initial=1.0) * 2
    never = right * (right / left) ** 0.08
    for head, group, half_life, low, high, planted in frame.iter_rows():
        shift = (heads.index(head) - (len(heads) - 1) / 2) * 0.26
        y = groups.index(group) + shift
        marker, colour = _HEADS[head]
        if low is not None and high is not None and math.isfinite(half_life):
            ax.plot([low, min(high, never)], [y, y], color=colour, lw=2.4, solid_capstyle="butt", zorder=2)
        ax.plot(min(half_life, never), y, marker, color=colour, ms=5.5, mec="white", mew=0.5, zorder=3)
        if planted is not None:
            ax.plot(planted, y, "|", color=_DARK, mew=2.4, ms=17, zorder=1.5)
    if any(np.isinf(frame[name].drop_nulls().to_numpy()).any() for name in ("half_life_days", "high")):
        ax.axvline(never / (right / left) ** 0.04, color=_PALE, lw=0.8)
        right = never * (right / left) ** 0.04
    _rows(ax, groups)
    _days_axis(ax, left, right, never if right > never else None)
    ax.set_xlabel("half-life")
    for head in heads:
        marker, colour = _HEADS[head]
        ax.plot([], [], marker, color=colour, mec="white", ms=6.5, label=head)
    if frame["planted_days"].is_not_null().any():
        ax.plot([], [], "|", color=_DARK, mew=2.4, ms=14, label="planted")
    _legend_above(ax)
    return ax


def kernels_frame(curves: Sequence[Any], *, head: str | None = None) -> pl.DataFrame:
    """Mean kernels as columns head, group, age_days, value (1 at age 0).

    Args:
        curves: `jaxdecay.curves.Curve`, from `jaxdecay.curves.mean_kernels`. head: only this one.
    """
    kept = [curve for curve in curves if head in (None, curve.head)]
    names = [(curve.head, curve.group) for curve in kept for _ in curve.age]
    return pl.DataFrame(
        {
            "head": pl.Series([head for head, _ in names], dtype=pl.String),
            "group": pl.Series([group for _, group in names], dtype=pl.String),
            "age_days": np.concatenate([np.zeros(0), *(curve.age for curve in kept)]),
            "value": np.concatenate([np.zeros(0), *(curve.value for curve in kept)]),
        }
    )


def plot_kernels(
    frame: pl.DataFrame, ax: Axes | None = None, *, head: str | None = None, longest: float = 365.25
) -> Axes:
    """What is left of an event by its age, a line per group; the dotted line is one half.

    Args:
        head: which head's kernels (default: the first in the frame). longest: age in days at the axis' end.
    """
    ax = ax or _axes(6.4, 3.8)
    head = head or (frame["head"][0] if len(frame) else "")
    shortest = 1 / 24
    chosen = frame.filter((pl.col("head") == head) & pl.col("age_days").is_between(shortest / 2, longest * 2))
    halved = chosen.filter(pl.col("value") <= 0.5).group_by("group").agg(pl.col("age_days").min())
    names = _by_length(halved, chosen["group"])
    order = [name for name in names if name != "all"] or names
    for place, name in enumerate(order):
        line = chosen.filter(pl.col("group") == name).sort("age_days")
        colour, dash, width = _LINES[place % len(_LINES)]
        ax.plot(line["age_days"], line["value"], color=colour, ls=dash, lw=width, label=name)
    ax.axhline(0.5, color=_DARK, lw=0.9, ls=":", zorder=1)
    _days_axis(ax, shortest, longest * 1.01)
    _plain(ax)
    ax.set_ylim(0, 1.02)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "½", "", "1"])
    ax.set_xlabel("age of the event")
    ax.set_ylabel(f"what is left ({head})" if head else "what is left")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=2.8)
    return ax


def metrics_frame(report: Mapping[str, Any], metric: str = "ndcg@10") -> pl.DataFrame:
    """One metric of every system: columns system, time ("given", "withheld" or "ignored"), value, low, high.

    ``report`` is what `jaxdecay evaluate --json` prints. Raises InputError when no system has the metric.
    """
    rows = []
    for system, entry in report["systems"].items():
        for time, place in (("given", "metrics"), ("withheld", "withheld")):
            figure = entry.get(place, {}).get(metric)
            if figure and figure["value"] is not None:
                said = time if entry.get("uses_time") else "ignored"
                rows.append((system, said, figure["value"], figure["low"], figure["high"]))
    if not rows:
        there = sorted({name for entry in report["systems"].values() for name in entry.get("metrics", {})})
        raise InputError(f"metric {metric!r}: no system has it; there are {', '.join(there) or 'none'}")
    return pl.DataFrame(
        rows,
        schema={"system": pl.String, "time": pl.String} | dict.fromkeys(("value", "low", "high"), pl.Float64),
        orient="row",
    )


def plot_metrics(frame: pl.DataFrame, ax: Axes | None = None, *, name: str = "NDCG@10") -> Axes:
    """A dot and its 95 % interval for each system, best first; hollow where the request time was withheld."""
    best = (
        frame.group_by("system").agg(pl.col("value").max()).sort("value", descending=True)["system"].to_list()
    )
    ax = ax or _axes(6.4, 1.2 + 0.34 * len(best))
    withheld = set(frame.filter(pl.col("time") == "withheld")["system"])
    for system, time, value, low, high in frame.iter_rows():
        shift = 0.0 if system not in withheld else (0.17 if time == "withheld" else -0.17)
        y, hollow = best.index(system) + shift, time == "withheld"
        colour = _ORANGE if system == "jaxdecay" else _DARK
        if low is not None and high is not None:
            ax.plot([low, high], [y, y], color=colour, lw=2, zorder=2, solid_capstyle="butt")
        fill = "white" if hollow else colour
        ax.plot(value, y, "o", color=fill, mec=colour, mew=1.6, ms=6.5, zorder=3)
    _rows(ax, best)
    _plain(ax)
    highest = frame.select(pl.max_horizontal("value", "high").max()).item()
    ax.set_xlim(0, highest * 1.05 if highest else 1)
    ax.set_xlabel(name)
    if withheld:
        for label, fill in (("time given", _DARK), ("time withheld", "white")):
            ax.plot([], [], "o", color=fill, mec=_DARK, mew=1.6, ms=6.5, label=label)
        _legend_above(ax)
    return ax


def history_frame(lines: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The evaluations of a run: columns epoch, loss, ndcg@10, settled, kept (of one row: what the run uses).

    ``lines``: ``history.jsonl``, as `jaxdecay.runs.HistoryLog.lines` reads it.
    """
    numbers = ("epoch", "loss", "ndcg@10")
    values: dict[str, list[Any]] = {name: [float(line[name]) for line in lines] for name in numbers}
    values["settled"] = [bool(line["settled"]) for line in lines]
    last = max((place for place, line in enumerate(lines) if line["kept"]), default=-1)
    values["kept"] = [place == last for place in range(len(lines))]
    types = {**dict.fromkeys(numbers, pl.Float64), "settled": pl.Boolean, "kept": pl.Boolean}
    return pl.DataFrame(values, schema=types)


def plot_history(frame: pl.DataFrame, ax: Axes | None = None, *, column: str = "ndcg@10") -> Axes:
    """``column`` (ndcg@10 or loss) after each epoch, a square after settling, a ring around what is used."""
    ax = ax or _axes(4.8, 3.0)
    colour = _BLUE if column == "ndcg@10" else _DARK
    trained, settled = frame.filter(~pl.col("settled")), frame.filter("settled")
    ax.plot(trained["epoch"], trained[column], "-o", color=colour, lw=2.2, ms=4.5, label="trained")
    if len(settled):
        ax.plot(settled["epoch"], settled[column], "s", color=_ORANGE, ms=7, label="settled")
    used = frame.filter("kept")
    ax.plot(used["epoch"], used[column], "o", ms=14, mfc="none", mec=_DARK, mew=1.4, label="in use")
    _plain(ax)
    ax.margins(y=0.12)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel("NDCG@10 on validation" if column == "ndcg@10" else "training loss")
    _legend_above(ax)
    return ax


def save(ax: Axes, path: str | Path) -> Path:
    """Writes the figure that the axes stand in (PNG, SVG, PDF by the name's ending) and returns the path."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(path)
    return Path(path)


def _by_length(lengths: pl.DataFrame, groups: pl.Series) -> list[str]:
    """The groups: "all", then the shortest first, then those that have no length."""
    days = dict(lengths.iter_rows())
    return sorted(dict.fromkeys(groups), key=lambda name: (name != "all", days.get(name, math.inf)))


def _axes(width: float, height: float) -> Axes:
    """Axes of a new figure, in inches; no window, no global state."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained").subplots()


def _finite(frame: pl.DataFrame, *columns: str) -> np.ndarray:
    values = np.concatenate([frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in columns])
    return values[np.isfinite(values) & (values > 0)]


def _rows(ax: Axes, names: Sequence[str]) -> None:
    """Names down the side, the first on top, a pale line between rows."""
    _plain(ax)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    for place in range(1, len(names)):
        ax.axhline(place - 0.5, color=_PALE, lw=0.5, zorder=0)


def _days_axis(ax: Axes, left: float, right: float, never: float | None = None) -> None:
    """A logarithmic axis of days with ticks that people say; ``never`` has one of its own."""
    ax.set_xscale("log")
    # The label of "never" takes a tenth of the axis: none may stand beside it.
    last = never / (right / left) ** 0.1 if never else right
    inside = {value: text for value, text in _TICKS.items() if left <= value <= last}
    if len(inside) < 2:
        inside = {value: show_days(value) for value in np.geomspace(left, right, 4)[1:3].tolist()}
    while len(inside) > 8:
        inside = dict(list(inside.items())[::2])
    if never:
        inside[never] = "never"
    ax.set_xticks(list(inside), list(inside.values()))
    ax.set_xticks([], minor=True)
    ax.set_xlim(left, right)


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)


def _legend_above(ax: Axes) -> None:
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, borderaxespad=0.2, handletextpad=0.5
    )
