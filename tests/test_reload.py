"""Another run in the place of the one that is served: nobody notices but by the answer."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaxdecay.errors import InputError
from jaxdecay.serve.reload import Serving
from jaxdecay.serve.service import Service
from jaxdecay.serve.store import StoreError


class _Service(Service):
    """As much of one as `Serving` knows."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


@pytest.fixture
def made() -> list[Any]:
    return []


@pytest.fixture
def opening(made: list[Any]) -> Callable[[], Any]:
    def opening() -> Any:
        made.append(_Service())
        return made[-1]

    return opening


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "config.json").write_text("{}")
    (tmp_path / "one" / "histories").mkdir()
    return tmp_path / "one"


def test_the_old_one_is_closed_after_its_last_request(
    run: Path, opening: Callable[[], Any], made: list[Any]
) -> None:
    serving = Serving(run, opening)
    with serving.service() as before:
        with serving.service() as beside:
            assert beside is before is made[0]
            assert serving.reload()
            with serving.service() as after:
                assert after is made[1]
        assert not made[0].closed.is_set()
    assert made[0].closed.wait(5)
    assert not made[1].closed.is_set()
    assert serving.reload()  # while nobody asks
    assert made[1].closed.is_set()
    with serving.service():
        serving.close()
        assert not made[2].closed.is_set()
    assert made[2].closed.wait(5)
    with pytest.raises(StoreError, match="closing"), serving.service():
        pass


@pytest.mark.parametrize("error", [InputError("of another version"), StoreError("away"), KeyError("x")])
def test_what_cannot_be_opened_changes_nothing(
    run: Path, opening: Callable[[], Any], made: list[Any], error: Exception
) -> None:
    faults: list[Exception] = []
    told: list[str] = []

    def perhaps() -> Any:
        if faults:
            raise faults[0]
        return opening()

    serving = Serving(run, perhaps)
    serving.told = told.append
    faults.append(error)
    assert not serving.reload()
    assert serving.fault is not None
    assert "the one before still is" in serving.fault
    with serving.service() as still:
        assert still is made[0]
    faults.clear()
    assert serving.reload()
    assert (serving.fault, told) == (None, ["refused", "opened"])
    faults.append(error)
    with pytest.raises(type(error)):
        Serving(run, perhaps)


def test_it_is_seen_when_the_run_changes(run: Path, opening: Callable[[], Any], made: list[Any]) -> None:
    link = run.parent / "link"
    link.symlink_to(run)
    serving = Serving(link, opening, every=0.02)
    serving.watch()

    def opened(count: int) -> bool:
        end = time.monotonic() + 5
        while len(made) < count and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        return len(made) == count

    assert opened(1)
    (run / "config.json").write_text('{"changed": true}')
    assert opened(2)
    (run / "histories.1").mkdir()
    assert opened(3)
    (run / "live.sqlite").write_text("what is no part of it")
    assert opened(3)
    shutil.copytree(run, run.parent / "two")
    (run.parent / "new").symlink_to(run.parent / "two")
    os.replace(run.parent / "new", link)
    assert opened(4)
    serving.ask()
    assert opened(5)
    serving.close()
    assert [one.closed.is_set() for one in made] == [True] * 5


def _ask(address: str, path: str, token: str | None = None, body: Any = None) -> Any:
    request = urllib.request.Request(address + path, None if body is None else json.dumps(body).encode())
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def _until(said: Callable[[], str], what: str, seconds: float = 60) -> str:
    end = time.monotonic() + seconds
    while what not in said() and time.monotonic() < end:
        time.sleep(0.05)
    assert what in said(), said()
    return said()


def test_the_command_serves_until_it_is_ended(tiny_run: Path, tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    shutil.copytree(tiny_run, run)
    command = [sys.executable, "-m", "jaxdecay", "serve", str(run), "--host", "0.0.0.0", "--port", "0"]
    environment = {name: value for name, value in os.environ.items() if name != "JAXDECAY_TOKEN"}
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment)
    try:
        said = _until(log.read_text, "serving")
        found = re.search(r"http://0\.0\.0\.0:(\d+)/#token=([\w-]{32})\n", said)
        assert found is not None
        address, token = f"http://127.0.0.1:{found[1]}", found[2]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            _ask(address, "/run")
        assert _ask(address, "/run", token)["users"] == 40
        event = {"event_id": "e1", "user_id": "somebody", "item_id": "i03", "timestamp": 1_705_000_000}
        assert _ask(address, "/events", token, [event | {"behaviour": "buy"}])["kept"] == 1
        process.send_signal(signal.SIGHUP)
        _until(log.read_text, "is served")
        assert _ask(address, "/state?user=somebody", token)["events"] == 1
        (run / "config.json").write_text(
            (run / "config.json").read_text().replace('"format": ', '"format": 9')
        )
        _until(log.read_text, "the one before still is")
        assert _ask(address, "/state?user=somebody", token)["events"] == 1
        ready = _ask(address, "/readyz", token)
        assert (ready["ready"], ready["newest"], "version" in ready["why"]) == (True, False, True)
        assert "why" not in _ask(address, "/readyz")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "somebody" not in log.read_text()
        assert "no longer serving" in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_what_cannot_be_served_is_one_line(
    refused: Callable[..., str], tiny_run: Path, tmp_path: Path
) -> None:
    assert "no such" in (said := refused("serve", tmp_path / "nothing")) or "missing" in said
    assert "give another --host or --port" in refused("serve", tiny_run, "--host 203.0.113.7")
    assert "give a whole number from 0 to 65535" in refused("serve", tiny_run, "--port 99999")
    assert "give requests a second" in refused("serve", tiny_run, "--rate -1")
    assert "anybody and a token: give one of them" in refused(
        "serve", tiny_run, "--anybody --token x"
    ).replace("--", "")
    (tmp_path / "other").write_bytes(b"no database" * 100)
    assert "this is no store" in refused("serve", tiny_run, "--store", tmp_path / "other", "--port 0")
