"""What the demonstration tells: half-lives in a table, and one user's lists now and 30 days later with the reasons
why they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from jaxdecay import asked
from jaxdecay.configure import group_levels
from jaxdecay.durations import show_days
from jaxdecay.generations import newest
from jaxdecay.ids import read_table
from jaxdecay.moments import iso

DAYS = 30
_SHOWN, _WIDE = 10, 100
_USERS = 40  # of whom the one with the most telling lists is chosen
_DAY = 86_400


@dataclass(frozen=True)
class Story:
    """One user's lists at two moments."""

    title: str
    lists: pl.DataFrame
    """when ("now", "later"), user_id, item_id, score, rank, group (null: none): the first ten of each."""
    why: Sequence[str]
    """Sentences."""

    def rows(self) -> tuple[list[str], list[list[Any]]]:
        """Both lists side by side, as header and rows."""
        now, later = (self.lists.filter(when=when).sort("rank") for when in ("now", "later"))
        before = dict(now.select("item_id", "rank").iter_rows())
        rows = []
        for rank in range(1, max(len(now), len(later)) + 1):
            cells: list[Any] = [rank]
            for side in (now, later):
                one = side.filter(rank=rank)
                cells += (
                    [f"{one['item_id'][0]}", one["group"][0] or "", f"{one['score'][0]:.2f}"]
                    if len(one)
                    else [""] * 3
                )
            item = cells[4]
            cells.append("" if item == "" else _was(before, item))
            rows.append(cells)
        return ["rank", "now", "", "score", f"{DAYS} days later", "", "score", "was"], rows


def _was(before: Mapping[Any, int], shown: str) -> str:
    rank = {str(item): rank for item, rank in before.items()}.get(shown)
    return f"{rank}" if rank else "new"


def half_life_rows(
    half_lives: pl.DataFrame, truth: Mapping[str, Any] | None
) -> tuple[list[str], list[list[str]]]:
    """Planted and learned half-lives of coming back, with periods; without truth the learned ones of all
    heads."""
    if truth is None:
        header = ["head", "group", "half-life", "95 % interval", "events", "periods"]
        return header, [
            [
                one["head"],
                one["group"],
                show_days(one["half_life_days"]),
                _interval(one),
                f"{one['events']:,}",
                _periods(one),
            ]
            for one in half_lives.iter_rows(named=True)
        ]
    header = ["category", "planted", "learned", "95 % interval", "off by", "planted period", "learned period"]
    learned = {one["group"]: one for one in half_lives.filter(head="revisit").iter_rows(named=True)}
    rows = []
    for name, planted in truth["categories"].items():
        one, true, period = learned[name], planted["half_life_days"], planted["period_days"]
        nearest = min(one["periods_days"], key=lambda days: abs(days - (period or days)), default=None)
        rows.append(
            [
                name,
                show_days(true),
                show_days(one["half_life_days"]),
                _interval(one),
                f"{one['half_life_days'] / true - 1:+.0%}",
                "" if period is None else f"{period:.2f} d",
                "" if period is None or nearest is None else f"{nearest:.2f} d",
            ]
        )
    return header, rows


def _interval(one: Mapping[str, Any]) -> str:
    return "" if one["low"] is None else f"{show_days(one['low'])} to {show_days(one['high'])}"


def _periods(one: Mapping[str, Any]) -> str:
    return ", ".join(show_days(days) for days in one["periods_days"])


def find(run: Any, half_lives: pl.DataFrame) -> Story:
    """The lists of the user, among the latest active ones, whose lists differ most between now and 30 days
    later. "Now" is the second after the log's last event, or with relative times after the user's own."""
    best, told = -1.0, None
    for user, at in _candidates(run):
        lists = [_list(run, user, moment) for moment in (at, at + DAYS * _DAY)]
        if (moved := _moved(*lists)) > best:
            best, told = moved, (user, at, lists)
    assert told is not None
    user, at, lists = told
    change = Change.of(run, user, at, half_lives)
    groups = pl.Series("group", change.groups, dtype=pl.String)
    both = pl.concat(
        one.head(_SHOWN).with_columns(when=pl.lit(when))
        for one, when in zip(lists, ("now", "later"), strict=True)
    )
    both = both.join(run.items.select("item_id").with_columns(groups), on="item_id", maintain_order="left")
    start = (
        f"{_DAY and at / _DAY:.1f} days after the first event"
        if run.histories.clock == "relative"
        else iso(at)
    )
    name = lists[0]["user_id"][0]
    return Story(
        f"Ten recommendations for user {name}, now ({start}) and {DAYS} days later",
        both,
        _why(run, change, lists),
    )


def _candidates(run: Any) -> list[tuple[int, int]]:
    """Users (indices) with the latest last events, and the second that is now for each."""
    histories = run.histories
    length = np.diff(histories.offsets)
    last = np.asarray(histories.time)[histories.offsets[1:] - 1]
    worth = np.where(length >= np.quantile(length, 0.5), last, -1)
    users = np.argsort(-worth, kind="stable")[:_USERS]
    now = last + 1 if histories.clock == "relative" else np.full(len(last), last.max() + 1)
    return [(int(user), int(now[user])) for user in users]


def _list(run: Any, user: int, at: int) -> pl.DataFrame:
    return run.recommend(_user_ids(run)[user : user + 1], k=min(_WIDE, run.histories.items), at=at)


def _user_ids(run: Any) -> pl.Series:
    return read_table(newest(run.path), "user", rows=run.histories.users)["user_id"]


def _moved(now: pl.DataFrame, later: pl.DataFrame) -> float:
    """How many places the first ten have moved, one with another; a place counts less the lower it is."""
    ranks = now.head(_SHOWN).join(later, on="item_id", how="left", suffix="_later")
    place = ranks["rank"].to_numpy(), ranks["rank_later"].fill_null(_WIDE + 1).to_numpy()
    return float(np.abs(np.log2(1 + place[1]) - np.log2(1 + place[0])).sum())


@dataclass(frozen=True)
class Change:
    """What the heads say of every item, now and later, and the history behind it."""

    parts: Mapping[str, np.ndarray]
    """(2, V) what each head adds to the scores."""
    groups: Sequence[str | None]
    count: np.ndarray
    """(V,) past events with the item."""
    age: np.ndarray
    """(V,) days since the latest of them; NaN if there is none."""
    half_lives: Mapping[tuple[str, str], float]
    """Days, by head and group."""

    @classmethod
    def of(cls, run: Any, user: int, at: int, half_lives: pl.DataFrame) -> "Change":
        histories, predictor = run.histories, run.predictor
        requests = asked.requests_at(histories, np.full(2, user), np.array([at, at + DAYS * _DAY]))
        parts = predictor.parts(requests, asked.context_of(histories, None).take(np.zeros(2, int)))
        rows = slice(int(histories.offsets[user]), int(requests.history_end[0]))
        item, time = np.asarray(histories.item)[rows], np.asarray(histories.time)[rows]
        latest = np.full(histories.items, np.nan)
        latest[item] = time  # the last one stays: rows are in order of time
        levels = [None, *group_levels(histories, predictor.model.spec)]
        codes = np.asarray(predictor.items.group)
        keys = half_lives.select("head", "group").iter_rows()
        return cls(
            parts=parts,
            groups=[levels[code] if code < len(levels) else None for code in codes],
            count=np.bincount(item, minlength=histories.items),
            age=(at - latest) / _DAY,
            half_lives=dict(zip(keys, half_lives["half_life_days"], strict=True)),
        )

    def reason(self, item: int, *, beside: np.ndarray, falls: bool) -> str:
        """Which head moved this item most against the items ``beside`` it, in words."""
        moved = {name: values[1] - values[0] for name, values in self.parts.items()}
        against = {name: float(change[item] - change[beside].mean()) for name, change in moved.items()}
        head = (min if falls else max)(against, key=lambda name: against[name])
        before, after = (float(value) for value in self.parts[head][:, item])
        verb = "fell" if after < before else "rose"
        if not falls and after < before:
            others = float(moved[head][beside].mean())
            change = f"fell only from {before:.1f} to {after:.1f}, while the first ten lost {-others:.1f} on average"
        elif abs(after - before) < 0.05:
            change = f"stayed at {after:.1f}, while the first ten {'lost' if falls else 'moved by'} {abs(float(moved[head][beside].mean())):.1f}"
        else:
            change = f"{verb} from {before:.1f} to {after:.1f}"
        return f"its {head} score {change}{self._behind(head, item)}"

    def _behind(self, head: str, item: int) -> str:
        """What the head has to go on, and how fast that fades."""
        group = self.groups[item]
        half_life = self.half_lives.get((head, group or "all"), self.half_lives.get((head, "all")))
        subject = "events" if group is None else group
        fades = "" if half_life is None else f"{subject} has a half-life of {show_days(half_life)}"
        if half_life is not None and np.isinf(half_life):
            fades = f"what {subject} writes never falls to one half"
        if group is None:
            fades = fades.replace("events has", "events have").replace("events writes", "events write")
        if head == "revisit" and self.count[item]:
            count = int(self.count[item])
            are = "one event behind it is" if count == 1 else f"{count} events behind it are"
            newest = (
                f"{show_days(float(self.age[item]))} old"
                if count == 1
                else f"at least {show_days(float(self.age[item]))} old"
            )
            what = f"{group} and " if group else ""
            return f": the {are} {what}{newest} now, and {fades}"
        if head == "similarity":
            return f": it is scored by the taste read from the whole history, and there {fades}"
        return f": {fades}" if fades else ""


def _why(run: Any, change: Change, lists: Sequence[pl.DataFrame]) -> list[str]:
    """Sentences on the two items of the first ten that fall most, and the one that rises most."""
    now, later = lists
    index = dict(run.items.select("item_id", "index").iter_rows())
    moved = now.join(later, on="item_id", how="full", suffix="_later", coalesce=True)
    moved = moved.with_columns(pl.col("rank", "rank_later").fill_null(_WIDE + 1))
    fallen = moved.filter(pl.col("rank") <= _SHOWN).sort(
        pl.col("rank_later").log() - pl.col("rank").log(), descending=True
    )
    risen = moved.filter(pl.col("rank_later") <= _SHOWN).sort(
        pl.col("rank").log() - pl.col("rank_later").log(), descending=True
    )
    first = np.array([index[item] for item in now.head(_SHOWN)["item_id"]])
    lines = []
    for one, falls in [
        *((row, True) for row in fallen.head(2).iter_rows(named=True)),
        *((row, False) for row in risen.head(1).iter_rows(named=True)),
    ]:
        if one["rank"] == one["rank_later"]:
            continue
        where = index[one["item_id"]]
        group = f" ({change.groups[where]})" if change.groups[where] else ""
        ranks = [
            str(rank) if rank <= _WIDE else f"beyond {_WIDE}" for rank in (one["rank"], one["rank_later"])
        ]
        verb = "falls" if one["rank_later"] > one["rank"] else "rises"
        reason = change.reason(where, beside=first, falls=falls)
        lines.append(f"{one['item_id']}{group} {verb} from rank {ranks[0]} to {ranks[1]}: {reason}.")
    return lines or ["They do not: nothing in this user's history fades within 30 days."]
