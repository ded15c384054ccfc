"""What Redis makes of events, one by one, is what the model makes of them."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_server import MISSING, PROGRAM, Server
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.errors import InputError
from jaxdecay.live.clock import longest_half_life
from jaxdecay.live.encoding import Encoding
from jaxdecay.live.interest import Event
from jaxdecay.live.live import Live, UserState, events_of
from jaxdecay.live.weights import Weights
from jaxdecay.serve.moving import Moving
from jaxdecay.serve.redis import RedisStore
from jaxdecay.serve.store import Delivered, Saved, key_of
from jaxdecay.serve.vocabulary import Vocabulary


class Given(Vocabulary):
    """Knows delivered events by their ids."""

    def __init__(self, events: dict[str, Event]) -> None:
        self._events = events

    def events(self, delivered: Sequence[Delivered]) -> list[Event | None]:
        return [self._events.get(one.id) for one in delivered]


@pytest.fixture(scope="module")
def live() -> Live:
    with jax.numpy_rank_promotion("allow"):
        return Live.of(predictor(*toys.everything()))


@pytest.fixture(scope="module")
def past() -> list[Event]:
    """Events of every kind, in time and late."""
    histories = toys.log()
    with jax.numpy_rank_promotion("allow"):
        weights = Live.of(predictor(*toys.everything())).weights
    events = [event for user in (0, 1) for event in events_of(histories, user, weights)]
    events[3] = events[3]._replace(weight=-0.5)
    events[5] = events[5]._replace(at=-3 * toys.DAY)
    events[7] = events[7]._replace(weight=0.0)
    return events


def delivered(number: int, user: str = "u") -> Delivered:
    return Delivered(f"e{number}", user, "item", 0)


def moving(live: Live, past: list[Event], store: RedisStore) -> Moving:
    return Moving(live, Given({f"e{number}": event for number, event in enumerate(past)}), store)


def alike(live: Live, found: UserState, expected: UserState) -> None:
    assert (found.time, found.events) == (expected.time, expected.events)
    assert found.counts.last == expected.counts.last
    assert found.counts.own.keys() == expected.counts.own.keys()
    arrays = [
        ((one.interest.modes and one.interest.modes.value), one.interest.mass, one.mass)
        for one in (found, expected)
    ]
    for one, two in zip(*arrays, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)
    for at in (found.time, found.time + 40 * toys.DAY):
        np.testing.assert_allclose(live.scores(found, 0, at), live.scores(expected, 0, at), atol=2e-6)


@settings(max_examples=12)
@given(order=st.permutations(range(40)), cut=st.integers(0, 40))
def test_a_state_is_that_of_the_events(
    live: Live, past: list[Event], redis_url: str, order: list[int], cut: int
) -> None:
    store = RedisStore(redis_url, name=f"order-{hash((*order, cut))}")
    found = moving(live, past, store)
    assert found.append([delivered(one) for one in order[:cut]]) == [True] * cut
    for one in order[cut:]:
        assert found.append([delivered(one), delivered(order[0])]) == [True, False]
    alike(live, found.state("u"), live.replay(past[one] for one in order))
    store.close()


def test_a_state_that_lacks_something_is_made_anew(live: Live, past: list[Event], redis_url: str) -> None:
    store = RedisStore(redis_url, name="anew")
    found = moving(live, past, store)
    alike(live, found.state("u"), live.init())
    found.append([delivered(one) for one in range(30)])
    unknown = Delivered("what", "u", "no item", 0)
    found.append([unknown])
    alike(live, found.state("u"), live.replay(past[:30]))
    store.append([delivered(30)])  # by somebody who knows no states
    found.append([delivered(31)])
    alike(live, found.state("u"), live.replay(past[:32]))
    found.append([delivered(32)])  # and moves on from there
    alike(live, found.state("u"), live.replay(past[:33]))
    store.forget_event("e4")
    found.append([delivered(33)])
    alike(live, found.state("u"), live.replay(past[:4] + past[5:34]))
    store.client.delete(found._keys(key_of("u"))[-1])  # as when it has been left to fade away
    found.append([delivered(34)])
    alike(live, found.state("u"), live.replay(past[:4] + past[5:35]))
    store.forget_user("u")
    alike(live, found.state("u"), live.init())
    found.append([delivered(35)])
    alike(live, found.state("u"), live.replay(past[35:36]))
    store.close()


def test_what_is_put_in_place_is_read_again(
    live: Live, past: list[Event], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state made anew, though it is folded where the model keeps events as they came."""
    store = RedisStore(redis_url, name="put")
    found = moving(live, past, store)
    store.append([delivered(one) for one in range(40)])
    expected = found.state("u")
    monkeypatch.setattr(store, "of_user", None)  # without the log
    alike(live, found.state("u"), expected)
    found.append([Delivered("other", "v", "no item", 0)])
    alike(live, found.state("v"), live.init())
    store.close()


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
@pytest.mark.parametrize("cut", [3, 100, 400, 700, 1000, 1500])
def test_what_a_server_wrote_by_half_is_in_no_state(
    live: Live, past: list[Event], tmp_path: Path, cut: int
) -> None:
    """See the like in `tests/test_crashes.py`."""
    server = Server(tmp_path)
    store = RedisStore(server.url)
    found = moving(live, past, store)
    found.append([delivered(0), delivered(1)])
    found.append([delivered(2), delivered(3, "v")])
    server.stop()
    (file,) = (tmp_path / "appendonlydir").glob("*.incr.aof")
    with file.open("r+b") as written:
        written.truncate(file.stat().st_size - cut)
    server.start()
    assert store.last() == 2
    found.append([delivered(4)])
    server.stop()
    server.start()
    alike(live, found.state("v"), live.init())
    alike(live, found.state("u"), live.replay([*past[:2], past[4]]))
    assert found.append([delivered(2), delivered(3, "v"), delivered(5)]) == [True] * 3
    alike(live, found.state("u"), live.replay([*past[:2], past[4], past[2], past[5]]))
    alike(live, found.state("v"), live.replay([past[3]]))
    server.stop()
    store.close()


def test_many_writers_keep_one_state(live: Live, past: list[Event], redis_url: str) -> None:
    stores = [RedisStore(redis_url, name="many") for _ in range(3)]

    def write(store: RedisStore, numbers: range) -> None:
        writer = moving(live, past, store)
        for number in numbers:
            writer.append([delivered(number)])

    parts = (range(20), range(10, 30), range(20, 40))  # each event of ten in twenty by two of them
    threads = [threading.Thread(target=write, args=one) for one in zip(stores, parts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = moving(live, past, stores[0]).state("u")
    assert found.events == 40
    expected = live.replay(past)
    np.testing.assert_allclose(found.interest.modes.value, expected.interest.modes.value, atol=1e-6)  # type: ignore[union-attr]
    for store in stores:
        store.close()


def fading(weights: Weights, half_lives: tuple[float, float], **revisit: Any) -> Weights:
    """With banks of these half-lives, all of theirs."""
    similarity, own = weights.similarity, weights.revisit
    assert own is not None
    assert similarity.bank is not None
    banks = [
        bank._replace(rate=np.full(len(bank.rate), np.log(2) / half_life))
        for bank, half_life in zip((similarity.bank, own.bank), half_lives, strict=True)
    ]
    return weights._replace(
        similarity=similarity._replace(bank=banks[0]), revisit=own._replace(bank=banks[1], **revisit)
    )


def test_a_state_fades_as_its_slowest_part(live: Live) -> None:
    weights = live.weights
    assert longest_half_life(fading(weights, (3.0, 9.0), satiation=0.0)) == pytest.approx(9)
    assert longest_half_life(fading(weights, (30.0, 9.0), satiation=0.0)) == pytest.approx(30)
    assert longest_half_life(fading(weights, (3.0, 9.0), satiation=1.0, recovery=50.0)) == 50
    assert longest_half_life(fading(weights, (3.0, 9.0), satiation=1.0, recovery=np.inf)) is None
    assert longest_half_life(fading(weights, (np.inf, 9.0), satiation=0.0)) is None


@pytest.mark.parametrize(("half_life", "days"), [(9.0, 360), (None, None)])
def test_states_go_once_they_have_faded(
    live: Live, past: list[Event], redis_url: str, half_life: float | None, days: int | None
) -> None:
    store = RedisStore(redis_url, name=f"fades-{half_life}", half_life=half_life)
    found = moving(live, past, store)
    store.save([Saved(key_of("u"), 0, b"", b"state")])
    for words in ([0], [1]):
        found.append([delivered(one) for one in words])
        for key in (found._keys(key_of("u"))[-1], store.prefix + b"state:" + key_of("u")):
            left = store.client.pttl(key) / 1000 / toys.DAY
            assert left == -1 / 1000 / toys.DAY if days is None else days - 0.01 < left <= days
        store.append([delivered(2)])  # and what is made anew
        found.state("u")
    assert store.client.pttl(store.prefix + b"log") == -1
    store.close()


def test_an_encoder_is_refused(live: Live, redis_url: str) -> None:
    store = RedisStore(redis_url)
    encoded = Live(live.weights, Encoding.__new__(Encoding), live.trends)
    with pytest.raises(InputError, match="has an encoder or no bank: replay its users' events"):
        Moving(encoded, Given({}), store)
    store.close()
