"""The event contract: columns, ids, nulls, order; what is dropped is counted, what is refused is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdecay.data.events import Columns, read_events, read_items
from jaxdecay.errors import InputError

T = 1_500_000_000  # 2017-07-14 02:40:00 UTC
HEAD = "user_id,item_id,timestamp\n"
LOGS = Path(__file__).parents[2] / "shared" / "data"
SIZES = {
    "beauty": 198_502,
    "electronics": 131_154,
    "foursquare": 185_984,
    "globo-news": 2_988_181,
    "lastfm": 139_942,
    "ml-1m-2999": 487_650,
    "ml-100k": 100_000,
    "online-retail": 406_829,
    "taobao": 84_252,
}


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


EVENTS = [("u1", 3, T + 5, 4.0), ("u2", 1, T, 2.5), ("u1", 2, T, 3.0)]
SORTED = [("u2", 1, T, 2.5), ("u1", 2, T, 3.0), ("u1", 3, T + 5, 4.0)]
NAMES = ["user_id", "item_id", "timestamp", "rating"]


def log() -> pl.DataFrame:
    return pl.DataFrame(EVENTS, schema=NAMES, orient="row")


def test_refusal_names_file_column_rows_and_count(tmp_path: Path) -> None:
    rows = "".join(f"{user},a,{-user}\n" for user in range(1, 9))
    path = written(tmp_path / "log.csv", HEAD + rows)
    message = refusal(path)
    assert message.startswith(f"{path}: column 'timestamp' ")
    assert "rows 1, 2, 3, 4, 5 ... (8 in all)" in message


def test_missing_column_names_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path / "ratings.csv", f"userId,movieId,rating,timestamp\n1,2,3,{T}\n")
    message = refusal(path)
    for word in (
        "'user_id'",
        "userId, movieId, rating, timestamp",
        "'userId' is the nearest",
        "--columns.user",
    ):
        assert word in message
    events = read_events(path, columns=Columns(user="userId", item="movieId"))
    assert events.frame.columns == ["user_id", "item_id", "timestamp", "weight"]
    assert "'action'" in refusal(log(), columns=Columns(behaviour="action"))
    assert "'place'" in refusal(log(), columns=Columns(context=("place",)))
    assert "several things" in refusal(log(), columns=Columns(user="item_id"))
    clash = log().with_columns(uid=pl.lit(1))
    assert "in the way" in refusal(clash, columns=Columns(user="uid"))
    assert read_events(clash, columns=Columns(user="uid", context=())).frame["user_id"].to_list() == [1, 1, 1]


def test_ids_are_kept_as_given(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", HEAD + f"007,12,{T}\n8,-3,{T}\n")
    assert read_events(path).frame.rows() == [("007", 12, T), ("8", -3, T)]
    big = written(tmp_path / "big.csv", HEAD + f"9223372036854775807,9223372036854775808,{T}\n")
    assert read_events(big).frame.rows() == [(2**63 - 1, "9223372036854775808", T)]
    for kind in (pl.Int8, pl.UInt32, pl.UInt64):
        assert read_events(log().with_columns(pl.col("item_id").cast(kind))).frame["item_id"].dtype == kind
    assert read_events(log().cast({"user_id": pl.Categorical})).frame["user_id"].dtype == pl.String


def test_bad_ids_are_refused(tmp_path: Path) -> None:
    assert "no value in row 1" in refusal(log().with_columns(user_id=pl.Series(["", "a", "b"])))
    assert "no value in rows 2, 3" in refusal(log().with_columns(item_id=pl.Series([1, None, None])))
    assert "floating-point ids (rows 1, 2, 3)" in refusal(log().cast({"item_id": pl.Float64}))
    assert "no ids" in refusal(log().with_columns(pl.concat_list("item_id")))
    kept = pd.DataFrame({"user_id": [1, np.nan], "item_id": [1, 2], "timestamp": [T, T]})
    assert "NaN (row 2)" in refusal(kept)
    path = written(tmp_path / "log.csv", HEAD + f"1.0,12,{T}\n8.0,-3,{T}\n")
    assert "floating-point" in refusal(path)


def test_nulls_and_blank_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", HEAD + f"1,a,{T}\n\n,b,{T}\n2,c,\n3,,\n4,d,{T}\n\n")
    assert "'user_id' has no value in row 3" in refusal(path)
    events = read_events(path, nulls="drop")
    assert events.frame["user_id"].to_list() == [1, 4]
    assert events.report["dropped"] == {"blank lines": 2, "no user_id": 1, "no item_id": 1, "no timestamp": 1}
    assert events.report["rows_read"] == 7
    assert "left of 1" in refusal(frame([None]), nulls="drop")


def test_behaviour_weight_label_context() -> None:
    table = log().with_columns(
        behaviour=pl.Series(["view", "buy", "view"]), label=pl.Series([True, None, False]), place=pl.lit("x")
    )
    events = read_events(table)
    assert events.frame.columns == [
        "user_id",
        "item_id",
        "timestamp",
        "behaviour",
        "weight",
        "label",
        "place",
    ]
    assert events.frame["behaviour"].to_list() == ["buy", "view", "view"]
    assert events.frame["label"].to_list() == [None, 0.0, 1.0]
    assert events.report["context"] == ["place"]
    assert "place" not in read_events(table, columns=Columns(context=())).frame.columns
    both = read_events(log().with_columns(weight=pl.lit(7)))
    assert both.frame["weight"].to_list() == [7, 7, 7]
    assert both.report["context"] == ["rating"]
    assert "behavior" in read_events(log().with_columns(behavior=pl.lit("x"))).report["warnings"][0]
    assert "(row 2)" in refusal(log().with_columns(rating=pl.Series(["1", "x", "3"])))
    assert "infinite" in refusal(log().with_columns(rating=pl.lit(float("inf"))))
    assert "'rating' has no value in rows 1, 2, 3" in refusal(log().with_columns(rating=pl.lit(float("nan"))))
    assert "'behaviour' has no value" in refusal(log().with_columns(behaviour=pl.lit(None, dtype=pl.String)))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=40))
@settings(deadline=None, max_examples=40)
def test_ties_keep_file_order(pairs: list[tuple[int, int]]) -> None:
    """Python's sort is stable: an oracle."""
    table = pl.DataFrame(
        {
            "user_id": [user for user, _ in pairs],
            "item_id": range(len(pairs)),
            "timestamp": [T + at for _, at in pairs],
        }
    )
    expected = sorted(range(len(pairs)), key=lambda row: pairs[row][1])
    events = read_events(table)
    assert events.frame["item_id"].to_list() == expected
    assert (events.report["rows_out_of_order"] == 0) == (expected == list(range(len(pairs))))


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=6).map("u{}".format)


@given(
    st.lists(
        st.tuples(WORDS, st.integers(-(2**63), 2**63 - 1), st.integers(T, T + 9)), min_size=1, max_size=12
    )
)
@settings(deadline=None, max_examples=40)
def test_round_trip_through_files(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    table = pl.DataFrame(
        rows, schema={"user_id": pl.String, "item_id": pl.Int64, "timestamp": pl.Int64}, orient="row"
    )
    expected = read_events(table).frame
    folder = tmp_path_factory.mktemp("logs")
    table.write_parquet(folder / "log.parquet")
    assert read_events(folder / "log.parquet").frame.equals(expected)
    table.write_csv(folder / "log.csv")
    assert read_events(folder / "log.csv").frame.equals(expected)


def test_items_and_users(tmp_path: Path) -> None:
    table = pl.DataFrame({"title": ["x", "y"], "sku": ["b", "a"]})
    assert read_items(table, column="sku").rows() == [("b", "x"), ("a", "y")]
    for bad, words in [
        (table, ["'item_id'", "title, sku"]),
        (table.with_columns(item_id=pl.lit(3)), ["3 more than once", "rows 1, 2"]),
        (table.with_columns(item_id=pl.Series([1, None])), ["no value in row 2"]),
        (table.with_columns(item_id=pl.lit(1.5)), ["floating-point ids"]),
        (table.clear().with_columns(item_id=pl.lit(1)), ["no rows"]),
    ]:
        with pytest.raises(InputError) as caught:
            read_items(bad)
        for word in words:
            assert word in str(caught.value)


@pytest.mark.parametrize("name", SIZES)
def test_real_logs(name: str) -> None:
    path = LOGS / name / "events.parquet"
    if not path.exists():
        pytest.skip(f"{name} is not beside the repository")
    clock = "relative" if name == "lastfm" else "utc"
    if clock == "relative":
        assert "--clock relative" in refusal(path)
    events = read_events(path, clock=clock)
    assert events.frame.height == SIZES[name] == events.report["rows"]
    assert events.frame["timestamp"].is_sorted()
    assert events.report["warnings"] == []


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        ([1.0, 2.0, float("inf"), None], "holds infinite numbers (row 3)"),
        ([[1.0, 2.0], [1.0], None, [3.0, 4.0]], "holds vectors of other lengths than 2 (row 2)"),
        (
            [[1.0, 2.0], [1.0, 0.0], None, [3.0, float("inf")]],
            "holds vectors with numbers infinite or beyond float32 (row 4)",
        ),
        (
            [[1.0, 2.0], [1e308, 0.0], [float("nan"), 1.0], []],
            "with numbers infinite or beyond float32 (row 2)",
        ),
    ],
)
def test_what_no_encoding_takes_is_refused_by_its_row_in_the_table(
    tmp_path: Path, column: list, fault: str
) -> None:
    late_first = pl.DataFrame(
        {"user_id": [1, 2, 3, 4], "item_id": [1, 2, 3, 4], "timestamp": [1_700_000_000 - k for k in range(4)]}
    ).with_columns(pl.Series("extra", column))
    late_first.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(InputError) as refused:
        read_events(tmp_path / "log.parquet")
    assert "log.parquet: column 'extra' holds" in str(refused.value)
    assert fault in str(refused.value)
    with pytest.raises(InputError, match="column 'extra'"):
        read_items(late_first.drop("user_id", "timestamp"))


def test_blank_lines_are_rows_and_dropped_as_such(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,timestamp\n1,1,{1_700_000_000}\n\n1,2,{1_700_000_001}\n")
    frame, report = read_events(path, row="row")
    assert report["dropped"] == {"blank lines": 1}
    assert frame["row"].to_list() == [1, 3]
    items = tmp_path / "items.csv"
    items.write_text("item_id,price\n\n1,2.5\n\n2,3.5\n")
    assert read_items(items, row="row")["row"].to_list() == [2, 4]


def test_events_know_their_rows() -> None:
    log = pl.DataFrame(
        {
            "user_id": [1, 2, 3],
            "item_id": [1, 2, 3],
            "timestamp": [1_700_000_002, 1_700_000_001, 1_700_000_003],
        }
    )
    assert read_events(log, row="row").frame["row"].to_list() == [2, 1, 3]
