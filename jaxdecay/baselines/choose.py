"""Choosing a half-life, a window or a setting by NDCG@10 on the validation requests.

NumPy only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from jaxdecay import metrics
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, sample
from jaxdecay.evaluate import Rules, System, rules
from jaxdecay.groups import padded

S = TypeVar("S", bound=System)

HALF_LIVES: tuple[float, ...] = (1 / 144, 1 / 24, 0.25, 1, 3, 7, 14, 30, 90, 365, np.inf)
"""Days, the grid of half-lives, from ten minutes; inf never fades."""
WINDOWS: tuple[float, ...] = (1 / 24, 0.25, 1, 3, 7, 14, 30, 90, 365)
"""Days, the grid of popularity windows."""
_MOST, _FEWEST, _SCORES = 5000, 1000, 1e8


@dataclass(frozen=True, eq=False)
class Judge:
    """Validation requests to choose by: a sample of at most 5,000, fewer where the catalogue is large."""

    rules: Rules
    requests: Requests
    """In order of time."""

    @property
    def histories(self) -> Histories:
        return self.rules.histories

    @classmethod
    def of(
        cls,
        histories: Histories,
        validation: Requests,
        *,
        seed: int = 0,
        exclude_history: bool | None = None,
        every_item: bool = False,
    ) -> "Judge":
        """Draws the sample: 5,000, or as many as make 1e8 scores, but no fewer than 1,000."""
        size = int(np.clip(_SCORES / max(histories.items, 1), _FEWEST, _MOST))
        # In order of time, so that popularity is counted forward.
        chosen = sample(validation, size, seed)
        chosen = chosen.take(np.argsort(chosen.at, kind="stable"))
        return cls(rules(histories, exclude_history, every_item=every_item), chosen)

    def ndcg(self, system: System) -> float:
        """Mean NDCG@10 over the sample."""
        found = self.rules.ranks(system, self.requests)
        offsets = self.requests.target_offsets
        where = padded(np.ones(len(found), bool), offsets, False)
        value = metrics.ndcg(padded(found, offsets, np.inf), k=10, where=where)
        return float(np.mean(np.asarray(value, np.float64)))

    def choose(self, make: Callable[[Any], S], grid: Sequence[Any]) -> tuple[S, Any, dict[str, float]]:
        """The system made of the best value of the grid, that value, and NDCG@10 by value.

        Equal figures go to the later value of the grid; without validation requests so does everything.
        """
        if not len(self.requests):
            return make(grid[-1]), grid[-1], {}
        found = [self.ndcg(make(value)) for value in grid]
        best = len(found) - 1 - int(np.argmax(found[::-1]))
        return make(grid[best]), grid[best], {str(v): round(f, 5) for v, f in zip(grid, found, strict=True)}
