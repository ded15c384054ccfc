"""``jaxdecay policy``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import tyro

from jaxdecay.commands import Command
from jaxdecay.durations import show_days
from jaxdecay.progress import Progress, note
from jaxdecay.report import show_rows


@dataclass(frozen=True, kw_only=True)
class FitPolicy(Command):
    """Fits content, collaborative, factorisation, model and popularity to one scale, and a policy that says
    which of them serves whom, on the validation events of a run.

    Writes RUN/policy.json and RUN/policy.npz, which jaxdecay recommend --strategy reads.
    """

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote."""
    seed: int = 0
    """Of the draw of validation requests."""

    def perform(self) -> pl.DataFrame:
        from jaxdecay.recommend import load

        with Progress() as progress:
            run = load(self.run)
            rows = run.fit_policy(seed=self.seed, report=progress)
        for text in run.notes:
            note(f"note: {text}")
        return rows

    def plain(self, result: pl.DataFrame) -> list[dict[str, Any]]:
        """Infinity is null in JSON: ``never`` tells it from a strategy that counts nothing."""
        return result.with_columns(never=pl.col("half_life_days").is_infinite()).to_dicts()

    def show(self, result: pl.DataFrame) -> None:
        rows = [
            (
                one["strategy"],
                f"{one['log_likelihood']:.3f}",
                "" if one["weight"] is None else f"{one['weight']:.2f}",
                "" if one["half_life_days"] is None else show_days(one["half_life_days"]),
            )
            for one in result.to_dicts()
        ]
        show_rows(("strategy", "log-likelihood", "weight", "half-life"), rows)
        print(f"written: {self.run / 'policy.json'}")
        print(f"next: jaxdecay recommend {self.run} --strategy policy")
