r"""The interest bank as a Flax module: shared half-lives, and who writes and reads them how.

The kernel that a user $u$ and an event $j$ obey is $\varphi_{uj}(\text{age}) = \sum_c r_{uc}\, w_{jc}\,
\varphi_c(\text{age})$ over the bank's curves: one that never fades, K exponentials with learned half-lives,
and P raised cosines, each to the power of its sharpness, with learned periods under a fading envelope. Rates
are shared and few, so that they are identifiable; what differs between items, behaviours and users lives in
the write weights $w$ and the read weights $r$.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdecay import readout
from jaxdecay.basis import Basis
from jaxdecay.errors import InputError
from jaxdecay.kernels import LN2
from jaxdecay.modes import EXACT, Modes

_RHYTHM = -2.0  # a logit that leaves a rhythm little beside a plain curve
_NEVER = -30.0  # a logit that leaves nothing
ENVELOPE = 60.0  # days a rhythm is first believed to last
# A period is known far more sharply than a half-life (its phase error grows with age): it moves finely.
PERIOD_SCALE = 30.0
SHORTEST, LONGEST = 1 / 86_400, 3.65e6  # days between which half-lives are kept


def bounded(log_half_life: Float[Array, " k"]) -> Float[Array, " k"]:
    """Half-lives in days, between a second and ten thousand years; without slope beyond."""
    return jnp.exp(jnp.clip(log_half_life, math.log(SHORTEST), math.log(LONGEST)))


def within(name: str, value: float, low: float, high: float) -> float:
    """A number that a parameter can start from, or InputError."""
    if not low <= value <= high:
        raise InputError(f"{name}={value:g}: start between {low:.3g} and {high:.3g}")
    return value


def write_start(half_lives: int, periods: int, *, floor: bool = True) -> np.ndarray:
    """(1 + K + P,) float32 logits of the curves' write weights before anything is learned: all alike but
    rhythms, which the data must show.

    Without a floor the curve that never fades has no weight, and stays so when frozen.
    """
    start = np.zeros(1 + half_lives + periods, np.float32)
    start[0] = 0.0 if floor else _NEVER
    start[1 + half_lives :] = _RHYTHM
    return start


class Bank(nn.Module):
    """Half-lives, periods, write and read weights. All its parameters are decay parameters: no weight
    decay, a learning rate of their own.

    ``half_lives`` and ``periods`` (days) are where learning starts; ``sharpness`` is that of each rhythm (see
    `kernels.raised_cosine`), 1 where none is given. ``groups`` counts the item groups with
    weights of their own, and ``items``, ``behaviours``, ``users`` likewise; 0 switches a level off. Index 0
    of groups is "no group"; an item or user index beyond the table gets no deviation, so a new item or user
    gets the average. ``content``: length of the vectors that say what items are like, if items that are alike
    are to deviate alike, new ones among them.
    """

    half_lives: tuple[float, ...]
    periods: tuple[float, ...] = ()
    sharpness: tuple[int, ...] = ()
    groups: int = 0
    items: int = 0
    behaviours: int = 0
    users: int = 0
    content: int = 0
    adaptive: bool = False
    floor: bool = True

    @property
    def curves(self) -> int:
        return 1 + len(self.half_lives) + len(self.periods)

    def setup(self) -> None:
        zeros, curves = nn.initializers.zeros, self.curves
        for half_life in self.half_lives:
            within("half_lives", half_life, SHORTEST, float("inf"))
        for period in self.periods:
            within("periods", period, SHORTEST, LONGEST)
        if len(self.sharpness) not in (0, len(self.periods)):
            raise InputError(f"{len(self.periods)} periods, {len(self.sharpness)} sharpness: give as many")

        def log_of(values: tuple[float, ...]) -> nn.initializers.Initializer:
            return lambda key, shape: jnp.log(jnp.asarray(values, jnp.float32)).reshape(shape)

        def optional(name: str, start: nn.initializers.Initializer, size: int) -> Float[Array, " n"]:
            return self.param(name, start, (size,)) if size else jnp.zeros(0)

        rhythms = len(self.periods)
        self.log_half_life = optional("log_half_life", log_of(self.half_lives), len(self.half_lives))
        self.period_shift = optional("period_shift", zeros, rhythms)
        self.log_envelope = optional("log_envelope", log_of((ENVELOPE,) * rhythms), rhythms)
        self.write = self.param("write", self._write_start, (curves,))
        self.group_write = self.param("group_write", zeros, (self.groups, curves)) if self.groups else None
        self.item_write = self.param("item_write", zeros, (self.items, curves)) if self.items else None
        self.behaviour_write = (
            self.param("behaviour_write", zeros, (self.behaviours, curves)) if self.behaviours else None
        )
        shape = (self.content, curves)
        self.content_write = self.param("content_write", zeros, shape) if self.content else None
        self.user_read = self.param("user_read", zeros, (self.users, curves)) if self.users else None
        self.state_read = self.param("state_read", zeros, (curves, curves)) if self.adaptive else None

    def _write_start(self, key: Array, shape: tuple[int, ...]) -> Float[Array, " c"]:
        return jnp.asarray(write_start(len(self.half_lives), len(self.periods), floor=self.floor))

    def basis(self) -> Basis:
        """The bank's curves with their present rates: one that never fades, K exponentials, and P rhythms
        under their envelopes."""
        half_life, envelope, period = self.paces()
        never = jnp.zeros(1, half_life.dtype)
        rate = jnp.concatenate([never, LN2 / half_life, LN2 / envelope])
        return Basis(rate, period, self.sharpness or (1,) * len(self.periods))

    def paces(self) -> tuple[Float[Array, " k"], Float[Array, " p"], Float[Array, " p"]]:
        """Half-lives, half-lives of the rhythms' envelopes, and periods, in days; half-lives are kept
        between a second and ten thousand years."""
        half_life, envelope = bounded(self.log_half_life), bounded(self.log_envelope)
        period = jnp.asarray(self.periods, jnp.float32) * jnp.exp(self.period_shift / PERIOD_SCALE)
        return half_life, envelope, period

    def content_logits(self, content: Float[Array, "v d"]) -> Float[Array, "v c"] | None:
        """What an item's write logits owe to what it is like; None where that plays no part."""
        return None if self.content_write is None else content @ self.content_write

    def write_weights(
        self,
        item: Int[Array, "..."],
        group: Int[Array, "..."],
        behaviour: Int[Array, "..."],
        content: Float[Array, "... c"] | None = None,
    ) -> Float[Array, "... c"]:
        """How an event of this item, item group and behaviour is remembered: weights over the curves that
        add up to 1. ``content``: the item's `content_logits`."""
        logits = jnp.broadcast_to(self.write, (*item.shape, self.curves))
        if content is not None:
            logits += content
        if self.group_write is not None:
            logits += rows_of(self.group_write, group)
        if self.item_write is not None:
            logits += rows_of(self.item_write, item)
        if self.behaviour_write is not None:
            logits += rows_of(self.behaviour_write, behaviour)
        return jax.nn.softmax(logits)

    def read_weights(self, user: Int[Array, ""], ages: readout.Ages) -> Float[Array, "r c"]:
        """How this user remembers at each request: weights over the curves with mean 1, moved by the user's
        own deviation and, if ``adaptive``, by how full the modes are."""
        logits = jnp.zeros((ages.idle.shape[0], self.curves), jnp.float32)
        if self.user_read is not None:
            logits += rows_of(self.user_read, user)
        if self.state_read is not None:
            mass = readout.mass(Modes(self.basis().rate), ages)
            filled = jnp.log1p(jnp.maximum(mass, 0.0))
            logits += jnp.einsum("rc,cd->rd", filled, self.state_read, precision=EXACT)
        return self.curves * jax.nn.softmax(logits)


def rows_of(table: Float[Array, "n c"], index: Int[Array, "..."]) -> Float[Array, "... c"]:
    """Rows of a table; 0 where the index lies outside it."""
    return table.at[index].get(mode="fill", fill_value=0.0, wrap_negative_indices=False)
