"""What is left of a user's events in the similarity head: the bank's modes, and an encoder's carry."""

from typing import Any, NamedTuple

import numpy as np

from jaxdecay import state_numpy
from jaxdecay.live import clock
from jaxdecay.live.encoding import Encoding
from jaxdecay.live.weights import Similarity

_NOTHING = np.zeros(0)


class Interest(NamedTuple):
    """At the time of the latest event."""

    modes: state_numpy.State | None
    """(C, D) float32 faded sums of what events wrote; None without a bank."""
    mass: np.ndarray | None
    """(C,) float64 faded number of events, where reads are adaptive."""
    last: np.ndarray | None
    """(D,) float32 what the latest event that counts wrote, where that is read beside the bank."""
    carry: Any
    """The encoder's."""


class Event(NamedTuple):
    """An event as the model reads it."""

    item: int
    at: int
    """Seconds since the origin."""
    behaviour: int
    weight: float
    """In units of the log's mean."""
    codes: np.ndarray = _NOTHING
    """Categorical context columns."""
    numbers: np.ndarray = _NOTHING
    """Numeric ones."""


def init(similarity: Similarity, encoding: Encoding | None) -> Interest:
    """Before any event."""
    bank, width = similarity.bank, similarity.vectors.shape[1]
    modes = mass = None
    if bank is not None:
        modes = state_numpy.init((bank.rate.astype(np.float32), None), width)
        mass = np.zeros(len(bank.rate)) if bank.adaptive is not None else None
    reads_last = bank is None or encoding is not None
    last = np.zeros(width, np.float32) if reads_last else None
    return Interest(modes, mass, last, encoding.start() if encoding else ())


def written(similarity: Similarity, event: Event) -> np.ndarray:
    """(D,) float32 what an event writes, before an encoder."""
    value = similarity.amplitude[event.behaviour] * np.float32(event.weight)
    vector = similarity.vectors[event.item]
    if len(similarity.context.tables) or similarity.context.numeric is not None:
        vector = vector + similarity.context.vector(event.codes, event.numbers)
    return value * vector


def update(
    similarity: Similarity,
    rate: np.ndarray,
    encoding: Encoding | None,
    state: Interest,
    event: Event,
    sign: int = 1,
) -> Interest:
    """The interest after an event; ``rate``: those of the bank, float32. Events come in the order of time
    where an encoder reads them or the last one is read; else one may be late, and with a ``sign`` of -1 one
    is taken out."""
    modes, mass, last, carry = state
    vector = written(similarity, event)
    counts = event.weight != 0
    if encoding is not None:
        carry, vector = encoding.step(carry, vector, event.behaviour, event.at, counts=counts)
    if last is not None and counts:
        last = vector
    bank = similarity.bank
    if bank is not None:
        assert modes is not None
        if mass is not None:
            since = (event.at - modes.time) / clock.DAY
            mass = mass * np.exp(-bank.rate * max(since, 0.0)) + sign * np.exp(-bank.rate * max(-since, 0.0))
        weights = bank.writes[event.item, event.behaviour]
        if sign < 0:
            weights = -weights
        modes = state_numpy.update((rate, None), modes, event.at, weights, vector)
    return Interest(modes, mass, last, carry)


def merge(similarity: Similarity, rate: np.ndarray, early: Interest, late: Interest) -> Interest:
    """The interest of the events of both, of a bank without an encoder."""
    bank = similarity.bank
    assert bank is not None
    assert early.modes is not None
    assert late.modes is not None
    mass = late.mass
    if mass is not None:
        assert early.mass is not None
        mass = mass + early.mass * np.exp(-bank.rate * (late.modes.time - early.modes.time) / clock.DAY)
    return late._replace(modes=state_numpy.merge((rate, None), early.modes, late.modes), mass=mass)


def query(
    similarity: Similarity,
    rate: np.ndarray,
    encoding: Encoding | None,
    state: Interest,
    at: int,
    *,
    user: int,
    known: int,
    codes: np.ndarray = _NOTHING,
    numbers: np.ndarray = _NOTHING,
) -> np.ndarray:
    """(D,) float32: its inner product with an item's target vector is the head's score at ``at`` (seconds
    since the origin; no earlier than the latest event)."""
    modes, mass, last, _ = state
    found = np.zeros(similarity.vectors.shape[1], np.float32)
    if last is not None:
        found += last if encoding is None or encoding.last is None else last @ encoding.last
    bank = similarity.bank
    if bank is not None:
        assert modes is not None
        held = None if mass is None else mass * np.exp(-bank.rate * max(at - modes.time, 0) / clock.DAY)
        reads = clock.read_weights(bank, user, known, held)
        found += state_numpy.read((rate, None), modes, at, reads)
    if user < len(similarity.users):
        found += similarity.users[user]
    found += similarity.context.vector(codes, numbers)
    if similarity.hours is not None:
        found += clock.calendar(at) @ similarity.hours
    if encoding is not None:
        found = encoding.finish(found)
    return found * np.float32(similarity.temperature / np.sqrt(float(found @ found) + similarity.softness))
