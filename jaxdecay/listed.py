"""Ranked lists that something else made, as a system: one evaluator judges all.

A list is rows of a Parquet file: ``user_id`` and ``item_id`` in the log's own ids, and ``rank`` (whole
numbers, 1 is best; equal ranks are a tie). Where a user has several requests, as with successive targets,
``request`` must say which one a row answers: the row of its first target in the prepared log
(`Requests.event`). Where every user has one, as under leave-one-out, it may be left out.

- A tie counts as its mean rank, as every tie does.
- Items that a list leaves out are tied behind it: a target among them counts at the mean rank of all of
  them, a miss wherever the list is as long as the k of the figures.
- A request without a list is a miss (no rank at all), and an empty list.
- What the evaluation takes out, such as the user's history, it takes out of the list: give long lists.
- A list was made with the time it was made with; there is no time withheld from it.

Unknown users, unknown items, the same item twice in a list, and rows of somebody else's request are refused
by their row numbers, counted from 1.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxdecay import ids
from jaxdecay.data.histories import Histories
from jaxdecay.data.refusals import refuse_where
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError

COLUMNS = ("user_id", "item_id", "rank")


@dataclass(frozen=True, eq=False)
class Listed:
    """A `jaxdecay.evaluate.System` that answers from lists; L requests have one."""

    name: str
    event: np.ndarray
    """(L,) int64 ascending, the row of each request that has a list (`Requests.event`)."""
    offsets: np.ndarray
    """(L+1,) int64, the stretch of ``item`` of each list."""
    item: np.ndarray
    """(n,) int32."""
    place: np.ndarray
    """(n,) int32 place in the list from 1, equal for ties."""
    items: int
    """V."""
    settings: dict[str, Any] = field(default_factory=dict)
    uses_time: bool = False

    def scores(self, requests: Requests) -> np.ndarray:
        """(R, V) float32: minus the place, one value below for what is not listed, -inf without a list."""
        scores = np.full((len(requests), self.items), -np.inf, np.float32)
        which = np.minimum(np.searchsorted(self.event, requests.event), max(len(self.event) - 1, 0))
        if not len(self.event):
            return scores
        has = np.flatnonzero(self.event[which] == requests.event)
        scores[has] = -(self.items + 1)
        begin, lengths = self.offsets[which[has]], np.diff(self.offsets)[which[has]]
        row = np.repeat(has, lengths)
        starts = np.cumsum(lengths) - lengths
        flat = np.arange(len(row)) + np.repeat(begin - starts, lengths)
        scores[row, self.item[flat]] = -self.place[flat]
        return scores


def read_listed(
    path: str | Path,
    prepared: str | Path,
    requests: Requests,
    *,
    name: str,
    histories: Histories | None = None,
) -> Listed:
    """The lists of a Parquet file for these requests of a prepared log.

    Lists of users or requests that are not asked for are left aside: one file may serve validation and test.
    ``settings`` of the result say how many requests have no list and how long the shortest is.

    Raises InputError, with file, column, row numbers and remedy, for what is refused.
    """
    path, prepared = Path(path), Path(prepared)
    histories = histories or Histories.load(prepared)
    frame = _read(path)
    user, item = (_index(path, frame, kind, prepared, histories) for kind in ("user", "item"))
    event = _events(path, frame, user, requests, histories)
    table = pl.DataFrame({"event": event, "user": user, "item": item.astype(np.int32), "rank": frame["rank"]})
    again = ~table.select(pl.struct("event", "user", "item").is_first_distinct()).to_series()
    refuse_where(again, f"{path}: column 'item_id'", "names an item twice in one list", "keep one of them")
    table = table.filter(pl.col("event").is_in(requests.event)).sort("event", "rank", "item")
    table = table.with_columns(place=pl.col("rank").rank("dense").over("event").cast(pl.Int32))
    listed, counts = np.unique(table["event"].to_numpy(), return_counts=True)
    return Listed(
        name=name,
        event=listed,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        item=table["item"].to_numpy(),
        place=table["place"].to_numpy(),
        items=histories.items,
        settings={
            "lists": path.name,
            "requests_without_a_list": len(requests) - len(listed),
            "shortest_list": int(counts.min(initial=histories.items)) if len(counts) else 0,
        },
    )


def _read(path: Path) -> pl.DataFrame:
    """The columns that count, checked but for ids."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a Parquet file with the columns {', '.join(COLUMNS)}")
    try:
        frame = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(f"{path}: is no Parquet file ({type(error).__name__}); write it again") from None
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: has no column {missing[0]!r}; lists have {', '.join(COLUMNS)} and, where a "
            "user has several requests, request"
        )
    frame = frame.select(column for column in (*COLUMNS, "request") if column in frame.columns)
    for column in frame.columns:
        refuse_where(frame[column].is_null(), f"{path}: column {column!r}", "is empty", "leave such rows out")
    for column in ("rank", "request"):
        if column in frame.columns and not frame[column].dtype.is_integer():
            raise InputError(f"{path}: column {column!r} holds {frame[column].dtype}; give whole numbers")
    refuse_where(frame["rank"] < 1, f"{path}: column 'rank'", "is below 1", "count ranks from 1, the best")
    return frame


def _index(path: Path, frame: pl.DataFrame, kind: str, prepared: Path, histories: Histories) -> np.ndarray:
    """(n,) int64 index of the user or item of each row."""
    rows = histories.users if kind == "user" else histories.items
    known = ids.read_table(prepared, kind, rows=rows)[f"{kind}_id"]
    try:
        found = ids.find(ids.typed(frame[f"{kind}_id"], known), known)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    refuse_where(
        pl.Series(found < 0),
        f"{path}: column '{kind}_id'",
        f"names {'an item' if kind == 'item' else 'a user'} that is not in the log",
        f"give the {kind} ids of the log, as in {prepared.name}/{kind}s.parquet",
    )
    return found


def _events(
    path: Path, frame: pl.DataFrame, user: np.ndarray, requests: Requests, histories: Histories
) -> np.ndarray:
    """(n,) int64 which request each row answers, by the row of its first target; -1 for none."""
    if "request" in frame.columns:
        event = frame["request"].cast(pl.Int64).to_numpy()
        inside = (event >= histories.offsets[user]) & (event < histories.offsets[user + 1])
        refuse_where(
            pl.Series(~inside),
            f"{path}: column 'request'",
            "is no row of that user's events",
            "give the row of the request in the prepared log",
        )
        return event
    counts = np.unique(requests.user, return_counts=True)[1]
    if (counts > 1).any():
        raise InputError(
            f"{path}: has no column 'request', but {int((counts > 1).sum())} users have several requests; "
            "add it: the row of each request in the prepared log"
        )
    only = np.full(histories.users, -1, np.int64)
    only[requests.user] = requests.event
    return only[user]
