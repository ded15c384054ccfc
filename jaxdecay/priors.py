r"""Priors: what is believed before the data speaks. Deviations of items, users and groups shrink to
nothing; half-lives may be given.

The penalty is the negative log-density, up to a constant, of

- $\delta \sim N(0, \sigma^2)$ for each item's and group's write weights and each user's read weights, so
  that the rarely seen get the average;
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
from jaxdecay.kernels import LN2

SHRINKAGE = {
    "item_write": 0.5,
    "user_read": 0.5,
    "behaviour_write": 2.0,
    "group_write": 2.0,
    "write": 3.0,
    "state_read": 0.5,
    "group_strength": 2.0,
    "behaviour_strength": 2.0,
    "amplitude": 1.0,
}
"""Standard deviation of the prior of each kind of deviation, in units of a logit."""

_AGES = np.concatenate([[0.0], np.geomspace(1 / 1440, 36_500.0, 400)])


class Priors(struct.PyTreeNode):
    """Priors on half-lives: one row each."""

    group: Array
    """Level of the item group; 0 for the average over no group in particular."""
    log2_half_life: Array
    log2_factor: Array


def half_life_priors(priors: list[Prior], levels: list[str]) -> Priors:
    """Priors by group name as rows; one without a name holds for every group (and for the whole where there
    are none).

    ``levels``: names of the group column's values in the order of their codes from 1.
    """
    rows = []
    for prior in priors:
        if prior.group is None:
            codes = range(1, len(levels) + 1) if levels else [0]
        elif prior.group in levels:
            codes = [levels.index(prior.group) + 1]
        else:
            there = ", ".join(levels[:20]) or "none (see --model.group-by)"
            raise InputError(f"half_life_prior names the group {prior.group!r}; there are: {there}")
        rows += [(code, np.log2(prior.half_life), np.log2(prior.factor)) for code in codes]
    group, centre, factor = (np.array([row[i] for row in rows]) for i in range(3))
    return Priors(
        jnp.asarray(group, jnp.int32), jnp.asarray(centre, jnp.float32), jnp.asarray(factor, jnp.float32)
    )


def penalty(params: Any, priors: Priors) -> Float[Array, ""]:
    """Negative log-density of all priors at these parameters."""
    total = jnp.zeros((), jnp.float32)
    for path, value in jax.tree.leaves_with_path(params):
        scale = SHRINKAGE.get(path[-1].key)
        if scale is not None:
            total += 0.5 * jnp.square(value / scale).sum()
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
    curve = jnp.einsum("gc,ca->ga", weights, jnp.exp(-rates[:, None] * grid))
    place = jnp.where((curve <= 0.5).any(-1), (curve <= 0.5).argmax(-1), grid.shape[0] - 1)
    at = jnp.log(grid)[jax.lax.stop_gradient(place)]
    slope = jax.lax.stop_gradient(-(kernel(at + 0.01) - kernel(at - 0.01)) / 0.02)
    step = (kernel(at) - 0.5) / jnp.maximum(slope, 0.05)  # never beyond 10 either way, so needs no clipping
    return jnp.exp(at + step)
