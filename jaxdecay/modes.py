r"""Modes: the exponentials that a fading state is made of.

Mode $m$ fades as $e^{-\lambda_m\,\text{age}}\cos(\omega_m\,\text{age})$, with the rate $\lambda_m\ge 0$ per
day and the frequency $\omega_m$ in radians per day. A weighted sum of modes is a kernel that streams
exactly with one (complex) state a mode. (Chains $t^n e^{-\lambda t}$ stream, too: `jaxdecay.chains`; and
beyond these exponential polynomials no continuous kernel does.)

Ages are whole seconds, for which an oscillation keeps its phase at any age (`jaxdecay.phase`), or days.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Float, Int, Num

from jaxdecay import phase
from jaxdecay.errors import InputError
from jaxdecay.kernels.ages import aligned

SECONDS_PER_DAY = 86_400.0
EXACT = Precision.HIGHEST
"""Of products that add up what is left of events: accelerators round the factors of float32 products to three
digits (TF32, bfloat16) unless told otherwise, and parallel reading would not equal streaming."""


class Modes(NamedTuple):
    """Rates (per day, 0 never fades) of M modes, and frequencies (radians per day, 0 does not oscillate) of
    the last W of them.

    The others do not oscillate, which spares their sines and cosines; ``frequency`` None: none does.
    """

    rate: Float[Array, " m"]
    frequency: Float[Array, " w"] | None = None

    def curves(self, age: Num[Array, "..."]) -> Float[Array, "... m"]:
        """Every mode's curve at the ages, 1 at age 0: integers are seconds (a negative one counts as 0),
        floats days (not negative)."""
        return self._turned(age)[0]

    def modes(self) -> "Modes":
        """Themselves: to `jaxdecay.readout`, which also takes a `jaxdecay.basis.Basis`, a mode is a curve."""
        return self

    def expand_writes(self, weights: Float[Array, "... m"]) -> Float[Array, "... m"]:
        """The same: there is nothing to expand."""
        return weights

    def expand_reads(self, weights: Float[Array, "... m"]) -> Float[Array, "... m"]:
        """The same."""
        return weights

    def phasors(self, age: Num[Array, "..."]) -> Float[Array, "parts ... m"]:
        """Real and imaginary part of every mode's complex exponential, what its state turns by; the real
        part alone without oscillation."""
        real, imaginary = self._turned(age)
        return real[None] if imaginary is None else jnp.stack([real, imaginary])

    def _turned(self, age: Num[Array, "..."]) -> tuple[Float[Array, "... m"], Float[Array, "... m"] | None]:
        fade = fades(self.rate, age)
        if self.frequency is None:
            return fade, None
        angle = angles(self.frequency, age)
        plain, waves = jnp.split(fade, [self.rate.shape[0] - self.frequency.shape[0]], axis=-1)
        real = jnp.concatenate([plain, waves * jnp.cos(angle)], axis=-1)
        return real, jnp.concatenate([jnp.zeros_like(plain), waves * jnp.sin(angle)], axis=-1)

    def real_product(
        self, state: Float[Array, "parts ..."], by: Float[Array, "parts ..."]
    ) -> Float[Array, "..."]:
        """The real part of the complex product of a state and `phasors`, number by number."""
        real = state[0] * by[0]
        return real if self.frequency is None else real - state[1] * by[1]

    def advance(
        self, state: Float[Array, "parts m d"], by: Float[Array, "parts m"]
    ) -> Float[Array, "parts m d"]:
        """A state of vectors after the time of `phasors` ``by``: the whole complex product."""
        real = self.real_product(state, by[..., None])
        if self.frequency is None:
            return real[None]
        return jnp.stack([real, state[0] * by[1][..., None] + state[1] * by[0][..., None]])

    def read(
        self, state: Float[Array, "parts m d"], by: Float[Array, "parts ... m"]
    ) -> Float[Array, "... d"]:
        """The modes of a state, turned by `phasors` times read weights, added up: the real part."""
        real = jnp.matmul(by[0], state[0], precision=EXACT)
        if self.frequency is None:
            return real
        return real - jnp.matmul(by[1], state[1], precision=EXACT)


def fades(rate: Float[Array, " m"], age: Num[Array, "..."]) -> Float[Array, "... m"]:
    r"""$e^{-\lambda_m\,\text{age}}$ for ages as in `Modes.curves`."""
    days, rate = aligned(1, _days(age, rate.dtype)[..., None], rate)
    return jnp.exp(-rate * days)


def angles(frequency: Float[Array, " w"], age: Num[Array, "..."]) -> Float[Array, "... w"]:
    """Radians that an oscillation of each frequency (radians per day) has turned by, up to whole turns, for
    ages as in `Modes.curves`."""
    if jnp.issubdtype(age.dtype, jnp.integer) and frequency.dtype == jnp.float32:
        return phase.angle(frequency, jnp.maximum(age, 0))
    days, frequency = aligned(1, _days(age, frequency.dtype)[..., None], frequency)
    return frequency * days


def _days(age: Num[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    return (in_days(age) if jnp.issubdtype(age.dtype, jnp.integer) else age).astype(dtype)


def whole(seconds: Num[Array, "..."]) -> Int[Array, "..."]:
    """Differences of times; a negative one counts as 0.

    Raises InputError for times that are no integers: float32 knows the time of today to a minute.
    """
    if not jnp.issubdtype(seconds.dtype, jnp.integer):
        raise InputError(f"times are {seconds.dtype}: give whole seconds as integers, which are exact")
    return jnp.maximum(seconds, 0)


def in_days(seconds: Num[Array, "..."]) -> Float[Array, "..."]:
    """The same in days, in the default precision; modes fade in that of their rates."""
    return whole(seconds).astype(jnp.result_type(float)) / SECONDS_PER_DAY


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
