"""What the columns and the texts of items add, on items that training has seen and on new ones, side by side.

    jaxdecay embed items.parquet --model FOLDER --out with-vectors.parquet
    python scripts/studies/content.py events.parquet --items with-vectors.parquet --out study --json F

Trains the same model on ids alone, with the vectors of texts, with the items' other columns, with all of
it, without ids, and with all of it fused by gates and levels in common. Evaluates them together on the test
part: on targets that training has seen, among the items that have come; and on targets that no earlier part
has, among all items of the log, beside the decayed popularity of an item's group. A run in --out that
is finished is not trained again. Written to --json: rows with system, items, metric, value, low, high, and
the paired difference to the --reference.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import tyro

from jaxdecay.assembly import load_predictor
from jaxdecay.baselines import fit_baselines
from jaxdecay.baselines.groups import NAME as OF_GROUP
from jaxdecay.data.histories import Histories
from jaxdecay.data.prepare import PrepareOptions, prepare
from jaxdecay.data.requests import of_items, requests
from jaxdecay.data.split import SplitOptions
from jaxdecay.errors import InputError
from jaxdecay.evaluate import evaluate
from jaxdecay.fitting import train_run
from jaxdecay.model_options import ModelOptions
from jaxdecay.predict import Predictor
from jaxdecay.report import show_rows
from jaxdecay.results import Report
from jaxdecay.train import TrainOptions

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ids": ("plain", {"columns": False}),
    "ids, texts": ("titles", {}),
    "ids, columns": ("plain", {}),
    "ids, columns, texts": ("texts", {}),
    "columns, texts": ("texts", {"item_ids": False}),
    "ids, columns, texts, gated and in common": ("texts", {"fusion": "gated", "by_content": True}),
}
"""By name: which item columns, and what the model has of its own."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the columns and texts of items add."""

    log: tyro.conf.Positional[Path]
    """Events."""
    items: Path
    """Table of items with vectors, as jaxdecay embed writes it."""
    out: Path
    """Folder of the prepared logs and the runs."""
    json: Path
    """Where the figures are written."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """Which of them."""
    tuned: Path | None = None
    """A run of jaxdecay fine-tune on the same log, to be evaluated beside."""
    reference: str = "ids"
    """The variant that the others' differences are to; trained, too."""
    split: SplitOptions = dataclasses.field(default_factory=SplitOptions)
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    train: TrainOptions = dataclasses.field(default_factory=lambda: TrainOptions(epochs=8, settle_epochs=0))


def main(options: Options) -> None:
    if options.reference not in VARIANTS:
        raise InputError(f"reference={options.reference!r}: give one of {' | '.join(VARIANTS)}")
    items = pl.read_parquet(options.items)
    vectors = [name for name in items.columns if name.endswith("_vector")]
    tables = {
        "plain": items.drop(vectors),
        "titles": items.select("item_id", *vectors),
        "texts": items,
    }
    prepared: set[str] = set()
    systems: list[Predictor] = []
    for name, (log, own) in VARIANTS.items():
        if name not in (*options.variants, options.reference):
            continue
        folder = options.out / log
        if log not in prepared:
            plan = PrepareOptions(split=options.split)
            prepare(options.log, folder, plan, items=tables[log], overwrite=True)
            prepared.add(log)
        run = options.out / name.replace(", ", "-").replace(" ", "-")
        model = dataclasses.replace(options.model, **own)
        print(f"{name} ...", flush=True)
        train_run(folder, run, model=model, train=options.train)
        systems.append(_named(load_predictor(run), name))
    if options.tuned:
        systems.append(_named(load_predictor(options.tuned), "tuned"))
    histories = systems[0].histories
    for system in systems:
        for name in ("offsets", "item", "time", "part"):
            if not np.array_equal(getattr(histories, name), getattr(system.histories, name)):
                raise InputError(f"{system.name}: is of another log or split; give a run on this one")
    rows = []
    for which in ("warm", "cold"):
        found = _judged(histories, systems, which, options.reference)
        rows += _rows(found, which, options.reference)
        _show(found, which, options.reference)
    options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _named(system: Predictor, name: str) -> Predictor:
    system.name = name
    return system


def _judged(histories: Histories, systems: list[Predictor], which: Any, reference: str) -> Report:
    every = which == "cold"
    validation = of_items(requests(histories, 1, chosen=True), histories, 1, which)
    names = ("decayed popularity", *((OF_GROUP,) if every else ()))
    baselines = fit_baselines(histories, validation, names=names, every_item=every)
    asked = of_items(requests(histories, 2), histories, 2, which)
    return evaluate([*systems, *baselines], histories, asked, every_item=every, reference=reference)


def _rows(found: Report, which: str, reference: str) -> list[dict[str, Any]]:
    rows = []
    for system in found.systems:
        for metric in ("ndcg@10", "hr@10"):
            row: dict[str, Any] = {"items": which, "requests": found.protocol["requests"]}
            row |= dataclasses.asdict(found.figure(system, metric))
            if system != reference:
                beside = found.difference(system, metric, reference)
                row |= {"reference": reference, "difference": beside.value}
                row |= {"difference_low": beside.low, "difference_high": beside.high}
            rows.append(row)
    return rows


def _show(found: Report, which: str, reference: str) -> None:
    def words(value: float, low: float, high: float) -> str:
        return f"{value:.4f} [{low:.4f}, {high:.4f}]"

    rows = []
    for system in found.systems:
        figures = (found.figure(system, metric) for metric in ("ndcg@10", "hr@10"))
        beside = None if system == reference else found.difference(system, "ndcg@10", reference)
        rows.append(
            [
                system,
                *(words(f.value, f.low, f.high) for f in figures),
                "" if beside is None else words(beside.value, beside.low, beside.high),
            ]
        )
    title = f"{which} items: {found.protocol['requests']} requests, {found.protocol['candidates']}"
    show_rows(["system", "NDCG@10", "HR@10", f"minus {reference}"], rows, title=title)


if __name__ == "__main__":
    main(tyro.cli(Options))
