"""From a prepared log to a trained run: what `jd.fit`, the command line and the studies call."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from jaxdecay import loop, runs
from jaxdecay.assembly import assemble, validation
from jaxdecay.configure import ModelOptions, configure
from jaxdecay.crossvalidate import choose_half_life
from jaxdecay.data.batches import Reference
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.train import TrainOptions


def train_run(
    prepared: str | Path,
    out: str | Path,
    *,
    model: ModelOptions | None = None,
    train: TrainOptions | None = None,
    report: loop.Report = lambda line: None,
) -> Path:
    """Trains on a prepared directory into a run directory, resuming what is there; returns the run
    directory."""
    asked, train, out = model or ModelOptions(), train or TrainOptions(), Path(out)
    if jax.process_count() > 1:
        raise InputError("training runs in one process; several hosts are not supported")
    histories = Histories.load(prepared, verify=True)
    data = {"fingerprint": histories.config["fingerprint"], "split": histories.config["split"]}
    runs.refuse_occupied(out, Path(prepared))  # before hours of cross-validation
    model, how = _half_lives(histories, out, data, asked, train, report)
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
    runs.create(out, Path(prepared), config)  # only now: what the above refuses leaves nothing behind
    loop.train(
        out,
        pieces.model,
        pieces.optimizer,
        pieces.batches,
        pieces.constants,
        score,
        train,
        report=report,
    )
    return out


def _half_lives(
    histories: Histories,
    out: Path,
    data: dict[str, Any],
    asked: ModelOptions,
    train: TrainOptions,
    report: loop.Report,
) -> tuple[ModelOptions, dict[str, Any]]:
    """The model options with cross-validation done (or found done in the run to go on with), and how
    half-lives come about."""
    if asked.half_lives != "cross-validated":
        return asked, {"how": asked.half_lives}
    if asked.half_life_prior:
        raise InputError("half_life_prior: half_lives='cross-validated' learns none; leave one of them out")
    wanted = json.loads(json.dumps([data, dataclasses.asdict(asked), dataclasses.asdict(train)]))
    there = runs.read_config(out) if (out / "config.json").exists() else {}
    how = there.get("half_lives", {})
    if [there.get("data"), how.get("asked"), there.get("train")] != wanted:
        found = choose_half_life(histories, asked, train, kept=out / runs.FOLDS, report=report)
        how = {"how": "cross-validated", **found, "asked": dataclasses.asdict(asked)}
    return dataclasses.replace(asked, half_lives="fixed", half_life=(how["chosen"],)), how
