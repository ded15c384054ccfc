"""Bad input on the command line: one line with what, where and what to do, status 2, nothing half-written."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from lines import Said
from tiny import tiny_events
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import assess, runs
from jaxdecay.data.refusals import in_table, refuse_values
from jaxdecay.errors import InputError
from jaxdecay.protocol import Protocol
from jaxdecay.results import Report


@pytest.fixture
def run(tiny_run: Path) -> Path:
    return tiny_run


def csv(times: list[Any]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        rows = [f"{1 + row % 2},{row},{'' if time is None else time}" for row, time in enumerate(times)]
        path.write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")

    return write


def text(words: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(words)  # type: ignore[return-value]


def truncated(path: Path) -> None:
    tiny_events().write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])


T = 1_700_000_000
BAD = {
    "column.csv": (text("user_id,item_id,time\n1,2,3\n"), ("'timestamp'", "'time'", "--columns.time")),
    "empty.csv": (text(""), ("is empty", "give")),
    "header.csv": (csv([]), ("has no rows", "give")),
    "truncated.parquet": (truncated, ("cut short", "write it again")),
    "null.csv": (csv([T, None, T]), ("'timestamp'", "row 2", "--nulls drop")),
    "negative.csv": (csv([T, T, -1]), ("'timestamp'", "negative", "row 3", "remove")),
    "nan.csv": (csv([f"{T}.0", "NaN"]), ("'timestamp'", "NaN", "row 2", "--unit")),
    "float.csv": (csv([T, f"{T}.5", T]), ("'timestamp'", "row 2", "--unit")),
    "mixed.csv": (csv([T, T, T * 1000, T]), ("'timestamp'", "row 3", "--unit")),
    "label.csv": (
        text(f"user_id,item_id,timestamp,label\n1,1,{T},1\n1,2,{T},\n1,3,{T},0.5\n1,4,{T},-1\n"),
        ("'label'", "rows 3, 4", "0, 1 or nothing"),
    ),
    "alone.csv": (
        text(f"user_id,item_id,timestamp\n1,1,{T}\n2,1,{T}\n"),
        ("'user_id'", "nobody has two events", "check"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_logs(name: str, refused: Callable[..., str], tmp_path: Path) -> None:
    write, words = BAD[name]
    write(tmp_path / name)
    message = refused("prepare", tmp_path / name, "--out", tmp_path / "out")
    assert all(word in message for word in words), message
    assert name in message
    assert [path.name for path in tmp_path.iterdir()] == [name]


PLACES = [(0.5, 1.5), (91.0, 2.0), (1.0, 361.0), (-90.0, 360.0)]


@pytest.mark.parametrize(("column", "row"), [("lat", 2), ("lon", 3)])
def test_places_off_the_globe_are_told_by_their_rows_in_the_file(
    column: str, row: int, refused: Callable[..., str], tmp_path: Path
) -> None:
    """Whatever the order of the file: items are encoded in the order of their ids, events in that of time."""
    ids = [f"i{item:02}" for item in (9, 4, 11, 2)]
    good = (0.0, 0.0)
    places = [place if number == row else good for number, place in enumerate(PLACES, start=1)]
    rows = [f"{one},{lat},{lon}" for one, (lat, lon) in zip(ids, places, strict=True)]
    items = tmp_path / "shops.csv"
    items.write_text("\n".join(["item_id,lat,lon", *rows]) + "\n")
    events = tiny_events()
    events.write_parquet(tmp_path / "events.parquet")
    message = refused("prepare", tmp_path / "events.parquet", "--items", items, "--out", tmp_path / "out")
    assert message.startswith(f"{items}: column '{column}' holds degrees outside")
    assert f"(row {row}); correct them, or leave them empty" in message

    log = tmp_path / "places.csv"
    late_first = (
        events.sort("timestamp", descending=True)
        .with_row_index("n", offset=1)
        .with_columns(lat=pl.col("n").hash() % 90, lon=pl.col("n").hash(1) % 90)
    )
    late_first = late_first.with_columns(
        pl.when(pl.col("n") == 700 + row).then(999).otherwise(column).alias(column)
    )
    late_first.drop("n").write_csv(log)
    message = refused("prepare", log, "--out", tmp_path / "out")
    assert message.startswith(f"{log}: column '{column}' holds degrees outside")
    assert f"(row {700 + row});" in message


@pytest.mark.parametrize(
    ("rows", "words"), [([7, 3, None], " (rows 3, 7)"), ([None, None, 2], ""), (None, "")]
)
def test_rows_are_told_as_far_as_they_are_known(rows: list | None, words: str) -> None:
    """An id that its table lacks has no row there."""
    column = pl.Series("x", ["a", "b", None])
    numbers = None if rows is None else pl.Series(rows, dtype=pl.Int64)
    with pytest.raises(InputError) as refused, in_table("shops.csv", numbers):
        refuse_values(column, column.is_not_null(), "holds text", "correct it")
    assert str(refused.value) == f"shops.csv: column 'x' holds text{words}; correct it."


def test_times_in_the_future_are_counted(say: Callable[..., Said], tmp_path: Path) -> None:
    csv([T + row for row in range(19)] + [3_900_000_000] * 6)(tmp_path / "log.csv")
    said = say("prepare", tmp_path / "log.csv", "--json --out", tmp_path / "out")
    assert said.status == 0
    rows = "rows 20, 21, 22, 23, 24 ... (6 in all)"
    assert f"warning: log.csv: column 'timestamp': times in the future ({rows});" in said.err


def test_a_refused_log_leaves_no_salt(refused: Callable[..., str], tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(f"user_id,item_id,timestamp\n1,1,{T}\n2,1,{T}\n")
    words = ("--anonymise --anonymise.salt", tmp_path / "salt", "--out", tmp_path / "out")
    assert "nobody has two events" in refused("prepare", log, *words)
    assert list(tmp_path.iterdir()) == [log]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--users u01 -k 16", "the catalogue has 15 items"),
        ("--users u01 --at soon", "'soon' is no time"),
        ("--users u01 --allow i99", "'i99'"),
        ("--users u01 --where colour=1", "genre"),
        ("--users u01 --at 1999-01-01", "the log begins only"),
    ],
)
def test_bad_questions(words: str, expected: str, refused: Callable[..., str], run: Path) -> None:
    assert expected in refused("recommend", run, words)


def test_list_longer_than_the_catalogue(refused: Callable[..., str], run: Path) -> None:
    assert "the log has 15 items" in refused("evaluate -k 5 16", run)


def without(part: str) -> Callable[[dict[str, Any]], Any]:
    return lambda config: {name: value for name, value in config.items() if name != part}


def unknown(part: str) -> Callable[[dict[str, Any]], Any]:
    return lambda config: {**config, part: {**config[part], "novelty": 1}}


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "list": lambda config: [],
    "format alone": lambda config: {"format": config["format"]},
    "no reference": without("reference"),
    "no numbers of items": lambda config: {**config, "spec": {}},
    "other columns": lambda config: {**config, "spec": {**config["spec"], "item_columns": {"a": 1}}},
    **{f"unknown in {part}": unknown(part) for part in ("spec", "model", "train", "reference")},
}


def damage(run: Path, how: str) -> None:
    config = run / "config.json"
    if how == "format":
        config.write_text(json.dumps({**json.loads(config.read_text()), "format": 99}))
    elif how in EDITS:
        config.write_text(json.dumps(EDITS[how](json.loads(config.read_text()))))
    elif how == "json":
        config.write_text(config.read_text()[:100])
    elif how == "unfinished":
        shutil.rmtree(run / "checkpoints")
    elif how == "no run":
        config.unlink()
    elif how == "array":
        os.truncate(run / "histories" / "item.npy", 100)
    else:
        for path in (run / "checkpoints").glob("*/average/**/*"):
            if path.is_file():
                path.write_bytes(b"")


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("format", "format 99"),
        ("json", "config.json: damaged"),
        ("list", "config.json: damaged (it holds no JSON object)"),
        ("format alone", "config.json: damaged (data, spec, model, train, half_lives, reference missing"),
        ("no reference", "config.json: damaged (reference missing"),
        ("no numbers of items", "config.json: spec lacks adaptive, behaviours"),
        ("other columns", "spec.item_columns has the unknown a; it was written by jaxdecay"),
        *(
            (f"unknown in {part}", f"config.json: {part} has the unknown novelty; it was written by jaxdecay")
            for part in ("spec", "model", "train", "reference")
        ),
        ("unfinished", "no checkpoint yet"),
        ("no run", "config.json is missing"),
        ("array", "item.npy: damaged"),
        ("checkpoint", "checkpoints: checkpoint"),
    ],
)
def test_damaged_runs(
    how: str, expected: str, refused: Callable[..., str], run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(
        run, tmp_path / "run", ignore=shutil.ignore_patterns("without-decay", "metrics*.json")
    )
    damage(copy, how)
    assert expected in refused("recommend", copy, "--users u01 --at 2024-02-01T00:00:00Z")
    assert expected in refused("evaluate", copy, "--no-ablation")
    assert not list(copy.glob("metrics*"))


def test_nothing_is_overwritten(refused: Callable[..., str], run: Path, tmp_path: Path) -> None:
    log, prepared = tmp_path / "events.parquet", run / "histories"
    tiny_events().write_parquet(log)
    assert "--overwrite" in refused("prepare", log, "--out", prepared)
    assert "learning_rate (0.003 there, 0.1 asked)" in refused(
        "train", prepared, "--features 4 --modes 2 --learning-rate 0.1 --out", run
    )
    assert "is a file, not a directory; give another --out" in refused("train", prepared, "--out", log)
    assert f"jaxdecay prepare {log} --out DIR" in refused("train", log, "--out", tmp_path / "run")
    assert "is a file, no run" in refused("evaluate", log)
    assert "is no run" in refused("train", prepared, "--out", prepared)
    assert "no such directory" in refused("train", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert list(tmp_path.iterdir()) == [log]


def test_full_disk_while_writing_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: Any) -> None:
        path.with_name(path.name + ".partial").write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_json", full)
    with pytest.raises(
        InputError, match=r"metrics.json: cannot be written \(No space left on device\); free some space"
    ):
        assess.write(tmp_path, Protocol(), Report({}, [], []))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("frobnicate", "there is no command"),
        ("train", "missing from jaxdecay train: DIR --out PATH; see jaxdecay train --help"),
        ("train x --out y --epoch 3", "unrecognized options: --epoch, 3; perhaps --epochs; see"),
        ("train x --out y --epochs three", "--epochs: invalid literal"),
        ("prepare x --out y --split never", "'never'"),
        ("prepare x --out y --split.test 2", "--split.test 2.0: give a share"),
        ("evaluate x --max-requests 0", "--max-requests 0: give at least 1"),
    ],
)
def test_usage(words: str, expected: str, refused: Callable[..., str]) -> None:
    assert expected in refused(*words.split())


def test_interruption_and_missing_packages(say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxdecay.commands.machine import Doctor

    def interrupt(self: Doctor) -> None:
        raise KeyboardInterrupt

    def lack(self: Doctor) -> None:
        raise ModuleNotFoundError("No module named 'grain'", name="grain")

    monkeypatch.setattr(Doctor, "perform", interrupt)
    assert say("doctor") == (130, "", "jaxdecay doctor: interrupted; nothing half-written is left\n")
    monkeypatch.setattr(Doctor, "perform", lack)
    assert say("doctor").err.startswith("jaxdecay doctor: the package grain is missing; pip install")
