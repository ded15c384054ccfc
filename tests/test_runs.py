"""The run directory: begun once, found again, and never mistaken for anything else."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import pytest
import toys

from jaxdecay import runs
from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.spec import Spec
from jaxdecay.train import TrainOptions

SPEC = Spec(
    items=3, users=2, behaviours=1, features=2, similarity_half_lives=(1.0, float("inf")),
    revisit_half_lives=(), revisit_periods=(), popularity_half_lives=(), revisit=False, groups=0,
    group_column=0, per_item=False, per_user=False, per_behaviour=False, adaptive=False, calendar=False,
)  # fmt: skip
CONFIG = {
    "data": {"fingerprint": "0123456789"}, "spec": dataclasses.asdict(SPEC),
    "model": dataclasses.asdict(ModelOptions()), "train": dataclasses.asdict(TrainOptions()),
    "half_lives": {"how": "learned"}, "reference": {"origin": 0, "weight": 1.0},
}  # fmt: skip


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    toys.log().save(tmp_path / "prepared")
    return tmp_path / "prepared"


def test_a_run_begins_once_and_is_found_again(prepared: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "first"
    runs.create(run, prepared, CONFIG)
    assert (run / "histories" / "prepared.json").exists()
    before = (run / "config.json").read_bytes()
    runs.create(run, prepared, CONFIG)
    assert (run / "config.json").read_bytes() == before
    assert runs.read_config(run)["versions"]["jax"] == jax.__version__


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"fingerprint": "987654321"}}, "prepared log (01234567 there, 98765432 asked);"),
        ({"spec": {"items": 4}}, "items (3 there, 4 asked);"),
        ({"spec": {"items": 4}, "train": {"epochs": 5}}, "epochs (30 there, 5 asked);"),
        ({"model": {"periods": ()}}, "periods (1d 7d 1d±3h 7d±16h there, none asked);"),
        (
            {"model": {"heads": 8, "modes": 2}, "train": {"epochs": 5, "seed": 1, "window": 9}},
            "modes (8 there, 2 asked), heads (4 there, 8 asked), epochs (30 there, 5 asked) and 2 more;",
        ),
    ],
)
def test_other_options_are_refused_by_name(
    changes: dict[str, dict[str, Any]], words: str, prepared: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    runs.create(run, prepared, CONFIG)
    asked = {**CONFIG, **{part: {**CONFIG[part], **values} for part, values in changes.items()}}
    with pytest.raises(InputError) as caught:
        runs.create(run, prepared, asked)
    assert f"is a run with other options: {words} give another --out" in str(caught.value)


@pytest.mark.parametrize("line", ['{"a": 1}', "[]", "3"])
def test_a_line_of_the_history_that_is_no_evaluation_is_named(line: str, tmp_path: Path) -> None:
    names = ("step", "epoch", "loss", "ndcg@10", "settled", "kept")
    whole = json.dumps(dict.fromkeys(names, 1))
    history = tmp_path / "history.jsonl"
    history.write_text(f'{whole}\n{whole}\n{{"step": 3, "epo')
    assert len(runs.HistoryLog.lines(tmp_path)) == 2
    history.write_text(f"{whole}\n{line}\n")
    with pytest.raises(InputError, match=r"history\.jsonl: line 2 is no evaluation"):
        runs.HistoryLog.lines(tmp_path)


def test_a_log_prepared_inside_the_run_is_never_deleted(tmp_path: Path) -> None:
    prepared = tmp_path / "run" / "histories"
    prepared.parent.mkdir()
    toys.log().save(prepared)
    with pytest.raises(InputError, match="give another --out"):
        runs.create(tmp_path / "run", prepared, CONFIG)
    assert (prepared / "prepared.json").exists()


def test_a_directory_that_is_no_run_is_left_alone(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="not empty and is no run"):
        runs.create(tmp_path / "run", prepared, CONFIG)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("moment", ["copytree", "rename", "write_json"])
def test_a_run_killed_while_it_began_begins_again(
    moment: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing tidies up after a kill: the exception stands for it, and `create` handles none."""
    run = tmp_path / "run"

    def killed(*args: Any, **options: Any) -> None:
        if moment == "copytree":
            (run / "histories.partial").mkdir()
            (run / "histories.partial" / "item.npy").write_bytes(b"half")
        if moment == "write_json":
            (run / "config.json.partial").write_text('{"format"')
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        target = {"copytree": shutil, "rename": Path, "write_json": runs}[moment]
        patched.setattr(target, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            runs.create(run, prepared, CONFIG)
    runs.create(run, prepared, CONFIG)
    assert sorted(path.name for path in (run / "histories").iterdir()) == sorted(
        path.name for path in prepared.iterdir()
    )
    assert runs.read_config(run)["train"] == CONFIG["train"]


def test_what_is_no_run_or_a_damaged_or_foreign_one_is_said_in_a_line(tmp_path: Path) -> None:
    cases = {"nowhere": None, "empty": "", "damaged": '{"format": 1', "newer": '{"format": 99}'}
    for name, text in cases.items():
        if name != "nowhere":
            (tmp_path / name).mkdir()
        if text:
            (tmp_path / name / "config.json").write_text(text)
        words = {
            "nowhere": "no such run",
            "empty": "config.json is missing",
            "damaged": "damaged",
            "newer": "format 99",
        }
        with pytest.raises(InputError, match=words[name]) as caught:
            runs.read_config(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)
