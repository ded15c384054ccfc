r"""Priors: what is believed before the data speaks. Deviations of items, users and groups shrink to
nothing; half-lives may be given.

The penalty is the negative log-density, up to a constant, of

- $\delta \sim N(0, \sigma^2)$ for each item's and group's write weights, each user's read weights and each
  item vector's own part, so that the rarely seen get the average (an item vector that is free to remember its
  own buyers takes the credit for their coming back, and half-lives come out short);
- $\log h_k \sim N(\log h_{k0}, 0.5^2)$ for each half-life and envelope of a bank about where it started:
  one that the data say nothing of stays there, instead of drifting to where it only takes weight from the
  others;
- $\log_2 h \sim N(\log_2 h_0, \log_2^2 f)$ for the half-life of a group's mean kernel, where a prior was
  given as $h_0 \pm f$x.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from jaxdecay.durations import Prior
from jaxdecay.errors import InputError
from jaxdecay.heads.similarity import OWN_VECTOR
from jaxdecay.interest import ENVELOPE, write_start
from jaxdecay.kernels import LN2
from jaxdecay.modes import EXACT
from jaxdecay.names import perhaps
from jaxdecay.spec import Spec

SHRINKAGE = {
    "embedding": OWN_VECTOR,
    "item_write": 0.2,
    "user_read": 0.2,
    "behaviour_write": 2.0,
    "group_write": 8.0,
    "content_write": 1.0,
    "period_shift": 1.0,
    "state_read": 0.5,
    "group_strength": 2.0,
    "behaviour_strength": 2.0,
    "amplitude": 1.0,
    "decay_satiation": 2.0,
    "decay_recovery": 1.5,
    "decay_days_shift": 0.5,
    "decay_steps_shift": 0.5,
}
"""Standard deviation of the prior of each kind of deviation, in units of a logit (of `Bank`'s own for
periods; of an item vector's own part for each of its numbers)."""
_WRITE = 8.0  # standard deviation of a bank's own write logits about where they start
_PACE = 0.5  # standard deviation of the logarithm of a half-life or an envelope about where it starts

_AGES = np.concatenate([[0.0], np.geomspace(1 / 86_400, 36_500.0, 600)])


class Priors(struct.PyTreeNode):
    """Priors on half-lives: one row each."""

    group: Array
    """Level of the item group; 0 for the average over no group in particular."""
    log2_half_life: Array
    log2_factor: Array
    starts: dict[str, dict[str, Array]]
    """By head: where the logarithms of its half-lives and envelopes and its write logits start."""


def half_life_priors(priors: list[Prior], levels: list[str], spec: Spec | None = None) -> Priors:
    """Priors by group name as rows; one without a name holds for every group (and for the whole where there
    are none).

    ``levels``: names of the group column's values in the order of their codes from 1. ``spec``: the
    model's, by which half-lives that the data say nothing of stay where they started.
    """
    rows = []
    for prior in priors:
        if prior.group is None:
            codes = range(1, len(levels) + 1) if levels else [0]
        elif prior.group in levels:
            codes = [levels.index(prior.group) + 1]
        else:
            there = perhaps(prior.group, levels) if levels else "there are none; give group_by"
            raise InputError(f"half_life_prior names the group {prior.group!r}; {there}")
        rows += [(code, np.log2(prior.half_life), np.log2(prior.factor)) for code in codes]
    group, centre, factor = (np.array([row[i] for row in rows]) for i in range(3))
    return Priors(
        jnp.asarray(group, jnp.int32),
        jnp.asarray(centre, jnp.float32),
        jnp.asarray(factor, jnp.float32),
        {} if spec is None else _starts(spec),
    )


def _starts(spec: Spec) -> dict[str, dict[str, Array]]:
    heads: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    if spec.encoder.bank:
        heads["similarity"] = (spec.similarity_half_lives, ())
    if spec.revisit:
        heads["revisit"] = (spec.revisit_half_lives, spec.revisit_periods)
    starts: dict[str, dict[str, Array]] = {head: {} for head in heads}
    for head, (half_lives, periods) in heads.items():
        start = write_start(len(half_lives), len(periods), floor=spec.floor)
        starts[head]["write"] = jnp.asarray(start)
        if half_lives:
            starts[head]["log_half_life"] = jnp.log(jnp.asarray(half_lives, jnp.float32))
        if periods:
            starts[head]["log_envelope"] = jnp.full(len(periods), np.log(ENVELOPE), jnp.float32)
    return starts


def penalty(params: Any, priors: Priors) -> Float[Array, ""]:
    """Negative log-density of all priors at these parameters."""
    total = jnp.zeros((), jnp.float32)
    for path, value in jax.tree.leaves_with_path(params):
        scale = SHRINKAGE.get(path[-1].key)
        if scale is not None:
            total += 0.5 * jnp.square(value / scale).sum()
    for head, starts in priors.starts.items():
        for name, start in starts.items():
            scale = _WRITE if name == "write" else _PACE
            total += 0.5 * jnp.square((params[head]["decay"][name] - start) / scale).sum()
    if priors.group.shape[0]:
        for head in ("similarity", "revisit"):
            if head in params and "log_half_life" in params[head].get("decay", {}):
                total += _half_life_penalty(params[head]["decay"], priors)
    return total


def _half_life_penalty(decay: Any, priors: Priors) -> Float[Array, ""]:
    logits = decay["write"]
    if "group_write" in decay:
        logits = logits + decay["group_write"][priors.group]
    half_life = smooth_half_life(decay, jnp.broadcast_to(logits, (priors.group.shape[0], logits.shape[-1])))
    return 0.5 * jnp.square((jnp.log2(half_life) - priors.log2_half_life) / priors.log2_factor).sum()


def smooth_half_life(decay: Any, logits: Float[Array, "g c"]) -> Float[Array, " g"]:
    r"""Half-lives in days of the kernels $\sum_c \mathrm{softmax}(\text{logits})_c\,\varphi_c$, rhythms
    left at their envelope; differentiable.

    The crossing of one half is found on a grid of ages and refined by one Newton step in the logarithm of
    the age, through which the derivative flows (implicit function theorem). A kernel that never halves
    within a century gets an age beyond it, still with a slope.
    """
    weights = jax.nn.softmax(logits)
    half_lives = jnp.exp(jnp.concatenate([decay["log_half_life"], decay.get("log_envelope", jnp.zeros(0))]))
    rates = jnp.concatenate([jnp.zeros(1), LN2 / half_lives])

    def kernel(log_age: Array) -> Array:
        return (weights * jnp.exp(-rates * jnp.exp(log_age)[:, None])).sum(-1)

    grid = jnp.asarray(_AGES[1:], jnp.float32)
    curve = jnp.einsum("gc,ca->ga", weights, jnp.exp(-rates[:, None] * grid), precision=EXACT)
    place = jnp.where((curve <= 0.5).any(-1), (curve <= 0.5).argmax(-1), grid.shape[0] - 1)
    at = jnp.log(grid)[jax.lax.stop_gradient(place)]
    slope = jax.lax.stop_gradient(-(kernel(at + 0.01) - kernel(at - 0.01)) / 0.02)
    least = jnp.where(
        (curve <= 0.5).any(-1), 1e-3, 0.05
    )  # beyond a century a slope is made up: at most 10 away
    step = (kernel(at) - 0.5) / jnp.maximum(slope, least)
    return jnp.exp(at + step)
