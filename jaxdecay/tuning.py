"""A trained run and the language model that made its items' vectors, trained on together, end to end.

It begins with the run's best parameters and ends with a run like any other, whose histories hold the vectors
that the tuned model makes, so that everything that reads runs reads this one; and with the tuned model in a
folder of its own, by which `jaxdecay embed` makes vectors of items to come.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxdecay import checkpointing, loop, runs
from jaxdecay.assembly import Pieces, assemble, load_model, validation
from jaxdecay.assess import finished
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.frozen import TuneOptions, place_of, texts_of, titles_of
from jaxdecay.language import lora
from jaxdecay.language.load import LanguageModel, load
from jaxdecay.language.save import save
from jaxdecay.model_options import ModelOptions
from jaxdecay.optimizer import TEXT, optimizer
from jaxdecay.titles import Titles
from jaxdecay.train import TrainOptions

MODEL = "language-model"
"""Folder of the tuned language model in the run."""
_ROWS = 256  # titles that pass the frozen layers, or the others in an evaluation, at once


def tune(
    run: str | Path,
    model: str | Path,
    out: str | Path,
    options: TuneOptions = TuneOptions(),  # noqa: B008 (frozen)
    *,
    report: loop.Report = lambda line: None,
) -> Path:
    """Trains on from a run, its language model along with it, into the new run ``out``.

    The training itself lies in ``out`` with ``.tuning`` behind it, until it has ended; the same call goes on
    with one that was interrupted. Raises InputError when the run has no vectors of that column, or the model
    is not one that could have made them.
    """
    run, out = Path(run), Path(out)
    begun = out.with_name(out.name + ".tuning")
    if out.exists():
        raise InputError(f"{out}: is there already; give another --out")
    histories = Histories.load(run / "histories", verify=True)
    module, params, config = load_model(run)
    language = load(Path(model), max_length=options.max_length)
    place = place_of(histories, module.spec, options.column, language)
    texts = texts_of(run, histories, options.column)
    report({"doing": f"{len(texts)} texts through the layers that stay as they are"})
    train = _train_options(TrainOptions(**config["train"]), options)
    titles, trained = titles_of(language, texts, place, options, train.seed)
    asked = ModelOptions.from_json(config["model"])
    pieces = assemble(histories, module.spec, asked, train)
    known = module.spec.items
    pieces = pieces._replace(
        constants=pieces.constants.replace(
            titles=titles.replace(below=titles.below[:known], mask=titles.mask[:known])
        ),
        optimizer=optimizer(
            train.learning_rate,
            train.decay_learning_rate,
            weight_decay=train.weight_decay,
            freeze_paces=asked.half_lives in ("fixed", "initial"),
            text_learning_rate=options.text_learning_rate,
        ),
    )
    whole = _Whole(pieces, titles)

    def score(params: Any) -> tuple[float, float]:
        return validation(whole.pieces(params), train)(_own(params))

    start = jax.tree.map(jnp.asarray, {**params, TEXT: trained})
    told = {
        **{name: config[name] for name in ("data", "spec", "model", "half_lives", "reference")},
        "train": dataclasses.asdict(train),
        "tuned": {"model": language.fingerprint, **dataclasses.asdict(options)},
    }
    if (begun / "config.json").exists() and runs.read_config(begun).get("tuned") != told["tuned"]:
        raise InputError(
            f"{begun}: was begun with another language model or other options; remove it, or give another"
            " --out"
        )
    runs.create(begun, run / "histories", told)
    loop.train(
        begun, module, pieces.optimizer, pieces.batches, pieces.constants, score, train,
        start=start, report=report,
    )  # fmt: skip
    if not finished(begun):  # the loop saved and left at a signal
        raise KeyboardInterrupt
    step = checkpointing.best_step(begun)
    best = checkpointing.load_average(begun, step, start)
    report({"doing": "writing the run and its language model"})
    told["before"] = {"run": str(run), "ndcg@10": validation(pieces, train)(params)[0]}
    _write(begun, out, told, whole, best, step, language, Path(model), options)
    return out


def _train_options(of_run: TrainOptions, options: TuneOptions) -> TrainOptions:
    """Those of the run, but for what tuning has of its own."""
    return dataclasses.replace(
        of_run,
        loss="sampled-softmax",
        settle_epochs=0,
        learning_rate=options.learning_rate,
        decay_learning_rate=options.decay_learning_rate,
        epochs=options.epochs,
        patience=options.patience,
        batch_targets=options.batch_targets,
        negatives=options.negatives,
    )


class _Whole:
    """All titles, those of items that came after training among them, for evaluation and for the end."""

    def __init__(self, pieces: Pieces, titles: Titles) -> None:
        self._pieces, self._titles = pieces, titles
        self._vectors = jax.jit(lambda titles, trained, rows: titles.vectors(trained, rows))

    def numeric(self, params: Any) -> np.ndarray:
        """(V, Fn) the items' numeric columns, with the vectors that the tuned model makes."""
        titles, numeric = self._titles, np.array(self._pieces.histories.item_numeric)
        there = np.flatnonzero(np.asarray(titles.mask).any(1))
        for start in range(0, len(there), _ROWS):
            rows = there[start : start + _ROWS]
            padded = np.append(rows, np.repeat(rows[-1:], _ROWS - len(rows)))
            found = np.asarray(self._vectors(titles, params[TEXT], padded))[: len(rows)]
            numeric[rows, titles.column : titles.column + found.shape[1]] = found
        return numeric

    def vectors(self, params: Any) -> list[list[float] | None]:
        """Those of all items, None for one without a text."""
        begin, there = self._titles.column, np.asarray(self._titles.mask).any(1)
        found = self.numeric(params)[:, begin : begin + self._titles.config.width]
        return [vector.tolist() if known else None for vector, known in zip(found, there, strict=True)]

    def histories(self, params: Any) -> Histories:
        return self._pieces.histories.replace(item_numeric=self.numeric(params))

    def pieces(self, params: Any) -> Pieces:
        return self._pieces._replace(histories=self.histories(params))

    def language(self, params: Any, language: LanguageModel) -> Any:
        """The tuned model's parameters."""
        trained, titles = params[TEXT], self._titles
        if titles.alpha:
            return lora.merge(language.params, jax.device_get(trained), alpha=titles.alpha)
        return language.params | jax.device_get(trained)


def _own(params: Any) -> Any:
    return {name: part for name, part in params.items() if name != TEXT}


def _write(
    begun: Path,
    out: Path,
    told: dict[str, Any],
    whole: _Whole,
    best: Any,
    step: int,
    language: LanguageModel,
    model: Path,
    options: TuneOptions,
) -> None:
    """The run, whole or not at all."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    prepared = begun / "prepared"
    whole.histories(best).save(prepared, overwrite=True)
    for table in (begun / "histories").glob("*.parquet"):
        shutil.copy(table, prepared)
    _renew(prepared / "items.parquet", f"{options.column}_vector", whole, best)
    fingerprint = Histories.load(prepared).config["fingerprint"]
    runs.create(partial, prepared, told | {"data": {**told["data"], "fingerprint": fingerprint}})
    shutil.copy(begun / "history.jsonl", partial)
    score = next(line["ndcg@10"] for line in runs.HistoryLog.lines(begun) if line["step"] == step)
    with checkpointing.checkpointer(partial) as checkpoints:
        checkpoints.save_checkpointables_async(step, {"average": _own(best)}, metrics={"ndcg@10": score})
        checkpoints.wait()
    tuned = dataclasses.replace(
        language, config=dataclasses.replace(language.config, max_length=options.max_length)
    )
    save(tuned, whole.language(best, language), model, partial / MODEL)
    partial.rename(out)
    shutil.rmtree(begun, ignore_errors=True)


def _renew(path: Path, column: str, whole: _Whole, best: Any) -> None:
    """The vectors in the table of items, so that new ones join those of the same model."""
    frame = pl.read_parquet(path)
    if column in frame.columns:
        vectors = pl.Series(column, whole.vectors(best), dtype=pl.List(pl.Float32))
        frame.with_columns(vectors.cast(frame.schema[column])).write_parquet(path)
