"""A store in memory, for notebooks and tests: durable as long as the process."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence

from jaxdecay.serve.store import Delivered, Entry, Saved, key_of


class MemoryStore:
    """A `jaxdecay.serve.store.Store`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._ids: dict[bytes, int] = {}
        self._users: dict[bytes, list[int]] = defaultdict(list)
        self._states: dict[bytes, Saved] = {}
        self._erased: dict[bytes, int] = {}
        self._forgotten: dict[bytes, int] = {}

    def append(self, events: Sequence[Delivered]) -> list[bool]:
        with self._lock:
            return [self._add(event) for event in events]

    def _add(self, event: Delivered) -> bool:
        if (id := key_of(event.id)) in self._ids:
            return False
        self._ids[id] = self._enter(key_of(event.user), event)
        return True

    def _enter(self, user: bytes, event: Delivered | None) -> int:
        number = len(self._entries) + 1
        self._entries.append(Entry(number, user, event))
        if event is not None:
            self._users[user].append(number)
        return number

    def last(self) -> int:
        return len(self._entries)

    def after(self, number: int, most: int = 10_000) -> list[Entry]:
        with self._lock:
            return self._entries[number : number + most]

    def of_user(self, user: bytes, after: int, upto: int) -> list[Entry]:
        with self._lock:
            return [self._entries[one - 1] for one in self._users.get(user, ()) if after < one <= upto]

    def forget_event(self, id: str) -> Delivered | None:
        with self._lock:
            number = self._ids.get(key_of(id))
            entry = None if number is None else self._entries[number - 1]
            if entry is None or entry.event is None:
                return None
            self._users[entry.user].remove(entry.number)
            self._erase(entry.user, [entry.number])
            return entry.event

    def _erase(self, user: bytes, numbers: list[int]) -> None:
        for number in numbers:
            self._entries[number - 1] = Entry(number, user, None)
        self._states.pop(user, None)
        self._erased[user] = self._enter(user, None)

    def forget_user(self, user: str) -> int:
        with self._lock:
            key = key_of(user)
            numbers = self._users.pop(key, [])
            self._erase(key, numbers)
            self._forgotten[key] = self._erased[key]
            return len(numbers)

    def forgotten(self) -> dict[bytes, int]:
        with self._lock:
            return dict(self._forgotten)

    def state(self, user: bytes) -> Saved | None:
        with self._lock:
            return self._states.get(user)

    def save(self, states: Iterable[Saved]) -> None:
        with self._lock:
            for state in states:
                if state.number >= self._erased.get(state.user, 0):
                    self._states[state.user] = state

    def close(self) -> None:
        pass
