"""A newer run in the place of the one that is served, without dropping a request.

The new one is opened beside the old one and takes every request from then on; the old one is closed when its
last request has ended. What cannot be opened changes nothing: the old one goes on, and what was wrong is
told, until it is right.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxdecay.errors import InputError
from jaxdecay.generations import newest
from jaxdecay.serve.service import Service
from jaxdecay.serve.store import StoreError
from jaxdecay.serve.telemetry import LOG

_EVERY = 2.0  # seconds between two looks at the run
_AGAIN = 10  # looks until what could not be opened is tried again: a copy may have been under way


class _Opened:
    """A service, and how many requests are using it."""

    def __init__(self, service: Service) -> None:
        self.service, self.users, self.old = service, 0, False


class Serving:
    """The service that answers now."""

    def __init__(self, path: Path, opening: Callable[[], Service], *, every: float = _EVERY) -> None:
        """``path``: the run directory, or a link to it. ``opening`` gives its service, each time a new one;
        what it raises now is raised, what it raises later is told (`fault`)."""
        self._path, self._opening, self._every = path, opening, every
        self._marks = _marks(path)
        self._current = _Opened(opening())
        self._lock, self._reloading = threading.Lock(), threading.Lock()
        self._wake, self._closed = threading.Event(), False
        self._asked = False
        self.fault: str | None = None
        """Why the newest run is not the one that answers; None if it is."""
        self.told: Callable[[str], None] = lambda outcome: None
        """Called after each attempt to open a run, with "opened" or "refused"."""
        self._watch: threading.Thread | None = None

    @contextlib.contextmanager
    def service(self) -> Iterator[Service]:
        """The one to ask, which stays open for as long."""
        with self._lock:
            if self._closed:
                raise StoreError("the server is closing: ask again")
            opened = self._current
            opened.users += 1
        try:
            yield opened.service
        finally:
            self._leave(opened)

    def _leave(self, opened: _Opened) -> None:
        with self._lock:
            opened.users -= 1
            last = opened.old and not opened.users
        if last:  # elsewhere: who leaves has his answer, and others wait for theirs
            threading.Thread(target=_close, args=(opened.service,), name="jaxdecay-close").start()

    def reload(self) -> bool:
        """Opens the run anew and lets it answer; whether that could be done."""
        with self._reloading:
            self._marks = _marks(self._path)
            try:
                new = _Opened(self._opening())
            except Exception as error:  # whatever a damaged run may raise
                told = error if isinstance(error, InputError | StoreError) else f"damaged ({error!r})"
                self.fault = f"the newest run cannot be served, the one before still is: {told}"
                LOG.error("%s", self.fault)
                self.told("refused")
                return False
            with self._lock:
                old, self._current = (new, self._current) if self._closed else (self._current, new)
                old.old, idle = True, not old.users
                self.fault = None
            LOG.info("%s is served", self._path)
            self.told("opened")
        if idle:
            _close(old.service)
        return True

    def ask(self) -> None:
        """Has the run opened anew, soon: what a signal calls."""
        self._asked = True
        self._wake.set()

    def watch(self) -> None:
        """Looks from now on whether the run has changed: another directory behind the link, its config.json
        or its newest histories."""
        self._watch = threading.Thread(target=self._look, name="jaxdecay-reload", daemon=True)
        self._watch.start()

    def _look(self) -> None:
        looks = 0
        while not self._closed:
            self._wake.wait(self._every)
            self._wake.clear()
            looks += 1
            asked, self._asked = self._asked, False
            again = self.fault is not None and looks >= _AGAIN
            if not self._closed and (asked or again or _marks(self._path) != self._marks):
                looks = 0
                self.reload()

    def close(self) -> None:
        """Lets nobody in any more, and closes the service when its last request has ended."""
        with self._lock:
            self._closed = True
            current = self._current
            current.old, idle = True, not current.users
        self._wake.set()
        if self._watch is not None:
            self._watch.join()
        if idle:
            _close(current.service)


def _close(service: Service) -> None:
    try:
        service.close()
    except StoreError as error:  # what is lost can be made anew
        LOG.error("closing: %s", error)


def _marks(path: Path) -> tuple[Any, ...]:
    """What changes when the run does."""
    marks: list[Any] = [path.resolve()]
    for file in (path / "config.json", newest(path)):
        try:
            found = file.stat()
            marks.append((file.name, found.st_ino, found.st_mtime_ns))
        except OSError:
            marks.append((file.name, None))
    return tuple(marks)
