"""``jaxdecay serve``: a trained run, live over HTTP."""

import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from jaxdecay.commands import Command
from jaxdecay.errors import InputError
from jaxdecay.expect import whole
from jaxdecay.progress import note

if TYPE_CHECKING:
    from jaxdecay.serve.limits import Limits
    from jaxdecay.serve.reload import Serving
    from jaxdecay.serve.service import Service

TOKEN = "JAXDECAY_TOKEN"
"""Environment variable of the token."""


@dataclass(frozen=True, kw_only=True)
class Serve(Command):
    """Serves a run over HTTP: events are kept for good, states follow them, and lists are read at any moment.

    GET / is a page for people, /openapi.json tells what else there is. A newer run in the same place (or
    behind the same link) is opened beside this one and takes over without a request lost; SIGHUP asks for it
    at once. Ctrl-C and SIGTERM end it when what was asked has been answered.
    """

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote, or a link to it."""
    store: str = "live"
    """Where events are kept: live is RUN.live.sqlite, beside RUN; another SQLite file, or redis://HOST:PORT/DATABASE."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is all of them."""
    port: int = 8000
    """Port to listen on; 0 for a free one."""
    token: str | None = None
    """What requests must bring as "Authorization: Bearer TOKEN"; by default the environment variable
    JAXDECAY_TOKEN, else, where others than this machine can reach it, one made at random and told once."""
    anybody: bool = False
    """Answer without a token wherever it listens."""
    rate: float = 1000.0
    """Requests a second of one client; 0 for no limit."""
    body: int = 2**20
    """Bytes of one request."""
    seconds: float = 30.0
    """Until a request is answered, that it has not been."""
    proxies: tuple[str, ...] = ()
    """Addresses of proxies whose word on who the client is counts."""
    log_ids: bool = False
    """Let the log hold what requests ask for, ids included."""

    def perform(self) -> str:
        limits = self._limits()  # what is refused is refused before the run is opened
        with contextlib.closing(self._listening()) as listening, _logging():
            host, port = listening.getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            with contextlib.closing(self._serving()) as serving:
                told = f"/#token={limits.token}" if limits.token and not self._given_token() else "/"
                note(f"serving {self.run} at {address}{told}")
                self._run(serving, limits, listening)
        return address

    def show(self, result: str) -> None:
        note(f"no longer serving at {result}")

    def _given_token(self) -> str | None:
        return self.token or os.environ.get(TOKEN) or None

    def _limits(self) -> "Limits":
        from jaxdecay.serve.limits import Limits, loopback

        given = self._given_token()
        if self.anybody and given:
            raise InputError("anybody and a token: give one of them")
        near = loopback(self.host)
        token = given or (None if near or self.anybody else secrets.token_urlsafe(24))
        return Limits(
            token=token, local=near and token is None and not self.anybody, rate=self.rate, body=self.body,
            seconds=self.seconds,
        )  # fmt: skip

    def _listening(self) -> socket.socket:
        whole("port", self.port, 0, 65_535)
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host.strip("[]"), self.port), family=family, backlog=1024)
        except OSError as error:
            raise InputError(
                f"{self.host}:{self.port}: cannot be listened on ({error.strerror}); give another --host or "
                "--port"
            ) from None

    def _serving(self) -> "Serving":
        from jaxdecay.serve.reload import Serving
        from jaxdecay.serve.store import StoreError

        try:
            return Serving(self.run, self._opened)
        except StoreError as error:
            raise InputError(str(error)) from error

    def _opened(self) -> "Service":
        service = open_service(self.run, self.store)
        # What is there now is there for good. Looked through for garbage it would hold everybody up, for a
        # tenth of a second every few seconds.
        gc.collect()
        gc.freeze()
        return service

    def _run(self, serving: "Serving", limits: "Limits", listening: socket.socket) -> None:
        import uvicorn

        from jaxdecay.serve.http import application
        from jaxdecay.serve.telemetry import Telemetry

        app = application(serving, limits, Telemetry(ids=self.log_ids))
        serving.watch()
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="off", ws="none",
            proxy_headers=bool(self.proxies), forwarded_allow_ips=list(self.proxies),
            timeout_graceful_shutdown=int(self.seconds) + 1,
        )  # fmt: skip
        with _on_hangup(serving), contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def open_service(path: Path, store: str) -> "Service":
    """The service of a run over a store (`jaxdecay.serve.opened.open_store`). Raises InputError and
    StoreError."""
    from jaxdecay.recommend import load
    from jaxdecay.serve.opened import open_store
    from jaxdecay.serve.service import Service

    run = load(path)
    opened = open_store(store, path)
    try:
        return Service(run, opened)
    except BaseException:
        opened.close()
        raise


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """Lines of log on stderr, while the libraries below stay as quiet as they were."""
    before, handler = logging.root.manager.disable, logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    ours = logging.getLogger("jaxdecay.serve")
    quiet = logging.NullHandler() if before else None
    logging.disable(logging.NOTSET)
    ours.addHandler(handler)
    level, ours.propagate = ours.level, False
    ours.setLevel(logging.INFO)
    if quiet is not None:
        logging.root.addHandler(quiet)  # else warnings without a handler would go to stderr
    try:
        yield
    finally:
        if quiet is not None:
            logging.root.removeHandler(quiet)
        ours.removeHandler(handler)
        ours.setLevel(level)
        ours.propagate = True
        logging.disable(before)


@contextlib.contextmanager
def _on_hangup(serving: "Serving") -> Iterator[None]:
    """SIGHUP has the run opened anew."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return

    def opened_anew(*_: Any) -> None:
        serving.ask()

    before = signal.signal(signal.SIGHUP, opened_anew)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
