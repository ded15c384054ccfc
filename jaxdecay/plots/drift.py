"""The drift statistic of one user."""

import numpy as np
import polars as pl

from jaxdecay.data.histories import Histories
from jaxdecay.drift import Drift
from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes


def statistic_frame(histories: Histories, user: int, drift: Drift) -> pl.DataFrame:
    """The statistic after each event of a user (index): columns timestamp, statistic, threshold, alarm (where
    one begins). ``drift``: of all users of the histories."""
    begin, end = (int(edge) for edge in histories.offsets[user : user + 2])
    alarms = set(drift.detections.filter(pl.col("stream") == user)["event"])
    return pl.DataFrame(
        {
            "timestamp": np.asarray(histories.time)[begin:end],
            "statistic": drift.statistic[begin:end].astype(np.float64),
            "threshold": np.full(end - begin, drift.threshold),
            "alarm": [row in alarms for row in range(begin, end)],
        }
    )


def plot_statistic(frame: pl.DataFrame, ax: Axes | None = None, *, relative: bool = False) -> Axes:
    """The statistic in time, the threshold dashed, a triangle where an alarm begins; the dotted line is what
    chance alone makes. ``relative``: times count from the user's first event."""
    ax = ax or paper.axes(6.4, 2.8)
    when = paper.moments(frame["timestamp"].to_numpy(), relative=relative)
    # Between events it stays what the latest made it.
    ax.plot(
        when, frame["statistic"], "-o", drawstyle="steps-post",
        color=paper.BLUE, lw=1.4, ms=2.8, label="fast against slow",
    )  # fmt: skip
    ax.plot(when, frame["threshold"], color=paper.DARK, lw=1.6, ls=(0, (5, 2)), label="threshold")
    ax.axhline(1.0, color=paper.DARK, lw=0.9, ls=":", zorder=1)
    alarms = frame["alarm"].to_numpy()
    if alarms.any():
        ax.plot(
            when[alarms], frame["statistic"].to_numpy()[alarms], "v",
            color=paper.ORANGE, mec=paper.DARK, ms=9, label="alarm", zorder=4,
        )  # fmt: skip
    paper.plain(ax)
    ax.set_ylim(bottom=0)
    ax.margins(y=0.15)
    paper.time_axis(ax, relative=relative)
    ax.set_ylabel("drift statistic")
    paper.legend_above(ax)
    return ax
