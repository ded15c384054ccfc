"""One half-life for all heads, chosen by validation NDCG@10 over rolling folds inside the training part."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxdecay import distributed, loop
from jaxdecay.assembly import assemble, validation
from jaxdecay.configure import configure, spread
from jaxdecay.data.histories import Histories
from jaxdecay.data.split import rolling_folds
from jaxdecay.durations import days
from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.train import TrainOptions

_CANDIDATES = 5
_EPOCHS = 3


def choose_half_life(
    histories: Histories,
    model: ModelOptions,
    train: TrainOptions,
    *,
    kept: Path,
    mesh: Mesh | None = None,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> dict[str, Any]:
    """The half-life with the best mean NDCG@10 (``chosen``, as a duration; ``days``), the ``candidates``, and
    ``ndcg@10`` of every candidate in every fold.

    Candidates are ``model.half_life`` if several are given, else five over the log's own ages. Each is kept
    fixed while everything else is trained on each fold for at most three epochs: as many trainings as
    candidates times folds. Folds are those of the split (``--split.folds``), each validating on events
    later than it trains on.

    ``kept``: a file of JSON lines, one per finished training; those that are there already are not done
    again. ``mesh``: the devices to train on, as `jaxdecay.loop.train` takes them. Raises KeyboardInterrupt
    after SIGINT or SIGTERM.
    """
    candidates = model.half_life or tuple(f"{h:.4g}d" for h in spread(histories, _CANDIDATES))
    if not candidates:
        raise InputError(
            "half_lives='cross-validated': all events of every user are simultaneous,"
            " so there is nothing to choose from; use half_lives='none'"
        )
    short = dataclasses.replace(
        train, epochs=min(train.epochs, _EPOCHS), checkpoint_steps=None, settle_epochs=0
    )
    folds = rolling_folds(histories)
    scores = np.zeros((len(candidates), len(folds)))
    data = [histories.config.get(name) for name in ("fingerprint", "split")]
    asked = json.dumps([data, dataclasses.asdict(model), dataclasses.asdict(short)], sort_keys=True)
    asked = hashlib.sha256(asked.encode()).hexdigest()
    done = {
        (half_life, fold): score
        for half_life, fold, score in distributed.by_first(lambda: _read(kept, asked))
    }
    with loop.stopping() as asked_to_stop:
        for column, part in enumerate(folds):
            fold = histories.replace(part=part)
            for row, half_life in enumerate(candidates):
                place = (half_life, column + 1)
                if place not in done:
                    fixed = dataclasses.replace(model, half_lives="fixed", half_life=(half_life,))
                    done[place] = _score(fold, fixed, short, mesh, asked_to_stop)
                    line = {"half_life": half_life, "fold": column + 1, "ndcg@10": done[place]}
                    if distributed.leading():
                        with kept.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(line | {"asked": asked}) + "\n")
                    report(line | {"fold": f"{column + 1} of {len(folds)}"})
                scores[row, column] = done[place]
    means = scores.mean(axis=1)
    best = candidates[int(means.argmax())]
    return {"chosen": best, "days": days(best), "candidates": list(candidates), "ndcg@10": scores.tolist()}


def _read(kept: Path, asked: str) -> list[tuple[str, int, float]]:
    """Half-life, fold and score of what was found with the same data and options; a line cut short is left
    out, and ended, so that others may follow."""
    done = []
    for text in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            if line["asked"] == asked:
                done.append((line["half_life"], line["fold"], line["ndcg@10"]))
    kept.parent.mkdir(parents=True, exist_ok=True)
    if kept.exists() and not kept.read_text(encoding="utf-8").endswith("\n"):
        kept.write_text(kept.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    return done


def _score(
    fold: Histories,
    model: ModelOptions,
    train: TrainOptions,
    mesh: Mesh | None,
    asked_to_stop: Callable[[], bool],
) -> float:
    """Best validation NDCG@10 of one candidate on one fold; KeyboardInterrupt if it was cut short."""
    pieces = assemble(fold, configure(fold, model), model, train)
    folder = distributed.by_first(tempfile.mkdtemp)
    try:
        state = loop.train(
            Path(folder),
            pieces.model,
            pieces.optimizer,
            pieces.batches,
            pieces.constants,
            validation(pieces, train),
            train,
            mesh=mesh,
            asked_to_stop=asked_to_stop,
        )
    finally:
        if distributed.leading():
            shutil.rmtree(folder, ignore_errors=True)
    if distributed.any_process(asked_to_stop()):
        raise KeyboardInterrupt
    return float(state.best)
