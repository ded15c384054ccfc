"""Checkpoints of a run (Orbax): which are kept, which is the best, and the parameters of one.

One that was written on some devices and by some processes is read on and by any others: each array lies
where the reader wants it, item tables are given or lose the rows of zeros that `jaxdecay.layout` adds, and
the data position is that of all processes.
"""

import asyncio
import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jaxdecay.errors import InputError


def checkpointer(run: Path) -> ocp.training.Checkpointer:
    """Checkpoints of a run: the last three, and beside them the settled one and the best by validation before
    settling."""
    keep: Any = ocp.training.preservation_policies
    saves: Any = ocp.training.save_decision_policies
    return ocp.training.Checkpointer(
        str((run / "checkpoints").absolute()),
        save_decision_policy=saves.FixedIntervalPolicy(1),
        preservation_policy=keep.AnyPreservationPolicy(
            [
                keep.LatestN(3),
                *(
                    keep.BestN(get_metric_fn=worth, n=1, keep_checkpoints_without_metrics=False)
                    for worth in (_worth, _unsettled_worth)
                ),
            ]
        ),
        cleanup_tmp_directories=True,
    )


def any_rows() -> ocp.Context:
    """Within it, an array is read with as many rows as are asked for, of zeros where there are no more."""
    context = ocp.Context(ocp.Context())
    context.array_options.loading.enable_padding_and_truncation = True
    return context


class Position:
    """How far a Grain iterator has come, as part of a checkpoint.

    Batches are numbered alike in all processes, so that one file holds for any number of them, where Grain's
    own would be one for each. It has the name that Grain gives that of a single process.
    """

    _FILE = "process_0-of-1.json"

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def save(self, directory: Any) -> Awaitable[None]:
        """The position of now, written in the background."""
        return self._write(directory, json.dumps(self.stream.get_state(), indent=4))

    async def load(self, directory: Any) -> Awaitable[None]:
        """Moves the iterator to where it was."""
        return self._read(directory)

    async def _write(self, directory: Any, state: str) -> None:
        path = await directory.await_creation()
        if jax.process_index() == 0:
            await asyncio.to_thread((path / self._FILE).write_text, state)

    async def _read(self, directory: Any) -> None:
        self.stream.set_state(json.loads(await asyncio.to_thread((directory / self._FILE).read_text)))


def _worth(metrics: dict[str, float]) -> float:
    """What checkpoints are ranked by: validation NDCG@10, and settled ones before all others."""
    return metrics["ndcg@10"] + metrics.get("settled", 0.0)


def _unsettled_worth(metrics: dict[str, float]) -> float:
    return metrics["ndcg@10"] - metrics.get("settled", 0.0)


def latest_step(run: Path) -> int:
    """The step of the latest checkpoint that has been written to its end; 0 without any."""
    names = (path.name for path in (run / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=0)


def has_checkpoint(run: Path, step: int) -> bool:
    """Whether the checkpoint of a step has been written to its end: only then has it its name."""
    return (run / "checkpoints" / str(step)).is_dir()


def best_step(run: Path) -> int:
    """The step of the best checkpoint by validation NDCG@10, the later of equals; InputError if none has
    been evaluated."""
    path = run / "checkpoints"
    if not path.exists():
        raise InputError(f"{run}: no checkpoint yet; run jaxdecay train again to go on")
    try:
        with ocp.training.Checkpointer(str(path.absolute())) as checkpoints:
            scored = [(_worth(c.metrics), c.step) for c in checkpoints.checkpoints if c.metrics]
    except Exception as error:
        raise InputError(
            f"{path}: a checkpoint is damaged ({type(error).__name__});"
            " delete it to use another, or train again"
        ) from error
    if not scored:
        raise InputError(f"{run}: no checkpoint has been evaluated yet; run jaxdecay train again to go on")
    return max(scored)[1]


def load_average(run: Path, step: int, abstract: Any) -> Any:
    """The averaged parameters of a checkpoint, whatever trained them.

    ``abstract``: their shapes and dtypes, as `jaxdecay.model.abstract_params` gives them, for this machine's
    default device; or arrays, to lie as these do.
    """
    path = run / "checkpoints"
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def here(array: Any) -> jax.ShapeDtypeStruct:
        there = getattr(array, "sharding", None)
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=device if there is None else there)

    try:
        with ocp.training.Checkpointer(str(path.absolute())) as checkpoints:
            wanted = {"average": jax.tree.map(here, abstract)}
            with any_rows():
                return checkpoints.load_checkpointables(step, abstract_checkpointables=wanted)["average"]
    except Exception as error:
        raise InputError(
            f"{path}: checkpoint {step} is damaged ({type(error).__name__});"
            " delete it and run the same jaxdecay train again, which makes it anew"
        ) from error
