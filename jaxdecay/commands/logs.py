"""``jaxdecay simulate``, ``prepare`` and ``datasets``: where logs come from, and what becomes of them. No JAX
here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import tyro

from jaxdecay.commands import Command
from jaxdecay.data import datasets
from jaxdecay.data.prepare import PrepareOptions, prepare
from jaxdecay.data.simulate import SimulateOptions, simulate, write
from jaxdecay.files import new_directory
from jaxdecay.progress import note
from jaxdecay.report import show_rows


@dataclass(frozen=True, kw_only=True)
class Prepare(PrepareOptions, Command):
    """Reads a log, checks, cleans and splits it, and writes the arrays that training reads.

    The name of a group may be left out: --targets last is --split.targets last. --split KIND is --split.kind
    KIND, and --anonymise is --anonymise.users.
    """

    short: ClassVar[Mapping[str, str]] = {"split": "split.kind", "anonymise": "anonymise.users"}

    log: tyro.conf.Positional[Path]
    """Events: Parquet, CSV, TSV or a MovieLens :: file."""
    out: Path
    """Directory to write."""
    overwrite: bool = False
    """Replace a prepared log at --out."""

    def perform(self) -> dict[str, Any]:
        histories = prepare(self.log, self.out, self.part_of(PrepareOptions), overwrite=self.overwrite)
        report = histories.config["report"]
        split = histories.config["split"]
        for warning in (*report["warnings"], *split["warnings"]):
            note(f"warning: {warning}")
        for assumed in report["read"]["assumed"]:
            note(f"assumed: {assumed}")
        features = histories.config["features"]
        return {
            "prepared": str(self.out),
            "users": histories.users,
            "items": histories.items,
            "events": histories.events,
            "repeat_share": histories.repeat_share,
            "split": split,
            "report": report,
            "columns": {kind: one["encoder"]["notes"] for kind, one in features.items()},
            "fingerprint": histories.config["fingerprint"],
        }

    def show(self, result: dict[str, Any]) -> None:
        read, clean, split = result["report"]["read"], result["report"]["clean"], result["split"]
        dropped = {**read["dropped"], "duplicates": clean["duplicates"], "rows of bots": clean["bot_rows"]}
        dropped["rows outside the k-core"] = result["report"].get("k_core", {}).get("rows_dropped", 0)
        gone = ", ".join(f"{count} {what}" for what, count in dropped.items() if count) or "nothing"
        print(f"read {read['rows_read']} rows of {read['source']}; dropped: {gone}")
        print(
            f"{result['users']} users, {result['items']} items, {result['events']} events, "
            f"{result['repeat_share']:.1%} of training are repeats"
        )
        for kind, notes in result["columns"].items():
            for words in filter(None, (_left_out(kind, one) for one in notes)):
                print(words)
        parts = ", ".join(f"{count} {name}" for name, count in split["events"].items())
        print(f"{split['kind']} split, events: {parts}")
        print(f"next: jaxdecay train {result['prepared']} --out RUN")


def _left_out(kind: str, column: Mapping[str, Any]) -> str | None:
    """What of a column is no input of the model, and which option changes that; ``column`` is one of
    `Encoder.notes`."""
    name, encoding, option = column["column"], column["encoding"], f"--{kind}-features"
    if encoding == "text":
        return f"{name}: text, no input by itself; jaxdecay embed makes vectors of it"
    if encoding == "ignore" and column["why"] != "given":
        return f"{name}: no input ({column['why']})"
    if encoding == "vector" and not column["width"]:
        return f"{name}: no input (no vector in the training part)"
    if column.get("rows_cut"):
        kept = f"{column['rows_cut']} rows keep only their first {column['width']} values ({column['why']})"
        vectors = f", {option}.encodings {name} vector makes vectors of them"
        return (
            f"{name}: {kept}; {option}.multi-width keeps more{vectors if 'numbers' in column['why'] else ''}"
        )
    if column.get("categories_cut"):
        cut = f"{column['categories_cut']} rarer categories count as unknown"
        return f"{name}: {cut}; {option}.max-categories keeps more"
    return None


@dataclass(frozen=True, kw_only=True)
class Simulate(SimulateOptions, Command):
    """Draws a log whose half-lives are known, because they were planted; the truth is written beside it."""

    out: Path
    """Directory to write events.parquet, items.parquet, users.parquet and truth.json into; must not be there
    yet, or be empty."""

    def perform(self) -> dict[str, Any]:
        with new_directory(self.out) as directory:
            simulated = simulate(self.part_of(SimulateOptions))
            write(simulated, directory)
        return {
            "log": str(self.out / "events.parquet"),
            "events": len(simulated.events),
            "truth": simulated.truth,
        }

    def show(self, result: dict[str, Any]) -> None:
        planted = result["truth"]["categories"]
        rows = [
            (name, one["half_life_days"], one["period_days"], one["events"]) for name, one in planted.items()
        ]
        show_rows(("category", "planted half-life, days", "period, days", "events"), rows)
        print(f"{result['log']}: {result['events']} events; next: jaxdecay prepare {result['log']} --out DIR")


@dataclass(frozen=True, kw_only=True)
class Datasets(Command):
    """Lists the public logs known by name with their terms or, given a name and --out, fetches one as a log
    to prepare."""

    name: tyro.conf.Positional[str] = ""
    """Name of a public log; without one they are listed."""
    out: Path | None = None
    """Directory to write events.parquet, items.parquet and users.parquet into."""
    accept_terms: bool = False
    """The terms have been read and are accepted; nothing is downloaded without."""
    source: Path | None = None
    """A copy of your own (archive, folder or file), read instead of downloading."""
    cache: Path | None = None
    """Folder that keeps downloads."""

    def perform(self) -> Any:
        if not self.name:
            return [
                {
                    "name": one.name,
                    "title": one.title,
                    "megabytes": one.megabytes,
                    "terms": one.terms,
                    "terms_page": one.terms_page,
                }
                for one in datasets.DATASETS.values()
            ]
        out = self.out or Path(self.name)
        with new_directory(out) as directory:
            log = datasets.fetch(
                self.name, accept_terms=self.accept_terms, cache=self.cache, source=self.source
            )
            for name, table in zip(("events", "items", "users"), log, strict=True):
                if table is not None:
                    table.write_parquet(directory / f"{name}.parquet")
        return {"name": self.name, "log": str(out / "events.parquet"), "events": len(log.events)}

    def show(self, result: Any) -> None:
        if isinstance(result, dict):
            print(f"{result['log']}: {result['events']} events")
            return
        show_rows(("name", "what", "MB"), [(one["name"], one["title"], one["megabytes"]) for one in result])
        print("\nTerms (nothing is downloaded without --accept-terms):")
        for text, page in dict.fromkeys((one["terms"], one["terms_page"]) for one in result):
            print(f"  {text} {page}")
