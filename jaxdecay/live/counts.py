r"""What is left of the events of each item of a user's own: the revisit head's counts.

An item's latest events are kept as they came, a few bytes each, and read by their curves at exact ages. Once
there are more than eight of them the older ones are added up into one state of the item's modes
(`jaxdecay.basis`): so a state is bounded however often an item comes back, and hardly anything is larger than
its events. Both are sums over events: one may be late, one may be taken out again.
"""

import bisect
from typing import NamedTuple

import numpy as np

from jaxdecay.kernels.waves import harmonics
from jaxdecay.live import clock
from jaxdecay.live.weights import Bank, Revisit

_FEW = 8  # events of an item that are kept as they came; beyond, half of them are added up
Kept = tuple[int, float, int]
"""When (seconds since the origin), with what strength, and of which behaviour."""


class Own(NamedTuple):
    """One item's events."""

    kept: tuple[Kept, ...]
    """The latest, in order of time."""
    folded: np.ndarray | None
    """(M,) complex64 the others, in modes, at the time of the latest of them."""
    time: int
    """When that was."""


class Counts(NamedTuple):
    """Of all items of a user."""

    own: dict[int, Own]
    """By item; never changed in place: an update copies it, in 0.4 us at 100 items, 4 us at 1,000 and
    19 us at 5,000."""
    last: Kept | None
    """The latest event of positive weight: its time, its item in place of the strength, and 0."""


class Modes(NamedTuple):
    """The M exponentials that a bank's curves are sums of."""

    curve: np.ndarray
    """(M,) which curve each is of."""
    share: np.ndarray
    """(M,) float64 and what part of it."""
    exponent: np.ndarray
    """(M,) complex128 per day."""

    @classmethod
    def of(cls, bank: Bank) -> "Modes":
        plain = len(bank.rate) - len(bank.sharpness)
        curve, share, turn = list(range(plain)), [1.0] * plain, [0.0] * plain
        for rhythm, sharpness in enumerate(bank.sharpness):
            parts = harmonics(sharpness)
            curve += [plain + rhythm] * len(parts)
            share += parts.tolist()
            turn += [order * bank.frequency[rhythm] for order in range(len(parts))]
        of = np.array(curve)
        return cls(of, np.array(share), -bank.rate[of] + 1j * np.array(turn))

    def turned(self, seconds: int) -> np.ndarray:
        """(M,) complex128 by what each has faded and turned after so long."""
        return np.exp(self.exponent * (seconds / clock.DAY))


def init() -> Counts:
    """Before any event."""
    return Counts({}, None)


def update(
    revisit: Revisit, modes: Modes, state: Counts, item: int, at: int, behaviour: int, weight: float
) -> Counts:
    """The counts after an event of an item, by index; it may be late. A weight that is not positive counts
    nothing."""
    if weight <= 0:
        return state
    return added(revisit, modes, state, item, (at, _amount(revisit, item, behaviour, weight), behaviour))


def added(revisit: Revisit, modes: Modes, state: Counts, item: int, event: Kept) -> Counts:
    """The counts with an event as it is kept."""
    before = state.own.get(item, Own((), None, 0))
    kept = list(before.kept)
    bisect.insort(kept, event)
    after = Own(tuple(kept), before.folded, before.time)
    if len(kept) > _FEW:
        after = _folded(revisit, modes, item, after)
    own = dict(state.own)
    own[item] = after
    last = state.last if state.last is not None and state.last[0] > event[0] else (event[0], float(item), 0)
    return Counts(own, last)


def forget(
    revisit: Revisit, modes: Modes, state: Counts, item: int, at: int, behaviour: int, weight: float
) -> Counts:
    """The counts without an event that has been counted, given as it was. Satiation goes by the latest event
    that is left: replay the history where that was this one."""
    if weight <= 0:
        return state
    amount = _amount(revisit, item, behaviour, weight)
    before = state.own[item]
    if (at, amount, behaviour) in before.kept:
        kept = list(before.kept)
        kept.remove((at, amount, behaviour))
        after = before._replace(kept=tuple(kept))
    else:
        assert before.folded is not None
        left = written(revisit, modes, item, behaviour, amount) * modes.turned(before.time - at)
        after = before._replace(folded=before.folded - left.astype(np.complex64))
    return state._replace(own={**state.own, item: after})


def merge(revisit: Revisit, modes: Modes, one: Counts, two: Counts) -> Counts:
    """The counts of the events of both."""
    own = dict(one.own)
    for item, more in two.own.items():
        before = own.get(item)
        own[item] = more if before is None else _together(revisit, modes, item, before, more)
    last = max((state.last for state in (one, two) if state.last is not None), default=None)
    return Counts(own, last)


def read(
    revisit: Revisit, modes: Modes, state: Counts, at: int, reads: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) items of the user's own and (n,) float64 their faded counts at ``at``, satiation included;
    ``reads`` (C,) the user's read weights."""
    items = np.fromiter(state.own, np.int64, len(state.own))
    if not len(items):
        return items, np.zeros(0)
    places, events = [], []
    found = np.zeros(len(items))
    spread = reads[modes.curve].astype(np.float64)
    for place, (item, own) in enumerate(state.own.items()):
        for time, amount, behaviour in own.kept:
            events.append((time, amount, item, behaviour))
            places.append(place)
        if own.folded is not None:
            found[place] = (own.folded * modes.turned(max(at - own.time, 0)) * spread).real.sum()
    if events:
        table = np.array(events, np.float64)
        age = np.maximum(at - table[:, 0], 0.0)
        writes = revisit.bank.writes[table[:, 2].astype(np.int64), table[:, 3].astype(np.int64)]
        left = table[:, 1] * ((clock.faded(revisit.bank, age) * writes) @ reads.astype(np.float64))
        found += np.bincount(places, left, len(items))
    if revisit.satiation and state.last is not None:
        time, item, _ = state.last
        idle = max(at - time, 0) / clock.DAY
        fading = revisit.satiation * (1.0 if revisit.recovery == np.inf else 2 ** (-idle / revisit.recovery))
        found[items == int(item)] *= np.exp(-fading)
    return items, found


def _amount(revisit: Revisit, item: int, behaviour: int, weight: float) -> float:
    """What an event adds to its item's count: a float32, as stored states have it."""
    return float(revisit.strength[item, behaviour] * np.float32(weight))


def _together(revisit: Revisit, modes: Modes, item: int, one: Own, two: Own) -> Own:
    early, late = sorted((one, two), key=lambda own: own.time)
    folded = late.folded
    if folded is None:
        folded, late = early.folded, early
    elif early.folded is not None:
        folded = (folded + early.folded * modes.turned(late.time - early.time)).astype(np.complex64)
    both = Own(tuple(sorted(one.kept + two.kept)), folded, late.time)
    while len(both.kept) > _FEW:
        both = _folded(revisit, modes, item, both)
    return both


def _folded(revisit: Revisit, modes: Modes, item: int, own: Own) -> Own:
    """The older half of the kept events added up."""
    older, newer = own.kept[: _FEW // 2], own.kept[_FEW // 2 :]
    time = max(own.time, older[-1][0]) if own.folded is not None else older[-1][0]
    value = np.zeros(len(modes.curve), np.complex128)
    if own.folded is not None:
        value += own.folded * modes.turned(time - own.time)
    for at, amount, behaviour in older:
        value += written(revisit, modes, item, behaviour, amount) * modes.turned(time - at)
    return Own(newer, value.astype(np.complex64), time)


def written(revisit: Revisit, modes: Modes, item: int, behaviour: int, amount: float) -> np.ndarray:
    """(M,) float64 what an event leaves in the modes."""
    return amount * revisit.bank.writes[item, behaviour][modes.curve] * modes.share
