"""Whatever is sent, no answer is a fault of the server, and what was refused has changed nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from tiny import DAY, START

from jaxdecay.recommend import load
from jaxdecay.serve.http import application
from jaxdecay.serve.limits import Limits
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.reload import Serving
from jaxdecay.serve.service import Service
from jaxdecay.serve.telemetry import Telemetry

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
NEARLY = st.fixed_dictionaries(
    {
        "event_id": st.text(min_size=1, max_size=9),
        "user_id": st.sampled_from(["u01", "new"]) | ANYTHING,
        "item_id": st.sampled_from(["i01", "i02", "new"]) | ANYTHING,
        "timestamp": st.integers(START - DAY, START + 99 * DAY) | st.integers() | ANYTHING,
    },
    optional={
        "behaviour": st.sampled_from(["buy", "view"]) | ANYTHING,
        "weight": st.floats() | ANYTHING,
        "label": st.sampled_from([0, 1]) | ANYTHING,
        "context": st.dictionaries(st.just("device"), ANYTHING) | ANYTHING,
        "item": st.dictionaries(st.text(), ANYTHING) | ANYTHING,
        "other": ANYTHING,
    },
)


@pytest.fixture(scope="module")
def service(tiny_run: Path) -> Iterator[Service]:
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield Service(load(tiny_run), MemoryStore())
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module")
def app(service: Service) -> Any:
    return application(Serving(service.run.path, lambda: service), Limits(rate=0), Telemetry())


@pytest.fixture(scope="module")
def client(app: Any) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def test_no_question_of_the_document_is_a_fault(app: Any) -> None:
    document = schemathesis.openapi.from_asgi("/openapi.json", app)
    every: Any = document.get_all_operations()
    operations = [found.ok() for found in every]
    assert len(operations) >= 11
    seen = set()
    for operation in operations:

        @settings(max_examples=8, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        def ask(case: Any) -> None:
            seen.add(case.call_and_validate(checks=[not_a_server_error]).status_code)

        ask()
    assert {200, 400} <= seen


@settings(max_examples=60)
@given(sent=st.lists(NEARLY, max_size=3) | NEARLY | ANYTHING)
def test_events_are_kept_whole_or_refused(client: TestClient, service: Service, sent: Any) -> None:
    before = service.store.last()
    found = client.post("/events", content=json.dumps(sent), headers={"content-type": "application/json"})
    assert found.status_code in (200, 400)
    if found.status_code == 400:
        assert list(found.json()) == ["error"]
        assert service.store.last() == before
    else:
        kept = found.json()
        count = len(sent) if isinstance(sent, list) else 1
        assert kept["kept"] + kept["repeated"] + len(kept["skipped"]) == count
        assert service.store.last() == before + kept["kept"]
    for user in ("u01", "new"):  # what was kept can be read
        assert client.get("/recommend", params={"user": user, "k": 3}).status_code == 200
