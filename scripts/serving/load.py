"""`jaxdecay serve` under a steady load."""

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import polars as pl

import jaxdecay as jd
from jaxdecay.data.simulate import SimulateOptions, simulate

_TOGETHER = 10  # events of a delivery
_ITEMS = 10_000
_WARM = 3.0  # seconds that are not counted


def http(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Milliseconds of lists and of deliveries, and how many were answered by anything but 200."""
    path = options.run or _trained(folder)
    run = jd.load(path)
    with _served(path, folder) as address:
        users, items = (one.cast(pl.String).to_list() for one in (run.users, run.items["item_id"]))
        found = asyncio.run(_load(address, users, items, options))
    return {"items": len(run.items), "users": len(run.users), **found}


def _trained(folder: Path) -> Path:
    """A run on a drawn log of as many items as are asked for."""
    log = simulate(SimulateOptions(users=2_000, items=_ITEMS, events_per_user=60))
    train = jd.train.TrainOptions(epochs=1, settle_epochs=0)
    return jd.fit(log.events, folder / "run", items=log.items, train=train).path


@contextlib.contextmanager
def _served(path: Path, folder: Path) -> Iterator[str]:
    words = [sys.executable, "-m", "jaxdecay", "serve", str(path), "--port", "0", "--rate", "0"]
    words += ["--store", str(folder / "served.sqlite")]
    told = folder / "served.txt"
    with told.open("w") as lines, subprocess.Popen(words, stderr=lines) as process:
        try:
            while (found := re.search(r"at (http://[^/\s]+)", told.read_text())) is None:
                if process.poll() is not None:
                    raise RuntimeError(f"jaxdecay serve ended: {told.read_text()}")
                time.sleep(0.1)
            yield found[1]
        finally:
            process.terminate()


class _Client:
    """HTTP over connections that stay open. A library's client would take more of the two cores than what
    is measured."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """The status, and what came."""
        # Those that have long been idle are closed by the server.
        self._free = [one for one in self._free if not one[0].at_eof()]
        found = self._free.pop() if self._free else await asyncio.open_connection(self._host, self._port)
        reader, writer = found
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        told = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", told.lower())
        assert length is not None
        answer = await reader.readexactly(int(length[1]))
        self._free.append((reader, writer))
        return int(told.split(b" ", 2)[1]), answer

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()


async def _load(
    address: str, users: list[str], items: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    random = np.random.default_rng(0)
    lists: list[tuple[float, float]] = []
    deliveries: list[tuple[float, float]] = []
    errors = 0
    host, port = address.removeprefix("http://").split(":")
    one = _Client(host, int(port))
    about = json.loads((await one.ask("GET", "/run"))[1])
    more = {"weight": 1.0} if about["weighted"] else {}
    if about["behaviours"]:
        more["behaviour"] = about["behaviours"][0]

    async def asked(due: float, taken: list[tuple[float, float]], *request: Any) -> None:
        nonlocal errors
        status, _ = await one.ask(*request)
        errors += status != 200
        taken.append((due, time.perf_counter() - due))

    async def listed(due: float, number: int) -> None:
        user = quote(users[int(random.integers(len(users)))])
        await asked(due, lists, "GET", f"/recommend?k=20&user={user}")

    async def sent(due: float, number: int) -> None:
        events = [
            more
            | {
                "event_id": f"{os.getpid()}-{number}-{place}",
                "user_id": users[int(random.integers(len(users)))],
                "item_id": items[int(random.integers(len(items)))],
                "timestamp": int(time.time()),
            }
            for place in range(_TOGETHER)
        ]
        await asked(due, deliveries, "POST", "/events", json.dumps(events).encode())

    async def steadily(a_second: float, what: Callable[[float, int], Awaitable[None]]) -> None:
        begun, begin = [], time.perf_counter()
        for number in range(int(a_second * (options.seconds + _WARM))):
            due = begin + number / a_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            begun.append(asyncio.ensure_future(what(due, number)))
        await asyncio.gather(*begun)

    begin = time.perf_counter()
    await asyncio.gather(steadily(options.lists, listed), steadily(options.events / _TOGETHER, sent))
    one.close()
    return {
        "seconds": options.seconds,
        "errors": errors,
        "lists_ms": _quantiles(lists, begin),
        "deliveries_ms": _quantiles(deliveries, begin),
    }


def _quantiles(taken: list[tuple[float, float]], begin: float) -> dict[str, float]:
    values = 1e3 * np.array([one for due, one in taken if due - begin > _WARM])
    return {
        "number": len(values), "median": float(np.median(values)), "p99": float(np.quantile(values, 0.99)),
        "worst": float(values.max()),
    }  # fmt: skip
