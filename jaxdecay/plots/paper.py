"""What all pictures have in common: axes on a figure without a window, forms that stay apart in grey, an axis
of days."""

import datetime
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from jaxdecay.durations import show_days
from jaxdecay.errors import InputError

DARK, BLUE, ORANGE, PALE = "#1a1a1a", "#0072b2", "#d55e00", "#b8b8b8"
HEADS = {"revisit": ("o", BLUE), "similarity": ("s", ORANGE), "popularity": ("^", DARK)}
"""Marker and colour by head."""
# Dark to light, each with a dash of its own: twelve groups stay apart without colour.
LINES = [
    (colour, dash, width)
    for width in (2.6, 1.4)
    for colour, dash in (
        (DARK, "-"),
        (BLUE, (0, (6, 2))),
        (ORANGE, "-"),
        ("#009e73", (0, (3, 1, 1, 1))),
        ("#cc79a7", (0, (1.2, 1.2))),
        ("#7f7f7f", (0, (9, 3))),
    )
]
"""Colour, dash and width, one line after the other."""
_TICKS = {
    1 / 86_400: "1 s", 1 / 1440: "1 min", 1 / 144: "10 min", 1 / 24: "1 h", 0.25: "6 h", 1.0: "1 d",
    7.0: "1 w", 30.0: "30 d", 90.0: "90 d", 365.25: "1 y", 3652.5: "10 y", 36_525.0: "100 y",
}  # fmt: skip
_BETWEEN = {
    1 / 8640: "10 s", 1 / 2880: "30 s", 1 / 288: "5 min", 1 / 48: "30 min", 1 / 12: "2 h", 0.125: "3 h",
    0.5: "12 h", 2.0: "2 d", 3.0: "3 d", 14.0: "2 w", 60.0: "60 d", 180.0: "180 d", 730.5: "2 y",
    1095.75: "3 y", 1826.25: "5 y", 7305.0: "20 y", 18_262.5: "50 y",
}  # fmt: skip
_DAY = 86_400
_LONG = 28  # characters of a name


def axes(width: float, height: float) -> Axes:
    """Axes of a new figure, in inches; no window, no global state."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained").subplots()


def check_format(path: str | Path) -> None:
    """Raises InputError unless the name ends as that of a picture."""
    ending, known = Path(path).suffix.lower(), (".png", ".svg", ".pdf")
    if ending not in known:
        raise InputError(f"{path}: pictures end in {', '.join(known)}, not in {ending!r}; give another --out")


def save(ax: Axes, path: str | Path) -> Path:
    """Writes the figure that the axes stand in (PNG, SVG, PDF by the name's ending) and returns the path."""
    check_format(path)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.savefig(path)
    return Path(path)


def by_length(lengths: pl.DataFrame, groups: pl.Series) -> list[str]:
    """The groups: "all", then the shortest first, then those that have no length."""
    days = dict(lengths.iter_rows())
    return sorted(dict.fromkeys(groups), key=lambda name: (name != "all", days.get(name, math.inf)))


def finite(frame: pl.DataFrame, *columns: str) -> np.ndarray:
    """All finite positive numbers of some columns."""
    values = np.concatenate([frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in columns])
    return values[np.isfinite(values) & (values > 0)]


def short(name: str) -> str:
    """A name as drawn: its first 28 characters, and no dollar sign that would start a formula."""
    cut = name if len(name) <= _LONG else f"{name[: _LONG - 1]}…"
    return cut.replace("$", r"\$")


def rows(ax: Axes, names: Sequence[str]) -> None:
    """Names down the side, the first on top, a pale line between rows."""
    plain(ax)
    ax.set_yticks(range(len(names)), [short(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    for place in range(1, len(names)):
        ax.axhline(place - 0.5, color=PALE, lw=0.5, zorder=0)


def days_axis(
    ax: Axes, left: float, right: float, never: float | None = None, *, upright: bool = False
) -> None:
    """A logarithmic axis of days with ticks that people say; ``never`` has one of its own. ``upright``: the
    axis that goes up."""
    # The label of "never" takes a tenth of the axis: none may stand beside it.
    last = never / (right / left) ** 0.1 if never else right
    inside = {value: text for value, text in _TICKS.items() if left <= value <= last}
    if len(inside) < 2:
        inside = {value: text for value, text in sorted((_TICKS | _BETWEEN).items()) if left <= value <= last}
    if len(inside) < 2:
        inside = {value: show_days(value) for value in np.geomspace(left, right, 4)[1:3].tolist()}
    while len(inside) > 8:
        inside = dict(list(inside.items())[::2])
    if never:
        inside[never] = "never"
    if upright:
        ax.set_yscale("log")
        ax.set_yticks(list(inside), list(inside.values()))
        ax.set_yticks([], minor=True)
        ax.set_ylim(left, right)
    else:
        ax.set_xscale("log")
        ax.set_xticks(list(inside), list(inside.values()))
        ax.set_xticks([], minor=True)
        ax.set_xlim(left, right)


def moments(timestamps: Sequence[int] | np.ndarray, *, relative: bool) -> np.ndarray:
    """Seconds as an axis of time takes them: moments in UTC, or with a relative clock days."""
    seconds = np.asarray(timestamps, np.int64)
    return seconds / _DAY if relative else seconds.astype("datetime64[s]")


def time_axis(ax: Axes, *, relative: bool) -> None:
    """Dates as short as they can be, or days since the first event."""
    if relative:
        ax.set_xlabel("days since the first event")
        return
    locator = AutoDateLocator(minticks=3, maxticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=datetime.UTC))
    ax.set_xlabel("date (UTC)")


def plain(ax: Axes) -> None:
    """No frame but the two axes."""
    ax.spines[["top", "right"]].set_visible(False)


def legend_above(ax: Axes) -> None:
    """The legend in one line over the picture."""
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, borderaxespad=0.2, handletextpad=0.5
    )
