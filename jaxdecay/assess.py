"""The table that says how good a run is: its model, the same model without decay, and the baselines, under
one protocol."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay import checkpointing, runs
from jaxdecay.assembly import load_predictor
from jaxdecay.baselines import fit_baselines
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, of_items, requests, sample
from jaxdecay.errors import InputError
from jaxdecay.evaluate import System, evaluate
from jaxdecay.fitting import train_run
from jaxdecay.model_options import ModelOptions
from jaxdecay.protocol import Protocol, file_of
from jaxdecay.results import Report
from jaxdecay.train import TrainOptions

MODEL, ABLATION = "jaxdecay", "without decay"
"""What the table calls the run's model, and the same model without decay."""
_PARTS = {"validation": 1, "test": 2}

Say = Callable[[dict[str, Any]], None]


def assess(run: str | Path, protocol: Protocol = Protocol(), *, report: Say = lambda line: None) -> Report:  # noqa: B008 (frozen)
    """Evaluates a run on the log it was trained on; writes ``metrics.json`` into it (for validation, or
    for cold or warm items alone, with these words behind ``metrics``).

    The same model without decay is trained on demand, with the run's own options, and kept in
    ``RUN/without-decay``. ``report`` is called with ``{"doing": ...}`` before each piece of work, and with
    the lines of that training.

    Raises InputError when the run cannot be read or has no checkpoint, the part holds no events, or a list
    length exceeds the catalogue.
    """
    run = Path(run)
    model = load_predictor(run)
    histories = model.histories
    asked, of = requests_of(histories, protocol)
    report({"doing": "fitting the baselines"})
    chosen = requests(histories, 1, chosen=True)
    judges = of_items(chosen, histories, 1, protocol.items)
    alike = bool(len(judges)) or not len(chosen)
    systems: list[System] = [
        *fit_baselines(
            histories,
            judges if alike else chosen,
            exclude_history=protocol.exclude_history,
            every_item=protocol.items == "cold",
            seed=protocol.seed,
        )
    ]
    if protocol.ablation and runs.read_config(run)["model"]["half_lives"] != "none":
        systems.append(
            _named(load_predictor(without_decay(run, report=report), histories=histories), ABLATION)
        )
    systems.append(_named(model, MODEL))
    report({"doing": f"ranking {histories.items} items for {len(asked)} requests by {len(systems)} systems"})
    found = evaluate(
        systems,
        histories,
        asked,
        k=protocol.k,
        exclude_history=protocol.exclude_history,
        every_item=protocol.items == "cold",
        labels=labels_of(histories, asked),
        reference=MODEL,
        bootstrap=protocol.bootstrap,
        seed=protocol.seed,
    )
    facts = {
        "part": protocol.part,
        "targets_of": protocol.items,
        "sample": of,
        "half_lives": runs.read_config(run)["half_lives"],
    }
    if not alike:
        warning = (
            f"no validation target is of a {protocol.items} item: half-lives of baselines are chosen by all"
        )
        facts["warnings"] = [*found.protocol["warnings"], warning]
    found = dataclasses.replace(found, protocol={**found.protocol, **facts})
    write(run, protocol, found)
    return found


def _relative(run: Path) -> bool:
    return Histories.load(run / "histories").clock == "relative"


def without_decay(run: Path, *, report: Say = lambda line: None) -> Path:
    """The run directory of the same model in which nothing ever fades; trained now unless it is there."""
    config, out = runs.read_config(run), run / "without-decay"
    model = dataclasses.replace(model_options(config), half_lives="none", half_life=(), half_life_prior=())
    if not model.calendar or config["model"]["half_lives"] == "none" or _relative(run):
        model = dataclasses.replace(model, request_time="ignored")  # nothing is left that moves with time
    train = TrainOptions(**config["train"])
    wanted = {**config, "model": dataclasses.asdict(model), "train": dataclasses.asdict(train)}
    if not _holds(out, wanted):
        shutil.rmtree(out, ignore_errors=True)
    if not finished(out):
        report({"doing": "training the same model without decay"})
        train_run(run / "histories", out, model=model, train=train, report=report)
        if not finished(out):  # the loop saved and left at a signal; this command is what the signal meant
            raise KeyboardInterrupt
    return out


def finished(run: Path) -> bool:
    """Whether training came to its end and saved it: the decay parameters have settled or, where that is left
    out, patience or epochs were used up."""
    lines = runs.HistoryLog.lines(run)
    if not lines or not checkpointing.has_checkpoint(run, lines[-1]["step"]):
        return False
    options = TrainOptions(**runs.read_config(run)["train"])
    if options.settling:
        return lines[-1]["settled"]
    scores = [line["ndcg@10"] for line in lines]
    stale = len(scores) - 1 - int(np.argmax(scores))
    return lines[-1]["epoch"] >= options.epochs or stale >= options.patience


def model_options(config: dict[str, Any]) -> ModelOptions:
    """The options of a run's model, from its config."""
    return ModelOptions.from_json(config["model"])


def _holds(out: Path, wanted: dict[str, Any]) -> bool:
    """Whether ``out`` holds a run with the model, training, data and versions of a config."""
    try:
        there = runs.read_config(out)
    except InputError:
        return False
    if any(there.get(name) != json.loads(json.dumps(wanted[name])) for name in ("data", "versions")):
        return False
    # What one of the two lacks, since it is from before there was such an option, stands at its default.
    of_train = [TrainOptions(**config["train"]) for config in (there, wanted)]
    return of_train[0] == of_train[1] and model_options(there) == model_options(wanted)


def requests_of(histories: Histories, protocol: Protocol) -> tuple[Requests, str]:
    """The requests of the part, or a sample of them, and words for which."""
    if max(protocol.k) > histories.items or min(protocol.k) < 1:
        raise InputError(
            f"-k {max(protocol.k)}: the log has {histories.items} items; give list lengths from 1 to that"
        )
    # With several targets a request there is no label of each: only what was chosen is to be found.
    several = histories.config["split"].get("targets") == "all"
    found = requests(histories, _PARTS[protocol.part], chosen=several)
    if not len(found):
        raise InputError(
            f"the {protocol.part} part holds no events; prepare again with a larger --split.{protocol.part}, "
            "or give another --part"
        )
    found = of_items(found, histories, _PARTS[protocol.part], protocol.items)
    if not len(found):
        raise InputError(
            f"no event of the {protocol.part} part is of a {protocol.items} item; give --items all"
        )
    if protocol.max_requests is None or protocol.max_requests >= len(found):
        return found, "all"
    drawn = sample(found, protocol.max_requests, protocol.seed)
    return drawn, f"{len(drawn)} of {len(found)} requests, drawn with seed {protocol.seed}"


def labels_of(histories: Histories, asked: Requests) -> np.ndarray | None:
    """(R,) outcome of each request's first target, None when the log has none."""
    labels = np.asarray(histories.label)[asked.event]
    return None if np.isnan(labels).all() else labels


def _named(system: Any, name: str) -> Any:
    system.name = name
    return system


def write(run: Path, protocol: Protocol, found: Report, *words: str) -> None:
    """Writes the figures into the run, whole or not at all, into a file with more ``words`` in its name."""
    path = run / file_of(protocol, *words)
    try:
        runs.write_json(path, found.to_json())
    except OSError as error:
        path.with_name(path.name + ".partial").unlink(missing_ok=True)
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); free some space and evaluate again"
        ) from error
