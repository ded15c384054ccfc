"""Cleaning with an account: exact duplicates, missing values, bots; and the k-core of a training part.

`clean` may run over the whole log: nothing in it is fitted. `k_core` counts, and therefore runs over the
training part alone.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from jaxdecay.data.checks import Nulls, without_nulls
from jaxdecay.errors import InputError

DAY = 86_400
IDENTITY = ("user_id", "item_id", "timestamp", "behaviour")
REQUIRED = (*IDENTITY, "weight")


@dataclass(frozen=True)
class CleanOptions:
    """What is taken out of a log before it is split."""

    duplicates: Literal["drop", "keep"] = "drop"
    """Rows with the same user, item, second and behaviour as an earlier row."""
    nulls: Nulls = "refuse"
    """Rows without a user, item, time, behaviour or weight."""
    bot_events_per_day: int | None = None
    """Drop every user who ever has more events than this in one day (UTC); by default nobody."""
    user_core: int = 1
    """Keep users with at least this many events in the training part."""
    item_core: int = 1
    """Keep items with at least this many events in the training part."""

    def __post_init__(self) -> None:
        for name in ("user_core", "item_core", "bot_events_per_day"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value} is less than 1; give a whole number from 1 on.")


DEFAULT_OPTIONS = CleanOptions()


def clean(
    frame: pl.DataFrame, options: CleanOptions = DEFAULT_OPTIONS
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Rows of ``frame`` (as `read_events` gives it) that remain, in their order, and a JSON-able report of
    those that do not.

    Steps: rows with nulls, then duplicates (the first row stays), then bots (the whole user goes). user_core
    and item_core are not applied
    here: see `k_core`. Raises InputError when nulls are refused, or when nothing remains.
    """
    rows_before = frame.height
    places = {name: f"the log: column {name!r}" for name in REQUIRED if name in frame.columns}
    frame, no_value = without_nulls(frame, places, options.nulls)
    duplicates = 0
    if options.duplicates == "drop":
        repeated = repeated_rows(frame)
        duplicates = len(repeated)
        if duplicates:
            frame = frame.filter(~pl.int_range(pl.len()).is_in(repeated.implode()))
    bots = find_bots(frame, options.bot_events_per_day)
    rows_with_bots = frame.height
    if len(bots):
        frame = frame.filter(~pl.col("user_id").is_in(bots.implode()))
    if frame.is_empty():
        raise InputError(
            f"the log: none of its {rows_before} rows is left after cleaning ({duplicates} duplicates, "
            f"{len(bots)} bots); "
            "loosen the options."
        )
    report = {
        "rows_before": rows_before,
        "rows": frame.height,
        "no_value": no_value,
        "duplicates": duplicates,
        "bots": len(bots),
        "bot_rows": rows_with_bots - frame.height,
        "users": frame["user_id"].n_unique(),
        "items": frame["item_id"].n_unique(),
    }
    return frame, report


def repeated_rows(frame: pl.DataFrame) -> pl.Series:
    """Positions (k,) of rows that equal an earlier row in user, item, timestamp and behaviour, ascending.

    Only rows whose hash occurs twice are compared as such: a full table of distinct rows would double the
    memory.
    """
    keys = [name for name in IDENTITY if name in frame.columns]
    hashes = frame.select(keys).hash_rows().to_numpy()
    ordered = np.sort(hashes)
    suspects = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(suspects):
        return pl.Series("row", [], dtype=pl.Int64)
    positions = np.flatnonzero(np.isin(hashes, suspects))
    rows = frame.select(keys)[positions]
    again = ~rows.select(pl.struct(keys).is_first_distinct()).to_series()
    return pl.Series("row", positions).filter(again)


def find_bots(frame: pl.DataFrame, events_per_day: int | None) -> pl.Series:
    """Ids of users with more than ``events_per_day`` events in any one day (UTC, or 86,400 s of a relative
    clock); None: nobody."""
    if events_per_day is None:
        return frame["user_id"].clear()
    days = frame.lazy().group_by("user_id", day=pl.col("timestamp") // DAY).agg(events=pl.len())
    return days.filter(pl.col("events") > events_per_day).collect()["user_id"].unique().sort()


def k_core(training: pl.DataFrame, user_core: int, item_core: int) -> tuple[pl.Series, pl.Series]:
    """Ids of the users and items that stay when every kept user has at least ``user_core`` and every kept
    item at least ``item_core`` events among kept users and items: the largest such sets, reached by taking
    turns to the fixed point.

    training: the rows of the training part, columns user_id and item_id; repeats count as events. Ids come in
    ascending order. Raises InputError when nothing remains.
    """
    users, user_codes = _codes(training["user_id"])
    items, item_codes = _codes(training["item_id"])
    stay = np.ones(len(training), dtype=bool)
    while True:
        keep_user = np.bincount(user_codes[stay], minlength=len(users)) >= user_core
        remaining = stay & keep_user[user_codes]
        keep_item = np.bincount(item_codes[remaining], minlength=len(items)) >= item_core
        remaining &= keep_item[item_codes]
        if remaining.sum() == stay.sum():
            break
        stay = remaining
    if not stay.any():
        raise InputError(
            f"the training part: no event is left when users need {user_core} and items {item_core} events; "
            "lower --clean.user-core or --clean.item-core."
        )
    return users.filter(pl.Series(keep_user)), items.filter(pl.Series(keep_item))


def _codes(column: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """Distinct values ascending (k,), and for each row its place among them (n,)."""
    codes = column.rank("dense").to_numpy().astype(np.int64) - 1
    return column.unique().sort(), codes
