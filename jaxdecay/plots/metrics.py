"""Figures of an evaluation, system by system, and what diversity costs."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from jaxdecay.errors import InputError
from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes

_ROOM = 0.15  # of what a curve spans: so far apart dots are named


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
    ax = ax or paper.axes(6.4, 1.2 + 0.34 * len(best))
    withheld = set(frame.filter(pl.col("time") == "withheld")["system"])
    for system, time, value, low, high in frame.iter_rows():
        shift = 0.0 if system not in withheld else (0.17 if time == "withheld" else -0.17)
        y, hollow = best.index(system) + shift, time == "withheld"
        colour = paper.ORANGE if system == "jaxdecay" else paper.DARK
        if low is not None and high is not None:
            ax.plot([low, high], [y, y], color=colour, lw=2, zorder=2, solid_capstyle="butt")
        fill = "white" if hollow else colour
        ax.plot(value, y, "o", color=fill, mec=colour, mew=1.6, ms=6.5, zorder=3)
    paper.rows(ax, best)
    paper.plain(ax)
    highest = frame.select(pl.max_horizontal("value", "high").max()).item()
    ax.set_xlim(0, highest * 1.05 if highest else 1)
    ax.set_xlabel(name)
    if withheld:
        for label, fill in (("time given", paper.DARK), ("time withheld", "white")):
            ax.plot([], [], "o", color=fill, mec=paper.DARK, mew=1.6, ms=6.5, label=label)
        paper.legend_above(ax)
    return ax


def trade_off_frame(curve: pl.DataFrame) -> pl.DataFrame:
    """Columns trade_off (1: relevance alone), ndcg, distance (mean of 1 - cosine within lists), in the order
    of the trade-off.

    Args:
        curve: a row for each trade-off at which held-out requests were re-ranked.
    """
    return curve.select(pl.col("trade_off", "ndcg", "distance").cast(pl.Float64)).sort("trade_off")


def plot_trade_off(frame: pl.DataFrame, ax: Axes | None = None, *, name: str = "NDCG@10") -> Axes:
    """What diversity costs: a dot for each trade-off, named where there is room, the plain list a square."""
    ax = ax or paper.axes(4.8, 3.4)
    ax.plot(frame["distance"], frame["ndcg"], "-o", color=paper.DARK, lw=1.8, ms=5)
    wide, high = (max(frame[of].max() - frame[of].min(), 1e-12) for of in ("distance", "ndcg"))  # type: ignore[operator]
    named: list[tuple[float, float]] = []
    for trade_off, ndcg, distance in frame.sort("trade_off", descending=True).iter_rows():
        place = distance / wide, ndcg / high
        if trade_off == 1:
            ax.plot(distance, ndcg, "s", color=paper.ORANGE, ms=9, zorder=3)
            below = {"textcoords": "offset points", "xytext": (-4, -12), "va": "top"}
            ax.annotate("relevance alone", (distance, ndcg), **below)
        elif all(abs(place[0] - x) >= _ROOM or abs(place[1] - y) >= _ROOM for x, y in named):
            ax.annotate(f"{trade_off:g}", (distance, ndcg), textcoords="offset points", xytext=(6, 5))
        else:
            continue
        named.append(place)
    paper.plain(ax)
    ax.margins(x=0.2, y=0.2)
    ax.set_xlabel("distance within a list (1 − cosine)")
    ax.set_ylabel(name)
    return ax
