"""Many events at once into a store: rows of a file, lines of a pipe, entries of a stream.

Each is checked by itself, and what cannot be kept is counted and said why. An event without an id gets one
from what it says and from how many like it came before in the same delivery: so a delivery may be repeated.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from jaxdecay import arrivals
from jaxdecay.data.categories import Categories
from jaxdecay.data.checks import Nulls
from jaxdecay.data.events import ROW, Columns
from jaxdecay.data.times import Unit
from jaxdecay.errors import InputError
from jaxdecay.loaded import Loaded
from jaxdecay.serve.incoming import MOST, Incoming
from jaxdecay.serve.store import Delivered, Store, StoreError
from jaxdecay.serve.vocabulary import Vocabulary

_CHUNK = 1 << 16  # bytes that are read at once, and so kept at once
_LONGEST = 1 << 20
_TOLD = 5  # reasons kept
_PAUSE = 1.0  # seconds between tries


class Delivery:
    """Keeps events in a store, and counts what became of them."""

    def __init__(self, vocabulary: Vocabulary, incoming: Incoming, store: Store) -> None:
        self._vocabulary, self._incoming, self._store = vocabulary, incoming, store
        self._copies: Counter[bytes] = Counter()
        self.kept = self.repeated = self.skipped = 0
        """Events: new, of ids that had come before, and not kept."""
        self.reasons: list[str] = []
        """Of the first that were skipped."""

    def checked(self, sent: Any, id: str | None = None) -> Delivered:
        """The event that an object of JSON is; ``id``: where it has none of its own, instead of one from what
        it says. Raises InputError for what is wrong with it and for an item of which nothing is known."""
        own = isinstance(sent, Mapping) and sent.get("event_id") is not None
        if isinstance(sent, Mapping) and not own:
            sent = {**sent, "event_id": id or "-"}
        try:
            (event,) = self._incoming.checked([sent])
        except InputError as error:
            raise InputError(str(error).removeprefix("event 1: ")) from None
        if event.item not in self._vocabulary.items and not event.content:
            raise InputError(f"item {ascii(event.item)[:60]} is not known; send its columns as 'item'")
        return event if own or id else event._replace(id=self._from_content(event))

    def _from_content(self, event: Delivered) -> str:
        columns = [json.loads(text or "{}") for text in (event.context, event.content)]
        text = json.dumps([event[1:-2], columns], sort_keys=True)
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._copies[key] += 1
        return f"{key.hex()}-{self._copies[key]}"

    def skip(self, where: str, reason: str) -> None:
        """Counts an event that is not kept."""
        self.skipped += 1
        if len(self.reasons) < _TOLD:
            self.reasons.append(f"{where}: {reason}")

    def keep(self, events: Sequence[Delivered]) -> None:
        """Keeps events, for good when this returns. Raises StoreError; to ask again is safe."""
        new = self._store.append(events) if events else []
        self.kept += sum(new)
        self.repeated += len(new) - sum(new)

    def report(self) -> dict[str, Any]:
        """What became of all."""
        return {name: getattr(self, name) for name in ("kept", "repeated", "skipped", "reasons")}


def pipe(descriptor: int, delivery: Delivery, say: Callable[[str], None]) -> None:
    """Keeps events from lines of JSON, each as soon as it is there, to the end. While the store is away it
    waits, and says so once."""
    before = 0
    for some in _lines(descriptor):
        events = []
        for number, line in enumerate(some, before + 1):
            try:
                if line.strip():
                    events.append(delivery.checked(parsed(line)))
            except InputError as error:
                delivery.skip(f"line {number}", str(error))
        before += len(some)
        _patiently(delivery, events, say)


def _patiently(delivery: Delivery, events: list[Delivered], say: Callable[[str], None]) -> None:
    """A pipe gives nothing twice."""
    told = False
    while True:
        try:
            return delivery.keep(events)
        except StoreError as error:
            if not told:
                say(f"{error}; trying again until it is back")
            told = True
            time.sleep(_PAUSE)


def _lines(descriptor: int) -> Iterator[list[bytes]]:
    """Of a pipe or a file as they come, so many at once as are there."""
    rest = b""
    while chunk := os.read(descriptor, _CHUNK):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST:
            raise InputError(f"a line of more than {_LONGEST} bytes: give one JSON object in each line")
        yield whole
    yield [rest]


def parsed(line: bytes) -> Any:
    """A value of JSON. Raises InputError."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"no JSON ({error})") from None


def file(
    source: Path,
    run: Loaded,
    vocabulary: Vocabulary,
    delivery: Delivery,
    *,
    columns: Columns | None = None,
    unit: Unit | None = None,
    salt: Path | None = None,
    nulls: Nulls | None = None,
) -> dict[str, Any]:
    """Keeps the events of a file, and returns the report of how it was read. Raises InputError for all that
    `jaxdecay.update.update` refuses, before anything is kept, and StoreError."""
    config = run.histories.config
    frame, report = arrivals.read(source, config, columns, unit, nulls)
    frame, _ = arrivals.hashed_like(frame, {}, config["options"].get("anonymise") or {}, salt, run.path)
    tables = {"user": run.users.to_frame("user_id"), "item": run.items}
    frame = arrivals.like_the_log(frame, run.histories, tables, report)
    for part in frame.iter_slices(MOST):
        events = []
        for row, sent in zip(part[ROW], _objects(part, vocabulary), strict=True):
            try:
                events.append(delivery.checked(sent))
            except InputError as error:
                delivery.skip(f"row {row}", str(error))
        delivery.keep(events)
    return report


def _objects(frame: pl.DataFrame, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    columns = frame.columns
    texts = [name for name in ("user_id", "item_id", "event_id") if name in columns]
    numbers = [pl.col("label").cast(pl.Int8)] if "label" in columns else []
    given = frame.select(
        "timestamp",
        *(pl.col(name).cast(pl.String) for name in texts),
        *([pl.col("weight").cast(pl.Float64)] if "weight" in columns else []),
        *numbers,
    ).to_dicts()
    if names := list(vocabulary.behaviours):
        given = [
            one | {"behaviour": names[code]} for one, code in zip(given, frame["behaviour"], strict=True)
        ]
    readers = {name: one for name, one in vocabulary.context.readers().items() if name in columns}
    if not readers:
        return given
    coded = [name for name, one in readers.items() if isinstance(one, Categories) and one.width == 1]
    context = frame.select(list(readers)).with_columns(
        pl.selectors.float().fill_nan(None), pl.col(coded).cast(pl.String)
    )
    return [one | {"context": row} for one, row in zip(given, context.to_dicts(), strict=True)]
