"""The command line: the lines that people type, what they print, and what they are told when something is
wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import polars as pl
import pytest
from tiny import START, tiny_events, tiny_items, tiny_users
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import assess, runs
from jaxdecay.cli import COMMANDS, main
from jaxdecay.commands import training
from jaxdecay.errors import InputError
from jaxdecay.progress import Progress
from jaxdecay.protocol import Protocol
from jaxdecay.results import Report

SMALL = "--features 4 --modes 2 --epochs 1 --settle-epochs 0 --batch-targets 256 --window 16"
SYSTEMS = [
    "popularity", "windowed popularity", "decayed popularity", "most recent", "own counts",
    "decayed own counts", "item neighbours", "matrix factorisation", "without decay", "jaxdecay",
]  # fmt: skip


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """``say("prepare", path, "--out", out)``; words are split at blanks, paths are taken whole."""

    def call(*words: str | Path) -> Said:
        argv = [part for word in words for part in (word.split() if isinstance(word, str) else [str(word)])]
        capsys.readouterr()
        status = main(argv)
        return Said(status, *capsys.readouterr())

    return call


@pytest.fixture
def refused(say: Callable[..., Said]) -> Callable[..., str]:
    """The one line of a command that is refused; nothing may be on stdout."""

    def call(*words: str | Path) -> str:
        said = say(*words)
        assert (said.status, said.out, said.err.count("\n")) == (2, "", 1), said
        name, _, message = said.err.strip().partition(": ")
        assert name == f"jaxdecay {words[0].split()[0]}"  # type: ignore[union-attr]
        return message

    return call


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny log with its tables beside it."""
    folder = tmp_path_factory.mktemp("log")
    for name, frame in (("events", tiny_events()), ("items", tiny_items()), ("users", tiny_users())):
        frame.write_parquet(folder / f"{name}.parquet")
    return folder / "events.parquet"


@pytest.fixture(scope="module")
def prepared(log: Path) -> Path:
    assert main(["prepare", str(log), "--out", str(log.parent / "prepared")]) == 0
    return log.parent / "prepared"


@pytest.fixture(scope="module")
def run(prepared: Path) -> Path:
    """A run made by the command line; shared: copy it before changing it."""
    out = prepared.parent / "run"
    with jax.numpy_rank_promotion("allow"):
        assert main(["train", str(prepared), "--out", str(out), *SMALL.split()]) == 0
    return out


# The commands in their order


def test_prepare_tells_what_it_read_and_how_it_split(
    say: Callable[..., Said], log: Path, tmp_path: Path
) -> None:
    said = say("prepare", log, "--json --split leave-one-out --targets last --out", tmp_path / "out")
    assert said.status == 0
    assert said.json["split"]["kind"] == "leave-one-out"
    assert said.json["split"]["targets"] == "last"
    assert said.json["report"]["read"]["rows_read"] == len(tiny_events())
    assert "warning: leave-one-out leaks the future" in said.err
    config = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert config["options"]["split"]["kind"] == "leave-one-out"
    assert "next: jaxdecay train" in say("prepare", log, "--out", tmp_path / "other").out


def test_relative_clock_and_stated_units(say: Callable[..., Said], tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    tiny_events().with_columns((pl.col("timestamp") - START) * 1000).write_csv(log)
    said = say(
        "prepare", log, "--clock relative --unit ms --split per-user-time --json --out", tmp_path / "out"
    )
    assert said.json["report"]["read"]["clock"] == "relative"
    assert said.json["report"]["read"]["unit"] == "ms"


def test_anonymise_hashes_users_with_a_salt_outside(
    say: Callable[..., Said], refused: Callable[..., str], log: Path, tmp_path: Path
) -> None:
    assert say("prepare", log, "--anonymise --salt", tmp_path / "salt", "--out", tmp_path / "out").status == 0
    users = pl.read_parquet(tmp_path / "out" / "users.parquet")["user_id"]
    assert users.str.len_chars().unique().to_list() == [32]
    assert "u01" not in users
    assert "--anonymise.salt" in refused("prepare", log, "--anonymise --out", tmp_path / "none")


def test_train_stores_the_options_of_file_and_line(run: Path) -> None:
    config = runs.read_config(run)
    assert config["train"]["epochs"] == 1
    assert config["model"]["features"] == 4
    assert config["train"]["patience"] == 3


def test_the_same_train_again_has_nothing_to_do(say: Callable[..., Said], prepared: Path, run: Path) -> None:
    before = (run / "history.jsonl").read_text()
    said = say("train", prepared, "--json", SMALL, "--out", run)
    assert said.json["finished"]
    assert said.json["best"]["ndcg@10"] == json.loads(before.splitlines()[-1])["ndcg@10"]
    assert (run / "history.jsonl").read_text() == before


def test_training_saves_and_leaves_cleanly_when_told_to(
    say: Callable[..., Said], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminated(Progress):
        def __call__(self, line: dict[str, Any]) -> None:
            if line.get("step") == 1 and "steps" in line:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training, "Progress", Terminated)
    said = say("train", prepared, "--json", SMALL, "--out", tmp_path / "run")
    assert said.status == 0
    assert not said.json["finished"]
    assert "the same command goes on from there" in said.err
    monkeypatch.setattr(training, "Progress", Progress)
    said = say("train", prepared, "--json", SMALL, "--out", tmp_path / "run")
    assert said.json["finished"]


def test_evaluate_prints_one_object_and_keeps_it(
    say: Callable[..., Said], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = say("evaluate --json --bootstrap 20", run)
    assert said.status == 0
    assert said.json == json.loads((run / "metrics.json").read_text())
    assert said.json["split"] == said.json["protocol"]["split"] == "global-time"
    assert said.json["protocol"]["part"] == "test"
    assert said.json["protocol"]["history"] == "kept"
    assert "repeats" in said.json["protocol"]["history_why"]
    assert list(said.json["systems"]) == SYSTEMS
    for system in said.json["systems"].values():
        figure = system["metrics"]["ndcg@10"]
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert "ndcg@10" in said.json["systems"]["jaxdecay"]["withheld"]
    compared = {d["system"] for d in said.json["differences"] if d["reference"] == "jaxdecay"}
    assert compared >= set(SYSTEMS[:-1])

    # The same model without decay is a run of its own, trained once.
    assert runs.read_config(run / "without-decay")["model"]["half_lives"] == "none"
    monkeypatch.setattr(assess, "train_run", None)
    assert assess.without_decay(run) == run / "without-decay"

    table = say(
        "evaluate --bootstrap 20 -k 5 --exclude-history --no-ablation --max-requests 30 --part validation",
        run,
    )
    assert table.status == 0
    assert "30 of 80 requests, drawn with seed 0" in table.out
    assert "history removed (as asked" in table.out
    assert "ndcg@5" in table.out
    assert "without decay" not in table.out
    assert "without decay" not in json.loads((run / "metrics-validation.json").read_text())["systems"]


def test_recommend_prints_rows(say: Callable[..., Said], run: Path) -> None:
    said = say("recommend", run, "--users u01 u02 u03 --at 2024-02-01 -k 10 --json")
    assert said.status == 0
    assert [row["rank"] for row in said.json] == [*range(1, 11)] * 3
    assert {tuple(row) for row in said.json} == {("user_id", "item_id", "score", "rank")}
    assert "2024-02-01 has no zone and is taken as UTC" in said.err
    table = say("recommend", run, "--users u01 --at 2024-02-01T00:00:00Z -k 3")
    assert "user_id" in table.out.splitlines()[0]
    assert len(table.out.splitlines()) == 4
    assert table.err == ""


def test_recommend_filters(say: Callable[..., Said], run: Path) -> None:
    def items(*words: str) -> set[str]:
        said = say("recommend", run, "--users u01 --at 2024-02-01T00:00:00Z -k 15 --json", *words)
        assert said.status == 0, said.err
        return {row["item_id"] for row in said.json}

    assert items("--no-exclude-seen") == {f"i{item:02}" for item in range(15)}
    own = set(tiny_events().filter(pl.col("user_id") == "u01")["item_id"])
    assert items("--exclude-seen").isdisjoint(own)
    assert items("--allow i01 i02") == {"i01", "i02"}
    assert "i03" not in items("--deny i03")


def test_where_reads_like_sql(say: Callable[..., Said], run: Path, tmp_path: Path) -> None:
    config = tmp_path / "ask.toml"
    config.write_text(
        'where = "genre = \'jazz\' AND price > 3"\nusers = ["u01"]\nk = 15\nat = 2024-02-01T00:00:00Z\n'
    )
    said = say("recommend", run, "--json --config", config)
    assert {row["item_id"] for row in said.json} == {"i06", "i09", "i12"}
    assert len(say("recommend", run, "--json -k 1 --config", config).json) == 1


def test_unknown_users(say: Callable[..., Said], refused: Callable[..., str], run: Path) -> None:
    ask = ("recommend", run, "--users u01 nobody --at 2024-02-01T00:00:00Z -k 2 --json")
    message = refused(*ask)
    assert "'nobody'" in message
    assert "--on-unknown skip" in message
    assert {row["user_id"] for row in say(*ask, "--on-unknown skip").json} == {"u01"}
    said = say(*ask, "--on-unknown popular")
    assert {row["user_id"] for row in said.json} == {"u01", "nobody"}
    assert "'nobody'" in said.err


def test_all_users_go_to_a_file(say: Callable[..., Said], run: Path, tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    said = say("recommend --json -k 2 --at 2024-02-01T00:00:00Z --out", out, run)
    assert said.json == {"written": str(out)}
    assert pl.read_parquet(out).height == 80


def test_similar_and_half_lives(say: Callable[..., Said], run: Path) -> None:
    said = say("similar", run, "--items i01 i02 -k 3 --json")
    assert [row["rank"] for row in said.json] == [1, 2, 3, 1, 2, 3]
    assert "similar_id" in say("similar", run, "--items i01").out
    rows = say("half-lives --bootstrap 0 --json", run).json
    assert {"head", "group", "half_life_days", "low", "high", "events", "never"} <= rows[0].keys()
    assert "half-life" in say("half-lives --bootstrap 0", run).out


def test_update_adds_events_once(say: Callable[..., Said], run: Path, tmp_path: Path) -> None:
    own = shutil.copytree(run, tmp_path / "run")
    new = tmp_path / "new.csv"
    new.write_text(
        "user_id,item_id,timestamp,behaviour,device\nu01,i03,1706000000,view,tv\nnew,i03,1706000001,buy,tv\n"
    )
    said = say("update --json", own, new)
    assert (said.json["added"], said.json["new_users"]) == (2, 1)
    assert "added: 0" in say("update", own, new).out
    assert say("recommend", own, "--users new --at 2024-02-01T00:00:00Z").status == 0


def test_simulate_prepares(say: Callable[..., Said], refused: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "sim"
    said = say("simulate --users 20 --items 10 --days 30 --seed 3 --json --out", out)
    assert said.json["truth"]["seed"] == 3
    assert json.loads((out / "truth.json").read_text()) == said.json["truth"]
    assert "give another --out" in refused("simulate --users 20 --out", out)
    assert say("prepare", out / "events.parquet", "--out", tmp_path / "prepared").status == 0
    assert (
        "planted half-life" in say("simulate --users 20 --items 10 --days 30 --out", tmp_path / "again").out
    )


def test_datasets_show_terms_before_anything(
    say: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "ml-100k" in {row["name"] for row in say("datasets --json").json}
    said = say("datasets ml-100k --out", tmp_path / "out")
    assert said.status == 2
    assert "--accept-terms" in said.err
    assert not (tmp_path / "out").exists()


def test_doctor(say: Callable[..., Said]) -> None:
    assert say("doctor --json").json["healthy"]
    assert "cores:" in say("doctor").out


# Bad input: one line with what, where and what to do, exit status 2, nothing half-written


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
    "alone.csv": (text(f"user_id,item_id,timestamp\n1,1,{T}\n2,1,{T}\n"), ("nobody has two events", "check")),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_logs(name: str, refused: Callable[..., str], tmp_path: Path) -> None:
    write, words = BAD[name]
    write(tmp_path / name)
    message = refused("prepare", tmp_path / name, "--out", tmp_path / "out")
    assert all(word in message for word in words), message
    assert name in message or name == "alone.csv"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_times_in_the_future_are_counted(say: Callable[..., Said], tmp_path: Path) -> None:
    csv([T + row for row in range(19)] + [3_900_000_000])(tmp_path / "log.csv")
    said = say("prepare", tmp_path / "log.csv", "--json --out", tmp_path / "out")
    assert said.status == 0
    assert "warning: times in the future: 1" in said.err


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


def damage(run: Path, how: str) -> None:
    config = run / "config.json"
    if how == "format":
        config.write_text(json.dumps({**json.loads(config.read_text()), "format": 99}))
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


def test_nothing_is_overwritten(
    refused: Callable[..., str], log: Path, prepared: Path, run: Path, tmp_path: Path
) -> None:
    assert "--overwrite" in refused("prepare", log, "--out", prepared)
    assert "other train" in refused("train", prepared, SMALL, "--learning-rate 0.1 --out", run)
    assert "is no run" in refused("train", prepared, "--out", prepared)
    assert "no such directory" in refused("train", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


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


# The process


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_help_needs_no_library_and_preparing_needs_no_jax(log: Path, tmp_path: Path) -> None:
    done = python(
        "import sys; from jaxdecay.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    )
    assert not {"jax", "polars", "numpy", "tyro", "rich"} & set(done.stderr.split())
    assert all(name in done.stdout for name in COMMANDS)
    argv = ["prepare", str(log), "--out", str(tmp_path / "out")]
    done = python(f"import sys; from jaxdecay.cli import main; main({argv}); sys.exit('jax' in sys.modules)")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)


def test_every_command_has_help() -> None:
    done = python(
        f"from jaxdecay.cli import main\nfor name in {list(COMMANDS)}: assert main([name, '--help']) == 0"
    )
    assert done.returncode == 0, done.stderr
    assert all(f"usage: jaxdecay {name}" in done.stdout for name in COMMANDS)


def test_the_module_runs_and_a_broken_pipe_is_no_fault(log: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jaxdecay"]
    assert subprocess.run([*command, "--version"], capture_output=True, text=True).stdout.startswith(
        "jaxdecay "
    )
    begun = subprocess.Popen(
        [*command, "datasets"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert begun.stdout is not None
    begun.stdout.close()
    assert begun.stderr is not None
    assert (begun.stderr.read(), begun.wait()) == ("", 0)
    begun.stderr.close()
