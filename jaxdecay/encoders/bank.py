r"""Decayed states as a sequence mixer: what each event finds of those before it, faded to its own time.

$$ s_j = \sum_{i \le j} \phi_h(g_j - g_i)\, W_v x_i, \qquad
y_j = W_o \Bigl( \frac{s_j}{\sqrt{\overline{s_j^2} + c^2}} \odot \mathrm{silu}(W_g x_j) \Bigr) $$

The heads $h$ split the dimensions. Each has a half-life of its own, learned, on one of two clocks $g$: time
in days, or the count of events, which tells the last from the last but one however fast they came. One pass
of `jaxdecay.scan` a clock, linear in the history, and a state of as many numbers as the width: it streams,
and what it carries from event to event is that state and one time (`Faded`).
All heads are normalised together and softly, so that how much each has left is not lost (a head on its own,
normalised, could not tell a minute from a month).

References:
    Sun et al.: Retentive network (2023) and Orvieto et al.: Resurrecting recurrent neural networks (2023),
    for decayed states as mixers of sequences; here they fade by real time.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdecay import clocks
from jaxdecay.encoders.events import Places
from jaxdecay.encoders.rates import check, learned, rates
from jaxdecay.errors import InputError
from jaxdecay.modes import in_days
from jaxdecay.scan import decay_scan


class Faded(NamedTuple):
    """What a stream carries: as many numbers as the width, and one time."""

    state: Float[Array, " d"]
    """As of the last event that counts."""
    time: Int[Array, ""]
    """Seconds: when that was; 0 before the first."""


class DecayMixer(nn.Module):
    """``half_lives`` (days) and ``steps`` (events): where the half-lives of the heads on either clock start;
    infinite for a head that never fades."""

    half_lives: tuple[float, ...]
    steps: tuple[float, ...]
    dtype: jax.typing.DTypeLike = jnp.float32

    def setup(self) -> None:
        if not self.half_lives and not self.steps:
            raise InputError("half_lives=(), steps=(): give at least one head")
        check("half_lives", self.half_lives)
        check("steps", self.steps)
        zeros = nn.initializers.zeros
        days, steps = learned(self.half_lives), learned(self.steps)
        self.days_shift = self.param("decay_days_shift", zeros, (days,)) if days else None
        self.steps_shift = self.param("decay_steps_shift", zeros, (steps,)) if steps else None
        self.log_softness = self.param("log_softness", nn.initializers.constant(-2.3), ())

    def rates(self) -> tuple[Float[Array, " h"], Float[Array, " e"]]:
        """Rates of the heads on both clocks, per day and per event."""
        return rates(self.half_lives, self.days_shift), rates(self.steps, self.steps_shift)

    @nn.nowrap
    def start(self, width: int) -> Faded:
        """What is carried before the first event."""
        return Faded(jnp.zeros(width, jnp.float32), jnp.int32(0))

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d"], places: Places, carry: Faded | None = None
    ) -> tuple[Float[Array, "n d"], Faded | None]:
        """With a ``carry`` the rows are one, and the carry after it comes beside what it finds."""
        width, heads = x.shape[1], len(self.half_lives) + len(self.steps)
        if width % heads:
            raise InputError(f"{heads} heads for {width} dimensions: give a divisor of it")
        values = nn.Dense(width, use_bias=False, dtype=self.dtype, name="value")(x)
        # Clocks, gates and states are float32 whatever the activations are.
        gate = nn.silu(nn.Dense(width, dtype=jnp.float32, name="gate")(x))
        values = jnp.where(places.mask[:, None], values.astype(jnp.float32), 0.0)
        if carry is None:
            state = self._states(values, places)
        else:
            carry = self._next(carry, values, places)
            state = carry.state[None]
        softness = jnp.exp(2.0 * self.log_softness)
        state *= jax.lax.rsqrt(jnp.square(state).mean(1, keepdims=True) + softness)
        mixed = (state * gate).astype(self.dtype)
        zeros = nn.initializers.zeros
        return nn.Dense(width, dtype=self.dtype, kernel_init=zeros, name="out")(mixed), carry

    def _states(self, values: Float[Array, "n d"], places: Places) -> Float[Array, "n d"]:
        """The state after each event."""
        own = clocks.carried(places.time, places.mask)
        gaps = in_days(jnp.diff(own, prepend=own[:1])), places.mask.astype(jnp.float32)
        width, heads = values.shape[1], len(self.half_lives) + len(self.steps)
        split = width // heads * len(self.half_lives)
        states = [
            decay_scan(rate, gap, part)
            for rate, gap, part in zip(self.rates(), gaps, jnp.split(values, [split], axis=1), strict=True)
            if part.shape[1]
        ]
        return jnp.concatenate(states, axis=1)

    def _next(self, carry: Faded, values: Float[Array, "1 d"], places: Places) -> Faded:
        """The state after one more event; the same after one that does not count."""
        days, steps = self.rates()
        lost = jnp.concatenate([days * in_days(places.time[0] - carry.time), steps])
        kept = jnp.repeat(jnp.exp(-lost), len(carry.state) // len(lost)) * carry.state + values[0]
        counts = places.mask[0]
        after = Faded(kept, places.time[0].astype(carry.time.dtype))
        return jax.tree.map(lambda new, old: jnp.where(counts, new, old), after, carry)
