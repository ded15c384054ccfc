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
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest
from lines import Said
from tiny import ITEMS, START, tiny_events, tiny_items, tiny_users
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import asked, assess, runs
from jaxdecay.cli import COMMANDS, main
from jaxdecay.commands import Command, training, use
from jaxdecay.data.prepare import prepare
from jaxdecay.predict import Context
from jaxdecay.progress import Progress
from jaxdecay.recommend import load

SMALL = "--features 4 --modes 2 --periods 1d --epochs 1 --settle-epochs 0 --batch-targets 256 --window 16"
SYSTEMS = [
    "popularity", "windowed popularity", "decayed popularity", "most recent", "own counts",
    "decayed own counts", "item neighbours", "matrix factorisation", "without decay", "jaxdecay",
]  # fmt: skip


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


def test_prepare_tells_which_columns_are_no_input(
    say: Callable[..., Said], log: Path, tmp_path: Path
) -> None:
    items = tiny_items().with_columns(
        title=pl.format("a song, {}", pl.col("item_id")),
        sku="item_id",
        side=pl.lit(None),
        image=pl.int_ranges(pl.int_range(pl.len()), pl.int_range(pl.len()) + 20),
        hidden=pl.col("price"),
    )
    items.write_parquet(tmp_path / "items.parquet")
    tiny_users().write_parquet(tmp_path / "users.parquet")
    line = "--user-features.encodings country category --user-features.max-categories 1"
    line += " --item-features.encodings hidden ignore"
    tables = ("--items", tmp_path / "items.parquet", "--users", tmp_path / "users.parquet")
    said = say("prepare", log, line, *tables, "--out", tmp_path / "out")
    told = dict(one.split(": ", 1) for one in said.out.splitlines() if ": " in one)
    assert told["title"] == "text, no input by itself; jaxdecay embed makes vectors of it"
    assert told["sku"] == f"no input ({ITEMS} values in {ITEMS} rows: an identifier)"
    assert told["side"] == "no input (no value in the training part)"
    assert told["image"].startswith(f"{ITEMS} rows keep only their first 16 values (lists of whole numbers")
    assert "--item-features.encodings image vector" in told["image"]
    assert told["country"] == "1 rarer categories count as unknown; --user-features.max-categories keeps more"
    assert not {"genre", "price", "hidden"} & set(told)  # an input; left out as asked for
    said = say("prepare", log, "--json --items", tmp_path / "items.parquet", "--out", tmp_path / "json")
    columns = {one["column"]: one for one in said.json["columns"]["item"]}
    assert set(columns) == set(items.columns) - {"item_id"}
    assert (columns["title"]["encoding"], columns["sku"]["encoding"]) == ("text", "ignore")


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
    assert said.status == 130
    assert not said.json["finished"]
    assert said.json["steps"] == 1
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
    older = runs.read_config(run / "without-decay")  # as if from before there was some option
    del older["train"]["evidence_half_life"], older["model"]["adaptive"]
    runs.write_json(run / "without-decay" / "config.json", older)
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


def test_recommend_in_a_context(say: Callable[..., Said], refused: Callable[..., str], run: Path) -> None:
    ask = ("recommend", run, "--users u01 --at 2024-02-01T00:00:00Z -k 15 --json")
    phone, tv = (say(*ask, f"--context device={device}").json for device in ("phone", "tv"))
    moment = "2024-02-01T00:00:00Z"
    assert phone == load(run).recommend(["u01"], 15, moment, context={"device": "phone"}).to_dicts()
    assert [row["score"] for row in phone] != [row["score"] for row in tv]
    assert refused(*ask, "--context phone") == "--context 'phone': give NAME=VALUE, such as device=phone"
    assert "device is given twice" in refused(*ask, "--context device=tv device=phone")
    assert "context column 'place'" in refused(*ask, "--context device=tv place=home")


def test_numbers_of_a_context_are_numbers(tmp_path: Path) -> None:
    events = tiny_events()
    warm = pl.Series("warm", np.random.default_rng(0).normal(size=len(events)))
    hour = pl.Series("hour", np.arange(len(events)) % 24)
    histories = prepare(events.with_columns(warm, hour), tmp_path / "out")
    typed, meant, missing = (
        asked.context_of(histories, given)[0]
        for given in (use.named(("warm=-3.5", "hour=7")), {"warm": -3.5, "hour": 7}, {})
    )
    assert use.named(("at=[0.5, 2]", "place=[odd")) == {"at": [0.5, 2], "place": "[odd"}
    for name in Context._fields:
        assert np.array_equal(getattr(typed, name), getattr(meant, name))
        assert not np.array_equal(getattr(typed, name), getattr(missing, name))


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
    message = refused("similar", run, "--items i99")
    assert message.endswith("say --on-unknown skip")


def test_users_that_are_no_integers_may_be_skipped(
    say: Callable[..., Said], run: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(run, tmp_path / "run")
    table = pl.read_parquet(own / "histories" / "users.parquet")
    table.with_columns(user_id="index").write_parquet(own / "histories" / "users.parquet")
    said = say("recommend", own, "--users 1 abc --on-unknown skip -k 1 --at 2024-02-01T00:00:00Z --json")
    assert [row["user_id"] for row in said.json] == [1]
    assert said.err == "note: user 'abc': never seen, skipped\n"


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
    new.write_text("user_id,item_id,timestamp,behaviour\nu01,i03,2024-01-25T10:00:00,view\n")
    told = say("update", own, new).err
    assert "note: times without a zone are taken as UTC\n" in told
    assert "warning: the new events lack device" in told


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


def test_simulate_help_names_the_unit_of_every_time(say: Callable[..., Said]) -> None:
    said = " ".join(say("simulate --help").out.replace("│", " ").split())
    for words in ("envelope in days", "Planted period in days", "in this many days after its birth"):
        assert words in said


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


def test_a_command_must_be_performed_and_shown() -> None:
    class Mute(Command):
        def perform(self) -> int:
            return 1

    with pytest.raises(TypeError, match="show"):
        Mute()  # type: ignore[abstract]


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
