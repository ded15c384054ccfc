"""States as bytes: a header, then arrays whose shapes the model tells.

All numbers are little-endian. The header says the version of the format and the fingerprint of the model that
the state was made by: a state says nothing to another model, whose rates or vectors differ.
"""

import hashlib
import struct
from typing import Any

import jax
import numpy as np

from jaxdecay.errors import InputError
from jaxdecay.live.counts import Counts, Own
from jaxdecay.live.interest import Interest
from jaxdecay.live.live import Live, UserState
from jaxdecay.live.weights import Weights
from jaxdecay.state_numpy import State

VERSION = 1
_HEADER = struct.Struct("<2sB8sqI")  # magic, version, fingerprint, time, events
_MAGIC = b"jd"
_LAST = struct.Struct("<qq")  # the item taken last: when, and which; nothing taken: no item


def fingerprint(weights: Weights, carried: Any = ()) -> bytes:
    """(8 bytes) of all that a state depends on: rates, what events write, and by which weights. ``carried``:
    the parameters of an encoder."""
    digest = hashlib.sha256()
    similarity, revisit = weights.similarity, weights.revisit
    parts = (
        similarity.vectors, similarity.bank and similarity.bank[:4], similarity.amplitude, similarity.context,
        revisit and (revisit.bank[:4], revisit.strength), weights.origin, weights.weight, carried,
    )  # fmt: skip
    for leaf in jax.tree.leaves(parts):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.digest()[:8]


class Codec:
    """Packs and unpacks the states of one model."""

    def __init__(self, live: Live) -> None:
        self._live, self._empty = live, live.init()
        carried = () if live.encoding is None else live.encoding.params
        self.fingerprint = fingerprint(live.weights, carried)
        modes = live.modes
        self._folded = 0 if modes is None else len(modes.curve)
        self._kinds = len(live.weights.similarity.amplitude) > 1

    def pack(self, state: UserState) -> bytes:
        """The state as bytes."""
        interest, counts = state.interest, state.counts
        head = _HEADER.pack(_MAGIC, VERSION, self.fingerprint, state.time, state.events)
        taken = counts.last
        last = _LAST.pack(0, -1) if taken is None else _LAST.pack(taken[0], int(taken[1]))
        time = 0 if interest.modes is None else interest.modes.time
        arrays = [np.array([time], "<i8")]
        arrays += jax.tree.leaves(self._dense(state))
        own = counts.own.items()
        kept = [one for _, item in own for one in item.kept]
        folded = [item for _, item in own if item.folded is not None]
        arrays += [
            np.array([len(counts.own), len(kept), len(folded)], "<u4"),
            np.array([item for item, _ in own], "<u4"),
            np.array([len(item.kept) | (128 if item.folded is not None else 0) for _, item in own], "u1"),
            np.array([one[0] for one in kept], "<i4"),
            np.array([one[1] for one in kept], "<f4"),
            np.array([one[2] for one in kept] if self._kinds else [], "u1"),
            np.array([item.time for item in folded], "<i4"),
            np.array([item.folded for item in folded], "<c8"),
        ]
        return b"".join([head, last, *(np.ascontiguousarray(one).tobytes() for one in arrays)])

    def unpack(self, data: bytes) -> UserState:
        """The state of such bytes. Raises InputError for those of another model or version, or damaged."""
        try:
            return self._unpacked(data)
        except InputError:
            raise
        except (struct.error, ValueError, IndexError) as error:
            raise InputError("a stored state is damaged; replay the user's events") from error

    def _unpacked(self, data: bytes) -> UserState:
        magic, version, made_by, time, events = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != VERSION:
            raise InputError(
                f"a stored state is of format {version}, this is {VERSION}; replay the user's events"
            )
        if made_by != self.fingerprint:
            raise InputError("a stored state was made by another model; replay the user's events")
        when, item = _LAST.unpack_from(data, _HEADER.size)
        place = _HEADER.size + _LAST.size

        def taken(dtype: str, count: int) -> np.ndarray:
            nonlocal place
            found = np.frombuffer(data, dtype, count, place)
            place += found.nbytes
            return found

        (since,) = taken("<i8", 1).tolist()
        leaves, kind = jax.tree.flatten(self._dense(self._empty))
        found = [taken(leaf.dtype.newbyteorder("<").str, leaf.size).reshape(leaf.shape) for leaf in leaves]
        value, mass, last, carry, filled = jax.tree.unflatten(kind, found)
        modes = None if value is None else State(value, since)
        items, many, few = taken("<u4", 3).tolist()
        names = taken("<u4", items).tolist()
        sizes = taken("u1", items).tolist()
        times, amounts = taken("<i4", many).tolist(), taken("<f4", many).tolist()
        kinds = taken("u1", many).tolist() if self._kinds else [0] * many
        ends = taken("<i4", few).tolist()
        folded = taken("<c8", few * self._folded).reshape(few, self._folded)
        if place != len(data):
            raise ValueError(place)
        events_of_all = iter(zip(times, amounts, kinds, strict=True))
        sums = iter(zip(ends, folded, strict=True))
        own = {}
        for name, size in zip(names, sizes, strict=True):
            kept = tuple(next(events_of_all) for _ in range(size & 127))
            end, total = next(sums) if size & 128 else (0, None)
            own[name] = Own(kept, total, end)
        latest = None if item < 0 else (when, float(item), 0)
        return UserState(Interest(modes, mass, last, carry), Counts(own, latest), filled, time, events)

    def _dense(self, state: UserState) -> tuple[Any, ...]:
        """The arrays whose shapes are those of any state."""
        interest = state.interest
        value = None if interest.modes is None else interest.modes.value
        return value, interest.mass, interest.last, interest.carry, state.mass
