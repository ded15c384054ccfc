"""The run directory: all that a trained model is, readable without the script that trained it, and without
pickle.

``config.json`` (every option, the spec, versions, the data's fingerprint), ``histories/`` (the prepared
log, ids included), ``checkpoints/`` (Orbax), ``history.jsonl`` (a line per evaluation), ``metrics.json``
(the table of `jaxdecay evaluate`), ``half_lives.json`` (of `jaxdecay half-lives`), and ``folds.jsonl`` (a
line per training of a cross-validation).
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Set
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaxdecay.data.gather import Reference
from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.spec import Spec, Table
from jaxdecay.train import TrainOptions

FORMAT = 1
FOLDS = "folds.jsonl"
_PACKAGES = ("jaxdecay", "jax", "flax", "optax", "orbax-checkpoint", "numpy", "grain")


def versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def refuse_occupied(run: Path, prepared: Path) -> None:
    """Raises InputError when ``run`` is a directory of something else than a run."""
    if (run / "config.json").exists():
        return
    # left by a run killed while it began
    begun = {FOLDS, "histories", "histories.partial", "config.json.partial"}
    if run.exists() and not run.is_dir():
        raise InputError(f"{run}: is a file, not a directory; give another --out")
    inside = run.resolve() in prepared.resolve().parents
    if run.exists() and (inside or {path.name for path in run.iterdir()} - begun):
        raise InputError(f"{run} is not empty and is no run; give another --out")


def create(run: Path, prepared: Path, config: dict[str, Any]) -> None:
    """Begins a run, or finds that it is the one begun before: the same options on the same data.

    Raises InputError when ``run`` holds something else.
    """
    config = {"format": FORMAT, "versions": versions(), **config}
    if (run / "config.json").exists():
        there = read_config(run)
        differing = list(_differing(there, json.loads(json.dumps(config))))
        if differing:
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise InputError(
                f"{run} is a run with other options: {', '.join(differing[:3])}{more};"
                " give another --out, or the options it began with"
            )
        return
    refuse_occupied(run, prepared)
    copy = run / "histories.partial"
    for unfinished in (copy, run / "histories"):
        shutil.rmtree(unfinished, ignore_errors=True)
    try:
        run.mkdir(parents=True, exist_ok=True)
        shutil.copytree(prepared, copy)
        copy.rename(run / "histories")
        write_json(run / "config.json", config)
    except OSError as error:
        shutil.rmtree(run, ignore_errors=True)
        reason = error.strerror or "the prepared log could not be copied into it"
        raise InputError(
            f"{run}: cannot be written ({reason}); nothing is left of it: "
            "free some space or give another --out"
        ) from error


def _differing(there: dict[str, Any], asked: dict[str, Any]) -> Iterator[str]:
    """Names of what differs between two configs, with both values; of the spec only if nothing that it
    follows from does."""
    if there["data"] != asked["data"]:
        prints = (str(one["data"].get("fingerprint"))[:8] for one in (there, asked))
        yield "prepared log ({} there, {} asked)".format(*prints)
    parts = ("model", "train")
    if all(there[part] == asked[part] for part in ("data", *parts)):
        parts = ("spec",)
        # A run from before some field of it was there has its default.
        there, asked = ({"spec": Spec.from_json(one["spec"]).to_json()} for one in (there, asked))
    for part in parts:
        for name in {**there[part], **asked[part]}:
            values = (there[part].get(name), asked[part].get(name))
            if values[0] != values[1]:
                yield "{} ({} there, {} asked)".format(name, *map(_word, values))


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def read_config(run: Path) -> dict[str, Any]:
    """``config.json`` of a run; InputError if it is no run, damaged, or of a format or with options that
    this version cannot read."""
    path = run / "config.json"
    if not run.exists():
        raise InputError(f"{run}: there is no such run; train one with jaxdecay train DIR --out {run}")
    if not run.is_dir():
        raise InputError(f"{run}: is a file, no run directory; give the --out of jaxdecay train")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{run}: no run directory (config.json is missing); give the --out of jaxdecay train"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); train again into another directory") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: damaged (it holds no JSON object); train again into another directory")
    wrote = config["versions"].get("jaxdecay", "?") if isinstance(config.get("versions"), dict) else "?"
    if config.get("format") != FORMAT:
        raise InputError(
            f"{path}: format {config.get('format')!r}, this version reads format {FORMAT};"
            f" train again, or use jaxdecay {wrote}"
        )
    _check_parts(path, config, wrote)
    return config


def _check_parts(path: Path, config: dict[str, Any], wrote: str) -> None:
    """Raises InputError unless the parts of a config have the names that this version reads."""
    parts = {name: config.get(name) for name in _PARTS}
    spec = parts["spec"] if isinstance(parts["spec"], dict) else {}
    parts |= {f"spec.{name}": table for name, table in spec.items() if name.endswith("_columns")}
    damaged = [name for name, table in parts.items() if not isinstance(table, dict)]
    if damaged:
        raise InputError(
            f"{path}: damaged ({', '.join(damaged)} missing or no object); train again into another directory"
        )
    for part, table in parts.items():
        needed, known = _PARTS.get(part) or _names(Table)
        there = set(table or ())
        unknown = there - known if known else set()
        for words, names in (("lacks", needed - there), ("has the unknown", unknown)):
            if names:
                raise InputError(
                    f"{path}: {part} {words} {', '.join(sorted(names))}; it was written by jaxdecay {wrote}, "
                    f"this is {version('jaxdecay')}: train again into another directory, or use that version"
                )


def _names(options: type) -> tuple[Set[str], Set[str]]:
    """Fields of a dataclass: those without a default, and all."""
    fields = dataclasses.fields(options)
    missing = dataclasses.MISSING
    needed = {one.name for one in fields if one.default is missing and one.default_factory is missing}
    return needed, {one.name for one in fields}


_PARTS: dict[str, tuple[Set[str], Set[str]]] = {
    "data": ({"fingerprint"}, set()),
    "spec": _names(Spec),
    "model": _names(ModelOptions),
    "train": _names(TrainOptions),
    "half_lives": ({"how"}, set()),
    "reference": (set(Reference._fields), set(Reference._fields)),
}
"""The parts of a config: the names that each must have, and all that it may have (none: any)."""


_EVALUATION = {"step", "epoch", "loss", "ndcg@10", "settled", "kept"}


class HistoryLog:
    """``history.jsonl``: a line per evaluation, none doubled however often a run is resumed."""

    def __init__(self, run: Path, *, resumed_at: int) -> None:
        self.path = run / "history.jsonl"
        kept = [line for line in self.lines(run) if line["step"] <= resumed_at]
        write = "".join(json.dumps(line) + "\n" for line in kept)
        partial = self.path.with_name("history.jsonl.partial")
        partial.write_text(write, encoding="utf-8")
        os.replace(partial, self.path)

    def add(self, line: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def lines(run: Path) -> list[dict[str, Any]]:
        """The complete lines; one cut short by a crash is left out. InputError if one is no evaluation."""
        path = run / "history.jsonl"
        if not path.exists():
            return []
        found = []
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                found.append(json.loads(line))
            except ValueError:
                break
            lacks = _EVALUATION - set(found[-1]) if isinstance(found[-1], dict) else _EVALUATION
            if lacks:
                raise InputError(
                    f"{path}: line {number} is no evaluation (it lacks {', '.join(sorted(lacks))});"
                    " take it out, or train again into another directory"
                )
        return found
