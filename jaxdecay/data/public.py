"""Readers of public logs: from the files as published to frames with the columns of the event contract."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from jaxdecay.data.delimited import GENRES
from jaxdecay.errors import InputError

LINE = "\x1f"  # a byte that no file contains: each line becomes one field
RATINGS = ["user_id", "item_id", "rating", "timestamp"]
EXCERPT = 60  # characters

Files = Mapping[str, Path]
"""Where the published files of a data set are, by name."""


class PublicLog(NamedTuple):
    """A public log, in the order of its source."""

    events: pl.DataFrame
    """user_id, item_id (Int64 or String), timestamp (Int64 seconds UTC), rating (Float32) if there are any"""
    items: pl.DataFrame | None
    """item_id and what is known of the items"""
    users: pl.DataFrame | None
    """user_id and what is known of the users"""


def movielens_100k(files: Files) -> PublicLog:
    events = _ratings(_lines(files["u.data"], RATINGS, "\t"))
    return PublicLog(events, _if_there(files, "u.item", _u_item), _if_there(files, "u.user", _u_user))


def movielens_dat(files: Files) -> PublicLog:
    """The ``::`` files of MovieLens 1M and 10M."""
    events = _ratings(_lines(files["ratings.dat"], RATINGS, "::"))
    return PublicLog(
        events, _if_there(files, "movies.dat", _movies_dat), _if_there(files, "users.dat", _users_dat)
    )


def movielens_csv(files: Files) -> PublicLog:
    """The comma-separated files of MovieLens 20M and later."""
    events = _ratings(_csv(files["ratings.csv"], ["userId", "movieId", "rating", "timestamp"], RATINGS))
    return PublicLog(events, _if_there(files, "movies.csv", _movies_csv), None)


def amazon_2023(files: Files) -> PublicLog:
    """Ratings without their texts; the source keeps time in milliseconds."""
    (path,) = files.values()
    events = _csv(path, ["user_id", "parent_asin", "rating", "timestamp"], RATINGS)
    events = _typed(events, path, timestamp=pl.Int64, rating=pl.Float32)
    events = events.with_columns(pl.col("timestamp") // 1000)
    return PublicLog(events.select("user_id", "item_id", "timestamp", "rating"), None, None)


def gowalla(files: Files) -> PublicLog:
    """Check-ins, each user's newest first, as in the source; places are the items."""
    (path,) = files.values()
    rows = _lines(path, ["user_id", "moment", "latitude", "longitude", "item_id"], "\t")
    rows = _timed(
        _typed(rows, path, user_id=pl.Int64, item_id=pl.Int64, latitude=pl.Float64, longitude=pl.Float64),
        path,
    )
    items = rows.group_by("item_id", maintain_order=True).agg(pl.col("latitude", "longitude").first())
    return PublicLog(rows.select("user_id", "item_id", "timestamp"), items, None)


def lastfm_1k(files: Files) -> PublicLog:
    """Plays, each user's newest first, as in the source; an item is "artist - track": many have no id."""
    path = files["userid-timestamp-artid-artname-traid-traname.tsv"]
    rows = _timed(_lines(path, ["user_id", "moment", "artist_id", "artist", "track_id", "track"], "\t"), path)
    rows = rows.with_columns(pl.concat_str("artist", "track", separator=" - ").alias("item_id"))
    items = rows.group_by("item_id", maintain_order=True).agg(pl.col("artist", "track").first())
    return PublicLog(
        rows.select("user_id", "item_id", "timestamp"),
        items,
        _if_there(files, "userid-profile.tsv", _profiles),
    )


def _u_item(path: Path) -> pl.DataFrame:
    columns = ["item_id", "title", "release_date", "video_release_date", "url", *GENRES]
    items = _typed(_lines(path, columns, "|"), path, item_id=pl.Int64)
    flags = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    genres = pl.concat_str(flags, separator="|", ignore_nulls=True).alias("genres")
    return items.select("item_id", "title", "release_date", genres)


def _u_user(path: Path) -> pl.DataFrame:
    columns = ["user_id", "age", "gender", "occupation", "zip"]
    return _typed(_lines(path, columns, "|"), path, user_id=pl.Int64, age=pl.Int64)


def _movies_dat(path: Path) -> pl.DataFrame:
    return _typed(_lines(path, ["item_id", "title", "genres"], "::"), path, item_id=pl.Int64)


def _users_dat(path: Path) -> pl.DataFrame:
    """Age groups and occupations stay the published codes, as text: they are no quantities."""
    columns = ["user_id", "gender", "age_group", "occupation", "zip"]
    return _typed(_lines(path, columns, "::"), path, user_id=pl.Int64)


def _movies_csv(path: Path) -> pl.DataFrame:
    columns = ["item_id", "title", "genres"]
    return _typed(_csv(path, ["movieId", "title", "genres"], columns), path, item_id=pl.Int64)


def _profiles(path: Path) -> pl.DataFrame:
    columns = ["user_id", "gender", "age", "country", "registered"]
    profiles = _lines(path, columns, "\t").filter(pl.col("user_id") != "#id")
    known = profiles.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)) for name in columns)
    return _typed(known, path, age=pl.Int64)


def _if_there(files: Files, name: str, read: Callable[[Path], pl.DataFrame]) -> pl.DataFrame | None:
    return read(files[name]) if name in files else None


def _ratings(rows: pl.DataFrame) -> pl.DataFrame:
    events = _typed(
        rows, Path("ratings"), user_id=pl.Int64, item_id=pl.Int64, timestamp=pl.Int64, rating=pl.Float32
    )
    return events.select("user_id", "item_id", "timestamp", "rating")


def _timed(rows: pl.DataFrame, path: Path) -> pl.DataFrame:
    """With a column timestamp from the column moment, such as 2010-07-24T13:45:06Z."""
    moment = pl.col("moment").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", strict=False)
    rows = rows.with_columns(moment.dt.epoch("s").alias("timestamp"))
    _refuse_null(rows["timestamp"], path, "a time such as 2010-07-24T13:45:06Z")
    return rows


def _typed(rows: pl.DataFrame, path: Path, **types: Any) -> pl.DataFrame:
    """With these columns as numbers; a value that is none is refused, a missing one stays missing."""
    numbers = rows.with_columns(pl.col(name).cast(dtype, strict=False) for name, dtype in types.items())
    for name in types:
        _refuse_null(numbers[name].is_null() & rows[name].is_not_null(), path, f"a number as {name}")
    return numbers


def _refuse_null(column: pl.Series, path: Path, expected: str) -> None:
    bad = column if column.dtype == pl.Boolean else column.is_null()
    if bad.any():
        row = bad.arg_true()[0] + 1
        raise InputError(f"{path.name}: row {row}: expected {expected}; is this the file as published?")


def _lines(path: Path, columns: list[str], separator: str) -> pl.DataFrame:
    """Text columns of a file without a header line, whatever quotes its titles contain."""
    lines = _read(
        path, separator=LINE, has_header=False, quote_char=None, schema={"line": pl.String}
    ).drop_nulls()
    parts = pl.col("line").str.split_exact(separator, len(columns) - 1).struct.rename_fields(columns)
    frame = lines.select(parts.alias("parts")).unnest("parts")
    short = frame[columns[-1]].is_null()
    if short.any():
        row = short.arg_true()[0]
        raise InputError(
            f"{path.name}: row {row + 1} has fewer than {len(columns)} fields "
            f"({lines['line'][row][:EXCERPT]!r}); is this the file as published?"
        )
    return frame


def _csv(path: Path, columns: list[str], renamed: list[str]) -> pl.DataFrame:
    """These columns of a file with a header line, as text, under new names."""
    frame = _read(path, separator=",", infer_schema=False)
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path.name}: no column {missing[0]!r} among {frame.columns}; is this the file as published?"
        )
    return frame.select(pl.col(old).alias(new) for old, new in zip(columns, renamed, strict=True))


def _read(path: Path, **options: Any) -> pl.DataFrame:
    try:
        try:
            return pl.read_csv(path, **options)
        except pl.exceptions.ComputeError as error:
            if "utf" not in str(error).lower():
                raise
            return pl.read_csv(path, encoding="latin-1", **options)  # MovieLens wrote some titles so
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path.name}: cannot be read ({reason}); is this the file as published?") from error
