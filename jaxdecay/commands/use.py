"""``jaxdecay recommend``, ``similar`` and ``half-lives``: a trained run in use."""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import polars as pl
import tyro

from jaxdecay.commands import Command
from jaxdecay.commands.policy import weighed
from jaxdecay.durations import show_days, show_periods
from jaxdecay.errors import InputError
from jaxdecay.progress import Progress, note
from jaxdecay.report import show_rows
from jaxdecay.steering import Steering

K = Annotated[int, tyro.conf.arg(aliases=["-k"])]


class Answer(NamedTuple):
    """Rows, or the file that they went to, and the titles of items where the log has them."""

    rows: pl.DataFrame | Path
    titles: pl.DataFrame | None


def _answer(run: Any, rows: pl.DataFrame | Path) -> Answer:
    for text in run.notes:
        note(f"note: {text}")
    return Answer(rows, run.items.select("item_id", "title") if "title" in run.items.columns else None)


def named(words: tuple[str, ...]) -> dict[str, Any]:
    """Context columns by name; "[0.1, 2]" is a vector. Numbers stay text: a column of numbers reads them when
    it is encoded."""
    columns: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise InputError(f"--context {word!r}: give NAME=VALUE, such as device=phone")
        if name in columns:
            raise InputError(f"--context {word!r}: {name} is given twice; give it once")
        columns[name] = value
        if value.startswith("["):
            with contextlib.suppress(json.JSONDecodeError):
                columns[name] = json.loads(value)
    return columns


@dataclass(frozen=True, kw_only=True)
class Listing(Command):
    """What a list may hold, and where it goes."""

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote."""
    k: K = 10
    """Length of each list."""
    allow: tuple[str, ...] | None = None
    """Item ids that alone may be listed."""
    deny: tuple[str, ...] = ()
    """Item ids that may not be listed."""
    where: str | None = None
    """Condition on the item columns as in SQL, such as "category = 'news' AND price < 20"."""

    def plain(self, result: Answer) -> Any:
        return {"written": str(result.rows)} if isinstance(result.rows, Path) else result.rows.to_dicts()

    def show(self, result: Answer) -> None:
        if isinstance(result.rows, Path):
            print(f"written: {result.rows}")
            return
        rows = result.rows
        if result.titles is not None:
            listed = "similar_id" if "similar_id" in rows.columns else "item_id"
            rows = rows.join(
                result.titles, left_on=listed, right_on="item_id", how="left", maintain_order="left"
            )
        show_rows(rows.columns, rows.rows())


@dataclass(frozen=True, kw_only=True)
class Recommend(Listing):
    """Lists what users may want at a moment: user_id, item_id, score, rank.

    Scores are logits: a difference within a list is the log odds of one item against the other.
    """

    users: tuple[str, ...] | None = None
    """User ids; by default all users of the run."""
    at: str | None = None
    """Moment of the request: ISO 8601 (UTC where no zone is given) or whole seconds; by default now."""
    exclude_seen: bool | None = None
    """Leave out what the user already had; by default unless more than 5 % of training events are repeats."""
    on_unknown: Literal["raise", "skip", "popular"] = "raise"
    """Users and items never seen: refuse and say which, leave them out, or give such users what anybody new
    gets."""
    context: tuple[str, ...] = ()
    """NAME=VALUE of context columns at that moment, such as device=phone; those not given are missing."""
    steer: Steering = field(default_factory=Steering)
    strategy: tuple[str, ...] | None = None
    """content, collaborative, factorisation, model, popularity, or policy; or several by weight, such as
    model=0.7 collaborative=0.3. All but the model need jaxdecay policy RUN once. Lists say who served
    them."""
    out: Path | None = None
    """Parquet file to stream the rows to, in constant memory."""

    def perform(self) -> Answer:
        from jaxdecay.recommend import load

        context, strategy = named(self.context), weighed(self.strategy)
        run = load(self.run)
        recommend: Any = run.recommend  # with or without a file, which its overloads tell apart
        rows = recommend(
            self.users,
            self.k,
            self.at,
            exclude_seen=self.exclude_seen,
            allow=self.allow,
            deny=self.deny or None,
            where=self.where,
            on_unknown=self.on_unknown,
            context=context,
            steer=None if self.steer == Steering() else self.steer,
            strategy=strategy,
            out=self.out,
        )
        return _answer(run, rows)


@dataclass(frozen=True, kw_only=True)
class Similar(Listing):
    """Lists the items nearest to items, by the cosine of their learned vectors: item_id, similar_id, score,
    rank."""

    items: tuple[str, ...]
    """Item ids."""
    on_unknown: Literal["raise", "skip"] = "raise"
    """Items never seen: refuse and say which, or leave them out."""

    def perform(self) -> Answer:
        from jaxdecay.recommend import load

        run = load(self.run)
        rows = run.similar(
            self.items,
            self.k,
            allow=self.allow,
            deny=self.deny or None,
            where=self.where,
            on_unknown=self.on_unknown,
        )
        return _answer(run, rows)


@dataclass(frozen=True, kw_only=True)
class HalfLives(Command):
    """Shows the half-lives that a run has learned, by head and item group, with 95 % intervals, and keeps
    them with these in RUN/half_lives.json (those by item group). Rhythms are told where they have at least
    5 % of the weight."""

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote."""
    by: str | None = None
    """item, user, behaviour, or a column of items or users, each of whose values gets rows; by default the
    item groups of the model."""
    of: tuple[str, ...] | None = None
    """The only ids or values; by default those with the most events."""
    most: int | None = None
    """How many of these; by default 20."""
    intervals: Literal["bootstrap", "laplace"] = "bootstrap"
    """bootstrap: from refits over users, in six passes over the log. laplace: from the curvature of the
    likelihood, in one over 500 users."""
    bootstrap: int = 400
    """Refits behind the intervals; 0 gives none, at once."""
    seed: int = 0
    """Of the draws."""

    def perform(self) -> pl.DataFrame:
        from jaxdecay.half_lives import training_span
        from jaxdecay.intervals import keep, said
        from jaxdecay.recommend import load

        run = load(self.run)
        with Progress() as progress:
            found = run.half_lives(
                by=self.by,
                of=self.of,
                most=self.most,
                intervals=self.intervals,
                bootstrap=self.bootstrap,
                seed=self.seed,
                report=progress,
            )
        if self.bootstrap and self.by is None and found["low"].is_not_null().any():
            keep(self.run, found, said(self.intervals, bootstrap=self.bootstrap, seed=self.seed))
        span = training_span(run.histories)
        if beyond := int((found["half_life_days"] > span).sum()):
            note(
                f"note: {beyond} half-lives are longer than the {show_days(span)} that training looked over: "
                "they are where the curves lead, not what the log has shown"
            )
        return found

    def plain(self, result: pl.DataFrame) -> list[dict[str, Any]]:
        from jaxdecay.intervals import plain

        return plain(result)

    def show(self, result: pl.DataFrame) -> None:
        rows = [
            (
                one["head"],
                one["group"],
                show_days(one["half_life_days"]),
                "" if one["low"] is None else f"{show_days(one['low'])} to {show_days(one['high'])}",
                one["events"],
                show_periods(one["periods_days"], one["widths_days"]),
            )
            for one in result.to_dicts()
        ]
        show_rows(("head", "group", "half-life", "95 % interval", "events", "periods"), rows)
