"""Seconds per training epoch beside RecTools' SASRec: the same log, the same cores, one run.

    python scripts/benchmark_training.py --log events.parquet --json training.json

Both sides train on the log without the last two events of each user (leave-one-out), on the processor, held
to the same cores. Our epochs are timed before and after the peer's, so that a machine that changes its pace
shows: the median counts, and every epoch stands in the result. An epoch is every batch with its optimiser
step, gathering included; compiling and reading the log are outside (one epoch of ours and a few batches of
the peer's go first). Options after `--` go to scripts/peers/rectools_sasrec.py, which makes the peer's
environment on the first call:

    python scripts/benchmark_training.py --log events.parquet --json bce.json -- --loss BCE --negatives 1
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

PEER = Path(__file__).parent / "peers" / "rectools_sasrec.py"


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what stands after `--`, for the peer."""
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--log", type=Path, required=True, help="Parquet file with user_id, item_id, timestamp"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures (default: standard output)")
    parser.add_argument("--cores", type=int, default=2, help="cores that both sides share")
    parser.add_argument(
        "--epochs", type=int, default=3, help="our timed epochs, before and again after the peer's"
    )
    parser.add_argument(
        "--batch-targets",
        type=int,
        default=4096,
        help="targets in one of our batches (the peer's hold up to 128 users with 50 targets each)",
    )
    parser.add_argument("--venv", type=Path, default=Path(".venv-rectools"), help="environment of the peer")
    return parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]


class Ours:
    """Our side, compiled and warm: each call of `epoch` trains one epoch more and returns its seconds."""

    def __init__(self, log: Path, folder: Path, epochs: int, batch_targets: int) -> None:
        import grain
        import jax

        from jaxdecay.assembly import assemble
        from jaxdecay.configure import configure
        from jaxdecay.data.prepare import PrepareOptions, prepare
        from jaxdecay.data.split import SplitOptions
        from jaxdecay.model_options import ModelOptions
        from jaxdecay.train import TrainOptions, init_params, init_state, make_train_step

        histories = prepare(
            log, folder / "prepared", PrepareOptions(split=SplitOptions(kind="leave-one-out"))
        )
        self.model, self.train = ModelOptions(), TrainOptions(epochs=epochs, batch_targets=batch_targets)
        spec = configure(histories, self.model)
        pieces = assemble(histories, spec, self.model, self.train)
        self.events, self.batches = pieces.batches.targets, pieces.batches.per_epoch
        self.size = {"users": histories.known_users, "items": histories.known_items}
        self.constants = pieces.constants
        self.step: Callable[..., Any] = make_train_step(
            pieces.model,
            pieces.optimizer,
            batch_targets=self.events / self.batches,
            targets=self.events,
            average_steps=self.train.average_epochs * self.batches,
        )
        source = grain.MapDataset.source(pieces.batches)
        self.stream = iter(source.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)))

        def fresh(constants: Any) -> Any:
            return init_state(init_params(pieces.model, constants, self.train.seed), pieces.optimizer)

        self.state = jax.jit(fresh)(self.constants)

    def epoch(self) -> float:
        """Seconds of one more epoch, its last step waited for."""
        import jax

        begin = time.perf_counter()
        for _ in range(self.batches):
            self.state, _ = self.step(self.state, next(self.stream), self.constants)
        jax.block_until_ready(self.state)
        return time.perf_counter() - begin


def run_peer(log: Path, cores: int, environment: Path, options: list[str]) -> dict[str, Any]:
    """The peer's figures, measured in a process and an environment of its own on the cores we are held to."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "peer.json"
        ours = ["--log", str(log), "--json", str(out), "--threads", str(cores), "--venv", str(environment)]
        subprocess.run([sys.executable, str(PEER), *ours, *options], check=True)
        return json.loads(out.read_text())


def main() -> None:
    """Measures both sides and writes the figures."""
    arguments, peer_options = parse_arguments()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(arguments.log, Path(folder), 2 * arguments.epochs + 1, arguments.batch_targets)
        ours.epoch()
        before = [ours.epoch() for _ in range(arguments.epochs)]
        peer = run_peer(arguments.log, arguments.cores, arguments.venv, peer_options)
        after = [ours.epoch() for _ in range(arguments.epochs)]
    seconds = statistics.median(before + after)
    figures = {
        "rectools_epoch_seconds": peer["seconds_per_epoch"],
        "jaxdecay_epoch_seconds": seconds,
        "training_speedup": peer["seconds_per_epoch"] / seconds,
        "rectools_events_per_second": peer["events_per_second"],
        "jaxdecay_events_per_second": ours.events / seconds,
        "jaxdecay_epochs_before": before,
        "jaxdecay_epochs_after": after,
        "jaxdecay_train_events": ours.events,
        "jaxdecay_batches_per_epoch": ours.batches,
        "jaxdecay_batch_targets": arguments.batch_targets,
        "jaxdecay_settings": {"features": ours.model.size.features, "modes": ours.model.modes} | ours.size,
        "cores": arguments.cores,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("jax", "flax", "optax", "numpy")},
        "rectools": peer,
    }
    text = json.dumps(figures, indent=2)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
