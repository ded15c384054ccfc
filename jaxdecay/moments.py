"""What a person means by `at=`: a moment as int64 seconds, and what was taken for granted in reading it."""

import datetime
import re
import time
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay.data.times import NAIVE, UNTIL_2100, read_times
from jaxdecay.errors import InputError

At = str | int | datetime.date | np.datetime64 | np.integer
"""ISO 8601 text, whole seconds, a date, or a datetime (which is a date to Python)."""

_GRAMMAR = "give ISO 8601 such as 2026-11-22T18:00:00Z, a datetime, or whole seconds since 1970"
_COMPACT = re.compile(r"(19[7-9]\d|20\d\d)(0[1-9]|1[0-2])([0-2]\d|3[01])")


class Moment(NamedTuple):
    """When a request is made."""

    seconds: int | None
    """Seconds since 1970 UTC, or with relative times since the user's first event; None: right after each
    user's last event."""
    notes: tuple[str, ...]
    """What was taken for granted."""


def moment(at: Any, *, clock: str) -> Moment:
    """The moment that ``at`` (an `At`, or None) names. None is now or, with clock "relative", each user's
    last event; fractions of a second are cut off.

    | at | clock "utc" | clock "relative" |
    |---|---|---|
    | None | now, and a note | each user's last event, and a note |
    | integer, or text of digits | seconds since 1970 | seconds since the user's first event |
    | date, or time without a zone | UTC, and a note | refused |
    | time with a zone | converted to UTC | refused |

    Raises InputError for anything else, and for times outside 1970-2100.
    """
    if at is None:
        if clock == "relative":
            return Moment(
                None,
                ("at was not given: asked right after each user's last event (times are relative)",),
            )
        now = int(time.time())
        return Moment(now, (f"at was not given: asked now, {iso(now)}",))
    number = _whole(at)
    if number is not None:
        _check_range(number, at, clock)
        return Moment(number, ())
    if clock == "relative":
        raise InputError(
            f"at {at!r}: the log's times are relative; give whole seconds since the user's first event"
        )
    when = _datetime(at)
    notes = () if when.tzinfo else (f"at {at} has no zone and is taken as UTC",)
    when = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
    seconds = int(
        (when - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(seconds=1)
    )
    _check_range(seconds, at, clock)
    return Moment(seconds, notes)


def moments(column: pl.Series, *, where: str, clock: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(n,) int64 seconds of a column of moments, read like the times of a log (integers are seconds), and
    notes.

    ``where`` opens messages. Raises InputError for what `jaxdecay.data.times.read_times` refuses and for
    missing values.
    """
    if column.null_count():
        row = int(column.is_null().arg_true()[0]) + 1
        raise InputError(f"{where} has no value in row {row}; fill it, or leave the column out")
    dated = column.dtype.is_temporal()
    times = read_times(
        column,
        where=where,
        unit=None if dated else "s",
        clock="relative" if clock == "relative" else "utc",
    )
    notes = (f"{where} has no zone and is taken as UTC",) if times.facts["zone"] == NAIVE else ()
    return (times.ticks // times.per_second).to_numpy().astype(np.int64), notes


def iso(seconds: int) -> str:
    """
    >>> iso(893_980_800)
    '1998-05-01T00:00:00Z'
    """
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _whole(at: Any) -> int | None:
    """The number of seconds, if that is what ``at`` is."""
    if isinstance(at, (int, np.integer)) and not isinstance(at, bool):
        return int(at)
    if not isinstance(at, str) or not re.fullmatch(r"-?\d{1,19}", at.strip()):
        return None
    if _COMPACT.fullmatch(at.strip()):
        day = "-".join(_COMPACT.fullmatch(at.strip()).groups())  # type: ignore[union-attr]
        raise InputError(f"at {at!r} may be a date or seconds; write the date as {day}")
    return int(at)


def _datetime(at: Any) -> datetime.datetime:
    if isinstance(at, np.datetime64) and not np.isnat(at):
        at = at.astype("datetime64[us]").item()
    if isinstance(at, datetime.datetime):
        return at
    if isinstance(at, datetime.date):
        return datetime.datetime(at.year, at.month, at.day)
    if isinstance(at, str):
        try:
            return datetime.datetime.fromisoformat(at.strip())
        except ValueError as error:
            raise InputError(f"at {at!r} is no time ({error}); {_GRAMMAR}") from None
    raise InputError(f"at {at!r} is no time; {_GRAMMAR}")


def _check_range(seconds: int, at: Any, clock: str) -> None:
    if seconds < 0:
        begin = "the user's first event" if clock == "relative" else "1970"
        raise InputError(f"at {at!r} lies before {begin}; {_GRAMMAR}")
    if seconds >= UNTIL_2100:
        looks = any(31e7 <= seconds / unit < UNTIL_2100 for unit in (1e3, 1e6, 1e9))
        hint = "it looks like milliseconds or finer, but whole seconds are wanted" if looks else _GRAMMAR
        raise InputError(f"at {at!r} lies after 2099; {hint}")
