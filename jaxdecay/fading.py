r"""The families of forgetting curves as Flax modules: half-lives and shapes that learn.

A module is K curves of one family (`jaxdecay.kernels`), each with a half-life of its own; called with ages in
days it gives what is left by each curve, on a trailing axis of K. ``half_lives`` (days) are where learning
starts: spread them over the log's own scales (`spread`), at least four times apart, for
those closer together cannot be told apart.

All that a module learns lies under the one name ``decay``, by which `jaxdecay.optimizer` gives it a learning
rate of its own and no weight decay (which would pull half-lives to a day). Inside, half-lives and shapes are
logarithms, depths logits, and periods a thirtieth of a logarithm (their phase is known far more sharply than
a half-life). Half-lives are kept between a second and ten thousand years, shapes between the bounds that
each class names; beyond them there is no gradient.

Forward decay needs no module of its own: it is `Exponential` of ages on the clock `clocks.log_since`.

>>> module = Power((1.0, 30.0), shape=1.0)
>>> params = module.init(jax.random.key(0), jnp.zeros(1))
>>> module.apply(params, jnp.array([0.0, 1.0, 30.0])).round(3).tolist()
[[1.0, 1.0], [0.5, 0.968], [0.032, 0.5]]
>>> half_lives(params["params"]["decay"]).round(3).tolist()
[1.0, 30.0]
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdecay import kernels
from jaxdecay.errors import InputError
from jaxdecay.interest import LONGEST, PERIOD_SCALE, SHORTEST, bounded, within


def spread(gaps: np.ndarray, spans: np.ndarray, count: int) -> tuple[float, ...]:
    """Half-lives (in the unit of the ages) for learning to start from: even in the logarithm, from the lower
    tenth of the gaps between events, those above 0, to twice the 0.95 quantile of the spans of histories; a
    single one in the middle.

    Outside the ages that a log contains a half-life cannot be identified. Empty without a gap above 0.

    >>> spread(np.array([1.0, 1.0, 2.0]), np.array([50.0]), 3)
    (1.0, 10.0, 100.0)
    """
    gaps, spans = gaps[gaps > 0], spans[spans > 0]
    if not len(gaps) or not len(spans) or not count:
        return ()
    low = float(np.quantile(gaps, 0.1))
    high = max(2 * float(np.quantile(spans, 0.95)), 4 * low)
    grid = np.geomspace(low, high, count) if count > 1 else np.sqrt([low * high])
    return tuple(float(h) for h in grid)


def half_lives(decay: Mapping[str, Float[Array, " k"]]) -> Float[Array, " k"]:
    """Half-lives in days of what a module of this file has learned under the name ``decay``."""
    return bounded(decay["log_half_life"])


class Exponential(nn.Module):
    """`kernels.exponential`. One alone hides the request time from a ranking; K of them that are mixed, or
    that fade a dimension each, do not."""

    half_lives: tuple[float, ...]

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "... k"]:
        return _faded(self, kernels.exponential, age)


class Hyperbolic(nn.Module):
    """`kernels.hyperbolic`."""

    half_lives: tuple[float, ...]

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "... k"]:
        return _faded(self, kernels.hyperbolic, age)


class Power(nn.Module):
    """`kernels.power`, the q-exponential of curvature 1 / shape; shapes from 0.02 to 50, where it is all but
    the exponential. The curve of FSRS-6 is the one of shape 0.1542."""

    half_lives: tuple[float, ...]
    shape: float = 0.5

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "... k"]:
        return _faded(self, kernels.power, age, shape=(self.shape, 0.02, 50.0))


class Logarithmic(nn.Module):
    """`kernels.logarithmic`; shapes from 0.02 to 50, where it is all but hyperbolic."""

    half_lives: tuple[float, ...]
    shape: float = 0.3

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "... k"]:
        return _faded(self, kernels.logarithmic, age, shape=(self.shape, 0.02, 50.0))


class Weibull(nn.Module):
    """`kernels.weibull`; shapes from 0.1 to 10."""

    half_lives: tuple[float, ...]
    shape: float = 0.5

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "... k"]:
        return _faded(self, kernels.weibull, age, shape=(self.shape, 0.1, 10.0))


class Gaussian(nn.Module):
    """`kernels.gaussian`."""

    half_lives: tuple[float, ...]

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "... k"]:
        return _faded(self, kernels.gaussian, age)


class Logistic(nn.Module):
    """`kernels.logistic`; steepness from 0.1 to 100."""

    half_lives: tuple[float, ...]
    steepness: float = 4.0

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "... k"]:
        return _faded(self, kernels.logistic, age, steepness=(self.steepness, 0.1, 100.0))


class Periodic(nn.Module):
    """`kernels.damped_cosine` of phase 0: rhythms whose periods (days), depths and envelopes learn.

    ``half_lives`` are those of the envelopes, one for each of ``periods``; ``depth`` lies between 0 and 1,
    both excluded. A period is found only from a start within about a cycle over the whole span of the log.
    """

    half_lives: tuple[float, ...]
    periods: tuple[float, ...]
    depth: float = 0.9

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "... k"]:
        if len(self.periods) != len(self.half_lives):
            raise InputError(f"{len(self.periods)} periods, {len(self.half_lives)} half_lives: give as many")
        depth = within("depth", self.depth, 1e-3, 1 - 1e-3)
        decay = _learned(self, self.half_lives, period_shift=0.0, logit_depth=np.log(depth / (1 - depth)))
        for length in self.periods:
            within("periods", length, SHORTEST, LONGEST)
        start = jnp.asarray(self.periods, decay["period_shift"].dtype)
        period = start * jnp.exp(decay["period_shift"] / PERIOD_SCALE)
        depth = jax.nn.sigmoid(decay["logit_depth"])
        return kernels.damped_cosine(
            age[..., None], *(_beside(x, age) for x in (half_lives(decay), period, depth))
        )


class Erlang(nn.Module):
    """`kernels.erlang`: bumps of a ``degree``, for what is wanted again after a while."""

    half_lives: tuple[float, ...]
    degree: int = 1

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "... k"]:
        decay = _learned(self, self.half_lives)
        return kernels.erlang(age[..., None], _beside(half_lives(decay), age), self.degree)


class Piecewise(nn.Module):
    """`kernels.piecewise`, one curve that descends from 1 as the data will have it: what is lost between
    knots (ages in days, ascending from 0) is learned.

    ``values`` are where it starts, one per knot: 1 first, then ever less, and above 0. For its half-life,
    `kernels.piecewise_half_life` of the knots and of `values_of` what it has learned.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]

    @nn.compact
    def __call__(self, age: Float[Array, "..."]) -> Float[Array, "..."]:
        knots, start = np.asarray(self.knots), np.asarray(self.values)
        if len(start) != len(knots) or len(knots) < 2 or knots[0] or (np.diff(knots) <= 0).any():
            raise InputError(f"knots={self.knots}: give two or more, ascending from 0, with one value each")
        lost = -np.diff(start, append=0.0)
        if start[0] != 1 or (lost <= 0).any():
            raise InputError(f"values={self.values}: start at 1 and descend, all above 0")
        decay = self.param("decay", lambda _: {"logit_lost": jnp.log(jnp.asarray(lost, jnp.float32))})
        return kernels.piecewise(age, jnp.asarray(knots, age.dtype), self.values_of(decay).astype(age.dtype))

    @staticmethod
    def values_of(decay: Mapping[str, Float[Array, " k"]]) -> Float[Array, " k"]:
        """What is left at each knot: the shares of 1 that are lost later, or never."""
        lost = jax.nn.softmax(decay["logit_lost"])
        return jnp.concatenate([jnp.ones(1, lost.dtype), 1 - jnp.cumsum(lost)[:-1]])


class Regressed(nn.Module):
    r"""One exponential whose half-life depends on features: `kernels.regressed_half_life`, from 15 minutes to
    274 days, with a constant feature of its own.

    It starts at ``half_life`` for all. This is for the age of one item's last event, where each has a state
    of its own; what differs between the events of a summed history belongs into write weights.
    """

    half_life: float

    @nn.compact
    def __call__(self, age: Float[Array, "..."], features: Float[Array, "... f"]) -> Float[Array, "..."]:
        start = np.log2(within("half_life", self.half_life, 15 / 1440, 274.0))
        decay = self.param(
            "decay", lambda _: {"weights": jnp.zeros(features.shape[-1]), "constant": jnp.full((1,), start)}
        )
        known = jnp.concatenate([jnp.ones((*features.shape[:-1], 1), features.dtype), features], axis=-1)
        weights = jnp.concatenate([decay["constant"], decay["weights"]])
        return kernels.exponential(age, kernels.regressed_half_life(known, weights))


def _faded(
    module: Any, curve: Callable[..., Array], age: Float[Array, "..."], **shapes: tuple[float, float, float]
) -> Float[Array, "... k"]:
    """The curve of a module's half-lives and ``shapes``: where each starts, and the bounds that it is kept
    in."""
    starts = {f"log_{name}": math.log(within(name, *shape)) for name, shape in shapes.items()}
    decay = _learned(module, module.half_lives, **starts)
    kept = (_kept(decay[f"log_{name}"], low, high) for name, (_, low, high) in shapes.items())
    return curve(age[..., None], *(_beside(x, age) for x in (half_lives(decay), *kept)))


def _learned(module: nn.Module, start: tuple[float, ...], **others: float) -> Mapping[str, Array]:
    """A module's parameters: one of each kind per half-life."""
    if not start:
        raise InputError("half_lives=(): give one or more, in days")
    for half_life in start:
        within("half_lives", half_life, SHORTEST, LONGEST)

    def starts(_: Array) -> dict[str, Array]:
        logs = {"log_half_life": jnp.log(jnp.asarray(start, jnp.float32))}
        return logs | {name: jnp.full(len(start), value, jnp.float32) for name, value in others.items()}

    return module.param("decay", starts)


def _kept(logarithm: Float[Array, " k"], low: float, high: float) -> Float[Array, " k"]:
    return jnp.exp(jnp.clip(logarithm, math.log(low), math.log(high)))


def _beside(parameter: Float[Array, " k"], age: Float[Array, "..."]) -> Float[Array, "..."]:
    """A parameter on the trailing axis of ages with one, in their type."""
    return parameter.astype(age.dtype).reshape((1,) * age.ndim + parameter.shape)
