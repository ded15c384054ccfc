"""What the layers of a language model that stay as they are make of a run's texts, and what is trained above
them, as it begins."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxdecay.data.histories import Histories
from jaxdecay.data.text_batches import batches
from jaxdecay.errors import InputError
from jaxdecay.language import encoder, lora
from jaxdecay.language.load import LanguageModel
from jaxdecay.language.shapes import Pooling
from jaxdecay.spec import Spec
from jaxdecay.titles import Titles

_SOME, _ALIKE = 64, 0.98  # texts that are compared, and the least median cosine: bfloat16 is a thousandth off
_ROWS = 32  # of the longest texts that pass the frozen layers at once


@dataclasses.dataclass(frozen=True)
class FineTuneOptions:
    """What of the language model is trained, and how."""

    column: str = "title"
    """Item column of the texts. The log was prepared with their vectors in a column of this name with _vector
    behind it, as jaxdecay embed writes it."""
    layers: int = 1
    """How many of the upper layers are trained; what those below make of each text is worked out once."""
    rank: int = 8
    """Of the low-rank adapters of these layers; 0 trains all their parameters, and the last norm. Embeddings
    of words, and what follows pooling, stay as they are in any case."""
    adapt: Literal["attention", "all"] = "attention"
    """Which of their dense layers have adapters: those of queries and values, or all."""
    alpha: float = 16.0
    """By which adapters are multiplied, over their rank."""
    max_length: int = 48
    """Most tokens of a text; what is longer is cut."""
    prompt: str | None = None
    """Name of the prompt that the vectors were made with; by default the model's own default."""
    pooling: Pooling | None = None
    """How tokens became one vector; by default what the model's folder says."""
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
    batch_targets: int = 2048
    """Targets in a batch, about: the more, the fewer times each text is read."""
    negatives: int = 512
    """Negatives in a batch (sampled softmax)."""
    remat: bool = True
    """Compute the inside of the trained layers again for the gradient: far less memory, a third more time."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the trained layers' products of matrices; what the layers below made is kept in bfloat16 in any
    case."""

    def __post_init__(self) -> None:
        for name, least in (
            ("layers", 1), ("rank", 0), ("max_length", 2), ("epochs", 1), ("patience", 1),
            ("batch_targets", 1), ("negatives", 1), ("alpha", 1e-9), ("text_learning_rate", 0.0),
            ("learning_rate", 0.0), ("decay_learning_rate", 0.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if not value >= least:
                raise InputError(f"{name}={value}: give at least {least:g}")
        for name, known in (("adapt", ("attention", "all")), ("precision", ("float32", "bfloat16"))):
            if getattr(self, name) not in known:
                raise InputError(f"{name}={getattr(self, name)!r}: give one of {', '.join(known)}")


def place_of(histories: Histories, spec: Spec, column: str, language: LanguageModel) -> int:
    """Where in the items' numeric columns the vector of the text begins."""
    described = (histories.config.get("features") or {}).get("item") or {}
    names = list(described.get("numeric_names") or ())[: spec.item_columns.numeric]
    own = [i for i, name in enumerate(names) if name.rpartition("_")[0] == f"{column}_vector"]
    own = [i for i in own if names[i].rpartition("_")[2].isdigit()]
    if not own:
        raise InputError(
            f"the run has no inputs {column}_vector: jaxdecay embed ITEMS --columns {column} --model FOLDER"
            " --out FILE, then prepare with --items FILE, and train with columns"
        )
    if len(own) != language.config.width:
        raise InputError(
            f"{column}_vector has {len(own)} numbers in the run, and this language model makes"
            f" {language.config.width}: give the one that the log was embedded with"
        )
    return own[0]


def some_of(texts: list[str | None]) -> list[str | None]:
    """The first texts, for a look at whether all is well before the others are read; None for the others."""
    there = [row for row, text in enumerate(texts) if text is not None and text.strip()]
    last = there[_SOME - 1] if len(there) >= _SOME else len(texts)
    return [text if row <= last else None for row, text in enumerate(texts)]


def refuse_other(titles: Titles, trained: Any, histories: Histories) -> None:
    """Raises InputError unless the vectors of the log are those that the model makes, as far as texts are not
    cut."""
    lengths = titles.mask.sum(1)
    rows = np.flatnonzero((lengths > 0) & (lengths < titles.mask.shape[1]))[:_SOME]
    if not len(rows):  # all are as long as the longest: those that are cut may differ
        return
    found = np.asarray(titles.take(rows).vectors(trained, jnp.arange(len(rows))), np.float64)
    kept = np.asarray(histories.item_numeric[rows, titles.column :][:, : found.shape[1]], np.float64)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(kept, axis=1)
    alike = float(np.median((found * kept).sum(1) / np.maximum(lengths, 1e-30)))
    if alike < _ALIKE:
        raise InputError(
            f"the log's vectors are not those that this language model makes (cosine {alike:.2f}): give the"
            " model, --prompt and --pooling that it was embedded with"
        )


def texts_of(run: Path, histories: Histories, column: str) -> list[str | None]:
    """The text of each item; None without one."""
    path = run / "histories" / "items.parquet"
    frame = pl.read_parquet(path)
    if column not in frame.columns:
        raise InputError(
            f"{path}: has no column {column!r}; prepare with a table that has the texts under this name"
            " beside their vectors"
        )
    return frame[column].cast(pl.String).to_list()[: histories.items]


def titles_of(
    language: LanguageModel, texts: list[str | None], place: int, options: FineTuneOptions, seed: int
) -> tuple[Titles, Any]:
    """The titles, past the frozen layers, and what is trained as it begins."""
    config = language.config
    below = config.body.layers - options.layers
    there = [row for row, text in enumerate(texts) if text is not None and text.strip()]
    if not there:
        raise InputError(f"all texts of {options.column!r} are missing or empty; there is nothing to learn")
    before = language.prompt(options.prompt)
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
    for batch in batches(ids, tokens=longest * _ROWS, longest=config.body.longest):
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
        trained = {name: part for name, part in upper.items() if not name.startswith("dense_")}
    titles = Titles(
        below=hidden,
        mask=mask,
        frozen=jax.tree.map(jnp.asarray, upper),
        config=config,
        layers=below,
        column=place,
        most=len(texts),
        alpha=options.alpha if options.rank else 0.0,
        precision=options.precision,
        remat=options.remat,
    )
    return titles, trained


def _number(layer: str) -> int:
    return int(layer.removeprefix("layer_")) if layer.startswith("layer_") else -1
