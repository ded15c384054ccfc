"""The weights over a history: what is left of each event, and what it adds to a score."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes

_LEAST = 1 / 1440  # days: the youngest age that is drawn as it is
_NAMED = 3
_TOGETHER = 0.1  # of the picture's width and height: names would overlap


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
    """A stem for each event by its age, as high as what is left of it; a marker as large as what it adds to
    the score, hollow where that takes away. Those that add the most are named."""
    ax = ax or paper.axes(6.4, 3.4)
    told = frame["weight"].is_not_null().any()
    height = "weight" if told else "contribution"
    age = np.maximum(frame["age_days"].to_numpy(), _LEAST)
    left, right = age.min(initial=1.0) / 1.5, age.max(initial=1.0) * 1.6
    most = max(float(np.abs(frame["contribution"].to_numpy()).max(initial=0)), 1e-12)
    for x, (head, _, _, weight, contribution) in zip(age, frame.iter_rows(), strict=True):
        marker, colour = paper.HEADS.get(head, ("o", paper.DARK))
        y = weight if told else contribution
        fill = colour if contribution >= 0 else "white"
        size = 3 + 9 * np.sqrt(abs(contribution) / most)
        ax.plot([x, x], [0, y], color=colour, lw=0.8, alpha=0.6, zorder=2)
        ax.plot(x, y, marker, color=fill, mec=colour, ms=size, zorder=3)
    _name_the_strongest(ax, frame, age, height)
    paper.days_axis(ax, left, right)
    paper.plain(ax)
    ax.margins(y=0.15)
    if (frame[height].fill_null(0) >= 0).all():
        ax.set_ylim(bottom=0)
    ax.set_xlabel("age of the event")
    ax.set_ylabel("what is left of it" if told else "what it adds to the score")
    for head in [head for head in paper.HEADS if head in set(frame["head"])]:
        marker, colour = paper.HEADS[head]
        ax.plot([], [], marker, color=colour, ms=6.5, label=head)
    if told:
        paper.legend_above(ax)
    return ax


def _name_the_strongest(ax: Axes, frame: pl.DataFrame, age: np.ndarray, height: str) -> None:
    """Each name once, beside the event of that name that adds the most; below each other where such events
    stand together, as those of one basket do."""
    ranked = frame.with_row_index("row").sort("contribution", descending=True)
    best = ranked.unique("name", keep="first", maintain_order=True)
    span = np.log(max(age.max(initial=1.0) / age.min(initial=1.0), 1.001))
    tall = np.abs(frame[height].fill_null(0).to_numpy()).max(initial=1e-12)
    beside: list[np.ndarray] = []
    for row in best.filter(pl.col("contribution") > 0).head(_NAMED)["row"]:
        name, y = paper.short(frame["name"][row]), frame[height][row]
        place = np.array([np.log(age[row]) / span, y / tall])
        above = sum(bool((np.abs(place - other) < _TOGETHER).all()) for other in beside)
        beside.append(place)
        right = np.log(age[row] / age.min()) > 0.6 * span
        ax.annotate(
            name, (age[row], y), textcoords="offset points", xytext=(-7 if right else 7, 4 - 11 * above),
            ha="right" if right else "left", fontsize=9,
        )  # fmt: skip
