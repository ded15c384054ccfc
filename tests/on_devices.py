"""Trains on this process's share of the devices, for `test_distributed`: `on_devices.py FOLDER RUN ...`.

A run called `x-after-y` goes on from the first epoch of `y`, whoever trained that; `two` gets a signal
on the way and is begun again.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from jaxdecay import checkpointing, distributed
from jaxdecay.fitting import train_run
from jaxdecay.model_options import ModelOptions
from jaxdecay.progress import Progress
from jaxdecay.train import TrainOptions

MODEL = ModelOptions(
    features=4, modes=1, periods=(), satiation=False, popularity=False, calendar=False, per_user=False
)
TRAIN = TrainOptions(epochs=2, settle_epochs=1, batch_targets=128, window=16)


def train(folder: Path, run: str, signal_at: int = 0) -> int:
    """One run, and the last step that this process took of it; ``signal_at``: the step at which the last
    process is told to stop."""
    reached = 0
    devices = jax.device_count() if jax.process_count() == 1 else None
    mesh = distributed.MeshOptions(devices, model_parallel=2 if run.startswith("square") else 1)
    with Progress() as progress:

        def report(line: dict[str, Any]) -> None:
            nonlocal reached
            last, reached = jax.process_index() == jax.process_count() - 1, line["step"]
            if last and reached == signal_at and "steps" in line:
                os.kill(os.getpid(), signal.SIGTERM)
            progress(line)

        train_run(folder / "prepared", folder / run, model=MODEL, train=TRAIN, mesh=mesh, report=report)
    return reached


def go_on(folder: Path, run: str, source: str) -> None:
    """A copy of a finished run as it was after its first epoch."""
    deadline = time.monotonic() + 240
    while not (folder / f"{source}.done").exists():
        if time.monotonic() > deadline:
            sys.exit(f"{run}: nobody finishes {source}")
        time.sleep(0.1)
    shutil.copytree(folder / source, folder / run)
    steps = sorted(int(path.name) for path in (folder / run / "checkpoints").iterdir())
    for step in steps[1:]:
        shutil.rmtree(folder / run / "checkpoints" / str(step))


def main(folder: Path, runs: list[str]) -> None:
    distributed.initialise()
    for run in runs:
        _, after, source = run.partition("-after-")
        if after:
            distributed.by_first(lambda run=run, source=source: go_on(folder, run, source))
        if run == "two":
            stopped = {"signalled": 3, "reached": train(folder, run, signal_at=3)}
            stopped["saved"] = checkpointing.latest_step(folder / run)
            (folder / f"stopped-{jax.process_index()}.json").write_text(json.dumps(stopped))
            multihost_utils.sync_global_devices("both have looked")
        train(folder, run)
        if distributed.leading():
            (folder / f"{run}.done").touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
