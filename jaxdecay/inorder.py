r"""Reads of a long window in turn: a request before each event, which sees those before it, linear in the
window.

The interest is read by chunks (`jaxdecay.hybrid`): inside one pair by pair, between them by states. What is
left of one item is a state of its own for each item. Events are put in the order of their items, and each
item's in their own, with the requests that ask for it among them as events that write nothing: one recurrence
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
    """W events, padded on the right, and a request before each: it sees those before its own, and is made no
    earlier than the last of them and no later than its own. Times are int32 seconds, ascending where
    ``mask``."""

    time: Int[Array, " w"]
    at: Int[Array, " w"]
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
    past_visible: Bool[Array, " p"],
    turns: Turns,
) -> Float[Array, " w"]:
    """As `jaxdecay.readout.read_own`, of N = P + W events; ``past``: when the first P happened."""
    modes, first, requests = basis.modes(), len(past), len(asked)
    own = jnp.where(jnp.concatenate([past_visible, turns.mask]), item, -1)
    written = jnp.where(own[:, None] >= 0, basis.expand_writes(writes), 0.0)

    def together(past: Array, at_requests: Array, at_events: Array) -> Array:
        """The past, then each request and its own event: it may have happened in the same second."""
        return jnp.concatenate(
            [past, jnp.stack([at_requests, at_events], axis=1).reshape(-1, *past.shape[1:])]
        )

    kind = together(own[:first], asked, own[first:])
    order = jnp.argsort(kind, stable=True)
    kind, time = kind[order], together(past, turns.at, turns.time)[order]
    gap, keep = in_days(jnp.diff(time, prepend=time[:1])), kind == jnp.roll(kind, 1)
    nothing = jnp.zeros((requests, written.shape[1]), written.dtype)
    states = _real_states(modes, gap, together(written[:first], nothing, written[first:])[order], keep)
    place = jnp.zeros(len(order), order.dtype).at[order].set(jnp.arange(len(order)))
    return (basis.expand_reads(reads) * states[place[first::2]]).sum(-1)


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
