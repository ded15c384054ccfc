"""Half-lives: of groups with their intervals, and how they lie over items or users."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes
from jaxdecay.spreads import Spread

_SPREAD = {"head": pl.String, "of": pl.String, "half_life_days": pl.Float64, "events": pl.Int64}
_BINS = 60
_FAR = 30.0  # times a half-life: how far an interval is followed


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


def plot_half_lives(frame: pl.DataFrame, ax: Axes | None = None, *, span: float | None = None) -> Axes:
    """Half-lives by group (rows) and head (marker), 95 % intervals, a bar where one was planted; grey beyond
    the ``span`` in days that training looked over."""
    ax = ax or paper.axes(6.4, 1.4 + 0.44 * frame["group"].n_unique())
    heads = [head for head in paper.HEADS if head in set(frame["head"])]
    groups = paper.by_length(frame.filter(head=heads[0]).select("group", "half_life_days"), frame["group"])
    # An interval that says next to nothing runs out of the picture, instead of setting its scale.
    low, high, day = (pl.col(name) for name in ("low", "high", "half_life_days"))
    near = frame.with_columns(
        pl.when(low.is_not_null()).then(pl.max_horizontal(low, day / _FAR)).alias("low"),
        pl.when(high.is_finite()).then(pl.min_horizontal(high, day * _FAR)).alias("high"),
    )
    finite = paper.finite(near, "half_life_days", "low", "high", "planted_days")
    left, right = finite.min(initial=1.0) / 2, finite.max(initial=1.0) * 2
    never = right * (right / left) ** 0.08
    for head, group, half_life, low, high, planted in frame.iter_rows():
        shift = (heads.index(head) - (len(heads) - 1) / 2) * 0.26
        y = groups.index(group) + shift
        marker, colour = paper.HEADS[head]
        if low is not None and high is not None and math.isfinite(half_life):
            ax.plot(
                [max(low, left), min(high, never)],
                [y, y],
                color=colour,
                lw=2.4,
                solid_capstyle="butt",
                zorder=2,
            )
        ax.plot(min(half_life, never), y, marker, color=colour, ms=5.5, mec="white", mew=0.5, zorder=3)
        if planted is not None:
            ax.plot(planted, y, "|", color=paper.DARK, mew=2.4, ms=17, zorder=1.5)
    if any(np.isinf(frame[name].drop_nulls().to_numpy()).any() for name in ("half_life_days", "high")):
        ax.axvline(never / (right / left) ** 0.04, color=paper.PALE, lw=0.8)
        right = never * (right / left) ** 0.04
    paper.rows(ax, groups)
    paper.days_axis(ax, left, right, never if right > never else None)
    sure = frame["low"].is_not_null().any()
    ax.set_xlabel("half-life (line: 95 % interval)" if sure else "half-life (intervals were not estimated)")
    if span is not None and span < right:
        ax.axvspan(max(span, left), right, color=paper.PALE, alpha=0.35, lw=0, zorder=0)
        ax.fill_between([], [], [], color=paper.PALE, alpha=0.35, lw=0, label="longer than the log")
    for head in heads:
        marker, colour = paper.HEADS[head]
        ax.plot([], [], marker, color=colour, mec="white", ms=6.5, label=head)
    if frame["planted_days"].is_not_null().any():
        ax.plot([], [], "|", color=paper.DARK, mew=2.4, ms=14, label="planted")
    paper.legend_above(ax)
    return ax


def spread_frame(spreads: Sequence[Spread]) -> pl.DataFrame:
    """Half-lives one by one: columns head, of ("items" or "users"), half_life_days (infinite: never), events.

    Args:
        spreads: `jaxdecay.spreads.Spread`, from `jaxdecay.spreads.spreads`.
    """
    parts = [
        pl.DataFrame(
            {
                "head": [one.head] * len(one.events),
                "of": [one.of] * len(one.events),
                "half_life_days": one.half_lives(),
                "events": one.events,
            },
            schema=_SPREAD,
        )
        for one in spreads
    ]
    return pl.concat([pl.DataFrame(schema=_SPREAD), *parts])


def plot_spread(frame: pl.DataFrame, ax: Axes | None = None) -> Axes:
    """How half-lives lie over items or users, a row for each head: as many events as the row is high, a bar
    at the median, and what share never halves."""
    names = list(frame.select("head", "of").unique(maintain_order=True).iter_rows())
    ax = ax or paper.axes(6.4, 1.2 + 0.8 * len(names))
    days = paper.finite(frame, "half_life_days")
    left, right = days.min(initial=1.0) / 1.5, days.max(initial=1.0) * 1.5
    edges = np.geomspace(left, right, _BINS + 1)
    forever = bool(np.isinf(frame["half_life_days"].to_numpy()).any())
    never = right * (right / left) ** 0.1
    for row, (head, of) in enumerate(names):
        one = frame.filter(head=head, of=of)
        half_life, events = one["half_life_days"].to_numpy(), one["events"].to_numpy()
        comes = np.isfinite(half_life)
        counted = np.histogram(half_life[comes], edges, weights=events[comes])[0]
        top, floor = row + 0.4 - 0.78 * counted / max(counted.max(), 1), row + 0.4
        ax.stairs(top, edges, baseline=floor, fill=True, color=paper.HEADS[head][1], alpha=0.35, zorder=2)
        ax.stairs(top, edges, baseline=None, color=paper.HEADS[head][1], lw=1.6, zorder=3)
        middle = _median(half_life, events)
        if math.isfinite(middle):
            ax.plot([middle, middle], [row - 0.4, floor], color=paper.DARK, lw=2.2, zorder=4)
        lasting = events[~comes].sum() / events.sum()
        if lasting:
            ax.text(never, row, f"{lasting:.0%}", ha="center", va="center", color=paper.DARK)
    if forever:
        ax.axvline(never / (right / left) ** 0.05, color=paper.PALE, lw=0.8)
        right = never * (right / left) ** 0.05
    paper.rows(ax, [f"{head}, {of}" for head, of in names])
    paper.days_axis(ax, left, right, never if forever else None)
    ax.set_xlabel("half-life (height: events; bar: median)")
    return ax


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    behind = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(behind, behind[-1] / 2)])
