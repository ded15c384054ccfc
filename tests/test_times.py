"""Every unit, every kind of date, and every row of bad times."""

import datetime as dt
import time
from pathlib import Path
from typing import Any, cast

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdecay.data.events import read_events
from jaxdecay.data.times import read_times
from jaxdecay.errors import InputError

T = 1_500_000_000  # 2017-07-14 02:40:00 UTC
HEAD = "user_id,item_id,timestamp\n"


def frame(times: list, **columns: list) -> pl.DataFrame:
    rows = len(times)
    return pl.DataFrame(
        {"user_id": range(rows), "item_id": ["a"] * rows, "timestamp": times, **columns}, strict=False
    )


def refusal(source: object, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_events(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
@pytest.mark.parametrize("stated", [True, False])
def test_units(unit: Any, per_second: int, stated: bool) -> None:
    events = read_events(
        frame([T * per_second + per_second - 1, T * per_second]), unit=unit if stated else None
    )
    assert events.frame["timestamp"].to_list() == [T, T]
    assert events.frame["user_id"].to_list() == (
        [0, 1] if unit == "s" else [1, 0]
    )  # sorted at full resolution
    assert events.report["unit"] == unit
    assert bool(events.report["assumed"]) is not stated


@given(st.integers(315_532_800, 4_102_444_799), st.integers(315_532_800, 4_102_444_799))
@settings(deadline=None, max_examples=30)
def test_any_dates_since_1980_have_one_unit(first: int, second: int) -> None:
    for per_second in (1, 1_000, 1_000_000):
        read = read_events(frame([first * per_second, second * per_second])).frame["timestamp"]
        assert read.to_list() == sorted([first, second])


def test_dates_naive_zoned_and_written(tmp_path: Path) -> None:
    moment = dt.datetime(2017, 7, 14, 2, 40)
    naive = read_events(frame([moment]))
    assert naive.frame["timestamp"].to_list() == [T]
    assert naive.report["assumed"] == ["times without a zone are taken as UTC"]
    berlin = pl.Series([moment]).dt.replace_time_zone("Europe/Berlin")
    zoned = read_events(frame([T]).with_columns(berlin.alias("timestamp")))
    assert zoned.frame["timestamp"].to_list() == [T - 7_200]
    assert zoned.report["zone"] == "Europe/Berlin, converted to UTC"
    assert zoned.report["assumed"] == []
    assert read_events(frame([dt.date(2017, 7, 14)])).frame["timestamp"].to_list() == [T - 9_600]
    text = HEAD + "1,a,2017-07-14T02:40:00Z\n2,b,2017-07-14 04:40:00.25+02:00\n3,c,2017-07-13T22:40-0400\n"
    read = read_events(written(tmp_path / "log.csv", text)).frame
    assert read.rows() == [(1, "a", T), (3, "c", T), (2, "b", T)]
    kept = pd.DataFrame(
        {"user_id": [1], "item_id": [2], "timestamp": pd.to_datetime([moment]).tz_localize("Asia/Tokyo")}
    )
    assert read_events(kept).frame["timestamp"].to_list() == [T - 9 * 3_600]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_datetimes_of_any_resolution_sort_by_it(unit: Any) -> None:
    times = pl.Series([dt.datetime(2020, 1, 1, 0, 0, 0, 2_000), dt.datetime(2020, 1, 1, 0, 0, 0, 1_000)])
    read = read_events(frame([T, T]).with_columns(times.cast(pl.Datetime(unit)).alias("timestamp"))).frame
    assert read["user_id"].to_list() == [1, 0]


def test_relative_clock() -> None:
    events = read_events(frame([7, 0, 10**9]), clock="relative")
    assert events.frame["timestamp"].to_list() == [0, 7, 10**9]
    assert events.report["unit"] == "s"
    assert read_events(frame([7_999]), clock="relative", unit="ms").frame["timestamp"].to_list() == [7]
    assert read_events(frame([dt.timedelta(days=1)]), clock="relative").frame["timestamp"].to_list() == [
        86_400
    ]
    [warning] = read_events(frame([1_700_000_000, 1_600_000_000]), clock="relative").report["warnings"]
    assert "leave out --clock relative" in warning
    assert "negative" in refusal(frame([5, -1]), clock="relative")
    assert "--clock relative" in refusal(frame([dt.datetime(2020, 1, 1)]), clock="relative")


ROWS_OF_BAD_TIMES = [
    ([T, None, T], {}, ["no value", "row 2", "--nulls drop"]),
    ([T, -5, -6], {}, ["negative", "rows 2, 3"]),
    ([float(T), T + 0.5], {}, ["floating-point", "row 2", "whole numbers"]),
    ([1.0, float("nan")], {}, ["NaN", "row 2"]),
    ([T, T * 1_000, T], {}, ["mixes units", "seconds (rows 1, 3)", "milliseconds (row 2)", "--unit"]),
    ([T, T * 1_000], {"unit": "ms"}, ["mixes units"]),
    ([T * 1_000, T * 1_000_000], {"unit": "us"}, ["mixes units"]),
    ([5, 6], {}, ["5 to 6", "rows 1, 2", "--unit", "--clock relative"]),
    ([T, T, 12], {}, ["seconds", "row 3", "12"]),
    ([T * 10**9], {}, ["nanoseconds", "--unit us"]),
    ([T * 1_000], {"unit": "s"}, ["after 2099", "row 1", "milliseconds"]),
    ([dt.datetime(1960, 1, 1)], {}, ["before 1970", "row 1"]),
    ([dt.datetime(2200, 1, 1)], {}, ["after 2099", "row 1"]),
    ([dt.timedelta(days=1)], {}, ["durations", "--clock relative"]),
    ([True, False], {}, ["Boolean"]),
    ([None, None], {}, ["no value", "rows 1, 2"]),
    (["2020-01-01", "soon"], {}, ["no times", "row 2", "soon"]),
    (["2020-01-01", "2020-01-01T00:00Z"], {}, ["without a zone", "row 1"]),
    (["2020-06-31"], {}, ["do not exist", "row 1"]),
]


@pytest.mark.parametrize(("times", "options", "words"), ROWS_OF_BAD_TIMES)
def test_bad_times_are_refused(times: list, options: dict, words: list[str]) -> None:
    message = refusal(frame(times), **options)
    for word in words:
        assert word in message


@pytest.mark.parametrize(("option", "value"), [("unit", "min"), ("clock", "local")])
def test_unknown_options_are_refused(option: str, value: str) -> None:
    with pytest.raises((InputError, TypeError), match=value):  # a type checker at run time may come first
        read_events(frame([T]), **cast(Any, {option: value}))


@pytest.mark.parametrize("narrow", [pl.Int32, pl.UInt32])
def test_seconds_may_be_narrow_integers(narrow: Any) -> None:
    column = pl.Series([5, 1_700_000_000], dtype=narrow)
    assert read_times(column, where="log", unit="s").ticks.to_list() == [5, 1_700_000_000]
    with pytest.raises(InputError, match="outside 1980-2100"):
        read_times(column, where="log")


def test_future_times_are_counted_not_refused() -> None:
    events = read_events(frame([int(time.time()) + 86_400, T]))
    assert events.report["future"] == 1
    assert events.report["warnings"] == [
        "the frame: column 'timestamp': times in the future (row 1); check --unit, or correct them"
    ]
    assert events.frame.height == 2


def test_stated_seconds_before_1980_are_believed_with_a_warning() -> None:
    report = read_events(frame([0, 7]), unit="s").report
    assert "before 1980" in report["warnings"][0]
