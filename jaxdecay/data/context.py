"""Which further columns of a log may be inputs of a request.

A request knows the context of the event it asks for: the device, the place. A column that follows from the
item (its category, its price) is no context: it would give the answer away.
"""

from collections.abc import Collection

import numpy as np
import polars as pl

MOST = 0.5
ENOUGH_EVENTS = 5


def gives_item_away(training: pl.DataFrame, column: str) -> float:
    r"""How much better the column is guessed with the item known than without: 0 not at all, 1 without fail.

    Goodman and Kruskal's :math:`\lambda = (p_{item} - p) / (1 - p)`, with p the share of training events
    that have the most common value, of all or of their item; over items with at least five events.
    """
    values = training.lazy().select("item_id", column)
    by_item = values.group_by("item_id", column).agg(n=pl.len()).group_by("item_id")
    top = by_item.agg(top=pl.col("n").max(), n=pl.col("n").sum()).filter(pl.col("n") >= ENOUGH_EVENTS)
    known, events = top.select(pl.col("top").sum(), pl.col("n").sum()).collect().row(0)
    common = values.group_by(column).agg(n=pl.len()).select(pl.col("n").max()).collect().item()
    share = common / max(len(training), 1)
    return (known / events - share) / (1 - share) if events and share < 1 else 0.0


def choose_context(
    events: pl.DataFrame, part: np.ndarray, names: Collection[str], asked_for: Collection[str]
) -> tuple[pl.DataFrame, list[str]]:
    """The context columns of all events, and warnings.

    Left out, with a warning: columns that give the item away in the training part. Those ``asked_for`` by
    name stay, with a warning.
    """
    kept, warnings = [], []
    training = events.select("item_id", *names).filter(pl.Series(part == 0)) if names else events
    for name in names:
        nested = training[name].dtype.is_nested()
        leak = 0.0 if nested else gives_item_away(training, name)
        if leak > MOST:
            warnings.append(
                f"column {name!r} follows from the item ({leak:.0%}) and so gives the answer away: "
                + ("used as context because it was asked for" if name in asked_for else "not used as context")
                + "; it belongs into the table of items"
            )
        if leak <= MOST or name in asked_for:
            kept.append(name)
    return events.select(kept), warnings
