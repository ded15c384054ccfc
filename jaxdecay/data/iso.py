"""Times written as text: whole numbers, or ISO 8601 dates with or without a zone."""

import polars as pl

from jaxdecay.data.refusals import refuse_where

INTEGER = r"^-?\d{1,19}$"
ISO = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)?(?:Z|[+-]\d{2}:?\d{2})?$"
ZONED = r"(?:Z|[T ].*[+-]\d{2}:?\d{2})$"


def from_text(column: pl.Series, where: str) -> pl.Series:
    """Int64 numbers, naive Datetime or Datetime in UTC (n,) from text (n,); nulls stay.

    Raises InputError when a value is neither, when only some dates have a zone, and for dates such as the
    31st of June.
    """
    numbers, dates = column.str.contains(INTEGER), column.str.contains(ISO)
    if numbers.all():
        integers = column.cast(pl.Int64, strict=False)
        refuse_where(
            integers.is_null() & column.is_not_null(), where, "holds numbers of over 64 bits", "correct them"
        )
        return integers
    good = dates if (dates.sum() or 0) >= (numbers.sum() or 0) else numbers
    odd = column.filter(~good)
    if len(odd):
        remedy = f"write all as whole numbers or as ISO 8601 dates (the first is {odd[0]!r})"
        refuse_where(~good, where, "holds values that are no times", remedy)
    zoned = column.str.contains(ZONED)
    if not zoned.any():
        return _naive(column, where)
    refuse_where(~zoned, where, "has dates without a zone among dates with one", "give every date its zone")
    return (_naive(column, where).to_physical() - _offset(column)).cast(pl.Datetime("us", "UTC"))


def _naive(column: pl.Series, where: str) -> pl.Series:
    """Date and time as written, without the zone."""
    clock = column.str.extract(r"[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)").fill_null("00:00")
    clock = clock.str.replace(r"^(\d{2}:\d{2})$", "${1}:00")
    written = column.str.slice(0, 10) + "T" + clock
    parsed = written.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    refuse_where(
        parsed.is_null() & column.is_not_null(), where, "holds dates that do not exist", "correct them"
    )
    return parsed


def _offset(column: pl.Series) -> pl.Series:
    """Microseconds east of UTC; Z is 0."""
    east = column.str.extract(r"[T ].*([+-])\d{2}:?\d{2}$").replace_strict({"+": 1, "-": -1}, default=0)
    parts = column.str.extract_groups(r"[T ].*[+-](?<hours>\d{2}):?(?<minutes>\d{2})$").struct.unnest()
    parts = parts.cast(pl.Int64).fill_null(0)
    return east.cast(pl.Int64) * (parts["hours"] * 60 + parts["minutes"]) * 60_000_000
