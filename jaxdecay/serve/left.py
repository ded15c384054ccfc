"""What is left of a user's events at a moment: in each mode of each head, and of each item of the user's
own."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxdecay.live import clock, interest
from jaxdecay.live.live import Live, UserState
from jaxdecay.live.weights import Bank


@dataclass(frozen=True)
class Mode:
    """A curve of a head's bank."""

    head: str
    """similarity or revisit."""
    half_life_days: float | None
    """None for one that never fades."""
    period_days: float | None
    """Of a rhythm."""
    left: float
    """Of similarity the length of the part of the interest that stands in this mode; of revisit the faded
    count, over all items of the user's own. Both as the user reads them."""


class Left(NamedTuple):
    """Of n items of the user's own."""

    modes: tuple[Mode, ...]
    items: np.ndarray
    """(n,) int64, the one with the most left first."""
    counts: np.ndarray
    """(n,) float64 what is left of each: the revisit head's count, before satiation."""


def left(live: Live, state: UserState, user: int, at: int) -> Left:
    """At ``at`` (seconds since the origin), for a user by index (`jaxdecay.live.live.Live.scores`)."""
    modes: list[Mode] = []
    similarity, revisit = live.weights.similarity, live.weights.revisit
    if similarity.bank is not None:
        assert state.interest.modes is not None
        value, since = state.interest.modes
        age = max(at - since, 0)
        reads = _reads(live, similarity.bank, user, state.interest.mass, age)
        lengths = np.linalg.norm(value.astype(np.float64), axis=1)
        modes += _modes(
            "similarity", similarity.bank, reads * clock.faded(similarity.bank, np.asarray(age)) * lengths
        )
    items, table = np.zeros(0, np.int64), np.zeros((0, 0))
    if revisit is not None:
        reads = _reads(live, revisit.bank, user, state.mass, max(at - state.time, 0))
        items, table = _own(live, revisit.bank, state, at)
        table = table * reads
        modes += _modes("revisit", revisit.bank, table.sum(axis=0))
    counts = table.sum(axis=1)
    order = np.argsort(-counts, kind="stable")
    return Left(tuple(modes), items[order], counts[order])


def nearness(live: Live, state: UserState, user: int, at: int) -> np.ndarray:
    """(V,) float32 cosines between items and what the user's interest has become by ``at``; 0 where either
    says nothing."""
    bank = live.weights.similarity.bank
    rate = np.zeros(0, np.float32) if bank is None else bank.rate.astype(np.float32)
    query = interest.query(
        live.weights.similarity, rate, live.encoding, state.interest, at,
        user=user, known=live.weights.known_users,
    )  # fmt: skip
    lengths = np.linalg.norm(live.weights.targets, axis=1) * np.linalg.norm(query)
    found = live.weights.targets @ query
    return np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 1e-9)


def _reads(live: Live, bank: Bank, user: int, mass: np.ndarray | None, age: int) -> np.ndarray:
    held = None if mass is None else mass * np.exp(-bank.rate * age / clock.DAY)
    return clock.read_weights(bank, user, live.weights.known_users, held).astype(np.float64)


def _own(live: Live, bank: Bank, state: UserState, at: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) items, and (n, C) float64 what each curve of the bank has left of each, unread."""
    own = state.counts.own
    items = np.fromiter(own, np.int64, len(own))
    table = np.zeros((len(own), len(bank.rate)))
    for row, (item, kept) in zip(table, own.items(), strict=True):
        for time, amount, behaviour in kept.kept:
            row += amount * bank.writes[item, behaviour] * clock.faded(bank, np.asarray(max(at - time, 0)))
        if kept.folded is not None:
            assert live.modes is not None
            turned = (kept.folded * live.modes.turned(max(at - kept.time, 0))).real
            np.add.at(row, live.modes.curve, turned)
    return items, table


def _modes(head: str, bank: Bank, amounts: np.ndarray) -> list[Mode]:
    plain = len(bank.rate) - len(bank.sharpness)
    found = []
    for place, amount in enumerate(amounts.tolist()):
        rate = float(bank.rate[place])
        period = 2 * np.pi / bank.frequency[place - plain] if place >= plain else None
        half_life = float(np.log(2) / rate) if rate > 0 else None
        found.append(Mode(head, half_life, None if period is None else float(period), amount))
    return found
