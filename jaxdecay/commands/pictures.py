"""``jaxdecay plot`` and ``report``: a trained run shown to others."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from jaxdecay.commands import Command
from jaxdecay.progress import Progress

if TYPE_CHECKING:
    from jaxdecay.findings import Findings


@dataclass(frozen=True, kw_only=True)
class Shown(Command):
    """What both show a run by."""

    column: str | None = None
    """Item column by which interests are called; by default the first of words with 2 to 100 values, else
    items themselves."""
    seed: int | None = None
    """Of every draw; by default 0."""

    def found(self, run: Path) -> "Findings":
        """What there is to show."""
        from jaxdecay.findings import Findings

        return Findings(run, column=self.column, seed=0 if self.seed is None else self.seed)

    def show(self, result: dict[str, Any]) -> None:
        print(f"written: {result['written']}")


@dataclass(frozen=True, kw_only=True)
class Plot(Shown):
    """Draws one picture of a run.

    KIND is one of half-lives, spread (of half-lives, over items and users), kernels (before and after
    training), groups (kernels by group), memory, weights (of --user and --item), trajectory and drift (of
    --user), training and training-half-lives, diversity (what it costs), and of what jaxdecay evaluate found
    metrics, calibration, ablation and staleness. --column is of trajectory, --by of ablation, --seed of
    half-lives, trajectory, drift and diversity.
    """

    kind: tyro.conf.Positional[str]
    """What is drawn."""
    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote."""
    out: Path | None = None
    """PNG, SVG or PDF file to write; by default KIND.png in the current directory."""
    user: str | None = None
    """User id, of a picture of a user."""
    item: str | None = None
    """Item id, of a picture of a score."""
    by: str | None = None
    """By what users are told apart in ablation: activity (their events before), or a column of users with few
    values; by default it is by the age of the interest that came back."""

    def perform(self) -> dict[str, Any]:
        from jaxdecay.pictures import Whom, check_kind, draw
        from jaxdecay.plots import check_format, save

        out, whom = self.out or Path(f"{self.kind}.png"), Whom(self.user, self.item, self.by)
        check_kind(self.kind, column=self.column, seed=self.seed, **vars(whom))
        check_format(out)
        return {"written": str(save(draw(self.kind, self.found(self.run), whom), out))}


@dataclass(frozen=True, kw_only=True)
class Report(Shown):
    """Writes one self-contained page on a run, for people: what it found, the table, half-lives, what is
    remembered, examples of users, drift, data, caveats."""

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote and jaxdecay evaluate judged."""
    out: Path
    """HTML file to write."""
    users: int = 3
    """Example users, drawn by the seed."""

    def perform(self) -> dict[str, Any]:
        from jaxdecay.page import write_page

        with Progress() as progress:
            page = write_page(self.found(self.run), self.out, users=self.users, report=progress)
        return {"written": str(page)}
