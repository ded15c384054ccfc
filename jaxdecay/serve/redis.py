"""A store in Redis or Valkey: for several machines that serve, and writers that keep nothing themselves.

Every change is one Lua script (`lua/`), which the server runs as a whole (`lua/log.lua` says what becomes of
one that a killed server has written by half). What an acknowledgement promises is up to the server:
`RedisStore.durability` says it in words.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jaxdecay.errors import InputError
from jaxdecay.serve.store import Delivered, Entry, Saved, StoreError, key_of

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError:
    raise InputError("a Redis store needs redis, which is missing: pip install 'jaxdecay[serve]'") from None

_VERSION = 1
_WAIT = 10.0  # seconds
_KEY = 16  # bytes of `key_of`
_FADED = 40  # half-lives after which a millionth of a millionth is left
_DAY = 86_400_000  # milliseconds
_LUA = Path(__file__).parent / "lua"
LOG = ("last", "ids", "log")
"""Keys that scripts find the log by."""
_REMEDIES: tuple[tuple[type[Exception], str, str], ...] = (
    (redis.AuthenticationError, "", "user or password is wrong: give redis://USER:PASSWORD@HOST"),
    (redis.BusyLoadingError, "", "the server is still loading: try again in a moment"),
    (redis.OutOfMemoryError, "", "the server's maxmemory is reached: give it more, then send it again"),
    (redis.ReadOnlyError, "", "the server is a read-only replica: give the address of its primary"),
    (redis.exceptions.NoPermissionError, "", "this user may not do that: give one that may run scripts"),
    (redis.ResponseError, "MISCONF", "the server cannot write its file: free some space, then send it again"),
    (redis.ResponseError, "WRONGTYPE", "keys of this name hold something else: give another database"),
)
_PROMISES = {
    "always": "appendfsync always: what is acknowledged has reached the server's disk",
    "everysec": "appendfsync everysec: a crash of the server's machine loses up to two seconds of what was "
    "acknowledged, a crash of the server alone nothing",
    "no": "appendfsync no: a crash of the server's machine loses what its system had not written yet, up to "
    "half a minute; a crash of the server alone nothing",
}


def lifetime(half_life: float | None) -> int:
    """Milliseconds after which states may go whose longest half-life (days) this is; 0 for never, where it is
    None.

    >>> lifetime(0.25) / 86_400_000, lifetime(None)
    (10.0, 0)
    """
    return 0 if half_life is None else int(half_life * _FADED * _DAY)


class RedisStore:
    """A `jaxdecay.serve.store.Store`, in one database of one server (no cluster).

    What is erased is gone from the database at once, and from the server's append-only file when it is next
    rewritten (``BGREWRITEAOF``).
    """

    def __init__(self, url: str, *, name: str = "jaxdecay", half_life: float | None = None) -> None:
        """``url``: redis://, rediss:// or unix://. ``name``: what all keys begin with. ``half_life``: in
        days, the longest of the model where all are finite: saved states then go 40 half-lives after the last
        write (they are made anew when asked for); else they stay. Events never go.

        Raises StoreError for a server that is away, throws keys away, or holds another version, and
        InputError for an address that is none.
        """
        self.where, self.prefix = _shown(url), f"{name}:".encode()
        self.lifetime = lifetime(half_life)
        # Nothing is sent twice by itself: of a second try it would be unknown which events are new.
        self.client: Any = redis.Redis.from_url(
            url, socket_timeout=_WAIT, socket_connect_timeout=_WAIT, retry=Retry(NoBackoff(), 0)
        )
        self._append = self.script("log", "append", model="nil")
        self._erase, self._save = self.script("log", "erase"), self.script("save")
        try:
            self.durability = self._opened()
            """What the server promised, when it was opened, of what it acknowledges."""
        except BaseException:
            self.client.close()
            raise

    def _opened(self) -> str:
        with self.errors():
            self.client.set(self.prefix + b"version", _VERSION, nx=True)
            version = int(self.client.get(self.prefix + b"version"))
            if version != _VERSION:
                raise StoreError(
                    f"{self.where}: a store of version {version}, this is {_VERSION}; give another name"
                )
            try:
                told = self.client.config_get("append*") | self.client.config_get("maxmemory*")
            except redis.ResponseError:
                return "unknown: the server does not tell its configuration"
        told = {_text(name): _text(value) for name, value in told.items()}
        if told.get("maxmemory-policy", "").startswith("allkeys"):
            raise StoreError(
                f"{self.where}: the server throws any key away when memory is short "
                f"(maxmemory-policy {told['maxmemory-policy']}): set noeviction"
            )
        if told.get("appendonly") != "yes":
            return "appendonly no: a crash of the server loses all since its last snapshot; set it to yes"
        return _PROMISES.get(told.get("appendfsync", ""), "unknown: the server does not tell appendfsync")

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """In words of what to do."""
        try:
            yield
        except redis.RedisError as error:
            told = " ".join(str(error).split()).rstrip(".")
            for kind, word, remedy in _REMEDIES:
                if isinstance(error, kind) and word in told:
                    raise StoreError(f"{self.where}: {remedy}") from error
            if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
                told = f"the server is away ({told}): send it again once it is back"
            raise StoreError(f"{self.where}: {told}") from error

    def script(self, *names: str, model: str | None = None) -> Any:
        """One of the scripts, called with keys and arguments, of several files; ``model``: for states."""
        text = "\n".join((_LUA / f"{name}.lua").read_text() for name in names)
        return self.client.register_script(text if model is None else f"local MODEL = {model}\n{text}")

    def keys(self, *names: str) -> list[bytes]:
        """Keys of this store by the rest of their names."""
        return [self.prefix + name.encode() for name in names]

    def append(self, events: Sequence[Delivered]) -> list[bool]:
        return self.append_with(self._append, events, [b""] * len(events))

    def append_with(self, script: Any, events: Sequence[Delivered], adds: Sequence[bytes]) -> list[bool]:
        """`append`, with what each event adds to the state that the script keeps."""
        words: list[bytes] = [self.prefix]
        for event, add in zip(events, adds, strict=True):
            words += [key_of(event.id), key_of(event.user), json.dumps(event).encode(), add]
        with self.errors():
            return [new == 1 for new in script(self.keys(*LOG), words)]

    def last(self) -> int:
        with self.errors():
            return int(self.client.get(self.prefix + b"last") or 0)

    def after(self, number: int, most: int = 10_000) -> list[Entry]:
        return self._entries(range(number + 1, min(number + most, self.last()) + 1))

    def of_user(self, user: bytes, after: int, upto: int) -> list[Entry]:
        last = self.last()
        with self.errors():
            numbers = self.client.zrangebyscore(self.prefix + b"user:" + user, after + 1, min(upto, last))
        entries = self._entries([int(number) for number in numbers])
        return [one for one in entries if one.user == user and one.event is not None]

    def _entries(self, numbers: Sequence[int]) -> list[Entry]:
        if not numbers:
            return []
        with self.errors():
            rows = self.client.hmget(self.prefix + b"log", numbers)
        return [_entry(number, row) for number, row in zip(numbers, rows, strict=True)]

    def forget_event(self, id: str) -> Delivered | None:
        found = self._erased(key_of(id), b"")
        return None if found is None else _entry(0, found).event

    def forget_user(self, user: str) -> int:
        return int(self._erased(b"", key_of(user)))

    def _erased(self, id: bytes, user: bytes) -> Any:
        keys = self.keys(*LOG, "erased", "forgotten", "makers")
        with self.errors():
            return self._erase(keys, [self.prefix, id, user])

    def forgotten(self) -> dict[bytes, int]:
        with self.errors():
            found = self.client.hgetall(self.prefix + b"forgotten")
        return {user: int(number) for user, number in found.items()}

    def state(self, user: bytes) -> Saved | None:
        with self.errors():
            found = self.client.get(self.prefix + b"state:" + user)
        if found is None:
            return None
        number, maker, data = found.split(b" ", 2)
        return Saved(user, int(number), bytes.fromhex(maker.decode()), data)

    def save(self, states: Iterable[Saved]) -> None:
        words: list[Any] = [self.prefix, self.lifetime]
        for one in states:
            head = f"{one.number} {one.maker.hex()} ".encode()
            words += [one.user, one.number, head + one.data]
        with self.errors():
            self._save(self.keys("erased"), words)

    def close(self) -> None:
        self.client.close()


def _entry(number: int, row: bytes) -> Entry:
    user, event = row[:_KEY], row[2 * _KEY :]
    return Entry(number, user, Delivered(*json.loads(event)) if event else None)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _shown(url: str) -> str:
    """The address without its password."""
    parts = urlsplit(url)
    try:
        _ = parts.port
        bad = parts.scheme != "unix" and not (parts.path.strip("/") or "0").isdecimal()
    except ValueError:
        bad = True
    if bad:
        raise InputError(f"store {parts.scheme}://: give redis://HOST:PORT/DATABASE, both of them numbers")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
