"""``jaxdecay retrain``."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from jaxdecay.commands import Command
from jaxdecay.errors import InputError
from jaxdecay.progress import Progress, note
from jaxdecay.retrain import METRIC, RetrainOptions, retrain
from jaxdecay.serve.opened import beside, open_store
from jaxdecay.serve.store import StoreError


@dataclass(frozen=True, kw_only=True)
class Retrain(Command):
    """Trains a run on with what its store has had since, and judges it on the newest day beside the run.

    Runs beside jaxdecay serve. Exit status 2, with the table, if the new run is worse; otherwise --replace
    has a link to the run that is served point to the new one. The same command goes on with one that was
    interrupted.
    """

    run: tyro.conf.Positional[Path]
    """Run directory, or the link that is served."""
    store: str = "live"
    """Where its events are kept: live is RUN.live.sqlite, beside RUN; another SQLite file, or
    redis://HOST:PORT/DATABASE."""
    out: Path
    """Run directory to write."""
    replace: Path | None = None
    """Symbolic link that is to point to the new run unless it is refused."""
    nice: int = 10
    """By how much its priority is lowered, so that serving goes first (Unix)."""
    retrain: tyro.conf.OmitArgPrefixes[RetrainOptions] = field(default_factory=RetrainOptions)

    def perform(self) -> Any:
        if self.nice and hasattr(os, "nice"):
            os.nice(self.nice)
        path = beside(self.run) if self.store == "live" else Path(self.store)
        if "://" not in self.store and not path.is_file():
            raise InputError(f"{path}: there is no such store; give that of jaxdecay serve")
        try:
            store = open_store(self.store, self.run)
            try:
                with Progress() as progress:
                    return retrain(
                        self.run, store, self.out, self.retrain, replace=self.replace, report=progress
                    )
            finally:
                store.close()
        except StoreError as error:
            raise InputError(str(error)) from error

    def plain(self, result: Any) -> dict[str, Any]:
        return {"refused": result.refused, **result.report.to_json()}

    def show(self, result: Any) -> None:
        from jaxdecay.report import show_evaluation

        show_evaluation(result.report, k=10)
        print(f"written: {self.out / 'metrics.json'}")
        if self.replace is not None and not result.refused:
            note(f"{self.replace} now is {self.out}")

    def fault(self, result: Any) -> str | None:
        if not result.refused:
            return None
        one = result.difference
        return (
            f"{self.out} is refused: its {METRIC} on the newest events is {one.value:+.4f} [{one.low:+.4f},"
            f" {one.high:+.4f}] beside that of {self.run}, which stays: look at what the store has had, or"
            " retrain into another --out with a lower --learning-rate or more --replay"
        )
