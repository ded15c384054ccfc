"""A run while it was trained."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.ticker import MaxNLocator

from jaxdecay.errors import InputError
from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes


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
    ax = ax or paper.axes(4.8, 3.0)
    colour = paper.BLUE if column == "ndcg@10" else paper.DARK
    trained, settled = frame.filter(~pl.col("settled")), frame.filter("settled")
    ax.plot(trained["epoch"], trained[column], "-o", color=colour, lw=2.2, ms=4.5, label="trained")
    if len(settled):
        ax.plot(settled["epoch"], settled[column], "s", color=paper.ORANGE, ms=7, label="settled")
    used = frame.filter("kept")
    ax.plot(used["epoch"], used[column], "o", ms=14, mfc="none", mec=paper.DARK, mew=1.4, label="in use")
    paper.plain(ax)
    ax.margins(y=0.12)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylabel("NDCG@10 on validation" if column == "ndcg@10" else "training loss")
    paper.legend_above(ax)
    return ax


def training_half_lives_frame(lines: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Half-lives after each evaluation of a run: columns epoch, head, group, half_life_days (infinite:
    never), settled.

    ``lines`` as in `history_frame`. Raises InputError when they hold no half-lives.
    """
    if not all("half_lives" in line for line in lines):
        raise InputError(
            "history.jsonl holds no half-lives: the run is from before they were written down; train it again"
        )
    rows = [
        (float(line["epoch"]), head, group, math.inf if days is None else days, bool(line["settled"]))
        for line in lines
        for head, groups in line["half_lives"].items()
        for group, days in groups.items()
    ]
    types = {"epoch": pl.Float64, "head": pl.String, "group": pl.String, "half_life_days": pl.Float64}
    return pl.DataFrame(rows, schema={**types, "settled": pl.Boolean}, orient="row")


def plot_training_half_lives(frame: pl.DataFrame, ax: Axes | None = None, *, group: str = "all") -> Axes:
    """The half-life of each head after each epoch, hollow after settling; where it would never come there is
    no point."""
    ax = ax or paper.axes(4.8, 3.2)
    chosen = frame.filter(pl.col("group") == group, pl.col("half_life_days").is_finite())
    for head, (marker, colour) in paper.HEADS.items():
        own = chosen.filter(head=head).sort("epoch")
        if not len(own):
            continue
        ax.plot(own["epoch"], own["half_life_days"], color=colour, lw=2, zorder=1)
        ax.plot([], [], marker, color=colour, ms=6.5, label=head)
        for epoch, days, settled in own.select("epoch", "half_life_days", "settled").iter_rows():
            ax.plot(epoch, days, marker, color="white" if settled else colour, mec=colour, mew=1.5, ms=6.5)
    days = paper.finite(chosen, "half_life_days")
    paper.days_axis(ax, days.min(initial=1.0) / 2, days.max(initial=1.0) * 2, upright=True)
    paper.plain(ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch (hollow: after settling)" if chosen["settled"].any() else "epoch")
    ax.set_ylabel("half-life")
    paper.legend_above(ax)
    return ax
