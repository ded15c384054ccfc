"""Kernels: what is left of an event by its age."""

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from jaxdecay.curves import Curve
from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes
from jaxdecay.spreads import Spread

_EDGES = np.geomspace(1 / 24, 730.5, 97)
_MIDDLE = np.sqrt(_EDGES[:-1] * _EDGES[1:])
_LEARNED = ("age_days", "initial", "learned", "least", "most", "low", "high")
_SWING = 0.3  # of the mean: what a kernel without rhythm falls by within a stretch


def kernels_frame(curves: Sequence[Curve], *, head: str | None = None) -> pl.DataFrame:
    """Mean kernels as columns head, group, age_days, value (1 at age 0).

    Args:
        curves: from `jaxdecay.curves.mean_kernels`. head: only this one.
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
    ax = ax or paper.axes(6.4, 3.8)
    head = head or (frame["head"][0] if len(frame) else "")
    shortest = 1 / 24
    chosen = frame.filter((pl.col("head") == head) & pl.col("age_days").is_between(shortest / 2, longest * 2))
    halved = chosen.filter(pl.col("value") <= 0.5).group_by("group").agg(pl.col("age_days").min())
    names = paper.by_length(halved, chosen["group"])
    order = [name for name in names if name != "all"] or names
    for place, name in enumerate(order):
        line = chosen.filter(pl.col("group") == name).sort("age_days")
        colour, dash, width = paper.LINES[place % len(paper.LINES)]
        ax.plot(line["age_days"], line["value"], color=colour, ls=dash, lw=width, label=name)
    _left_over(ax, shortest, longest * 1.01, head)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=2.8)
    return ax


def learned_frame(
    initial: Sequence[Curve], learned: Sequence[Curve], spreads: Sequence[Spread] = ()
) -> pl.DataFrame:
    """The kernel of each head before and after training, over stretches of age a tenth long: columns head,
    age_days (middle), initial, learned (means), least, most (of the learned kernel: apart where it has a
    rhythm), low, high (between which the means of eight in ten events lie, each with its item's kernel; null
    without ``spreads``).

    Args:
        initial, learned: from `jaxdecay.curves.mean_kernels`, of parameters at step 0 and of the trained
            ones. spreads: from `jaxdecay.spreads.spreads`.
    """
    before = {curve.head: curve for curve in initial if curve.group == "all"}
    within = {one.head: one for one in spreads}
    parts = []
    for curve in learned:
        if curve.group != "all":
            continue
        start, band = before[curve.head], np.full((2, len(_MIDDLE)), np.nan)
        if one := within.get(curve.head):
            band = one.band(_over(np.mean, one.age, one.curves), (0.1, 0.9))
        numbers = {
            "age_days": _MIDDLE,
            "initial": _over(np.mean, start.age, start.value),
            "learned": _over(np.mean, curve.age, curve.value),
            "least": _over(np.min, curve.age, curve.value),
            "most": _over(np.max, curve.age, curve.value),
            "low": band[0],
            "high": band[1],
        }
        parts.append(pl.DataFrame({"head": [curve.head] * len(_MIDDLE)} | numbers).fill_nan(None))
    empty = pl.DataFrame(schema={"head": pl.String} | dict.fromkeys(_LEARNED, pl.Float64))
    return pl.concat([empty, *parts])


def plot_learned(frame: pl.DataFrame, ax: Axes | None = None, *, head: str | None = None) -> Axes:
    """The kernel of a head (default: the first in the frame): dashed before training, drawn out after it,
    between thin lines how far a rhythm swings, and a dark band in which the kernels of eight in ten events
    lie."""
    ax = ax or paper.axes(6.4, 3.8)
    head = head or (frame["head"][0] if len(frame) else "")
    chosen = frame.filter(pl.col("head") == head).sort("age_days")
    age = chosen["age_days"]
    if (chosen["most"] - chosen["least"] > _SWING * chosen["learned"]).any():
        swing = {"color": paper.PALE, "alpha": 0.35, "lw": 0.5, "label": "rhythm"}
        ax.fill_between(age, chosen["least"], chosen["most"], zorder=1, **swing)
    if chosen["low"].is_not_null().any():
        band = {"color": "#808080", "alpha": 0.7, "lw": 0, "label": "80 % of events"}
        ax.fill_between(age, chosen["low"], chosen["high"], zorder=2, **band)
    ax.plot(age, chosen["initial"], color=paper.BLUE, ls=(0, (5, 2)), lw=1.8, label="initial")
    ax.plot(age, chosen["learned"], color=paper.DARK, lw=2.4, label="learned")
    _left_over(ax, float(_EDGES[0]), float(_EDGES[-1]), head)
    paper.legend_above(ax)
    return ax


def _over(what: Callable[..., np.ndarray], age: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(..., stretches) ``what`` of the values (..., A) at the ages within each stretch; where there is none,
    the value at its middle."""
    edges = np.searchsorted(age, _EDGES)
    found = [
        what(values[..., begin:end], axis=-1) if begin < end else _at(middle, age, values)
        for begin, end, middle in zip(edges[:-1], edges[1:], _MIDDLE, strict=True)
    ]
    return np.stack(found, axis=-1)


def _at(middle: float, age: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.apply_along_axis(lambda curve: np.interp(middle, age, curve), -1, values)


def _left_over(ax: Axes, shortest: float, longest: float, head: str) -> None:
    """Axes of a kernel: age across, what is left upwards, a dotted line at one half."""
    ax.axhline(0.5, color=paper.DARK, lw=0.9, ls=":", zorder=1)
    paper.days_axis(ax, shortest, longest)
    paper.plain(ax)
    ax.set_ylim(0, 1.02)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "½", "", "1"])
    ax.set_xlabel("age of the event")
    ax.set_ylabel(f"what is left ({head})" if head else "what is left")
