"""Events in bulk into a live store: each once, however often they are delivered and whoever dies."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import polars as pl
import pytest
import redis
from lines import Said
from redis_server import MISSING, PROGRAM, Server
from tiny import DAY, START
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.errors import InputError
from jaxdecay.generations import newest
from jaxdecay.live.taken import weights_of
from jaxdecay.recommend import load
from jaxdecay.serve import delivery as deliveries
from jaxdecay.serve.delivery import Delivery, pipe
from jaxdecay.serve.incoming import Incoming
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.opened import beside
from jaxdecay.serve.sqlite import SqliteStore
from jaxdecay.serve.store import Delivered, StoreError
from jaxdecay.serve.stream import Stream
from jaxdecay.serve.vocabulary import Vocabulary

Delivering = Callable[[Any], Delivery]
LATER = START + 61 * DAY


@pytest.fixture(scope="module")
def delivering(tiny_run: Path) -> Delivering:
    """Into a store, as the events of a run."""
    run = load(tiny_run)
    with jax.numpy_rank_promotion("allow"):
        vocabulary = Vocabulary(run, weights_of(run.predictor))
    incoming = Incoming(vocabulary, run.histories.config)
    return lambda store: Delivery(vocabulary, incoming, store)


def sent(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "user_id": "u01", "item_id": f"i{number % 15:02}", "timestamp": LATER + number, "behaviour": "buy",
        "context": {"device": "tv"},
    } | changes  # fmt: skip


def log(store: Any) -> list[Delivered]:
    return [entry.event for entry in store.after(0) if entry.event is not None]


def piped(delivery: Delivery, *lines: Any) -> list[str]:
    """What is said while these lines come."""
    said: list[str] = []
    with tempfile.TemporaryFile() as file:
        file.write(b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines))
        file.seek(0)
        pipe(file.fileno(), delivery, said.append)
    return said


def test_a_delivery_may_be_repeated(delivering: Delivering) -> None:
    """Like rows count as often as they are there, once each."""
    store = MemoryStore()
    lines = [sent(1), sent(1), sent(2), sent(3, event_id="own"), sent(4, event_id="own")]
    first = delivering(store)
    piped(first, *lines)
    assert (first.kept, first.repeated, first.skipped) == (4, 1, 0)
    again = delivering(store)
    piped(again, *lines, sent(1), sent(5))
    assert (again.kept, again.repeated) == (2, 5)  # the third like it, and the new one
    assert [event.item for event in log(store)] == ["i01", "i01", "i02", "i03", "i01", "i05"]


def test_what_says_the_same_is_the_same(delivering: Delivering) -> None:
    one, two = delivering(MemoryStore()), delivering(MemoryStore())
    words = {"price": 3, "genre": "jazz"}
    same = one.checked(sent(1, item_id="new", item=words, timestamp="2024-01-15T00:00:00Z"))
    assert same == two.checked(
        sent(1, item_id="new", item=dict(reversed(words.items())), timestamp=1_705_276_800)
    )._replace(content=same.content)
    assert same.id != one.checked(sent(1, item_id="new", item={"price": 4}, timestamp=1_705_276_800)).id


def test_a_bad_line_is_skipped_and_said(delivering: Delivering) -> None:
    store = MemoryStore()
    found = delivering(store)
    lines = [
        b"{",
        b"",
        b"[1]",
        sent(1, item_id="what"),
        sent(1, user_id=""),
        sent(2, behaviour="by"),
        sent(7),
    ]
    piped(found, *lines, sent(8, timestamp=10**10), b"[" * 100_000, b"\xff", sent(9, user_id="x\ny"))
    assert (found.kept, found.skipped, len(found.reasons)) == (1, 9, 5)
    starts = (
        "line 1: no JSON (Expecting property name",
        "line 3: the event: input should be a valid dictionary",
        "line 4: item 'what' is not known; send its columns as 'item'",
        "line 5: user_id: give 1 to 256 bytes",
        "line 6: behaviour 'by' is not known; there are buy, view; perhaps 'buy'",
    )
    for reason, start in zip(found.reasons, starts, strict=True):
        assert reason.startswith(start), reason


def test_a_line_without_end_is_refused(delivering: Delivering, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * (3 << 20))
    with path.open("rb") as file, pytest.raises(InputError, match="a line of more than 1048576 bytes"):
        pipe(file.fileno(), delivering(MemoryStore()), print)


class Away(MemoryStore):
    """Not there at first."""

    tries = 3

    def append(self, events: Any) -> list[bool]:
        self.tries -= 1
        if self.tries >= 0:
            raise StoreError("gone: look for it")
        return super().append(events)


def test_a_pipe_waits_for_a_store_that_is_away(
    delivering: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_PAUSE", 0.001)
    store = Away()
    assert piped(delivering(store), sent(1), sent(1)) == ["gone: look for it; trying again until it is back"]
    assert len(log(store)) == 2


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run")


def frame(*events: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{**event, "device": event["context"]["device"]} for event in events]).drop("context")


def test_a_file_goes_into_the_store_and_not_into_the_histories(
    run: Path, say: Callable[..., Said], tmp_path: Path
) -> None:
    path, before = tmp_path / "new.csv", newest(run)
    # The second is a copy of the first, which is dropped as it was when the log was prepared.
    frame(sent(1), sent(1), sent(2, item_id="what"), sent(3, user_id="new", behaviour="view")).write_csv(path)
    said = say("update", run, path, "--store live --json")
    assert said.status == 0, said.err
    assert {name: said.json[name] for name in ("kept", "repeated", "skipped")} == {
        "kept": 2, "repeated": 0, "skipped": 1,
    }  # fmt: skip
    assert "skipped row 3: item 'what' is not known" in said.err
    assert newest(run) == before
    store = SqliteStore(beside(run))
    expected = [sent(1), sent(3, user_id="new", behaviour="view")]
    for event, given in zip(log(store), expected, strict=True):
        assert (event.user, event.item, event.at, event.behaviour, json.loads(event.context)) == tuple(
            given.values()
        )
    store.close()
    assert say("update", run, path, "--store live --json").json["repeated"] == 2


def test_a_command_that_cannot_be_is_refused_before_anything_is_done(
    run: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "new.csv"
    frame(sent(1), sent(2, behaviour="by")).write_csv(path)
    assert "behaviour by is unknown to the run" in refused("update", run, path, "--store live")
    store = SqliteStore(beside(run))
    assert store.last() == 0
    store.close()
    assert "give a file of events, - for JSON lines" in refused("update", run)
    assert "-: JSON lines go into a live store: add --store live" in refused("update", run, "-")
    assert "--items and --users go with" in refused("update", run, path, "--store live --items", path)
    assert "go with a file: leave them out" in refused("update", run, "- --store live --unit s")
    assert "give seconds above 0, with --from" in refused("update", run, path, "--idle 0")
    for wrong in ("redis://host", "kafka://host/x", "redis://host:port/x", "redis://host/name/x"):
        assert "from: give redis://HOST:PORT/STREAM or" in refused("update", run, "--from", wrong)
    beside(run).write_bytes(b"no database" * 100)
    assert "this is no store: give another path" in refused("update", run, path, "--store live")


needs_server = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def following(redis_url: str, name: str, delivery: Delivery, **options: Any) -> list[str]:
    said: list[str] = []
    Stream(f"{redis_url}/{name}", **options).follow(delivery, said.append, idle=0.6)
    return said


def test_a_stream_is_followed_from_where_it_stopped(
    delivering: Delivering, redis_url: str, client: Any
) -> None:
    store = MemoryStore()
    flat = {**sent(2), "context": json.dumps({"device": "tv"}), "label": "1"}
    client.xadd("plays", {"event": json.dumps(sent(1))})
    client.xadd("plays", flat)
    first = delivering(store)
    following(redis_url, "plays", first)
    assert (first.kept, first.skipped) == (2, 0)
    assert [(event.item, event.label) for event in log(store)] == [("i01", None), ("i02", 1.0)]
    client.xadd("plays", {"event": json.dumps(sent(1))})  # another entry, and so another event
    client.xadd("plays", {"event": json.dumps(sent(3, event_id="own"))})
    client.xadd("plays", {"event": json.dumps(sent(3, event_id="own"))})
    second = delivering(store)
    following(redis_url, "plays", second)
    assert (second.kept, second.repeated) == (2, 1)
    assert client.xpending("plays", "jaxdecay")["pending"] == 0
    assert client.xinfo_consumers("plays", "jaxdecay") == []


def test_entries_that_are_no_event_go_to_another_stream(
    delivering: Delivering, redis_url: str, client: Any
) -> None:
    found = delivering(MemoryStore())
    client.xadd("mixed", {"event": "{"})
    client.xadd("mixed", {"user_id": "u01", "item_id": "what", "timestamp": str(LATER), "behaviour": "buy"})
    client.xadd("mixed", {b"event": b"\xff"})
    bad = client.xadd("mixed", {**sent(1), "context": "{}", "weight": "heavy"})
    client.xadd("mixed", {"event": json.dumps(sent(1))})
    following(redis_url, "mixed", found)
    assert (found.kept, found.skipped) == (1, 4)
    refused = [fields for _, fields in client.xrange("mixed:refused")]
    starts = (b"no JSON", b"item 'what' is not known", b"it is not UTF-8", b"no JSON")
    for fields, start in zip(refused, starts, strict=True):
        assert fields[b"reason"].startswith(start)
    assert refused[3][b"entry"] == bad
    assert refused[1][b"item_id"] == b"what"
    assert client.xpending("mixed", "jaxdecay")["pending"] == 0


def test_it_waits_for_a_store_that_is_away(delivering: Delivering, redis_url: str, client: Any) -> None:
    store = Away()
    store.tries = 1
    client.xadd("waiting", {"event": json.dumps(sent(1))})
    said = following(redis_url, "waiting", delivering(store), abandoned=0.3)
    assert said == ["gone: look for it; trying again until it is back"]
    assert len(log(store)) == 1
    assert client.xpending("waiting", "jaxdecay")["pending"] == 0


CONSUMER = """
import os
import sys
from jaxdecay.serve.stream import Stream
from jaxdecay.serve.delivery import Delivery
from jaxdecay.serve.sqlite import SqliteStore
from jaxdecay.serve.store import Delivered

class Plain(Delivery):
    def checked(self, sent, id=None):
        return Delivered(sent["event_id"], "u", "i", 0)

    def keep(self, events):
        super().keep(events)
        if sys.argv[4:]:
            os.kill(os.getpid(), 9)

into = Plain(None, None, SqliteStore(sys.argv[2]))
Stream(sys.argv[1], abandoned=0.3).follow(into, print, idle=float(sys.argv[3]))
"""


@needs_server
def test_a_consumer_that_is_killed_loses_and_repeats_nothing(
    redis_url: str, client: Any, tmp_path: Path
) -> None:
    count, path = 3000, tmp_path / "live.sqlite"
    with client.pipeline() as all_of_them:
        for number in range(count):
            all_of_them.xadd("killed", {"event": json.dumps({"event_id": f"e{number}"})})
        all_of_them.execute()
    words = [sys.executable, "-c", CONSUMER, f"{redis_url}/killed", str(path), "0.8"]
    assert subprocess.run([*words, "once kept"], check=False).returncode == -signal.SIGKILL
    store = SqliteStore(path)
    left = client.xpending("killed", "jaxdecay")["pending"]
    assert 0 < store.last() == left < count  # durable, and not acknowledged
    subprocess.run(words, check=True)
    assert [event.id for event in log(store)] == [f"e{number}" for number in range(count)]
    assert client.xpending("killed", "jaxdecay")["pending"] == 0
    store.close()


@needs_server
def test_a_stream_comes_back_with_its_server(delivering: Delivering, tmp_path: Path) -> None:
    server = Server(tmp_path)
    said: list[str] = []
    found = delivering(MemoryStore())
    with redis.Redis.from_url(server.url) as client:
        client.xadd("plays", {"event": json.dumps(sent(1))})
        thread = threading.Thread(
            target=Stream(f"{server.url}/plays", abandoned=0.2).follow,
            args=(found, said.append),
            kwargs={"idle": 2.5},
        )
        thread.start()
        while not found.kept:
            time.sleep(0.01)
        server.stop()
        server.start()
        client.xadd("plays", {"event": json.dumps(sent(2))})
        thread.join()
    server.stop()
    assert found.kept == 2
    assert len(said) == 1
    assert "trying again until it is back" in said[0]
