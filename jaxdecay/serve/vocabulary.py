"""Delivered events as the model reads them: indices for ids, codes for columns."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from jaxdecay.data.features import Encoder
from jaxdecay.live.interest import Event
from jaxdecay.live.weights import Weights
from jaxdecay.loaded import Loaded
from jaxdecay.serve.store import Delivered

_NOTHING = np.zeros(0)


class Vocabulary:
    """Of a run. Ids are text here, whatever they are in its log."""

    def __init__(self, run: Loaded, weights: Weights) -> None:
        described = run.histories.config["features"].get("context") or {}
        self.items: dict[str, int] = _places(run.items["item_id"])
        self.users: dict[str, int] = _places(run.users)
        self.behaviours: tuple[str, ...] = tuple(run.histories.config["behaviours"])
        self.context = Encoder.from_json(described["encoder"]) if "encoder" in described else Encoder()
        self.origin = weights.origin
        """Seconds that the model's times are measured from."""
        self._weights = weights

    def user(self, name: str) -> int:
        """The index of a user, or one beyond all of them for somebody new."""
        return self.users.get(name, len(self.users))

    def places(self, given: Any) -> np.ndarray | None:
        """(n,) int64 indices of a list of item ids; None for one that holds an id which is not known, or is
        no list. Without a table of all items being made, as `jaxdecay.ids.find` does for any number."""
        if not isinstance(given, (list, tuple, set, frozenset)):
            return None
        found = np.array([self.items.get(str(one), -1) for one in given], np.int64)
        return None if (found < 0).any() else found

    def events(self, delivered: Sequence[Delivered]) -> list[Event | None]:
        """Each as the model reads it, None where it does not know the item or the behaviour."""
        columns: list[Any] = [(_NOTHING, _NOTHING)] * len(delivered)
        if names := self.context.sources():
            given = [json.loads(one.context or "{}") for one in delivered]
            rows = pl.DataFrame({name: [one.get(name) for one in given] for name in names}, strict=False)
            columns = list(zip(*self.context.apply(rows), strict=True))
        return [self._event(one, *row) for one, row in zip(delivered, columns, strict=True)]

    def _event(self, one: Delivered, codes: np.ndarray, numbers: np.ndarray) -> Event | None:
        item = self.items.get(one.item)
        if item is None or (self.behaviours and one.behaviour not in self.behaviours):
            return None
        weights = self._weights
        weight = one.weight / weights.weight
        if weights.silent_zero and one.label == 0:
            weight = min(weight, 0.0)
        behaviour = self.behaviours.index(one.behaviour) if self.behaviours else 0
        return Event(item, one.at - weights.origin, behaviour, weight, codes, numbers)


def chosen(one: Delivered) -> bool:
    """Whether it was a choice for the item, and so counts towards popularity (as `Histories.chosen`)."""
    return one.weight > 0 and one.label != 0


def _places(ids: pl.Series) -> dict[str, int]:
    return {name: place for place, name in enumerate(ids.cast(pl.String).to_list())}
