r"""How far what a user does lately stands from what came before, in units of chance: drift in O(1).

A fast mode $f$ and a slow mode $s$ of a bank hold faded sums of the vectors of events. Over the faded sums
$n$ of their weights they are faded means, and while nothing drifts both are means of the same, so that their
difference is noise, of a size that is known:

$$ \operatorname{Var}(f - s) = \sigma^2 \left(\frac{q_f}{n_f^2} + \frac{q_s}{n_s^2}
   - \frac{2 q_{fs}}{n_f n_s}\right), \qquad z = \frac{\lVert f - s \rVert^2}{\operatorname{Var}(f - s)} $$

with $q_{ab} = \sum_j w_{aj} w_{bj} e^{-(\lambda_a + \lambda_b)(t - t_j)}$, faded sums themselves, at the sums
of the rates. $\sigma^2$ is the variance of an event's vector about its mean, all dimensions together: what a
user's own events say, shrunk to what is said in general. Without drift $z$ is about 1, however many events
there are and however unevenly they lie; a raw cosine between the two is far from 1 for whoever has few.

Nothing of this changes while a user is away: both means stay where they are, and so does $z$. One user, no
batch axis: use `jax.vmap`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from jaxdecay.scan import decay_scan

_TINY = 1e-12  # of a variance: where everybody points at one thing
_LEAST = 1e-3  # of the variance's factor: with less, fast and slow are means of the same events


class Paces(NamedTuple):
    """What is fast and what slow, and what is said in general of how vectors vary."""

    rate: Float[Array, "2"]
    """Per day: fast, slow."""
    variance: Float[Array, ""]
    """Of an event's vector about the mean of its user's, all dimensions together."""
    evidence: Float[Array, ""]
    """Events of a user's own that count as much as it."""


class Spread(NamedTuple):
    """What stands beside a fast and a slow mode, as of the latest event: by it is known how far they would
    lie apart by chance."""

    weights: Float[Array, "2"]
    """Faded sums of the weights by which events were written there, fast and slow."""
    products: Float[Array, "3"]
    """Faded sums of the products of these weights: fast twice, slow twice, one of each."""
    energy: Float[Array, ""]
    """Slowly faded sum of the vectors' squared lengths."""


def init() -> Spread:
    """Before any event."""
    return Spread(jnp.zeros(2), jnp.zeros(3), jnp.zeros(()))


def update(
    paces: Paces,
    spread: Spread,
    gap: Float[Array, ""],
    square: Float[Array, ""],
    writes: Float[Array, "2"] | None = None,
) -> Spread:
    """The spread after an event, ``gap`` days after the one before, of a vector of this squared length,
    written by these weights (1). The modes themselves are the bank's (`jaxdecay.state.update`)."""
    writes = jnp.ones(2) if writes is None else writes
    fade = jnp.exp(-paces.rate * gap)
    return Spread(
        fade * spread.weights + writes,
        _pairs(fade) * spread.products + _pairs(writes),
        fade[1] * spread.energy + writes[1] * square,
    )


def statistic(paces: Paces, modes: Float[Array, "2 d"], spread: Spread) -> Float[Array, ""]:
    """$z$ as of the latest event; 0 where there is nothing to compare. ``modes``: fast and slow, faded sums
    of what was written there."""
    return _standardised(paces, modes, *spread)


def raised(
    reads: Float[Array, " c"],
    half_lives: Float[Array, " c"],
    z: Float[Array, ""],
    *,
    fast: float,
    threshold: float,
    strength: float = 1.0,
) -> Float[Array, " c"]:
    r"""Read weights (mean 1) after a detection: curves no slower than ``fast`` days are raised by $e$ to the
    `rise` against the others, and all keep their mean. Smooth in $z$, so that gradients reach the rates and
    the vectors that it was made of."""
    moved = reads * jnp.exp(jnp.where(half_lives <= fast, rise(z, threshold, strength), 0.0))
    return moved * reads.sum() / moved.sum()


def rise(z: Float[Array, "*n"], threshold: float, strength: float) -> Float[Array, "*n"]:
    r"""$s\,\sigma(4 (z / \text{threshold} - 1))$: by how much fast read logits rise, half of ``strength`` at
    the threshold and 2 % of it without drift."""
    return strength * jax.nn.sigmoid(4.0 * (z / threshold - 1.0))


def after_each(
    paces: Paces,
    gap: Float[Array, " n"],
    vectors: Float[Array, "n d"],
    mask: Bool[Array, " n"],
    writes: Float[Array, "n 2"] | None = None,
) -> Float[Array, " n"]:
    """$z$ after each of a user's events, all at once: what `update` and `statistic` give one by one, with the
    modes of `jaxdecay.state.update`.

    ``gap``: days since the event before. ``mask``: False at padding, on any side, where $z$ stays as it was.
    """
    count, width = vectors.shape
    writes = jnp.ones((count, 2)) if writes is None else writes
    writes = jnp.where(mask[:, None], writes, 0.0)
    vectors = jnp.where(mask[:, None], vectors, 0.0)
    events = (writes[:, :, None] * vectors[:, None, :]).reshape(count, 2 * width)
    sums = decay_scan(paces.rate, gap, events).reshape(count, 2, width)
    energy = writes[:, 1] * (vectors * vectors).sum(-1)
    numbers = jnp.concatenate([writes, _pairs(writes), energy[:, None]], axis=-1)
    fast, slow = paces.rate[0], paces.rate[1]
    rates = jnp.stack([fast, slow, 2 * fast, 2 * slow, fast + slow, slow])
    faded = decay_scan(rates, gap, numbers)
    found = _standardised(paces, sums, faded[:, :2], faded[:, 2:5], faded[:, 5])
    # What has faded beyond float32 tells nothing: at padding the statistic is that of the event before.
    last = jax.lax.cummax(jnp.where(mask, jnp.arange(count), -1))
    return jnp.where(last >= 0, found[last], 0.0)


def _pairs(x: Float[Array, "... 2"]) -> Float[Array, "... 3"]:
    """Products: of the first with itself, the second with itself, and of both."""
    return jnp.stack([x[..., 0] * x[..., 0], x[..., 1] * x[..., 1], x[..., 0] * x[..., 1]], axis=-1)


def _standardised(
    paces: Paces,
    vectors: Float[Array, "... 2 d"],
    weights: Float[Array, "... 2"],
    products: Float[Array, "... 3"],
    energy: Float[Array, "..."],
) -> Float[Array, "..."]:
    there = weights > 0
    total = jnp.where(there, weights, 1.0)
    fast, slow = jnp.moveaxis(vectors / total[..., None], -2, 0)
    shares = jnp.where(there.all(-1)[..., None], products / _pairs(total), 1.0)
    spread = shares[..., 0] + shares[..., 1] - 2.0 * shares[..., 2]
    # A sample variance times the events behind it, and what is said in general times those that it counts as.
    own = jnp.maximum(energy / total[..., 1] - (slow * slow).sum(-1), 0.0)
    behind = 1.0 / jnp.where(there[..., 1], shares[..., 1], 1.0)
    variance = (paces.evidence * paces.variance + behind * own) / (paces.evidence + behind - 1.0)
    apart = ((fast - slow) ** 2).sum(-1)
    chance = jnp.maximum(variance, _TINY) * jnp.maximum(spread, _LEAST)
    return jnp.where(there.all(-1), apart / chance, 0.0)
