"""Whatever holds a table (a file, a Polars or pandas frame), opened as one lazy frame with the name it has in
messages."""

import os
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay.data import delimited
from jaxdecay.errors import InputError
from jaxdecay.names import nearest

READING_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
PARQUET = b"PAR1"
PARQUET_SUFFIXES = (".parquet", ".pq", ".parq")
REFUSED_SUFFIXES = {
    ".json": "JSON",
    ".jsonl": "JSON lines",
    ".xlsx": "a spreadsheet",
    ".zip": "an archive",
    ".pkl": "a pickle",
    ".feather": "Feather",
    ".arrow": "Arrow IPC",
}


class Table(NamedTuple):
    """An opened source: nothing but names and a few lines has been read."""

    name: str
    format: str
    frame: pl.LazyFrame
    layout: delimited.Layout | None
    """Of a text file, whose columns are all still text; None: columns have their own types."""

    @property
    def assumed(self) -> list[str]:
        return [self.layout.assumed] if self.layout and self.layout.assumed else []


def name_of(source: Any, otherwise: str) -> str:
    """What messages call a table: its path, or ``otherwise`` when it is none."""
    return str(source) if isinstance(source, (str, os.PathLike)) else otherwise


def open_table(source: Any, names: Collection[str] = ()) -> Table:
    """Open a path (Parquet, CSV, TSV, ``::``), a Polars frame or lazy frame, a pandas frame, or anything with
    the Arrow (``__arrow_c_stream__``) or dataframe (``__dataframe__``) interchange protocol.

    ``names``: the columns of a text file without a header line. Raises InputError when there is no such file,
    when it is empty, truncated or of another kind.
    """
    if isinstance(source, (str, os.PathLike)):
        return _open_path(Path(source), names)
    if isinstance(source, pl.LazyFrame):
        table = Table("the lazy frame", "polars", source, None)
    elif isinstance(source, pl.DataFrame):
        table = Table("the frame", "polars", source.lazy(), None)
    else:
        kind = "pandas" if _is_pandas(source) else "interchange"
        table = Table("the frame", kind, _from_other(source).lazy(), None)
    _refuse_names(table, names)
    return table


def collect(table: Table, frame: pl.LazyFrame) -> pl.DataFrame:
    """Rows of ``frame`` (made from ``table.frame``) in file order; InputError when they cannot be read."""
    try:
        numbered = frame.with_row_index("__row__")
        rows = numbered.collect()
    except READING_ERRORS as error:
        raise _unreadable(table, error) from error
    if not rows["__row__"].is_sorted():  # a streaming engine owes no order
        rows = rows.sort("__row__", maintain_order=True)
    return rows.drop("__row__")


def column_names(table: Table) -> list[str]:
    try:
        return table.frame.collect_schema().names()
    except READING_ERRORS as error:
        raise _unreadable(table, error) from error


def with_types(
    table: Table, frame: pl.LazyFrame, ids: Collection[str], texts: Collection[str] = ()
) -> pl.LazyFrame:
    """Types for the columns of a text file (see `delimited.with_types`); other tables have them already."""
    if table.layout is None:
        return frame
    try:
        return delimited.with_types(frame, ids, texts)
    except READING_ERRORS as error:
        raise _unreadable(table, error) from error


def _open_path(path: Path, names: Collection[str]) -> Table:
    suffix = path.suffix.lower()
    _check_file(path)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == PARQUET or suffix in PARQUET_SUFFIXES:
        _check_parquet(path, magic)
        table = Table(str(path), "parquet", pl.scan_parquet(path, glob=False), None)
        _refuse_names(table, names)
        return table
    if suffix in REFUSED_SUFFIXES:
        raise InputError(f"{path}: is {REFUSED_SUFFIXES[suffix]}; convert it to Parquet, CSV or TSV.")
    if b"\x00" in magic or magic.startswith((b"\x1f\x8b", b"PK", b"(\xb5/\xfd")):
        raise InputError(f"{path}: is not text (compressed or binary); unpack it to Parquet, CSV or TSV.")
    layout = delimited.find_layout(path, names)
    kinds = {",": "csv", "\t": "tsv", "::": "movielens"}
    frame = delimited.scan(path, layout)
    return Table(str(path), kinds.get(layout.separator, f"csv with {layout.separator!r}"), frame, layout)


def _refuse_names(table: Table, names: Collection[str]) -> None:
    if names:
        raise InputError(f"{table.name}: has column names of its own; leave out --columns.names.")


def _check_file(path: Path) -> None:
    if path.is_dir():
        inside = next(
            (path / f"events{suffix}" for suffix in PARQUET_SUFFIXES if (path / f"events{suffix}").exists()),
            None,
        )
        raise InputError(
            f"{path}: is a directory; give the file in it{f', for example {inside}' if inside else ''}."
        )
    if not path.exists():
        others = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
        near = nearest(path.name, others)
        raise InputError(
            f"{path}: there is no such file{f'; the nearest name is {near}' if near else ''}; check the path."
        )
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read; change its permissions.")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); give a log with at least one event.")


def _check_parquet(path: Path, magic: bytes) -> None:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4))
        tail = file.read()
    if magic != PARQUET:
        raise InputError(
            f"{path}: is not a Parquet file in spite of its name; write it again or correct the name."
        )
    if tail != PARQUET:
        raise InputError(
            f"{path}: this Parquet file is cut short after {path.stat().st_size} bytes (its end is missing); "
            "copy or write it again."
        )


def _unreadable(table: Table, error: BaseException) -> InputError:
    """One line from what the reader said."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
    if table.format == "parquet":
        detail = "" if "{" in reason else f" ({reason})"
        return InputError(f"{table.name}: this Parquet file is damaged{detail}; copy or write it again.")
    if table.layout is None:
        return InputError(f"{table.name}: cannot be computed ({reason}).")
    if "utf-8" in reason.lower() or "utf8" in reason.lower():
        return InputError(
            f"{table.name}: is not UTF-8 text; convert it, for example with iconv -f latin1 -t utf8."
        )
    ragged = delimited.ragged_row(Path(table.name), table.layout)
    if ragged:
        return InputError(
            f"{table.name}: {ragged}; quote fields that contain the separator, or correct that row."
        )
    return InputError(f"{table.name}: is damaged or cut short ({reason}); correct it or write it again.")


def _is_pandas(source: Any) -> bool:
    return type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns")


def _from_other(source: Any) -> pl.DataFrame:
    """A frame from pandas or an interchange object; pandas' index is left out, its missing values become
    nulls."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # __dataframe__ is old, and asked for by name
            if _is_pandas(source):
                return _from_pandas(source)
            if hasattr(source, "__arrow_c_stream__"):
                return pl.DataFrame(source)
            if hasattr(source, "__dataframe__"):
                return _from_protocol(source)
    except (pl.exceptions.PolarsError, TypeError, ValueError, RuntimeError, ImportError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise InputError(
            f"the {type(source).__name__} cannot be read as a frame ({reason}); convert it to Polars first."
        ) from error
    raise InputError(
        f"{type(source).__name__} is no table; give a path, a Polars frame or lazy frame, or a frame with "
        "__dataframe__ (pandas)."
    )


def _from_protocol(source: Any) -> pl.DataFrame:
    """Through ``__dataframe__``, which Polars 2 no longer reads by itself: pyarrow does."""
    try:
        return pl.from_dataframe(source)
    except TypeError:
        from pyarrow.interchange import from_dataframe

        return pl.DataFrame(from_dataframe(source))


def _from_pandas(source: Any) -> pl.DataFrame:
    """Column by column through NumPy, so that pandas' optional pyarrow is not needed."""
    columns = {}
    for position, name in enumerate(source.columns):
        if str(name) in columns:
            raise InputError(f"the frame: column {str(name)!r} stands twice; rename one of them.")
        columns[str(name)] = _pandas_column(str(name), source.iloc[:, position])
    return pl.DataFrame(columns)


def _pandas_column(name: str, column: Any) -> pl.Series:
    zone = getattr(column.dtype, "tz", None)
    if zone is not None:
        values = pl.Series(name, column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy())
        return values.dt.replace_time_zone("UTC")
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufbmM":
        return pl.Series(name, column.to_numpy())
    missing = column.isna().to_numpy()
    values = [None if absent else value for value, absent in zip(column.tolist(), missing, strict=True)]
    return pl.Series(name, values)
