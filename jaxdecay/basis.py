r"""The curves that a bank mixes, and the modes that they are made of.

A rhythm is $2^{-a/e}\bigl(\tfrac12+\tfrac12\cos\tfrac{2\pi a}{p}\bigr)^m$, one curve; as modes it is $2m+1$
real states (`jaxdecay.kernels.harmonics`). Events that a request reads one by one are faded by the curve;
those that are summed into a state need its modes. The two are the same to rounding.
"""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Num

from jaxdecay.kernels import harmonics
from jaxdecay.modes import EXACT, Modes, angles, fades


class Basis(struct.PyTreeNode):
    """C curves with their rates (per day, 0 never fades), of which the last P are rhythms under an envelope
    of that rate."""

    rate: Float[Array, " c"]
    period: Float[Array, " p"]
    """Days."""
    sharpness: tuple[int, ...] = struct.field(pytree_node=False)
    """Of each of the P rhythms."""

    def curves(self, age: Num[Array, "..."]) -> Float[Array, "... c"]:
        """Every curve at the ages, 1 at age 0: integers are seconds, floats days, as in `Modes`."""
        fade = fades(self.rate, age)
        if not self.sharpness:
            return fade
        wave = 0.5 + 0.5 * jnp.cos(angles(2 * jnp.pi / self.period, age))
        sharp = jnp.stack([wave[..., i] ** power for i, power in enumerate(self.sharpness)], axis=-1)
        plain = self.rate.shape[0] - len(self.sharpness)
        return jnp.concatenate([fade[..., :plain], fade[..., plain:] * sharp], axis=-1)

    def phasors(self, age: Num[Array, "..."]) -> Float[Array, "parts ... m"]:
        """Those of the modes. Harmonics are powers of one turn, which spares their sines and cosines."""
        fade = fades(self.rate, age)
        if not self.sharpness:
            return fade[None]
        angle = angles(2 * jnp.pi / self.period, age)
        turn = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        envelope = fade[..., self.rate.shape[0] - len(self.sharpness) :]
        power = jnp.stack([envelope, jnp.zeros_like(envelope)])
        parts = [jnp.stack([fade, jnp.zeros_like(fade)])]
        for members in self._harmonics():
            power, turn = power[..., members], turn[..., members]
            real = power[0] * turn[0] - power[1] * turn[1]
            power = jnp.stack([real, power[0] * turn[1] + power[1] * turn[0]])
            parts.append(power)
        return jnp.concatenate(parts, axis=-1)

    def _harmonics(self) -> Iterator[np.ndarray]:
        """Of each harmonic, from the first on, which of the rhythms of the one before have it."""
        left = np.array(self.sharpness)
        while len(members := np.flatnonzero(left > 0)):
            left = left[members] - 1
            yield members

    def modes(self) -> Modes:
        """What the curves are sums of: a plain mode for each curve, then the rhythms' first harmonics, their
        second ones, and so on. `expand_writes` and `expand_reads` spread what belongs to the curves over
        them."""
        if not self.sharpness:
            return Modes(self.rate)
        curve, order, _ = self._of_modes()
        curves = self.rate.shape[0]
        rhythm = curve[curves:] - (curves - len(self.sharpness))
        frequency = jnp.asarray(order[curves:], self.rate.dtype) * (2 * jnp.pi / self.period)[rhythm]
        return Modes(self.rate[curve], frequency)

    def expand_writes(self, weights: Float[Array, "... c"]) -> Float[Array, "... m"]:
        """Write weights of the curves as those of the modes: each mode gets its share of its curve's."""
        return self._expanded(weights, self._of_modes()[2])

    def expand_reads(self, weights: Float[Array, "... c"]) -> Float[Array, "... m"]:
        """Read weights of the curves as those of the modes: all modes of a curve are read alike."""
        return self._expanded(weights, np.ones_like(self._of_modes()[2]))

    def _of_modes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(M,) of each mode: the curve it belongs to, which harmonic of it, and its share of it."""
        curves = self.rate.shape[0]
        plain = curves - len(self.sharpness)
        waves = [harmonics(sharpness) for sharpness in self.sharpness]
        curve, order = list(range(curves)), [0] * curves
        share = [1.0] * plain + [float(wave[0]) for wave in waves]
        rhythm = np.arange(len(waves))
        for number, members in enumerate(self._harmonics(), 1):
            rhythm = rhythm[members]
            curve += (plain + rhythm).tolist()
            order += [number] * len(rhythm)
            share += [float(waves[i][number]) for i in rhythm]
        return np.array(curve), np.array(order), np.array(share)

    def _expanded(self, weights: Float[Array, "... c"], share: np.ndarray) -> Float[Array, "... m"]:
        if not self.sharpness:
            return weights
        # A product, not a gather: its slope is one, too, and no scatter. One term of each sum is not 0.
        spread = np.zeros((self.rate.shape[0], len(share)), np.float32)
        spread[self._of_modes()[0], np.arange(len(share))] = share
        return jnp.matmul(weights, spread, precision=EXACT)
