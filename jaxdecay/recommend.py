"""A run in use: train one or load one, then ask it. Frames in, frames out, in the ids of the log.

run = jd.fit(events, out="runs/first")
run.recommend(users=["u1", "u2"], k=10, at="2026-11-22T18:00:00Z")
run.update(todays_events)
"""

import tempfile
from pathlib import Path
from typing import Any

from jaxdecay.assess import finished
from jaxdecay.data.prepare import PrepareOptions
from jaxdecay.data.prepare import prepare as prepare_log
from jaxdecay.distributed import MeshOptions
from jaxdecay.errors import InputError
from jaxdecay.fitting import train_run
from jaxdecay.loop import Report
from jaxdecay.model_options import ModelOptions
from jaxdecay.train import TrainOptions
from jaxdecay.trained import Run

__all__ = ["Run", "fit", "load"]


def fit(
    events: Any,
    out: str | Path,
    *,
    prepare: PrepareOptions | None = None,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    mesh: MeshOptions | None = None,
    items: Any = None,
    users: Any = None,
    report: Report = lambda line: None,
) -> Run:
    """Trains on a log and returns the run in the directory ``out``; the same call again goes on where it was
    stopped.

    Args:
        events: a path, a frame, or a directory that ``jaxdecay prepare`` has written.
        mesh: the devices to train on (default: all accelerators).
        items, users: tables of item and user columns (paths or frames).
        report: called with a dictionary after every step and every evaluation.

    The ``notes`` of the run say what was taken for granted in reading the log, and what it was warned of.

    Raises InputError for everything that preparing and training refuse; then there is nothing new at ``out``.
    """
    out = Path(out)
    if isinstance(events, (str, Path)) and Path(events).is_dir():
        if any(given is not None for given in (prepare, items, users)):
            raise InputError(
                f"{events}: is prepared already; leave out prepare, items and users, or give the log itself"
            )
        return _trained(events, out, model, train, mesh, report)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another out") from error
    with scratch as directory:
        prepare_log(events, Path(directory) / "prepared", prepare, items=items, users=users)
        return _trained(Path(directory) / "prepared", out, model, train, mesh, report)


def _trained(
    prepared: str | Path,
    out: Path,
    model: ModelOptions | None,
    train: TrainOptions | None,
    mesh: MeshOptions | None,
    report: Report,
) -> Run:
    """The finished run; a signal saves what has been trained and interrupts."""
    path = train_run(prepared, out, model=model, train=train, mesh=mesh, report=report)
    if not finished(path):
        raise KeyboardInterrupt
    run = Run(path)
    told = run.histories.config["report"]
    run.notes = (*(told.get("read") or {}).get("assumed", ()), *told.get("warnings", ()))
    return run


def load(path: str | Path) -> Run:
    """The run in a directory. Raises InputError when there is none, or it is damaged or from an incompatible
    version."""
    return Run(path)
