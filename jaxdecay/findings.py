"""What pictures and the page show of a run, each piece worked out once, when it is first asked for."""

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

from jaxdecay import runs
from jaxdecay.assembly import assemble, load_model, load_predictor
from jaxdecay.columns import few_valued, kinds_by
from jaxdecay.curves import Curve, mean_kernels
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import requests
from jaxdecay.drift import Drift, DriftOptions
from jaxdecay.errors import InputError
from jaxdecay.expect import whole
from jaxdecay.half_lives import effective_memory, training_span
from jaxdecay.intervals import kept, said
from jaxdecay.model_options import ModelOptions
from jaxdecay.recommend import load
from jaxdecay.spreads import Spread, Whose, spreads
from jaxdecay.tradeoff import diversity_tradeoff
from jaxdecay.train import TrainOptions, init_params
from jaxdecay.trained import Run
from jaxdecay.watch import Watched

_REQUESTS = 2_000
_LONG = 60  # characters of a title


class Kinds(NamedTuple):
    """By what interests are called."""

    column: str | None
    """The item column; None: items themselves, by their titles where there are some."""
    of: np.ndarray
    """(V,) number of each item's name."""
    names: list[str]


class Findings:
    """A run and what was found in it.

    ``column``: the item column by which interests are called; by default the first of words with few
    values. ``seed``: of every draw. Raises InputError for a column that is not there, and for a seed that is
    no whole number from 0.
    """

    def __init__(self, run: str | Path, *, column: str | None = None, seed: int = 0) -> None:
        self.seed = whole("seed", seed)
        self.run: Run = load(run)
        self.column = column
        if column is not None:
            kinds_by(self.run.items, column)  # refused before anything is worked out

    @property
    def histories(self) -> Histories:
        return self.run.histories

    @property
    def relative(self) -> bool:
        """Whether times count from each user's first event."""
        return self.histories.clock == "relative"

    @property
    def blocks(self) -> int:
        """Of the encoder that stands between events and the bank of similarity; 0 for none."""
        return self.run.config["spec"]["encoder"]["blocks"]

    @functools.cached_property
    def evaluation(self) -> dict[str, Any]:
        """``metrics.json``."""
        path = self.run.path / "metrics.json"
        if not path.exists():
            raise InputError(f"{path}: missing; run jaxdecay evaluate {self.run.path} first")
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(f"{path}: damaged; run jaxdecay evaluate {self.run.path} again") from None

    @property
    def metric(self) -> str:
        """NDCG at the first list length of the evaluation."""
        return f"ndcg@{self.evaluation['protocol']['k'][0]}"

    @functools.cached_property
    def lines(self) -> list[dict[str, Any]]:
        """``history.jsonl``."""
        lines = runs.HistoryLog.lines(self.run.path)
        if not lines:
            path = self.run.path / "history.jsonl"
            raise InputError(f"{path}: holds no evaluation; train the run to its end")
        return lines

    @functools.cached_property
    def half_lives(self) -> tuple[pl.DataFrame, str | None]:
        """With the intervals that `jaxdecay half-lives` has kept, or else by Laplace, and what these are;
        None where there are none, as where half-lives were not learned."""
        if (there := kept(self.run.path)) is not None:
            return there
        found = self.run.half_lives(intervals="laplace", seed=self.seed)
        return found, said("laplace") if found["low"].is_not_null().any() else None

    @functools.cached_property
    def span(self) -> float:
        """Days that training looked over (`jaxdecay.half_lives.training_span`)."""
        return training_span(self._trained[0])

    @functools.cached_property
    def memory(self) -> pl.DataFrame:
        return effective_memory(self.run.path)

    @functools.cached_property
    def _trained(self) -> tuple[Histories, Any, Any, dict[str, Any]]:
        """The log that the run was trained on, the model, its parameters and the config."""
        return Histories.load(self.run.path / "histories"), *load_model(self.run.path)

    def learned(self) -> list[Curve]:
        """Mean kernels of the trained parameters."""
        histories, model, params, _ = self._trained
        return mean_kernels(histories, model, params)

    def initial(self) -> list[Curve]:
        """Mean kernels of the parameters at step 0."""
        histories, model, _, config = self._trained
        train = TrainOptions(**config["train"])
        pieces = assemble(histories, model.spec, ModelOptions.from_json(config["model"]), train)
        begin = jax.jit(lambda constants: init_params(model, constants, train.seed))
        return mean_kernels(histories, model, begin(pieces.constants))

    def spreads(self, of: Whose) -> list[Spread]:
        """The kernels of single items or users."""
        return spreads(*self._trained[:3], of)

    def trade_off(self) -> pl.DataFrame:
        """What diversity costs (`jaxdecay.tradeoff.diversity_tradeoff`), over held-out requests of the test
        part, 2,000 drawn by the seed where there are more."""
        predictor = load_predictor(self.run.path)
        held_out = requests(predictor.histories, 2, chosen=True)
        if len(held_out) > _REQUESTS:
            draw = np.random.default_rng([self.seed, 2]).choice(len(held_out), _REQUESTS, replace=False)
            held_out = held_out.take(np.sort(draw))
        return diversity_tradeoff(predictor, held_out)

    @functools.cached_property
    def watched(self) -> Watched:
        """The drift of all users."""
        return self.run.drift(column=self.kinds.column, options=DriftOptions(seed=self.seed))

    @property
    def drift(self) -> Drift:
        return self.watched.drift

    @functools.cached_property
    def kinds(self) -> Kinds:
        items = self.run.items
        column = few_valued(items) if self.column is None else self.column
        if column is not None:
            names, of = kinds_by(items, column)
            without = [f"no {column}"] if (of < 0).any() else []
            return Kinds(column, np.where(of < 0, len(names), of), [*names, *without])
        texts = items["item_id"].cast(pl.String)
        if "title" in items.columns:
            texts = items["title"].cast(pl.String).fill_null(texts)
        names = texts.unique(maintain_order=True)
        of = texts.replace_strict(names, np.arange(len(names)), return_dtype=pl.Int64)
        return Kinds(None, of.to_numpy(), names.to_list())

    @functools.cached_property
    def titles(self) -> dict[Any, str]:
        """What items are called, where the log says it, in at most 60 characters."""
        if "title" not in self.run.items.columns:
            return {}
        pairs = self.run.items.select("item_id", pl.col("title").cast(pl.String)).drop_nulls().iter_rows()
        return {item: title if len(title) <= _LONG else f"{title[: _LONG - 1]}…" for item, title in pairs}

    @property
    def end(self) -> int | None:
        """The moment at which lists are asked for: right after the last event of the log, with relative times
        of each user (None)."""
        return None if self.relative else int(np.asarray(self.histories.time).max()) + 1
