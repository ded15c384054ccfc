"""New events for a trained run, without retraining: histories and popularity move on, parameters stay.

What was prepared stays in ``RUN/histories``, which training and evaluation read. An update writes a whole new
generation, ``RUN/histories.1``, ``RUN/histories.2``, ..., which recommending reads from then on, and removes
the generation before it. New users read with the average weights; new items have no embedding of their own,
but their columns and their popularity.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxdecay import ids
from jaxdecay.arrivals import (
    INDEX,
    ITEM,
    NEW,
    USER,
    Tables,
    hashed_like,
    like_the_log,
    not_there_yet,
    read,
    typed,
)
from jaxdecay.data.checks import Nulls
from jaxdecay.data.events import ROW, Columns, read_items, read_users
from jaxdecay.data.features import Encoder
from jaxdecay.data.formats import name_of
from jaxdecay.data.histories import LIVE, Histories
from jaxdecay.data.refusals import in_table
from jaxdecay.data.times import Unit
from jaxdecay.errors import InputError
from jaxdecay.generations import generation, newest, published
from jaxdecay.names import listed


def update(
    run: Path,
    source: Any,
    *,
    items: Any = None,
    users: Any = None,
    columns: Columns | None = None,
    unit: Unit | None = None,
    salt: Path | None = None,
    nulls: Nulls | None = None,
) -> dict[str, Any]:
    """Adds the events of ``source`` (a path or a frame) to what a run recommends from; returns a report of
    what was read, dropped and added.

    Args:
        items, users: tables (paths or frames) with the columns of new items and users; without them these
            columns are missing. Rows of known ids change nothing.
        columns, unit: how to read the events, where they are laid out differently from the run's own log.
        salt: the salt file, of a run with hashed ids.
        nulls: what becomes of rows that lack a value; by default as when the log was prepared.

    Guarantees: the same events delivered again change nothing (a row like one already there, in user, item,
    second and behaviour, is dropped and counted); whatever goes wrong, the histories before are whole;
    parameters, the prepared log and the figures of evaluation stay as they are.

    Raises InputError for what `read_events` refuses, for ids of another type, and for a behaviour the run
    does not know.
    """
    number = generation(run)
    histories = Histories.load(newest(run))
    tables = {
        kind: ids.read_table(newest(run), kind, rows=rows)
        for kind, rows in (("user", histories.users), ("item", histories.items))
    }
    frame, report = read(source, histories.config, columns, unit, nulls)
    given = {"item": items, "user": users}
    side = {kind: _side(kind, one) for kind, one in given.items()}
    frame, side = hashed_like(frame, side, histories.config["options"].get("anonymise") or {}, salt, run)
    frame = like_the_log(frame, histories, tables, report)
    frame = not_there_yet(frame, histories, tables, report)
    report |= {"added": frame.height, "new_users": 0, "new_items": 0}
    if frame.height:
        if frame[USER].max() == frame[ITEM].max() == NEW:
            report["warnings"].append(
                "not one of these users and items is known to the run: is it the right log?"
            )
        names = {kind: name_of(one, f"the table of {kind}s") for kind, one in given.items()}
        frame, tables = with_new_ids(frame, tables, side, names, histories, report)
        grown = appended(histories, frame, tables, report)
        with published(run, number + 1) as directory:
            for kind, table in tables.items():
                table.write_parquet(directory / f"{kind}s.parquet")
            grown.write(directory)
    return report


def _side(kind: str, given: Any) -> pl.DataFrame | None:
    return None if given is None else (read_items if kind == "item" else read_users)(given, row=ROW)


def with_new_ids(
    frame: pl.DataFrame,
    tables: Tables,
    side: dict[str, pl.DataFrame | None],
    names: dict[str, str],
    histories: Histories,
    report: dict[str, Any],
    *,
    in_turn: bool = False,
) -> tuple[pl.DataFrame, Tables]:
    """The events with an index for every user and item, and the tables with rows for the new ones, which
    follow in order of their ids or, ``in_turn``, of their first rows. ``names``: of the side tables, in
    messages."""
    grown = {}
    for kind, table in tables.items():
        name = f"{kind}_id"
        fresh = frame[name].filter(frame[INDEX[kind]] == NEW).unique(maintain_order=True)
        fresh = fresh if in_turn else fresh.sort()
        rows = pl.DataFrame(
            {
                "index": pl.int_range(len(table), len(table) + len(fresh), dtype=pl.Int32, eager=True),
                name: fresh,
            }
        )
        own = side[kind]
        if own is not None:
            own = _of_new_ids(own, rows, table, names[kind], encoder_of(kind, histories), report)
        grown[kind] = pl.concat([table, _columns_of(rows, table, own)])
        frame = frame.with_columns(pl.Series(INDEX[kind], ids.find(frame[name], grown[kind][name])))
        report[f"new_{kind}s"] = len(fresh)
    return frame, grown


def _of_new_ids(
    side: pl.DataFrame,
    new: pl.DataFrame,
    table: pl.DataFrame,
    where: str,
    encoder: Encoder,
    report: dict[str, Any],
) -> pl.DataFrame:
    """The rows of the side table (``where``, in messages) that are of ``new`` ids, with as many columns of
    the run's ``table`` as it has, in their types."""
    _, name, *columns = table.columns
    kind = name.removesuffix("_id")
    taken = [column for column in columns if column in side.columns]
    try:
        side = side.with_columns(typed(side[name], new[name], report, where=where, row=side[ROW]))
        side = side.filter(pl.col(name).is_in(new[name].implode()))
        with in_table(where, side[ROW]):
            encoder.apply(_with_all(encoder, side))  # while rows have their numbers and types
        side = side.select(name, *taken).cast({column: table[column].dtype for column in taken})
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{where}: its columns are not of the types in the log of the run ({reason}); give the same types"
        ) from error
    report[f"new_{kind}s_without_a_row"] = len(new) - len(side)
    absent = [column for column in columns if column not in taken]
    if absent and len(new):
        words = f"{len(new)} new {kind}{'s' if len(new) > 1 else ''}"
        report["warnings"].append(f"{where}: lacks {listed(absent)}: missing for {words}")
    return side


def _columns_of(rows: pl.DataFrame, table: pl.DataFrame, side: pl.DataFrame | None) -> pl.DataFrame:
    """Rows of new ids with the columns of the table, from the side table where it has them, else null."""
    _, name, *columns = table.columns
    if side is not None:
        rows = rows.join(side, on=name, how="left", maintain_order="left")
    missing = [
        pl.lit(None, table[column].dtype).alias(column) for column in columns if column not in rows.columns
    ]
    return rows.with_columns(missing).select(table.columns)


def appended(
    histories: Histories,
    frame: pl.DataFrame,
    tables: Tables,
    report: dict[str, Any],
    *,
    part: np.ndarray | None = None,
) -> Histories:
    """The histories with the new events in place: sorted by time within a user, after older events of the
    same second. ``part``: of each of them, by default that they came after training."""
    arrays = histories.arrays()
    del arrays["offsets"]
    fresh: dict[str, np.ndarray] = {
        "item": frame[ITEM].to_numpy(),
        "time": frame["timestamp"].to_numpy(),
        "part": np.full(frame.height, LIVE, np.int8) if part is None else part,
        "behaviour": frame["behaviour"].to_numpy(),
        "weight": frame["weight"].to_numpy()
        if "weight" in frame.columns
        else np.ones(frame.height, np.float32),
        "label": frame["label"].fill_null(np.nan).to_numpy()
        if "label" in frame.columns
        else np.full(frame.height, np.nan, np.float32),
    }
    with in_table(report["read"]["source"], frame[ROW]):
        fresh |= _encoded("context", frame, histories, report)
    for kind, old in (("user", histories.users), ("item", histories.items)):
        fresh |= _encoded(kind, tables[kind].slice(old), histories, report)
    joined = {
        name: np.concatenate([array, fresh[name].astype(array.dtype, copy=False)])
        for name, array in arrays.items()
    }
    user = np.concatenate([histories.user(), frame[USER].to_numpy().astype(np.int32)])
    counts = {name: histories.config["counts"][name] for name in ("known_users", "known_items")}
    step = {
        "source": report["read"]["source"],
        **{name: report[name] for name in ("added", "new_users", "new_items")},
    }
    config = {**histories.config, "counts": counts, "updates": [*histories.config.get("updates", []), step]}
    return Histories.from_arrays(
        user,
        joined.pop("item"),
        joined.pop("time"),
        users=len(tables["user"]),
        items=len(tables["item"]),
        config=config,
        **joined,
    )


def _encoded(
    prefix: str, rows: pl.DataFrame, histories: Histories, report: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Columns of new rows, encoded as in training; what is not there is missing."""
    encoder = encoder_of(prefix, histories)
    absent = [name for name in encoder.sources() if name not in rows.columns]
    if absent:
        report["warnings"].append(f"the new events lack {listed(absent)}: missing as context")
        rows = _with_all(encoder, rows)
    if rows.is_empty() or not rows.width:
        empty = (getattr(histories, f"{prefix}_{name}")[:0] for name in ("categorical", "numeric"))
        return dict(zip((f"{prefix}_categorical", f"{prefix}_numeric"), empty, strict=True))
    return dict(zip((f"{prefix}_categorical", f"{prefix}_numeric"), encoder.apply(rows), strict=True))


def _with_all(encoder: Encoder, rows: pl.DataFrame) -> pl.DataFrame:
    """With the columns that are read but not there: missing."""
    absent = (name for name in encoder.sources() if name not in rows.columns)
    return rows.with_columns(pl.lit(None).alias(name) for name in absent)


def encoder_of(prefix: str, histories: Histories) -> Encoder:
    described = histories.config["features"].get(prefix) or {}
    return Encoder.from_json(described["encoder"]) if "encoder" in described else Encoder()
