"""Kills whoever keeps events, again and again, and looks whether each that was acknowledged is there once.

    python scripts/crash_serving.py --store sqlite
    python scripts/crash_serving.py --store redis --events 100000 --kills 20

A writer sends numbered events in batches and says which were acknowledged; after a failure it sends the batch
again. With SQLite the writer is killed (SIGKILL) and started anew, with Redis its server. In the end the log
must hold every event exactly once, in all and of each user.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from redis_server import Server

from jaxdecay.serve.store import Delivered, Store, StoreError, key_of

USERS = 50


def event(number: int) -> Delivered:
    return Delivered(f"e{number}", f"u{number % USERS}", f"i{number % 7}", 1_700_000_000 + number)


def write(store: Store, first: int, events: int, batch: int) -> None:
    """Sends all from ``first`` on, and prints after each batch up to where they are acknowledged."""
    while first < events:
        some = [event(number) for number in range(first, min(first + batch, events))]
        try:
            store.append(some)
        except StoreError:
            time.sleep(0.005)
            continue
        first += len(some)
        print(first, flush=True)


def opened(store: str) -> Store:
    if store.startswith("redis://"):
        from jaxdecay.serve.redis import RedisStore

        return RedisStore(store)
    from jaxdecay.serve.sqlite import SqliteStore

    return SqliteStore(store)


class Writer:
    """A process that sends, and what it has said."""

    def __init__(self, store: str, first: int, events: int, batch: int) -> None:
        words = [sys.executable, __file__, "--write", store, str(first), str(events), str(batch)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.acknowledged = first

    def follow(self, upto: int) -> None:
        """Until so many are acknowledged, or it ends."""
        assert self._process.stdout is not None
        while self.acknowledged < upto and (line := self._process.stdout.readline()):
            self.acknowledged = int(line)

    def kill(self) -> None:
        self._process.kill()
        told, _ = self._process.communicate()
        for line in told.splitlines(keepends=True):
            if line.endswith("\n"):
                self.acknowledged = int(line)

    def wait(self) -> None:
        told, _ = self._process.communicate()
        self.acknowledged = max([self.acknowledged, *map(int, told.split())])
        assert self._process.returncode == 0


def crashed_sqlite(path: Path, events: int, kills: int, batch: int) -> None:
    """The writer is killed after a random part of its way, and begins where it was not acknowledged."""
    done = 0
    for kill in range(kills):
        writer = Writer(str(path), done, events, batch)
        writer.follow(max(done + 1, events * (kill + 1) // (kills + 1)))
        time.sleep(random.uniform(0, 0.003))
        writer.kill()
        done = writer.acknowledged
        there = opened(str(path))
        assert there.last() >= done, f"{done} were acknowledged, {there.last()} are there"
        there.close()
    Writer(str(path), done, events, batch).wait()


def crashed_redis(server: Server, events: int, kills: int, batch: int) -> None:
    """The server is killed while the writer sends."""
    writer = Writer(server.url, 0, events, batch)
    for kill in range(kills):
        writer.follow(events * (kill + 1) // (kills + 1))
        time.sleep(random.uniform(0, 0.003))
        server.stop()
        server.start()
    writer.wait()


def check(store: Store, events: int) -> None:
    """Every event once, in the log and for its user."""
    found: list[str] = []
    number = 0
    while entries := store.after(number):
        found += [entry.event.id for entry in entries if entry.event is not None]
        number = entries[-1].number
    counted = Counter(found)
    lost = [one for one in (f"e{number}" for number in range(events)) if not counted[one]]
    assert not lost, f"{len(lost)} events are lost: {lost[:5]}"
    assert len(found) == events, f"{len(found)} entries of {events} events"
    for user in range(USERS):
        own = store.of_user(key_of(f"u{user}"), 0, number)
        assert sorted(one.event.at for one in own if one.event) == [
            event(number).at for number in range(user, events, USERS)
        ]


def main() -> None:
    if sys.argv[1:2] == ["--write"]:
        store, *numbers = sys.argv[2:]
        write(opened(store), *map(int, numbers))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--batch", type=int, default=100)
    options = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if options.store == "sqlite":
            path = Path(folder) / "live.sqlite"
            crashed_sqlite(path, options.events, options.kills, options.batch)
            store = opened(str(path))
            check(store, options.events)
        else:
            server = Server(Path(folder))
            try:
                crashed_redis(server, options.events, options.kills, options.batch)
                store = opened(server.url)
                check(store, options.events)
            finally:
                server.stop()
    took = time.monotonic() - begin
    print(f"{options.store}: {options.events} events, {options.kills} kills, each there once ({took:.0f} s)")


if __name__ == "__main__":
    main()
