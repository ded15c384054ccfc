"""What a server tells of itself: figures for Prometheus, and a line of log for each request, without ids
unless they are asked for."""

import logging
import time
import traceback

from jaxdecay.errors import InputError
from jaxdecay.serve.limits import refusal

try:
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError:
    raise InputError(
        "serving needs prometheus-client, which is missing: pip install 'jaxdecay[serve]'"
    ) from None

LOG = logging.getLogger("jaxdecay.serve")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


class Telemetry:
    """Counts of one server."""

    def __init__(self, *, ids: bool = False) -> None:
        """``ids``: whether logs may hold what requests ask for."""
        self.registry, self.ids = CollectorRegistry(), ids
        self.requests = Counter(
            "jaxdecay_requests", "Requests answered", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "jaxdecay_request_seconds", "Seconds to the end of the answer", ("route",),
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self.events = Counter(
            "jaxdecay_events", "Events sent, by what became of them", ("became",), registry=self.registry
        )
        self.reloads = Counter(
            "jaxdecay_reloads", "Attempts to open another run", ("outcome",), registry=self.registry
        )
        self.followed = Gauge(
            "jaxdecay_entries", "Entries of the store's log that states hold", registry=self.registry
        )

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class Watch:
    """ASGI middleware that counts, logs, and lets no exception out."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app, self._telemetry = app, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception as error:
            self._tell(error)
            if not status:
                await refusal(500, "a fault of this server, which its log describes")(scope, receive, answer)
        finally:
            self._count(scope, status, time.perf_counter() - begin)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # A path may hold an id, its route does not; and what was asked for in vain has none.
        route = getattr(scope.get("route"), "path", "none")
        self._telemetry.requests.labels(route, str(status)).inc()
        self._telemetry.seconds.labels(route).observe(seconds)
        shown = route
        if self._telemetry.ids:
            query = scope["query_string"].decode("latin-1")
            shown = ascii(scope["path"])[1:-1] + (f"?{query}" if query else "")
        LOG.info("%s %s %d %.1f ms", scope["method"], shown, status, seconds * 1000)

    def _tell(self, error: Exception) -> None:
        """Where it happened; in its own words, which may hold an id, only if ids are asked for."""
        where = "".join(traceback.format_tb(error.__traceback__))
        words = f": {error}" if self._telemetry.ids else ""
        LOG.error("%s%s\n%s", type(error).__name__, words, where)
