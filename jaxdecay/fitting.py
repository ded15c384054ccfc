"""From a prepared log to a trained run: what `jd.fit`, the command line and the studies call."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from jaxdecay import distributed, loop, runs
from jaxdecay.assembly import assemble, validation
from jaxdecay.configure import configure
from jaxdecay.crossvalidate import choose_half_life
from jaxdecay.data.gather import Reference
from jaxdecay.data.histories import Histories
from jaxdecay.distributed import MeshOptions
from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.train import TrainOptions


def train_run(
    prepared: str | Path,
    out: str | Path,
    *,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    mesh: MeshOptions | None = None,
    report: loop.Report = lambda line: None,
) -> Path:
    """Trains on a prepared directory into a run directory, resuming what is there; returns the run
    directory.

    Several processes that `jaxdecay.distributed.initialise` has joined all call it alike, with ``out`` on a
    file system that they share.
    """
    asked, train, out = model or ModelOptions(), train or TrainOptions(), Path(out)
    devices = distributed.mesh_of(mesh or MeshOptions())
    histories = Histories.load(prepared, verify=True)
    data = {"fingerprint": histories.config["fingerprint"], "split": histories.config["split"]}
    # before hours of cross-validation
    distributed.by_first(lambda: runs.refuse_occupied(out, Path(prepared)))
    model, how = _half_lives(histories, out, data, asked, train, devices, report)
    spec = configure(histories, model)
    config = {
        "data": data,
        "spec": spec.to_json(),
        "model": dataclasses.asdict(model),
        "train": dataclasses.asdict(train),
        "half_lives": how,
        "reference": Reference.of(histories)._asdict(),
    }
    pieces = assemble(histories, spec, model, train)
    score = validation(pieces, train)
    # only now: what the above refuses leaves nothing behind
    distributed.by_first(lambda: runs.create(out, Path(prepared), config))
    loop.train(
        out,
        pieces.model,
        pieces.optimizer,
        pieces.batches,
        pieces.constants,
        score,
        train,
        mesh=devices,
        report=report,
    )
    return out


def _half_lives(
    histories: Histories,
    out: Path,
    data: dict[str, Any],
    asked: ModelOptions,
    train: TrainOptions,
    devices: Mesh,
    report: loop.Report,
) -> tuple[ModelOptions, dict[str, Any]]:
    """The model options with cross-validation done (or found done in the run to go on with), and how
    half-lives come about."""
    if asked.half_lives != "cross-validated":
        return asked, {"how": asked.half_lives}
    if asked.half_life_prior:
        raise InputError("half_life_prior: half_lives='cross-validated' learns none; leave one of them out")
    wanted = json.loads(json.dumps([data, dataclasses.asdict(asked)]))
    there = distributed.by_first(lambda: runs.read_config(out) if (out / "config.json").exists() else {})
    how = there.get("half_lives", {})
    if [there.get("data"), how.get("asked")] != wanted or TrainOptions(**there["train"]) != train:
        found = choose_half_life(histories, asked, train, kept=out / runs.FOLDS, mesh=devices, report=report)
        how = {"how": "cross-validated", **found, "asked": dataclasses.asdict(asked)}
    return dataclasses.replace(asked, half_lives="fixed", half_life=(how["chosen"],)), how
