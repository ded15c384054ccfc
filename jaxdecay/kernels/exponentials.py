r"""The exponential, banks of exponentials, and half-lives regressed on features."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdecay.kernels.ages import LN2, Number, aligned, counted

_SHORTEST, _LONGEST = 15 / (24 * 60), 274.0
"""Days: the bounds of `regressed_half_life`, those of Settles and Meeder's code."""


def exponential(age: Float[Array, "..."], half_life: Number) -> Float[Array, "..."]:
    r"""$\varphi(t) = 2^{-t/h} = e^{-\lambda t}$ with $\lambda = \ln 2/h$: the only curve under which the
    relative weight of two events never changes.

    Half-life: $h$. Guarantees: monotone; completely monotone; streams exactly with one state.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | $-\lambda$ in the age, 0 in $h$ |
    | negative age | 1 | 0 |
    | infinite age | 0 (1 if $h$ is infinite) | 0 |
    | masked | the caller's `where` | 0, never NaN |
    | $h$ infinite | 1: never fades | 0 |

    Source: Ebbinghaus (1885); as a recommender's weight: Ding & Li, *Time weight collaborative filtering*
    (2005).

    >>> exponential(jnp.array([0.0, 7.0, 14.0]), jnp.array(7.0)).tolist()
    [1.0, 0.5, 0.25]
    """
    return jnp.exp2(-counted(age) / half_life)


def bank(
    age: Float[Array, "..."],
    half_lives: Float[Array, "*#batch k"],
    weights: Float[Array, "*#batch k"],
    floor: Number = 0.0,
) -> Float[Array, "..."]:
    r"""$\varphi(t) = p + (1-p)\sum_k w_k\,2^{-t/h_k}$: exponentials at K time scales over the floor $p$.

    ``half_lives`` and ``weights`` have a trailing axis of K; the axes before it, ``age`` and ``floor``
    broadcast. The caller normalises the weights to a sum of 1 (a softmax): with another sum $\varphi(0)$ is
    another number. $0\le p\le 1$.

    Half-life: `bank_half_life`, which is not in closed form. Guarantees for $w_k\ge 0$: monotone; completely
    monotone; streams exactly with K states, and one that never fades for the floor.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | $-(1-p)\sum_k w_k\lambda_k$ in the age, 0 in $h_k$ |
    | negative age | 1 | 0 in the age |
    | infinite age | $p$ | 0 in the age and $h_k$ |
    | masked | the caller's `where` | 0, never NaN |
    | some $h_k$ infinite | its weight never fades | 0 in that $h_k$ |
    | $p=1$ | 1 | 0 in the age, $w_k$ and $h_k$ |

    Source: sums of exponentials as in Hawkes processes (Hawkes, 1971); that averages of exponential
    forgetters are what is seen as a power law: Anderson & Tweney (1997), Murre & Chessa (2011).

    >>> bank(jnp.array([0.0, 1.0, jnp.inf]), jnp.array([1.0, 30.0]), jnp.array([1.0, 0.0]), 0.2).tolist()
    [1.0, 0.6, 0.2]
    """
    half_lives, weights = aligned(jnp.ndim(age) + 1, half_lives, weights)
    faded = (weights * exponential(age[..., None], half_lives)).sum(-1)
    return floor + (1.0 - floor) * faded


def bank_half_life(
    half_lives: Float[Array, "*#batch k"], weights: Float[Array, "*#batch k"], floor: Number = 0.0
) -> Float[Array, "..."]:
    r"""The age in days at which a `bank` has fallen to one half: the root of $\varphi(t)=\frac{1}{2}$.

    There is no closed form. Bisection in $\ln t$ on the interval $[m\min_k h_k,\,m\max_k h_k]$ with
    $m=\log_2\frac{1-p}{1/2-p}$, which holds the root, and then two Newton steps for the derivatives: the
    gradient is that of the implicit function theorem,
    $\mathrm{d}\ln t = -\partial_\theta\varphi\,\mathrm{d}\theta / \partial_{\ln t}\varphi$, and second
    derivatives are right as well. For weights that are not negative and sum to 1.

    | parameters | value | gradient |
    |---|---|---|
    | floor of one half or more, counting the weight of infinite half-lives | infinite | 0 |
    | one exponential, floor 0 | $h$ | 1 in $h$ |
    | two far scales with weights near one half | known to rounding over slope only | large |

    >>> bank_half_life(jnp.array([1.0, 30.0]), jnp.array([1.0, 0.0])).round(4).tolist()
    1.0
    >>> bank_half_life(jnp.array([1.0, 30.0]), jnp.array([0.5, 0.5]), 0.5).tolist()
    inf
    """
    floor = jnp.asarray(floor, half_lives.dtype)
    half_lives, weights = aligned(floor.ndim + 1, half_lives, weights)
    fades = jnp.isfinite(half_lives)
    stays = jnp.where(fades, 0.0, weights).sum(-1)
    weights, half_lives = jnp.where(fades, weights, 0.0), jnp.where(fades, half_lives, 1.0)
    share = jnp.where(floor < 0.5, 1.0 - floor, 1.0)
    left = jnp.where(floor < 0.5, 1.0 - 0.5 / share - stays, 0.0)  # of what fades, when the bank is at 1/2
    never = left <= 0.0
    left = jnp.where(never, 0.5, left)

    def excess(log_age: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """How much more than ``left`` there is, and the slope of that in the log age (negative)."""
        ratio = jnp.exp(log_age)[..., None] / half_lives
        parts = weights * jnp.exp2(-ratio)
        return parts.sum(-1) - left, -LN2 * (parts * ratio).sum(-1)

    shortest = jnp.where(weights > 0.0, half_lives, jnp.inf).min(-1)
    longest = jnp.where(weights > 0.0, half_lives, 0.0).max(-1)
    halvings = jnp.log2(jnp.where(never, 2.0, weights.sum(-1) / left))
    low, high = (jnp.log(jnp.where(never, 1.0, halvings * h)) for h in (shortest, longest))
    root = jax.lax.stop_gradient(_bisected(lambda log_age: excess(log_age)[0], low, high))
    # A differentiable Newton step doubles the number of derivatives that are those of the root. The rounding
    # error that is left there is taken off first: on a plateau it would be a long step.
    missed = jax.lax.stop_gradient(excess(root)[0])
    for _ in range(2):
        value, slope = excess(root)
        root = root - (value - missed) / jnp.where(slope < 0.0, slope, -1.0)
    return jnp.where(never, jnp.inf, jnp.exp(root))


def regressed_half_life(features: Float[Array, "... f"], weights: Float[Array, " f"]) -> Float[Array, "..."]:
    r"""$h = 2^{\theta\cdot x}$ days, within 15 minutes and 274 days: a half-life for `exponential` from
    what is known of an event, a user and an item (half-life regression).

    A constant feature is the caller's to add. Beyond the bounds the gradient is 0; $\theta\cdot x$ is clipped
    before the power, so nothing overflows.

    | $\theta\cdot x$ | value | gradient in $\theta$ |
    |---|---|---|
    | 0 | 1 day | $x\ln 2$ |
    | below $\log_2(1/96)$, or negatively infinite | 15 minutes | 0 |
    | above $\log_2 274$, or infinite | 274 days | 0 |

    In the source the age is the time since the item was last seen and the features are that item's
    counts; a history that is read event by event is another model. Source: Settles & Meeder, *A trainable
    spaced repetition model for language learning* (2016).

    >>> regressed_half_life(jnp.array([[1.0, 0.0], [1.0, 3.0], [1.0, 99.0]]), jnp.array([0.0, 1.0])).tolist()
    [1.0, 8.0, 274.0]
    """
    exponent = jnp.matmul(features, weights, precision="highest")
    low, high = float(np.log2(_SHORTEST)), float(np.log2(_LONGEST))
    return jnp.exp2(jnp.where(exponent < low, low, jnp.where(exponent > high, high, exponent)))


def _bisected(
    excess: Callable[[Float[Array, "..."]], Float[Array, "..."]],
    low: Float[Array, "..."],
    high: Float[Array, "..."],
) -> Float[Array, "..."]:
    """The root of a descending function between ``low`` and ``high``, as far as their precision goes."""

    def halve(
        _: Int[Array, ""], bounds: tuple[Float[Array, "..."], Float[Array, "..."]]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        low, high = bounds
        middle = 0.5 * (low + high)
        above = excess(middle) > 0.0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    # Bounds in log age lie less than 64 apart, hence six halvings more than there are digits.
    low, high = jax.lax.fori_loop(0, jnp.finfo(low.dtype).nmant + 6, halve, (low, high))
    return 0.5 * (low + high)
