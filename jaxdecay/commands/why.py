"""``jaxdecay explain`` and ``drift``: why a list is as it is, and whose interests moved."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl
import tyro

from jaxdecay.commands import Command
from jaxdecay.commands.use import named
from jaxdecay.data.formats import PARQUET_SUFFIXES
from jaxdecay.drift import DriftOptions
from jaxdecay.durations import show_days
from jaxdecay.expect import whole
from jaxdecay.explain import Explanation
from jaxdecay.files import check_file
from jaxdecay.moments import iso
from jaxdecay.progress import note
from jaxdecay.report import show_rows
from jaxdecay.watch import Watched

_CALLED = {"weight": "weight", "similarity": "cosine", "contribution": "adds"}


class Reasons(NamedTuple):
    explanation: Explanation
    otherwise: pl.DataFrame | None


@dataclass(frozen=True, kw_only=True)
class Explain(Command):
    """Says why an item has its score: what each past event of the user adds to it, and what would be
    otherwise."""

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote."""
    user: str
    """User id."""
    item: str
    """Item id."""
    at: str | None = None
    """Moment of the request: ISO 8601 (UTC where no zone is given) or whole seconds; by default now."""
    without: tuple[int, ...] = ()
    """Events that had not been, each alone: 1 is the latest."""
    later: tuple[str, ...] = ()
    """The request so much later, such as 30d, nothing having happened since."""
    having: tuple[str, ...] = ()
    """Items that had been taken right before the request, each alone."""
    behaviour: str | None = None
    """How they had been taken; by default as in most events."""
    context: tuple[str, ...] = ()
    """NAME=VALUE of context columns at that moment, such as device=phone; those not given are missing."""
    most: int = 10
    """Events shown, the weightiest; --json has all."""

    def perform(self) -> Reasons:
        from jaxdecay.recommend import load

        whole("most", self.most, 1)
        context, run = named(self.context), load(self.run)
        otherwise = None
        if self.without or self.later or self.having or self.behaviour is not None:
            otherwise = run.what_if(
                self.user,
                self.item,
                self.at,
                without=self.without,
                later=self.later,
                having=self.having,
                behaviour=self.behaviour,
                context=context,
            )
        found = run.explain(self.user, self.item, self.at, context=context)
        for text in run.notes:
            note(f"note: {text}")
        return Reasons(found, otherwise)

    def plain(self, result: Reasons) -> dict[str, Any]:
        found, otherwise = result
        return {
            "user": found.user,
            "item": found.item,
            "at": found.at,
            "score": found.score,
            "exact": found.exact,
            "not_attributed": found.not_attributed,
            "sentence": found.sentence(),
            "rows": found.rows.to_dicts(),
            "otherwise": None if otherwise is None else otherwise.to_dicts(),
        }

    def show(self, result: Reasons) -> None:
        found, otherwise = result
        print(found.sentence(), end="\n\n")
        events = by_head(found)
        shown = events.head(self.most)
        shown = shown.select(one for one in shown if one.null_count() < len(one) or not len(one))
        show_rows(shown.columns, shown.rows())
        if (more := events.height - shown.height) > 0:
            print(f"and {more} more events")
        print()
        parts = found.rows.group_by("head", "source", maintain_order=True).agg(pl.col("contribution").sum())
        rows = [*parts.iter_rows(), ("score", "", found.score)]
        show_rows(("head", "source", "contribution"), rows)
        if not found.exact:
            print(
                "\nAn encoder stands between the events and the score: they were left out one by one, and "
                f"{found.not_attributed:.3g} of the {found.of_the_past:.3g} that the past adds are not "
                "accounted for so."
            )
        if otherwise is not None:
            print()
            show_rows(otherwise.columns, otherwise.rows())


def by_head(found: Explanation) -> pl.DataFrame:
    """Each event with what it adds, the strongest first; then what it weighs and adds by head."""
    age = pl.col("age_days").map_elements(show_days, return_dtype=pl.String).alias("age")
    table = found.events().select("event", "item_id", "behaviour", age, "contribution")
    heads = found.rows.filter(source="event").partition_by("head", maintain_order=True)
    for own in heads:
        names = {word: f"{own['head'][0]} {called}" for word, called in _CALLED.items()}
        if len(heads) == 1:  # which adds all there is
            del names["contribution"]
        table = table.join(own.select("event", *names).rename(names), on="event", how="left")
    return table


@dataclass(frozen=True, kw_only=True)
class Drift(Command):
    """Says whose interests moved, when, and where to: over the whole log, at a share of false alarms."""

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote."""
    users: tuple[str, ...] | None = None
    """User ids; by default all users of the run."""
    by: str = "user"
    """user; catalogue; or a user column, whose values are cohorts."""
    column: str | None = None
    """Item column by whose values interests are named; by default the first with few, else the nearest
    items."""
    on_unknown: Literal["raise", "skip"] = "raise"
    """Users never seen: refuse and say which, or leave them out."""
    options: tyro.conf.OmitArgPrefixes[DriftOptions] = field(default_factory=DriftOptions)
    most: int = 20
    """Detections shown, the strongest; --json and --out have all."""
    out: Path | None = None
    """Parquet file for all detections."""

    def perform(self) -> Watched:
        from jaxdecay.parts import write_parquet
        from jaxdecay.recommend import load

        whole("most", self.most, 1)
        if self.out is not None:
            check_file(self.out, *PARQUET_SUFFIXES)
        run = load(self.run)
        found = run.drift(
            self.users, by=self.by, column=self.column, options=self.options, on_unknown=self.on_unknown
        )
        for text in run.notes:
            note(f"note: {text}")
        if self.out is not None:
            write_parquet([found.detections], found.detections.clear(), self.out)
        return found

    def plain(self, result: Watched) -> dict[str, Any]:
        fast, slow = result.drift.half_lives
        return {
            "watched": result.watched,
            "alarmed": result.alarmed,
            "threshold": result.drift.threshold,
            "fast_days": fast,
            "slow_days": slow,
            "detections": result.detections.to_dicts(),
        }

    def show(self, result: Watched) -> None:
        fast, slow = (show_days(days) for days in result.drift.half_lives)
        whose = "users" if self.by == "user" else "streams"
        adwin = self.options.method == "adwin"
        chance = "" if adwin else f"; if nothing moved, {self.options.false_alarms:.1%} would be"
        above = "" if adwin else f"; alarm above {result.drift.threshold:.3g}"
        print(
            f"{result.alarmed} of {result.watched} {whose} ever alarmed{chance}. Lately is a half-life of "
            f"{fast}, before is one of {slow}{above}.\n"
        )
        strongest = result.detections.sort("statistic", descending=True).head(self.most)
        rows = [
            (
                next(iter(one.values())),
                show_days(one["timestamp"] / 86_400) if result.relative else iso(one["timestamp"])[:10],
                one["statistic"],
                one["change"],
                ", ".join(one["rising"][:3]),
                ", ".join(one["falling"][:3]),
            )
            for one in strongest.to_dicts()
        ]
        show_rows((result.owners.name, "day", "statistic", "change", "rising", "falling"), rows)
        if self.out is not None:
            print(f"written: {self.out}")
