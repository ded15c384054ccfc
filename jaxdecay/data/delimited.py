"""Text logs: CSV, TSV, MovieLens ``::`` files; with a header line, or without one.

Every column is first read as text, then typed by what *all* of its values are (`with_types`), so that ids
such as ``007`` keep their zeros and no value is guessed from the first lines of the file.

A file has no header line when its columns are named by the caller (``names``), when it is a MovieLens file
known by its name (`MOVIELENS`), or when it has four numeric columns separated by tabs or ``::`` of which the
third looks like a rating and the fourth like seconds since 1970. Anything else without a header is refused
with the way to name its columns.
"""

import csv
import io
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import polars as pl

from jaxdecay.errors import InputError
from jaxdecay.names import listed

RATINGS = ("user_id", "item_id", "rating", "timestamp")
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *(
        "Fantasy",
        "Film-Noir",
        "Horror",
        "Musical",
        "Mystery",
        "Romance",
        "Sci-Fi",
        "Thriller",
        "War",
        "Western",
    ),
)
MOVIELENS = {
    "u.data": RATINGS,
    "ratings.dat": RATINGS,
    "u.item": ("item_id", "title", "release_date", "video_release_date", "url", *GENRES),
    "u.user": ("user_id", "age", "gender", "occupation", "zip"),
    "movies.dat": ("item_id", "title", "genres"),
    "users.dat": ("user_id", "gender", "age", "occupation", "zip"),
}
LATIN_1 = ("u.item", "movies.dat")  # older MovieLens releases wrote their titles so
NUMBER = re.compile(r"-?\d+(\.\d*)?")
INTEGER = r"^(?:0|-?[1-9]\d{0,18})$"
FLOAT = r"^(?:-?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[nN]a[nN])$"
HEAD_BYTES = 65_536
NO_SEPARATOR = "\x1f"  # a byte that no log contains: each line becomes one field


class Layout(NamedTuple):
    separator: str
    names: tuple[str, ...] | None
    """Column names of a file without a header line; None: the first line holds them."""
    assumed: str | None
    """What was taken for granted, for the report."""


def find_layout(path: Path, names: Collection[str] = ()) -> Layout:
    """Separator and header of the text file ``path``; ``names`` given means that it has no header line.

    Raises InputError when the file is empty, has no known separator, or has no header line and nobody named
    its columns.
    """
    lines = _head(path)
    separator = _separator(path, lines[0])
    rows = [_fields(line, separator) for line in lines]
    first = rows[0]
    if names:
        if set(names) & set(first):
            raise InputError(f"{path}: has a header line ({listed(first)}); leave out --columns.names.")
        if len(names) != len(first):
            raise InputError(
                f"{path}: {len(names)} column names were given ({listed(names)}), but row 1 has {len(first)} "
                f"fields: {listed(first)}; name every column, in order."
            )
        _check_header(path, list(names))
        return Layout(separator, tuple(names), None)
    known = MOVIELENS.get(path.name)
    if known and len(known) == len(first) and NUMBER.fullmatch(first[0]):
        return Layout(separator, known, f"no header line: MovieLens {path.name} has {listed(known, 5)}")
    if not all(NUMBER.fullmatch(field) for field in first):
        _check_header(path, first)
        return Layout(separator, None, None)
    rating_rows = sum(_is_rating_row(row) for row in rows)
    if separator in ("\t", "::") and _is_rating_row(first) and 2 * rating_rows >= len(rows):
        return Layout(separator, RATINGS, f"no header line: four numeric columns taken as {listed(RATINGS)}")
    raise InputError(
        f"{path}: has no header line (row 1 is {listed(first)}); add one such as "
        f"'{separator.join(('user_id', 'item_id', 'timestamp'))}', or name the columns in order with "
        "--columns.names."
    )


def scan(path: Path, layout: Layout) -> pl.LazyFrame:
    """Every column of ``path`` as text, rows in file order. Blank lines are rows of nulls."""
    source = io.BytesIO(_decoded(path, path.read_bytes()).encode()) if path.name in LATIN_1 else path
    if layout.separator == "::":
        lines = pl.scan_csv(
            source,
            separator=NO_SEPARATOR,
            has_header=False,
            quote_char=None,
            infer_schema=False,
            new_columns=["line"],
        )
        names = layout.names or _fields(_head(path)[0], "::")
        return _split(lines.slice(0 if layout.names else 1), list(names))
    quote = None if path.name in MOVIELENS else '"'
    frame = pl.scan_csv(
        source,
        separator=layout.separator,
        has_header=layout.names is None,
        quote_char=quote,
        infer_schema=False,
    )
    if layout.names is None:
        return frame.rename({name: name.strip() for name in frame.collect_schema().names()})
    return frame.rename(dict(zip(frame.collect_schema().names(), layout.names, strict=True)))


def with_types(frame: pl.LazyFrame, ids: Collection[str] = (), texts: Collection[str] = ()) -> pl.LazyFrame:
    """Give each text column the type that all of its values have: Int64, Float64 or String.

    Integers are those written without leading zeros or ``+``, of 64 bits. Columns named in ``ids`` never
    become floats, those in ``texts`` stay text.
    """
    names = [name for name in frame.collect_schema().names() if name not in texts]
    counts = frame.select(
        [pl.col(name).count().alias(f"{name} values") for name in names]
        + [_is_integer(name).alias(f"{name} integer") for name in names]
        + [pl.col(name).str.contains(FLOAT).all().alias(f"{name} float") for name in names]
    ).collect()
    casts = []
    for name in names:
        if counts[f"{name} values"].item() == 0:
            continue
        if counts[f"{name} integer"].item():
            casts.append(pl.col(name).cast(pl.Int64))
        elif counts[f"{name} float"].item() and name not in ids:
            casts.append(pl.col(name).cast(pl.Float64))
    return frame.with_columns(casts)


def _is_integer(name: str) -> pl.Expr:
    text = pl.col(name)
    fits = text.cast(pl.Int64, strict=False).is_not_null() | text.is_null()
    return (text.str.contains(INTEGER) & fits).all()


def ragged_row(path: Path, layout: Layout) -> str | None:
    """Words on the first row that has more fields than the first line, or None."""
    if layout.separator == "::":
        return None
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file, delimiter=layout.separator)
        width = len(next(rows))
        for number, row in enumerate(rows, start=1 if layout.names is None else 2):
            if len(row) > width:
                return f"row {number} has {len(row)} fields where the first line has {width}"
    return None


def _split(lines: pl.LazyFrame, names: list[str]) -> pl.LazyFrame:
    """Lines into fields. A line with too many fields keeps the surplus in the last one, where its type is
    refused."""
    parts = pl.col("line").str.splitn("::", len(names)).struct.rename_fields(names)
    return lines.select(parts.alias("parts")).unnest("parts")


def _head(path: Path) -> list[str]:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    lines = _decoded(path, head).removeprefix("\ufeff").splitlines()
    if len(head) == HEAD_BYTES:
        lines = lines[:-1] or lines  # the last one may be cut
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise InputError(f"{path}: is empty; give a log with at least one event.")
    return lines


def _decoded(path: Path, text: bytes) -> str:
    """UTF-8, or Latin-1 in those MovieLens files that are not (wrong bytes elsewhere are refused later)."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1") if path.name in LATIN_1 else text.decode(errors="replace")


def _separator(path: Path, line: str) -> str:
    found = [separator for separator in ("::", "\t", ",", ";", "|") if separator in line]
    preferred = {".csv": [",", ";", "\t", "::"], ".tsv": ["\t"], ".tab": ["\t"]}
    for separator in [*preferred.get(Path(path.name.removesuffix(".gz")).suffix.lower(), []), *found]:
        if separator in found:
            return separator
    raise InputError(
        f"{path}: the first line {line[:40]!r} has no known separator (comma, tab, '::', ';', '|'); "
        "give a Parquet, CSV, TSV or '::' file with several columns."
    )


def _fields(line: str, separator: str) -> list[str]:
    if len(separator) > 1:
        return line.split(separator)
    return [field.strip() for field in next(csv.reader([line], delimiter=separator))]


def _check_header(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: column {twice[0]!r} stands twice; rename one of them.")


def _is_rating_row(row: list[str]) -> bool:
    """user, item, a rating of 0 to 10, seconds between 1980 and 2100."""
    if len(row) != 4 or not all(NUMBER.fullmatch(field) for field in row):
        return False
    return 0 <= float(row[2]) <= 10 and row[3].isdigit() and 315_532_800 <= int(row[3]) < 4_102_444_800
