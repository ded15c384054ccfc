"""The run directory: all that a trained model is, readable without the script that trained it, and without
pickle.

``config.json`` (every option, the spec, versions, the data's fingerprint), ``histories/`` (the prepared
log, ids included), ``checkpoints/`` (Orbax), ``history.jsonl`` (a line per evaluation), ``metrics.json``
(the table of `jaxdecay evaluate`).
"""

import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jaxdecay.errors import InputError

FORMAT = 1
_PACKAGES = ("jaxdecay", "jax", "flax", "optax", "orbax-checkpoint", "numpy", "grain")


def versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def refuse_occupied(run: Path, prepared: Path) -> None:
    """Raises InputError when ``run`` is a directory of something else than a run."""
    if (run / "config.json").exists():
        return
    begun = {"histories", "histories.partial", "config.json.partial"}  # left by a run killed while it began
    inside = run.resolve() in prepared.resolve().parents
    if run.exists() and (inside or {path.name for path in run.iterdir()} - begun):
        raise InputError(f"{run} is not empty and is no run; give another --out")


def create(run: Path, prepared: Path, config: dict[str, Any]) -> None:
    """Begins a run, or finds that it is the one begun before: the same options on the same data.

    Raises InputError when ``run`` holds something else.
    """
    config = {"format": FORMAT, "versions": versions(), **config}
    if (run / "config.json").exists():
        there = read_config(run)
        differing = [
            name
            for name in ("spec", "model", "train", "data")
            if there.get(name) != json.loads(json.dumps(config[name]))
        ]
        if differing:
            raise InputError(
                f"{run} is a run with other {' and '.join(differing)};"
                " give another --out, or the options it began with"
            )
        return
    refuse_occupied(run, prepared)
    copy = run / "histories.partial"
    for unfinished in (copy, run / "histories"):
        shutil.rmtree(unfinished, ignore_errors=True)
    try:
        run.mkdir(parents=True, exist_ok=True)
        shutil.copytree(prepared, copy)
        copy.rename(run / "histories")
        write_json(run / "config.json", config)
    except OSError as error:
        shutil.rmtree(run, ignore_errors=True)
        reason = error.strerror or "the prepared log could not be copied into it"
        raise InputError(
            f"{run}: cannot be written ({reason}); nothing is left of it: "
            "free some space or give another --out"
        ) from error


def read_config(run: Path) -> dict[str, Any]:
    """``config.json`` of a run; InputError if it is no run, damaged, or of a format this version cannot
    read."""
    path = run / "config.json"
    if not run.exists():
        raise InputError(f"{run}: there is no such run; train one with jaxdecay train DIR --out {run}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{run}: no run directory (config.json is missing); give the --out of jaxdecay train"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); train again into another directory") from None
    if config.get("format") != FORMAT:
        wrote = config.get("versions", {}).get("jaxdecay", "?")
        raise InputError(
            f"{path}: format {config.get('format')!r}, this version reads format {FORMAT};"
            f" train again, or use jaxdecay {wrote}"
        )
    return config


def checkpointer(run: Path) -> ocp.training.Checkpointer:
    """Checkpoints of a run: the last three, and the best by validation beside them."""
    keep: Any = ocp.training.preservation_policies
    saves: Any = ocp.training.save_decision_policies
    return ocp.training.Checkpointer(
        str((run / "checkpoints").absolute()),
        save_decision_policy=saves.FixedIntervalPolicy(1),
        preservation_policy=keep.AnyPreservationPolicy(
            [
                keep.LatestN(3),
                keep.BestN(
                    get_metric_fn=_worth,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        ),
        cleanup_tmp_directories=True,
    )


def _worth(metrics: dict[str, float]) -> float:
    """What checkpoints are ranked by: validation NDCG@10, and settled ones before all others."""
    return metrics["ndcg@10"] + metrics.get("settled", 0.0)


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
    """The averaged parameters of a checkpoint, on this machine's default device whatever trained them.

    ``abstract``: their shapes and dtypes, as `jaxdecay.model.abstract_params` gives them.
    """
    path = run / "checkpoints"
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def here(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=device)

    try:
        with ocp.training.Checkpointer(str(path.absolute())) as checkpoints:
            wanted = {"average": jax.tree.map(here, abstract)}
            return checkpoints.load_checkpointables(step, abstract_checkpointables=wanted)["average"]
    except Exception as error:
        raise InputError(
            f"{path}: checkpoint {step} cannot be read ({type(error).__name__});"
            " delete it to use the next best, or train again"
        ) from error


class HistoryLog:
    """``history.jsonl``: a line per evaluation, none doubled however often a run is resumed."""

    def __init__(self, run: Path, *, resumed_at: int) -> None:
        self.path = run / "history.jsonl"
        kept = [line for line in self.lines(run) if line["step"] <= resumed_at]
        write = "".join(json.dumps(line) + "\n" for line in kept)
        partial = self.path.with_name("history.jsonl.partial")
        partial.write_text(write, encoding="utf-8")
        os.replace(partial, self.path)

    def add(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def lines(run: Path) -> list[dict[str, Any]]:
        """The complete lines; one cut short by a crash is left out."""
        path = run / "history.jsonl"
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return found
