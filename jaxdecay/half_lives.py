r"""The half-lives that a run has learned, by head and item group, with intervals from a bootstrap over users.

The half-life of a group is the age at which its mean kernel has first fallen to one half, possibly never.
The mean is over the group's training events, each with the write weights of its item, group and behaviour
and the read weights of its user. The interval is from refits (`jaxdecay.refit`) on users drawn with
replacement: the half-life of the refit that counts every user once times $e^{\pm t\,s}$, with Student's
$t$ for as many refits and $s$ half the span that the middle 68 % of the refitted log half-lives fill (a
standard deviation that a single wild refit does not widen).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxdecay.assembly import Pieces, assemble, load_model
from jaxdecay.configure import ModelOptions, group_levels
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.interest import Bank
from jaxdecay.kernels import LN2
from jaxdecay.modes import first_half
from jaxdecay.predict import items_of
from jaxdecay.refit import pose, solve
from jaxdecay.train import TrainOptions

_CENTURY = 36_525.0
_BELOW = 0.15866  # of a normal distribution lies more than one standard deviation below its mean


class Curve(NamedTuple):
    """The mean kernel of one group under one head."""

    head: str
    group: str
    events: int
    age: np.ndarray
    """(A,) days, ascending from 0."""
    value: np.ndarray
    """(A,) the kernel, 1 at age 0."""
    periods: tuple[float, ...]
    """The head's learned periods in days."""


def mean_kernels(
    histories: Histories, model: Any, params: Any, *, user_weight: np.ndarray | None = None
) -> list[Curve]:
    """Mean kernels by head and group; ``user_weight`` (known users,) counts users other than once."""
    spec = model.spec
    train = np.asarray(histories.part) == 0
    item, user = np.asarray(histories.item)[train], histories.user()[train]
    behaviour = np.asarray(histories.behaviour)[train].astype(np.int64)
    group = np.asarray(items_of(histories, model, known_only=True).group)[item]
    counted = np.ones(len(item)) if user_weight is None else user_weight[user]
    names = ["all", *group_levels(histories, spec)]
    curves = []
    for head in ("similarity", "revisit"):
        if head not in params:
            continue
        decay = jax.tree.map(np.asarray, params[head]["decay"])
        weights = _event_weights(decay, item, user, group, behaviour)
        age, values, periods = _basis(decay, spec.revisit_periods if head == "revisit" else ())
        for level, name in enumerate(names):
            members = (group == level) if level else np.ones(len(group), bool)
            if events := int(members.sum()):
                kernel = ((counted * members) @ weights) @ values
                drawn = kernel[0] > 0  # not if nobody with such events counts
                kernel = kernel / kernel[0] if drawn else np.full(len(age), np.nan)
                curves.append(Curve(head, name, events, age, kernel, periods))
    if "popularity" in params:
        curves.append(_popularity(params, spec.popularity_half_lives, len(item)))
    return curves


def half_lives(
    run: str | Path,
    *,
    bootstrap: int = 100,
    users: int = 4000,
    seed: int = 0,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> pl.DataFrame:
    """A row per head and group: head, group, half_life_days (infinite: never), low, high (95 %), events,
    periods_days.

    Args:
        bootstrap: refits. With 0, or where half-lives were not learned, there are no intervals (null), and
            half-lives are those of the trained parameters as they are, not of the refit that counts every
            user once: that one has gone five steps further, and differs by a few per cent.
        users: most users drawn into each refit; with fewer than there are, the spread is scaled by the root
            of the ratio.
        report: called with {"refit": i, "refits": n} before each.
    """
    if users < 1:
        raise InputError(f"users={users}: give at least 1 (4000 do well)")
    if bootstrap == 1 or bootstrap < 0:
        raise InputError(
            f"bootstrap={bootstrap}: give 0 for no intervals, or at least 2 refits (100 do well)"
        )
    run = Path(run)
    model, params, config = load_model(run)
    histories = Histories.load(run / "histories")
    if bootstrap and config["half_lives"]["how"] == "learned":
        curves, spreads = _refitted(histories, model, params, config, bootstrap, users, seed, report)
    else:
        curves = mean_kernels(histories, model, params)
        spreads = [np.nan] * len(curves)
    rows = []
    for curve, spread in zip(curves, spreads, strict=True):
        half = float(first_half(curve.age, curve.value))
        wide = np.exp(_student(bootstrap - 1) * spread)
        rows.append(
            {
                "head": curve.head,
                "group": curve.group,
                "half_life_days": half,
                "low": half / wide if np.isfinite(wide) else None,
                "high": half * wide if np.isfinite(wide) else None,
                "events": curve.events,
                "periods_days": list(curve.periods),
            }
        )
    return pl.DataFrame(
        rows, schema_overrides={"low": pl.Float64, "high": pl.Float64, "periods_days": pl.List(pl.Float64)}
    )


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t (Cornish-Fisher expansion about the normal; 0.1 % off from 5 on)."""
    z, n = 1.959964, max(freedom, 1)
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


def _refitted(
    histories: Histories,
    model: Any,
    params: Any,
    config: dict,
    bootstrap: int,
    users: int,
    seed: int,
    report: Any,
) -> tuple[list[Curve], list[float]]:
    """The curves of the refit with every user counted once, and the standard deviation of each one's log
    half-life over refits; NaN where a sixth of them never halve. Refits that have drawn nobody of a group do
    not count for it."""
    train = TrainOptions(**config["train"])
    pieces: Pieces = assemble(histories, model.spec, ModelOptions.from_json(config["model"]), train)
    problem = pose(model, params, pieces.batches, pieces.constants)

    def curves_at(theta: np.ndarray, weight: np.ndarray | None = None) -> list[Curve]:
        refitted = jax.tree.map(np.asarray, problem.restore(theta))
        return mean_kernels(histories, model, refitted, user_weight=weight)

    known = histories.known_users
    random = np.random.default_rng([seed, 7])
    drawn = min(users, known)
    logs = []
    for refit in range(bootstrap):
        report({"refit": refit + 1, "refits": bootstrap})
        weight = np.bincount(random.integers(0, known, drawn), minlength=known) * (known / drawn)
        refitted = curves_at(solve(problem, np.append(weight, 0.0)), weight)
        logs.append([_log_half(curve) for curve in refitted])
    with np.errstate(invalid="ignore"):  # refits that never halve have no logarithm to compare
        low, high = np.nanquantile(np.array(logs), [_BELOW, 1 - _BELOW], axis=0)
        return curves_at(problem.centre), list((high - low) / 2 * np.sqrt(drawn / known))


def _log_half(curve: Curve) -> float:
    """Infinite for a curve that never halves, NaN for one of nobody."""
    return float("nan") if np.isnan(curve.value[0]) else float(np.log(first_half(curve.age, curve.value)))


def _event_weights(
    decay: dict[str, np.ndarray], item: np.ndarray, user: np.ndarray, group: np.ndarray, behaviour: np.ndarray
) -> np.ndarray:
    """(E, C) what is left of each event at age 0 in each of the bank's curves: its write weight times its
    user's read weight."""
    writes = np.broadcast_to(decay["write"], (len(item), len(decay["write"]))).copy()
    for name, index in (("group_write", group), ("item_write", item), ("behaviour_write", behaviour)):
        if name in decay:
            writes += decay[name][index]
    reads = decay["user_read"][user] if "user_read" in decay else np.zeros_like(writes)
    return _softmax(writes) * _softmax(reads) * writes.shape[1]


def _basis(
    decay: dict[str, np.ndarray], starts: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Ages, the bank's curves (C, A) at them, and the learned periods."""
    bank = Bank(tuple(np.exp(decay.get("log_half_life", np.zeros(0))).tolist()), starts)
    variables = {
        "params": {
            k: jnp.asarray(v)
            for k, v in decay.items()
            if k in ("log_half_life", "period_shift", "log_envelope", "write")
        }
    }
    half_lives, envelopes, periods = (
        np.asarray(x, np.float64) for x in bank.apply(variables, method=Bank.paces)
    )
    age = np.concatenate([[0.0], np.geomspace(1 / 1440, _CENTURY, 2000)])
    if len(periods):
        age = np.union1d(age, np.linspace(0.0, 10 * periods.max(), 4000))
    fade = np.exp2(-age / half_lives[:, None])
    rhythm = np.exp2(-age / envelopes[:, None]) * 0.5 * (1 + np.cos(2 * np.pi * age / periods[:, None]))
    return age, np.concatenate([np.ones((1, len(age))), fade, rhythm]), tuple(periods.tolist())


def _popularity(params: Any, half_lives: tuple[float, ...], events: int) -> Curve:
    """The kernel by which the catalogue's counts fade."""
    age = np.concatenate([[0.0], np.geomspace(1 / 1440, _CENTURY, 2000)])
    weights = _softmax(np.asarray(params["popularity"]["decay_mixture"], np.float64))[:-1]
    rates = LN2 / np.asarray(half_lives)
    kernel = weights @ np.exp(-rates[:, None] * age)
    return Curve("popularity", "all", events, age, kernel / kernel[0], ())


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
