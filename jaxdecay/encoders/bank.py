r"""Decayed states as a sequence mixer: what each event finds of those before it, faded to its own time.

$$ s_j = \sum_{i \le j} \phi_h(g_j - g_i)\, W_v x_i, \qquad
y_j = W_o \Bigl( \frac{s_j}{\sqrt{\overline{s_j^2} + c^2}} \odot \mathrm{silu}(W_g x_j) \Bigr) $$

The heads $h$ split the dimensions. Each has a half-life of its own, learned, on one of two clocks $g$: time
in days, or the count of events, which tells the last from the last but one however fast they came. One pass
of `jaxdecay.scan` a clock, linear in the history, and a state of as many numbers as the width: it streams.
All heads are normalised together and softly, so that how much each has left is not lost (a head on its own,
normalised, could not tell a minute from a month).

References:
    Sun et al.: Retentive network (2023) and Orvieto et al.: Resurrecting recurrent neural networks (2023),
    for decayed states as mixers of sequences; here they fade by real time.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay import clocks
from jaxdecay.encoders.events import Places
from jaxdecay.errors import InputError
from jaxdecay.interest import LONGEST, SHORTEST, within
from jaxdecay.kernels import LN2
from jaxdecay.modes import in_days
from jaxdecay.scan import decay_scan


class DecayMixer(nn.Module):
    """``half_lives`` (days) and ``steps`` (events): where the half-lives of the heads on either clock start;
    infinite for a head that never fades."""

    half_lives: tuple[float, ...]
    steps: tuple[float, ...]
    dtype: jax.typing.DTypeLike = jnp.float32

    def setup(self) -> None:
        if not self.half_lives and not self.steps:
            raise InputError("half_lives=(), steps=(): give at least one head")
        for name, starts in (("half_lives", self.half_lives), ("steps", self.steps)):
            for start in starts:
                if start < float("inf"):
                    within(name, start, SHORTEST, LONGEST)
        zeros = nn.initializers.zeros
        learned = [sum(start < float("inf") for start in starts) for starts in (self.half_lives, self.steps)]
        self.days_shift = self.param("decay_days_shift", zeros, (learned[0],)) if learned[0] else None
        self.steps_shift = self.param("decay_steps_shift", zeros, (learned[1],)) if learned[1] else None
        self.log_softness = self.param("log_softness", nn.initializers.constant(-2.3), ())

    def rates(self) -> tuple[Float[Array, " h"], Float[Array, " e"]]:
        """Rates of the heads on both clocks, per day and per event."""
        return _rates(self.half_lives, self.days_shift), _rates(self.steps, self.steps_shift)

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], places: Places) -> Float[Array, "n d"]:
        width, heads = x.shape[1], len(self.half_lives) + len(self.steps)
        if width % heads:
            raise InputError(f"{heads} heads for {width} dimensions: give a divisor of it")
        values = nn.Dense(width, use_bias=False, dtype=self.dtype, name="value")(x)
        # Clocks, gates and states are float32 whatever the activations are.
        gate = nn.silu(nn.Dense(width, dtype=jnp.float32, name="gate")(x))
        values = jnp.where(places.mask[:, None], values.astype(jnp.float32), 0.0)
        own = clocks.carried(places.time, places.mask)
        gaps = in_days(jnp.diff(own, prepend=own[:1])), places.mask.astype(jnp.float32)
        split = width // heads * len(self.half_lives)
        states = [
            decay_scan(rate, gap, part)
            for rate, gap, part in zip(self.rates(), gaps, jnp.split(values, [split], axis=1), strict=True)
            if part.shape[1]
        ]
        state = jnp.concatenate(states, axis=1)
        softness = jnp.exp(2.0 * self.log_softness)
        state *= jax.lax.rsqrt(jnp.square(state).mean(1, keepdims=True) + softness)
        mixed = (state * gate).astype(self.dtype)
        return nn.Dense(width, dtype=self.dtype, kernel_init=nn.initializers.zeros, name="out")(mixed)


def _rates(starts: tuple[float, ...], shift: Float[Array, " k"] | None) -> Float[Array, " h"]:
    """Rates of heads whose finite half-lives are moved by ``shift`` (a logarithm)."""
    rates, learned = [], 0
    for start in starts:
        if start < float("inf"):
            assert shift is not None
            rates.append(LN2 / start * jnp.exp(-jnp.clip(shift[learned], -12.0, 12.0)))
            learned += 1
        else:
            rates.append(jnp.zeros((), jnp.float32))
    return jnp.stack(rates) if rates else jnp.zeros(0, jnp.float32)
