"""``jaxdecay evaluate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jaxdecay.commands import Command
from jaxdecay.progress import Progress
from jaxdecay.protocol import Protocol, file_of


@dataclass(frozen=True, kw_only=True)
class Evaluate(Protocol, Command):
    """Ranks the whole catalogue for every held-out event by the run's model, the same model without decay,
    and the baselines.

    Prints figures with 95 % intervals over users, and writes all of them to RUN/metrics.json, or for another
    part or some items alone to a file with these words in its name.
    """

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote."""

    def perform(self) -> Any:
        from jaxdecay.assess import assess

        with Progress() as progress:
            return assess(self.run, self.part_of(Protocol), report=progress)

    def plain(self, result: Any) -> dict[str, Any]:
        return result.to_json()

    def show(self, result: Any) -> None:
        from jaxdecay.report import show_evaluation

        show_evaluation(result, k=self.k[0])
        print(f"written: {self.run / file_of(self)}")
