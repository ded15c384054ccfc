"""Killed, torn, full, damaged: what was acknowledged is there once, and nobody has to come and help."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import crash_serving
import pytest
import redis
from crash_serving import event
from redis_server import MISSING, PROGRAM, Server

from jaxdecay.serve.redis import RedisStore
from jaxdecay.serve.sqlite import SqliteStore
from jaxdecay.serve.store import Delivered, Store, StoreError, key_of

needs_server = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    yield one
    one.stop()


def ids(store: Store) -> list[str]:
    return [entry.event.id for entry in store.after(0) if entry.event is not None]


def test_a_writer_that_is_killed_twenty_times(tmp_path: Path) -> None:
    path = tmp_path / "live.sqlite"
    crash_serving.crashed_sqlite(path, 2000, 20, 20)
    store = SqliteStore(path)
    crash_serving.check(store, 2000)
    store.close()


@needs_server
def test_a_server_that_is_killed_twenty_times(server: Server) -> None:
    crash_serving.crashed_redis(server, 4000, 20, 50)
    store = RedisStore(server.url)
    crash_serving.check(store, 4000)
    store.close()


@needs_server
@pytest.mark.parametrize("cut", [3, 12, 40, 90, 150, 300, 500, 700])
def test_what_a_server_wrote_by_half_does_no_harm(server: Server, cut: int) -> None:
    """Redis cuts its file at the end of a command, even within a transaction, and runs the half it kept with
    the next transaction when it starts once more: by then others have been given its numbers."""
    store = RedisStore(server.url)
    store.append([event(0)])
    half, others = [event(1), event(2), event(3)], [event(51), event(54), event(53), event(55)]
    store.append(half)
    server.stop()
    (file,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    with file.open("r+b") as written:
        written.truncate(file.stat().st_size - cut)
    server.start()
    assert ids(store) == ["e0"]
    assert store.append(others[:2]) == [True, True]
    server.stop()
    server.start()
    assert ids(store) == ["e0", "e51", "e54"]
    for one in half[0], half[2]:
        assert [entry.event for entry in store.of_user(key_of(one.user), 0, 99)] == [
            other for other in others[:2] if other.user == one.user
        ]
    assert store.append([*half, *others]) == [True, True, True, False, False, True, True]
    assert store.forget_event("e2") == event(2)
    assert store.forget_user("u1") == 2
    assert ids(store) == ["e0", "e54", "e3", "e53", "e55"]
    store.close()


@contextlib.contextmanager
def limited(pid: int, size: int) -> Iterator[None]:
    """No file of a process grows beyond so many bytes."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def large(number: int) -> Delivered:
    return event(number)._replace(content="x" * 20_000)


def test_a_full_disk_keeps_all_or_nothing_and_is_got_over(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "live.sqlite")
    store.append([event(0)])
    store._connection.execute("PRAGMA max_page_count=20")
    with pytest.raises(StoreError, match="the disk is full: free some space; nothing was written, send it"):
        store.append([event(1), *(large(number) for number in range(2, 9))])
    assert ids(store) == ["e0"]
    store._connection.execute("PRAGMA max_page_count=99999")
    assert store.append([event(1), large(2)]) == [True, True]
    store.close()


@needs_server
def test_so_is_a_full_disk_of_a_server(tmp_path: Path) -> None:
    server = Server(tmp_path, "--appendfsync", "everysec")  # else it ends itself when it cannot write
    store = RedisStore(server.url)
    store.append([event(0)])
    kept: list[str] = ["e0"]

    def fill() -> None:
        for number in range(1, 99):
            store.append([large(number)])
            kept.append(f"e{number}")
            time.sleep(0.01)

    with limited(server.pid, 100_000), pytest.raises(StoreError, match="cannot write its file: free some"):
        fill()
    assert len(kept) > 2
    until = time.monotonic() + 5
    while time.monotonic() < until:  # it tries again each second
        try:
            store.append([event(99)])
            break
        except StoreError:
            time.sleep(0.05)
    assert ids(store) == [*kept, "e99"]
    server.stop()
    server.start()
    assert ids(store) == [*kept, "e99"]
    store.close()
    server.stop()


def test_a_file_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "live.sqlite")
    store.append([event(0)])
    store._connection.execute("PRAGMA query_only=ON")
    with pytest.raises(StoreError, match="cannot be written: give this process the right to write it"):
        store.append([event(1)])
    assert ids(store) == ["e0"]
    store._connection.execute("PRAGMA query_only=OFF")
    assert store.append([event(0), event(1)]) == [False, True]
    store.close()


def test_a_damaged_file_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "live.sqlite"
    store = SqliteStore(path)
    store.append([event(number) for number in range(2000)])
    store.close()
    data = bytearray(path.read_bytes())
    data[8192:-8192] = b"\xff" * (len(data) - 16384)
    path.write_bytes(data)
    damaged = pytest.raises(StoreError, match=r"live\.sqlite: the file is damaged: restore it from a copy")
    with damaged, contextlib.closing(SqliteStore(path)) as store:
        ids(store)


@needs_server
def test_a_server_that_is_gone_for_a_while(server: Server) -> None:
    store = RedisStore(server.url)
    store.append([event(0)])
    with redis.Redis.from_url(server.url) as client:
        client.client_pause(300, all=True)  # it holds its answers, and then gives them
    assert store.append([event(1)]) == [True]
    server.stop()
    for _ in range(3):
        with pytest.raises(StoreError, match="is away"):
            store.append([event(2)])
    server.start()
    assert store.append([event(0), event(1), event(2)]) == [False, False, True]
    store.close()
