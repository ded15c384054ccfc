"""Which further columns of a log may be inputs of a request.

A request knows the context of the event it asks for: the device, the place. A column that follows from the
item (its category, its price) is no context: it would give the answer away.
"""

from collections.abc import Collection

import numpy as np
import polars as pl

MOST = 0.5


def gives_item_away(training: pl.DataFrame, column: str) -> float:
    r"""How much better the column is guessed with the item known than without: 0 or less not at all, 1
    without fail.

    Goodman and Kruskal's :math:`\lambda = (p_{item} - p) / (1 - p)`, leaving one out. :math:`p` is the share
    of the most common value among all training events. :math:`p_{item}` is the share of events guessed right
    from the others of their item, those of items with a single event left out: right is the value that is
    strictly the most common among the others. So a rare item counts as fairly as a frequent one: no event
    vouches for itself. Null is a value, and a list is one as a whole.

    References:
        Goodman, Kruskal: Measures of association for cross classifications, JASA 1954.
    """
    values = training.lazy().select("item_id", column)
    n = pl.col("n")
    # The top value still leads with one of its events taken away when no other comes within one of it.
    by_item = (
        values.group_by("item_id", column)
        .agg(n=pl.len())
        .group_by("item_id")
        .agg(n=n.sum(), top=n.max(), leads=(n >= n.max() - 1).sum() == 1)
        .filter(n > 1)
    )
    right, events = by_item.select((pl.col("top") * pl.col("leads")).sum(), n.sum()).collect().row(0)
    common = values.group_by(column).agg(n=pl.len()).select(n.max()).collect().item()
    share = common / max(len(training), 1)
    return (right / events - share) / (1 - share) if events and share < 1 else 0.0


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
        leak = gives_item_away(training, name)
        if leak > MOST:
            warnings.append(
                f"column {name!r} follows from the item ({leak:.0%}) and so gives the answer away: "
                + ("used as context because it was asked for" if name in asked_for else "not used as context")
                + "; it belongs into the table of items"
            )
        if leak <= MOST or name in asked_for:
            kept.append(name)
    return events.select(kept), warnings
