"""Stores by what a person calls them."""

import os
from pathlib import Path

from jaxdecay.errors import InputError
from jaxdecay.serve.sqlite import SqliteStore
from jaxdecay.serve.store import Store

SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""Of servers, as the client knows them."""


def open_store(address: str, run: Path, *, half_life: float | None = None) -> Store:
    """``live`` is the run's own, the file RUN.live.sqlite beside it (`beside`); redis://HOST:PORT/DATABASE
    (or valkey://) is a server; anything else is a path of a SQLite file.

    ``half_life``: as of `jaxdecay.serve.redis.RedisStore`. Raises StoreError, and InputError for an address
    of another kind.
    """
    scheme, there, rest = address.partition("://")
    if there:
        if scheme not in SCHEMES:
            raise InputError(f"store {scheme}://: give live, a path, or redis://HOST:PORT/DATABASE")
        from jaxdecay.serve.redis import RedisStore

        return RedisStore(f"{SCHEMES[scheme]}://{rest}", half_life=half_life)
    return SqliteStore(beside(run) if address == "live" else Path(address).expanduser())


def beside(run: Path) -> Path:
    """Where a run's events are kept: under its name, not in it, so that they stay when a link that is called
    so comes to point to a newer run."""
    path = Path(os.path.abspath(run))  # links are left as they are
    return path.with_name(f"{path.name}.live.sqlite")
