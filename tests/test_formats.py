"""One log in every format is read alike; files that cannot be read are refused in one line."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from jaxdecay.data.events import Columns, read_events, read_items, read_users
from jaxdecay.errors import InputError

T = 1_500_000_000  # 2017-07-14 02:40:00 UTC
HEAD = "user_id,item_id,timestamp\n"


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


def frame(times: list, **columns: list) -> pl.DataFrame:
    rows = len(times)
    return pl.DataFrame(
        {"user_id": range(rows), "item_id": ["a"] * rows, "timestamp": times, **columns}, strict=False
    )


@pytest.mark.parametrize(
    "kind", ["parquet", "csv", "tsv", "semicolon", "::", "frame", "lazy", "pandas", "arrow"]
)
def test_every_format_gives_the_same_events(kind: Any, tmp_path: Path) -> None:
    table = log()
    lines = [NAMES, *[[str(value) for value in row] for row in EVENTS]]
    match kind:
        case "parquet":
            source = tmp_path / "log.parquet"
            table.write_parquet(source)
        case "csv" | "tsv" | "semicolon" | "::":
            separator = {"csv": ",", "tsv": "\t", "semicolon": ";", "::": "::"}[kind]
            suffix = {"csv": "csv", "tsv": "tsv", "semicolon": "csv", "::": "dat"}[kind]
            source = written(
                tmp_path / f"log.{suffix}", "\n".join(separator.join(line) for line in lines) + "\n"
            )
        case "frame":
            source = table
        case "lazy":
            source = table.lazy()
        case "pandas":
            source = pd.DataFrame(EVENTS, columns=NAMES)
        case _:
            source = table.to_arrow()
    events = read_events(source)
    assert events.frame.rows() == SORTED
    assert events.frame.schema == {
        "user_id": pl.String,
        "item_id": pl.Int64,
        "timestamp": pl.Int64,
        "weight": pl.Float32,
    }
    assert events.report["rows"] == 3
    assert events.report["columns"]["weight"] == "rating"
    assert json.loads(json.dumps(events.report)) == events.report


class OnlyProtocol:
    """A frame of a library that speaks ``__dataframe__`` and nothing else."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __dataframe__(self, *args: Any, **options: Any) -> Any:
        return self.inner.__dataframe__(*args, **options)


def test_interchange_protocol() -> None:
    assert read_events(OnlyProtocol(log().to_arrow())).frame.rows() == SORTED


@pytest.mark.parametrize("name", ["ratings.dat", "other.dat", "u.data", "other.tsv"])
def test_movielens_without_header(name: str, tmp_path: Path) -> None:
    separator = "::" if name.endswith("dat") else "\t"
    rows = [["1", "2", "5", str(T + 1)], ["7", "2", "4", str(T)]]
    path = written(tmp_path / name, "\n".join(separator.join(row) for row in rows) + "\n")
    events = read_events(path)
    assert events.frame.rows() == [(7, 2, T, 4.0), (1, 2, T + 1, 5.0)]
    assert "user_id, item_id, rating, timestamp" in events.report["assumed"][0]


def test_headerless_file_is_named_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", f"{T},9,2\n{T + 1},9,3\n")
    message = refusal(path)
    assert "no header line" in message
    assert "--columns.names" in message
    events = read_events(path, columns=Columns(names=("timestamp", "item_id", "user_id")))
    assert events.frame.rows() == [(2, 9, T), (3, 9, T + 1)]
    assert "stands twice" in refusal(path, columns=Columns(names=("a", "b", "a")))
    quoted = written(tmp_path / "quoted.csv", f'{T},"a,b",2\n')
    named = Columns(names=("timestamp", "item_id", "user_id"))
    assert read_events(quoted, columns=named).frame.rows() == [(2, "a,b", T)]
    assert "3 fields" in refusal(path, columns=Columns(names=("user_id", "item_id")))
    assert "has a header line" in refusal(
        written(path, HEAD + f"1,2,{T}\n"), columns=Columns(names=tuple(NAMES[:3]))
    )
    assert "--columns.names" in refusal(log(), columns=Columns(names=tuple(NAMES)))


def test_movielens_items_and_users_by_name(tmp_path: Path) -> None:
    movies = written(tmp_path / "movies.dat", "1::Café (1995)::Comedy|Drama\n".encode("latin-1"))
    assert read_items(movies).rows() == [(1, "Café (1995)", "Comedy|Drama")]
    written(movies, "1::Café (1995)::Drama\n")  # as UTF-8, like the later releases
    assert read_items(movies).rows() == [(1, "Café (1995)", "Drama")]
    flags = "|".join(["0"] * 18 + ["1"])
    items = written(tmp_path / "u.item", f"1|Été|01-Jan-1995||http://x|{flags}\n".encode("latin-1"))
    assert read_items(items).row(0)[:3] == (1, "Été", "01-Jan-1995")
    users = written(tmp_path / "u.user", "1|24|M|technician|08571\n")
    assert read_users(users).rows() == [(1, 24, "M", "technician", "08571")]


def test_bad_files_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "events.csv", HEAD + f"1,a,{T}\n")
    assert "nearest name is events.csv" in refusal(tmp_path / "event.csv")
    assert "is a directory" in refusal(tmp_path)
    for name, text, word in [
        ("empty.csv", "", "is empty"),
        ("blank.csv", "\n\n", "is empty"),
        ("header.csv", HEAD, "has no rows"),
        ("one.csv", "hello\nworld\n", "no known separator"),
        ("ragged.csv", HEAD + f"1,a,{T}\n1,a,{T},9\n", "row 2 has 4 fields"),
        ("short.csv", HEAD + f"1,a,{T}\n1,a\n", "no value in row 2"),
        ("quote.csv", HEAD + f'1,a,{T}\n1,"a', "damaged or cut short"),
        ("latin.csv", HEAD.encode() + b"1,caf\xe9,1500000000\n", "UTF-8"),
        ("twice.csv", "user_id,item_id,timestamp,a,a\n1,a,2,3,4\n", "'a' stands twice"),
        ("log.json", "{}", "is JSON"),
        ("packed.csv", b"PK\x03\x04abc", "unpack"),
        ("text.parquet", "hello", "not a Parquet file"),
        ("long.dat", f"1::2::5::{T}\n1::2::5::{T}::9\n", "no times (row 2)"),
        ("short.dat", f"1::2::5::{T}\n1::2\n", "no value in row 2"),
    ]:
        message = refusal(written(tmp_path / name, text))
        assert word in message
        assert message.startswith(str(tmp_path / name))
    assert "int is no table" in refusal(5)
    assert "cannot be computed" in refusal(
        log().lazy().with_columns(pl.col("item_id").cast(pl.Date).dt.year() + pl.col("x"))
    )
    assert "has no rows" in refusal(log().clear())


@pytest.mark.parametrize("share", [0.0005, 0.1, 0.5, 0.9, 0.999])
def test_truncated_parquet(share: float, tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame([T] * 3_000).write_parquet(path)
    whole = path.read_bytes()
    message = refusal(written(path, whole[: int(len(whole) * share)]))
    assert "Parquet" in message
    assert str(path) in message


def test_corrupt_parquet(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    frame([T] * 3_000).write_parquet(path)
    whole = bytearray(path.read_bytes())
    whole[8:200] = b"\x55" * 192
    assert "damaged" in refusal(written(path, bytes(whole)))
    whole[-200:-8] = b"\x55" * 192
    assert "damaged" in refusal(written(path, bytes(whole)))
