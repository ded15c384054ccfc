"""What the demonstration tells: half-lives and metrics in a table each, and one user's lists now and 30 days
later, with the reasons why they differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from jaxdecay import asked
from jaxdecay.configure import group_levels
from jaxdecay.curves import Curve, mean_kernels
from jaxdecay.durations import plain_periods, show_days, show_periods
from jaxdecay.generations import newest
from jaxdecay.ids import read_table
from jaxdecay.modes import first_half
from jaxdecay.moments import iso
from jaxdecay.results import Report

DAYS = 30
_SHOWN, _WIDE = 10, 100
_USERS = 40  # of whom the one whose list changes most is shown
_DAY = 86_400

Table = tuple[list[str], list[list[Any]]]
"""Header and rows."""


def half_life_table(half_lives: pl.DataFrame, truth: Mapping[str, Any] | None) -> Table:
    """Planted beside learned half-lives and periods; without truth what was learned, by head and group."""
    if truth is None:
        header = ["head", "group", "half-life", "95 % interval", "events", "periods"]
        rows = [
            [
                one["head"],
                one["group"],
                show_days(one["half_life_days"]),
                _interval(one),
                f"{one['events']:,}",
                show_periods(one["periods_days"], one["widths_days"]),
            ]
            for one in half_lives.iter_rows(named=True)
        ]
        return header, rows
    header = ["category", "planted", "learned", "95 % interval", "off by", "planted period", "learned period"]
    learned = {one["group"]: one for one in half_lives.filter(head="revisit").iter_rows(named=True)}
    rows = []
    for name, planted in truth["categories"].items():
        one, true, period = learned[name], planted["half_life_days"], planted["period_days"]
        row = [name, show_days(true), show_days(one["half_life_days"]), _interval(one)]
        row.append(f"{one['half_life_days'] / true - 1:+.0%}")
        plain = plain_periods(one["periods_days"], one["widths_days"])  # as the planted one
        periods = [] if period is None else sorted(plain, key=lambda days: abs(days - period))
        rows.append([*row, f"{period:.2f} d" if period else "", f"{periods[0]:.2f} d" if periods else ""])
    return header, rows


def _interval(one: Mapping[str, Any]) -> str:
    """Both ends in the unit that suits the longer one."""
    low, high = one["low"], one["high"]
    if low is None:
        return ""
    if math.isinf(high):
        return f"{show_days(low)} to never"
    units = ((2.0, 1 / 24, "h"), (730.0, 1.0, "d"), (math.inf, 365.25, "y"))
    size, name = next((size, name) for limit, size, name in units if high < limit)
    return f"{low / size:.1f} to {high / size:.1f} {name}"


def metrics_table(report: Report, *, model: str = "jaxdecay") -> Table:
    """Every system, best first: metrics with 95 % intervals, NDCG@10 with the request time withheld, and the
    model's lead over it."""
    header = ["system", "NDCG@10", "HR@10", "time withheld", f"{model}'s lead in NDCG@10"]
    best = sorted(report.systems, key=lambda name: -report.figure(name, "ndcg@10").value)
    rows = []
    for name in best:
        figures = [report.figure(name, metric) for metric in ("ndcg@10", "hr@10")]
        withheld = f"{report.figure(name, 'ndcg@10', time='withheld').value:.3f}"
        cells = [f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in figures]
        lead = ""
        if name != model:
            minus = report.difference(name, "ndcg@10", model)
            lead = f"{-minus.value:+.3f} [{-minus.high:+.3f}, {-minus.low:+.3f}]"
        rows.append([name, *cells, withheld if report.systems[name]["uses_time"] else "", lead])
    return header, rows


@dataclass(frozen=True)
class Story:
    """One user's lists at two moments."""

    title: str
    lists: pl.DataFrame
    """when ("now", "later"), user_id, item_id, score, rank, group (null: none): the first ten of each."""
    why: Sequence[str]
    """Sentences."""

    def table(self) -> Table:
        """Both lists side by side."""
        now, later = (self.lists.filter(when=when).sort("rank") for when in ("now", "later"))
        before = dict(now.select("item_id", "rank").iter_rows())
        rows = []
        for one, other in zip(now.iter_rows(named=True), later.iter_rows(named=True), strict=False):
            left, right = (
                [str(each["item_id"]), each["group"] or "", f"{each['score']:.2f}"] for each in (one, other)
            )
            rows.append([one["rank"], *left, *right, str(before.get(other["item_id"], "new"))])
        return ["rank", "now", "", "score", f"{DAYS} days later", "", "score", "was"], rows


def find(run: Any) -> Story:
    """The lists of the user, of those active last, whose list changes most between now and 30 days later.

    Now is the second after the log's last event or, with relative times, after the user's own.
    """
    ids = read_table(newest(run.path), "user", rows=run.histories.users)["user_id"]
    most, told = -1.0, None
    for user, now in _candidates(run):
        lists = [
            run.recommend(ids[user : user + 1], k=min(_WIDE, run.histories.items), at=at)
            for at in (now, now + DAYS * _DAY)
        ]
        moved = _moved(lists[0], lists[1])
        if moved["change"].sum() > most:
            most, told = moved["change"].sum(), (user, now, lists, moved)
    assert told is not None
    user, now, lists, moved = told
    change = Change.of(run, user, now)
    both = pl.concat(
        one.head(_SHOWN).with_columns(when=pl.lit(when))
        for one, when in zip(lists, ("now", "later"), strict=True)
    )
    groups = run.items.select("item_id", group=pl.Series(change.groups, dtype=pl.String))
    relative = run.histories.clock == "relative"
    moment = f"{now / _DAY:.1f} days after the first event" if relative else iso(now)
    return Story(
        f"Ten recommendations for user {ids[user]} now ({moment}) and {DAYS} days later",
        both.join(groups, on="item_id", how="left", maintain_order="left"),
        change.sentences(moved, dict(run.items.select("item_id", "index").iter_rows())),
    )


def _candidates(run: Any) -> list[tuple[int, int]]:
    """Users (indices) whose last events are latest, among the busier half, and the second that is now for
    each."""
    histories = run.histories
    length = np.diff(histories.offsets)
    last = np.asarray(histories.time)[histories.offsets[1:] - 1]
    users = np.argsort(-np.where(length >= np.median(length), last, -1), kind="stable")[:_USERS]
    now = last + 1 if histories.clock == "relative" else np.full(len(last), last.max() + 1)
    return [(int(user), int(now[user])) for user in users]


def _moved(now: pl.DataFrame, later: pl.DataFrame) -> pl.DataFrame:
    """Items of either first ten: item_id, rank, rank_later (101: beyond 100), change (how many times the rank
    has doubled or halved)."""
    both = now.join(later, on="item_id", how="full", suffix="_later", coalesce=True)
    both = both.with_columns(pl.col("rank", "rank_later").fill_null(_WIDE + 1))
    both = both.filter(pl.min_horizontal("rank", "rank_later") <= _SHOWN)
    change = (pl.col("rank_later").log(2) - pl.col("rank").log(2)).abs()
    return both.select("item_id", "rank", "rank_later", change=change)


@dataclass(frozen=True)
class Change:
    """What the heads say of every item now and later, and the history behind it."""

    parts: Mapping[str, np.ndarray]
    """(2, V) what each head adds to the scores, now and later."""
    groups: Sequence[str | None]
    count: np.ndarray
    """(V,) past events with the item."""
    age: np.ndarray
    """(V,) days since the latest of them; NaN if there is none."""
    curves: Mapping[tuple[str, str], Curve]
    """Mean kernels by head and group."""

    @classmethod
    def of(cls, run: Any, user: int, now: int) -> "Change":
        """For a user (index) and the second that is now."""
        histories, predictor = run.histories, run.predictor
        requests = asked.requests_at(histories, np.full(2, user), np.array([now, now + DAYS * _DAY]))
        context = asked.context_of(histories, None)[0].take(np.zeros(2, int))
        rows = slice(int(histories.offsets[user]), int(requests.history_end[0]))
        item, time = np.asarray(histories.item)[rows], np.asarray(histories.time)[rows]
        latest = np.full(histories.items, np.nan)
        latest[item] = time  # rows are in order of time, so the last one stays
        levels = [None, *group_levels(histories, predictor.model.spec)]
        return cls(
            parts=predictor.parts(requests, context),
            groups=[levels[code] for code in np.asarray(predictor.items.group)],
            count=np.bincount(item, minlength=histories.items),
            age=(now - latest) / _DAY,
            curves={
                (one.head, one.group): one
                for one in mean_kernels(histories, predictor.model, predictor.params)
            },
        )

    def sentences(self, moved: pl.DataFrame, index: Mapping[Any, int]) -> list[str]:
        """On the two items that fall most and the one that rises most; ``index`` is each item's place."""
        falls = moved.filter(pl.col("rank_later") > pl.col("rank")).sort("change", descending=True).head(2)
        rises = moved.filter(pl.col("rank_later") < pl.col("rank")).sort("change", descending=True).head(1)
        beside = np.array([index[one] for one in moved.filter(pl.col("rank") <= _SHOWN)["item_id"]])
        lines = []
        for one in pl.concat([falls, rises]).iter_rows(named=True):
            place, falling = index[one["item_id"]], one["rank_later"] > one["rank"]
            name = f"{one['item_id']}{_of(self.groups[place])}"
            ranks = [
                f"{rank}" if rank <= _WIDE else f"below {_WIDE}" for rank in (one["rank"], one["rank_later"])
            ]
            verb = "falls" if falling else "rises"
            lines.append(
                f"{name} {verb} from {ranks[0]} to {ranks[1]}: {self.reason(place, beside, falling)}."
            )
        return lines or [f"They do not: what this user did fades alike within {DAYS} days."]

    def reason(self, item: int, beside: np.ndarray, falling: bool) -> str:
        """Which head moved the item most against those that led the list, and what that head goes by."""
        moves = {head: after - before for head, (before, after) in self.parts.items()}
        against = {head: float(move[item] - move[beside].mean()) for head, move in moves.items()}
        head = (min if falling else max)(against, key=lambda name: against[name])
        before, after = (float(value) for value in self.parts[head][:, item])
        others = f"{float(moves[head][beside].mean()):+.1f}"
        if abs(after - before) < 0.05:
            said = f"its {head} score stays at {after:.1f}, that of the former ten moves by {others}"
        elif falling == (after < before):
            said = f"its {head} score {'falls' if falling else 'rises'} from {before:.1f} to {after:.1f}"
        else:
            said = (
                f"its {head} score goes from {before:.1f} to {after:.1f}, that of the former ten by {others}"
            )
        return f"{said}. {self._since(head, item)}"

    def _since(self, head: str, item: int) -> str:
        """What the head goes by for this item, and how much of that is left now and later."""
        group = self.groups[item] if (head, self.groups[item] or "") in self.curves else None
        curve = self.curves.get((head, group or "all"))
        if curve is None:
            return "It goes by what does not fade"
        half_life = float(first_half(curve.age, curve.value))
        halves = (
            "never falls to one half" if np.isinf(half_life) else f"has a half-life of {show_days(half_life)}"
        )
        halves = f"what {group or 'an event'} leaves behind {halves}"
        count, age = int(self.count[item]), float(self.age[item])
        if head != "revisit" or not count:
            by = {"similarity": "the taste in the whole history", "popularity": "what everybody does"}
            return f"It goes by {by.get(head, 'the same item')}, and {halves}"
        latest = "The one event behind it" if count == 1 else f"The latest of the {count} events behind it"
        left = [f"{np.interp(days, curve.age, curve.value):.0%}" for days in (age, age + DAYS)]
        old = "new" if age < 1 / 1440 else f"{show_days(age)} old"
        return f"{latest} is {old}: of it {left[0]} is left now, {left[1]} later, for {halves}"


def _of(group: str | None) -> str:
    return f" ({group})" if group else ""
