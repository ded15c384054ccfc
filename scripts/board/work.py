"""One trial in a process of its own: trains (or goes on training), then scores the test requests.

    python -m board.work JOB.json

Wall time and peak memory are those of training alone: both are taken before anything is scored. A run that is
killed goes on from its last checkpoint, and its seconds from those at that checkpoint; loading and compiling
again are counted again.
"""

import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from board.logs import Board, hand_over
from board.stored import save
from board.trials import CUT, Trial
from jaxdecay import runs

UNFINISHED = 75
"""Exit status of a training that saved and left at a signal."""


def peak_mib() -> float:
    """Most memory this process has held, in MiB."""
    try:  # getrusage also counts what the parent held when it forked
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    scale = 1 if sys.platform != "darwin" else 1024
    kib = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    return round(kib / 1024, 1)


def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Curve:
    """``curve.jsonl``: seconds of training and validation NDCG@10 at each evaluation, over all sessions."""

    def __init__(self, trial: Trial) -> None:
        from jaxdecay.checkpointing import latest_step

        self.path = trial.folder / "curve.jsonl"
        reached = latest_step(trial.folder / "run")
        self.lines = [line for line in self._read() if line["step"] <= reached]
        self.before = self.lines[-1]["seconds"] if self.lines else 0.0
        self.began = time.perf_counter()
        self.path.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:  # cut short by a crash
                break
        return found

    @property
    def seconds(self) -> float:
        return round(self.before + time.perf_counter() - self.began, 2)

    def add(self, line: dict[str, Any]) -> None:
        self.lines.append({**line, "seconds": self.seconds, "peak_mib": peak_mib()})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")


def train_model(trial: Trial) -> dict[str, Any]:
    """Trains a model to its end; exits with `UNFINISHED` after a signal."""
    import jax

    from jaxdecay.assembly import load_model
    from jaxdecay.assess import finished
    from jaxdecay.checkpointing import best_step, latest_step
    from jaxdecay.fitting import train_run
    from jaxdecay.model_options import ModelOptions
    from jaxdecay.train import TrainOptions

    run, curve = trial.folder / "run", Curve(trial)

    def report(line: dict[str, Any]) -> None:
        if "ndcg@10" in line:
            curve.add({name: line[name] for name in ("step", "epoch", "loss", "ndcg@10")})
            print(f"epoch {line['epoch']:g}: validation NDCG@10 {line['ndcg@10']:.4f}", flush=True)

    train = TrainOptions(**trial.configuration["train"], seed=trial.seed)
    model = ModelOptions.from_json(trial.configuration["model"])
    train_run(trial.board.prepared, run, model=model, train=train, report=report)
    if not finished(run):
        curve.add({"step": latest_step(run)})
        sys.exit(UNFINISHED)
    seconds, best = curve.seconds, best_step(run)
    peak = max(peak_mib(), *(line.get("peak_mib", 0.0) for line in curve.lines))  # of all sessions
    evaluated = [line for line in curve.lines if "ndcg@10" in line]
    histories = trial.board.histories
    targets = int(((histories.part == 0) & histories.chosen).sum())
    return {
        "seconds": seconds,
        "peak_mib": peak,
        "validation": next(line["ndcg@10"] for line in evaluated if line["step"] == best),
        "epochs": evaluated[-1]["epoch"],
        "events_per_second": round(targets * evaluated[-1]["epoch"] / seconds, 1),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(load_model(run)[1])),
        "curve": [[line["seconds"], line["ndcg@10"]] for line in evaluated],
        "versions": runs.versions(),
        "device": jax.devices()[0].device_kind,
        "cores": _cores(),
    }


def fit_baseline(trial: Trial) -> tuple[Any, dict[str, Any]]:
    """A baseline, and what fitting it cost."""
    from jaxdecay.baselines import fit_baselines

    histories, asked = trial.board.histories, trial.board.validation
    name, began = trial.configuration["baseline"], time.perf_counter()
    found = fit_baselines(histories, asked, seed=trial.seed, names=[name])
    seconds, peak = time.perf_counter() - began, peak_mib()
    if not found:
        print("none: this baseline needs a clock that all users share")
        return None, {"none": "needs a clock that all users share"}
    events = int((histories.part == 0).sum())
    system = found[0]
    return system, {
        "seconds": round(seconds, 2),
        "peak_mib": peak,
        "validation": None,
        "events_per_second": round(events / max(seconds, 1e-3), 1),
        "parameters": None,
        "curve": [],
        "versions": runs.versions(),
        "cores": _cores(),
        "settings": json.loads(json.dumps(system.settings, default=str)),
    }


def train_peer(trial: Trial, venv: str | None) -> dict[str, Any]:
    """Has the peer's own script train and rank, in its environment."""
    assert venv, "a peer without an environment"
    script = Path(__file__).parents[1] / "peers" / "rectools_rank.py"
    options = {k: v for k, v in trial.configuration["peer"].items() if k != "max_requests"}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--threads", str(_cores())]  # as many as XLA takes
    command = [sys.executable, script, "--parts", hand_over(trial.board), "--out", trial.folder / "run"]
    child = subprocess.Popen([*map(str, command), "--seed", str(trial.seed), "--venv", venv, *words])
    try:
        status = child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    if status in (-signal.SIGINT, -signal.SIGTERM):
        sys.exit(UNFINISHED)
    if status < 0:
        sys.exit(_fail(f"the peer's process was killed by signal {-status}"))
    if status:
        sys.exit(status)
    found = json.loads((trial.folder / "run" / "peer.json").read_text(encoding="utf-8"))
    return {**found, "cores": _cores()}


def system_of(trial: Trial) -> Any:
    """The trained system of a trial, ready to score."""
    kind = trial.configuration["kind"]
    if kind == "baseline":
        return fit_baseline(trial)[0]
    if kind == "model":
        from jaxdecay.assembly import load_predictor

        return load_predictor(trial.folder / "run", histories=trial.board.histories)
    from jaxdecay.listed import read_listed

    path = trial.folder / "run" / "lists.parquet" if kind == "peer" else trial.configuration["file"]
    asked, histories = trial.board.test, trial.board.histories
    return read_listed(path, trial.board.prepared, asked, name="listed", histories=histories)


def perform(trial: Trial, *, scored: bool, venv: str | None) -> None:
    """Does what of a trial is not yet in the cache."""
    system, kind = None, trial.configuration["kind"]
    if trial.trained() is None:
        if kind == "model":
            found = train_model(trial)
        elif kind == "baseline":
            system, found = fit_baseline(trial)
        elif kind == "peer":
            found = train_peer(trial, venv)
        else:
            system = system_of(trial)
            found = {"validation": None, "curve": [], "versions": {}, "settings": system.settings}
        runs.write_json(trial.folder / "trained.json", {**found, "seed": trial.seed})
    if scored and not trial.outcomes.is_file() and "none" not in (trial.trained() or {}):
        _score(trial, system or system_of(trial))


def _score(trial: Trial, system: Any) -> None:
    from jaxdecay.evaluate import rules, score

    found, table = score([system], rules(trial.board.histories), trial.board.test, CUT)
    save(trial.outcomes, {when: outcome for (_, when), outcome in found.items()}, table)


def main() -> None:
    """Reads a job and does it; an InputError is one line and exit status 2, a signal `UNFINISHED`."""
    from jaxdecay.errors import InputError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or a peer's process would be left behind
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    board = Board(told["log"], told["protocol"], Path(told["board"]), told["max_requests"])
    trial = Trial(board, told["configuration"], told["seed"], Path(told["folder"]))
    try:
        perform(trial, scored=told["scored"], venv=told["venv"])
    except KeyboardInterrupt:
        sys.exit(UNFINISHED)
    except InputError as error:
        sys.exit(_fail(str(error)))


def _fail(text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    return 2


if __name__ == "__main__":
    main()
