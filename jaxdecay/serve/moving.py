"""States that Redis itself moves on: each event fades its user's modes to its time and is added there, by the
script that keeps it. So any number of writers, which know no states, keep one that is always up to date, and
a reader needs one read.

    moving = Moving(live, vocabulary, store)
    moving.append(events)                  # as store.append
    moving.state("u1")                     # of what the store has: live.merge it with the run's own past

For models whose events each write for themselves (`Live.linear`); all in doubles, late events included.
"""

import struct
from collections.abc import Sequence

import numpy as np

from jaxdecay.errors import InputError
from jaxdecay.live import clock, counts, interest
from jaxdecay.live.codec import fingerprint
from jaxdecay.live.counts import Counts, Own
from jaxdecay.live.interest import Event
from jaxdecay.live.live import Live, UserState
from jaxdecay.serve.redis import LOG, RedisStore
from jaxdecay.serve.store import Delivered, key_of
from jaxdecay.serve.vocabulary import Vocabulary

_ENTRY = struct.Struct("<d16s")  # what comes first: the latest entry in it, its number and its event's id
_HEAD = struct.Struct("<5d")  # entries seen, events, time; when and which item was taken last
_START = struct.Struct("<2d")  # when, and the item


class Moving:
    """The states of a store's users for one model."""

    def __init__(self, live: Live, vocabulary: Vocabulary, store: RedisStore) -> None:
        """Raises InputError where the model is not linear."""
        if not live.linear:
            raise InputError(
                "a server can move on only states to which events are added one by one, and this model has "
                "an encoder or no bank: replay its users' events"
            )
        self._live, self._vocabulary, self._store = live, vocabulary, store
        self._name = fingerprint(live.weights).hex()
        empty, similarity = live.init(), live.weights.similarity
        assert similarity.bank is not None
        assert empty.interest.modes is not None
        # Live's modes fade in float32: by the same rates in double they fade alike.
        blocks = {"modes": (similarity.bank.rate.astype(np.float32), empty.interest.modes.value.shape[1])}
        if empty.interest.mass is not None:
            blocks["mass"] = (similarity.bank.rate, 1)
        if empty.mass is not None and live.weights.revisit is not None:
            blocks["held"] = (live.weights.revisit.bank.rate, 1)
        self._shapes = {name: (len(rates), width) for name, (rates, width) in blocks.items()}
        self._script = store.script("log", "add", "append", model=self._model(blocks))
        self._read, self._put = store.script("log", "read"), store.script("log", "put")
        with store.errors():
            store.client.sadd(store.prefix + b"makers", self._name)

    def _model(self, blocks: dict[str, tuple[np.ndarray, int]]) -> str:
        """All that the script must know, as a table of Lua."""
        told, place = [], _START.size + 1
        for name, (rates, width) in blocks.items():
            rows = ", ".join(repr(float(rate) / clock.DAY) for rate in rates)
            told.append(f"{name} = {{rates = {{{rows}}}, width = {width}, place = {place}}}")
            place += 8 * (len(rates) + width)
        modes = () if self._live.modes is None else self._live.modes.exponent / clock.DAY
        own = ", ".join(f"{{{float(one.real)!r}, {float(one.imag)!r}}}" for one in modes)
        return (
            f"{{name = '{self._name}', fades = {self._store.lifetime}, place = {place}, own = {{{own}}}, "
            f"blocks = {{{', '.join(told)}}}}}"
        )

    def append(self, events: Sequence[Delivered]) -> list[bool]:
        """As `jaxdecay.serve.store.Store.append`, and moves the states of their users on with those that are
        new. One that the model does not know changes no state."""
        known = self._vocabulary.events(events)
        adds = [b"" if event is None else self._adds(event) for event in known]
        return self._store.append_with(self._script, events, adds)

    def _adds(self, event: Event) -> bytes:
        """What an event adds, as the script takes it."""
        similarity, revisit = self._live.weights.similarity, self._live.weights.revisit
        assert similarity.bank is not None
        writes = similarity.bank.writes[event.item, event.behaviour]
        parts = [writes, interest.written(similarity, event)]
        parts += [np.ones(rows + 1) for name, (rows, _) in self._shapes.items() if name != "modes"]
        item = -1
        if revisit is not None and event.weight > 0:
            assert self._live.modes is not None
            amount = float(revisit.strength[event.item, event.behaviour]) * event.weight
            parts.append(counts.written(revisit, self._live.modes, event.item, event.behaviour, amount))
            item = event.item
        return _START.pack(event.at, item) + _packed(np.concatenate(parts))

    def state(self, user: str) -> UserState:
        """The state of the events of a user that the store has. Where it lacks some, since they were kept
        without moving it on, or one was erased, or it has been left to fade away, it is made anew from the
        log."""
        key = key_of(user)
        with self._store.errors():
            found = self._read(self._keys(key), [key])
        if found is None:
            return self._live.init()
        if not found:
            return self._remade(key)
        return self._unpacked(dict(zip(found[::2], found[1::2], strict=True)))

    def _keys(self, user: bytes) -> list[bytes]:
        store = self._store
        return [
            *store.keys(*LOG),
            store.prefix + b"user:" + user,
            store.prefix + b"live:" + self._name.encode() + user,
        ]

    def _remade(self, user: bytes) -> UserState:
        store = self._store
        entries = store.of_user(user, 0, store.last())
        there = [one.event for one in entries if one.event is not None]
        state = self._live.replay(event for event in self._vocabulary.events(there) if event is not None)
        if entries:
            latest = _ENTRY.pack(entries[-1].number, key_of(there[-1].id))
            words = [part for field in self._packed(state, len(entries), latest).items() for part in field]
            told = [user, len(entries), entries[-1].number, store.lifetime]
            with store.errors():
                self._put(self._keys(user), told + words)
        return state

    def _unpacked(self, fields: dict[bytes, bytes]) -> UserState:
        _, events, time, when, last = _HEAD.unpack_from(fields.pop(b"head"), _ENTRY.size)
        state = self._live.init()
        if not events:
            return state
        found = {
            name: np.frombuffer(fields.pop(name.encode()), "<f8").reshape(shape)
            for name, shape in self._shapes.items()
        }
        own = {}
        for item, data in fields.items():
            at, *parts = np.frombuffer(data, "<f8", offset=_ENTRY.size)
            own[int(item)] = Own((), np.array(parts).view(np.complex128).astype(np.complex64), int(at))
        old = state.interest.modes
        assert old is not None
        modes = old._replace(value=found["modes"].astype(np.float32), time=int(time))
        mass, held = (found[name][:, 0] if name in found else None for name in ("mass", "held"))
        taken = None if last < 0 else (int(when), last, 0)
        return UserState(
            state.interest._replace(modes=modes, mass=mass), Counts(own, taken), held, int(time), int(events)
        )

    def _packed(self, state: UserState, entries: int, latest: bytes) -> dict[str, bytes]:
        when, last, _ = state.counts.last or (0, -1, 0)
        fields = {"head": latest + _HEAD.pack(entries, state.events, state.time, when, last)}
        if not state.events:
            return fields
        assert state.interest.modes is not None
        parts = {"modes": state.interest.modes.value, "mass": state.interest.mass, "held": state.mass}
        fields |= {name: _packed(part) for name, part in parts.items() if part is not None}
        for item, own in state.counts.own.items():
            time, total = self._added(item, own)
            fields[str(item)] = latest + _packed(np.array([time])) + _packed(total.view(np.float64))
        return fields

    def _added(self, item: int, own: Own) -> tuple[int, np.ndarray]:
        """The time of an item's latest event, and (M,) complex128 all of its events in modes."""
        revisit, modes = self._live.weights.revisit, self._live.modes
        assert revisit is not None
        assert modes is not None
        time = max([own.time] * (own.folded is not None) + [one[0] for one in own.kept])
        total = np.zeros(len(modes.curve), np.complex128)
        if own.folded is not None:
            total += own.folded * modes.turned(time - own.time)
        for at, amount, behaviour in own.kept:
            total += counts.written(revisit, modes, item, behaviour, amount) * modes.turned(time - at)
        return time, total


def _packed(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, "<f8").tobytes()
