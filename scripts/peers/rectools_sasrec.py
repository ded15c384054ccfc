"""Times one epoch of RecTools' SASRec on a log, in a virtual environment of its own.

    python scripts/peers/rectools_sasrec.py --log events.parquet --json rectools.json

RecTools needs numpy < 2 and PyTorch, so it never shares an environment with this library. The environment
(Python 3.11 or 3.12, about 1.4 GB) is made on the first call, in the folder `--venv`, and used again later.

The last two events of each user are held out, as leave-one-out does; the model sees the rest, which are the
`train_events` of the result. One epoch counts from the first batch to the last optimiser step: reading the
log and building the model are outside. A throw-away model trains for `--warm-batches` batches first, so that
thread pools and allocators are warm. `seconds_per_epoch` is the median over `--epochs`.

The loss is the sampled softmax over 256 negatives unless another is asked for: cheaper than the full softmax
at every padded position, which RecTools starts from, and dearer than `--loss BCE --negatives 1`. Other tasks
on the same cores slow PyTorch several times over: measure on an idle machine.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

TORCH = "torch==2.13.0"
PACKAGES = ("rectools[torch]==0.19.0", "numpy<2", "pyarrow==19.0.1")
STAMP, BEGUN = "rectools-installed", "rectools-begun"


def parse_arguments() -> argparse.Namespace:
    """The command line; a model setting that is left out keeps the default shown, or RecTools' own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--log", type=Path, required=True, help="Parquet file with user_id, item_id, timestamp")
    add("--json", type=Path, help="where the figures are written (default: standard output)")
    add("--venv", type=Path, default=Path(".venv-rectools"), help="environment of the peer")
    add("--python", default=sys.executable, help="Python 3.11 or 3.12 that makes the environment")
    add("--threads", type=int, default=2)
    add("--epochs", type=int, default=1, help="epochs that are timed")
    add("--warm-batches", type=int, default=5)
    add("--limit-batches", type=int, help="time only so many batches, and scale up to the epoch")
    add("--seed", type=int, default=0)
    add("--factors", type=int, default=64, help="width of the embeddings (here 64)")
    add("--blocks", type=int, default=2, help="transformer blocks (here 2)")
    add("--heads", type=int, default=4, help="attention heads (here 4)")
    add("--length", type=int, default=50, help="longest history (here 50)")
    add("--batch", type=int, default=128, help="users in a batch (here 128)")
    add("--loss", default="sampled_softmax", help="sampled_softmax, softmax, BCE or gBCE")
    add("--negatives", type=int, default=256, help="negatives for all but softmax (here 256)")
    return parser.parse_args()


def run_in_own_environment(folder: Path, python: str) -> None:
    """Makes the environment if need be and replaces this process by the same command inside it."""
    executable = folder / "bin" / "python"
    if Path(sys.prefix).resolve() == folder.resolve():
        sys.exit(
            f"{folder} has no RecTools although it was installed there: delete the folder and run this again"
        )
    if not (folder / STAMP).exists():
        if folder.exists() and any(folder.iterdir()) and not (folder / BEGUN).exists():
            sys.exit(f"{folder} was not made by this script: give --venv a folder of its own")
        print(f"making {folder} for RecTools (about two minutes)", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / BEGUN).touch()
        if python == sys.executable:
            venv.create(folder, with_pip=True)
        else:
            subprocess.run([python, "-m", "venv", folder], check=True)
        install = [executable, "-m", "pip", "install", "-qq", "--prefer-binary"]
        subprocess.run([*install, TORCH], check=True)
        subprocess.run([*install, *PACKAGES], check=True)
        (folder / STAMP).touch()
    os.execv(executable, [str(executable), *sys.argv])


def training_part(log: Path) -> Any:
    """The log as RecTools wants it, without the last two events of each user (ties stay in file order)."""
    import pandas as pd

    frame = pd.read_parquet(log, columns=["user_id", "item_id", "timestamp"])
    frame = frame.sort_values(["user_id", "timestamp"], kind="stable")
    frame = frame[frame.groupby("user_id").cumcount(ascending=False) >= 2]
    frame = frame.assign(datetime=pd.to_datetime(frame["timestamp"], unit="s"), weight=1.0)
    return frame.drop(columns="timestamp").reset_index(drop=True)


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The model settings under RecTools' names."""
    return {
        "n_factors": arguments.factors,
        "n_blocks": arguments.blocks,
        "n_heads": arguments.heads,
        "session_max_len": arguments.length,
        "batch_size": arguments.batch,
        "loss": arguments.loss,
        "n_negatives": arguments.negatives,
    }


def time_epochs(dataset: Any, options: dict[str, Any], *, epochs: int, batches: int | None) -> dict[str, Any]:
    """Trains a fresh model and returns the seconds of each epoch and its number of batches."""
    from pytorch_lightning import Callback, Trainer
    from rectools.models import SASRecModel

    seconds: list[float] = []

    class Clock(Callback):
        """Notes when an epoch's first batch begins and its last step is done."""

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.begin = time.perf_counter()

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            seconds.append(time.perf_counter() - self.begin)

    def trainer() -> Trainer:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=epochs,
            limit_train_batches=batches,
            enable_checkpointing=False,
            callbacks=[Clock()],
            **quiet,
        )

    model = SASRecModel(get_trainer_func=trainer, **options)
    model.fit(dataset)
    return {"seconds": seconds, "batches_per_epoch": len(model.data_preparator.get_dataloader_train())}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run, under plain names."""
    import logging
    import warnings
    from importlib.metadata import version

    import torch
    from pytorch_lightning import seed_everything
    from rectools.dataset import Dataset

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")  # the peer's own remarks on its data loader
    torch.set_num_threads(arguments.threads)
    seed_everything(arguments.seed, verbose=False)
    frame = training_part(arguments.log)
    dataset = Dataset.construct(frame)
    options = settings(arguments)
    time_epochs(dataset, options, epochs=1, batches=arguments.warm_batches)
    result = time_epochs(dataset, options, epochs=arguments.epochs, batches=arguments.limit_batches)
    epoch = statistics.median(result["seconds"])
    timed = min(arguments.limit_batches or result["batches_per_epoch"], result["batches_per_epoch"])
    epoch *= result["batches_per_epoch"] / timed
    return {
        "system": "RecTools SASRec",
        "log": arguments.log.parent.name + "/" + arguments.log.name,
        "seconds_per_epoch": epoch,
        "events_per_second": len(frame) / epoch,
        "train_events": len(frame),
        "users": int(frame["user_id"].nunique()),
        "items": int(frame["item_id"].nunique()),
        "threads": torch.get_num_threads(),
        "timed_batches": timed,
        "epochs_timed": result["seconds"],
        "batches_per_epoch": result["batches_per_epoch"],
        "settings": options,
        "versions": {name: version(name) for name in ("rectools", "torch", "pytorch-lightning", "numpy")}
        | {"python": sys.version.split()[0]},
    }


def main() -> None:
    """Runs the measurement, in the peer's environment."""
    arguments = parse_arguments()
    if importlib.util.find_spec("rectools") is None:
        run_in_own_environment(arguments.venv, arguments.python)
    text = json.dumps(measure(arguments), indent=2)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
