"""By what half-lives are told apart: groupings of the training events of a run, in the names of the log."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxdecay import ids
from jaxdecay.columns import coded, columns_of
from jaxdecay.curves import Grouping
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError

_MOST = 1000  # groups


def grouping(run: Path, by: str, of: Sequence[Any] | None = None, *, most: int = 20) -> Grouping:
    """The training events of a run by item, user, behaviour, or a column of items or users.

    ``of``: the only items, users or values; by default those with the most events, as many as ``most``.
    Raises InputError for a column that is not there, an unknown id or value, and where nothing is grouped.
    """
    if most < 1:
        raise InputError(f"most={most}: give a whole number from 1")
    histories = Histories.load(run / "histories")
    train = np.asarray(histories.part) == 0
    item, user = np.asarray(histories.item)[train], histories.user()[train]
    tables = {
        kind: ids.read_table(run / "histories", kind, rows=rows)
        for kind, rows in (("item", histories.items), ("user", histories.users))
    }
    if by in ("item", "user"):
        names, code = tables[by][f"{by}_id"], {"item": item, "user": user}[by]
    elif by == "behaviour":
        names = pl.Series("behaviour", histories.config["behaviours"], dtype=pl.String)
        code = np.asarray(histories.behaviour)[train].astype(np.int64)
    else:
        names, code = _column(by, tables, item, user)
    if not len(names):
        raise InputError(f"by {by!r}: the log has none; group by another column")
    events = np.bincount(code[code >= 0], minlength=len(names))
    if of is None:
        chosen = np.argsort(-events, kind="stable")[: min(most, _MOST)]
    else:
        given = ids.as_ids(list(of), names.alias(f"{by}_id") if by in ("item", "user") else names)
        chosen = ids.find(given, names)
        ids.refuse_unknown(given, chosen, f"give one such as {names[0]!r}", known=names)
    if of is not None and (events[chosen] == 0).any():
        without = names[int(chosen[events[chosen] == 0][0])]
        raise InputError(f"{by} {without!r} has no training event, and so no half-life; leave it out")
    chosen = chosen[events[chosen] > 0]
    place = np.full(len(names) + 1, -1)  # the last is that of no group
    place[chosen] = np.arange(len(chosen))
    return Grouping(tuple(str(names[int(one)]) for one in chosen), place[code])


def _column(
    by: str, tables: dict[str, pl.DataFrame], item: np.ndarray, user: np.ndarray
) -> tuple[pl.Series, np.ndarray]:
    """The values of a column and which of them each event has, -1 for none."""
    kind, row = ("user", user) if by in columns_of(tables["user"]) else ("item", item)
    more = ("item", "user", "behaviour", *columns_of(tables["user"]))
    names, of = coded(tables[kind], by, f"by {by!r}", more=more)
    return pl.Series(by, names, dtype=pl.String), of[row]
