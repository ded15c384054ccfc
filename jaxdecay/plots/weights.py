"""The weights over a history: with what weight each event stands in the interest, and what it adds to a
score."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes

_LEAST = 1 / 1440  # days: the youngest age that is drawn as it is
_NAMED = 3
_LITTLE = 0.25  # of an axis
_WORTH = 0.1  # of what the strongest adds: events that add less are not named


def weights_frame(rows: pl.DataFrame, titles: Mapping[Any, str] | None = None) -> pl.DataFrame:
    """The events of an explanation: columns head, name, age_days, weight (null: taken apart by leaving events
    out), contribution.

    Args:
        rows: `jaxdecay.explain.Explanation.rows`. titles: what items are called, by id.
    """
    called = titles or {}
    own = rows.filter(pl.col("source") == "event")
    # Of the revisit head only the events of that very item count.
    counted = own.filter((pl.col("head") != "revisit") | (pl.col("weight") > 0))
    name = pl.Series("name", [str(called.get(item, item)) for item in counted["item_id"]], dtype=pl.String)
    numbers = pl.col("age_days", "weight", "contribution").cast(pl.Float64)
    return counted.with_columns(name).select("head", "name", numbers)


def plot_weights(frame: pl.DataFrame, ax: Axes | None = None) -> Axes:
    """A stem for each event by its age, as high as the weight with which it stands in the interest (under
    revisit: in the count of that very item), or, where events were left out one by one, as what it adds. A
    marker is as large as what the event adds to the score, hollow where that takes away. Those that add the
    most are named above."""
    ax = ax or paper.axes(6.4, 3.8)
    told = frame["weight"].is_not_null().any()
    height = "weight" if told else "contribution"
    age = np.maximum(frame["age_days"].to_numpy(), _LEAST)
    most = max(float(np.abs(frame["contribution"].to_numpy()).max(initial=0)), 1e-12)
    for x, (head, _, _, weight, contribution) in zip(age, frame.iter_rows(), strict=True):
        marker, colour = paper.HEADS.get(head, ("o", paper.DARK))
        y = weight if told else contribution
        fill = colour if contribution >= 0 else "white"
        size = 3 + 9 * np.sqrt(abs(contribution) / most)
        ax.plot([x, x], [0, y], color=colour, lw=0.8, alpha=0.6, zorder=2)
        ax.plot(x, y, marker, color=fill, mec=colour, ms=size, alpha=0.85, zorder=3)
    paper.plain(ax)
    named = _strongest(frame)
    across = _ages(ax, age)
    _heights(ax, frame[height].fill_null(0).to_numpy(), len(named))
    _name(ax, frame, age, named, height)
    sized = "a marker's size: what it adds to the score; " if told else ""
    ax.set_xlabel(f"{across}\n({sized}hollow: it takes away)")
    ax.set_ylabel("weight in the interest" if told else "what it adds to the score")
    for head in [head for head in paper.HEADS if head in set(frame["head"])]:
        marker, colour = paper.HEADS[head]
        ax.plot([], [], marker, color=colour, ms=6.5, label=head)
    if told:
        paper.legend_above(ax)
    return ax


def _ages(ax: Axes, age: np.ndarray) -> str:
    """An axis over the events that there are, and its name: logarithmic, unless the middle half of them would
    have little of it."""
    first, early, late, last = np.quantile(age, (0, 0.25, 0.75, 1)) if len(age) else np.ones(4)
    if first < last and np.log(late / early) < _LITTLE * np.log(last / first):
        room = 0.06 * (last - first)
        ax.set_xlim(max(first - room, -room / 2), last + room)  # the marker of an age of 0 is whole
        return "age of the event in days"
    paper.days_axis(ax, first / 1.5, last * 1.6)
    return "age of the event"


def _heights(ax: Axes, heights: np.ndarray, names: int) -> None:
    """Room for the markers, and above them a line for each name."""
    low, high = min(heights.min(initial=0), 0), max(heights.max(initial=0), 1e-12)
    low, high = (low - 0.08 * (high - low) if low else 0.0), high + 0.08 * (high - low)
    ax.set_ylim(low, high + 0.09 * names * (high - low))


def _strongest(frame: pl.DataFrame) -> list[int]:
    """Rows of the names to be told: each name once, by the event of that name that adds the most."""
    best = frame.with_row_index("row").sort("contribution", descending=True, maintain_order=True)
    best = best.unique("name", keep="first", maintain_order=True)
    worth = best.filter(pl.col("contribution") > max(_WORTH * (best["contribution"].max() or 0), 0))  # type: ignore[operator]
    return worth.head(_NAMED)["row"].to_list()


def _name(ax: Axes, frame: pl.DataFrame, age: np.ndarray, named: list[int], height: str) -> None:
    """A line of its own for each name, the highest for the outermost, and a thread down to the event."""
    bottom, top = ax.get_ylim()
    across = ax.transData.transform(np.stack([age[named], np.zeros(len(named))], axis=1))[:, 0]
    share = (across - ax.bbox.x0) / ax.bbox.width
    order = sorted(range(len(named)), key=lambda place: abs(share[place] - 0.5), reverse=True)
    for line, place in enumerate(order):
        row, right = named[place], share[place] > 0.5
        level = top - (0.4 + line) * 0.08 * (top - bottom)
        ax.plot([age[row]] * 2, [frame[height][row], level], color=paper.DARK, lw=0.8, ls=":", zorder=4)
        ax.annotate(
            paper.short(frame["name"][row]), (age[row], level), textcoords="offset points",
            xytext=(-5 if right else 5, 0), ha="right" if right else "left", va="center", fontsize=9,
            bbox={"fc": "white", "ec": "none", "pad": 0.6}, zorder=5,
        )  # fmt: skip
