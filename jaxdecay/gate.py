r"""Forgetting that depends on what happens: a gate by time and by content.

$$ s_t = a_t \odot s_{t-1} + b_t, \qquad a_t = \exp\bigl(-(\lambda \Delta_t + \mathrm{softplus}(w \cdot x_t +
c))\bigr) $$

K heads of D / K dimensions, each with a half-life and a gate $(w, c)$ of its own. Features $x_t$ of an event
decide how much of what came *before* it is kept; nothing raises the gate above the one by time. It is the
recurrence of `jaxdecay.scan` on a clock of its own for each head, which an event moves by $\lambda \Delta_t +
\mathrm{softplus}(\cdot)$.

The price: what an event has left depends on all events after it. The state is no longer a sum over events,
so that one can neither be deleted nor come late, and two states cannot be merged: the history must be
replayed. `Gate.forget` and `Gate.merge` say so.

Sources: Mei & Eisner, *The neural Hawkes process* (2017), for decay between events and gates at them; Gu &
Dao, *Mamba* (2023), for the softplus.
"""

from collections.abc import Mapping
from typing import NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay import clocks
from jaxdecay.errors import InputError
from jaxdecay.fading import half_lives
from jaxdecay.interest import LONGEST, SHORTEST, within
from jaxdecay.kernels import LN2
from jaxdecay.modes import EXACT, in_days
from jaxdecay.scan import decay_scan
from jaxdecay.state import State

_CLOSED = -4.0  # a logit by which an event forgets 2 % of what was before it


class Gate(nn.Module):
    """K heads, with ``half_lives`` (days) where learning starts, and ``features`` numbers that gate.

    At first every event takes 2 % off what was before it, whatever its features. Everything learned lies
    under ``decay``.

    >>> module, time = Gate((7.0,), features=1), jnp.array([0, 7 * 86_400])
    >>> params = {"log_half_life": jnp.log(jnp.array([7.0])), "weights": jnp.array([[40.0]])}
    >>> params = {"params": {"decay": params | {"bias": jnp.array([-20.0])}}}
    >>> for kind in (0.0, 1.0):  # an event that lets pass what was before it, and one that clears it
    ...     kinds = jnp.array([[0.0], [kind]])
    ...     module.apply(params, jnp.array([[8.0], [1.0]]), kinds, time)[:, 0].round(4).tolist()
    [8.0, 5.0]
    [8.0, 1.0]
    """

    half_lives: tuple[float, ...]
    features: int

    def setup(self) -> None:
        heads = len(self.half_lives)
        if not heads:
            raise InputError("half_lives=(): give one or more, in days")
        for half_life in self.half_lives:
            within("half_lives", half_life, SHORTEST, LONGEST)

        def starts(_: Array) -> dict[str, Array]:
            return {
                "log_half_life": jnp.log(jnp.asarray(self.half_lives, jnp.float32)),
                "weights": jnp.zeros((self.features, heads), jnp.float32),
                "bias": jnp.full(heads, _CLOSED, jnp.float32),
            }

        self.decay: Mapping[str, Array] = self.param("decay", starts)

    def __call__(
        self,
        events: Float[Array, "l d"],
        features: Float[Array, "l f"],
        time: Int[Array, " l"],
        *,
        at: Int[Array, " l"] | None = None,
        mask: Bool[Array, " l"] | None = None,
    ) -> Float[Array, "l d"]:
        """The state after each event, faded to the times ``at`` (by default the event's own).

        ``time`` int32 seconds, ascending where ``mask``; padding on any side moves nothing and forgets
        nothing (its own rows read what there is at their ``at``). Causal: what comes later changes nothing
        before it, in value and gradient exactly.
        """
        mask = jnp.ones(len(time), bool) if mask is None else mask
        own = clocks.carried(time, mask)
        features = jnp.where(mask[:, None], features, 0.0)
        gap = self._advance(in_days(jnp.diff(own, prepend=own[:1])), features)
        gap = jnp.where(mask[:, None], gap, 0.0)
        heads = self._heads(jnp.where(mask[:, None], events, 0.0))
        pace = jnp.ones(1, gap.dtype)
        states = jax.vmap(lambda gap, own: decay_scan(pace, gap, own), in_axes=1, out_axes=1)(gap, heads)
        if at is not None:
            states = states * self._fade(at - own)[..., None]
        return states.reshape(events.shape)

    def start(self, width: int) -> State:
        """The state before any event, of vectors of ``width`` numbers; times are 0 or later."""
        return State(self._heads(jnp.zeros((1, width), jnp.float32)), jnp.int32(0))

    def update(
        self, state: State, at: Int[Array, ""], features: Float[Array, " f"], event: Float[Array, " d"]
    ) -> State:
        """The state after one more event, which must not be earlier than the last (else it counts as
        simultaneous)."""
        gap = self._advance(in_days(at - state.time)[None], features[None])
        value = state.value * jnp.exp(-gap)[..., None] + self._heads(event[None])
        return State(value, jnp.maximum(state.time, at))

    def read(self, state: State, at: Int[Array, ""]) -> Float[Array, " d"]:
        """The interest at ``at``, not before the latest event (earlier counts as then)."""
        return (state.value * self._fade((at - state.time)[None])[..., None]).reshape(-1)

    def forget(self, *_: object) -> NoReturn:
        """Refused: what an event has left depends on all events after it."""
        raise InputError("forget: a gate sees more than one event; replay the history without that one")

    def merge(self, *_: object) -> NoReturn:
        """Refused: what the one's events have left depends on the other's."""
        raise InputError("merge: a gate sees more than one event; replay both histories in order of time")

    def _advance(self, gap: Float[Array, " l"], features: Float[Array, "l f"]) -> Float[Array, "l k"]:
        """By how much each event moves each head's clock: all that came before has faded by exp of minus
        that."""
        logit = jnp.matmul(features, self.decay["weights"], precision=EXACT) + self.decay["bias"][None]
        return gap[:, None] * self._rates() + jax.nn.softplus(logit)

    def _fade(self, seconds: Int[Array, " l"]) -> Float[Array, "l k"]:
        return jnp.exp(-in_days(seconds)[:, None] * self._rates())

    def _rates(self) -> Float[Array, "1 k"]:
        return LN2 / half_lives(self.decay)[None]

    def _heads(self, vectors: Float[Array, "l d"]) -> Float[Array, "l k e"]:
        heads = len(self.half_lives)
        if vectors.shape[1] % heads:
            raise InputError(f"{heads} half_lives for {vectors.shape[1]} dimensions: give a divisor of it")
        return vectors.reshape(len(vectors), heads, -1)
