"""A run's own events and those of a store together, as histories to be trained on: what is erased is in
neither.

Nothing of the store is kept for good: beside the combined histories lie the run's own, with which the next
run begins anew, and over which the store is followed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay import ids
from jaxdecay.arrivals import INDEX, Tables
from jaxdecay.data.events import ROW
from jaxdecay.data.features import Encoder
from jaxdecay.data.histories import LIVE, Histories
from jaxdecay.errors import InputError
from jaxdecay.generations import BASE, before_store, own_fingerprint
from jaxdecay.serve.store import Delivered, Store, key_of
from jaxdecay.update import appended, encoder_of, with_new_ids

_OF_USERS, _OF_EVENTS = ("user_categorical", "user_numeric"), (
    "item", "time", "part", "behaviour", "weight", "label", "context_categorical", "context_numeric",
)  # fmt: skip


class Trained(NamedTuple):
    """What of a store a run has been trained on."""

    number: int = 0
    """Entries up to this one,"""
    cut: int = 0
    """and of these the events before this moment (seconds)."""


class Combined(NamedTuple):
    """A run's own events and a store's."""

    histories: Histories
    """Part 0 is what the run has been trained on."""
    base: Histories
    """The run's own alone, of the same users and items."""
    tables: Tables
    kept: int
    """The first users are those that the run's own tables have, in that order, without those who have no
    event left."""
    number: int
    """The store's latest entry."""
    report: dict[str, Any]
    """Events added and skipped, new users and items, warnings."""

    def write(self, directory: Path) -> None:
        """Writes them into an existing directory, as `jaxdecay.generations.before_store` finds them."""
        (directory / BASE).mkdir()
        for where, histories in ((directory / BASE, self.base), (directory, self.histories)):
            for kind, table in self.tables.items():
                table.write_parquet(where / f"{kind}s.parquet")
            histories.write(where)


def combined(run: Path, store: Store, trained: Trained = Trained()) -> Combined:  # noqa: B008 (frozen)
    """The histories that a run has, or had without a store, and the events of the store.

    Indices of items stay, new ones follow; so do those of users, but for users without any event left, who
    are left out. Both follow in the order of their first events. Events of a behaviour that the run does not
    know, or whose ids are not of its log's type, are skipped and counted. Of the columns of new items what
    cannot be read is missing.

    Raises InputError for a run that cannot be read or whose times have no common day, and StoreError.
    """
    directory = before_store(run)
    own = Histories.load(directory, verify=True)
    if own.clock == "relative":
        raise InputError(
            f"{run}: its times count from each user's first event, so that there is no newest day to judge"
            " by; train anew instead"
        )
    tables = {
        kind: ids.read_table(directory, kind, rows=rows)
        for kind, rows in (("user", own.users), ("item", own.items))
    }
    numbers, events, last = _entered(store)
    report: dict[str, Any] = {"read": {"source": "the store"}, "warnings": []}
    frame, there = _frame(events, own, tables)
    report |= {"added": frame.height, "skipped": len(events) - frame.height}
    own, tables = _of_those_left(own, tables, set(frame["user_id"]), set(store.forgotten()))
    kept = own.users
    frame = frame.with_columns(
        pl.Series(INDEX[kind], ids.find(frame[f"{kind}_id"], table[f"{kind}_id"]))
        for kind, table in tables.items()
    )
    order = np.argsort(frame["timestamp"].to_numpy(), kind="stable")
    frame = frame[order]
    number, time = np.array(numbers, np.int64)[there][order], frame["timestamp"].to_numpy()
    part = np.where((number <= trained.number) & (time < trained.cut), 0, LIVE).astype(np.int8)
    side = {"user": None, "item": _sent(events, tables["item"], encoder_of("item", own))}
    names = {"user": "the store", "item": "the items sent to the store"}
    frame, tables = with_new_ids(frame, tables, side, names, own, report, in_turn=True)
    whole = appended(own, frame, tables, report, part=part)
    return Combined(whole, _grown(own, whole), tables, kept, last, report)


def _entered(store: Store) -> tuple[list[int], list[Delivered], int]:
    """The events that are there, their numbers, and that of the latest entry."""
    numbers, events, last = [], [], 0
    while entries := store.after(last):
        for entry in entries:
            if entry.event is not None:
                numbers.append(entry.number)
                events.append(entry.event)
        last = entries[-1].number
    return numbers, events, last


def _frame(events: Sequence[Delivered], own: Histories, tables: Tables) -> tuple[pl.DataFrame, np.ndarray]:
    """The events that can be trained on, as `jaxdecay.update` has them, and their places."""
    columns: dict[str, pl.Series] = {}
    good = np.ones(len(events), bool)
    for kind, table in tables.items():
        known = table[f"{kind}_id"]
        text = pl.Series(known.name, [getattr(one, kind) for one in events], dtype=pl.String)
        columns[known.name] = text.cast(known.dtype, strict=False)
        good &= (columns[known.name].cast(pl.String) == text).fill_null(False).to_numpy()  # "007" is no 7
    behaviours = own.config["behaviours"]
    codes = {name: code for code, name in enumerate(behaviours)}
    code = np.array([codes.get(one.behaviour, -1) if behaviours else 0 for one in events], np.int8)
    good &= code >= 0
    there = np.flatnonzero(good)
    some = [events[place] for place in there.tolist()]
    told = [json.loads(one.context or "{}") for one in some]
    context = {name: [one.get(name) for one in told] for name in encoder_of("context", own).sources()}
    frame = pl.DataFrame(
        {
            **{name: column.filter(pl.Series(good)) for name, column in columns.items()},
            "timestamp": pl.Series([one.at for one in some], dtype=pl.Int64),
            "behaviour": code[there],
            "weight": pl.Series([one.weight for one in some], dtype=pl.Float32),
            "label": pl.Series([one.label for one in some], dtype=pl.Float32),
            ROW: pl.int_range(1, len(some) + 1, eager=True),
            **{name: pl.Series(values, strict=False) for name, values in context.items()},
        }
    )
    return frame, there


def _sent(events: Sequence[Delivered], table: pl.DataFrame, encoder: Encoder) -> pl.DataFrame | None:
    """The columns that were sent with items, the first time of each, in the types of the run's ``table``."""
    first: dict[str, dict[str, Any]] = {}
    for one in events:
        if one.content:
            first.setdefault(one.item, json.loads(one.content))
    if not first:
        return None
    _, name, *columns = table.columns
    side = pl.DataFrame(
        {
            name: pl.Series(list(first), dtype=pl.String).cast(table[name].dtype, strict=False),
            ROW: pl.int_range(1, len(first) + 1, eager=True),
            **{
                column: _typed([one.get(column) for one in first.values()], table[column])
                for column in columns
            },
        }
    )
    side = side.filter(pl.col(name).is_not_null())
    return (
        side
        if _readable(side, encoder)
        else side.filter(pl.Series([_readable(row, encoder) for row in side.iter_slices(1)]))
    )


def _typed(values: list[Any], like: pl.Series) -> pl.Series:
    """What was sent, in the type of a column; what is of another type is missing."""
    values = [one if isinstance(one, list) == like.dtype.is_nested() else None for one in values]
    try:
        return pl.Series(values, dtype=like.dtype, strict=False)
    except (TypeError, ValueError, pl.exceptions.PolarsError):
        return pl.concat([_one(value, like) for value in values])


def _one(value: Any, like: pl.Series) -> pl.Series:
    try:
        return pl.Series([value], dtype=like.dtype, strict=False)
    except (TypeError, ValueError, pl.exceptions.PolarsError):
        return pl.Series([None], dtype=like.dtype)


def _readable(side: pl.DataFrame, encoder: Encoder) -> bool:
    try:
        encoder.apply(side)
    except (InputError, pl.exceptions.PolarsError):
        return False
    return True


def _of_those_left(
    own: Histories, tables: Tables, entered: set[Any], forgotten: set[bytes]
) -> tuple[Histories, Tables]:
    """The run's own events without those of users who are forgotten, and the users who have events left,
    there or in the store; somebody forgotten who came again is a new user."""
    there = zip(tables["user"]["user_id"].to_list(), own.lengths().tolist(), strict=True)
    kept = np.array(
        [key_of(str(name)) not in forgotten and (events > 0 or name in entered) for name, events in there],
        bool,
    )
    if kept.all():
        return own, tables
    users = np.flatnonzero(kept)
    rows, starts = own.rows(users)
    arrays = own.arrays() | {"offsets": starts}
    arrays |= {name: arrays[name][rows] for name in _OF_EVENTS}
    arrays |= {name: arrays[name][users] for name in _OF_USERS}
    index = pl.int_range(len(users), dtype=pl.Int32, eager=True).alias("index")
    counts = own.config["counts"] | {
        "users": len(users),
        "known_users": int(kept[: own.known_users].sum()),
        "events": len(rows),
    }
    config = own.config | {"counts": counts, "own_fingerprint": own_fingerprint(own)}
    left = own.replace(config=config, **arrays)
    return left, tables | {"user": tables["user"].filter(pl.Series(kept)).with_columns(index)}


def _grown(own: Histories, whole: Histories) -> Histories:
    """The run's own events with users and items of ``whole``."""
    arrays = {name: getattr(own, name) for name in _OF_EVENTS if name not in ("item", "time")}
    tables = {name: getattr(whole, name) for name in (*_OF_USERS, "item_categorical", "item_numeric")}
    return Histories.from_arrays(
        own.user(), own.item, own.time, users=whole.users, items=whole.items,
        config=own.config | {"counts": {}, "own_fingerprint": own_fingerprint(own)}, **arrays, **tables,
    )  # fmt: skip
