"""Runs that are stopped, killed or run out of disk, and go on: the same bits, no line doubled, nothing half-written."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import runs
from jaxdecay.errors import InputError
from jaxdecay.train import State

OPTIONS = {"checkpoint_steps": 2}
STEPS = 24  # four epochs of six


def same_bits(one: Any, other: Any) -> bool:
    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def lines(run: Path) -> list[dict[str, Any]]:
    """The history but for the seconds, every line of it whole."""
    text = (run / "history.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text]


def steps(run: Path) -> list[int]:
    with runs.checkpointer(run) as checkpoints:
        return sorted(checkpoint.step for checkpoint in checkpoints.checkpoints)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State]:
    """A run that nobody disturbed."""
    run = tmp_path_factory.mktemp("whole")
    with jax.numpy_rank_promotion("allow"):
        return run, toys.train(run, **OPTIONS)


def agree(run: Path, state: State, whole: tuple[Path, State]) -> None:
    assert same_bits(state, whole[1])
    assert lines(run) == lines(whole[0])
    best = runs.best_step(run)
    assert best == runs.best_step(whole[0])
    assert same_bits(runs.load_average(run, best), runs.load_average(whole[0], best))


def at_step(step: int, do: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
    def report(line: dict[str, Any]) -> None:
        if line.get("steps") and line["step"] == step:
            do()

    return report


def test_an_undisturbed_run_has_a_line_an_epoch_and_all_its_steps(whole: tuple[Path, State]) -> None:
    run, state = whole
    assert int(state.step) == STEPS
    assert [line["step"] for line in lines(run)] == [6, 12, 18, 24]
    assert [line["epoch"] for line in lines(run)] == [1, 2, 3, 4]
    scores = [line["ndcg@10"] for line in lines(run)]
    assert len(set(scores)) == 4
    assert runs.best_step(run) == lines(run)[int(np.argmax(scores))]["step"]
    assert toys.how_far(runs.load_average(run, runs.best_step(run)))[0] == pytest.approx(max(scores), abs=1e-6)


@pytest.mark.parametrize(("number", "step"), [(signal.SIGTERM, 9), (signal.SIGINT, 12)])
def test_a_signal_saves_and_leaves_and_the_same_command_goes_on(
    number: int, step: int, whole: tuple[Path, State], tmp_path: Path
) -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    state = toys.train(tmp_path, report=at_step(step, lambda: os.kill(os.getpid(), number)), **OPTIONS)
    assert int(state.step) == step
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
    assert steps(tmp_path)[-1] == step
    assert [line["step"] for line in lines(tmp_path)] == [s for s in (6, 12, 18) if s <= step]
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


def test_stopping_three_times_changes_nothing(whole: tuple[Path, State], tmp_path: Path) -> None:
    for step in (1, 7, 20):
        toys.train(
            tmp_path, report=at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM)), **OPTIONS
        )
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        toys.train(tmp_path, report=at_step(3, twice), **OPTIONS)


def test_a_run_that_is_done_does_nothing_more(whole: tuple[Path, State]) -> None:
    reported: list[Any] = []
    state = toys.train(whole[0], report=reported.append, **OPTIONS)
    assert reported == []
    agree(whole[0], state, whole)


KILLED = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
import toys
from pathlib import Path

delay = float(sys.argv[3])

def die():
    time.sleep(delay)
    os.kill(os.getpid(), 9)

def report(line):
    if line.get("steps") and not waiting.is_alive():
        waiting.start()
    time.sleep(0.02)  # so that there is something to be killed in the midst of

waiting = threading.Thread(target=die, daemon=True)
toys.train(Path(sys.argv[2]), report=report, checkpoint_steps=2)
"""


def test_kill_9_at_any_moment_and_the_same_command_ends_in_the_same_bits(
    whole: tuple[Path, State], tmp_path: Path
) -> None:
    delays = np.random.default_rng().uniform(0.0, 0.6, 2)
    print("killed", delays, "seconds after the first step of each go")
    for delay in delays:
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), str(delay)]
        killed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


def test_a_line_written_before_a_kill_that_its_checkpoint_did_not_survive_is_written_once(
    whole: tuple[Path, State], tmp_path: Path
) -> None:
    toys.train(tmp_path, report=at_step(10, lambda: os.kill(os.getpid(), signal.SIGTERM)), **OPTIONS)
    history = tmp_path / "history.jsonl"
    written = history.read_text()
    ahead = json.dumps({"step": 12, "epoch": 2.0, "loss": 0.0, "ndcg@10": 0.0, "seconds": 0.0})
    history.write_text(written + ahead + '\n{"step": 18, "epo')
    (tmp_path / "checkpoints" / "12.orbax-checkpoint-tmp").mkdir()
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


def scripted(*scores: float, error: float = 0.0) -> Callable[[Any], tuple[float, float]]:
    left = list(scores)
    return lambda params: (left.pop(0), error)


def test_the_best_checkpoint_is_kept_beside_the_last_three(tmp_path: Path) -> None:
    seen: dict[int, Any] = {}
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6])

    def evaluate(params: Any) -> tuple[float, float]:
        seen[6 * (len(seen) + 1)] = jax.tree.map(np.array, params)
        return next(scores), 0.0

    toys.train(tmp_path, evaluate, epochs=7)
    assert steps(tmp_path) == [12, 30, 36, 42]
    assert runs.best_step(tmp_path) == 12
    assert same_bits(runs.load_average(tmp_path, 12), seen[12])


@pytest.mark.parametrize("score", [0.7, 0.3, 0.5])  # float32 lies below, above, and on them
def test_patience_ends_with_scores_that_do_not_rise(score: float, tmp_path: Path) -> None:
    state = toys.train(tmp_path, scripted(*[score] * 9), patience=2, epochs=9)
    assert [line["step"] for line in lines(tmp_path)] == [6, 12, 18]
    assert int(state.best_step) == 18  # of equals the latest
    assert runs.best_step(tmp_path) == 18
    assert int(toys.train(tmp_path, scripted(), patience=2, epochs=9).step) == 18


def test_equal_scores_that_have_grown_old_leave_one_to_serve(tmp_path: Path) -> None:
    state = toys.train(tmp_path, scripted(0.7, 0.7, 0.2, 0.2, 0.2, 0.2), epochs=6)
    best = runs.best_step(tmp_path)
    assert best in (6, 12)
    assert int(state.best_step) in steps(tmp_path)
    assert runs.load_average(tmp_path, best).keys() == state.params.keys()


def test_settling_starts_from_the_best_and_survives_a_stop(tmp_path: Path) -> None:
    options = {"patience": 2, "epochs": 9, "settle_epochs": 1, "checkpoint_steps": 2}
    scores = (0.2, 0.8, 0.5, 0.5)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    state = toys.train(whole, scripted(*scores, 0.79, error=0.05), **options)
    assert int(state.settling) == 24
    assert int(state.step) == 30
    assert [line["step"] for line in lines(whole)] == [6, 12, 18, 24, 30]
    best = runs.load_average(whole, 12)
    np.testing.assert_array_equal(state.params["similarity"]["embedding"], best["similarity"]["embedding"])
    assert not same_bits(state.params["revisit"]["decay"], best["revisit"]["decay"])
    assert runs.best_step(whole) == 30  # a little worse, within one standard error
    evaluate = scripted(*scores, 0.79, error=0.05)
    for step in (24, 27):
        toys.train(
            stopped, evaluate, report=at_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM)), **options
        )
    again = toys.train(stopped, evaluate, **options)
    assert same_bits(again, state)
    assert lines(stopped) == lines(whole)
    assert runs.best_step(stopped) == 30


def test_settling_that_harms_is_not_kept(tmp_path: Path) -> None:
    toys.train(
        tmp_path, scripted(0.2, 0.8, 0.5, 0.5, 0.7, error=0.05), patience=2, epochs=9, settle_epochs=1
    )
    assert runs.best_step(tmp_path) == 12


@pytest.fixture
def files_limited_to() -> Iterator[Callable[[int], None]]:
    """What a full disk is to a process: no file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_with_one_line_and_the_last_good_checkpoint_survives(
    whole: tuple[Path, State], tmp_path: Path, files_limited_to: Callable[[int], None]
) -> None:
    cache = jax.config.jax_compilation_cache_dir
    with pytest.raises(InputError, match="could not be saved") as caught:
        toys.train(tmp_path, report=at_step(9, lambda: files_limited_to(512)), **OPTIONS)
    files_limited_to(resource.RLIM_INFINITY)
    assert cache == jax.config.jax_compilation_cache_dir
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "checkpoints") in str(caught.value)
    assert steps(tmp_path)[-1] == 8
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


def test_a_disk_that_is_full_at_once_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(runs.ocp.training.Checkpointer, "save_checkpointables_async", fail)
    with pytest.raises(InputError, match="step 2 could not be saved .No space left on device") as caught:
        toys.train(tmp_path, **OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    whole: tuple[Path, State], tmp_path: Path
) -> None:
    toys.train(tmp_path, report=at_step(10, lambda: os.kill(os.getpid(), signal.SIGTERM)), **OPTIONS)
    latest = tmp_path / "checkpoints" / str(steps(tmp_path)[-1])
    for file in sorted(latest.rglob("*")):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="the latest checkpoint cannot be read") as caught:
        toys.train(tmp_path, **OPTIONS)
    assert "\n" not in str(caught.value)
    shutil.rmtree(latest)
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


CONFIG = {
    "data": {"fingerprint": "f"}, "spec": {"half_lives": (1.0, float("inf"))}, "model": {"features": 2},
    "train": {"seed": 0},
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


@pytest.mark.parametrize("name", ["data", "spec", "model", "train"])
def test_other_options_are_refused_by_name(name: str, prepared: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    runs.create(run, prepared, CONFIG)
    with pytest.raises(InputError, match=f"is a run with other {name};"):
        runs.create(run, prepared, {**CONFIG, name: {"other": 1}})


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
    assert runs.read_config(run)["train"] == {"seed": 0}


def test_what_is_no_run_or_a_damaged_or_foreign_one_is_said_in_a_line(tmp_path: Path) -> None:
    cases = {"nowhere": None, "empty": "", "damaged": '{"format": 1', "newer": '{"format": 99}'}
    for name, text in cases.items():
        if name != "nowhere":
            (tmp_path / name).mkdir()
        if text:
            (tmp_path / name / "config.json").write_text(text)
        words = {"nowhere": "no such run", "empty": "config.json is missing", "damaged": "damaged", "newer": "format 99"}
        with pytest.raises(InputError, match=words[name]) as caught:
            runs.read_config(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name in str(caught.value)


def test_a_run_without_checkpoints_has_no_best_and_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run jaxdecay train again to go on"):
        runs.best_step(tmp_path)
    toys.train(tmp_path, report=at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM)), **OPTIONS)
    with pytest.raises(InputError, match="no checkpoint has been evaluated yet"):
        runs.best_step(tmp_path)
    with pytest.raises(InputError, match="checkpoint 77 cannot be read"):
        runs.load_average(tmp_path, 77)
