"""``jaxdecay evaluate``."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from jaxdecay.commands import Command
from jaxdecay.commands.policy import weighed
from jaxdecay.progress import Progress
from jaxdecay.protocol import Protocol, file_of
from jaxdecay.steering import Steering


@dataclass(frozen=True, kw_only=True)
class Evaluate(Protocol, Command):
    """Ranks the whole catalogue for every held-out event by the run's model, the same model without decay,
    and the baselines; or, with --strategy or what steers lists, by these beside the model.

    Prints figures with 95 % intervals over users, and writes all of them to RUN/metrics.json, or for another
    part, some items alone, a strategy or steered lists to a file with these words in its name.
    """

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote."""
    strategy: tuple[str, ...] | None = None
    """As of jaxdecay recommend: judge this strategy, or mixture by weights, beside the model."""
    steer: Steering = field(default_factory=Steering)

    def perform(self) -> Any:
        from jaxdecay.trial import trial

        with Progress() as progress:
            return trial(
                self.run,
                self.part_of(Protocol),
                strategy=weighed(self.strategy),
                steer=self._steer,
                report=progress,
            )

    def plain(self, result: Any) -> dict[str, Any]:
        return result.to_json()

    def show(self, result: Any) -> None:
        from jaxdecay.report import show_evaluation
        from jaxdecay.trial import words_of

        show_evaluation(result, k=self.k[0])
        print(f"written: {self.run / file_of(self, *words_of(self.strategy, self._steer))}")

    @property
    def _steer(self) -> Steering | None:
        return None if self.steer == Steering() else self.steer
