"""Ids and indices: the items, users and behaviours of a log, in the order of their codes."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay.data.split import known_first
from jaxdecay.errors import InputError


class Vocabulary(NamedTuple):
    """Ids in the order of their codes: those of the training part first, both groups ascending."""

    ids: pl.Series
    """(n,) as given."""
    codes: np.ndarray
    """(E,) int32 code of each event."""
    known: int
    """How many occur in the training part."""


def vocabulary(ids: pl.Series, part: np.ndarray) -> Vocabulary:
    """Codes for the ``ids`` of all events; ``part`` (E,) is 0 in training. Independent of the order of
    rows."""
    names = ids.unique().sort()
    old = ids.rank("dense").to_numpy() - 1
    new, known = known_first(old, part, len(names))
    return Vocabulary(names[np.argsort(new)], new[old], known)


def table_of(ids: pl.Series, side: pl.DataFrame | None, report: dict[str, Any]) -> pl.DataFrame:
    """One row an id, in the order of codes: index, id, and the columns of the side table if there is one.

    Ids that the side table lacks have nulls there and are counted in ``report``; its further ids are left
    out.
    Raises InputError when ids are text in one and integers in the other.
    """
    table = pl.DataFrame({"index": pl.int_range(len(ids), dtype=pl.Int32, eager=True), ids.name: ids})
    if side is None:
        return table
    kind = ids.name.removesuffix("_id")
    if "index" in side.columns:
        raise InputError(
            f"the table of {kind}s: column 'index' is one that jaxdecay writes; rename or drop it"
        )
    if (side[ids.name].dtype == pl.String) != (ids.dtype == pl.String):
        raise InputError(
            f"the table of {kind}s: column {ids.name!r} holds {side[ids.name].dtype}, but that of the log "
            f"{ids.dtype}; give both the same type"
        )
    side = side.with_columns(pl.col(ids.name).cast(ids.dtype, strict=False)).drop_nulls(ids.name)
    known = ids.is_in(side[ids.name].implode())
    report["side_tables"][f"{kind}s_without_a_row"] = len(ids) - int(known.sum())
    report["side_tables"][f"{kind}s_without_events"] = len(side) - int(known.sum())
    return table.join(side, on=ids.name, how="left", maintain_order="left")


def behaviours_of(events: pl.DataFrame) -> tuple[list[str], np.ndarray]:
    """Names ascending, and the index of each event's, (E,) int8; no names and zeros when the log has none."""
    if "behaviour" not in events.columns:
        return [], np.zeros(len(events), np.int8)
    names = events["behaviour"].unique().sort()
    if len(names) > 127:
        raise InputError(
            f"the log: column 'behaviour' has {len(names)} different values, at most 127 are taken; name "
            "another column with --columns.behaviour"
        )
    return names.to_list(), (events["behaviour"].rank("dense").to_numpy() - 1).astype(np.int8)
