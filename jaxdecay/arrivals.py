"""New events made like those of a run's log: read, cleaned, hashed and typed the same way, and without those
it has."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxdecay import ids
from jaxdecay.data.anonymise import anonymise, read_or_make_salt
from jaxdecay.data.checks import Nulls
from jaxdecay.data.clean import CleanOptions, clean
from jaxdecay.data.events import ROW, Columns, read_events
from jaxdecay.data.formats import PARQUET_SUFFIXES
from jaxdecay.data.histories import Histories
from jaxdecay.data.refusals import numbered_rows
from jaxdecay.data.times import Unit
from jaxdecay.errors import InputError
from jaxdecay.names import listed

USER, ITEM = "__user__", "__item__"
"""Columns of indices, -1 for what is new; no column of a log is called that."""
INDEX = {"user": USER, "item": ITEM}
NEW = -1
_COPY, _THERE = "__copy__", "__there__"
Tables = dict[str, pl.DataFrame]
"""``user`` and ``item``: index, id, columns as given."""


def read(
    source: Any,
    config: dict[str, Any],
    columns: Columns | None,
    unit: Unit | None,
    nulls: Nulls | None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The new events, read and cleaned as the run's own log was, and the report; ``config`` is that of the
    histories."""
    options = config["options"]
    if columns is None:
        fields: dict[str, Any] = dict(options.get("columns") or {})
        fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        columns = Columns(**fields)
        if not isinstance(source, (str, Path)) or Path(source).suffix.lower() in PARQUET_SUFFIXES:
            columns = replace(columns, names=())  # only text files lack a header
    own = (config["report"].get("read") or {}).get("unit")
    cleaning = CleanOptions(**(options.get("clean") or {}))
    frame, read = read_events(
        source,
        columns=columns,
        unit=unit or (own if own in ("s", "ms", "us") else None),
        clock=config["clock"],
        nulls=cleaning.nulls if nulls is None else nulls,
        row=ROW,
    )
    frame, cleaned = clean(frame, cleaning)
    warnings = [text for text in read["warnings"] if unit or "stated but not needed" not in text]
    return frame, {"read": read, "clean": cleaned, "warnings": warnings}


def hashed_like(
    frame: pl.DataFrame,
    side: dict[str, pl.DataFrame | None],
    hidden: dict[str, Any],
    salt: Path | None,
    run: Path,
) -> tuple[pl.DataFrame, dict[str, pl.DataFrame | None]]:
    """Ids hashed like those of the run."""
    users, items = bool(hidden.get("users")), bool(hidden.get("items"))
    if not users and not items:
        return frame, side
    if salt is None or not Path(salt).expanduser().is_file():
        given = "none was given" if salt is None else f"there is none at {salt}"
        raise InputError(
            f"{run}: its ids are salted hashes, so the salt file of its log is needed, but {given}; "
            "name it with --salt"
        )
    secret = read_or_make_salt(Path(salt), outside=(run,))

    def hashed(one: pl.DataFrame) -> pl.DataFrame:
        return anonymise(one, secret, users=users, items=items)

    return hashed(frame), {kind: None if one is None else hashed(one) for kind, one in side.items()}


def like_the_log(
    frame: pl.DataFrame, histories: Histories, tables: Tables, report: dict[str, Any]
) -> pl.DataFrame:
    """The events with indices of users and items (-1: new), and behaviour (its code) and weight as in the
    histories."""
    for kind, table in tables.items():
        known = table[f"{kind}_id"]
        frame = frame.with_columns(
            typed(frame[known.name], known, report, where=report["read"]["source"], row=frame[ROW])
        )
        frame = frame.with_columns(pl.Series(INDEX[kind], ids.find(frame[known.name], known)))
    behaviours = histories.config["behaviours"]
    had = ((histories.config["report"].get("read") or {}).get("columns")) or {}
    for name, wanted in (("behaviour", bool(behaviours)), ("weight", "weight" in had)):
        if wanted and name not in frame.columns:
            raise InputError(
                f"{report['read']['source']}: there is no column for the {name}, which the run's log has "
                f"({had.get(name, name)!r}); add it"
            )
        if not wanted and name in frame.columns:
            report["warnings"].append(f"the {name} of the new events is left out: the run's log has none")
            frame = frame.drop(name)
    if behaviours:
        codes = {name: code for code, name in enumerate(behaviours)}
        code = frame["behaviour"].replace_strict(codes, default=None, return_dtype=pl.Int8)
        if code.null_count():
            fresh = listed(frame["behaviour"].filter(code.is_null()).unique().sort())
            raise InputError(
                f"{report['read']['source']}: behaviour {fresh} is unknown to the run, which has "
                f"{listed(behaviours)} "
                f"({numbered_rows(frame[ROW].filter(code.is_null()).sort())}); "
                "leave these rows out, or train again with them"
            )
        return frame.with_columns(code.alias("behaviour"))
    return frame.with_columns(behaviour=pl.lit(0, pl.Int8))


def typed(
    new: pl.Series, known: pl.Series, report: dict[str, Any], *, where: str, row: pl.Series | None = None
) -> pl.Series:
    """Ids in the type of the known ones. ``where`` opens messages; ``row``: numbers of the rows in the
    source, where they are not in its order."""
    if new.dtype == known.dtype:
        return new
    if known.dtype == pl.String:
        report["warnings"].append(f"{new.name}: integers are read as text, like the ids of the run")
        return new.cast(pl.String)
    cast = new.cast(known.dtype, strict=False)
    if cast.null_count() or not new.dtype.is_integer():
        values = listed((repr(one) for one in new.filter(cast.is_null()).unique(maintain_order=True)), 5)
        numbers = pl.int_range(1, len(new) + 1, eager=True) if row is None else row
        rows = f": {values} in {numbered_rows(numbers.filter(cast.is_null()).sort())}" if values else ""
        raise InputError(
            f"{where}: column {new.name!r} holds {new.dtype}, but the ids of the run are "
            f"{known.dtype}{rows}; give the same type"
        )
    return cast


def not_there_yet(
    frame: pl.DataFrame, histories: Histories, tables: Tables, report: dict[str, Any]
) -> pl.DataFrame:
    """The events that the histories do not hold: of n like rows, m of which are there, n - m (at least 0)
    remain, the last ones."""
    key = [USER, ITEM, "timestamp", "behaviour"]
    old = frame[USER].filter((frame[USER] != NEW) & (frame[ITEM] != NEW)).unique().sort().to_numpy()
    rows, starts = histories.rows(old)
    there = pl.DataFrame(
        {
            USER: np.repeat(old, np.diff(starts)).astype(np.int64),
            ITEM: np.asarray(histories.item)[rows].astype(np.int64),
            "timestamp": np.asarray(histories.time)[rows],
            "behaviour": np.asarray(histories.behaviour)[rows],
        }
    )
    counted = there.group_by(key).agg(pl.len().alias(_THERE))
    copy = pl.int_range(pl.len()).over(*key, *(f"{kind}_id" for kind in tables))
    marked = frame.with_columns(copy.alias(_COPY)).join(counted, on=key, how="left", maintain_order="left")
    fresh = marked.filter(pl.col(_COPY) >= pl.col(_THERE).fill_null(0)).drop(_COPY, _THERE)
    report["already_there"] = frame.height - fresh.height
    return fresh
