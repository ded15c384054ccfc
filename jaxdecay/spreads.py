"""How kernels differ: those of single items, or of single users.

The kernel of an item is the mean over its training events, that of a user over theirs, each event with its
write weights and its user's read weights, as in `jaxdecay.curves`, whose means these add up to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from jaxdecay.curves import Events, basis_of, event_weights, rhythms_of
from jaxdecay.data.histories import Histories
from jaxdecay.modes import first_half

Whose = Literal["items", "users"]
_ROWS = 256  # kernels at once


@dataclass(frozen=True, eq=False)
class Spread:
    """The kernels of N items or users under one head, as mixtures of C curves."""

    head: str
    of: Whose
    events: np.ndarray
    """(N,) training events of each."""
    weights: np.ndarray
    """(N, C) sum to 1."""
    age: np.ndarray
    """(A,) days, ascending from 0."""
    curves: np.ndarray
    """(C, A), 1 at age 0."""

    def half_lives(self) -> np.ndarray:
        """(N,) days; infinite for one that never halves."""
        found = [first_half(self.age, self.weights[rows] @ self.curves) for rows in self._blocks()]
        return np.concatenate([np.zeros(0), *found])

    def band(self, curves: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
        """(len(shares), B) quantiles of the kernels as mixtures of ``curves`` (C, B), which are the curves at
        some ages or their means over some: ``shares`` of all events belong to lower ones."""
        quantiles = np.empty((len(shares), curves.shape[1]))
        for column, one in enumerate(curves.T):
            values = self.weights @ one
            order = np.argsort(values, kind="stable")
            behind = np.cumsum(self.events[order]) / self.events.sum()
            quantiles[:, column] = values[order][np.searchsorted(behind, shares)]
        return quantiles

    def _blocks(self) -> Iterator[slice]:
        for begin in range(0, len(self.weights), _ROWS):
            yield slice(begin, begin + _ROWS)


def spreads(histories: Histories, model: Any, params: Any, of: Whose) -> list[Spread]:
    """Of the heads that have a bank, those of all items (or users) with a training event."""
    log = Events.of(histories, model, params)
    one = log.item if of == "items" else log.user
    events = np.bincount(one)
    there = np.flatnonzero(events)
    found = []
    for head in ("similarity", "revisit"):
        if "decay" not in params.get(head, ()):
            continue
        decay = jax.tree.map(np.asarray, params[head]["decay"])
        weights = event_weights(decay, log, log.content[head])
        summed = np.zeros((len(events), weights.shape[1]))
        np.add.at(summed, one, weights)
        age, curves, _ = basis_of(decay, *rhythms_of(model.spec, head))
        mixed = summed[there] / summed[there].sum(axis=1, keepdims=True)
        found.append(Spread(head, of, events[there], mixed, age, curves))
    return found
