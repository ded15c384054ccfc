"""States of many users at once, in JAX: for whoever moves a million of them on an accelerator, or makes them
all anew for a new model.

    tables = tables_of(live, predictor)
    states = start(live, users=1_000_000, capacity=64)
    states = move(predictor.model, tables, states, users, events)     # at most one event of each user
    unstacked(live, states)                                            # as everything else here has them

The same numbers as one at a time in NumPy (`jaxdecay.live.live`), to rounding. Shapes are fixed: of a user's
own items the latest ``capacity`` events that count are held as they came, and how many there have been, so
that nothing is lost without a word.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdecay import state, state_numpy
from jaxdecay.encoders import Places
from jaxdecay.errors import InputError
from jaxdecay.live import counts
from jaxdecay.live.interest import Event, Interest
from jaxdecay.live.live import Live, UserState
from jaxdecay.model import Interest as Model
from jaxdecay.modes import Modes, in_days
from jaxdecay.predict import Predictor


class Tables(NamedTuple):
    """Of the model: what an event is looked up in."""

    vectors: Float[Array, "v d"]
    rate: Float[Array, " c"] | None
    """Per day."""
    writes: Float[Array, "v b c"] | None
    amplitude: Float[Array, " b"]
    strength: Float[Array, "v b"] | None
    """What an event of weight 1 adds to its item's count."""
    own_rate: Float[Array, " e"] | None
    """Per day, where the revisit head's reads are adaptive."""
    params: Any
    """Of the encoder and of context columns."""


class Events(NamedTuple):
    """One event, or many along a leading axis."""

    item: Int[Array, "*n"]
    at: Int[Array, "*n"]
    """Seconds since the origin."""
    behaviour: Int[Array, "*n"]
    weight: Float[Array, "*n"]
    codes: Int[Array, "*n f"]
    numbers: Float[Array, "*n g"]

    @classmethod
    def of(cls, events: Sequence[Event]) -> "Events":
        """One for each, as JAX takes them."""
        kinds = (np.int32, np.int32, np.int32, np.float32, np.int32, np.float32)
        columns = zip(*events, strict=True)
        return cls(*(jnp.asarray(np.array(one, kind)) for one, kind in zip(columns, kinds, strict=True)))


class Own(NamedTuple):
    """The latest N events of positive weight, around a ring."""

    item: Int[Array, " n"]
    at: Int[Array, " n"]
    amount: Float[Array, " n"]
    behaviour: Int[Array, " n"]
    seen: Int[Array, ""]
    """How many there have been: event j lies at j modulo N."""


class States(NamedTuple):
    """One user's, or many along a leading axis; what a model has no use for is None."""

    modes: state.State | None
    mass: Float[Array, " c"] | None
    last: Float[Array, " d"] | None
    carry: Any
    own: Own | None
    filled: Float[Array, " e"] | None
    time: Int[Array, ""]
    """Seconds since the origin: the latest event."""
    events: Int[Array, ""]


def tables_of(live: Live, predictor: Predictor) -> Tables:
    """Of a model, on the device."""
    similarity, revisit = live.weights.similarity, live.weights.revisit
    bank, adaptive = similarity.bank, revisit is not None and revisit.bank.adaptive is not None
    return Tables(
        vectors=_there(similarity.vectors),
        rate=_there(bank.rate if bank else None),
        writes=_there(bank.writes if bank else None),
        amplitude=_there(similarity.amplitude),
        strength=_there(revisit.strength if revisit else None),
        own_rate=_there(revisit.bank.rate if revisit is not None and adaptive else None),
        params={"similarity": predictor.params["similarity"]},
    )


def start(live: Live, users: int, capacity: int) -> States:
    """States before any event, of so many users, each with room for ``capacity`` events of own items."""
    one, nothing = live.init(), jnp.int32(0)
    interest, modes, own = one.interest, None, None
    if interest.modes is not None:
        modes = state.State(_there(interest.modes.value[None]), nothing)
    if live.weights.revisit is not None:
        none = jnp.full(capacity, -1, jnp.int32)
        own = Own(none, none, jnp.zeros(capacity), none, nothing)
    masses = _there(interest.mass), _there(one.mass)
    carry = jax.tree.map(jnp.asarray, interest.carry)
    empty = States(modes, masses[0], _there(interest.last), carry, own, masses[1], nothing, nothing)
    return jax.tree.map(lambda leaf: jnp.tile(leaf, (users, *[1] * leaf.ndim)), empty)


def update(model: Model, tables: Tables, before: States, event: Events) -> States:
    """One user's state after an event, as `jaxdecay.live.live.Live.update`; no batch axis: use `jax.vmap`."""
    value = tables.amplitude[event.behaviour] * event.weight
    seen, carry = event.weight != 0, before.carry

    def write(bound: Any) -> Any:
        """What the event writes, and the carry then."""
        similarity = bound.similarity
        context = similarity.context_columns(event.codes[None], event.numbers[None])[0]
        written = value * (tables.vectors[event.item] + context)
        if not model.spec.encoder.blocks:
            return carry, written
        return similarity.step(carry, written, event.behaviour, Places(event.at, event.at, seen))

    found: Any = model.apply({"params": tables.params}, method=write)
    carry, written = found
    modes, mass, last, filled = before.modes, before.mass, before.last, before.filled
    if last is not None:
        last = jnp.where(seen, written, last)
    if modes is not None:
        assert tables.rate is not None
        assert tables.writes is not None
        if mass is not None:
            mass = _one_more(tables.rate, mass, modes.time, event.at)
        writes = tables.writes[event.item, event.behaviour]
        modes = state.update(Modes(tables.rate), modes, event.at, writes, written)
    if filled is not None:
        assert tables.own_rate is not None
        filled = _one_more(tables.own_rate, filled, before.time, event.at)
    own = None if before.own is None else _with(before.own, tables, event)
    time = jnp.maximum(before.time, event.at)
    return States(modes, mass, last, carry, own, filled, time, before.events + 1)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def move(model: Model, tables: Tables, states: States, users: Int[Array, " n"], events: Events) -> States:
    """All states after an event of each of the ``users``, no two of which are one; an index beyond them is
    nobody's, with which batches are filled up to one shape. The states given are used up."""
    some = jax.tree.map(lambda leaf: leaf.at[users].get(mode="clip"), states)
    some = jax.vmap(functools.partial(update, model, tables))(some, events)
    return jax.tree.map(lambda leaf, new: leaf.at[users].set(new, mode="drop"), states, some)


def unstacked(live: Live, states: States) -> list[UserState]:
    """Of each user, in NumPy. Raises InputError where more events have come than there was room for: replay
    those users, or start with a larger capacity."""
    revisit, host = live.weights.revisit, jax.device_get(states)
    if host.own is not None and (over := host.own.seen > host.own.item.shape[1]).any():
        raise InputError(
            f"{int(over.sum())} users have more events than the capacity of {host.own.item.shape[1]}: give"
            f" {int(host.own.seen.max())}, or replay them"
        )
    found = []
    for user in range(len(host.time)):
        one = jax.tree.map(lambda leaf, user=user: leaf[user], host)
        modes = None if one.modes is None else state_numpy.State(one.modes.value[0], int(one.modes.time))
        mass, filled = (None if x is None else x.astype(np.float64) for x in (one.mass, one.filled))
        own = counts.init()
        if one.own is not None:
            assert revisit is not None
            assert live.modes is not None
            taken = zip(*(column[: one.own.seen].tolist() for column in one.own[:4]), strict=True)
            for item, at, amount, behaviour in taken:
                own = counts.added(revisit, live.modes, own, item, (at, amount, behaviour))
        interest = Interest(modes, mass, one.last, one.carry)
        found.append(UserState(interest, own, filled, int(one.time), int(one.events)))
    return found


def _there(x: np.ndarray | None) -> Any:
    """On the device in float32; None stays."""
    return None if x is None else jnp.asarray(x, jnp.float32)


def _one_more(
    rate: Float[Array, " c"], mass: Float[Array, " c"], time: Int[Array, ""], at: Int[Array, ""]
) -> Float[Array, " c"]:
    """The faded number of events with one that may be late."""
    return mass * jnp.exp(-rate * in_days(at - time)) + jnp.exp(-rate * in_days(time - at))


def _with(own: Own, tables: Tables, event: Events) -> Own:
    """With an event of its own; one whose weight is not positive counts nothing."""
    assert tables.strength is not None
    amount = tables.strength[event.item, event.behaviour] * event.weight
    size = own.item.shape[0]
    place = jnp.where(event.weight > 0, own.seen % size, size)
    fresh = event.item, event.at, amount, event.behaviour
    columns = [old.at[place].set(new, mode="drop") for old, new in zip(own[:4], fresh, strict=True)]
    return Own._make([*columns, own.seen + (event.weight > 0)])
