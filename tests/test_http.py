"""What a served run says over HTTP, and what it refuses."""

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from fastapi.testclient import TestClient
from tiny import DAY, START

from jaxdecay.recommend import load
from jaxdecay.serve.http import application
from jaxdecay.serve.limits import Limits, loopback
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.reload import Serving
from jaxdecay.serve.service import Service
from jaxdecay.serve.sqlite import SqliteStore
from jaxdecay.serve.store import Delivered, StoreError
from jaxdecay.serve.telemetry import Telemetry
from jaxdecay.trained import Run

LATER = START + 61 * DAY
Opening = Callable[..., TestClient]


@pytest.fixture(autouse=True, scope="module")
def any_rank_in_any_thread() -> Iterator[None]:
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> Run:
    return load(tiny_run)


@pytest.fixture
def service(run: Run) -> Service:
    return Service(run, MemoryStore())


def asking(service: Service, limits: Limits, telemetry: Telemetry) -> TestClient:
    app = application(Serving(service.run.path, lambda: service), limits, telemetry)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def untouched(run: Run) -> tuple[TestClient, Service]:
    """For tests that must not change it."""
    service = Service(run, MemoryStore())
    return asking(service, Limits(rate=0), Telemetry()), service


@pytest.fixture
def opening(service: Service) -> Opening:
    """A client of the service under some limits."""

    def opening(telemetry: Telemetry | None = None, rate: float = 0, **limits: Any) -> TestClient:
        return asking(service, Limits(rate=rate, **limits), telemetry or Telemetry())

    return opening


@pytest.fixture
def client(opening: Opening) -> TestClient:
    return opening()


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}", "user_id": "u01", "item_id": "i03", "timestamp": LATER + number,
        "behaviour": "buy", "context": {"device": "tv"}, **changes,
    }  # fmt: skip


def test_events_are_kept_once_and_seen(client: TestClient, service: Service) -> None:
    before = client.get("/state", params={"user": "u01"}).json()
    found = client.post("/events", json=[event(1), event(2, item_id="new")])
    unknown = "item 'new' is not known; send its columns as 'item'"
    assert (found.status_code, found.json()) == (
        200,
        {"kept": 1, "repeated": 0, "skipped": [["e2", unknown]]},
    )
    assert client.post("/events", json=event(1)).json() == {"kept": 0, "repeated": 1, "skipped": []}
    assert client.post("/events", json=event(3, item_id="new", item={"genre": "jazz"})).json()["kept"] == 1
    after = client.get("/state", params={"user": "u01"}).json()
    assert (after["events"], after["latest"]) == (before["events"] + 1, LATER + 1)
    assert service.follower.skipped == 1
    text = client.get("/metrics").text
    for line in (
        'jaxdecay_events_total{became="kept"} 2.0', 'jaxdecay_events_total{became="repeated"} 1.0',
        'jaxdecay_requests_total{route="/events",status="200"} 3.0', "jaxdecay_entries 2.0",
    ):  # fmt: skip
        assert line in text


def test_lists_are_those_of_the_run(untouched: tuple[TestClient, Service], run: Run) -> None:
    client, _ = untouched
    at = LATER + DAY
    asked: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"deny": ["i03", "i04"], "exclude_seen": "true"}, {"deny": ["i03", "i04"], "exclude_seen": True}),
        ({"allow": ["i03", "i04"], "context": '{"device": "tv"}'},
         {"allow": ["i03", "i04"], "context": {"device": "tv"}}),
        ({"where": "genre = 'jazz' AND price > 3"}, {"where": "genre = 'jazz' AND price > 3"}),
    ]  # fmt: skip
    for user in ("u01", "nobody"):
        for params, options in asked:
            found = client.get("/recommend", params={"user": user, "k": 5, "at": at, **params}).json()
            expected = run.recommend([user], 5, at, on_unknown="popular", **options)
            assert found["items"] == expected["item_id"].to_list()
            np.testing.assert_allclose(found["scores"], expected["score"], atol=1e-5)
    near = client.get("/similar", params={"item": "i03", "k": 4}).json()
    expected = run.similar(["i03"], 4)
    assert near["items"] == expected["similar_id"].to_list()
    np.testing.assert_allclose(near["scores"], expected["score"], rtol=1e-5)


def test_strategies_answer_from_the_run(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    fitted = load(tmp_path / "run")
    fitted.fit_policy()
    client = asking(Service(fitted, MemoryStore()), Limits(rate=0), Telemetry())
    client.post("/events", json=event(1))
    at = LATER + DAY
    for user in ("u01", "nobody"):
        for strategy in ("content", "policy"):
            asked = {"user": user, "k": 5, "at": at, "strategy": strategy}
            found = client.get("/recommend", params=asked).json()
            expected = fitted.recommend([user], 5, at, on_unknown="popular", strategy=strategy)
            assert found["items"] == expected["item_id"].to_list()
            assert found["served_by"] == expected["served_by"][0]
            assert found["notes"] == ["strategies go by the run's own log, not by what has come since"]
    client.delete("/users/u01")
    forgotten = client.get("/recommend", params={"user": "u01", "strategy": "content"}).json()
    assert forgotten["served_by"].startswith("cold: ")
    both = client.get("/recommend", params={"user": "u01", "strategy": "content", "having": "i03"})
    assert (both.status_code, "leave out having" in both.json()["error"]) == (400, True)


def test_reasons_are_those_of_the_run_and_of_what_came_since(client: TestClient, run: Run) -> None:
    asked = {"user": "u01", "item": "i03", "at": LATER + 9 * DAY}
    found, expected = client.get("/explain", params=asked).json(), run.explain(**asked)
    assert found["sentence"] == expected.sentence()
    rows = expected.rows.to_dicts()
    assert len(found["rows"]) == len(rows)
    for one, other in zip(found["rows"], rows, strict=True):
        assert {**one, "contribution": 0, "weight": 0, "similarity": 0} == {
            **other, "contribution": 0, "weight": 0, "similarity": 0,
        }  # fmt: skip
        assert one["contribution"] == pytest.approx(other["contribution"], abs=1e-5)
    for user in ("u01", "newcomer"):
        client.post("/events", json=[event(1, user_id=user, event_id=user), event(2, event_id=f"x{user}")])
        found = client.get("/explain", params={**asked, "user": user}).json()
        listed = client.get("/recommend", params={"user": user, "k": 15, "at": asked["at"]}).json()
        score = dict(zip(listed["items"], listed["scores"], strict=True))["i03"]
        assert found["score"] == pytest.approx(score, abs=2e-5)
        assert sum(row["contribution"] for row in found["rows"]) == pytest.approx(score, abs=1e-4)
        assert next(row["timestamp"] for row in found["rows"] if row["event"] == 1) >= LATER
    refused = client.get("/explain", params={**asked, "user": "nobody"})
    assert (refused.status_code, "no event" in refused.json()["error"]) == (400, True)


def test_a_trial_leaves_nothing_behind(client: TestClient, service: Service) -> None:
    asked = {"user": "u01", "at": LATER + DAY, "k": 15}
    before = client.get("/recommend", params=asked).json()
    trial = client.get("/recommend", params={**asked, "having": ["i07", "i07"]}).json()
    told = client.get("/state", params={**asked, "having": ["i07", "i07"]}).json()
    assert told["latest"] == LATER + DAY - 1
    tried = next(one["amount"] for one in told["own"] if one["item"] == "i07")
    assert trial["items"].index("i07") < before["items"].index("i07")
    assert client.get("/recommend", params=asked).json() == before
    assert service.store.last() == 0
    most = ["buy", "view"][int(np.asarray(service.run.histories.behaviour).mean() > 0.5)]
    for number in range(2):
        sent = event(number, item_id="i07", timestamp=LATER + DAY - 1, behaviour=most, context=None)
        assert client.post("/events", json=sent).json()["kept"] == 1
    # Written, they count for everybody, too: for this user as the trial did.
    after = client.get("/state", params=asked).json()["own"]
    assert next(one["amount"] for one in after if one["item"] == "i07") == pytest.approx(tried, rel=1e-6)


BAD_EVENTS = [
    (b'{"event_id": "e1"', 400, "the body: malformed JSON"),
    (b"[" * 100_000, 400, "the body: malformed JSON"),
    (b'"text"', 400, "send an event as a JSON object"),
    (b"\xff\xfe", 400, "malformed JSON"),
    (b'{"weight": NaN}', 400, "malformed JSON"),
    ({"colour": "red"}, 400, "event 1: colour: not known; take it out (given: 'red')"),
    ({"timestamp": 4_000_000_000}, 400, "lies in the future"),
    ({"timestamp": -1}, 400, "lies before 1970"),
    ({"timestamp": "yesterday"}, 400, "is no time"),
    ({"timestamp": True}, 400, "event 1: timestamp"),
    ({"timestamp": 10**30}, 400, "lies after 2099"),
    ({"user_id": "u" * 10_000}, 400, "event 1: user_id: give 1 to 256 bytes"),
    ({"user_id": "u\x00"}, 400, "control characters"),
    ({"item_id": "\ud800"}, 400, "control characters"),
    ({"item_id": None}, 400, "item_id: give text or a whole number"),
    ({"behaviour": "bye"}, 400, "behaviour 'bye' is not known; there are buy, view; perhaps 'buy'"),
    ({"behaviour": None}, 400, "behaviour is missing"),
    ({"weight": 1e300}, 400, "weight"),
    ({"label": 2}, 400, "label"),
    ({"context": {"place": "x"}}, 400, "context column 'place' is not known; this run knows device"),
    ({"context": {"device": 3}}, 400, "context device=3: give text"),
    ({"context": {"device": "\ud800"}}, 400, "control characters"),
]


@pytest.mark.parametrize(("body", "status", "words"), BAD_EVENTS)
def test_bad_events_change_nothing(
    untouched: tuple[TestClient, Service], body: Any, status: int, words: str
) -> None:
    """Not even the good one beside it."""
    client, service = untouched
    sent = body if isinstance(body, bytes) else json.dumps([event(1, **body), event(2)]).encode()
    found = client.post("/events", content=sent, headers={"content-type": "application/json"})
    assert found.status_code == status
    assert list(found.json()) == ["error"]
    assert words in found.json()["error"]
    assert "\n" not in found.json()["error"]
    assert len(found.json()["error"]) < 400
    assert service.store.last() == 0


BAD_QUESTIONS = [
    ("/recommend?user=u01&k=0", "k=0, but the catalogue has 15 items"),
    ("/recommend?user=u01&k=1000000", "give a k from 1 to 15"),
    ("/recommend?user=u01&k=-3", "give a k from 1 to 15"),
    ("/recommend?user=u01&k=" + "9" * 5000, "k: "),
    ("/recommend?user=u01&k=many", "k: input should be a valid integer"),
    ("/recommend?k=3", "user: field required"),
    ("/recommend?user=u01&lambda=-1", "lambda: not known; take it out"),
    ("/recommend?user=u%00", "user: it holds control characters"),
    ("/recommend?user=u01&at=soon", "'soon' is no time"),
    ("/recommend?user=u01&at=-5", "lies before 1970"),
    ("/recommend?user=u01&where=DROP+TABLE+log", "where: "),
    ("/recommend?user=u01&where=no_such=1", "there are the item columns"),
    ("/recommend?user=u01&context=3", "context: give a JSON object"),
    ("/recommend?user=u01&context={}}", "context: malformed JSON"),
    ('/recommend?user=u01&context={"place":"x"}', "context column 'place'"),
    ("/recommend?user=u01&allow=i99", "item 'i99': never seen in the log"),
    ("/recommend?user=u01&having=i99", "item 'i99': never seen in the log"),
    ("/recommend?user=u01&strategy=magic", "strategy 'magic' is not known"),
    ("/recommend?user=u01&strategy=content", "no strategies have been fitted yet"),
    ("/similar?item=i99", "item 'i99': never seen in the log of this run"),
    ("/similar?item=i03&k=15", "there are 14 other items"),
    ("/state?user=u01&k=99", "give a k from 1 to 15"),
    ("/explain?user=u01&item=i03&at=1000", "give a later time"),
]


@pytest.mark.parametrize(("path", "words"), BAD_QUESTIONS)
def test_bad_questions_are_one_sentence(untouched: tuple[TestClient, Service], path: str, words: str) -> None:
    found = untouched[0].get(path)
    assert (found.status_code, list(found.json())) == (400, ["error"])
    assert words in found.json()["error"]
    assert "\n" not in found.json()["error"]


def test_sql_is_only_text(client: TestClient, service: Service) -> None:
    name = "u'); DROP TABLE log; --"
    assert client.post("/events", json=event(1, user_id=name)).json()["kept"] == 1
    assert client.get("/state", params={"user": name}).json()["events"] == 1
    assert client.delete(f"/users/{name}").json() == {"events": 1}
    assert client.get("/state", params={"user": name}).json()["events"] == 0


def test_what_is_forgotten_is_gone(client: TestClient) -> None:
    before = client.get("/state", params={"user": "u01"}).json()["events"]
    client.post("/events", json=[event(1), event(2)])
    assert client.delete("/events/e1").json() == {"events": 1}
    found = client.delete("/events/e1")
    assert (found.status_code, found.json()) == (404, {"error": "event 'e1': not there, or erased before"})
    assert client.delete("/users/u01").json() == {"events": before + 1}
    assert client.get("/recommend", params={"user": "u01"}).json()["served_by"] == "popularity"
    assert client.get("/nothing").status_code == 404
    assert "is not for this path" in client.put("/events").json()["error"]


def test_without_the_token_nothing_is_told(opening: Opening, service: Service) -> None:
    client = opening(token="secret")
    document = client.get("/openapi.json", headers={"authorization": "Bearer secret"}).json()
    assert document["security"] == [{"token": []}]
    paths = {path.replace("{id}", "x"): list(of) for path, of in document["paths"].items()}
    assert len(paths) >= 11
    for path, methods in paths.items():
        for method in methods:
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
                found = client.request(method, path, headers=headers)
                assert found.status_code == (200 if path in ("/healthz", "/readyz") else 401), path
    assert client.get("/").status_code == 200
    assert "u01" not in client.get("/").text
    assert client.get("/run", headers={"authorization": "Bearer secret"}).status_code == 200
    assert service.store.last() == 0


def test_other_sites_cannot_ask_through_a_browser(opening: Opening) -> None:
    client = opening(local=True)
    for host, status in (
        ("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("evil.example", 403),
    ):  # fmt: skip
        assert client.get("/run", headers={"host": host}).status_code == status
    sent = client.post("/events", content=json.dumps(event(1)), headers={"content-type": "text/plain"})
    assert sent.status_code in (403, 415)
    assert [loopback(one) for one in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "example.org")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_a_client_that_asks_too_often_waits(opening: Opening) -> None:
    client = opening(rate=3)
    found = [client.get("/healthz") for _ in range(8)]
    assert [one.status_code for one in found[:3]] == [200] * 3
    refused = next(one for one in found if one.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    time.sleep(0.5)
    assert client.get("/healthz").status_code == 200


def test_what_is_too_long_is_refused_before_it_is_read(opening: Opening, service: Service) -> None:
    client = opening(body=1000)
    events = [event(number) for number in range(50)]
    for body in (json.dumps(events).encode(), iter([b"[" + b" " * 900, b" " * 900 + b"]"])):
        found = client.post("/events", content=body, headers={"content-type": "application/json"})
        assert (found.status_code, found.json()["error"]) == (
            413, "more than 1000 bytes: send fewer events at once",
        )  # fmt: skip
    many = opening().post("/events", json=[event(number) for number in range(1001)])
    assert (many.status_code, many.json()["error"]) == (400, "1001 events at once: send at most 1000")
    assert service.store.last() == 0


def test_what_takes_too_long_is_answered(opening: Opening, service: Service) -> None:
    leave, client = threading.Event(), opening(seconds=0.3, waiting=1)
    with client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "about", lambda: leave.wait(20))
        begin = time.monotonic()
        found = client.get("/run")
        assert (found.status_code, found.headers["retry-after"]) == (503, "1")
        assert time.monotonic() - begin < 5
        busy = client.get("/state", params={"user": "u01"})
        assert (busy.status_code, busy.json()["error"]) == (503, "too many requests at once: ask again")
        leave.set()


def test_a_store_that_fails_is_503_and_nothing_else(
    opening: Opening, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opening()

    def fails(*_: Any) -> Any:
        raise StoreError("live.sqlite: the disk is full: free some space; nothing was written, send it again")

    monkeypatch.setattr(service._committer, "_append", fails)
    found = client.post("/events", json=event(1))
    assert (found.status_code, found.headers["retry-after"]) == (503, "1")
    assert found.json()["error"].startswith("live.sqlite: the disk is full")
    monkeypatch.setattr(service.store, "last", fails)
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_ids_and_faults_are_in_no_log_and_in_no_answer(
    opening: Opening, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(user: str, *_: Any, **options: Any) -> Any:
        raise KeyError(user)

    monkeypatch.setattr(service, "state", fails)
    for ids in (False, True):
        caplog.clear()
        with caplog.at_level(logging.INFO, "jaxdecay.serve"):
            client = opening(Telemetry(ids=ids))
            found = client.get("/state", params={"user": "somebody"})
            client.delete("/events/something")
        assert (found.status_code, list(found.json())) == (500, ["error"])
        assert not {"somebody", "KeyError", "Traceback", ".py"} & set(found.text.split())
        assert "KeyError" in caplog.text
        assert ("somebody" in caplog.text) == ids
        assert ("something" in caplog.text) == ids
        assert "DELETE /events/" in caplog.text
    assert "something" not in client.get("/metrics").text


def test_no_request_is_lost_while_the_run_is_replaced(run: Run, tmp_path: Path) -> None:
    serving = Serving(run.path, lambda: Service(run, SqliteStore(tmp_path / "live.sqlite")))
    client = TestClient(application(serving, Limits(rate=0), Telemetry()), raise_server_exceptions=False)
    statuses: list[int] = []
    ended = threading.Event()

    def ask(sender: int) -> None:
        number = 0
        while not ended.is_set():
            sent = event(number, event_id=f"{sender}-{number}", user_id=f"new{sender}")
            statuses.append(client.post("/events", json=sent).status_code)
            found = client.get("/state", params={"user": f"new{sender}"})
            statuses.append(found.status_code)
            number += 1
            assert found.json()["events"] == number

    with client:
        senders = [threading.Thread(target=ask, args=(sender,)) for sender in range(3)]
        for one in senders:
            one.start()
        opened = [serving.reload() for _ in range(3)]
        ended.set()
        for one in senders:
            one.join()
        with serving.service() as last:
            assert last.store.last() == len(statuses) / 2
    serving.close()
    assert opened == [True] * 3
    assert set(statuses) == {200}
    assert len(statuses) > 12


class _Slow(MemoryStore):
    """Counts transactions, each of which takes a while; some fail."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def append(self, events: Sequence[Delivered]) -> list[bool]:
        self.sizes.append(len(events))
        time.sleep(0.05)
        if len(self.sizes) == 2:
            raise StoreError("away")
        return super().append(events)


def test_those_who_wait_are_written_together(run: Run) -> None:
    store = _Slow()
    service = Service(run, store)
    kept, failed = [], []

    def send(number: int) -> None:
        for _ in range(3):
            try:
                kept.append((number, service.add([event(number), event(number + 100)]).kept))
                return
            except StoreError:
                failed.append(number)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kept) == [(number, 2) for number in range(40)]
    assert store.last() == 80
    assert len(store.sizes) < 12
    assert len(failed) == store.sizes[1] / 2  # everybody in it, and nobody else
