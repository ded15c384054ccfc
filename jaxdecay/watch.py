"""Drift in a run: whose interests moved, when and where to, in the ids of the log."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay import cohorts, ids
from jaxdecay.changes import by_items, by_kind, changes
from jaxdecay.columns import coded, few_valued, kinds_by
from jaxdecay.data.histories import Histories
from jaxdecay.drift import Drift, DriftOptions, detect
from jaxdecay.errors import InputError
from jaxdecay.streams import Streams


class Watched(NamedTuple):
    """What was found, and how."""

    detections: pl.DataFrame
    """A row for each, in order of time: user_id (or the cohort's column, or "catalogue"), timestamp and since
    (seconds: when it was found, and when it most probably began), statistic, distance (1 - cosine of what
    came lately and before), change (emerging, returning, vanishing, shifting), rising, falling (lists of
    names)."""
    watched: int
    """Users (or cohorts) with enough events to be watched."""
    drift: Drift
    streams: Streams
    owners: pl.Series
    """(S,) whose the streams are."""
    relative: bool
    """Whether times count from each user's first event."""

    @property
    def alarmed(self) -> int:
        """Users (or cohorts) with a detection."""
        return self.detections[self.owners.name].n_unique()

    def statistic(self, owner: Any) -> pl.DataFrame:
        """The statistic after each event of a user (or cohort): timestamp, statistic."""
        place = int(ids.find(ids.typed(pl.Series([owner]), self.owners), self.owners)[0])
        if place < 0:
            raise InputError(f"{self.owners.name} {owner!r} was not watched; ask for one who was")
        rows = slice(*self.streams.offsets[place : place + 2].tolist())
        return pl.DataFrame({"timestamp": self.streams.time[rows], "statistic": self.drift.statistic[rows]})


def check_names(items: pl.DataFrame, users: pl.DataFrame, *, by: str, column: str | None) -> None:
    """Raises InputError for an item column by which `watch` could not name interests, and for cohorts that
    there are not: at once, where the vectors that it takes are yet to be made."""
    _kinds(items, column)
    if by != "user":
        _cohorts(users, by)


def watch(
    histories: Histories,
    vectors: np.ndarray,
    items: pl.DataFrame,
    users: pl.DataFrame,
    options: DriftOptions,
    *,
    by: str = "user",
    chosen: np.ndarray | None = None,
    column: str | None = None,
) -> Watched:
    """Drift of users, of cohorts of them (``by`` a column of ``users``), or of the catalogue.

    Args:
        vectors: (V, D) of items, of length 1, or 0 where nothing is known.
        items, users: the tables of the histories, in the order of indices.
        chosen: indices of users (default: all), with ``by`` user alone.
        column: of ``items``, by whose values interests are named; default: the first of words with few
            values, or else the nearest items.
    """
    kind, names = _kinds(items, column)
    if by == "user":
        among = cohorts.of_users(histories, vectors)
        kind = None if kind is None else np.append(kind, -1)
        chosen = np.arange(histories.users) if chosen is None else chosen
        streams, share, owners = among.take(chosen), kind, users["user_id"].gather(chosen)
    else:
        cohort, owners = _cohorts(users, by)
        streams, share = cohorts.pooled(histories, cohort, vectors, kind, len(names))
        among = streams
    found = detect(streams, options, among=among)
    if share is None:
        title = "title" if "title" in items.columns else "item_id"
        called = pl.coalesce(pl.col(title).cast(pl.String), pl.col("item_id").cast(pl.String))
        namer = by_items(vectors, items.select(called).to_series().to_list())
    else:
        namer = by_kind(share, names)
    frame = changes(found, streams, namer)
    told = frame.select(owners.gather(frame["stream"]).alias(owners.name), pl.exclude("stream", "event"))
    told = told.sort("timestamp", maintain_order=True)
    return Watched(told, found.watched, found, streams, owners, histories.clock == "relative")


def _kinds(items: pl.DataFrame, column: str | None) -> tuple[np.ndarray | None, list[Any]]:
    """(V,) which value of a column each item has, -1 for none, and the values; None: by the nearest items."""
    column = few_valued(items) if column is None else column
    if column is None:
        return None, []
    names, of = kinds_by(items, column)
    return of, names


def _cohorts(users: pl.DataFrame, by: str) -> tuple[np.ndarray, pl.Series]:
    """(U,) cohort of each user, -1 for none, and what they are called."""
    if by == "catalogue":
        return np.zeros(len(users), np.int64), pl.Series("catalogue", ["catalogue"])
    names, of = coded(users, by, f"drift by {by!r}", more=("user", "catalogue"))
    return of, pl.Series(by, names, dtype=pl.String)
