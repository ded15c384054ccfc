"""By what half-lives are told apart: groupings of the training events of a run, in the names of the log."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxdecay import ids
from jaxdecay.columns import as_text, coded, columns_of
from jaxdecay.curves import Grouping
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.expect import several, whole

_MOST = 1000  # groups


def grouping(run: Path, by: str, of: Any = None, *, most: int | None = None) -> Grouping:
    """The training events of a run by item, user, behaviour, or a column of items or users.

    ``of``: the only items, users or values, or the only one; by default those with the most events, as many
    as ``most`` (20). Raises InputError for a column that is not there, an unknown id or value, and where
    nothing is grouped.
    """
    if of is not None and most is not None:
        raise InputError("most is how many are taken unnamed, and of names them; leave one of them out")
    most = 20 if most is None else whole("most", most, 1, _MOST)
    histories = Histories.load(run / "histories")
    train = np.asarray(histories.part) == 0
    item, user = np.asarray(histories.item)[train], histories.user()[train]
    tables = {
        kind: ids.read_table(run / "histories", kind, rows=rows)
        for kind, rows in (("item", histories.items), ("user", histories.users))
    }
    given = of
    if by in ("item", "user"):
        names, code = tables[by][f"{by}_id"], {"item": item, "user": user}[by]
    elif by == "behaviour":
        names = pl.Series("behaviour", histories.config["behaviours"], dtype=pl.String)
        code = np.asarray(histories.behaviour)[train].astype(np.int64)
    else:
        names, code, column = _column(by, tables, item, user)
        given = None if of is None else as_text(several(of), column)
    if not len(names):
        raise InputError(f"by {by!r}: the log has none; group by another column")
    events = np.bincount(code[code >= 0], minlength=len(names))
    most_common = np.argsort(-events, kind="stable")[:most]
    chosen = most_common if given is None else _named(given, names, events)
    chosen = chosen[events[chosen] > 0]
    place = np.full(len(names) + 1, -1)  # the last is that of no group
    place[chosen] = np.arange(len(chosen))
    return Grouping(tuple(str(names[int(one)]) for one in chosen), place[code])


def _named(given: Any, names: pl.Series, events: np.ndarray) -> np.ndarray:
    """Places among the names of those that were given, all of which have events."""
    asked = ids.as_ids(given, names)
    if asked.is_empty():
        raise InputError("of names nothing; leave it out for those with the most events")
    chosen = ids.find(asked, names)
    ids.refuse_unknown(asked, chosen, f"give one such as {names[0]!r}", known=names)
    if (events[chosen] == 0).any():
        without = names[int(chosen[events[chosen] == 0][0])]
        kind = names.name.removesuffix("_id")
        raise InputError(f"{kind} {without!r} has no training event, and so no half-life; leave it out")
    return chosen


def _column(
    by: str, tables: dict[str, pl.DataFrame], item: np.ndarray, user: np.ndarray
) -> tuple[pl.Series, np.ndarray, pl.Series]:
    """The values of a column as text, which of them each event has, -1 for none, and the column itself."""
    kind, row = ("user", user) if by in columns_of(tables["user"]) else ("item", item)
    more = ("item", "user", "behaviour", *columns_of(tables["user"]))
    names, of = coded(tables[kind], by, f"by {by!r}", more=more)
    return pl.Series(by, names, dtype=pl.String), of[row], tables[kind][by]
