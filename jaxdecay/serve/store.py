"""What is kept of what arrives: the log of events, each once, and states that save reading it again.

A store numbers what it keeps from 1 in the order of arrival. Whoever reads on from the last number that he
knows (`Store.after`) misses nothing, whoever else writes. States are bytes that some model made from the
entries up to a number: a store neither understands nor needs them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable


class StoreError(Exception):
    """What was asked has not been done, and nothing is half done: the store is full, damaged, read-only or
    away. The message is one line that says what to do; asking again is safe."""


class Delivered(NamedTuple):
    """An event as it came, in the ids of the log."""

    id: str
    """Its sender's: another event with the same one is the same event."""
    user: str
    item: str
    at: int
    """Seconds since 1970 or, with relative times, since the user's first event."""
    behaviour: str = ""
    weight: float = 1.0
    label: float | None = None
    context: str = ""
    """JSON, its context columns by name."""
    content: str = ""
    """JSON, the columns of an item that the run does not know."""


class Entry(NamedTuple):
    """Of the log."""

    number: int
    user: bytes
    """`key_of` whom it is about."""
    event: Delivered | None
    """None: events of this user were forgotten, and states that held them say too much."""


class Saved(NamedTuple):
    """A state."""

    user: bytes
    number: int
    """It holds the user's entries up to this one."""
    maker: bytes
    """What made it."""
    data: bytes


@runtime_checkable
class Store(Protocol):
    """Safe to use from several threads, and by several processes at once.

    Every method raises StoreError.
    """

    def append(self, events: Sequence[Delivered]) -> list[bool]:
        """Keeps events, all or none, and returns which are new: one whose id has come before, even if it was
        forgotten since, is not kept again. They are durable when this returns."""
        ...

    def last(self) -> int:
        """The number of the latest entry; 0 for none. Cheap."""
        ...

    def after(self, number: int, most: int = 10_000) -> list[Entry]:
        """The first entries beyond a number, in order."""
        ...

    def of_user(self, user: bytes, after: int, upto: int) -> list[Entry]:
        """A user's events with numbers beyond ``after``, up to ``upto``, in order."""
        ...

    def forget_event(self, id: str) -> Delivered | None:
        """Erases an event and returns it; None where there is none of that id. Its id stays known."""
        ...

    def forget_user(self, user: str) -> int:
        """Erases a user's events and state, and returns how many events there were. The user's `key_of`
        stays: what came before, in a run's own log, counts for nothing any more (`forgotten`)."""
        ...

    def forgotten(self) -> dict[bytes, int]:
        """Users whose past was erased, by `key_of`, and the number of the entry that says so."""
        ...

    def state(self, user: bytes) -> Saved | None:
        """The latest state of a user that was saved."""
        ...

    def save(self, states: Iterable[Saved]) -> None:
        """Keeps states in the place of those before, but for those that hold what has been erased since. What
        is lost here can be made anew."""
        ...

    def close(self) -> None:
        """Lets go of files and connections."""
        ...


def key_of(name: str) -> bytes:
    """(16 bytes) what a user or an event is called where its name must be forgettable."""
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
