"""``jaxdecay policy``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import tyro

from jaxdecay.commands import Command
from jaxdecay.durations import show_days
from jaxdecay.errors import InputError
from jaxdecay.progress import Progress, note
from jaxdecay.report import show_rows


def weighed(words: tuple[str, ...] | None) -> str | dict[str, float] | None:
    """A strategy, or several with their weights."""
    if not words:
        return None
    if len(words) == 1 and "=" not in words[0]:
        return words[0]
    weights: dict[str, float] = {}
    for word in words:
        name, _, weight = word.partition("=")
        if name in weights:
            raise InputError(f"--strategy {word!r}: {name} is given twice; give it once")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise InputError(f"--strategy {word!r}: give NAME=WEIGHT, such as content=0.7") from None
    return weights


@dataclass(frozen=True, kw_only=True)
class FitPolicy(Command):
    """Fits content, collaborative, factorisation, model and popularity to one scale, and a policy that says
    which of them serves whom, on the validation events of a run.

    Shows how likely each makes what was taken, and the policy's mean weights, also for those of whom nothing
    (cold), little (lukewarm) and much (warm) is known, whose interests have moved or are still. Writes
    RUN/policy.json and RUN/policy.npz, which jaxdecay recommend --strategy reads.
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
        groups = result.partition_by(["known", "moved"], maintain_order=True)
        rows = [
            (
                one["strategy"],
                f"{one['log_likelihood']:.3f}",
                "" if one["weight"] is None else f"{one['weight']:.2f}",
                "" if one["half_life_days"] is None else show_days(one["half_life_days"]),
            )
            for one in groups[0].to_dicts()
        ]
        show_rows(("strategy", "log-likelihood", "weight", "half-life"), rows)
        print("\nwho is served best by what: log-likelihood (* the best alone), mean weight in the policy")
        columns = [_told(group) for group in groups]
        names = ["events", *groups[0]["strategy"]]
        show_rows(("", *map(_who, groups)), zip(names, *columns, strict=True))
        print(f"written: {self.run / 'policy.json'}")
        print(f"next: jaxdecay recommend {self.run} --strategy policy")


def _who(group: pl.DataFrame) -> str:
    known, moved = group.row(0, named=True)["known"], group["moved"][0]
    return known if moved is None or known == "cold" else f"{known}, {'moved' if moved else 'still'}"


def _told(group: pl.DataFrame) -> list[str]:
    """How many events, and for each strategy what it makes of them and its weight."""
    alone = group.filter(pl.col("policy_weight").is_not_null())["log_likelihood"].max()
    cells = [f"{group['events'][0]}"]
    for one in group.to_dicts():
        weight, likely = one["policy_weight"], one["log_likelihood"]
        best = "*" if weight is not None and likely == alone else " "
        cells.append(
            f"{likely:.2f}{best}" + ("" if weight is None else f" {weight:.2f}".replace(" 0.", " ."))
        )
    return cells
