"""The event contract: one log, from wherever it comes, checked, named and sorted.

A log has a user, an item and a time in every row; optionally a behaviour, a weight, a label, and context
columns. `read_events` accepts it or refuses it with one line that says what to mend; whatever it assumes or
drops is in the report. Rows are counted from 1, the first event.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from jaxdecay.data.checks import (
    Nulls,
    ids,
    numbers,
    outcomes,
    refuse_clash,
    refuse_no_rows,
    refuse_unusable,
    require_column,
    without_nulls,
)
from jaxdecay.data.formats import Table, collect, column_names, open_table, with_types
from jaxdecay.data.refusals import row_words
from jaxdecay.data.times import Clock, Unit, read_times
from jaxdecay.errors import InputError
from jaxdecay.names import nearest

ROW = "__row__"
"""Column of row numbers in a table, from 1; no column of a log is called that."""


@dataclass(frozen=True)
class Columns:
    """Where a log keeps what. Names are matched exactly."""

    user: str = "user_id"
    """Column of user ids (integers or text)."""
    item: str = "item_id"
    """Column of item ids (integers or text)."""
    time: str = "timestamp"
    """Column of event times (integers of one unit, dates, or ISO 8601 text)."""
    behaviour: str = "behaviour"
    """Column of behaviours such as view, cart, buy; used if it is there."""
    weight: str | None = None
    """Column of event weights; by default "weight", or else "rating", if it is there."""
    label: str = "label"
    """Column of 0/1 outcomes (clicked or not, liked or not); used if it is there."""
    context: tuple[str, ...] | None = None
    """Further columns to keep, as event context; by default all of them."""
    names: tuple[str, ...] = ()
    """Names of all columns, in order, of a text file that has no header line."""


class Events(NamedTuple):
    """A checked log and the account of how it was read."""

    frame: pl.DataFrame
    """user_id and item_id (dtype as given: integer or String), timestamp (Int64 seconds), behaviour (String),
    weight (Float32) and label (Float32) if the log has them, then context columns as they were; sorted by
    time at full resolution, ties in file order."""
    report: dict[str, Any]
    """JSON-able: what was read, assumed, dropped and warned of."""


DEFAULT_COLUMNS = Columns()


def read_events(
    source: Any,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    unit: Unit | None = None,
    clock: Clock = "utc",
    nulls: Nulls = "refuse",
    row: str | None = None,
) -> Events:
    """Read a log from a path (Parquet, CSV, TSV, MovieLens ``::``), a Polars frame or lazy frame, pandas, or
    an interchange object.

    unit: of integer times; may be left out if it is unmistakable (see `jaxdecay.data.times`), and is seconds
    for clock "relative".
    clock: "utc", or "relative" if times count from each user's first event (any integers from 0 on).
    nulls: "refuse", or "drop" rows without a user, item, time, behaviour or weight (counted in the report).
    row: name of a further column with the number of each event's row in the source, from 1.

    Guarantees: ids as given; no row lost but those counted in the report; ties in time, at the resolution of
    the source, keep file order. Raises InputError for everything that the contract refuses.
    """
    table = open_table(source, columns.names)
    names = column_names(table)
    roles = _roles(table, names, columns)
    context = _context(table, names, columns, roles)
    frame = _collect(table, roles, context)
    read = frame.height
    if row is not None:
        frame = frame.with_columns(pl.int_range(1, pl.len() + 1).alias(row))
    places = {role: f"{table.name}: column {name!r}" for role, name in roles.items()}

    times = read_times(frame["timestamp"], where=places["timestamp"], unit=unit, clock=clock)
    checked = [ids(frame[role], places[role]) for role in ("user_id", "item_id")]
    for role, check in (("weight", numbers), ("label", outcomes)):
        checked += [check(frame[role], places[role])] if role in roles else []
    checked += [frame[role].cast(pl.String) for role in ("behaviour",) if role in roles]
    frame = frame.with_columns(times.ticks.alias("timestamp"), *checked)
    frame, dropped = without_nulls(frame, places, nulls, blank_lines=table.layout is not None, row=row)
    refuse_no_rows(table.name, frame, dropped=read)
    frame, disorder = _sorted(frame)
    frame = frame.with_columns(pl.col("timestamp") // times.per_second)

    source_name = table.name.replace("\\", "/").rpartition("/")[2]
    report = {
        "source": source_name,
        "format": table.format,
        "rows_read": read,
        "rows": frame.height,
        "dropped": dropped,
        "rows_out_of_order": disorder,
        "columns": roles,
        "context": context,
        "assumed": table.assumed + times.assumed,
        **times.facts,
    }
    of_times = f"{source_name}: column {roles['timestamp']!r}"
    report["warnings"] = [f"{of_times}: {words}" for words in times.facts["warnings"]]
    report["warnings"] += _hints(context, roles)
    return Events(frame, report)


def read_items(
    source: Any, *, column: str = "item_id", names: tuple[str, ...] = (), row: str | None = None
) -> pl.DataFrame:
    """Item columns, one row per item: ``item_id`` first (required, unique, dtype as given), then the others
    as they were.

    source: as for `read_events`; MovieLens' ``movies.dat`` and ``u.item`` are known by name. names: of a text
    file without a header. row: as for `read_events`.
    """
    return _read_entities(source, "item_id", column, names, row)


def read_users(
    source: Any, *, column: str = "user_id", names: tuple[str, ...] = (), row: str | None = None
) -> pl.DataFrame:
    """User columns, one row per user: ``user_id`` first (required, unique, dtype as given), then the others
    as they were."""
    return _read_entities(source, "user_id", column, names, row)


def _read_entities(
    source: Any, role: str, column: str, names: tuple[str, ...], row: str | None
) -> pl.DataFrame:
    table = open_table(source, names)
    found = column_names(table)
    require_column(table.name, found, column, f"rename the one that is meant to {role}")
    others = [name for name in found if name != column]
    refuse_clash(table.name, {role: column}, others)
    frame = _collect(table, {role: column}, others)
    if row is not None:
        frame = frame.with_columns(pl.int_range(1, pl.len() + 1).alias(row))
    where = f"{table.name}: column {column!r}"
    frame = frame.with_columns(ids(frame[role], where))
    frame, _ = without_nulls(frame, {role: where}, "refuse", blank_lines=table.layout is not None, row=row)
    twice = frame[role].is_duplicated()
    if twice.any():
        first = frame[role].filter(twice)[0]
        rows = row_words(frame[role] == first)
        raise InputError(f"{where} holds {first!r} more than once ({rows}); keep one row for each {role}.")
    return frame


def _collect(table: Table, roles: dict[str, str], others: list[str]) -> pl.DataFrame:
    """The columns that are wanted, under the names of their roles, typed, in file order; at least one row."""
    chosen = table.frame.select(
        *[pl.col(name).alias(role) for role, name in roles.items()], *[pl.col(name) for name in others]
    )
    frame = collect(table, with_types(table, chosen, ids=("user_id", "item_id")))
    refuse_no_rows(table.name, frame)
    for name in others:
        refuse_unusable(frame[name], f"{table.name}: column {name!r}")
    return frame


def _roles(table: Table, names: list[str], columns: Columns) -> dict[str, str]:
    """Role -> column, for the roles that this log has."""
    roles = {}
    headless = (
        "; if the file has no header line, name all columns with --columns.names" if table.layout else ""
    )
    for role, field in (("user_id", "user"), ("item_id", "item"), ("timestamp", "time")):
        column = getattr(columns, field)
        require_column(table.name, names, column, f"name the right one with --columns.{field}{headless}")
        roles[role] = column
    for role, column in (
        ("behaviour", columns.behaviour),
        ("weight", columns.weight),
        ("label", columns.label),
    ):
        if column is not None and column != getattr(DEFAULT_COLUMNS, role):
            require_column(table.name, names, column, f"name the right one with --columns.{role}")
        found = [name for name in ((column,) if column else ("weight", "rating")) if name in names]
        if found and found[0] not in roles.values():
            roles[role] = found[0]
    return roles


def _context(table: Table, names: list[str], columns: Columns, roles: dict[str, str]) -> list[str]:
    if columns.context is None:
        kept = [name for name in names if name not in roles.values()]
    else:
        kept = list(dict.fromkeys(columns.context))
        for name in kept:
            require_column(table.name, names, name, "correct --columns.context")
        kept = [name for name in kept if name not in roles.values()]
    refuse_clash(table.name, roles, kept)
    return kept


def _sorted(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Rows by time, ties in their order; and how many rows were earlier than the row before them."""
    disorder = int((frame["timestamp"].diff() < 0).sum())
    return (frame.sort("timestamp", maintain_order=True) if disorder else frame), disorder


def _hints(context: list[str], roles: dict[str, str]) -> list[str]:
    """Context columns whose name is nearly that of an optional role: perhaps misspelt ("behavior")."""
    near = {role: nearest(role, context) for role in ("behaviour", "weight", "label") if role not in roles}
    return [
        f"column {name!r} is kept as context; read it as {role} with --columns.{role} {name}"
        for role, name in near.items()
        if name is not None
    ]
