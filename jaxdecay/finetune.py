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
import optax
import polars as pl

from jaxdecay import checkpointing, loop, runs
from jaxdecay.assembly import Pieces, assemble, load_model, validation
from jaxdecay.assess import finished
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.frozen import FineTuneOptions, place_of, reader_of, refuse_other, texts_of
from jaxdecay.language.load import load
from jaxdecay.language.save import save
from jaxdecay.model_options import ModelOptions
from jaxdecay.optimizer import TEXT
from jaxdecay.titles import Reader, Titled
from jaxdecay.train import State, TrainOptions

MODEL = "language-model"
"""Folder of the tuned language model in the run."""


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
    place = place_of(histories, module.spec, options.column, language)
    texts = texts_of(run, histories, options.column)
    report({"doing": f"{len(texts)} texts through the layers that stay as they are"})
    train = _train_options(TrainOptions(**config["train"]), options)
    reader, trained = reader_of(language, texts, options, train.seed)
    vectors = reader.vectors(trained)
    refuse_other(reader, vectors, histories, place)
    tx = optax.adam(options.text_learning_rate)
    pieces = assemble(histories, module.spec, ModelOptions.from_json(config["model"]), train, text=tx)
    titled = Titled(jnp.asarray(reader.there[: module.spec.items]), place)
    pieces = pieces._replace(constants=pieces.constants.replace(titles=titled))

    def score(params: Any) -> tuple[float, float]:
        return validation(_renewed(pieces, reader, place, params), train)(_own(params))

    text = {"trained": trained, "vectors": vectors}
    start = jax.tree.map(jnp.asarray, {**params, TEXT: text})
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
        start=start, renew=Renewal(reader, tx), renewals=options.steps, report=report,
    )  # fmt: skip
    if not finished(begun):  # the loop saved and left at a signal
        raise KeyboardInterrupt
    step = checkpointing.best_step(begun)
    best = checkpointing.load_average(begun, step, start)
    report({"doing": "writing the run and its language model"})
    # The options that the run was trained with stand for what the model is, also without decay.
    told |= {"train": config["train"], "before": {"ndcg@10": validation(pieces, train)(params)[0]}}
    histories = _renewed(pieces, reader, place, best).histories
    prepared = _prepared(begun, histories, best[TEXT]["vectors"], reader.there, options.column)
    told["data"] = {**told["data"], "fingerprint": Histories.load(prepared).config["fingerprint"]}
    made = _written(begun, prepared, told, _own(best), step)
    params = reader.merged(language.params, best[TEXT]["trained"])
    save(language, params, Path(model), made / MODEL, prompt=options.prompt)
    made.rename(out)
    shutil.rmtree(begun, ignore_errors=True)
    return out


def _train_options(of_run: TrainOptions, options: FineTuneOptions) -> TrainOptions:
    """Those of the run, but for what tuning has of its own."""
    return dataclasses.replace(
        of_run,
        settle_epochs=0,
        learning_rate=options.learning_rate,
        decay_learning_rate=options.decay_learning_rate,
        epochs=options.epochs,
        patience=options.patience,
    )


class Renewal:
    """One step of the language model, and its vectors of all texts."""

    def __init__(self, reader: Reader, tx: optax.GradientTransformation) -> None:
        self._reader, self._tx = reader, tx

    def __call__(self, state: State) -> State:
        gathered = state.optimizer.inner_states["text"].inner_state
        before = state.params[TEXT]["trained"]
        gradient = self._reader.gradient(before, np.asarray(gathered.slopes))
        updates, text_state = self._tx.update(gradient, gathered.text_state, before)
        trained = optax.apply_updates(before, updates)
        vectors = self._reader.vectors(trained)
        if not np.isfinite(vectors).all():
            raise InputError("the language model's vectors are no longer finite: lower --text-learning-rate")
        text = {"trained": trained, "vectors": jnp.asarray(vectors)}
        told = {"slopes": jnp.zeros_like(gathered.slopes), "text_state": text_state}
        return state.replace(
            params={**state.params, TEXT: text},
            # No mean over steps, within which it rests: vectors and layers are to belong together.
            average={**state.average, TEXT: jax.tree.map(jnp.copy, text)},
            optimizer=optax.tree.set(state.optimizer, **told),
        )


def _renewed(pieces: Pieces, reader: Reader, place: int, params: Any) -> Pieces:
    """The pieces with the vectors that the language model made, also of items that came after training."""
    vectors = np.asarray(params[TEXT]["vectors"])
    numeric, there = np.array(pieces.histories.item_numeric), reader.there
    numeric[there, place : place + vectors.shape[1]] = vectors[there]
    return pieces._replace(histories=pieces.histories.replace(item_numeric=numeric))


def _own(params: Any) -> Any:
    return {name: part for name, part in params.items() if name != TEXT}


def _prepared(begun: Path, histories: Histories, vectors: Any, there: np.ndarray, column: str) -> Path:
    """The log with the vectors of the tuned model, in the arrays and in the table of items, so that new ones
    join those of the same model."""
    folder = begun / "prepared"
    histories.save(folder, overwrite=True)
    for table in (begun / "histories").glob("*.parquet"):
        shutil.copy(table, folder)
    path, name = folder / "items.parquet", f"{column}_vector"
    frame = pl.read_parquet(path)
    if name in frame.columns:
        rows = [row.tolist() if has else None for row, has in zip(np.asarray(vectors), there, strict=True)]
        kept = pl.Series(name, rows, dtype=pl.List(pl.Float32))
        frame.with_columns(kept.cast(frame.schema[name])).write_parquet(path)
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
