"""Histories of all users as flat arrays (CSR): what a training machine needs, and all it needs.

NumPy only. Events are sorted by user, then time, then file order; the events of user ``u`` are the rows
``offsets[u] : offsets[u + 1]`` of every event array. Users and items are indices; their ids live in
``users.parquet`` and ``items.parquet`` beside the arrays and are read only at the edges.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jaxdecay.data import store
from jaxdecay.errors import InputError

FORMAT = 1
LIVE = 3
"""The part of events that came after training (`jaxdecay update`)."""
_AGAIN = "run jaxdecay prepare again"

# name -> (dtype, what one row is)
_LAYOUT: dict[str, tuple[str, str]] = {
    "offsets": ("int64", "offset"),
    "item": ("int32", "event"),
    "time": ("int64", "event"),
    "part": ("int8", "event"),
    "behaviour": ("int8", "event"),
    "weight": ("float32", "event"),
    "label": ("float32", "event"),
    "context_categorical": ("int32", "event"),
    "context_numeric": ("float32", "event"),
    "user_categorical": ("int32", "user"),
    "user_numeric": ("float32", "user"),
    "item_categorical": ("int32", "item"),
    "item_numeric": ("float32", "item"),
}
_TABLES = tuple(name for name in _LAYOUT if name.endswith(("_categorical", "_numeric")))


@dataclass(frozen=True, eq=False, repr=False)
class Histories:
    """U users, V items, E events.

    ``part`` is 0 in training, 1 in validation, 2 in test, -1 for events a rolling fold leaves out, and 3 for
    those that came after training: neither trained on nor evaluated, but seen in histories.
    Categorical codes start at 1; 0 is missing or unknown. Items ``0 .. known_items-1`` and users
    ``0 .. known_users-1`` occur in the training part, the others follow.
    """

    config: dict[str, Any]
    """What ``prepared.json`` holds: format, options, fingerprint, clock, origin, behaviours, split, features,
    report, repeat_share, counts."""
    offsets: np.ndarray
    """(U+1,) int64."""
    item: np.ndarray
    """(E,) int32, index of the item."""
    time: np.ndarray
    """(E,) int64 seconds, since 1970 UTC or (clock "relative") since the user's first event."""
    part: np.ndarray
    """(E,) int8: 0 training, 1 validation, 2 test."""
    behaviour: np.ndarray
    """(E,) int8, index into ``config["behaviours"]``; zeros when the log names none."""
    weight: np.ndarray
    """(E,) float32; ones when the log has none."""
    label: np.ndarray
    """(E,) float32 outcome (0 or 1), NaN where the log has none. Never an input of a model."""
    context_categorical: np.ndarray
    """(E, Fc) int32."""
    context_numeric: np.ndarray
    """(E, Fn) float32."""
    user_categorical: np.ndarray
    """(U, .) int32."""
    user_numeric: np.ndarray
    """(U, .) float32."""
    item_categorical: np.ndarray
    """(V, .) int32."""
    item_numeric: np.ndarray
    """(V, .) float32."""

    array_names: ClassVar[tuple[str, ...]] = tuple(_LAYOUT)

    def __repr__(self) -> str:
        return f"Histories({self.users} users, {self.items} items, {self.events} events)"

    @property
    def users(self) -> int:
        return len(self.offsets) - 1

    @property
    def items(self) -> int:
        return len(self.item_categorical)

    @property
    def events(self) -> int:
        return len(self.item)

    @property
    def known_users(self) -> int:
        """Users ``0 .. known_users-1`` have events in the training part."""
        return self.config["counts"]["known_users"]

    @property
    def known_items(self) -> int:
        """Items ``0 .. known_items-1`` occur in the training part."""
        return self.config["counts"]["known_items"]

    @property
    def clock(self) -> str:
        """ "utc" or "relative"."""
        return self.config["clock"]

    @property
    def repeat_share(self) -> float:
        """Share of training events whose item the same user already had earlier in training."""
        return self.config["repeat_share"]

    @property
    def chosen(self) -> np.ndarray:
        """(E,) bool: events that were a choice for the item, and so count towards popularity and are what
        training learns to foresee. Not those with a weight that is not positive or with the label 0
        (computed, 1 byte an event)."""
        return (np.asarray(self.weight) > 0) & (np.asarray(self.label) != 0)

    def lengths(self) -> np.ndarray:
        """(U,) int64 number of events of each user."""
        return np.diff(self.offsets)

    def user(self) -> np.ndarray:
        """(E,) int32 index of the user of each event (computed, 4 bytes an event)."""
        return np.repeat(np.arange(self.users, dtype=np.int32), self.lengths())

    def rows(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Event indices of the given users, one user after the other, and where each begins.

        Returns ``rows`` (N,) int64 and ``starts`` (len(users)+1,) int64: user ``users[i]`` has
        ``rows[starts[i] : starts[i+1]]``.
        """
        users = np.asarray(users)
        begin, end = self.offsets[users], self.offsets[users + 1]
        starts = np.concatenate([[0], np.cumsum(end - begin)]).astype(np.int64)
        rows = np.arange(starts[-1]) + np.repeat(begin - starts[:-1], end - begin)
        return rows, starts

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        return {name: getattr(self, name) for name in _LAYOUT}

    def replace(self, **changes: Any) -> "Histories":
        """The same histories with some fields changed, for instance ``part`` by a rolling fold."""
        return replace(self, **changes)

    @classmethod
    def from_arrays(
        cls,
        user: np.ndarray,
        item: np.ndarray,
        time: np.ndarray,
        *,
        users: int | None = None,
        items: int | None = None,
        config: Mapping[str, Any] | None = None,
        **columns: np.ndarray,
    ) -> "Histories":
        """Histories from one row an event, in any order; the order given breaks ties in time.

        Args:
            user, item: (E,) indices from 0. time: (E,) int64 seconds.
            users, items: how many there are (default: the largest index plus one).
            config: entries over the defaults (clock "utc", no behaviours, no split, everybody known).
            columns: any of the other arrays; those of events in the same order as ``user``.
        """
        user, item, time = np.asarray(user), np.asarray(item), np.asarray(time)
        users = int(user.max(initial=-1)) + 1 if users is None else users
        items = int(item.max(initial=-1)) + 1 if items is None else items
        order = _order(user, time)
        offsets = np.zeros(users + 1, np.int64)
        np.cumsum(np.bincount(user, minlength=users), out=offsets[1:])
        rows = {"event": len(user), "user": users, "item": items}
        arrays: dict[str, np.ndarray] = {name: np.zeros((rows[_LAYOUT[name][1]], 0)) for name in _TABLES}
        arrays |= {name: np.zeros(len(user)) for name in ("part", "behaviour")}
        arrays |= {"weight": np.ones(len(user)), "label": np.full(len(user), np.nan)}
        arrays |= {"item": item, "time": time, **columns}
        for name, array in arrays.items():
            dtype, row = _LAYOUT[name]
            array = np.asarray(array)
            arrays[name] = (array[order] if row == "event" else array).astype(dtype, copy=False)
        return cls.assemble({"offsets": offsets, **arrays}, config or {})

    @classmethod
    def assemble(cls, arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> "Histories":
        """Histories from finished arrays (sorted, of the documented dtypes); ``config`` is completed."""
        users, items = len(arrays["offsets"]) - 1, len(arrays["item_categorical"])
        counts = {"users": users, "items": items, "events": len(arrays["item"])}
        counts |= {"known_users": users, "known_items": items, **config.get("counts", {})}
        merged: dict[str, Any] = {**deepcopy(_DEFAULTS), "format": FORMAT, **config, "counts": counts}
        merged.setdefault("origin", _ORIGIN[merged["clock"]])
        merged["fingerprint"] = store.fingerprint(arrays, merged["options"])
        return cls(merged, **{name: arrays[name] for name in _LAYOUT})

    def write(self, directory: Path) -> None:
        """Writes arrays and, last, ``prepared.json`` into an existing directory; see ``store.staged``."""
        config = {**self.config, "fingerprint": store.fingerprint(self.arrays(), self.config["options"])}
        store.write_arrays(directory, self.arrays(), config)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes a prepared directory: all of it or, if anything fails, nothing.

        Raises InputError when ``path`` exists and is no prepared directory, or is one and ``overwrite`` is
        not set.
        """
        with store.staged(path, overwrite=overwrite) as directory:
            self.write(directory)

    @classmethod
    def load(cls, path: str | Path, *, verify: bool = False) -> "Histories":
        """Memory-maps a prepared directory; nothing is read but headers and ``offsets``.

        ``verify=True`` also reads every byte and compares the fingerprint. Raises InputError, naming the
        file, for a directory that is damaged, half-written or of another format version.
        """
        directory = Path(path)
        config = store.read_config(directory, version=FORMAT)
        described = config.pop("arrays", {})
        arrays = {name: store.read_array(directory, name, described.get(name, {})) for name in _LAYOUT}
        _check(directory, config, arrays)
        if verify and store.fingerprint(arrays, config["options"]) != config["fingerprint"]:
            raise InputError(f"{directory}: the arrays are not those that were written; {_AGAIN}")
        return cls(config, **arrays)


_DEFAULTS: dict[str, Any] = {
    "options": {},
    "clock": "utc",
    "behaviours": [],
    "split": {},
    "features": {},
    "report": {},
    "repeat_share": 0.0,
}
_ORIGIN = {"utc": "1970-01-01T00:00:00Z", "relative": "first event of each user"}


def _order(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """(E,) stable order by user, then time; quick where each user's rows lie together in time order
    already."""
    changes = user[1:] != user[:-1]
    together = changes.sum() + 1 == np.count_nonzero(np.bincount(user))
    if together and (changes | (time[1:] >= time[:-1])).all():
        return np.argsort(user, kind="stable")
    return np.lexsort((time, user))


def _check(directory: Path, config: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """InputError unless the arrays have the documented dtypes and the sizes ``config["counts"]`` says."""
    missing = [key for key in (*_DEFAULTS, "fingerprint", "counts") if key not in config]
    if missing:
        raise InputError(f"{directory / store.MANIFEST}: no entry {missing[0]!r}; {_AGAIN}")
    counts = config["counts"]
    rows = {
        "offset": counts["users"] + 1,
        "event": counts["events"],
        "user": counts["users"],
        "item": counts["items"],
    }
    for name, (dtype, row) in _LAYOUT.items():
        array, dimensions = arrays[name], 2 if name in _TABLES else 1
        if array.dtype != dtype or array.ndim != dimensions or len(array) != rows[row]:
            raise InputError(
                f"{directory / name}.npy: is {array.dtype}{list(array.shape)}, expected {dimensions}-d "
                f"{dtype} with {rows[row]} rows; {_AGAIN}"
            )
    offsets = arrays["offsets"]
    if offsets[0] != 0 or offsets[-1] != counts["events"] or (np.diff(offsets) < 0).any():
        raise InputError(f"{directory}/offsets.npy: does not rise from 0 to {rows['event']}; {_AGAIN}")
