"""Runs that are stopped, killed or out of disk, and go on: the same bits, no line twice."""

import functools
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
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import checkpointing, loop
from jaxdecay.errors import InputError
from jaxdecay.model import abstract_params
from jaxdecay.train import State

OPTIONS = {"checkpoint_steps": 2}
STEPS = 9  # three epochs of three


def same_bits(one: Any, other: Any) -> bool:
    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def lines(run: Path) -> list[dict[str, Any]]:
    """The history but for the seconds, every line of it whole."""
    text = (run / "history.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text]


def average(run: Path, step: int) -> Any:
    return checkpointing.load_average(run, step, abstract_params(toys.training()[0].model))


def steps(run: Path) -> list[int]:
    with checkpointing.checkpointer(run) as checkpoints:
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
    best = checkpointing.best_step(run)
    assert best == checkpointing.best_step(whole[0])
    assert same_bits(average(run, best), average(whole[0], best))


def at_step(step: int, do: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
    def report(line: dict[str, Any]) -> None:
        if line.get("steps") and line["step"] == step:
            do()

    return report


def test_an_undisturbed_run_has_a_line_an_epoch_and_all_its_steps(whole: tuple[Path, State]) -> None:
    run, state = whole
    assert int(state.step) == STEPS
    assert [line["step"] for line in lines(run)] == [3, 6, 9]
    assert [line["epoch"] for line in lines(run)] == [1, 2, 3]
    scores = [line["ndcg@10"] for line in lines(run)]
    assert len(set(scores)) == 3
    assert checkpointing.best_step(run) == lines(run)[int(np.argmax(scores))]["step"]
    assert toys.how_far(average(run, checkpointing.best_step(run)))[0] == pytest.approx(max(scores), abs=1e-6)


def test_every_compiled_shape_and_every_evaluation_gives_memory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(loop.memory, "trim", lambda: calls.append(1))
    toys.train(tmp_path, **OPTIONS)
    shapes = {batch.history.item.shape for batch in map(toys.training()[0].batches.__getitem__, range(3))}
    assert len(calls) == len(shapes) + 3


def test_a_signal_saves_and_leaves_and_the_same_command_goes_on(
    whole: tuple[Path, State], tmp_path: Path
) -> None:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for step, number in ((1, signal.SIGTERM), (5, signal.SIGTERM), (6, signal.SIGINT)):
        send = functools.partial(os.kill, os.getpid(), number)
        state = toys.train(tmp_path, report=at_step(step, send), **OPTIONS)
        assert int(state.step) == step
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
        assert steps(tmp_path)[-1] == step
        assert [line["step"] for line in lines(tmp_path)] == [s for s in (3, 6) if s <= step]
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


def test_negatives_are_drawn_again_as_they_were(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "loss": "bce", "negatives": 4}
    whole = toys.train(tmp_path / "whole", **options)
    stop = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
    toys.train(tmp_path / "stopped", report=at_step(1, stop), **options)
    again = toys.train(tmp_path / "stopped", **options)
    assert same_bits(again, whole)


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        toys.train(tmp_path, report=at_step(1, twice), **OPTIONS)


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
    time.sleep(0.05)  # so that there is something to be killed in the midst of

waiting = threading.Thread(target=die, daemon=True)
toys.train(Path(sys.argv[2]), report=report, checkpoint_steps=2)
"""


def test_kill_9_at_any_moment_and_the_same_command_ends_in_the_same_bits(
    whole: tuple[Path, State], tmp_path: Path
) -> None:
    delays = np.random.default_rng().uniform(0.0, 1.0, 2)
    print("killed", delays, "seconds after the first step of each go")
    for delay in delays:
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), str(delay)]
        killed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


def test_a_line_written_before_a_kill_that_its_checkpoint_did_not_survive_is_written_once(
    whole: tuple[Path, State], tmp_path: Path
) -> None:
    toys.train(tmp_path, report=at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM)), **OPTIONS)
    history = tmp_path / "history.jsonl"
    written = history.read_text()
    ahead = json.dumps({"step": 6, "epoch": 2.0, "loss": 0.0, "ndcg@10": 0.0})
    ahead = json.dumps({**json.loads(ahead), "settled": False, "kept": False, "seconds": 0.0})
    history.write_text(written + ahead + '\n{"step": 9, "epo')
    (tmp_path / "checkpoints" / "6.orbax-checkpoint-tmp").mkdir()
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)
    assert [line["step"] for line in lines(tmp_path)] == [3, 6, 9]


def scripted(*scores: float, error: float = 0.0) -> Callable[[Any], tuple[float, float]]:
    left = list(scores)
    return lambda params: (left.pop(0), error)


def test_the_best_checkpoint_is_kept_beside_the_last_three(tmp_path: Path) -> None:
    seen: dict[int, Any] = {}
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6])

    def evaluate(params: Any) -> tuple[float, float]:
        seen[3 * (len(seen) + 1)] = jax.tree.map(np.array, params)
        return next(scores), 0.0

    toys.train(tmp_path, evaluate, epochs=7)
    assert steps(tmp_path) == [6, 15, 18, 21]
    assert checkpointing.best_step(tmp_path) == 6
    assert same_bits(average(tmp_path, 6), seen[6])


@pytest.mark.parametrize("score", [0.7, 0.3])  # float32 lies below the one and above the other
def test_patience_ends_with_scores_that_do_not_rise(score: float, tmp_path: Path) -> None:
    state = toys.train(tmp_path, scripted(*[score] * 9), patience=2, epochs=9)
    assert [line["step"] for line in lines(tmp_path)] == [3, 6, 9]
    assert int(state.best_step) == 9  # of equals the latest
    assert checkpointing.best_step(tmp_path) == 9
    assert int(toys.train(tmp_path, scripted(), patience=2, epochs=9).step) == 9


def test_equal_scores_that_have_grown_old_leave_one_to_serve(tmp_path: Path) -> None:
    state = toys.train(tmp_path, scripted(0.7, 0.7, 0.2, 0.2, 0.2, 0.2), epochs=6)
    best = checkpointing.best_step(tmp_path)
    assert best in (3, 6)
    assert int(state.best_step) in steps(tmp_path)
    assert average(tmp_path, best).keys() == state.params.keys()


def test_settling_starts_from_the_best_and_survives_a_stop(tmp_path: Path) -> None:
    options = {"patience": 2, "epochs": 9, "settle_epochs": 1, "checkpoint_steps": 2}
    scores = (0.2, 0.8, 0.5, 0.5)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    seen: list[Any] = []
    script = scripted(*scores, 0.79, error=0.05)

    def evaluate(params: Any) -> tuple[float, float]:
        seen.append(jax.tree.map(np.array, params))
        return script(params)

    state = toys.train(whole, evaluate, **options)
    assert int(state.settling) == 12
    assert int(state.step) == 15
    assert [line["step"] for line in lines(whole)] == [3, 6, 9, 12, 15]
    best = seen[1]
    np.testing.assert_array_equal(state.params["similarity"]["embedding"], best["similarity"]["embedding"])
    assert not same_bits(state.params["revisit"]["decay"], best["revisit"]["decay"])
    assert checkpointing.best_step(whole) == 15  # a little worse, within one standard error
    assert 6 in steps(whole)  # the best before settling stays beside it
    evaluate = scripted(*scores, 0.79, error=0.05)
    stop = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
    toys.train(stopped, evaluate, report=at_step(14, stop), **options)
    again = toys.train(stopped, evaluate, **options)
    assert same_bits(again, state)
    assert lines(stopped) == lines(whole)
    assert checkpointing.best_step(stopped) == 15


def test_settling_follows_the_last_epoch_too(tmp_path: Path) -> None:
    state = toys.train(tmp_path, scripted(0.2, 0.5), epochs=1, settle_epochs=1)
    assert (int(state.settling), int(state.step)) == (3, 6)
    assert checkpointing.best_step(tmp_path) == 6


def test_settling_that_harms_is_not_kept(tmp_path: Path) -> None:
    toys.train(tmp_path, scripted(0.2, 0.8, 0.5, 0.5, 0.7, error=0.05), patience=2, epochs=9, settle_epochs=1)
    assert checkpointing.best_step(tmp_path) == 6


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import toys
from jaxdecay.errors import InputError
from pathlib import Path

def report(line):
    if line.get("steps") and line["step"] == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))  # no file may grow beyond so many bytes

try:
    toys.train(Path(sys.argv[2]), report=report, checkpoint_steps=2)
except InputError as error:
    print(error)
    sys.exit(2)
"""


# A background save that failed leaves what it could not finish to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_stops_with_one_line_and_the_last_good_checkpoint_survives(
    whole: tuple[Path, State], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(Path(__file__).parent), str(tmp_path)]
    full = subprocess.run(command, capture_output=True, text=True, check=False)
    assert full.returncode == 2, full.stderr
    assert full.stdout.count("\n") == 1
    assert f"{tmp_path / 'checkpoints'}: the last checkpoint could not be saved" in full.stdout
    assert steps(tmp_path)[-1] in (3, 4)  # that of step 4 may have been on its way
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


def test_a_disk_that_is_full_at_once_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpointing.ocp.training.Checkpointer, "save_checkpointables_async", fail)
    with pytest.raises(InputError, match=r"could not be saved \(No space left on device\)") as caught:
        toys.train(tmp_path, **OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    whole: tuple[Path, State], tmp_path: Path
) -> None:
    toys.train(tmp_path, report=at_step(5, lambda: os.kill(os.getpid(), signal.SIGTERM)), **OPTIONS)
    latest = tmp_path / "checkpoints" / str(steps(tmp_path)[-1])
    for file in sorted(latest.rglob("*")):
        if file.is_file() and file.stat().st_size > 200:
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="the latest checkpoint cannot be read") as caught:
        toys.train(tmp_path, **OPTIONS)
    assert "\n" not in str(caught.value)
    shutil.rmtree(latest)
    agree(tmp_path, toys.train(tmp_path, **OPTIONS), whole)


def test_a_run_without_checkpoints_has_no_best_and_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run jaxdecay train again to go on"):
        checkpointing.best_step(tmp_path)
    toys.train(tmp_path, report=at_step(2, lambda: os.kill(os.getpid(), signal.SIGTERM)), **OPTIONS)
    with pytest.raises(InputError, match="no checkpoint has been evaluated yet"):
        checkpointing.best_step(tmp_path)
    with pytest.raises(InputError, match="checkpoint 77 is damaged"):
        average(tmp_path, 77)
