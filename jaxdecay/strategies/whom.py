"""Who is served best by what: strategies, the mixture and the policy judged apart for those of whom nothing,
little and much is known, and whose interests have moved or not."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay.strategies.mixture import path_of
from jaxdecay.strategies.scores import NAMES, Fitted

JUDGED = (*NAMES, "mixture", "policy")
ALL = "all"


class Asked(NamedTuple):
    """Who asked for each of N items."""

    known: np.ndarray
    """(N,) how many choices their request saw."""
    moved: np.ndarray
    """(N,) bool: whether the fast-slow divergence was above the threshold then that 5 % of users who do not
    move ever pass (`jaxdecay.drift.calibrate`)."""


def by_group(asked: Asked, log_p: np.ndarray, weights: np.ndarray) -> Sequence[Mapping[str, Any]]:
    """What is kept of each group that holds anything, everybody first: known (all, or the path in a word),
    moved (None for everybody), events, log_likelihood (mean) by `JUDGED`, and weight (mean, of the policy) by
    strategy.

    ``log_p``: (N, S+2) of the items by `JUDGED`. ``weights``: (N, S) of the policy.
    """
    paths = np.array([path_of(known) for known in asked.known.tolist()])
    groups: list[tuple[str, bool | None, np.ndarray]] = [(ALL, None, np.ones(len(paths), bool))]
    for path in ("cold", "lukewarm", "warm"):
        groups += [(path, moved, (paths == path) & (asked.moved == moved)) for moved in (False, True)]
    return [
        {
            "known": path,
            "moved": moved,
            "events": int(inside.sum()),
            "log_likelihood": dict(zip(JUDGED, log_p[inside].mean(axis=0).tolist(), strict=True)),
            "weight": dict(zip(NAMES, weights[inside].mean(axis=0).tolist(), strict=True)),
        }
        for path, moved, inside in groups
        if inside.any()
    ]


def frame(fitted: Fitted) -> pl.DataFrame:
    """A row for each group and each of `JUDGED`: strategy, known, moved, events, log_likelihood,
    policy_weight; and, the same in every group, weight in the mixture and half_life_days."""
    rows = [
        {
            "strategy": name,
            "known": group["known"],
            "moved": group["moved"],
            "events": group["events"],
            "log_likelihood": group["log_likelihood"][name],
            "policy_weight": group["weight"].get(name),
            "weight": fitted.mixture.get(name),
            "half_life_days": fitted.half_lives.get(name),
        }
        for group in fitted.groups
        for name in JUDGED
    ]
    return pl.DataFrame(rows, schema_overrides={"moved": pl.Boolean}, infer_schema_length=None)
