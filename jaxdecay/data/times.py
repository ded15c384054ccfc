"""What the time column says: its unit, its zone, its faults. Nothing here guesses.

Integer times of clock "utc" have their unit stated, or it must be *unmistakable*: every single value lies
between 1980-01-01 and 2100-01-01 when read in that unit. These spans of seconds, milliseconds and
microseconds do not overlap (2100 is only 13 times 1980 when counted from 1970), so at most one unit passes.
The span begins in 1980 and not in 1970 because every number of today's seconds is also a date in January 1970
in milliseconds. A stated unit is believed for all dates from 1970 to 2100. Times of which some are
unmistakably in one unit and some in another are refused, whatever was stated.
"""

import time
from typing import Any, Literal, NamedTuple

import polars as pl

from jaxdecay.data.iso import from_text
from jaxdecay.data.refusals import refuse_where, row_words
from jaxdecay.errors import InputError

Unit = Literal["s", "ms", "us"]
Clock = Literal["utc", "relative"]
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
NAIVE = "naive, taken as UTC"
UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
SINCE_1980, UNTIL_2100 = 315_532_800, 4_102_444_800  # seconds


class Times(NamedTuple):
    ticks: pl.Series
    """Int64 (n,), at full resolution; nulls stay nulls."""
    per_second: int
    facts: dict[str, Any]
    """For the report: unit, unit_stated, clock, zone, first, last, future, warnings."""

    @property
    def assumed(self) -> list[str]:
        """What was taken for granted."""
        words = ["times without a zone are taken as UTC"] if self.facts["zone"] == NAIVE else []
        if not self.facts["unit_stated"] and self.facts["clock"] == "utc":
            unit = UNIT_WORDS[self.facts["unit"]]
            words.append(f"times are {unit}: only so do all of them lie between 1980 and 2100")
        return words


def read_times(column: pl.Series, *, where: str, unit: Unit | None = None, clock: Clock = "utc") -> Times:
    """Ticks of a time column (n,) of integers, dates, datetimes or ISO 8601 text. ``where`` opens messages
    ("log.csv: column 'timestamp'").

    Naive datetimes are taken as UTC, zoned ones converted; both are told in ``facts``. Nulls pass through.
    Raises InputError for floats, negative or mixed-unit times, times outside 1970-2100, and a unit that is
    neither stated nor unmistakable.
    """
    _check_choice("unit", unit, (None, "s", "ms", "us"))
    _check_choice("clock", clock, ("utc", "relative"))
    kind = column.dtype
    if kind == pl.String:
        column = from_text(column, where)
        kind = column.dtype
    if kind == pl.Null:
        column = column.cast(pl.Int64)
    elif kind.is_float() or kind.is_decimal():
        raise InputError(_float_words(column, where))
    elif kind in (pl.Date, pl.Datetime):
        return _from_dates(column, where, unit, clock)
    elif kind == pl.Duration:
        column, unit = column.dt.total_microseconds(), "us"
        if clock == "utc":
            raise InputError(
                f"{where} holds durations; give dates, or say --clock relative if they count from a first "
                "event."
            )
    elif not kind.is_integer():
        raise InputError(
            f"{where} holds {kind}, no times; give integers with --unit s, ms or us, or datetimes."
        )
    return _from_integers(column, where, unit, clock)


def _from_integers(column: pl.Series, where: str, unit: Unit | None, clock: Clock) -> Times:
    refuse_where(
        column < 0, where, "holds negative times", "correct or remove them (times count from 1970, or from 0)"
    )
    warnings: list[str] = []
    if column.dtype != pl.UInt64:
        column = column.cast(pl.Int64)  # narrow integers cannot be compared with times in other units
    if clock == "relative":
        chosen = unit or "s"
        facts = _facts(
            column.cast(pl.Int64),
            PER_SECOND[chosen],
            unit=chosen,
            unit_stated=unit is not None,
            clock=clock,
            zone="none",
        )
        lowest = column.min()
        if isinstance(lowest, int) and lowest >= SINCE_1980 * PER_SECOND[chosen]:
            facts["warnings"] = [
                "all times lie ten years and more after 0, so they hardly count from each user's first "
                "event: leave out --clock relative if they count from 1970",
                *facts["warnings"],
            ]
        return Times(column.cast(pl.Int64), PER_SECOND[chosen], facts)
    chosen = _unit_of(column, where, unit)
    ticks = column.cast(pl.Int64)
    highest = ticks.max()
    if isinstance(highest, int) and highest < SINCE_1980 * PER_SECOND[chosen]:
        warnings.append(
            f"all times lie before 1980 when read as {UNIT_WORDS[chosen]}: check --unit, or say --clock "
            "relative if they count from a first event"
        )
    facts = _facts(
        ticks, PER_SECOND[chosen], unit=chosen, unit_stated=unit is not None, clock=clock, zone="UTC"
    )
    facts["warnings"] = warnings + facts["warnings"]
    return Times(ticks, PER_SECOND[chosen], facts)


def _from_dates(column: pl.Series, where: str, unit: Unit | None, clock: Clock) -> Times:
    if clock == "relative":
        raise InputError(f"{where} holds dates, which are not relative; leave out --clock relative.")
    if column.dtype == pl.Date:
        column = column.cast(pl.Datetime("us"))
    kind = column.dtype
    assert isinstance(kind, pl.Datetime)
    ticks = column.to_physical()
    per_second = PER_SECOND[kind.time_unit]
    refuse_where(ticks < 0, where, "holds dates before 1970", "correct or remove them")
    refuse_where(ticks >= UNTIL_2100 * per_second, where, "holds dates after 2099", "correct or remove them")
    zone = (
        f"{kind.time_zone}, converted to UTC"
        if kind.time_zone not in (None, "UTC")
        else kind.time_zone or NAIVE
    )
    facts = _facts(
        ticks, per_second, unit=f"datetime[{kind.time_unit}]", unit_stated=True, clock=clock, zone=zone
    )
    if unit is not None:
        facts["warnings"].insert(0, f"unit {unit} was stated but not needed: the column holds dates")
    return Times(ticks, per_second, facts)


def _unit_of(column: pl.Series, where: str, stated: Unit | None) -> str:
    """The stated unit after checking it, or the unmistakable one."""
    low, high = _bounds(column)
    if low is None or high is None:
        return stated or "s"
    if stated is None:
        for name, per_second in PER_SECOND.items():
            if name != "ns" and low >= SINCE_1980 * per_second and high < UNTIL_2100 * per_second:
                return name
    looks = {
        name: column.is_between(SINCE_1980 * n, UNTIL_2100 * n, closed="left")
        for name, n in PER_SECOND.items()
    }
    seen = [name for name, mask in looks.items() if mask.any()]
    if len(seen) > 1:
        parts = " and ".join(f"{UNIT_WORDS[name]} ({row_words(looks[name])})" for name in seen)
        raise InputError(f"{where} mixes units: {parts}; convert all to one unit and state it with --unit.")
    if stated is not None:
        other = seen[0] if seen and seen[0] != stated else None
        remedy = (
            f"they look like {UNIT_WORDS[other]}, check --unit" if other else "correct them or check --unit"
        )
        late = column >= UNTIL_2100 * PER_SECOND[stated]
        refuse_where(late, where, f"holds times after 2099 when read as {UNIT_WORDS[stated]}", remedy)
        return stated
    if seen == ["ns"]:
        raise InputError(
            f"{where} looks like nanoseconds; divide by 1000 and state --unit us, or give datetimes."
        )
    if seen:
        odd = ~looks[seen[0]]
        raise InputError(
            f"{where} looks like {UNIT_WORDS[seen[0]]}, except {row_words(odd)} (value "
            f"{column.filter(odd)[0]}) outside 1980-2100; "
            f"correct them, or state --unit s, ms or us."
        )
    raise InputError(
        f"{where} holds {low} to {high}, which no unit makes dates between 1980 and 2100 "
        f"({row_words(column.is_not_null())}); "
        "state --unit s, ms or us, or say --clock relative if times count from each user's first event."
    )


def _facts(ticks: pl.Series, per_second: int, **facts: Any) -> dict[str, Any]:
    low, high = _bounds(ticks)
    future, warnings = 0, []
    if facts["clock"] == "utc":
        late = ticks > int(time.time() * per_second)
        future = int(late.sum())
        warnings += [f"times in the future ({row_words(late)}); check --unit, or correct them"][:future]
    bounds = {
        name: bound // per_second if bound is not None else None
        for name, bound in (("first", low), ("last", high))
    }
    return {**facts, **bounds, "future": future, "warnings": warnings}


def _bounds(column: pl.Series) -> tuple[int, int] | tuple[None, None]:
    if column.null_count() == len(column):
        return None, None
    return int(column.min()), int(column.max())  # type: ignore[arg-type]


def _float_words(column: pl.Series, where: str) -> str:
    nan = column.is_nan() if column.dtype.is_float() else pl.Series([False])
    if nan.any():
        return (
            f"{where} holds NaN ({row_words(nan)}) among floating-point numbers; remove those rows and write "
            "whole "
            "numbers with --unit s, ms or us."
        )
    broken = column != column.floor()
    rows = row_words(broken if broken.any() else column.is_not_null())
    return (
        f"{where} holds floating-point numbers ({rows}), which round times off; "
        "write whole numbers and state --unit s, ms or us."
    )


def _check_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        words = ", ".join(str(one) for one in allowed if one is not None)
        raise InputError(f"{name} {value!r} is not known; give one of {words}.")
