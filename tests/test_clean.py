"""Cleaning counts all that it takes out; the k-core is the largest one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdecay.data.clean import DAY, CleanOptions, clean, find_bots, k_core, repeated_rows
from jaxdecay.errors import InputError

GLOBO = Path(__file__).parents[2] / "shared" / "data" / "globo-news" / "events.parquet"


def table(rows: list) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def test_duplicates_keep_the_first_and_the_order() -> None:
    frame = table([(1, 1, 5), (2, 1, 5), (1, 1, 5), (1, 1, 6), (2, 1, 5)]).with_columns(place=pl.int_range(5))
    kept, report = clean(frame)
    assert kept["place"].to_list() == [0, 1, 3]
    assert report["duplicates"] == 2
    assert (report["rows_before"], report["rows"], report["users"], report["items"]) == (5, 3, 2, 1)
    assert json.loads(json.dumps(report)) == report
    assert clean(frame, CleanOptions(duplicates="keep"))[0].equals(frame)


def test_another_behaviour_is_no_duplicate() -> None:
    frame = table([(1, 1, 5), (1, 1, 5), (1, 1, 5)]).with_columns(
        behaviour=pl.Series(["view", "buy", "view"])
    )
    assert clean(frame)[0]["behaviour"].to_list() == ["view", "buy"]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(0, 2)), min_size=1, max_size=30)
)
@settings(deadline=None, max_examples=40)
def test_duplicates_against_a_plain_loop(rows: list) -> None:
    seen, again = set(), []
    for place, row in enumerate(rows):
        if row in seen:
            again.append(place)
        seen.add(row)
    assert repeated_rows(table(rows)).to_list() == again


def test_nulls_are_refused_or_dropped() -> None:
    frame = table([(1, 1, 5), (None, 1, 5), (2, None, 7)]).with_columns(weight=pl.Series([1.0, 1.0, None]))
    with pytest.raises(InputError, match=r"'user_id' has no value in row 2"):
        clean(frame)
    kept, report = clean(frame, CleanOptions(nulls="drop"))
    assert kept.height == 1
    assert report["no_value"] == {"no user_id": 1, "no item_id": 1}
    with pytest.raises(InputError, match="none of its 1 rows"):
        clean(frame[1:2], CleanOptions(nulls="drop"))


def test_bots_go_as_whole_users() -> None:
    busy = [("bot", item, DAY - 1 - item) for item in range(4)] + [("bot", 9, 3 * DAY)]
    spread = [("man", item, DAY - 2 + item) for item in range(4)]  # two events each side of midnight
    kept, report = clean(table(busy + spread), CleanOptions(bot_events_per_day=3))
    assert set(kept["user_id"]) == {"man"}
    assert (report["bots"], report["bot_rows"]) == (1, 5)
    assert clean(table(busy + spread), CleanOptions(bot_events_per_day=4))[1]["bots"] == 0
    assert find_bots(table(busy), None).is_empty()
    with pytest.raises(InputError, match="1 bots"):
        clean(table(busy), CleanOptions(bot_events_per_day=1))


def plain_core(rows: list, user_core: int, item_core: int) -> tuple[list, list]:
    """Take away one offender at a time."""
    rows = list(rows)
    while True:
        users, items = [user for user, _, _ in rows], [item for _, item, _ in rows]
        bad = [row for row in rows if users.count(row[0]) < user_core or items.count(row[1]) < item_core]
        if not bad:
            return sorted(set(users)), sorted(set(items))
        rows.remove(bad[0])


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abcde"), st.just(0)), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=60)
def test_k_core_against_a_plain_loop(rows: list, user_core: int, item_core: int) -> None:
    users, items = plain_core(rows, user_core, item_core)
    if not users:
        with pytest.raises(InputError, match=f"users need {user_core} and items {item_core}"):
            k_core(table(rows), user_core, item_core)
        return
    found = k_core(table(rows), user_core, item_core)
    assert (found[0].to_list(), found[1].to_list()) == (users, items)


def test_k_core_is_iterated() -> None:
    """Item c falls, then user 3 for want of it, then item b for want of user 3."""
    rows = [(1, "a", 0), (1, "d", 0), (2, "a", 0), (2, "d", 0), (3, "b", 0), (3, "c", 0), (1, "b", 0)]
    users, items = k_core(table(rows), 2, 2)
    assert (users.to_list(), items.to_list()) == ([1, 2], ["a", "d"])
    assert k_core(table(rows), 1, 1)[1].to_list() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", ["user_core", "item_core", "bot_events_per_day"])
def test_options_below_one_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} 0"):
        CleanOptions(**cast(Any, {name: 0}))


def test_three_million_events_in_little_memory() -> None:
    """Its own process, so that the peak is that of this work; the limits leave room for a busy machine."""
    if not GLOBO.exists():
        pytest.skip("globo-news is not beside the repository")
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here to read the peak from")
    code = (
        "import re, sys, time; from jaxdecay.data.events import read_events\n"
        "from jaxdecay.data.clean import clean\n"
        "start = time.perf_counter(); frame, report = clean(read_events(sys.argv[1]).frame)\n"
        # Not ru_maxrss, which counts what the parent held when it forked.
        "peak = int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "print(time.perf_counter() - start, report['rows'], peak / 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(GLOBO)], capture_output=True, text=True, check=True
    )
    seconds, rows, peak_mib = done.stdout.split()
    assert int(rows) == 2_988_181
    assert float(seconds) < 10
    assert float(peak_mib) < 1024
