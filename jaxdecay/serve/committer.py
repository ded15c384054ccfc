"""Group commit: what arrives while a transaction is being written goes into the next one, together.

A durable commit waits for the disk, whatever its size. So one of those who wait appends for all of them, in
the order of their arrival, and each is answered when its own events are durable. A transaction that fails
fails for everybody in it, with the reason; nothing of it is kept, and sending it again is safe.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from jaxdecay.serve.store import Delivered, StoreError

MOST = 5000
"""Events of one transaction, unless a single delivery has more."""
_WAITING = 100_000  # events that may wait: beyond, somebody writes faster than the store


class _Delivery:
    """What one of them wants to be kept, and what became of it."""

    def __init__(self, events: Sequence[Delivered]) -> None:
        self.events = events
        self.new: list[bool] | None = None
        self.fault: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.new is not None or self.fault is not None


class Committer:
    """Appends to a store for many threads at once, one transaction after another."""

    def __init__(self, append: Callable[[Sequence[Delivered]], list[bool]]) -> None:
        """``append``: as `jaxdecay.serve.store.Store.append`."""
        self._append = append
        self._waiting: deque[_Delivery] = deque()
        self._events = 0
        self._changed, self._writing = threading.Condition(), False

    def append(self, events: Sequence[Delivered]) -> list[bool]:
        """Keeps events, all or none, and returns which are new, once they are durable. Raises StoreError."""
        delivery = _Delivery(events)
        with self._changed:
            if self._events and self._events + len(events) > _WAITING:
                raise StoreError(f"{self._events} events wait to be written already: send it again later")
            self._waiting.append(delivery)
            self._events += len(events)
        while taken := self._turn(delivery):
            self._commit(taken)
            with self._changed:
                self._writing = False
                self._changed.notify_all()
        if isinstance(delivery.fault, StoreError):  # each thread raises one of its own
            raise StoreError(str(delivery.fault)) from delivery.fault
        if delivery.fault is not None:
            raise delivery.fault
        assert delivery.new is not None
        return delivery.new

    def _turn(self, delivery: _Delivery) -> list[_Delivery]:
        """Waits until the delivery has been written, then nothing; or until it is up to this thread to write,
        then those that go into the transaction."""
        with self._changed:
            self._changed.wait_for(lambda: delivery.done or not self._writing)
            if delivery.done:
                return []
            self._writing = True
            return self._taken()

    def _taken(self) -> list[_Delivery]:
        taken = [self._waiting.popleft()]
        size = len(taken[0].events)
        while self._waiting and size + len(self._waiting[0].events) <= MOST:
            taken.append(self._waiting.popleft())
            size += len(taken[-1].events)
        self._events -= size
        return taken

    def _commit(self, taken: list[_Delivery]) -> None:
        try:
            new = iter(self._append([event for delivery in taken for event in delivery.events]))
            for delivery in taken:
                delivery.new = [next(new) for _ in delivery.events]
        except BaseException as error:
            for delivery in taken:
                delivery.fault = error
