r"""How far each user moves each half-life: what a bootstrap over users adds up.

The half-life $h$ of a mean kernel $\bar\varphi(\text{age}; \theta, m)$, with every user counted $m_u$ times,
is where it has fallen to one half, so that $d \log h = - d\bar\varphi / (\partial \bar\varphi / \partial \log
\text{age})$ there (implicit function theorem). A user counts twice: in the parameters $\theta$, by the refit
(`jaxdecay.refit`), and in the mean. In first order, which holds however little the data say of single
parameters, if only they say something of the half-life.

References:
    Hampel: The influence curve and its role in robust estimation (1974).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxdecay.basis import Basis
from jaxdecay.curves import Curve, Events, Grouping
from jaxdecay.data.histories import Histories
from jaxdecay.interest import Bank
from jaxdecay.kernels import LN2
from jaxdecay.model import Interest
from jaxdecay.modes import EXACT, Modes, first_half
from jaxdecay.refit import Problem


class Slopes(NamedTuple):
    """Of the logarithms of G half-lives; NaN for one that never comes."""

    by_parameter: np.ndarray
    """(D, G)"""
    by_user: np.ndarray
    """(U, G) by how often a user is counted in the mean."""


def influences(
    histories: Histories,
    model: Interest,
    problem: Problem,
    curves: Sequence[Curve],
    grouping: Grouping | None = None,
) -> np.ndarray:
    """(U, G) by how much a user, counted once more, moves the logarithm of each curve's half-life; NaN for
    one that never halves. ``curves`` are those at the centre, by this grouping."""
    found = slopes(histories, model, problem.restore, problem.centre, curves, grouping)
    return problem.moves[: len(found.by_user)] @ found.by_parameter + found.by_user


def slopes(
    histories: Histories,
    model: Interest,
    restore: Callable[[Any], Any],
    at: np.ndarray,
    curves: Sequence[Curve],
    grouping: Grouping | None = None,
) -> Slopes:
    """Of half-lives at the D shared parameters ``at``, of which ``restore`` makes all of them. ``curves`` are
    those there, by this grouping."""
    events = Events.of(histories, model, restore(at))
    users = histories.known_users
    grouping = grouping or Grouping.by_item_group(histories, model.spec, events)
    theta, once = jnp.asarray(at, jnp.float32), jnp.ones(users)

    def height(theta: Array, count: Array, at: tuple[Array, Array], head: str, level: Array) -> Array:
        """The kernel at two ages, relative to age 0, and between them as shares say."""
        params = restore(theta)
        counted = count[events.user] * ((level < 0) | (grouping.label == level))
        total, fading = _total(model, params, events, counted, head)
        ages, shares = at
        return shares @ jnp.matmul(fading.curves(ages), total, precision=EXACT) / total.sum()

    sloped = jax.jit(jax.grad(height, (0, 1)), static_argnums=3)
    found = Slopes(*(np.full((rows, len(curves)), np.nan) for rows in (len(at), users)))
    for place, curve in enumerate(curves):
        half = float(first_half(curve.age, curve.value))
        if np.isfinite(half):
            # Between the sampled ages where the crossing was found: a ripple between samples is no slope.
            after = int(np.searchsorted(curve.age, half))
            (start, end), (high, low) = curve.age[after - 1 : after + 1], curve.value[after - 1 : after + 1]
            share = (half - start) / (end - start)
            between = jnp.array([start, end], jnp.float32), jnp.array([1 - share, share], jnp.float32)
            both = sloped(theta, once, between, curve.head, jnp.int32(grouping.place(curve.group)))
            by_age = half * (low - high) / (end - start)
            for slope, of_kind in zip(both, found, strict=True):
                of_kind[:, place] = -np.asarray(slope, np.float64) / by_age
    return found


def _total(
    model: Interest, params: Any, events: Events, counted: Array, head: str
) -> tuple[Array, Basis | Modes]:
    """(C,) what is left at age 0 in each curve of all events, each as often as ``counted`` (of popularity: of
    the catalogue's counts as a whole), and the curves."""
    if head == "popularity":
        mixture = jax.nn.softmax(params["popularity"]["decay_mixture"])[:-1]
        return mixture, Modes(LN2 / jnp.asarray(model.spec.popularity_half_lives))

    def bound(model: Interest) -> tuple[Array, Basis]:
        bank: Bank = getattr(model, head).decay
        given = events.item, events.group, events.behaviour, events.content[head]
        weights = bank.write_weights(*jax.tree.map(jnp.asarray, given))
        if bank.user_read is not None:
            weights *= bank.curves * jax.nn.softmax(bank.user_read)[events.user]
        return jnp.matmul(counted, weights, precision=EXACT), bank.basis()

    found: Any = model.apply({"params": params}, method=bound)
    return found
