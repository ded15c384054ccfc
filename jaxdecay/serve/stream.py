"""A Redis Stream followed into a store, each entry kept once, whichever consumer dies.

A group of consumers shares a stream. An entry is acknowledged once the store has made its event durable; what
a consumer took and did not acknowledge is taken over by another, and kept again without effect: an event's id
is its own or else the stream's name and the entry's id. Entries that are no event go to a second stream,
NAME:refused, with the reason.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from jaxdecay.errors import InputError
from jaxdecay.serve.delivery import Delivery, parsed
from jaxdecay.serve.incoming import MOST
from jaxdecay.serve.opened import SCHEMES
from jaxdecay.serve.store import Delivered, StoreError

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError:
    raise InputError("a Redis Stream needs redis, which is missing: pip install 'jaxdecay[serve]'") from None

_ABANDONED = 30.0  # seconds after which what a consumer took counts as left behind
_PAUSE = 1.0  # seconds between tries while a server or the store is away
_BLOCK = 500  # milliseconds that the server waits for something new
_WAIT = 10.0
_PARTS = ("context", "item")
_NUMBERS = ("weight", "label")
Entry = tuple[bytes, dict[bytes, bytes]]
Say = Callable[[str], None]


class Stream:
    """One consumer of a stream."""

    def __init__(self, url: str, *, group: str = "jaxdecay", abandoned: float = _ABANDONED) -> None:
        """``url``: redis://HOST:PORT/STREAM or redis://HOST:PORT/DATABASE/STREAM. ``abandoned``: seconds for
        which an entry was not acknowledged before it is taken over. Raises InputError for another address."""
        server, name = _parts(url)
        self.name, self._group, self._abandoned = name, group, abandoned
        self._consumer = f"{socket.gethostname()}-{os.getpid()}"
        self._client: Any = redis.Redis.from_url(
            server, socket_timeout=_WAIT, socket_connect_timeout=_WAIT, retry=Retry(NoBackoff(), 0)
        )
        self._claimed = 0.0

    def follow(self, delivery: Delivery, say: Say, *, idle: float | None = None) -> None:
        """Keeps what comes. Ends once nothing has come for ``idle`` seconds (None: never).

        While the server or the store is away it waits, and says so once. Raises InputError for a server that
        refuses, or wants a password.
        """
        away, latest = False, time.monotonic()
        taken: list[Entry] = []
        while taken or idle is None or time.monotonic() - latest < idle:
            try:
                if taken := taken or self._next():
                    self._deliver(taken, delivery)
                    taken, latest = [], time.monotonic()
                away = False
            except redis.AuthenticationError as error:
                raise InputError(f"{self.name}: {error}; give redis://USER:PASSWORD@HOST") from error
            except (StoreError, redis.ConnectionError, redis.TimeoutError) as error:
                if not away:
                    say(f"{' '.join(str(error).split())}; trying again until it is back")
                away, latest = True, time.monotonic()
                time.sleep(_PAUSE)
            except redis.ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise InputError(f"{self.name}: {error}") from error
                self._open()
        self._leave()

    def _open(self) -> None:
        try:
            self._client.xgroup_create(self.name, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # it is there
                raise

    def _next(self) -> list[Entry]:
        """What others left behind, else what is new, waiting for it a moment."""
        if time.monotonic() - self._claimed > self._abandoned / 2:
            found = self._client.xautoclaim(
                self.name, self._group, self._consumer, int(self._abandoned * 1000), count=MOST
            )
            entries = [(id, fields) for id, fields in found[1] if fields is not None]
            if entries:
                return entries
            self._claimed = time.monotonic()
        read = self._client.xreadgroup(
            self._group, self._consumer, {self.name: ">"}, count=MOST, block=_BLOCK
        )
        read = list(read.items()) if isinstance(read, dict) else (read or [])
        return read[0][1] if read else []

    def _deliver(self, entries: list[Entry], delivery: Delivery) -> None:
        events: list[Delivered] = []
        refused: list[tuple[Entry, str]] = []
        for id, fields in entries:
            try:
                events.append(delivery.checked(_object(fields), f"{self.name}/{id.decode()}"))
            except InputError as error:
                refused.append(((id, fields), str(error)))
        delivery.keep(events)
        with self._client.pipeline(transaction=True) as all_or_none:
            for (id, fields), reason in refused:
                told = {**fields, b"entry": id, b"reason": reason.encode()}
                all_or_none.xadd(f"{self.name}:refused", told)
            all_or_none.xack(self.name, self._group, *(id for id, _ in entries))
            all_or_none.execute()
        for (id, _), reason in refused:
            delivery.skip(f"entry {id.decode()}", reason)

    def _leave(self) -> None:
        """Takes its name off the group, unless entries stand under it (of an answer that was lost on its
        way), which another must find there."""
        with contextlib.suppress(redis.RedisError):
            if not self._client.xpending_range(self.name, self._group, "-", "+", 1, self._consumer):
                self._client.xgroup_delconsumer(self.name, self._group, self._consumer)
        self._client.close()


def _object(fields: dict[bytes, bytes]) -> Any:
    """What an entry says: JSON in one field ``event``, or fields by name, of which context and item are JSON
    and weight and label numbers."""
    try:
        found: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items()}
    except UnicodeDecodeError:
        raise InputError("it is not UTF-8; send text") from None
    if found.keys() == {"event"}:
        return parsed(fields[b"event"])
    return {
        name: parsed(value.encode()) if name in _PARTS or name in _NUMBERS else value
        for name, value in found.items()
    }


def _parts(url: str) -> tuple[str, str]:
    """The server and the stream."""
    parts = urlsplit(url)
    database, _, name = parts.path.strip("/").rpartition("/")
    try:
        good = parts.scheme in SCHEMES and parts.netloc and name and (database or "0").isdecimal()
        good = good and (parts.port is None or parts.port > 0)
    except ValueError:  # of the port
        good = False
    if not good:
        raise InputError("from: give redis://HOST:PORT/STREAM or redis://HOST:PORT/DATABASE/STREAM")
    return f"{SCHEMES[parts.scheme]}://{parts.netloc}/{database or 0}", name
