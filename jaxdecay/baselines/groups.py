"""Popularity of an item's group: what everybody takes of its category, brand or the like, faded.

NumPy only. It says something of an item that nobody has taken yet; items of one group tie.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxdecay.baselines.choose import HALF_LIVES, Judge
from jaxdecay.baselines.popularity import Popularity, popularity
from jaxdecay.data.catalogue import Timeline
from jaxdecay.data.requests import Requests

NAME = "decayed popularity of the group"


@dataclass(frozen=True, eq=False)
class GroupPopularity:
    """Counts of all items of an item's group at the request time; 0 where it has no group."""

    base: Popularity
    group: np.ndarray
    """(V,) int codes, 0 for none."""
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = NAME

    @property
    def uses_time(self) -> bool:
        return self.base.uses_time

    def scores(self, requests: Requests) -> np.ndarray:
        """(R, V) float32 counts."""
        counts = self.base.counts(requests.at)
        order = np.argsort(self.group, kind="stable")
        codes, first = np.unique(self.group[order], return_index=True)
        sums = np.add.reduceat(counts[:, order], first, axis=1)
        sums[:, codes == 0] = 0.0
        return sums[:, np.searchsorted(codes, self.group)].astype(np.float32)


def fit_group_popularity(judge: Judge, events: Timeline) -> GroupPopularity | None:
    """With the item column and the half-life that validation chooses together; None without a column of one
    category an item."""
    described = (judge.histories.config.get("features") or {}).get("item") or {}
    coded = (described.get("encoder") or {}).get("coded", ())
    place, single = 0, []
    for one in coded:
        width = one.get("width", 1)
        if width == 1:
            single.append((one["column"], place))
        place += width
    half_lives = (np.inf,) if events.relative else HALF_LIVES
    if not single:
        return None
    best: GroupPopularity | None = None
    found: dict[str, float] = {}
    for half_life in half_lives:
        base = popularity(events, half_life=half_life)  # one at a time: each is as large as the catalogue
        for column, place in single:
            codes = np.asarray(judge.histories.item_categorical[:, place])
            system = GroupPopularity(base, codes, {"column": column, **base.settings})
            figure = judge.ndcg(system) if len(judge.requests) else 0.0
            if best is None or figure >= max(found.values()):
                best = system
            found[f"{column} {half_life:g} d"] = round(figure, 5)
    assert best is not None
    if len(judge.requests):
        best.settings["validation_ndcg@10"] = found
    return best
