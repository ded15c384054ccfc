"""The pictures of a run, by their kinds: what is shown of it, drawn by `jaxdecay.plots`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdecay import plots
from jaxdecay.errors import InputError
from jaxdecay.findings import Findings
from jaxdecay.names import perhaps
from jaxdecay.plots import Axes


@dataclass(frozen=True)
class Whom:
    """Whose picture is drawn, where it is one of somebody: ids, None where none were given."""

    user: Any = None
    item: Any = None
    by: str | None = None
    """By what users are told apart in a picture of cohorts (`jaxdecay.plots.cohorts`)."""


def draw(kind: str, found: Findings, whom: Whom = Whom()) -> Axes:
    """A picture of a run. ``kind``: one of `KINDS`.

    Raises InputError for another kind (with the nearest), for a run that lacks what is shown, without a user
    or an item where the picture is one of them, and with one where it is not.
    """
    check_kind(kind, **vars(whom))
    return KINDS[kind](found, whom)


def check_kind(kind: str, **options: Any) -> None:
    """Raises InputError unless there is such a picture, with the nearest that there is, and for an option
    that was given (is not None) and that it does not go by."""
    kinds = list(KINDS)
    if kind not in kinds:
        raise InputError(f"there is no picture {kind!r}: {perhaps(kind, kinds)}")
    for name, value in options.items():
        if value is not None and name not in GOES_BY.get(kind, ()):
            raise InputError(f"{name}={str(value)!r}: the picture {kind} does not go by it; leave it out")


def _half_lives(found: Findings, whom: Whom) -> Axes:
    _refuse_still(bool(len(found.half_lives[0])))
    return plots.plot_half_lives(plots.half_lives_frame(found.half_lives[0]), span=found.span)


def _spread(found: Findings, whom: Whom) -> Axes:
    both = [*found.spreads("items"), *found.spreads("users")]
    _refuse_still(bool(both))
    return plots.plot_spread(plots.spread_frame(both))


def _kernels(found: Findings, whom: Whom) -> Axes:
    learned = found.learned()
    _refuse_still(bool(learned))
    frame = plots.learned_frame(found.initial(), learned, found.spreads("items"))
    heads = frame["head"].unique(maintain_order=True).to_list()
    return plots.plot_learned(frame, head="revisit" if "revisit" in heads else heads[0])


def _groups(found: Findings, whom: Whom) -> Axes:
    learned = [curve for curve in found.learned() if curve.group != "all"]
    if not learned:
        raise InputError("groups: no item column decay differs by; train with --group-by, or draw kernels")
    head = "revisit" if any(curve.head == "revisit" for curve in learned) else learned[0].head
    return plots.plot_kernels(plots.kernels_frame(learned, head=head))


def _memory(found: Findings, whom: Whom) -> Axes:
    _refuse_still(bool(len(found.memory)))
    return plots.plot_memory(plots.memory_frame(found.memory))


def _weights(found: Findings, whom: Whom) -> Axes:
    user = _user(found, whom, "weights")
    if whom.item is None:
        example = found.run.items["item_id"][int(_events_of(found, user)[-1])]
        raise InputError(f"weights: of the score of which item? give --item, such as --item {example}")
    explained = found.run.explain(whom.user, whom.item, found.end)
    return plots.plot_weights(plots.weights_frame(explained.rows, found.titles))


def _trajectory(found: Findings, whom: Whom) -> Axes:
    user = _user(found, whom, "trajectory")
    frame = plots.trajectory_frame(found.histories, user, found.kinds.of, found.kinds.names, found.drift)
    return plots.plot_trajectory(frame, relative=found.relative)


def _statistic(found: Findings, whom: Whom) -> Axes:
    user = _user(found, whom, "drift")
    return plots.plot_statistic(
        plots.statistic_frame(found.histories, user, found.drift), relative=found.relative
    )


def _metrics(found: Findings, whom: Whom) -> Axes:
    metric = found.metric
    return plots.plot_metrics(plots.metrics_frame(found.evaluation, metric), name=metric.upper())


def _calibration(found: Findings, whom: Whom) -> Axes:
    return plots.plot_calibration(plots.calibration_frame(found.evaluation))


def _ablation(found: Findings, whom: Whom) -> Axes:
    metric = found.metric
    frame = plots.ablation_frame(found.evaluation, metric, by=whom.by)
    return plots.plot_ablation(frame, name=metric.upper(), by=whom.by)


def _staleness(found: Findings, whom: Whom) -> Axes:
    metric = found.metric
    return plots.plot_staleness(plots.staleness_frame(found.evaluation, metric), name=metric.upper())


def _diversity(found: Findings, whom: Whom) -> Axes:
    return plots.plot_trade_off(plots.trade_off_frame(found.trade_off()))


def _training(found: Findings, whom: Whom) -> Axes:
    return plots.plot_history(plots.history_frame(found.lines))


def _training_half_lives(found: Findings, whom: Whom) -> Axes:
    frame = plots.training_half_lives_frame(found.lines)
    _refuse_still(bool(len(frame)))
    return plots.plot_training_half_lives(frame)


Draw = Callable[[Findings, Whom], Axes]
KINDS: dict[str, Draw] = {
    "half-lives": _half_lives,
    "spread": _spread,
    "kernels": _kernels,
    "groups": _groups,
    "memory": _memory,
    "weights": _weights,
    "trajectory": _trajectory,
    "drift": _statistic,
    "metrics": _metrics,
    "calibration": _calibration,
    "ablation": _ablation,
    "staleness": _staleness,
    "diversity": _diversity,
    "training": _training,
    "training-half-lives": _training_half_lives,
}
"""What draws each, by name."""
GOES_BY: dict[str, tuple[str, ...]] = {
    "half-lives": ("seed",),
    "weights": ("user", "item"),
    "trajectory": ("user", "column", "seed"),
    "drift": ("user", "seed"),
    "ablation": ("by",),
    "diversity": ("seed",),
}
"""Which options, of those that there are for some."""


def _user(found: Findings, whom: Whom, kind: str) -> int:
    if whom.user is None:
        busiest = int(np.argmax(found.histories.lengths()))
        example = found.run.users[busiest]
        raise InputError(f"{kind}: of which user? give --user, such as --user {example}, who has most events")
    user = found.run.index("user", whom.user)
    if not len(_events_of(found, user)):
        raise InputError(f"user {whom.user!r} has no events: there is nothing to draw; give another --user")
    return user


def _events_of(found: Findings, user: int) -> np.ndarray:
    """Items of a user's events."""
    begin, end = found.histories.offsets[user : user + 2]
    return np.asarray(found.histories.item)[begin:end]


def _refuse_still(fades: bool) -> None:
    if not fades:
        raise InputError("nothing fades in this run (--half-lives none), so there is nothing to draw")
