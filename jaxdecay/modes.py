r"""Modes: the exponentials that a fading state is made of.

Mode $m$ fades as $e^{-\lambda_m\,\text{age}}\cos(\omega_m\,\text{age})$, with the rate $\lambda_m\ge 0$ per
day and the frequency $\omega_m$ in radians per day. A weighted sum of modes is a kernel that streams
exactly with one (complex) state a mode; nothing else does (exponential polynomials are the only kernels
with a finite linear state).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdecay.kernels import LN2

SECONDS_PER_DAY = 86_400.0


class Modes(NamedTuple):
    """Rates (per day, 0 never fades) and frequencies (radians per day, 0 does not oscillate) of M modes.

    ``frequency`` None says that no mode oscillates, which spares the sines and cosines.
    """

    rate: Float[Array, " m"]
    frequency: Float[Array, " m"] | None = None

    def curves(self, age: Float[Array, "..."]) -> Float[Array, "... m"]:
        """Every mode's curve at the ages (days, not negative): 1 at age 0."""
        age = age[..., None].astype(self.rate.dtype)
        fade = jnp.exp(-self.rate * age)
        return fade if self.frequency is None else fade * jnp.cos(self.frequency * age)

    def phasors(self, age: Float[Array, "..."]) -> Float[Array, "parts ... m"]:
        """Real and imaginary part of every mode's complex exponential, what its state turns by; the real
        part alone without oscillation."""
        age = age[..., None].astype(self.rate.dtype)
        fade = jnp.exp(-self.rate * age)
        if self.frequency is None:
            return fade[None]
        angle = self.frequency * age
        return jnp.stack([fade * jnp.cos(angle), fade * jnp.sin(angle)])

    def turned(self, state: Float[Array, "parts ..."], by: Float[Array, "parts ..."]) -> Float[Array, "..."]:
        """The real part of the complex product of a state and `phasors` by which it has turned."""
        real = state[0] * by[0]
        return real if self.frequency is None else real - state[1] * by[1]

    def turn(
        self, state: Float[Array, "parts m d"], by: Float[Array, "parts m"]
    ) -> Float[Array, "parts m d"]:
        """A state of vectors after the time of `phasors` ``by``: the whole complex product."""
        real = self.turned(state, by[..., None])
        if self.frequency is None:
            return real[None]
        return jnp.stack([real, state[0] * by[1][..., None] + state[1] * by[0][..., None]])

    def read(
        self, state: Float[Array, "parts m d"], by: Float[Array, "parts ... m"]
    ) -> Float[Array, "... d"]:
        """The modes of a state, turned by `phasors` times read weights, added up: the real part."""
        real = by[0] @ state[0]
        return real if self.frequency is None else real - by[1] @ state[1]


def in_days(seconds: Int[Array, "..."]) -> Float[Array, "..."]:
    """Differences of integer times as ages; a negative one counts as 0.

    They have the default precision; modes fade in that of their rates."""
    return jnp.maximum(seconds, 0).astype(jnp.result_type(float)) / SECONDS_PER_DAY


def bank(
    half_lives: Float[Array, " k"], period_half_lives: Float[Array, " p"], periods: Float[Array, " p"]
) -> Modes:
    """The modes of a bank: one that never fades, K exponentials, and P raised cosines under an exponential
    envelope.

    A raised cosine is half a plain mode and half an oscillating one, so the bank has ``1 + K + 2 P`` modes;
    `expand` spreads what belongs to the ``1 + K + P`` curves over them.
    """
    fade, envelope = LN2 / half_lives, LN2 / period_half_lives
    if not periods.size:
        return Modes(jnp.concatenate([jnp.zeros(1, fade.dtype), fade]))
    rate = jnp.concatenate([jnp.zeros(1, fade.dtype), fade, envelope, envelope])
    frequency = jnp.concatenate([jnp.zeros(1 + fade.size + envelope.size, fade.dtype), 2 * jnp.pi / periods])
    return Modes(rate, frequency)


def expand(weights: Float[Array, "... c"], periods: int, *, share: float = 0.5) -> Float[Array, "... m"]:
    """What is given per curve (``1 + K + P``) as given per mode (``1 + K + 2 P``).

    ``share`` is what each of a raised cosine's two modes gets of it: one half of a weight that is written,
    1 of a weight by which both are read.
    """
    if not periods:
        return weights
    plain, cyclic = weights[..., :-periods], share * weights[..., -periods:]
    return jnp.concatenate([plain, cyclic, cyclic], axis=-1)


def first_half(age: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    r"""The age at which each curve has first fallen to half of its value at age 0, or infinity if it never
    has.

    ``age`` (A,) ascending from 0, in days; ``kernel`` (..., A), sampled densely enough that it is close to
    straight between two ages (the crossing is interpolated linearly). Shape (...).
    """
    below = kernel <= 0.5 * kernel[..., :1]
    after = np.maximum(below.argmax(-1), 1)
    take = np.take_along_axis
    high = take(kernel, after[..., None] - 1, -1)[..., 0] - 0.5 * kernel[..., 0]
    low = 0.5 * kernel[..., 0] - take(kernel, after[..., None], -1)[..., 0]
    share = high / np.where(high + low > 0, high + low, 1.0)
    crossing = age[after - 1] + share * (age[after] - age[after - 1])
    return np.where(below.any(-1), crossing, np.inf)
