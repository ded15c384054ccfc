"""A trained model, live: states of users that every event moves on, and scores at any moment.

    live = Live.of(run.predictor)
    state = live.update(live.init(), event)       # and live.trends.add(item, at) for everybody
    live.scores(state, user, at)                  # as the model scores the whole history

States are values: an update gives a new one. The catalogue's trends are one thing for all, and change.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.live import clock, counts, interest
from jaxdecay.live.compiled import encoding_of
from jaxdecay.live.counts import Counts, Modes
from jaxdecay.live.encoding import Encoding
from jaxdecay.live.interest import Event, Interest
from jaxdecay.live.taken import weights_of
from jaxdecay.live.trends import Trends
from jaxdecay.live.weights import Weights
from jaxdecay.predict import Predictor

_NOTHING = np.zeros(0)


class UserState(NamedTuple):
    """What is left of one user's events in all heads."""

    interest: Interest
    counts: Counts
    mass: np.ndarray | None
    """(C,) faded number of events in the revisit head's bank, where its reads are adaptive."""
    time: int
    """Seconds since the origin: the latest event."""
    events: int


class Reading(NamedTuple):
    """What a state says at a moment."""

    query: np.ndarray
    """(D,) float32 that item vectors are multiplied by."""
    moment: int
    """Seconds: only events strictly before count."""
    items: np.ndarray
    """(n,) int64 own items that come back, each once."""
    excited: np.ndarray
    """(n,) float64 logarithms of what that adds to their probability."""


class Live:
    """What every state is moved on and read with."""

    def __init__(self, weights: Weights, encoding: Encoding | None, trends: Trends) -> None:
        self.weights, self.encoding, self.trends = weights, encoding, trends
        bank = weights.similarity.bank
        self._rate = np.zeros(0, np.float32) if bank is None else bank.rate.astype(np.float32)
        self.modes = Modes.of(weights.revisit.bank) if weights.revisit else None
        """Of the revisit head's bank."""
        self._prior: tuple[np.ndarray, np.ndarray] | None = None  # what popularity adds, and with the bias

    @classmethod
    def of(cls, predictor: Predictor) -> "Live":
        """Of a trained model, and the catalogue's counts of all events of its histories. Raises InputError
        for an encoder that does not stream."""
        histories, weights = predictor.histories, weights_of(predictor)
        encoded = predictor.model.spec.encoder.blocks > 0
        rates = np.zeros(0) if weights.popularity is None else weights.popularity.rates
        trends = Trends.of(histories, rates * (histories.clock != "relative"))
        return cls(weights, encoding_of(predictor) if encoded else None, trends)

    @property
    def linear(self) -> bool:
        """Whether an event may be late, or forgotten, without replaying its user's history: where each
        writes for itself alone."""
        return self.encoding is None and self.weights.similarity.bank is not None

    def init(self) -> UserState:
        """Before any event."""
        revisit = self.weights.revisit
        mass = None
        if revisit is not None and revisit.bank.adaptive is not None:
            mass = np.zeros(len(revisit.bank.rate))
        return UserState(interest.init(self.weights.similarity, self.encoding), counts.init(), mass, 0, 0)

    def update(self, state: UserState, event: Event) -> UserState:
        """The state after an event. Where the model is not `linear`, events come in the order of time."""
        similarity, revisit = self.weights.similarity, self.weights.revisit
        moved = interest.update(similarity, self._rate, self.encoding, state.interest, event)
        own, mass = state.counts, state.mass
        if revisit is not None:
            assert self.modes is not None
            own = counts.update(revisit, self.modes, own, event.item, event.at, event.behaviour, event.weight)
            if mass is not None:
                since = (event.at - state.time) / clock.DAY
                rate = revisit.bank.rate
                mass = mass * np.exp(-rate * max(since, 0.0)) + np.exp(-rate * max(-since, 0.0))
        return UserState(moved, own, mass, max(state.time, event.at), state.events + 1)

    def forget(self, state: UserState, event: Event) -> UserState:
        """The state without an event that has been in it, given as it was. Exact by linearity; raises
        InputError where the history without it must be replayed instead: with an encoder, and where something
        goes by the latest event and this is the one."""
        if (reason := self._bound(state, event)) is not None:
            raise InputError(f"forget: {reason}; replay the history without the event")
        moved = interest.update(self.weights.similarity, self._rate, None, state.interest, event, sign=-1)
        own, mass = state.counts, state.mass
        if self.weights.revisit is not None:
            assert self.modes is not None
            own = counts.forget(
                self.weights.revisit, self.modes, own, event.item, event.at, event.behaviour, event.weight
            )
            if mass is not None:
                age = (state.time - event.at) / clock.DAY
                mass = mass - np.exp(-self.weights.revisit.bank.rate * age)
        return UserState(moved, own, mass, state.time, state.events - 1)

    def merge(self, one: UserState, two: UserState) -> UserState:
        """The state of the events of both, in whatever order they came: of one user's events that two
        machines have seen. Raises InputError where the model is not `linear`."""
        if not self.linear:
            raise InputError("merge: this model's states hang on the order of events; replay them together")
        early, late = sorted((one, two), key=lambda state: state.time)
        mass = None
        if late.mass is not None:
            assert early.mass is not None
            assert self.weights.revisit is not None
            age = (late.time - early.time) / clock.DAY
            mass = late.mass + early.mass * np.exp(-self.weights.revisit.bank.rate * age)
        own = late.counts
        if self.weights.revisit is not None:
            assert self.modes is not None
            own = counts.merge(self.weights.revisit, self.modes, early.counts, late.counts)
        moved = interest.merge(self.weights.similarity, self._rate, early.interest, late.interest)
        return UserState(moved, own, mass, late.time, early.events + late.events)

    def _bound(self, state: UserState, event: Event) -> str | None:
        """Why an event cannot be taken out by itself."""
        if not self.linear:
            return "this model's states hang on the order of events"
        if event.at >= state.time and not self.weights.similarity.timed:
            return "the model is asked at the time of the latest event, which this is"
        revisit, last = self.weights.revisit, state.counts.last
        if revisit is not None and revisit.satiation and last is not None and event.at >= last[0]:
            return "satiation goes by what was taken last, which this is"
        return None

    def replay(self, events: Iterable[Event]) -> UserState:
        """The state after these events, in the order of time."""
        state = self.init()
        for event in events:
            state = self.update(state, event)
        return state

    def reading(
        self,
        state: UserState,
        user: int,
        at: int,
        codes: np.ndarray = _NOTHING,
        numbers: np.ndarray = _NOTHING,
    ) -> Reading:
        """What a state says of a user, by index (one beyond those of training reads as the average does), at
        ``at`` (seconds since the origin), in a context."""
        weights, when = self.weights, at
        if not weights.similarity.timed and state.events:
            when = state.time
        query = interest.query(
            weights.similarity, self._rate, self.encoding, state.interest, when,
            user=user, known=weights.known_users, codes=codes, numbers=numbers,
        )  # fmt: skip
        return Reading(query, when + weights.origin, *self._excited(state, user, when))

    def _excited(self, state: UserState, user: int, at: int) -> tuple[np.ndarray, np.ndarray]:
        revisit = self.weights.revisit
        if revisit is None:
            return np.zeros(0, np.int64), _NOTHING
        assert self.modes is not None
        held = state.mass
        if held is not None:
            held = held * np.exp(-revisit.bank.rate * max(at - state.time, 0) / clock.DAY)
        reads = clock.read_weights(revisit.bank, user, self.weights.known_users, held)
        items, found = counts.read(revisit, self.modes, state.counts, at, reads)
        some = found > 1e-30
        return items[some], np.float32(revisit.level) + np.log(found[some])

    def scores(
        self,
        state: UserState,
        user: int,
        at: int,
        codes: np.ndarray = _NOTHING,
        numbers: np.ndarray = _NOTHING,
    ) -> np.ndarray:
        """(V,) float32 scores of all items, asked as for `reading`."""
        reading = self.reading(state, user, at, codes, numbers)
        base = np.vecdot(self.weights.targets, reading.query) + self.prior(reading.moment)
        return self.finished(base, self.log_of_sum(base, reading.moment), reading)

    def prior(self, moment: int) -> np.ndarray:
        """(V,) float32 what is added to every user's scores at a moment (seconds): bias and popularity. Not
        to be changed; the same array until something has been counted."""
        if self.weights.popularity is None:
            return self.weights.bias
        popular = self.trends.scores(self.weights.popularity, moment)
        known = self._prior
        if known is None or known[0] is not popular:
            known = self._prior = popular, self.weights.bias + popular
        return known[1]

    def log_of_sum(self, base: np.ndarray, moment: int) -> float:
        """The logarithm of the sum over the items that have come by a moment (all, if none has); of scores
        (V,) before what comes back."""
        if self.weights.entering:
            known = self.trends.came < moment
            if known.any() and not known.all():
                base = base[known]
        most = float(base.max())
        return most + float(np.log(np.exp(base - most).sum(dtype=np.float64)))

    def finished(self, base: np.ndarray, total: float, reading: Reading) -> np.ndarray:
        """The scores (V,), in place of those before, less the logarithm of their sum, with what comes
        back."""
        base -= np.float32(total)
        base[reading.items] = np.logaddexp(base[reading.items], reading.excited)
        return base


def events_of(histories: Histories, user: int, weights: Weights) -> list[Event]:
    """A user's events as the model reads them, in the order of the log."""
    rows = slice(int(histories.offsets[user]), int(histories.offsets[user + 1]))
    weight = np.asarray(histories.weight[rows], np.float32) / np.float32(weights.weight)
    if weights.silent_zero:
        weight = np.where(np.asarray(histories.label[rows]) == 0, np.minimum(weight, np.float32(0)), weight)
    columns = (
        np.asarray(histories.item[rows]).tolist(),
        (np.asarray(histories.time[rows], np.int64) - weights.origin).tolist(),
        np.asarray(histories.behaviour[rows]).tolist(),
        weight.tolist(),
        np.asarray(histories.context_categorical[rows]),
        np.asarray(histories.context_numeric[rows]),
    )
    return [Event(*row) for row in zip(*columns, strict=True)]
