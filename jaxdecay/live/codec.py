"""States as bytes: a header, then arrays whose shapes the model tells.

All numbers are little-endian. The header says the version of the format and the fingerprint of the model that
the state was made by: a state says nothing to another model, whose rates or vectors differ.

An item takes 5 bytes and 5 more for each of its latest events, whose amounts and behaviours are few different
pairs: a byte says which. What is added up takes 4 bytes for each mode that only fades and 8 for the others.
"""

import hashlib
import struct
from typing import Any, Literal

import jax
import numpy as np
from numpy.typing import DTypeLike

from jaxdecay.errors import InputError
from jaxdecay.live.counts import Counts, Own
from jaxdecay.live.interest import Interest
from jaxdecay.live.live import Live, UserState
from jaxdecay.live.weights import Weights
from jaxdecay.state_numpy import State

VERSION = 2
_PAIRS = 256  # different pairs up to which events refer to a table
_DENSE = {"float32": np.dtype("<f4"), "bfloat16": np.dtype(jax.numpy.bfloat16)}
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

    def __init__(self, live: Live, precision: Literal["float32", "bfloat16"] = "float32") -> None:
        """``precision`` of the bank's modes: in bfloat16 they take half the room, and each number is off by
        up to a 256th of itself, anew whenever a state is packed. All else is as it was."""
        self._empty = live.init()
        carried = () if live.encoding is None else live.encoding.params
        self.fingerprint = fingerprint(live.weights, (carried, np.array(precision == "bfloat16")))
        self._bank = _DENSE[precision]
        self._turns = np.zeros(0, bool) if live.modes is None else live.modes.exponent.imag != 0
        """(M,) which of the modes oscillate: of the others imaginary parts are 0."""

    def pack(self, state: UserState) -> bytes:
        """The state as bytes."""
        interest, counts = state.interest, state.counts
        head = _HEADER.pack(_MAGIC, VERSION, self.fingerprint, state.time, state.events)
        taken = counts.last
        last = _LAST.pack(0, -1) if taken is None else _LAST.pack(taken[0], int(taken[1]))
        time = 0 if interest.modes is None else interest.modes.time
        arrays = [np.array([time], "<i8")]
        if interest.modes is not None:
            arrays.append(interest.modes.value.astype(self._bank))
        arrays += jax.tree.leaves(self._dense(state))
        own = counts.own.items()
        kept = [one for _, item in own for one in item.kept]
        amounts = np.array([amount for _, amount, _ in kept], "<f4").tolist()
        pairs, which = _pairs(list(zip(amounts, [one[2] for one in kept], strict=True)))
        folded = [item for _, item in own if item.folded is not None]
        sums = np.array([item.folded for item in folded], "<c8").reshape(len(folded), len(self._turns))
        arrays += [
            np.array([len(own), len(kept), len(pairs), len(folded)], "<u4"),
            np.array([item for item, _ in own], "<u4"),
            np.array([len(item.kept) | (128 if item.folded is not None else 0) for _, item in own], "u1"),
            np.array([one[0] for one in kept], "<i4"),
            np.array([amount for amount, _ in pairs], "<f4"),
            np.array([behaviour for _, behaviour in pairs], "u1"),
            np.array(which, "u1"),
            np.array([item.time for item in folded], "<i4"),
            sums.real[:, ~self._turns],
            sums[:, self._turns],
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

        def taken(dtype: DTypeLike, count: int) -> np.ndarray:
            nonlocal place
            found = np.frombuffer(data, dtype, count, place)
            place += found.nbytes
            return found

        (since,) = taken("<i8", 1).tolist()
        modes = self._empty.interest.modes
        if modes is not None:
            value = taken(self._bank, modes.value.size).astype(np.float32)
            modes = State(value.reshape(modes.value.shape), since)
        leaves, kind = jax.tree.flatten(self._dense(self._empty))
        found = [taken(leaf.dtype.newbyteorder("<"), leaf.size).reshape(leaf.shape) for leaf in leaves]
        mass, last, carry, filled = jax.tree.unflatten(kind, found)
        items, many, different, few = taken("<u4", 4).tolist()
        names = taken("<u4", items).tolist()
        sizes = taken("u1", items).tolist()
        times = taken("<i4", many).tolist()
        pairs = list(zip(taken("<f4", different).tolist(), taken("u1", different).tolist(), strict=True))
        which = range(many) if different > _PAIRS else taken("u1", many).tolist()
        ends = taken("<i4", few).tolist()
        folded = np.zeros((few, len(self._turns)), np.complex64)
        for part, dtype in ((~self._turns, "<f4"), (self._turns, "<c8")):
            width = int(part.sum())
            folded[:, part] = taken(dtype, few * width).reshape(few, width)
        told = sum(size & 127 for size in sizes), sum(size >> 7 for size in sizes)
        if place != len(data) or told != (many, few):
            raise ValueError(place)
        events_of_all = ((time, *pairs[pair]) for time, pair in zip(times, which, strict=True))
        sums = iter(zip(ends, folded, strict=True))
        own = {}
        for name, size in zip(names, sizes, strict=True):
            kept = tuple(next(events_of_all) for _ in range(size & 127))
            end, total = next(sums) if size & 128 else (0, None)
            own[name] = Own(kept, total, end)
        latest = None if item < 0 else (when, float(item), 0)
        return UserState(Interest(modes, mass, last, carry), Counts(own, latest), filled, time, events)

    def _dense(self, state: UserState) -> tuple[Any, ...]:
        """The other arrays whose shapes are those of any state."""
        return state.interest.mass, state.interest.last, state.interest.carry, state.mass


def _pairs(found: list[tuple[float, int]]) -> tuple[list[tuple[float, int]], list[int]]:
    """The different pairs, and which of them each is; all of them as they come, and nothing, if those are
    many."""
    places = {pair: place for place, pair in enumerate(dict.fromkeys(found))}
    if len(places) > _PAIRS:
        return found, []
    return list(places), [places[pair] for pair in found]
