"""Whatever comes, in whatever order and through whichever process: states and trends are those of the events
that are left, read anew."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import DAY, START

from jaxdecay.live.live import Live
from jaxdecay.live.trends import Trends
from jaxdecay.recommend import load
from jaxdecay.serve.follower import Follower
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.redis import RedisStore
from jaxdecay.serve.sqlite import SqliteStore
from jaxdecay.serve.store import Delivered, Store, StoreError, key_of
from jaxdecay.serve.vocabulary import Vocabulary

Following = Callable[..., Follower]
LATER = START + 61 * DAY


@pytest.fixture(scope="module")
def follower(tiny_run: Path) -> Following:
    """Follows a store with the model of a run."""
    run = load(tiny_run)
    with jax.numpy_rank_promotion("allow"):
        live = Live.of(run.predictor)
    vocabulary = Vocabulary(run, live.weights)

    def following(store: Store, held: int = 3) -> Follower:
        trends = Trends.of(run.histories, live.trends.rates)
        return Follower(Live(live.weights, None, trends), vocabulary, run.histories, store, held=held)

    return following


def event(number: int, user: str = "u01", item: str = "i03", after: int = 0) -> Delivered:
    device = json.dumps({"device": "tv" if number % 2 else "phone"})
    return Delivered(f"e{number}", user, item, LATER + after, "buy", context=device)


def same(one: Any, two: Any, atol: float = 2e-5) -> None:
    assert one.events == two.events
    assert one.time == two.time
    np.testing.assert_allclose(one.interest.modes.value, two.interest.modes.value, atol=atol)
    assert one.counts.own.keys() >= two.counts.own.keys()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens the same store each time."""
    memory, opened = MemoryStore(), contextlib.ExitStack()

    def opening() -> Store:
        if request.param == "memory":
            return memory
        if request.param == "redis":
            url = request.getfixturevalue("redis_url")
            return opened.enter_context(contextlib.closing(RedisStore(url, name=tmp_path.name)))
        return opened.enter_context(contextlib.closing(SqliteStore(tmp_path / "live.sqlite")))

    with opened:
        yield opening


def test_an_event_is_kept_once(open_store: Callable[[], Store]) -> None:
    store = open_store()
    events = [event(1), event(2, user="u02"), event(1, item="i04")]
    assert store.append(events) == [True, True, False]
    assert store.append([event(2), event(3)]) == [False, True]
    assert [entry.event for entry in store.after(0)] == [events[0], events[1], event(3)]
    assert [entry.number for entry in store.of_user(key_of("u01"), 1, 9)] == [3]
    assert store.last() == 3
    store.close()
    assert open_store().append([event(3)]) == [False]


def test_what_is_erased_is_gone_and_does_not_come_back(open_store: Callable[[], Store]) -> None:
    store = open_store()
    store.append([event(1), event(2), event(3, user="u02")])
    assert store.forget_event("e9") is None
    assert store.forget_event("e1") == event(1)
    assert store.forget_event("e1") is None
    assert store.append([event(1)]) == [False]
    assert [entry.event for entry in store.after(0)] == [None, event(2), event(3, user="u02"), None]
    assert store.forgotten() == {}
    assert store.forget_user("u01") == 1
    assert set(store.forgotten()) == {key_of("u01")}
    assert [entry.event for entry in store.after(0) if entry.event] == [event(3, user="u02")]
    if isinstance(store, SqliteStore):
        store.close()
        assert b"u01" not in store.path.read_bytes()
        assert b"i03" in store.path.read_bytes()  # of u02


COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 2), st.integers(0, 14), st.integers(-70 * DAY, 9 * DAY)),
        st.tuples(st.just("again"), st.integers(0, 9)),
        st.tuples(st.just("forget"), st.integers(0, 9)),
        st.tuples(st.just("leave"), st.integers(0, 2)),
        st.tuples(st.just("read"), st.integers(0, 3)),
        st.tuples(st.just("restart")),
    ),
    min_size=3,
    max_size=14,
)


@settings(max_examples=25)
@given(commands=COMMANDS)
def test_states_are_those_of_the_events_that_are_left(
    follower: Following,
    tmp_path_factory: pytest.TempPathFactory,
    commands: list[tuple[Any, ...]],
) -> None:
    path = tmp_path_factory.mktemp("store") / "live.sqlite"
    users = ["u00", "u01", "new", "never"]
    store = SqliteStore(path)
    one, two = follower(store), follower(SqliteStore(path), held=1)
    sent: list[Delivered] = []
    left: dict[str, Delivered] = {}
    gone: set[str] = set()
    for command, *given_ in commands:
        if command == "add":
            user, item, after = given_
            sent.append(event(len(sent), users[user], f"i{item:02}", after))
            assert store.append(sent[-1:]) == [True]
            left[sent[-1].id] = sent[-1]
        elif command == "again" and sent:
            assert store.append([sent[given_[0] % len(sent)]]) == [False]
        elif command == "forget" and sent:
            id = sent[given_[0] % len(sent)].id
            assert store.forget_event(id) == left.pop(id, None)
        elif command == "leave":
            gone.add(users[given_[0]])
            store.forget_user(users[given_[0]])
            left = {id: event for id, event in left.items() if event.user != users[given_[0]]}
        elif command == "read":
            two.follow()
            two.state(users[given_[0]])
        elif command == "restart":
            two.follow()
            two.close()
            two.store.close()
            two = follower(SqliteStore(path), held=1)
    _check(follower, users, gone, list(left.values()), one, two)
    one.store.close()
    two.store.close()


def _check(
    following: Following, users: list[str], gone: set[str], left: list[Delivered], *followers: Follower
) -> None:
    plain = MemoryStore()
    plain.append(left)
    for user in gone:
        plain._forgotten[key_of(user)] = 0  # its own past does not count
    expected = following(plain, held=100)
    for found in followers:
        found.follow()
        for user in users:
            same(found.state(user), expected.state(user))
        at = LATER + 99 * DAY
        np.testing.assert_allclose(
            found.live.trends.shares(at), expected.live.trends.shares(at), rtol=1e-5, atol=1e-7
        )


def test_a_state_is_saved_once_it_took_long_to_make(follower: Following, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "live.sqlite")
    first = follower(store)
    store.append([event(number, after=number) for number in range(40)])
    first.follow()
    before = first.state("u01")
    assert store.state(key_of("u01")) is None
    first.close()
    saved = store.state(key_of("u01"))
    assert saved is not None
    assert saved.number == 40
    store.append([event(50, after=50)])
    second = follower(store)
    assert second.state("u01").events == before.events + 1
    store.save([saved._replace(data=b"x")])
    third = follower(store)
    same(third.state("u01"), second.state("u01"))
    store.close()


def test_what_is_asked_of_the_past_does_not_see_what_came_later(follower: Following) -> None:
    store = MemoryStore()
    store.append([event(1, after=10), event(2, after=20)])
    found = follower(store)
    before = found.state("u01").events
    assert [found.before("u01", LATER + at).events - before for at in (10, 11, 20, 21)] == [-2, -1, -1, 0]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "live.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match=r"live\.sqlite: this is no store: give another path"):
        SqliteStore(path)
    with pytest.raises(StoreError, match="cannot be opened: give a path in a directory"):
        SqliteStore(tmp_path / "nowhere" / "live.sqlite")
