"""A trained run and the language model that made its items' vectors, trained on together, end to end.

It begins with the run's best parameters and ends with a run like any other, whose histories hold the vectors
that the tuned model makes, so that everything that reads runs reads this one; and with the tuned model in a
folder of its own, by which `jaxdecay embed` makes vectors of items to come.
"""

import dataclasses
import shutil
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxdecay import checkpointing, loop, runs
from jaxdecay.assembly import Pieces, assemble, load_model, validation
from jaxdecay.assess import finished
from jaxdecay.data.histories import Histories
from jaxdecay.data.text_batches import batches
from jaxdecay.errors import InputError
from jaxdecay.language import encoder, lora
from jaxdecay.language.load import LanguageModel, load
from jaxdecay.language.save import save
from jaxdecay.model_options import ModelOptions
from jaxdecay.optimizer import TEXT, optimizer
from jaxdecay.spec import Spec
from jaxdecay.titles import Titles
from jaxdecay.train import TrainOptions

MODEL = "language-model"
"""Folder of the tuned language model in the run."""
_ROWS = 256  # titles that pass the frozen layers, or the others in an evaluation, at once


@dataclasses.dataclass(frozen=True)
class TuneOptions:
    """What of the language model is trained, and how."""

    column: str = "title"
    """Item column of the texts. The log was prepared with their vectors in a column of this name with _vector
    behind it, as jaxdecay embed writes it."""
    layers: int = 1
    """How many of the upper layers are trained; what those below make of each text is worked out once."""
    rank: int = 8
    """Of the low-rank adapters of these layers; 0 trains all their parameters."""
    adapt: Literal["attention", "all"] = "attention"
    """Which of their dense layers have adapters: those of queries and values, or all."""
    alpha: float = 16.0
    """By which adapters are multiplied, over their rank."""
    max_length: int = 48
    """Most tokens of a text; what is longer is cut."""
    titles: int = 2048
    """Texts that a step goes through at most; items beyond keep the vectors that they began with."""
    text_learning_rate: float = 1e-3
    """Of what is trained of the language model."""
    learning_rate: float = 1e-3
    """Of embeddings and linear maps."""
    decay_learning_rate: float = 1e-2
    """Of half-lives, write and read weights, and the levels of the heads."""
    epochs: int = 5
    """Most passes over the training events."""
    patience: int = 2
    """Evaluations without a better validation NDCG@10 before it stops."""
    batch_targets: int = 4096
    """Targets in a batch: the more, the fewer times each text is read."""
    negatives: int = 1024
    """Negatives in a batch (sampled softmax)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the trained layers' products of matrices; what the layers below made is kept in bfloat16 in any
    case."""

    def __post_init__(self) -> None:
        for name, least in (
            ("layers", 1), ("rank", 0), ("max_length", 2), ("titles", 1), ("epochs", 1), ("patience", 1),
            ("batch_targets", 1), ("negatives", 1), ("alpha", 1e-9), ("text_learning_rate", 0.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if not value >= least:
                raise InputError(f"{name}={value}: give at least {least:g}")
        for name, known in (("adapt", ("attention", "all")), ("precision", ("float32", "bfloat16"))):
            if getattr(self, name) not in known:
                raise InputError(f"{name}={getattr(self, name)!r}: give one of {', '.join(known)}")


def tune(
    run: str | Path,
    model: str | Path,
    out: str | Path,
    options: TuneOptions = TuneOptions(),
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
    place = _place(histories, module.spec, options.column, language)
    texts = _texts(run, histories, options.column)
    report({"doing": f"{len(texts)} texts through the layers that stay as they are"})
    train = _train_options(TrainOptions(**config["train"]), options)
    titles, trained = _titles(language, texts, place, options, train.seed)
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

    told = {
        **{name: config[name] for name in ("data", "spec", "model", "half_lives", "reference")},
        "train": dataclasses.asdict(train),
        "tuned": {"run": str(run), "model": language.fingerprint, **dataclasses.asdict(options)},
    }
    runs.create(begun, run / "histories", told)
    start = jax.tree.map(jnp.asarray, {**params, TEXT: trained})
    loop.train(
        begun, module, pieces.optimizer, pieces.batches, pieces.constants, score, train,
        start=start, report=report,
    )  # fmt: skip
    if not finished(begun):  # the loop saved and left at a signal
        raise KeyboardInterrupt
    step = checkpointing.best_step(begun)
    best = checkpointing.load_average(begun, step, start)
    report({"doing": "writing the run and its language model"})
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


def _place(histories: Histories, spec: Spec, column: str, language: LanguageModel) -> int:
    """Where in the items' numeric columns the vector of the text begins."""
    described = (histories.config.get("features") or {}).get("item") or {}
    names = list(described.get("numeric_names") or ())[: spec.item_columns.numeric]
    own = [i for i, name in enumerate(names) if name.rpartition("_")[0] == f"{column}_vector"]
    own = [i for i in own if names[i].rpartition("_")[2].isdigit()]
    if not own:
        raise InputError(
            f"the run has no item column {column}_vector: jaxdecay embed ITEMS --columns {column} --model"
            " FOLDER --out FILE, then prepare with --items FILE, and train"
        )
    if len(own) != language.config.width:
        raise InputError(
            f"{column}_vector has {len(own)} numbers in the run, and this language model makes"
            f" {language.config.width}: give the one that the log was embedded with"
        )
    return own[0]


def _texts(run: Path, histories: Histories, column: str) -> list[str | None]:
    path = run / "histories" / "items.parquet"
    frame = pl.read_parquet(path)
    if column not in frame.columns:
        raise InputError(f"{path}: has no column {column!r}; prepare with the table that has the texts")
    return frame[column].cast(pl.String).to_list()[: histories.items]


def _titles(
    language: LanguageModel, texts: list[str | None], place: int, options: TuneOptions, seed: int
) -> tuple[Titles, Any]:
    """The titles, past the frozen layers, and what is trained as it begins."""
    config = language.config
    if options.layers > config.body.layers:
        raise InputError(f"layers={options.layers}: the language model has {config.body.layers}")
    below = config.body.layers - options.layers
    there = [row for row, text in enumerate(texts) if text is not None and text.strip()]
    if not there:
        raise InputError(f"all texts of {options.column!r} are missing or empty; there is nothing to learn")
    before = language.prompt(None)
    ids = language.tokens([before + str(texts[row]) for row in there])
    longest = max(map(len, ids))
    mask = np.zeros((len(texts), longest), bool)
    hidden = np.zeros((len(texts), longest, config.body.width), jnp.bfloat16)

    @jax.jit
    def lower(params: Any, ids: Any, mask: Any) -> Any:
        def one(ids: Any, mask: Any) -> Any:
            return encoder.lower(config, params, ids, mask, layers=below)

        return jax.vmap(one)(ids, mask)

    params = jax.device_put(language.params)
    for batch in batches(ids, tokens=longest * 32, longest=config.body.longest):
        found = np.asarray(lower(params, batch.ids, batch.mask))
        for place_in, row in enumerate(batch.rows):
            length = len(ids[row])
            hidden[there[row], :length] = found[place_in, :length]
            mask[there[row], :length] = True
    upper = {
        name: part
        for name, part in language.params.items()
        if not name.startswith(("embeddings", "word", "layer_")) or _number(name) >= below
    }
    if options.rank:
        names = lora.ATTENTION if options.adapt == "attention" else None
        trained = lora.init(upper, jax.random.key(seed), rank=options.rank, names=names, start=below)
    else:
        trained = {name: part for name, part in upper.items() if name.startswith("layer_")}
    titles = Titles(
        below=jnp.asarray(hidden),
        mask=jnp.asarray(mask),
        frozen=jax.tree.map(jnp.asarray, upper),
        config=config,
        layers=below,
        column=place,
        most=options.titles,
        alpha=options.alpha if options.rank else 0.0,
        precision=options.precision,
    )
    return titles, trained


def _number(layer: str) -> int:
    return int(layer.removeprefix("layer_")) if layer.startswith("layer_") else -1


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
