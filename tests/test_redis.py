"""A store on a server: what it promises, that it comes back by itself, and that states follow it."""

from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
import redis
from redis_server import MISSING, PROGRAM, Server

from jaxdecay.errors import InputError
from jaxdecay.serve.opened import open_store
from jaxdecay.serve.redis import RedisStore
from jaxdecay.serve.sqlite import SqliteStore
from jaxdecay.serve.store import Delivered, Saved, StoreError, key_of

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One that may be stopped and set differently."""
    one = Server(tmp_path)
    yield one
    one.stop()


def event(number: int) -> Delivered:
    return Delivered(f"e{number}", f"u{number % 2}", "i", 100 + number, "buy", 0.5, None, '{"a":1}', "")


def test_what_is_acknowledged_outlives_the_server_and_it_comes_back_by_itself(server: Server) -> None:
    store = RedisStore(server.url)
    assert store.append([event(0), event(1)]) == [True, True]
    server.stop()
    with pytest.raises(StoreError, match=r"the server is away .*: send it again once it is back"):
        store.append([event(2)])
    with pytest.raises(StoreError, match="the server is away"):
        RedisStore(server.url)
    server.start()
    assert store.append([event(1), event(2)]) == [False, True]
    assert [entry.event for entry in store.after(0)] == [event(0), event(1), event(2)]
    store.close()


@pytest.mark.parametrize(
    ("settings", "promise"),
    [
        ({"appendfsync": "always"}, "appendfsync always: what is acknowledged has reached the"),
        (
            {"appendfsync": "everysec"},
            "appendfsync everysec: a crash of the server's machine loses up to ",
        ),
        ({"appendfsync": "no"}, "appendfsync no: a crash of the server's machine loses what its system had"),
        ({"appendonly": "no"}, "appendonly no: a crash of the server loses all since its last snapshot"),
    ],
)
def test_it_claims_what_the_server_promises(server: Server, settings: dict[str, Any], promise: str) -> None:
    with redis.Redis.from_url(server.url) as client:
        for name, value in settings.items():
            client.config_set(name, value)
    store = RedisStore(server.url)
    assert store.durability.startswith(promise)
    store.close()


def test_it_claims_nothing_where_the_server_does_not_tell(server: Server) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.acl_setuser(
            "one", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-config"]
        )
    store = RedisStore(server.url.replace("//", "//one:secret@"))
    assert store.durability == "unknown: the server does not tell its configuration"
    assert "secret" not in store.where
    store.close()
    with pytest.raises(StoreError, match="user or password is wrong: give redis://USER:PASSWORD@HOST"):
        RedisStore(server.url.replace("//", "//one:wrong@"))


def test_a_server_that_is_full_keeps_nothing_by_halves(server: Server) -> None:
    store = RedisStore(server.url)
    store.append([event(0)])
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match="maxmemory is reached: give it more, then send it again"):
            store.append([event(number) for number in range(9)])
        assert store.last() == 1
        client.config_set("maxmemory", 0)
        assert store.append([event(number) for number in range(9)]) == [False, *[True] * 8]
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(StoreError, match=r"throws any key away .*allkeys-lru\): set noeviction"):
            RedisStore(server.url)
    store.close()


def test_another_version_and_other_keys_are_refused(server: Server) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.set("old:version", 9)
        with pytest.raises(StoreError, match="of version 9, this is 1; give another name"):
            RedisStore(server.url, name="old")
        client.hset("other:version", "a", 1)
        with pytest.raises(StoreError, match="hold something else: give another database"):
            RedisStore(server.url, name="other")


def test_names_share_a_database(redis_url: str) -> None:
    one, two = (RedisStore(redis_url, name=name) for name in ("one", "two"))
    one.append([event(0)])
    assert two.last() == 0
    assert two.append([event(0)]) == [True]
    one.close()
    two.close()


def test_a_state_from_before_an_erasure_is_not_saved(redis_url: str) -> None:
    store = RedisStore(redis_url, name="saved")
    store.append([event(0), event(1), event(2)])
    old, new = Saved(key_of("u0"), 3, b"made by", b"\0 1"), Saved(key_of("u0"), 4, b"made by", b" 2\n")
    store.save([old])
    assert store.state(old.user) == old
    store.forget_event("e0")  # entry 4
    assert store.state(old.user) is None
    store.save([old, Saved(key_of("u1"), 3, b"", b"")])
    assert store.state(old.user) is None
    assert store.state(key_of("u1")) == Saved(key_of("u1"), 3, b"", b"")
    store.save([new])
    assert store.state(old.user) == new
    store.close()


def test_ids_of_any_kind_are_kept_as_they_are(redis_url: str) -> None:
    store = RedisStore(redis_url, name="ids")
    strange = ["", "' OR 1=1; --", "\0", "ключ", "a" * 10_000, "\ud800", "*", "{x}"]
    events = [Delivered(one, one, one, -5, one, 1e-300, 0.0) for one in strange]
    assert store.append(events) == [True] * len(strange)
    assert [entry.event for entry in store.after(0)] == events
    for one in strange:
        assert [entry.event for entry in store.of_user(key_of(one), 0, 99)] == [
            next(event for event in events if event.user == one)
        ]
        assert store.forget_user(one) == 1
    store.close()


def test_a_store_by_what_it_is_called(redis_url: str, tmp_path: Path) -> None:
    for address in (redis_url, redis_url.replace("redis://", "valkey://")):
        store = open_store(address, tmp_path)
        assert isinstance(store, RedisStore)
        store.close()
    (tmp_path / "first").mkdir()
    link = tmp_path / "served"
    link.symlink_to(tmp_path / "first")
    for address, path in (("live", "served.live.sqlite"), (str(tmp_path / "x.db"), "x.db")):
        store = open_store(address, link)
        assert isinstance(store, SqliteStore)
        assert store.path == tmp_path / path
        store.close()
    with pytest.raises(InputError, match="store kafka://: give live, a path, or redis://HOST:PORT/DATABASE"):
        open_store("kafka://host", tmp_path)
    for wrong in ("redis://:secret@host:port/0", "redis://host/name", "redis://host:99999/0"):
        with pytest.raises(InputError, match=r"^store redis://: give redis://HOST:PORT/DATABASE, both"):
            open_store(wrong, tmp_path)


def test_a_server_that_was_ended_in_order_is_away_too(server: Server) -> None:
    store = RedisStore(server.url)
    server.stop(SIGTERM)
    with pytest.raises(StoreError, match="the server is away"):
        store.last()
    server.start()
    assert store.last() == 0
    store.close()
