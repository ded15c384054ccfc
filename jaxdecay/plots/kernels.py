"""Kernels: what is left of an event by its age."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d

from jaxdecay.curves import Curve
from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes
from jaxdecay.spreads import Spread

_MINUTE, _HOUR, _LONGEST = 1 / 1440, 1 / 24, 730.5
_AGES = np.geomspace(_MINUTE, _LONGEST, 1400)
_LEARNED = ("age_days", "initial", "learned", "least", "most", "low", "high")
_FINE, _PLAIN = 0.1, 0.25  # of an age: a turn of less is a smear, one of more is seen
_TURN = 64  # points in a turn of the finest rhythm
_SEEN = 0.02  # of what there is at age 0: a band that is nowhere wider lies behind its line


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
    chosen = frame.filter(pl.col("head") == head)
    halved = chosen.filter(pl.col("value") <= 0.5).group_by("group").agg(pl.col("age_days").min())
    shortest = _shortest(halved["age_days"])
    chosen = chosen.filter(pl.col("age_days").is_between(shortest / 2, longest * 2))
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
    """The kernel of each head before and after training: columns head, age_days, initial, learned, least,
    most, low, high (between which eight in ten events lie, each with its item's kernel; null without
    ``spreads``). From the age on at which a turn of a rhythm takes less than 10 % of it, all are means over
    one turn, and least and most are those of the learned kernel within it; from 25 % on they pass over to
    that.

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
        start, band = before[curve.head], np.full((2, len(_AGES)), np.nan)
        if one := within.get(curve.head):
            means = [_means(one.age, values, curve.periods) for values in one.curves]
            band = one.band(np.stack(means), (0.1, 0.9))
        least, most = _range(curve.age, curve.value, curve.periods)
        numbers = {
            "age_days": _AGES,
            "initial": _means(start.age, start.value, start.periods),
            "learned": _means(curve.age, curve.value, curve.periods),
            "least": least,
            "most": most,
            "low": band[0],
            "high": band[1],
        }
        parts.append(pl.DataFrame({"head": [curve.head] * len(_AGES)} | numbers).fill_nan(None))
    empty = pl.DataFrame(schema={"head": pl.String} | dict.fromkeys(_LEARNED, pl.Float64))
    return pl.concat([empty, *parts])


def plot_learned(frame: pl.DataFrame, ax: Axes | None = None, *, head: str | None = None) -> Axes:
    """The kernel of a head (default: the first in the frame): dashed before training, drawn out after it, and
    a dark band in which the kernels of eight in ten events lie. Where a rhythm is finer than the picture, a
    pale band shows how far it swings, and lines are means. From an hour on, or from a minute where half is
    gone within the hour."""
    ax = ax or paper.axes(6.4, 3.8)
    head = head or (frame["head"][0] if len(frame) else "")
    chosen = frame.filter(pl.col("head") == head).sort("age_days")
    shortest = _shortest(chosen.filter(pl.col("learned") <= 0.5)["age_days"])
    chosen = chosen.filter(pl.col("age_days") >= shortest * 0.99)
    age = chosen["age_days"]
    if (chosen["most"] - chosen["least"] > _SEEN).any():
        swing = {"color": "#dcdcdc", "lw": 0, "label": "swing of rhythms"}
        ax.fill_between(age, chosen["least"], chosen["most"], zorder=1, **swing)
    if (chosen["high"] - chosen["low"] > _SEEN).any():
        band = {"color": "#909090", "lw": 0, "label": "80 % of events"}
        ax.fill_between(age, chosen["low"], chosen["high"], zorder=2, **band)
    ax.plot(age, chosen["initial"], color=paper.BLUE, ls=(0, (5, 2)), lw=1.8, label="initial")
    ax.plot(age, chosen["learned"], color=paper.DARK, lw=2.4, label="learned")
    _left_over(ax, shortest, _LONGEST, head)
    paper.legend_above(ax)
    return ax


def _too_fine(turn: float) -> np.ndarray:
    """For each age drawn, how far a rhythm of that many days is a smear: from 0, seen, to 1; in between it
    passes over smoothly, so that nothing in the picture begins with a step."""
    passed = np.clip(np.log(_PLAIN * _AGES / turn) / np.log(_PLAIN / _FINE), 0.0, 1.0)
    return passed**2 * (3.0 - 2.0 * passed)


def _means(age: np.ndarray, values: np.ndarray, periods: Sequence[float]) -> np.ndarray:
    """The values (A,) at the ages drawn, over one turn of what is too fine there."""
    drawn = np.interp(_AGES, age, values)
    until = np.append(0.0, np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(age)))
    for turn in sorted(periods):
        begin, end = (np.interp(_AGES + half, age, until) for half in (-turn / 2, turn / 2))
        drawn += _too_fine(turn) * ((end - begin) / turn - drawn)
    return drawn


def _range(age: np.ndarray, values: np.ndarray, periods: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Least and most of the values (A,) within one turn of what is too fine at the ages drawn."""
    least, most = np.interp(_AGES, age, values), np.interp(_AGES, age, values)
    step = min(periods, default=_LONGEST) / _TURN
    even = np.arange(0.0, _LONGEST + step, step)
    at = np.interp(even, age, values)
    for turn in sorted(periods):
        size, share = round(turn / step), _too_fine(turn)
        for drawn, extreme in ((least, minimum_filter1d), (most, maximum_filter1d)):
            # Extremes within a turn go in steps of a turn, whose means over one lie on a line.
            edge = uniform_filter1d(extreme(at, size, mode="nearest"), size, mode="nearest")
            drawn += share * (np.interp(_AGES, even, edge) - drawn)
    return least, most


def _shortest(halved: pl.Series) -> float:
    """Days at which the axis begins, by the ages at which kernels have halved."""
    return _MINUTE if (halved < _HOUR).any() else _HOUR


def _left_over(ax: Axes, shortest: float, longest: float, head: str) -> None:
    """Axes of a kernel: age across, what is left upwards, a dotted line at one half."""
    ax.axhline(0.5, color=paper.DARK, lw=0.9, ls=":", zorder=1)
    paper.days_axis(ax, shortest, longest)
    paper.plain(ax)
    ax.set_ylim(0, 1.02)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "½", "", "1"])
    ax.set_xlabel("age of the event")
    ax.set_ylabel(f"what is left ({head})" if head else "what is left")
