"""What training costs per event as histories grow: simulated users of equal length, one epoch timed for each.

    python scripts/studies/lengths.py --json lengths.json
    python scripts/studies/lengths.py --json base.json --model.preset base

All lengths have as many events and items; their epochs take turns, so that a machine that changes its pace
changes it for all. An epoch is every batch with its optimiser step, gathering included; compiling and reading
are outside. Written to --json: a row per length with the median of events_per_second and its range.
"""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import polars as pl
import tyro

from jaxdecay.assembly import assemble
from jaxdecay.configure import configure
from jaxdecay.data.prepare import PrepareOptions, prepare
from jaxdecay.data.split import SplitOptions
from jaxdecay.model_options import ModelOptions
from jaxdecay.train import TrainOptions, init_params, init_state, make_train_step


@dataclasses.dataclass(frozen=True)
class Options:
    """Events per second of training, by the length of histories."""

    json: Path
    """Where the figures are written."""
    lengths: tuple[int, ...] = (64, 256, 1024, 4096)
    """Events of each user."""
    events: int = 65_536
    """Of all users of one length."""
    items: int = 2000
    turns: int = 3
    """Timed epochs of each length."""
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    train: TrainOptions = dataclasses.field(default_factory=TrainOptions)


class Epochs:
    """Training on users of one length, compiled and warm: each call trains an epoch more."""

    def __init__(self, length: int, options: Options) -> None:
        with tempfile.TemporaryDirectory() as folder:
            log = _log(length, options)
            split = PrepareOptions(split=SplitOptions(kind="leave-one-out"))
            histories = prepare(log, Path(folder) / "prepared", split)
            pieces = assemble(histories, configure(histories, options.model), options.model, options.train)
            self.constants, self.batches, self.events = (
                pieces.constants,
                pieces.batches,
                pieces.batches.targets,
            )
            self.step: Callable[..., Any] = make_train_step(
                pieces.model,
                pieces.optimizer,
                objective=options.train.objective,
                batch_targets=self.events / self.batches.per_epoch,
                targets=self.events,
                average_steps=options.train.average_epochs * self.batches.per_epoch,
            )

            def fresh(constants: Any) -> Any:
                return init_state(init_params(pieces.model, constants, options.train.seed), pieces.optimizer)

            self.state = jax.jit(fresh)(self.constants)
            source = grain.MapDataset.source(self.batches)
            read = grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
            self.stream = iter(source.to_iter_dataset(read))
            self()

    def __call__(self) -> float:
        """Its seconds, its last step waited for."""
        begin = time.perf_counter()
        for _ in range(self.batches.per_epoch):
            self.state, _ = self.step(self.state, next(self.stream), self.constants)
        jax.block_until_ready(self.state)
        return time.perf_counter() - begin


def _log(length: int, options: Options) -> pl.DataFrame:
    """Users of so many events over 100 days; items by Zipf's law."""
    random, users = np.random.default_rng(length), max(options.events // length, 1)
    chances = 1.0 / np.arange(1, options.items + 1)
    return pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), length),
            "item_id": random.choice(options.items, users * length, p=chances / chances.sum()),
            "timestamp": 1_600_000_000 + np.sort(random.integers(0, 8_640_000, (users, length))).reshape(-1),
        }
    )


def main(options: Options) -> None:
    """Measures, prints and writes."""
    epochs = {length: Epochs(length, options) for length in options.lengths}
    seconds: dict[int, list[float]] = {length: [] for length in options.lengths}
    for _ in range(options.turns):
        for length, epoch in epochs.items():
            seconds[length].append(epoch())
    rows = []
    for length, took in seconds.items():
        each = [epochs[length].events / one for one in took]
        rows.append(
            {
                "length": length,
                "events_per_second": statistics.median(each),
                "low": min(each),
                "high": max(each),
            }
        )
        print(f"{length:6d} events a user: {rows[-1]['events_per_second']:8.0f} events/s")
    told = {"model": dataclasses.asdict(options.model), "train": dataclasses.asdict(options.train)}
    options.json.write_text(json.dumps({"rows": rows, **told, "jax": jax.__version__}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
