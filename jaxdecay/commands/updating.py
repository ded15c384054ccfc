"""``jaxdecay update``: new events into a trained run, or into the store that is served live."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import tyro

from jaxdecay.commands import Command
from jaxdecay.data.checks import Nulls
from jaxdecay.data.events import Columns
from jaxdecay.data.times import Unit
from jaxdecay.errors import InputError
from jaxdecay.progress import note


@dataclass(frozen=True, kw_only=True)
class Update(Command):
    """Adds new events, of known and unknown users and items, to what a run recommends from, without
    retraining.

    With --store they go into a live store, each once: delivering them again changes nothing.
    """

    run: tyro.conf.Positional[Path]
    """Run directory that jaxdecay train wrote."""
    new_events: tyro.conf.Positional[Path | None] = None
    """Events: Parquet, CSV, TSV or a MovieLens :: file; with --store also - for JSON lines on stdin."""
    store: str | None = None
    """Live store: live for RUN.live.sqlite, a path, or redis://HOST:PORT/DATABASE; by default the run's own
    histories."""
    stream: str | None = None
    """Also --from: the Redis Stream to follow instead of a file, redis://HOST:PORT/STREAM (into --store live
    by default)."""
    group: str = "jaxdecay"
    """Group of consumers that share the stream."""
    idle: float | None = None
    """Seconds without an entry after which following the stream ends; by default it goes on."""
    items: Path | None = None
    """Table with the columns of new items."""
    users: Path | None = None
    """Table with the columns of new users."""
    columns: Columns = field(default_factory=Columns)
    unit: Unit | None = None
    """Unit of integer times; by default that of the run's own log."""
    salt: Path | None = None
    """File of the salt, of a run with hashed ids."""
    nulls: Nulls | None = None
    """refuse rows without a user, item, time, behaviour or weight, or drop them; by default as when the log
    was prepared."""

    short: ClassVar[Mapping[str, str]] = {"from": "stream"}

    def perform(self) -> dict[str, Any]:
        from jaxdecay.recommend import load

        self._check()
        run = load(self.run)
        if self.store is not None or self.stream is not None:
            return self._into_store(run)
        report = run.update(self.new_events, items=self.items, users=self.users, **self._reading())
        _tell(report)
        return report

    def _check(self) -> None:
        piped = self.new_events == Path("-")
        if (self.new_events is None) == (self.stream is None):
            raise InputError("give a file of events, - for JSON lines on stdin, or --from a Redis Stream")
        if piped and self.store is None:
            raise InputError("-: JSON lines go into a live store: add --store live")
        if (self.store or self.stream) and (self.items or self.users):
            raise InputError(
                "--items and --users go with the run's own histories: give a live store the columns of a new "
                "item in its events, as 'item'"
            )
        if (piped or self.stream) and (self.columns != Columns() or self.unit or self.salt or self.nulls):
            raise InputError("--columns, --unit, --salt and --nulls go with a file: leave them out")
        if self.idle is not None and (self.stream is None or not self.idle > 0):
            raise InputError(f"idle={self.idle}: give seconds above 0, with --from")

    def _reading(self) -> dict[str, Any]:
        columns = None if self.columns == Columns() else self.columns
        return {"columns": columns, "unit": self.unit, "salt": self.salt, "nulls": self.nulls}

    def _into_store(self, run: Any) -> dict[str, Any]:
        from jaxdecay.live.clock import longest_half_life
        from jaxdecay.live.taken import weights_of
        from jaxdecay.serve import delivery
        from jaxdecay.serve.incoming import Incoming
        from jaxdecay.serve.opened import open_store
        from jaxdecay.serve.vocabulary import Vocabulary

        def say(text: str) -> None:
            note(f"note: {text}")

        weights = weights_of(run.predictor)
        vocabulary = Vocabulary(run, weights)
        incoming = Incoming(vocabulary, run.histories.config)
        report: dict[str, Any] = {}
        with _one_line(), contextlib.ExitStack() as opened:
            store = open_store(self.store or "live", self.run, half_life=longest_half_life(weights))
            opened.callback(store.close)
            into = delivery.Delivery(vocabulary, incoming, store)
            if self.stream is not None:
                from jaxdecay.serve.stream import Stream

                Stream(self.stream, group=self.group).follow(into, say, idle=self.idle)
            elif self.new_events == Path("-"):
                delivery.pipe(sys.stdin.fileno(), into, say)
            else:
                assert self.new_events is not None
                report = delivery.file(self.new_events, run, vocabulary, into, **self._reading())
                _tell(report)
            for text in into.reasons:
                note(f"skipped {text}")
            return report | into.report()

    def show(self, result: dict[str, Any]) -> None:
        for name, value in result.items():
            if isinstance(value, (int, float, str)):
                print(f"{name.replace('_', ' ')}: {value}")


def _tell(report: dict[str, Any]) -> None:
    for word, texts in (("note", report["read"]["assumed"]), ("warning", report["warnings"])):
        for text in texts:
            note(f"{word}: {text}")


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    from jaxdecay.serve.store import StoreError

    try:
        yield
    except StoreError as error:
        raise InputError(str(error)) from error
