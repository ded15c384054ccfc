r"""The half-lives that a run has learned, by head and group of events, with intervals.

The half-life of a group is the age at which its mean kernel (`jaxdecay.curves`) has first fallen to one half,
possibly never. The interval is the half-life times $e^{\pm t\,s}$, with a standard deviation $s$ of its
logarithm. Bootstrap: that of refits on users drawn with replacement (`jaxdecay.refit`), about the half-life
of the refit that counts every user once, with Student's $t$ for as many refits. Laplace: the curvature of the
log-posterior (`jaxdecay.laplace`) carried on to the half-life, and beside it, since the mean is over users,
what it varies by from one set of users to another; about the half-life of the trained parameters, with $t =
1.96$.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from jaxdecay.assembly import Pieces, assemble, load_model
from jaxdecay.curves import CENTURY, Curve, Events, Grouping, mean_kernels
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.expect import whole
from jaxdecay.influence import influences, slopes
from jaxdecay.interest import SHORTEST
from jaxdecay.laplace import laplace
from jaxdecay.model_options import ModelOptions
from jaxdecay.modes import first_half
from jaxdecay.refit import pose
from jaxdecay.train import TrainOptions

_DAY = 86_400.0
_NORMAL = 1.959964  # 97.5 % quantile
_BEYOND = 99.0  # of the logarithm of a half-life, more than from a second to a century
TOLD = 0.05
"""What a rhythm has to be of a kernel at age 0 to be told."""

Intervals = Literal["bootstrap", "laplace"]


def half_lives(
    run: str | Path,
    *,
    grouping: Grouping | None = None,
    intervals: Intervals = "bootstrap",
    bootstrap: int = 400,
    seed: int = 0,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> pl.DataFrame:
    """A row per head and group: head, group, half_life_days (infinite: never), low, high (95 %), events,
    periods_days, widths_days (how far from each period one half of that rhythm is left), of the rhythms that
    have at least 5 % of the group's weight. A bound beyond a century is infinite, too, and one of less than a
    second is a second: so short a half-life is told of no log.

    Args:
        grouping: of the training events (default: by item group).
        intervals: bootstrap takes six passes over the log; laplace one over 500 users, so that it is there in
            seconds.
        bootstrap: refits; 0 gives no intervals (null), as where half-lives were not learned or never come.
            Then, and with laplace, half-lives are those of the trained parameters as they are, not of the
            refit that counts every user once: that one has gone five steps further, and differs by a few per
            cent, or by more after training cut short. The refit is by the full softmax, whose popularity is
            that of at most 512 points of time: after training on negatives, where items come and go between
            two points, popularity's may differ by more.
        seed: of the draws.
        report: called with {"sweep": i, "sweeps": n} before each pass over the log.
    """
    if intervals not in get_args(Intervals):
        raise InputError(f"intervals={intervals!r}: give {' or '.join(get_args(Intervals))}")
    if whole("bootstrap", bootstrap) == 1:
        raise InputError("bootstrap=1: give 0 for no intervals, or at least 2 refits (400 do well)")
    whole("seed", seed)
    run = Path(run)
    model, params, config = load_model(run)
    histories = Histories.load(run / "histories")
    learned = bool(bootstrap) and config["half_lives"]["how"] == "learned"
    if learned and intervals == "bootstrap":
        curves, spreads = _refitted(histories, model, params, config, grouping, bootstrap, seed, report)
    else:
        curves = mean_kernels(histories, model, params, grouping)
        spreads = np.full(len(curves), np.nan)
        if learned:
            report({"sweep": 1, "sweeps": 1})
            spreads = _curved(histories, model, params, config, grouping, curves, seed)
    quantile = _NORMAL if intervals == "laplace" else _student(bootstrap - 1)
    rows = []
    for curve, spread in zip(curves, spreads, strict=True):
        half = float(first_half(curve.age, curve.value))
        bounds = [half * np.exp(sign * min(quantile * spread, _BEYOND)) for sign in (-1, 1)]
        known = np.isfinite(half) and np.isfinite(spread)
        low, high = (_within(float(b)) if known else None for b in bounds)
        told = [place for place, share in enumerate(curve.shares) if share >= TOLD]
        rows.append(
            {
                "head": curve.head,
                "group": curve.group,
                "half_life_days": half,
                "low": low,
                "high": high,
                "events": curve.events,
                "periods_days": [curve.periods[place] for place in told],
                "widths_days": [curve.widths[place] for place in told],
            }
        )
    schema = {"head": pl.String, "group": pl.String, "half_life_days": pl.Float64, "low": pl.Float64}
    schema |= {"high": pl.Float64, "events": pl.Int64}
    schema |= dict.fromkeys(("periods_days", "widths_days"), pl.List(pl.Float64))
    return pl.DataFrame(rows, schema=schema)


def training_span(histories: Histories) -> float:
    """Days from the first training event to the last. No event was older when the model learned from it: a
    longer half-life is where its curve leads, not what the log has shown."""
    time = np.asarray(histories.time)[np.asarray(histories.part) == 0]
    return float(time.max() - time.min()) / _DAY


def effective_memory(run: str | Path, *, grouping: Grouping | None = None) -> pl.DataFrame:
    """How far back lies what a head goes by: columns head, group, events, days_50, days_90, the ages behind
    which lie 50 and 90 % of the weight.

    Weight is what the group's mean kernel leaves of each training event at its user's last one, which itself
    is left out (popularity: at the last one of all).
    """
    run = Path(run)
    model, params, _ = load_model(run)
    histories = Histories.load(run / "histories")
    log = Events.of(histories, model, params)
    grouping = grouping or Grouping.by_item_group(histories, model.spec, log)
    time = np.asarray(histories.time)[np.asarray(histories.part) == 0]
    last = np.full(histories.users, np.iinfo(np.int64).min)
    np.maximum.at(last, log.user, time)
    earlier = np.append(log.user[1:] == log.user[:-1], False)
    rows = []
    for curve in mean_kernels(histories, model, params, grouping):
        members = grouping.members(curve.group)
        ages = time.max() - time if curve.head == "popularity" else last[log.user] - time
        if curve.head != "popularity":
            members &= earlier
        if not members.any():
            continue
        age = np.sort(ages[members]) / _DAY
        behind = np.cumsum(np.maximum(np.interp(age, curve.age, curve.value), 0.0))
        places = np.searchsorted(behind, np.array([0.5, 0.9]) * behind[-1])
        days = dict(zip(("days_50", "days_90"), age[places].tolist(), strict=True))
        rows.append({"head": curve.head, "group": curve.group, "events": curve.events, **days})
    schema = {"head": pl.String, "group": pl.String, "events": pl.Int64}
    return pl.DataFrame(rows, schema={**schema, "days_50": pl.Float64, "days_90": pl.Float64})


def _within(bound: float) -> float:
    return np.inf if bound > CENTURY else max(bound, SHORTEST)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t (Cornish-Fisher expansion about the normal; 0.1 % off from 5 on)."""
    z, n = _NORMAL, max(freedom, 1)
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def _refitted(
    histories: Histories,
    model: Any,
    params: Any,
    config: dict,
    grouping: Grouping | None,
    bootstrap: int,
    seed: int,
    report: Any,
) -> tuple[list[Curve], np.ndarray]:
    """The curves of the refit with every user counted once, and the standard deviation of each one's log
    half-life over refits; NaN where it never comes."""
    pieces = _pieces(histories, model, config)
    problem = pose(model, params, pieces.batches, pieces.constants, report=report)
    curves = mean_kernels(histories, model, problem.restore(problem.centre), grouping)
    moves = influences(histories, model, problem, curves, grouping)
    random, users = np.random.default_rng([seed, 7]), len(moves)
    refitted = np.zeros((bootstrap, len(curves)))
    for refit in range(bootstrap):
        drawn = np.bincount(random.integers(0, users, users), minlength=users)
        refitted[refit] = (drawn - 1) @ moves
    return curves, refitted.std(axis=0, ddof=1)


def _curved(
    histories: Histories,
    model: Any,
    params: Any,
    config: dict,
    grouping: Grouping | None,
    curves: list[Curve],
    seed: int,
) -> np.ndarray:
    """The standard deviation of each log half-life, by the curvature and by who the users are; NaN where it
    never comes. The two do not go together: slopes are 0 on average whoever the user is."""
    pieces = _pieces(histories, model, config)
    found = laplace(model, params, pieces.batches, pieces.constants, seed=seed)
    by_parameter, by_user = slopes(histories, model, found.restore, found.centre, curves, grouping)
    curvature = np.einsum("dg,de,eg->g", by_parameter, found.covariance, by_parameter)
    return np.sqrt(curvature + np.square(by_user).sum(axis=0))


def _pieces(histories: Histories, model: Any, config: dict) -> Pieces:
    """For the likelihood itself, of all targets together, in rows that are read fastest."""
    train = dataclasses.replace(TrainOptions(**config["train"]), loss="softmax", order="shuffled")
    return assemble(histories, model.spec, ModelOptions.from_json(config["model"]), train)
