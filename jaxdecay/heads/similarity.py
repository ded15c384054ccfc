r"""Similarity: how close an item lies to the faded interest.

$$ s_i(t) = \tau \Bigl\langle \frac{q(t)}{\sqrt{\lVert q(t)\rVert^2 + c^2}},\,
\frac{v_i}{\sqrt{\lVert v_i\rVert^2 + \sigma^2 d}} \Bigr\rangle + b_i, \qquad
q(t) = \textstyle\sum_j \varphi_{uj}(t-t_j)\, a_j v_j
+ \text{user} + \text{context} + \text{calendar}(t) $$

The interest is faded to the request time first, then mixed, then normalised, and normalised softly: an
interest that has faded altogether hands over to the unfaded bias instead of shouting in a whisper's
direction. With an encoder (`jaxdecay.encoders`) events write what it makes of them after those before; the
last one is added once more, mapped linearly and unfaded, and the sum passes a feed-forward of its own before
it is normalised. Item vectors are normalised softly, too: with a prior $N(0, \sigma^2)$ on each of their $d$
numbers, an item that the data say little of stays short and is close to nothing.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdecay import readout
from jaxdecay.encoders import Carry, FeedForward, Places, Stack, latest, places
from jaxdecay.errors import InputError
from jaxdecay.heads.features import Columns
from jaxdecay.heads.fusion import Fusion
from jaxdecay.history import History, Items, Requests
from jaxdecay.interest import Bank

OWN_VECTOR = 0.1
"""Standard deviation of each number of an item vector's own part, before the data speaks."""
_DAY, _WEEK = 86_400, 604_800


class Pieces(NamedTuple):
    r"""What the queries of R requests of a history of N events are made of: the sum $x$ of ``kernel *
    written`` over events and of all that is ``beside``, times temperature over $\sqrt{x^\top x +
    \text{softness}}$."""

    kernel: Float[Array, "r n"]
    """That of each event at its age; 0 where it is not visible."""
    values: Float[Array, " n"]
    """By what its behaviour and its weight multiply it, negative for one that turns away."""
    written: Float[Array, "n d"]
    """What it wrote: its vector, times that."""
    beside: dict[str, Float[Array, "r d"]]
    """The user's columns, those of the request, and the calendar."""
    temperature: Float[Array, ""]
    softness: Float[Array, ""]


class Similarity(nn.Module):
    """Item vectors, the encoder of events, the bank they are written into, and the query that is read.

    Without an encoder (``encoder.blocks`` 0) events write the vectors of their items. With one they write
    what it makes of them, the last of them is part of the query as it is, and the query passes a
    feed-forward of its own. Without a bank (``decay`` None) the query is the last event alone, with either.
    ``timed`` False: the encoder is not told when it is asked. ``cold``: items without a vector of their own
    have a bias, which they share. ``ids`` False: no item has a vector of its own. ``gated``: own vectors and
    columns are fused by gates instead of added. ``content_bias``: part of the bias is what items that are
    alike have in common.
    """

    items: int
    features: int
    decay: Bank | None
    item_columns: Columns
    user_columns: Columns
    context_columns: Columns
    encoder: Stack
    behaviours: int = 1
    calendar: bool = True
    timed: bool = True
    cold: bool = False
    ids: bool = True
    gated: bool = False
    content_bias: bool = False

    def setup(self) -> None:
        normal, zeros = nn.initializers.normal, nn.initializers.zeros
        shape = (self.items, self.features)
        self.embedding = self.param("embedding", normal(OWN_VECTOR), shape) if self.ids else None
        self.fusion = Fusion(OWN_VECTOR) if self.gated else None
        self.bias_of_content = (
            self.param("content_bias", zeros, (self.features,)) if self.content_bias else None
        )
        self.item_bias = self.param("bias", zeros, (self.items,))
        self.cold_bias = self.param("cold_level", zeros, ()) if self.cold else 0.0
        self.log_temperature = self.param("log_temperature", nn.initializers.constant(1.6), ())
        self.log_softness = self.param("log_softness", nn.initializers.constant(-2.3), ())
        self.amplitude = self.param("amplitude", zeros, (self.behaviours,))
        self.hours = self.param("calendar", zeros, (8, self.features)) if self.calendar else None
        self.last = None
        if not self.encoder.blocks:
            return
        several = self.behaviours > 1
        self.kind = self.param("behaviour", zeros, (self.behaviours, self.features)) if several else None
        self.event_hours = self.param("event_calendar", zeros, (8, self.features)) if self.calendar else None
        if self.decay:
            self.last = nn.Dense(self.features, use_bias=False, kernel_init=zeros)
        self.forward = FeedForward(dropout=self.encoder.dropout, dtype=self.encoder.dtype)

    def content(self, items: Items) -> Float[Array, "v d"]:
        """What the columns of items say of them."""
        return self.item_columns(items.categorical, items.numeric)

    def vectors(self, items: Items, content: Float[Array, "v d"]) -> Float[Array, "v d"]:
        """Item vectors before normalisation; an item without an embedding of its own has its columns
        alone."""
        own = jnp.zeros_like(content)
        if self.embedding is not None:
            known = items.index < self.items
            if items.own is not None:
                known &= items.own
            own = jnp.where(known[:, None], self.embedding[jnp.where(known, items.index, 0)], 0.0)
        return own + content if self.fusion is None else self.fusion(own, content)

    def targets(self, vectors: Float[Array, "v d"]) -> Float[Array, "v d"]:
        """Item vectors as they are scored against: of length close to 1, and shorter the less is known of
        the item (0 stays 0)."""
        unknown = self.features * OWN_VECTOR**2
        return vectors / jnp.sqrt(jnp.square(vectors).sum(-1, keepdims=True) + unknown)

    def bias(self, items: Items, content: Float[Array, "v d"]) -> Float[Array, " v"]:
        known = items.index < self.items
        own = jnp.where(known, self.item_bias[jnp.where(known, items.index, 0)], self.cold_bias)
        return own if self.bias_of_content is None else own + content @ self.bias_of_content

    def query(
        self,
        history: History,
        requests: Requests,
        ages: readout.Ages,
        vectors: Float[Array, "n d"],
        writes: Float[Array, "n c"] | None,
        *,
        training: bool = False,
    ) -> Float[Array, "r d"]:
        """The faded interest at each request, normalised and scaled: its inner product with an item's
        target vector is the score.

        ``vectors`` and ``writes`` are those of the history's events.
        """
        values = (1.0 + self.amplitude[history.behaviour]) * history.weight
        written = values[:, None] * self._in_context(vectors, history)
        query = jnp.zeros((len(requests.at), self.features), jnp.float32)
        past, seen = ages.past.shape[0], ages.past.shape[0] + requests.seen
        counts = history.mask & (history.weight != 0)
        if self.encoder.blocks:
            if self.encoder.kind == "hstu" and past == len(history.item) and len(seen) > 1:
                raise InputError(f"{len(seen)} requests after the same events: HSTU reads one at a time")
            told = places(history.time, counts, requests.at, seen, known=self.timed)
            # A bank reads what every event wrote; the last event alone hangs on few before it.
            skipped = past - self.encoder.rows(past) if self.decay is None else 0
            written = self._encoded(history, written, told, skipped, training)
        if self.encoder.blocks or self.decay is None:
            row = latest(counts, seen)
            last = jnp.where((row >= 0)[:, None], written[row], 0.0)
            query += last if self.last is None else self.last(last)
        if self.decay is not None:
            assert writes is not None
            reads = self.decay.read_weights(history.user, ages)
            query += readout.read(self.decay.basis(), writes, written, reads, ages)
        for part in self._beside(history, requests).values():
            query += part
        if self.encoder.blocks:
            query = self.forward(query, training=training)
        return query * self._scale(query)

    def pieces(
        self,
        history: History,
        requests: Requests,
        ages: readout.Ages,
        vectors: Float[Array, "n d"],
        writes: Float[Array, "n c"] | None,
    ) -> "Pieces":
        """What the query of each request is made of.

        Raises InputError where it is no sum of what single events wrote: with an encoder.
        """
        if self.encoder.blocks:
            raise InputError(
                f"an encoder ({self.encoder.kind}) stands between events and interest, which is no sum of"
                " what single events wrote; leave events out one by one instead"
            )
        values = (1.0 + self.amplitude[history.behaviour]) * history.weight
        written = values[:, None] * self._in_context(vectors, history)
        if self.decay is None:
            row = latest(history.mask & (history.weight != 0), ages.past.shape[0] + requests.seen)
            kernel = (jnp.arange(len(values))[None] == row[:, None]).astype(jnp.float32)
        else:
            assert writes is not None
            reads = self.decay.read_weights(history.user, ages)
            kernel = readout.kernel(self.decay.basis(), writes, reads, ages)
        beside = self._beside(history, requests)
        return Pieces(kernel, values, written, beside, jnp.exp(self.log_temperature), self._softness())

    def _beside(self, history: History, requests: Requests) -> dict[str, Float[Array, "r d"]]:
        """What is in the query besides events."""
        user = self.user_columns(history.user_categorical, history.user_numeric)
        context = self.context_columns(requests.context_categorical, requests.context_numeric)
        found = {"user": jnp.broadcast_to(user, context.shape), "context": context}
        if self.hours is not None:
            found["calendar"] = calendar(requests.at) @ self.hours
        return found

    def _scale(self, query: Float[Array, "r d"]) -> Float[Array, "r 1"]:
        """By what a query is multiplied: the temperature over its softened length."""
        length = jnp.sqrt(jnp.square(query).sum(-1, keepdims=True) + self._softness())
        return jnp.exp(self.log_temperature) / length

    def _softness(self) -> Float[Array, ""]:
        return jnp.exp(2.0 * self.log_softness)

    def _encoded(
        self, history: History, written: Float[Array, "n d"], told: Places, skipped: int, training: bool
    ) -> Float[Array, "n d"]:
        """What each event writes, by the encoder from row ``skipped`` on; nothing where it does not count."""
        own = self._told(written, history.behaviour, told)
        encoded = self.encoder(own, told, skip=skipped, training=training)
        return jnp.where(told.mask[:, None], encoded, 0.0)

    def step(
        self, carry: Carry, written: Float[Array, " d"], behaviour: Int[Array, ""], place: Places
    ) -> tuple[Carry, Float[Array, " d"]]:
        """The same for one more event, in turn (`jaxdecay.encoders.Stack.step`)."""
        told = Places(*(field[None] for field in place))
        own = self._told(written[None], behaviour[None], told)
        carry, encoded = self.encoder.step(carry, own[0], place)
        return carry, jnp.where(place.mask, encoded, 0.0)

    def _told(
        self, written: Float[Array, "n d"], behaviour: Int[Array, " n"], told: Places
    ) -> Float[Array, "n d"]:
        """What the encoder reads of each event."""
        if self.kind is not None:
            written += self.kind[behaviour]
        if self.event_hours is not None:
            written += calendar(told.time) @ self.event_hours
        return jnp.where(told.mask[:, None], written, 0.0)

    def _in_context(self, vectors: Float[Array, "n d"], where: History | Requests) -> Float[Array, "n d"]:
        return vectors + self.context_columns(where.context_categorical, where.context_numeric)


def calendar(at: jax.Array) -> Float[Array, "r 8"]:
    """Sine and cosine of the hour of day and the day of week, and of their first overtones, from seconds
    since a Monday's midnight."""
    angles = [
        2 * jnp.pi * overtone * (at % length).astype(jnp.float32) / length
        for length in (_DAY, _WEEK)
        for overtone in (1, 2)
    ]
    return jnp.stack([wave(angle) for angle in angles for wave in (jnp.sin, jnp.cos)], axis=-1)
