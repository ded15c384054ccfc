"""One user's interests in time: what part of the faded interest each has, and when that moved."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from jaxdecay.data.histories import Histories
from jaxdecay.drift import Drift
from jaxdecay.plots import paper
from jaxdecay.plots.paper import Axes

_DAY = 86_400.0
_MOST = 6  # rows


def trajectory_frame(
    histories: Histories, user: int, kind: np.ndarray, names: Sequence[str], drift: Drift
) -> pl.DataFrame:
    """Shares of a user's interests after each event: columns timestamp, name, lately, before (shares of the
    events faded at the fast and at the slow half-life of the drift), happened (whether the event is of that
    name), drifted (whether an alarm began at it). A row for each event and name.

    Args:
        user: index. kind: (V,) int, the number of each item's name. names: by which items are
            called; the six with the largest shares are in the frame, the largest first.
    """
    begin, end = (int(edge) for edge in histories.offsets[user : user + 2])
    time, of = np.asarray(histories.time)[begin:end], kind[np.asarray(histories.item)[begin:end]]
    met, place = np.unique(of, return_inverse=True)
    one = np.eye(len(met))[place]
    gap = np.diff(time, prepend=time[:1]) / _DAY
    faded = [_faded(one, gap, half_life) for half_life in drift.half_lives]
    order = np.argsort(-sum(shares.sum(axis=0) for shares in faded), kind="stable")
    alarms = set(drift.detections.filter(pl.col("stream") == user)["event"])
    parts = [
        pl.DataFrame(
            {
                "timestamp": time,
                "name": [names[met[row]]] * len(time),
                "lately": faded[0][:, row],
                "before": faded[1][:, row],
                "happened": one[:, row] > 0,
                "drifted": [event in alarms for event in range(begin, end)],
            }
        )
        for row in order[:_MOST]
    ]
    return pl.concat(parts)


def plot_trajectory(frame: pl.DataFrame, ax: Axes | None = None, *, relative: bool = False) -> Axes:
    """A row for each interest, the strongest on top: filled as high as its share lately, a line at its share
    before, a tick under it for each of its events, and an upright dashed line where the user drifted. All
    rows have the scale of the largest share, which is said; what is higher among the first fifth of the
    events, when there was little else, is cut off.

    ``relative``: times count from the user's first event.
    """
    settled = frame.filter(pl.int_range(pl.len()).over("name") >= pl.len().over("name") // 5)
    most = max(float(settled.select("lately", "before").to_numpy().max(initial=0)), 1e-12)
    names = frame["name"].unique(maintain_order=True).to_list()
    ax = ax or paper.axes(6.4, 1.2 + 0.5 * len(names))
    for row, name in enumerate(names):
        own = frame.filter(pl.col("name") == name)
        when, floor = paper.moments(own["timestamp"].to_numpy(), relative=relative), row + 0.3
        lately, before = (
            floor - 0.72 * np.minimum(own[column].to_numpy() / most, 1.1) for column in ("lately", "before")
        )
        ax.fill_between(when, floor, lately, step="post", color=paper.BLUE, alpha=0.45, lw=0)
        ax.step(when, before, where="post", color=paper.DARK, lw=1.3)
        ticks = when[own["happened"].to_numpy()]
        ax.plot(ticks, np.full(len(ticks), row + 0.39), "|", color=paper.DARK, ms=5, mew=0.8, alpha=0.7)
    first = frame.filter(pl.col("name") == names[0])
    for moment in paper.moments(first.filter("drifted")["timestamp"].to_numpy(), relative=relative):
        ax.axvline(moment, color=paper.ORANGE, lw=1.8, ls=(0, (4, 2)), zorder=4)
    paper.rows(ax, names)
    paper.time_axis(ax, relative=relative)
    ax.set_xlabel(f"{ax.get_xlabel()}; a full row is {most:.0%} of the interest")
    ax.fill_between([], [], [], color=paper.BLUE, alpha=0.45, lw=0, label="lately")
    ax.plot([], [], color=paper.DARK, lw=1.3, label="before")
    ax.plot([], [], "|", color=paper.DARK, ms=7, label="event")
    if first["drifted"].any():
        ax.plot([], [], color=paper.ORANGE, lw=1.8, ls=(0, (4, 2)), label="drift")
    paper.legend_above(ax)
    return ax


def _faded(one: np.ndarray, gap: np.ndarray, half_life: float) -> np.ndarray:
    """(n, K) shares after each event of what is left of all events up to it."""
    left, result = np.zeros(one.shape[1]), np.empty(one.shape)
    for row, (event, days) in enumerate(zip(one, gap, strict=True)):
        left = left * np.exp2(-days / half_life) + event
        result[row] = left / max(left.sum(), 1e-12)
    return result
