r"""Reads of a decaying state: what past events have written, faded to any number of request times.

Event $j$ writes a vector $b_j$ into curve $c$ with weight $w_{jc}$; a request at time $t$ reads

$$ i(t) = \sum_c r_c \sum_{j:\,t_j \le t} w_{jc}\, \varphi_c(t-t_j)\, b_j . $$

The curves are those of a `jaxdecay.basis.Basis`, or modes, each a curve of its own.

A history of N events comes in two parts: the first P events, seen by every request, are summed into one
state per mode (linear in P); the last W events are seen by a request only if they came earlier in row
order, and are read pair by pair, by their curves at exact ages. Training reads at all W positions at
once, in turn: where they are many, by states too, linear in W (`jaxdecay.inorder`); serving has W = 0.
Nothing is ever truncated: P is the whole past.

One user, no batch axis; times are int32 seconds on one clock and are differenced as integers. What is
written must be finite, in masked rows too: they are given the weight 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay import inorder
from jaxdecay.basis import Basis
from jaxdecay.errors import InputError
from jaxdecay.modes import EXACT, Modes, whole

_PAIRS = 64  # requests in turn up to which pairs are cheaper than states


class Ages(NamedTuple):
    """The ages (seconds, never negative) that R requests need of N = P + W events, and which of them
    count."""

    past: Int[Array, " p"]
    """Age of each of the first P events when the last of them happened."""
    idle: Int[Array, " r"]
    """Time from that moment to each request."""
    near: Int[Array, "r w"]
    """Age of each of the last W events at each request, 0 where it is not visible."""
    past_visible: Bool[Array, " p"]
    near_visible: Bool[Array, "r w"]
    turns: inorder.Turns | None = None
    """In place of ``near`` and ``near_visible``, which then have a W of 0."""


def ages(
    time: Int[Array, " n"],
    mask: Bool[Array, " n"],
    at: Int[Array, " r"],
    seen: Int[Array, " r"] | None,
    *,
    past: int,
) -> Ages:
    """Ages of a history's events at each request.

    ``time`` seconds, ascending where ``mask``; the first ``past`` events are padded on the left, the others
    on the right. Request ``r`` happens at ``at[r]`` seconds and sees the whole past and the first
    ``seen[r]`` of the other events. With ``seen`` None they are made in turn, one before each of the others
    (`jaxdecay.inorder.Turns`): many are then read by states, not pairs. Raises InputError unless there are as
    many.
    """

    pivot, turns = time[past - 1] if past else at[0], None
    if seen is None:
        if len(at) != len(time) - past:
            raise InputError(
                f"{len(at)} requests in turn for {len(time) - past} events: give one before each"
            )
        seen = jnp.arange(len(at), dtype=jnp.int32)
        if len(at) > _PAIRS:
            turns = inorder.Turns(time[past:] - pivot, at - pivot, mask[past:])
            time, mask = time[:past], mask[:past]
    place = jnp.arange(time.shape[0] - past, dtype=seen.dtype)
    near_visible = (place[None] < seen[:, None]) & mask[None, past:]
    return Ages(
        past=jnp.where(mask[:past], whole(pivot - time[:past]), 0),
        idle=whole(at - pivot),
        near=jnp.where(near_visible, whole(at[:, None] - time[None, past:]), 0),
        past_visible=mask[:past],
        near_visible=near_visible,
        turns=turns,
    )


def read(
    basis: Basis | Modes,
    writes: Float[Array, "n c"],
    values: Float[Array, "n d"],
    reads: Float[Array, "r c"],
    ages: Ages,
) -> Float[Array, "r d"]:
    """The interest at each request: both parts of the history, faded to the request time, mixed by
    ``reads``."""
    past = ages.past.shape[0]
    faded = jnp.zeros((reads.shape[0], values.shape[-1]), values.dtype)
    if past:
        state = jnp.einsum("ns,nd->sd", _written(basis, writes, ages), values[:past], precision=EXACT)
        faded = jnp.matmul(_taken(basis, reads, ages), state, precision=EXACT)
    if ages.near.shape[1]:
        kernel = jnp.einsum("rc,wc,rwc->rw", reads, writes[past:], basis.curves(ages.near), precision=EXACT)
        faded = faded + jnp.matmul(jnp.where(ages.near_visible, kernel, 0.0), values[past:], precision=EXACT)
    if ages.turns is not None:
        faded = faded + inorder.read(basis, writes[past:], values[past:], reads, ages.turns)
    return faded


def read_own(
    basis: Basis | Modes,
    writes: Float[Array, "n c"],
    item: Int[Array, " n"],
    reads: Float[Array, "r c"],
    asked: Int[Array, " r"],
    ages: Ages,
) -> Float[Array, " r"]:
    """How much of the events of one item is left for each request: of the one that it has ``asked`` for."""
    past = ages.past.shape[0]
    if ages.turns is not None:
        return inorder.read_own(basis, writes, item, reads, asked, -ages.past, ages.past_visible, ages.turns)
    same = item[None] == asked[:, None]
    kernel = jnp.einsum("rc,wc,rwc->rw", reads, writes[past:], basis.curves(ages.near), precision=EXACT)
    total = jnp.where(ages.near_visible & same[:, past:], kernel, 0.0).sum(-1)
    if not past:
        return total
    picked = (same[:, :past] & ages.past_visible[None]).astype(writes.dtype)
    state = jnp.matmul(picked, _written(basis, writes, ages), precision=EXACT)
    return total + (state * _taken(basis, reads, ages)).sum(-1)


def kernel(
    basis: Basis | Modes, writes: Float[Array, "n c"], reads: Float[Array, "r c"], ages: Ages
) -> Float[Array, "r n"]:
    """What is left of each event at each request: the weight with which `read` sums the values, 0 where not
    visible. Raises InputError where many requests are made in turn: that is a number for each pair."""
    if ages.turns is not None:
        raise InputError(f"{len(ages.idle)} requests in turn: the kernel of pairs is not kept; ask for fewer")
    size, past = ages.past.shape[0], ages.past[None] + ages.idle[:, None]
    near = jnp.einsum("rc,wc,rwc->rw", reads, writes[size:], basis.curves(ages.near), precision=EXACT)
    far = jnp.einsum("rc,nc,rnc->rn", reads, writes[:size], basis.curves(past), precision=EXACT)
    return jnp.concatenate(
        [jnp.where(ages.past_visible[None], far, 0.0), jnp.where(ages.near_visible, near, 0.0)], axis=1
    )


def mass(modes: Modes, ages: Ages) -> Float[Array, "r m"]:
    """How many events each mode still holds at each request: its state when every event writes a 1 with
    weight 1."""
    if ages.turns is not None:
        near = inorder.mass(modes, ages.turns)
    else:
        near = jnp.einsum(
            "rw,rwm->rm", ages.near_visible.astype(modes.rate.dtype), modes.curves(ages.near), precision=EXACT
        )
    if not ages.past.shape[0]:
        return near
    state = jnp.einsum(
        "n,cnm->cm", ages.past_visible.astype(modes.rate.dtype), modes.phasors(ages.past), precision=EXACT
    )
    return near + modes.real_product(state[:, None], modes.phasors(ages.idle))


def _written(basis: Basis | Modes, writes: Float[Array, "n c"], ages: Ages) -> Float[Array, "p s"]:
    """What each of the past events leaves in a state when the last of them has been written: in the real part
    of every mode, then in the imaginary part of those that oscillate."""
    visible = jnp.where(ages.past_visible[:, None], writes[: ages.past.shape[0]], 0.0)
    real, imaginary = _parts(basis, basis.expand_writes(visible), ages.past)
    return jnp.concatenate([real, imaginary], axis=-1)


def _taken(basis: Basis | Modes, reads: Float[Array, "r c"], ages: Ages) -> Float[Array, "r s"]:
    """What each request takes of such a state: the real part of the product of both."""
    real, imaginary = _parts(basis, basis.expand_reads(reads), ages.idle)
    return jnp.concatenate([real, -imaginary], axis=-1)


def _parts(
    basis: Basis | Modes, weights: Float[Array, "a m"], age: Int[Array, " a"]
) -> tuple[Float[Array, "a m"], Float[Array, "a w"]]:
    """Real parts of the phasors times weights, and the imaginary ones of modes that oscillate."""
    # Without the barrier XLA works the phasors out again for each of the sums that they go into.
    phasors, frequency = jax.lax.optimization_barrier(basis.phasors(age)), basis.modes().frequency
    plain = weights.shape[-1] - (0 if frequency is None else frequency.shape[0])
    return weights * phasors[0], weights[:, plain:] * phasors[-1][:, plain:]
