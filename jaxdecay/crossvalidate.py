"""One half-life for all heads, chosen by validation NDCG@10 over rolling folds inside the training part."""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay import loop
from jaxdecay.assembly import assemble, validation
from jaxdecay.configure import ModelOptions, configure, spread
from jaxdecay.data.histories import Histories
from jaxdecay.data.split import rolling_folds
from jaxdecay.durations import days
from jaxdecay.errors import InputError
from jaxdecay.train import TrainOptions

_CANDIDATES = 5
_EPOCHS = 3


def choose_half_life(
    histories: Histories,
    model: ModelOptions,
    train: TrainOptions,
    *,
    report: Callable[[dict[str, Any]], None] = lambda line: None,
) -> dict[str, Any]:
    """The half-life with the best mean NDCG@10 (``chosen``, as a duration; ``days``), the ``candidates``, and
    ``ndcg@10`` of every candidate in every fold.

    Candidates are ``model.half_life`` if several are given, else five over the log's own ages. Each is kept
    fixed while everything else is trained on each fold for at most three epochs: as many trainings as
    candidates times folds. Folds are those of the split (``--split.folds``), each validating on events
    later than it trains on.
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
    for column, part in enumerate(folds):
        fold = histories.replace(part=part)
        for row, half_life in enumerate(candidates):
            report({"candidate": half_life, "fold": column + 1, "folds": len(folds)})
            fixed = dataclasses.replace(model, half_lives="fixed", half_life=(half_life,))
            scores[row, column] = _score(fold, fixed, short)
    means = scores.mean(axis=1)
    best = candidates[int(means.argmax())]
    return {"chosen": best, "days": days(best), "candidates": list(candidates), "ndcg@10": scores.tolist()}


def _score(fold: Histories, model: ModelOptions, train: TrainOptions) -> float:
    """Best validation NDCG@10 of one candidate on one fold."""
    pieces = assemble(fold, configure(fold, model), model, train)
    with tempfile.TemporaryDirectory() as folder:
        state = loop.train(
            Path(folder),
            pieces.model,
            pieces.optimizer,
            pieces.batches,
            pieces.constants,
            validation(pieces, train),
            train,
        )
    if int(state.stale) < train.patience and int(state.step) < train.epochs * pieces.batches.per_epoch:
        raise KeyboardInterrupt  # the loop left at a signal, which meant all of this
    return float(state.best)
