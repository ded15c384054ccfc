r"""Reads of a long window in turn: a request before each event, which sees those before it, linear in the
window.

The interest is read by chunks (`jaxdecay.hybrid`): inside one pair by pair, between them by states. What is
left of one item is a state of its own for each item. Events are put in the order of their items, each
item's by time, with the requests that ask for it as events among them that write nothing: one recurrence
(`jaxdecay.scan`), begun anew with each item, has every request's answer where it stands.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay import clocks, hybrid
from jaxdecay.basis import Basis
from jaxdecay.modes import Modes, in_days
from jaxdecay.scan import decay_scan


class Turns(NamedTuple):
    """W events, padded on the right, and a request before each; times are int32 seconds."""

    time: Int[Array, " w"]
    at: Int[Array, " w"]
    """Of the requests: each no earlier than the event before it, and no later than its own."""
    mask: Bool[Array, " w"]


def read(
    basis: Basis | Modes,
    writes: Float[Array, "w c"],
    values: Float[Array, "w d"],
    reads: Float[Array, "w c"],
    turns: Turns,
) -> Float[Array, "w d"]:
    """As `jaxdecay.readout.read`, of these events alone."""
    found = hybrid.read_all(
        basis.modes(),
        basis.expand_writes(writes[:-1]),
        values[:-1],
        basis.expand_reads(reads[1:]),
        turns.time[:-1],
        at=turns.at[1:],
        mask=turns.mask[:-1],
    )
    return jnp.concatenate([jnp.zeros_like(found[:1]), found])


def read_own(
    basis: Basis | Modes,
    writes: Float[Array, "n c"],
    item: Int[Array, " n"],
    reads: Float[Array, "w c"],
    asked: Int[Array, " w"],
    past: Int[Array, " p"],
    turns: Turns,
) -> Float[Array, " w"]:
    """As `jaxdecay.readout.read_own`, of N = P + W events; ``past``: when the first P happened, whose
    ``item`` is negative where they are padding."""
    modes, length, requests = basis.modes(), item.shape[0], asked.shape[0]
    own = jnp.concatenate([item[: len(past)], jnp.where(turns.mask, item[len(past) :], -1)])
    written = jnp.where(own[:, None] >= 0, basis.expand_writes(writes), 0.0)
    # A request comes just before its own event, which may have happened in the same second.
    place = jnp.concatenate([2 * jnp.arange(length) + 1, 2 * jnp.arange(len(past), length)])
    kind, time = jnp.concatenate([own, asked]), jnp.concatenate([past, turns.time, turns.at])
    order = jnp.lexsort((place, kind))
    kind, time = kind[order], time[order]
    gap, keep = in_days(jnp.diff(time, prepend=time[:1])), kind == jnp.roll(kind, 1)
    events = jnp.concatenate([written, jnp.zeros((requests, written.shape[1]), written.dtype)])[order]
    where = jnp.zeros(len(order), order.dtype).at[order].set(jnp.arange(len(order)))[length:]
    return (basis.expand_reads(reads) * _real_states(modes, gap, events, keep)[where]).sum(-1)


def mass(modes: Modes, turns: Turns) -> Float[Array, "w m"]:
    """As `jaxdecay.readout.mass`, of these events alone."""
    time = clocks.carried(turns.time, turns.mask)
    at = jnp.where(turns.mask, turns.at, time)
    gap = in_days(jnp.diff(jnp.stack([at, time], axis=1).reshape(-1), prepend=at[:1]))
    ones = jnp.broadcast_to(turns.mask[:, None].astype(modes.rate.dtype), (len(at), len(modes.rate)))
    events = jnp.stack([jnp.zeros_like(ones), ones], axis=1).reshape(-1, len(modes.rate))
    return _real_states(modes, gap, events, None)[::2]


def _real_states(
    modes: Modes, gap: Float[Array, " l"], events: Float[Array, "l m"], keep: Bool[Array, " l"] | None
) -> Float[Array, "l m"]:
    """The real part of each mode's state after each event; ``gap`` and ``keep`` as in `decay_scan`."""
    if modes.frequency is None:
        return decay_scan(modes.rate, gap, events, keep)
    plain = len(modes.rate) - len(modes.frequency)
    waves = decay_scan(modes.rate[plain:], gap, events[:, plain:], keep, frequency=modes.frequency)[:, 0]
    if not plain:
        return waves
    steady = decay_scan(modes.rate[:plain], gap, events[:, :plain], keep)
    return jnp.concatenate([steady, waves], axis=1)
