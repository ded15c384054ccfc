r"""Softmax attention with a learned bias: for each distance in the row of events (the mixer of SASRec with
relative places), for each day of age, or for both.

$$ y_j = W_o \sum_{i \le j} \mathrm{softmax}_i\Bigl( \frac{\langle q_j, k_i \rangle}{\sqrt{d_h}} + b_h(j - i)
- \lambda_h (t_j - t_i) \Bigr)\, v_i $$

Distances are counted in events and shared beyond the longest, so that histories of any length are read. Each
head $h$ has a rate $\lambda_h$ of its own, learned as a half-life in days: the exponential kernel, as a bias.
By position alone no time enters.

It does not stream in a state: one event at a time, it carries the keys, values and times of the last
``context`` events (`Window`), and reads them all again for each.

References:
    Kang, McAuley: Self-attentive sequential recommendation (2018); Raffel et al.: Exploring the limits of
    transfer learning (2020), for places as biases of distances; Press, Smith, Lewis: Train short, test long
    (2022), for biases that grow with distance, here in time.
"""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.encoders.events import Places
from jaxdecay.encoders.pairs import REACH, distance, in_heads, seen
from jaxdecay.encoders.rates import check, learned, rates
from jaxdecay.errors import InputError
from jaxdecay.modes import in_days

Bias = Literal["position", "time", "both"]

_LOWEST = -1e30


class Window(NamedTuple):
    """What a stream carries: the last C events that count, oldest first, behind as many empty places as are
    wanting."""

    key: Float[Array, "c h w"]
    value: Float[Array, "c h w"]
    time: Int[Array, " c"]
    filled: Bool[Array, " c"]


class Attention(nn.Module):
    """``heads`` of equal width; ``context``: events that each sees, its own included, 0 for all before it.
    ``bias``: by position, time or both; ``half_lives`` (days): where those of the heads start for the latter
    two, infinite for a head that time does not reach."""

    heads: int
    context: int = 0
    bias: Bias = "position"
    half_lives: tuple[float, ...] = ()
    dtype: jax.typing.DTypeLike = jnp.float32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bias != "position" and len(self.half_lives) != self.heads:
            raise InputError(
                f"bias={self.bias!r}: {len(self.half_lives)} half_lives for {self.heads} heads; give one each"
            )
        check("half_lives", self.half_lives)

    @nn.nowrap
    def start(self, width: int) -> Window:
        """What is carried before the first event."""
        if not self.context:
            raise InputError("context=0: attention to all events carries them all; give a context to stream")
        split = in_heads((self.context, width), self.heads)
        none = jnp.zeros(self.context, jnp.int32)
        return Window(jnp.zeros(split, self.dtype), jnp.zeros(split, self.dtype), none, none > 0)

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d"], places: Places, carry: Window | None = None
    ) -> tuple[Float[Array, "n d"], Window | None]:
        """With a ``carry`` the rows are one, and the carry after it comes beside what it finds."""
        width = x.shape[1]
        split = in_heads(x.shape, self.heads)
        query, key, value = (
            nn.Dense(width, use_bias=False, dtype=self.dtype, name=name)(x).reshape(split)
            for name in ("query", "key", "value")
        )
        time = places.time
        if carry is None:
            ago, visible = distance(len(x)), seen(places, self.context)
        else:
            key, value, time, filled = window = _shifted(carry, key, value, places.time)
            ago, visible = distance(self.context)[-1:], filled[None]
            carry = jax.tree.map(lambda new, old: jnp.where(places.mask[0], new, old), window, carry)
        logits = jnp.einsum("qhd,khd->hqk", query, key, preferred_element_type=jnp.float32)
        logits = logits / split[2] ** 0.5
        if self.bias != "time":
            near = self.param("distance", nn.initializers.zeros, (self.heads, REACH))
            logits += near[:, ago]
        if self.bias != "position":
            # Where an event is not seen it has no age: its time may be anything.
            age = jnp.where(visible, in_days(places.time[:, None] - time[None]), 0.0)
            logits -= self._rates()[:, None, None] * age
        weights = jax.nn.softmax(jnp.where(visible[None], logits, _LOWEST), axis=-1)
        weights = jnp.where(visible[None], weights, 0.0).astype(self.dtype)
        mixed = jnp.einsum("hqk,khd->qhd", weights, value).reshape(x.shape)
        zeros = nn.initializers.zeros
        return nn.Dense(width, dtype=self.dtype, kernel_init=zeros, name="out")(mixed), carry

    def _rates(self) -> Float[Array, " h"]:
        """Per day."""
        number = learned(self.half_lives)
        zeros = nn.initializers.zeros
        return rates(self.half_lives, self.param("decay_days_shift", zeros, (number,)) if number else None)


def _shifted(
    carry: Window, key: Float[Array, "1 h w"], value: Float[Array, "1 h w"], time: Int[Array, " 1"]
) -> Window:
    """The window with one more event, without the oldest."""
    fresh = Window(key, value, time.astype(carry.time.dtype), jnp.ones(1, bool))
    return jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new]), carry, fresh)
