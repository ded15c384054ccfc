"""The baselines that stand in every table, in the order of the table.

Everything is counted or fitted from the training part and the catalogue events; half-lives, windows and the
like are chosen by NDCG@10 on validation requests. Histories and catalogue counts move on with the requests,
parameters do not.
"""

import functools
from collections.abc import Callable, Collection

from jaxdecay.baselines.choose import Judge
from jaxdecay.baselines.counts import OwnCounts, fit_decayed_own_counts, own_counts
from jaxdecay.baselines.factorisation import Factorisation, fit_factorisation
from jaxdecay.baselines.groups import NAME as OF_GROUP
from jaxdecay.baselines.groups import GroupPopularity, fit_group_popularity
from jaxdecay.baselines.neighbours import Neighbours, fit_neighbours
from jaxdecay.baselines.popularity import Popularity, fit_decayed, fit_windowed, popularity
from jaxdecay.data.catalogue import timeline
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError

__all__ = [
    "BASELINES",
    "Factorisation",
    "GroupPopularity",
    "Neighbours",
    "OwnCounts",
    "Popularity",
    "fit_baselines",
]

Baseline = Popularity | OwnCounts | Neighbours | Factorisation | GroupPopularity

BASELINES = (
    "popularity",
    "windowed popularity",
    "decayed popularity",
    "most recent",
    "own counts",
    "decayed own counts",
    "item neighbours",
    "matrix factorisation",
)
"""Their names, in the order of the table."""


def fit_baselines(
    histories: Histories,
    validation: Requests,
    *,
    exclude_history: bool | None = None,
    every_item: bool = False,
    seed: int = 0,
    names: Collection[str] | None = None,
) -> list[Baseline]:
    """All baselines, fitted.

    Args:
        validation: the requests to choose by; at most 5,000 of them are used, drawn by ``seed``. Without
        any, nothing
            fades and windows are the longest.
        exclude_history, every_item: as they will be in the evaluation.
        names: only these; the others are not fitted, but for what these stand on. By default all and, where
            every item is a candidate, "decayed popularity of the group", which there is only if items have a
            column of one category each.

    With a relative clock there is no popularity at a time, and so neither a windowed nor a decayed one.
    Raises InputError for a name that is no baseline.
    """
    known = (*BASELINES, OF_GROUP)
    names = (known if every_item else BASELINES) if names is None else names
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"names: {unknown[0]!r} is no baseline; there are {', '.join(known)}")
    judge = Judge.of(histories, validation, seed=seed, exclude_history=exclude_history, every_item=every_item)
    events = timeline(histories)
    plain = functools.cache(lambda: popularity(events))
    decayed = plain if events.relative else functools.cache(lambda: fit_decayed(judge, events))
    makers: dict[str, Callable[[], Baseline]] = {
        "popularity": plain,
        "windowed popularity": lambda: fit_windowed(judge, events),
        "decayed popularity": decayed,
        "most recent": lambda: own_counts(histories, 0.0, plain(), name="most recent"),
        "own counts": lambda: own_counts(histories, float("inf"), plain(), name="own counts"),
        "decayed own counts": lambda: fit_decayed_own_counts(judge, decayed()),
        "item neighbours": lambda: fit_neighbours(judge, decayed()),
        "matrix factorisation": lambda: fit_factorisation(judge, decayed(), seed=seed),
    }
    if events.relative:
        del makers["windowed popularity"], makers["decayed popularity"]
    found = [make() for name, make in makers.items() if name in names]
    of_groups = fit_group_popularity(judge, events) if OF_GROUP in names else None
    return found if of_groups is None else [*found, of_groups]
