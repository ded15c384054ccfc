"""Who may ask, how often, how much and how long: what is refused before anything else looks at it."""

import asyncio
import ipaddress
import math
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from jaxdecay.errors import InputError
from jaxdecay.expect import is_number, whole

try:
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError:
    raise InputError("serving needs fastapi, which is missing: pip install 'jaxdecay[serve]'") from None

OPEN = frozenset({"/", "/healthz", "/readyz"})
"""Paths that answer without the token: the page, which holds nothing, and probes."""
_CLIENTS = 10_000  # whose rate is remembered


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a server."""

    token: str | None = None
    """That requests must bring as "Authorization: Bearer TOKEN"; None: anybody may ask."""
    local: bool = False
    """Whether only requests to a name of this machine are answered. Without a token a page of any other site,
    open in a browser here, could ask by a name of its own that leads here."""
    rate: float = 1000.0
    """Requests a second of one client, as many at once; 0 for no limit."""
    body: int = 2**20
    """Bytes of one request."""
    seconds: float = 30.0
    """Until a request is answered, that it has not been."""
    waiting: int = 512
    """Requests at once."""

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token):
            raise InputError("token: give printable ASCII characters, such as those of openssl rand -hex 32")
        if not is_number(self.rate) or not 0 <= self.rate < math.inf:
            raise InputError(f"rate={self.rate}: give requests a second, 0 for no limit")
        if not is_number(self.seconds) or not 0 < self.seconds < math.inf:
            raise InputError(f"seconds={self.seconds}: give seconds above 0")
        whole("body", self.body, 1)
        whole("waiting", self.waiting, 1)


def loopback(host: str) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def refusal(status: int, sentence: str, **headers: str) -> JSONResponse:
    """The answer to what is not done."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": " ".join(sentence.split())}, status, named)


class Guard:
    """ASGI middleware that keeps `Limits`."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._rates: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._running: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limits, end = self._limits, asyncio.get_running_loop().time() + self._limits.seconds
        refused = self._refused(scope)
        body = b""
        if refused is None:
            try:
                async with asyncio.timeout_at(end):
                    body = await _body(receive, limits.body)
            except TimeoutError:
                refused = refusal(408, f"the request did not arrive within {limits.seconds:g} s")
        if body is None:
            refused = refusal(413, f"more than {limits.body} bytes: send fewer events at once")
        if refused is not None:
            await refused(scope, receive, send)
            return
        await self._answered(scope, body or b"", send, end)

    def _refused(self, scope: Scope) -> JSONResponse | None:
        limits, headers = self._limits, dict(scope["headers"])
        wait = self._wait((scope.get("client") or ("",))[0])
        if wait:
            return refusal(
                429, f"more than {limits.rate:g} requests a second", retry_after=str(math.ceil(wait))
            )
        if limits.local and not loopback(_name(headers.get(b"host", b""))):
            return refusal(403, "ask this server by the name localhost, or start it with a token")
        scope["known"] = limits.token is None or _same(headers.get(b"authorization", b""), limits.token)
        if not scope["known"] and scope["path"] not in OPEN:
            words = "give the token of this server as Authorization: Bearer TOKEN"
            return refusal(401, words, www_authenticate="Bearer")
        if len(self._running) >= limits.waiting:
            return refusal(503, "too many requests at once: ask again", retry_after="1")
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > 18 or int(length) > limits.body):
            return refusal(413, f"more than {limits.body} bytes: send fewer events at once")
        return None

    def _wait(self, client: str) -> float:
        """Seconds until this client may ask again; 0 if it may now. As a bucket that fills at the rate."""
        rate, now = self._limits.rate, time.monotonic()
        if not rate:
            return 0.0
        room = max(rate, 1.0)
        left, since = self._rates.pop(client, (room, now))
        left = min(left + (now - since) * rate, room)
        self._rates[client] = (left - 1 if left >= 1 else left, now)
        if len(self._rates) > _CLIENTS:
            self._rates.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) / rate

    async def _answered(self, scope: Scope, body: bytes, send: Send, end: float) -> None:
        """In time, or else 503: what has begun in a thread cannot be stopped, but nobody waits for it."""
        late = started = False
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if sent:
                await asyncio.Event().wait()  # until somebody has left: nobody asks here
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def answer(message: Message) -> None:
            nonlocal started
            if not late:
                started = True
                await send(message)

        task = asyncio.ensure_future(self._app(scope, receive, answer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            done, _ = await asyncio.wait({task}, timeout=end - asyncio.get_running_loop().time())
        except asyncio.CancelledError:
            task.cancel()
            raise
        if done or started:
            await task
            return
        late = True
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody else looks
        words = f"not done within {self._limits.seconds:g} s: ask again"
        await refusal(503, words, retry_after="1")(scope, receive, send)


async def _body(receive: Receive, most: int) -> bytes | None:
    """All of it; None when it is too long."""
    parts: list[Any] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def _same(given: bytes, token: str) -> bool:
    """In a time that does not tell how much of it is right."""
    kind, _, found = given.partition(b" ")
    return secrets.compare_digest(found.strip(), token.encode()) and kind.lower() == b"bearer"


def _name(host: bytes) -> str:
    """Without the port."""
    text = host.decode("latin-1").lower()
    return text.rpartition(":")[0] if text.rpartition(":")[2].isdigit() else text
