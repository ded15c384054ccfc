"""A trained run and the language model that made its items' vectors, trained on together.

It begins with the run's best parameters and ends with a run like any other, whose histories hold the vectors
that the tuned model makes, so that everything that reads runs reads this one; and with the tuned model in a
folder of its own, by which `jaxdecay embed` makes vectors of items to come. The gradient goes from the
ranking through the interest and the vectors into the upper layers of the language model.
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
from jaxdecay.data.batches import Batches
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.frozen import FineTuneOptions, place_of, refuse_other, some_of, texts_of, titles_of
from jaxdecay.language import lora
from jaxdecay.language.load import LanguageModel, load
from jaxdecay.language.save import save
from jaxdecay.model_options import ModelOptions
from jaxdecay.optimizer import TEXT
from jaxdecay.titles import Titles
from jaxdecay.train import TrainOptions

MODEL = "language-model"
"""Folder of the tuned language model in the run."""
_ROWS = 256  # titles that pass the trained layers at once in an evaluation


def fine_tune(
    run: str | Path,
    model: str | Path,
    out: str | Path,
    options: FineTuneOptions = FineTuneOptions(),  # noqa: B008 (frozen)
    *,
    report: loop.Report = lambda line: None,
) -> Path:
    """Trains on from a run, its language model along with it, into the new run ``out``.

    The training itself lies in ``out`` with ``.tuning`` behind it, until it has ended; the same call goes on
    with one that was interrupted. Raises InputError when the run has no vectors of that column, or they are
    not those that the model makes.
    """
    run, out = Path(run), Path(out)
    if out.exists() or not out.name:
        raise InputError(f"{out}: is there already; give another --out")
    begun = out.with_name(out.name + ".tuning")
    runs.refuse_occupied(begun, run / "histories")  # before the texts are read
    module, params, config = load_model(run)
    histories = Histories.load(run / "histories", verify=True)
    language = load(Path(model), pooling=options.pooling, max_length=options.max_length)
    if options.layers > language.config.body.layers:
        raise InputError(f"layers={options.layers}: the language model has {language.config.body.layers}")
    place = place_of(histories, module.spec, options.column, language)
    texts = texts_of(run, histories, options.column)
    train = _train_options(TrainOptions(**config["train"]), options)
    refuse_other(*titles_of(language, some_of(texts), place, options, train.seed), histories)
    report({"doing": f"{len(texts)} texts through the layers that stay as they are"})
    titles, trained = titles_of(language, texts, place, options, train.seed)
    pieces = assemble(
        histories,
        module.spec,
        ModelOptions.from_json(config["model"]),
        train,
        text_learning_rate=options.text_learning_rate,
    )
    in_training = titles.take(np.arange(module.spec.items))
    in_training = in_training.replace(most=_most(pieces.batches) + options.negatives)
    pieces = pieces._replace(
        constants=pieces.constants.replace(titles=jax.tree.map(jnp.asarray, in_training))
    )
    whole = _Whole(pieces, titles)

    def score(params: Any) -> tuple[float, float]:
        return validation(whole.pieces(params), train)(_own(params))

    start = jax.tree.map(jnp.asarray, {**params, TEXT: trained})
    told = {
        **{name: config[name] for name in ("data", "spec", "model", "half_lives", "reference")},
        "train": dataclasses.asdict(train),
        "tuned": {
            "run": [config["data"]["fingerprint"], checkpointing.best_step(run)],
            "language_model": language.fingerprint,
            **dataclasses.asdict(options),
        },
    }
    if (begun / "config.json").exists() and runs.read_config(begun).get("tuned") != told["tuned"]:
        raise InputError(
            f"{begun}: was begun with another run, another language model or other options; remove it, or"
            " give another --out"
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
    # The options that the run was trained with stand for what the model is, also without decay.
    told |= {"train": config["train"], "before": {"ndcg@10": validation(pieces, train)(params)[0]}}
    prepared = _prepared(begun, whole, best, options.column)
    told["data"] = {**told["data"], "fingerprint": Histories.load(prepared).config["fingerprint"]}
    made = _written(begun, prepared, told, _own(best), step)
    tuned = whole.language(best, language)
    save(language, tuned, Path(model), made / MODEL, prompt=options.prompt)
    made.rename(out)
    shutil.rmtree(begun, ignore_errors=True)
    return out


def _train_options(of_run: TrainOptions, options: FineTuneOptions) -> TrainOptions:
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


def _most(batches: Batches) -> int:
    """Different items that a batch names, about: in the largest of the first epoch."""
    found = 0
    for number in range(batches.per_epoch):
        batch = batches[number]
        named = [batch.target[batch.valid], batch.history.item[batch.history.mask]]
        found = max(found, len(np.unique(np.concatenate(named))))
    return found


class _Whole:
    """All titles, those of items that came after training among them, for evaluation and for the end."""

    def __init__(self, pieces: Pieces, titles: Titles) -> None:
        self._pieces, self._titles = pieces, titles
        self._there = np.flatnonzero(np.asarray(titles.mask).any(1))
        self._vectors = jax.jit(lambda titles, trained: titles.vectors(trained, jnp.arange(_ROWS)))

    def numeric(self, params: Any) -> np.ndarray:
        """(V, Fn) the items' numeric columns, with the vectors that the tuned model makes."""
        titles, numeric = self._titles, np.array(self._pieces.histories.item_numeric)
        for start in range(0, len(self._there), _ROWS):
            rows = self._there[start : start + _ROWS]
            padded = np.append(rows, np.repeat(rows[-1:], _ROWS - len(rows)))
            found = np.asarray(self._vectors(titles.take(padded), params[TEXT]))[: len(rows)]
            numeric[rows, titles.column : titles.column + found.shape[1]] = found
        return numeric

    def pieces(self, params: Any) -> Pieces:
        histories = self._pieces.histories.replace(item_numeric=self.numeric(params))
        return self._pieces._replace(histories=histories)

    def vectors(self, numeric: np.ndarray) -> list[list[float] | None]:
        """Those of all items, None for one without a text."""
        begin = self._titles.column
        vectors: list[list[float] | None] = [None] * len(numeric)
        for row in self._there:
            vectors[row] = numeric[row, begin : begin + self._titles.config.width].tolist()
        return vectors

    def language(self, params: Any, language: LanguageModel) -> Any:
        """The tuned model's parameters."""
        trained, titles = jax.device_get(params[TEXT]), self._titles
        if titles.alpha:
            return lora.merge(language.params, trained, alpha=titles.alpha)
        return language.params | trained


def _own(params: Any) -> Any:
    return {name: part for name, part in params.items() if name != TEXT}


def _prepared(begun: Path, whole: _Whole, best: Any, column: str) -> Path:
    """The log with the vectors of the tuned model, in the arrays and in the table of items, so that new ones
    join those of the same model."""
    folder, histories = begun / "prepared", whole.pieces(best).histories
    histories.save(folder, overwrite=True)
    for table in (begun / "histories").glob("*.parquet"):
        shutil.copy(table, folder)
    path, name = folder / "items.parquet", f"{column}_vector"
    frame = pl.read_parquet(path)
    if name in frame.columns:
        vectors = pl.Series(name, whole.vectors(histories.item_numeric), dtype=pl.List(pl.Float32))
        frame.with_columns(vectors.cast(frame.schema[name])).write_parquet(path)
    return folder


def _written(begun: Path, prepared: Path, told: dict[str, Any], params: Any, step: int) -> Path:
    """The run, complete but for the language model, inside the folder of the tuning."""
    made = begun / "run"
    shutil.rmtree(made, ignore_errors=True)
    runs.create(made, prepared, told)
    shutil.copy(begun / "history.jsonl", made)
    score = next(line["ndcg@10"] for line in runs.HistoryLog.lines(begun) if line["step"] == step)
    with checkpointing.checkpointer(made) as checkpoints:
        checkpoints.save_checkpointables_async(step, {"average": params}, metrics={"ndcg@10": score})
        checkpoints.wait()
    return made
