"""A service over HTTP: what is asked for, checked, and what comes of it, as JSON. Whatever is refused is told
in one sentence, {"error": ...}, and has changed nothing."""

import base64
import hashlib
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Annotated, Any

from jaxdecay import __version__
from jaxdecay.errors import InputError
from jaxdecay.serve.answers import About, Listed, Receipt, Similar, Told
from jaxdecay.serve.incoming import Id, Sent, fault_words
from jaxdecay.serve.limits import Guard, Limits, refusal
from jaxdecay.serve.questions import AskedList, AskedReason, AskedSimilar, AskedState, plain_json
from jaxdecay.serve.reload import Serving
from jaxdecay.serve.service import Service
from jaxdecay.serve.store import StoreError
from jaxdecay.serve.telemetry import Telemetry, Watch

try:
    from fastapi import Depends, FastAPI, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from pydantic import BaseModel
    from starlette.exceptions import HTTPException
except ImportError:
    raise InputError("serving needs fastapi, which is missing: pip install 'jaxdecay[serve]'") from None


class Erased(BaseModel):
    """What was forgotten."""

    events: int


class Refused(BaseModel):
    """Why something is not done."""

    error: str


class Reason(BaseModel):
    """A score, and what it is the sum of (`jaxdecay.explain.Explanation`)."""

    user: str
    item: int | str
    at: int
    score: float
    exact: bool
    not_attributed: float
    sentence: str
    rows: list[dict[str, Any]]
    titles: dict[str, str]
    """Of the items in it, where the log has them."""


def application(serving: Serving, limits: Limits, telemetry: Telemetry) -> FastAPI:
    """The ASGI application."""

    async def service() -> AsyncIterator[Service]:
        with serving.service() as one:
            yield one

    Asked = Annotated[Service, Depends(service)]
    words = {status: {"model": Refused} for status in ("4XX", "503")}
    app = FastAPI(
        title="jaxdecay", version=__version__, docs_url=None, redoc_url=None, responses=words  # type: ignore[arg-type]
    )  # fmt: skip
    serving.told = lambda outcome: telemetry.reloads.labels(outcome).inc()

    @app.post("/events", openapi_extra=_BODY)
    def events(body: Annotated[list[Any], Depends(_sent)], service: Asked) -> Receipt:
        """Keeps an event, or several: all of them, or none if one is wrong. When this answers they are
        durable."""
        found = service.add(body)
        for became, count in (
            ("kept", found.kept), ("repeated", found.repeated), ("skipped", len(found.skipped)),
        ):  # fmt: skip
            telemetry.events.labels(became).inc(count)
        telemetry.followed.set(service.follower.number)
        return found

    @app.get("/recommend")
    def recommend(asked: Annotated[AskedList, Query()], service: Asked) -> Listed:
        """What a user may want at a moment."""
        return service.recommend(**asked.model_dump() | {"context": asked.columns()})

    @app.get("/similar")
    def similar(asked: Annotated[AskedSimilar, Query()], service: Asked) -> Similar:
        """The items nearest to an item."""
        return service.similar(**asked.model_dump())

    @app.get("/explain")
    def explain(asked: Annotated[AskedReason, Query()], service: Asked) -> Reason:
        """Why an item has its score."""
        found = service.explain(**asked.model_dump() | {"context": asked.columns()})
        assert found.at is not None
        return Reason(
            user=found.user, item=found.item, at=found.at, score=found.score, exact=found.exact,
            not_attributed=found.not_attributed, sentence=found.sentence(), rows=found.rows.to_dicts(),
            titles={str(item): title for item, title in found.titles.items()},
        )  # fmt: skip

    @app.get("/state")
    def state(asked: Annotated[AskedState, Query()], service: Asked) -> Told:
        """What is left of a user's events at a moment."""
        return service.state(asked.user, asked.at, k=asked.k, having=asked.having)

    @app.delete("/users/{id}")
    def forget_user(id: Id, service: Asked) -> Erased:
        """Erases what is kept of a user; the past in the run's own log counts no more, either."""
        return Erased(events=service.forget_user(id))

    @app.delete("/events/{id}")
    def forget_event(id: Id, service: Asked) -> Erased:
        """Erases an event."""
        try:
            service.forget_event(id)
        except InputError as error:
            raise HTTPException(404, str(error)) from None
        return Erased(events=1)

    @app.get("/run")
    def run(service: Asked) -> About:
        """What is served."""
        return service.about()

    @app.get("/healthz")
    def healthz() -> dict[str, bool]:
        """Whether this process answers at all."""
        return {"alive": True}

    @app.get("/readyz")
    def readyz(request: Request, service: Asked) -> dict[str, Any]:
        """Whether it answers what is asked: the store can be read. To whoever knows the token also why a
        newer run is not served, if one is not."""
        service.follower.follow()
        stale = serving.fault is not None
        why = {"why": serving.fault} if stale and request.scope.get("known") else {}
        return {"ready": True, "newest": not stale, **why}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(_PAGE, headers=_PAGE_HEADERS)

    app.add_exception_handler(InputError, lambda request, error: refusal(400, str(error)))
    app.add_exception_handler(StoreError, lambda request, error: refusal(503, str(error), retry_after="1"))
    app.add_exception_handler(RequestValidationError, _invalid)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _elsewhere)  # type: ignore[arg-type]
    app.add_middleware(Guard, limits=limits)
    app.add_middleware(Watch, telemetry=telemetry)
    _describe(app, limits)
    return app


async def _sent(request: Request) -> list[Any]:
    """The events of a request. Raises InputError where they are no JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"content type {ascii(kind)[:60]}: send application/json")
    found = plain_json(await request.body(), "the body")
    if not isinstance(found, list | dict):
        raise InputError("the body: send an event as a JSON object, or several in a list")
    return found if isinstance(found, list) else [found]


def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
    return refusal(400, fault_words(error.errors()[0]))


def _elsewhere(request: Request, error: HTTPException) -> JSONResponse:
    """What the framework refuses by itself, in words of ours."""
    ours = {
        "Not Found": "there is nothing at this path; /openapi.json tells what there is",
        "Method Not Allowed": f"{request.method} is not for this path; /openapi.json tells what is",
    }
    found = refusal(error.status_code, ours.get(error.detail, error.detail))
    found.headers.update(error.headers or {})
    return found


def _describe(app: FastAPI, limits: Limits) -> None:
    """The OpenAPI document: what an event is, and how to bring the token."""
    document = app.openapi()
    found = Sent.model_json_schema()
    document["components"]["schemas"]["Sent"] = found
    if limits.token is not None:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]


_ONE = {"$ref": "#/components/schemas/Sent"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"anyOf": [_ONE, {"type": "array", "items": _ONE}]}}},
    }
}
_PAGE = files("jaxdecay.serve").joinpath("page.html").read_text(encoding="utf-8")
_SCRIPT = _PAGE.partition("<script>")[2].partition("</script>")[0].encode()
_PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_SCRIPT).digest()).decode()
    + "'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
