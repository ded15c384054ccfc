"""A store in one SQLite file, without a server: what is used where nothing else is asked for.

Write-ahead logging, so that reading goes on while somebody writes, and ``synchronous=FULL``: a commit has
reached the disk when it returns. Ids are unique by their hashes, which stay when an event is erased;
``secure_delete`` overwrites what is erased.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxdecay.serve.store import Delivered, Entry, Saved, StoreError, key_of

_VERSION = 1
_WAIT = 10.0  # seconds that another process may take to write
_TABLES = """
CREATE TABLE log (
  number INTEGER PRIMARY KEY, id BLOB UNIQUE, user_key BLOB NOT NULL,
  event_id TEXT, user TEXT, item TEXT, at INTEGER, behaviour TEXT, weight REAL, label REAL,
  context TEXT, content TEXT
);
CREATE INDEX log_of_user ON log (user_key, number) WHERE user IS NOT NULL;
CREATE TABLE erased (user_key BLOB PRIMARY KEY, number INTEGER NOT NULL, whole INTEGER NOT NULL);
CREATE TABLE state (user_key BLOB PRIMARY KEY, number INTEGER NOT NULL, maker BLOB NOT NULL, data BLOB);
"""
_COLUMNS = "number, user_key, event_id, user, item, at, behaviour, weight, label, context, content"
_REMEDIES = {
    "SQLITE_FULL": "the disk is full: free some space; nothing was written, send it again",
    "SQLITE_READONLY": "it cannot be written: give this process the right to write it and its directory",
    "SQLITE_CANTOPEN": "it cannot be opened: give a path in a directory that can be written",
    "SQLITE_BUSY": f"another process has been writing for more than {_WAIT:g} s: try again",
    "SQLITE_CORRUPT": "the file is damaged: restore it from a copy (states are made anew from its log)",
    "SQLITE_NOTADB": "this is no store: give another path",
    "SQLITE_IOERR": "the disk fails: look at it; nothing was written, send it again",
}


class SqliteStore:
    """A `jaxdecay.serve.store.Store`."""

    def __init__(self, path: str | Path) -> None:
        """Opens the file, or makes it. Raises StoreError for one that is no store, damaged, or of another
        version."""
        self.path = Path(path)
        # Who reads does not wait until what somebody writes has reached the disk.
        self._lock, self._reading = threading.Lock(), threading.Lock()
        with contextlib.ExitStack() as opened, self._errors():
            self._connection = opened.enter_context(contextlib.closing(self._connected()))
            self._prepare()
            self._reader = opened.enter_context(contextlib.closing(self._connected()))
            opened.pop_all()

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False)

    def _prepare(self) -> None:
        run = self._connection.execute
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "cache_size=-65536"):
            run(f"PRAGMA {pragma}")
        with self._writing():
            (version,) = run("PRAGMA user_version").fetchone()
            if not version and not run("SELECT 1 FROM sqlite_master").fetchone():
                for statement in _TABLES.split(";"):
                    run(statement)
                run(f"PRAGMA user_version={_VERSION}")
            elif version != _VERSION:
                raise StoreError(
                    f"{self.path}: a store of version {version}, this is {_VERSION}; give another path"
                    if version
                    else f"{self.path}: a database of something else; give another path"
                )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """In words of what to do."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            remedy = next((text for start, text in _REMEDIES.items() if name.startswith(start)), str(error))
            raise StoreError(f"{self.path}: {remedy}") from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """All of it, on the disk, or nothing."""
        with self._lock, self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._reading, self._errors():
            return self._reader.execute(query, values).fetchall()

    def append(self, events: Sequence[Delivered]) -> list[bool]:
        insert = (
            "INSERT OR IGNORE INTO log (id, user_key, event_id, user, item, at, behaviour, weight, label, "
            "context, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        with self._writing():
            run = self._connection.execute
            return [
                run(insert, (key_of(event.id), key_of(event.user), *event)).rowcount == 1 for event in events
            ]

    def last(self) -> int:
        return self._rows("SELECT COALESCE(MAX(number), 0) FROM log")[0][0]

    def after(self, number: int, most: int = 10_000) -> list[Entry]:
        query = f"SELECT {_COLUMNS} FROM log WHERE number > ? ORDER BY number LIMIT ?"
        return [_entry(row) for row in self._rows(query, (number, most))]

    def of_user(self, user: bytes, after: int, upto: int) -> list[Entry]:
        query = (
            f"SELECT {_COLUMNS} FROM log WHERE user IS NOT NULL AND user_key = ? AND number > ? "
            "AND number <= ? ORDER BY number"
        )
        return [_entry(row) for row in self._rows(query, (user, after, upto))]

    def forget_event(self, id: str) -> Delivered | None:
        query = f"SELECT {_COLUMNS} FROM log WHERE id = ? AND user IS NOT NULL"
        with self._writing():
            row = self._connection.execute(query, (key_of(id),)).fetchone()
            if row is None:
                return None
            entry = _entry(row)
            self._erase(entry.user, "number = ?", entry.number, whole=False)
        self._overwrite()
        return entry.event

    def forget_user(self, user: str) -> int:
        key = key_of(user)
        with self._writing():
            count = self._erase(key, "user IS NOT NULL AND user_key = ?", key, whole=True)
        self._overwrite()
        return count

    def _erase(self, user: bytes, which: str, value: Any, *, whole: bool) -> int:
        run = self._connection.execute
        nothing = ", ".join(f"{name} = NULL" for name in _COLUMNS.split(", ")[2:])
        count = run(f"UPDATE log SET {nothing} WHERE {which}", (value,)).rowcount
        run("DELETE FROM state WHERE user_key = ?", (user,))
        number = run("INSERT INTO log (user_key) VALUES (?)", (user,)).lastrowid
        run(
            "INSERT INTO erased VALUES (?, ?, ?) ON CONFLICT (user_key) DO UPDATE SET "
            "number = excluded.number, whole = MAX(whole, excluded.whole)",
            (user, number, whole),
        )
        return count

    def _overwrite(self) -> None:
        """Takes what was erased out of the write-ahead log, too, unless somebody is reading there."""
        with self._lock, self._reading, self._errors():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def forgotten(self) -> dict[bytes, int]:
        return dict(self._rows("SELECT user_key, number FROM erased WHERE whole"))

    def state(self, user: bytes) -> Saved | None:
        rows = self._rows("SELECT user_key, number, maker, data FROM state WHERE user_key = ?", (user,))
        return Saved(*rows[0]) if rows else None

    def save(self, states: Iterable[Saved]) -> None:
        insert = (
            "INSERT OR REPLACE INTO state SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS "
            "(SELECT 1 FROM erased WHERE user_key = ?1 AND number > ?2)"
        )
        with self._writing():
            self._connection.executemany(insert, states)

    def close(self) -> None:
        with self._lock, self._reading, self._errors():
            self._reader.close()
            self._connection.close()


def _entry(row: Sequence[Any]) -> Entry:
    number, user, *event = row
    return Entry(number, user, None if event[1] is None else Delivered(*event))
