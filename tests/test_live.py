"""The streaming face of a whole model is the model over the whole history."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.live.codec import Codec
from jaxdecay.live.interest import Event
from jaxdecay.live.live import Live, UserState, events_of
from jaxdecay.predict import Predictor


@pytest.fixture(scope="module")
def system() -> Predictor:
    with jax.numpy_rank_promotion("allow"):
        return predictor(*toys.everything())


def at_the_end(system: Predictor, seconds: int) -> Requests:
    """By every user after the last event of all."""
    histories = system.histories
    users = np.arange(histories.users)
    at = np.full(len(users), int(histories.time.max()) + seconds)
    end = np.asarray(histories.offsets[1:])
    none = np.zeros(len(users) + 1, np.int64)
    return Requests(users, end, at, none, np.zeros(0, np.int32), np.maximum(end - 1, 0))


def asked(live: Live, system: Predictor, state: UserState, requests: Requests, user: int) -> np.ndarray:
    histories, event = system.histories, requests.event[user]
    return live.scores(
        state, user, int(requests.at[user]) - live.weights.origin,
        np.asarray(histories.context_categorical[event]), np.asarray(histories.context_numeric[event]),
    )  # fmt: skip


def equal(system: Predictor, seconds: int) -> None:
    requests = at_the_end(system, seconds)
    expected, live = system.scores(requests), Live.of(system)
    for user in range(system.histories.users):
        state = live.replay(events_of(system.histories, user, live.weights))
        np.testing.assert_allclose(asked(live, system, state, requests, user), expected[user], atol=1e-5)


@pytest.mark.parametrize("seconds", [1, 40 * toys.DAY])
def test_events_one_by_one_give_the_scores_of_the_whole_history(system: Predictor, seconds: int) -> None:
    equal(system, seconds)


@pytest.mark.parametrize("kind", ["mlp", "gru", "bank"])
def test_so_do_they_through_an_encoder(kind: str) -> None:
    histories = toys.log((9, 14))
    spec: Any = toys.spec(histories)
    shape = dataclasses.replace(
        spec.encoder, kind=kind, blocks=1, half_lives=(1.0, float("inf")), steps=(4.0,)
    )
    made = toys.pieces(histories, dataclasses.replace(spec, encoder=shape), window=64, batch_targets=64)
    with jax.numpy_rank_promotion("allow"):
        system = predictor(made, toys.random_params(made))
    equal(system, 5 * toys.DAY)


def same(one: Any, two: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_bytes_hold_a_state_and_nothing_else(system: Predictor) -> None:
    live = Live.of(system)
    codec = Codec(live)
    same(codec.unpack(codec.pack(live.init())), live.init())
    for user in range(system.histories.users):
        events = events_of(system.histories, user, live.weights)
        again = [event._replace(at=event.at + day * toys.DAY) for day in range(9) for event in events]
        state = live.replay(again)
        data = codec.pack(state)
        stored = codec.unpack(data)
        assert (stored.time, stored.events, list(stored.counts.own)) == (
            state.time, state.events, list(state.counts.own),
        )  # fmt: skip
        assert codec.pack(stored) == data
        with pytest.raises(InputError, match="damaged; replay the user's events"):
            codec.unpack(data[:-1])
        with pytest.raises(InputError, match="damaged"):
            codec.unpack(data + b"x")
        with pytest.raises(InputError, match="of format 9, this is 2; replay"):
            codec.unpack(data[:2] + bytes([9]) + data[3:])
        with pytest.raises(InputError, match="by another model; replay"):
            codec.unpack(data[:3] + bytes(8) + data[11:])


def test_a_stored_event_is_forgotten_like_any_other(system: Predictor) -> None:
    live = Live.of(system)
    codec = Codec(live)
    events = events_of(system.histories, 0, live.weights)
    stored = codec.unpack(codec.pack(live.replay(events)))
    for event in events[:-1]:
        assert event.at < stored.time
        stored = live.forget(stored, event)
    kept = [one.kept for one in stored.counts.own.values() if one.kept]
    assert kept == [one.kept for one in live.replay(events[-1:]).counts.own.values()]


def test_an_item_takes_few_bytes(system: Predictor) -> None:
    """Five, and five for each of its latest events; here a table of one pair of amount and behaviour, too."""
    live = Live.of(system)
    plain, half = Codec(live), Codec(live, "bfloat16")
    first = events_of(system.histories, 0, live.weights)[0]._replace(weight=1.0)

    def size(codec: Codec, events: list[Event]) -> int:
        return len(codec.pack(live.replay(events))) - len(codec.pack(live.init()))

    assert size(plain, [first]) == 5 + 5 + 5
    assert size(plain, [first] * 8) == 5 + 8 * 5 + 5
    assert live.modes is not None
    turning = int((live.modes.exponent.imag != 0).sum())
    assert turning == 3  # of one rhythm as sharp as 3
    folded = 4 + 4 * (len(live.modes.curve) - turning) + 8 * turning
    assert size(plain, [first] * 9) == 5 + 5 * 5 + 5 + folded
    state = live.replay(events_of(system.histories, 0, live.weights))
    assert state.interest.modes is not None
    exact = state.interest.modes.value
    assert len(plain.pack(state)) - len(half.pack(state)) == 2 * exact.size
    coarse = half.unpack(half.pack(state)).interest.modes
    assert coarse is not None
    np.testing.assert_allclose(coarse.value, exact, rtol=2**-8)
    assert (coarse.value != exact).any()
    with pytest.raises(InputError, match="by another model; replay"):
        plain.unpack(half.pack(state))


def shuffled_and_split(events: list[Event]) -> tuple[list[Event], list[Event], list[Event]]:
    random = np.random.default_rng(3)
    lot = random.permutation(len(events))
    return [events[one] for one in lot], events[::2], events[1::2]


def test_late_events_and_two_machines_come_to_the_same(system: Predictor) -> None:
    live, requests = Live.of(system), at_the_end(system, toys.DAY)
    assert live.linear
    for user in range(system.histories.users):
        events = events_of(system.histories, user, live.weights)
        expected = asked(live, system, live.replay(events), requests, user)
        late, one, two = shuffled_and_split(events)
        for state in (live.replay(late), live.merge(live.replay(one), live.replay(two))):
            np.testing.assert_allclose(asked(live, system, state, requests, user), expected, atol=1e-5)
            assert state.events == len(events)


def test_a_forgotten_event_has_never_been(system: Predictor) -> None:
    live, requests = Live.of(system), at_the_end(system, toys.DAY)
    user = int(np.argmax(system.histories.lengths()))
    events = events_of(system.histories, user, live.weights)
    state = live.replay(events)
    for place in (0, len(events) // 2):
        found = live.forget(state, events[place])
        expected = live.replay(events[:place] + events[place + 1 :])
        np.testing.assert_allclose(
            asked(live, system, found, requests, user),
            asked(live, system, expected, requests, user),
            atol=1e-5,
        )


def test_an_item_that_comes_back_often_takes_no_more_room(system: Predictor) -> None:
    """And the sum of what it was faded from is what it is read as, however it is kept."""
    live, requests = Live.of(system), at_the_end(system, 200 * toys.DAY)
    first = events_of(system.histories, 0, live.weights)[0]
    random = np.random.default_rng(0)
    times = np.sort(random.integers(0, 100 * toys.DAY, 60)).tolist()
    events = [first._replace(at=at, weight=1.0) for at in times]
    state = live.replay(events)
    own = state.counts.own[first.item]
    assert len(own.kept) <= 8
    assert own.folded is not None
    expected = live.replay(events[-1:])
    for event in events[:-1]:  # each merged in by itself
        expected = live.merge(expected, live.replay([event]))
    np.testing.assert_allclose(
        asked(live, system, state, requests, 0), asked(live, system, expected, requests, 0), atol=1e-5
    )
    without = live.forget(state, events[3])
    np.testing.assert_allclose(
        asked(live, system, without, requests, 0),
        asked(live, system, live.replay(events[:3] + events[4:]), requests, 0),
        atol=1e-5,
    )
