"""What a process knows of a store's log: everybody's states and the catalogue's trends, moved on by each new
entry, whoever wrote it.

A user's state begins with the events of the run's own log. It is made when it is first asked for, from the
state that the store has saved or else from all events, and then follows. Where the model's states hang on the
order of events, a late one makes its user's anew.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.generations import own_fingerprint
from jaxdecay.live.codec import Codec
from jaxdecay.live.interest import Event
from jaxdecay.live.live import Live, UserState, events_of
from jaxdecay.live.trends import Trends
from jaxdecay.serve.store import Delivered, Entry, Saved, Store, key_of
from jaxdecay.serve.vocabulary import Vocabulary, chosen

_WORTH_SAVING = 32  # events that a saved state saves reading
_HELD = 20_000


@dataclass(eq=False)
class _Known:
    """Of a user."""

    state: UserState
    saved: int
    """How many of the state's events its saved form holds."""


class Follower:
    """States of all users at any moment. Safe to use from several threads."""

    def __init__(
        self, live: Live, vocabulary: Vocabulary, histories: Histories, store: Store, *, held: int = _HELD
    ) -> None:
        """``histories``: the run's own events, which come before those of the store. ``held``: states kept
        at hand, those asked for lately."""
        self.live, self.vocabulary, self.histories, self.store = live, vocabulary, histories, store
        codec = Codec(live)
        self._codec, self._held = codec, held
        self._maker = codec.fingerprint + key_of(own_fingerprint(histories))
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._forgotten = store.forgotten()
        self._lock = threading.RLock()
        self.number = 0
        """The latest entry that has been taken in."""
        self.skipped = 0
        """Entries whose item or behaviour the model does not know."""
        if self._forgotten:
            self._recount()
        self.follow()

    def follow(self) -> None:
        """Takes in what the store has had since. Raises StoreError, and then goes on from there next time."""
        with self._lock:
            if self.store.last() == self.number:
                return
            erased = False
            while entries := self.store.after(self.number):
                erased |= any(entry.event is None for entry in entries)
                self._take(entries)
            if erased:
                self._forgotten = self.store.forgotten()
                self._recount()

    def _take(self, entries: list[Entry]) -> None:
        there = [entry.event for entry in entries if entry.event is not None]
        events = iter(zip(there, self.vocabulary.events(there), strict=True))
        for entry in entries:
            if entry.event is None:
                self._known.pop(entry.user, None)
            else:
                self._add(entry.user, *next(events))
            self.number = entry.number

    def _add(self, user: bytes, delivered: Delivered, event: Event | None) -> None:
        if event is None:
            self.skipped += 1
            return
        self.live.trends.add(event.item, delivered.at, chosen=chosen(delivered))
        if (known := self._known.get(user)) is None:
            return
        if self._follows(known.state, [event]):
            known.state = self.live.update(known.state, event)
        else:
            del self._known[user]

    def _follows(self, state: UserState, events: list[Event]) -> bool:
        """Whether these events can be added to a state, in this order."""
        if self.live.linear or not events:
            return True
        times = [*([state.time] if state.events else []), *(event.at for event in events)]
        return times == sorted(times)

    def _recount(self) -> None:
        """The catalogue's trends without what has been erased."""
        users = self.vocabulary.users
        gone = [place for name, place in users.items() if key_of(name) in self._forgotten]
        trends = Trends.of(self.histories, self.live.trends.rates, without=gone)
        number = 0
        while entries := [one for one in self.store.after(number) if one.number <= self.number]:
            there = [entry.event for entry in entries if entry.event is not None]
            for delivered in there:
                if (item := self.vocabulary.items.get(delivered.item)) is not None:
                    trends.add(item, delivered.at, chosen=chosen(delivered))
            number = entries[-1].number
        self.live.trends = trends

    def state(self, user: str) -> UserState:
        """The state of a user, of no events for somebody new."""
        key = key_of(user)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._made(key, user)
                self._let_go(self._held)
            self._known.move_to_end(key)
            return self._known[key].state

    def before(self, user: str, at: int) -> UserState:
        """The state of a user after the events strictly before a moment (seconds, as the store has them)."""
        with self._lock:
            state, moment = self.state(user), at - self.live.weights.origin
            if not state.events or state.time < moment:
                return state
            events = self.history(user)
            return self.live.replay(event for event in events if event.at < moment)

    def history(self, user: str) -> list[Event]:
        """All events of a user that the model knows, in the order of time; ties as they came."""
        key = key_of(user)
        with self._lock:
            events = self._own(key, user) + self._entered(key, 0)
            return sorted(events, key=lambda event: event.at)

    def _own(self, key: bytes, user: str) -> list[Event]:
        """Those of the run's own log."""
        index = self.vocabulary.users.get(user)
        if index is None or key in self._forgotten:
            return []
        return events_of(self.histories, index, self.live.weights)

    def _entered(self, key: bytes, after: int) -> list[Event]:
        """Those of the store."""
        entries = self.store.of_user(key, after, self.number)
        events = self.vocabulary.events([entry.event for entry in entries if entry.event is not None])
        return [event for event in events if event is not None]

    def _made(self, key: bytes, user: str) -> _Known:
        saved = self.store.state(key)
        if saved is not None and saved.maker == self._maker and saved.number <= self.number:
            try:
                state = self._codec.unpack(saved.data)
            except InputError:  # damaged
                state = None
            more = self._entered(key, saved.number)
            if state is not None and self._follows(state, more):
                events = state.events
                for event in more:
                    state = self.live.update(state, event)
                return _Known(state, events)
        return _Known(self.live.replay(self.history(user)), 0)

    def _let_go(self, held: int) -> None:
        """Of states beyond as many as these, a few more at once, saving those that took long to make."""
        if len(self._known) <= held:
            return
        leave = max(len(self._known) - held, held // 16)
        old = [self._known.popitem(last=False) for _ in range(min(leave, len(self._known)))]
        self._save(old)

    def _save(self, some: list[tuple[bytes, _Known]]) -> None:
        saved = [
            Saved(key, self.number, self._maker, self._codec.pack(known.state))
            for key, known in some
            if known.state.events - known.saved >= _WORTH_SAVING
        ]
        if saved:
            self.store.save(saved)

    def close(self) -> None:
        """Saves the states at hand that took long to make."""
        with self._lock:
            self._save(list(self._known.items()))
            self._known.clear()
