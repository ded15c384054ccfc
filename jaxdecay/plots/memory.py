"""Effective memory: how far back lies what a head still goes by."""

import polars as pl

from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes


def memory_frame(memory: pl.DataFrame) -> pl.DataFrame:
    """Columns head, group, days_50, days_90: younger than that are the events that have 50 and 90 % of the
    weight.

    Args:
        memory: what `jaxdecay.half_lives.effective_memory` returns.
    """
    return memory.select("head", "group", pl.col("days_50", "days_90").cast(pl.Float64))


def plot_memory(frame: pl.DataFrame, ax: Axes | None = None) -> Axes:
    """A row for each group, a line for each head: thick up to the age behind which one half of the weight
    lies, thin on to that of nine tenths."""
    ax = ax or paper.axes(6.4, 1.4 + 0.44 * frame["group"].n_unique())
    heads = [head for head in paper.HEADS if head in set(frame["head"])]
    groups = paper.by_length(frame.filter(head=heads[0]).select("group", "days_50"), frame["group"])
    days = paper.finite(frame, "days_50", "days_90")
    left, right = days.min(initial=1.0) / 2, days.max(initial=1.0) * 1.5
    for head, group, *ages in frame.select("head", "group", "days_50", "days_90").iter_rows():
        y = groups.index(group) + (heads.index(head) - (len(heads) - 1) / 2) * 0.26
        marker, colour = paper.HEADS[head]
        half, most = (max(age, left) for age in ages)
        ax.plot([left, half], [y, y], color=colour, lw=4, solid_capstyle="butt", zorder=2)
        ax.plot([half, most], [y, y], color=colour, lw=1.2, zorder=2)
        ax.plot(half, y, marker, color=colour, ms=6.5, mec="white", mew=0.5, zorder=3)
        ax.plot(most, y, "|", color=colour, mew=1.8, ms=9, zorder=3)
    paper.rows(ax, groups)
    paper.days_axis(ax, left, right)
    ax.set_xlabel("age of the events (marker: 50 % of the weight is younger, bar: 90 %)")
    for head in heads:
        marker, colour = paper.HEADS[head]
        ax.plot([], [], marker, color=colour, mec="white", ms=6.5, label=head)
    paper.legend_above(ax)
    return ax
