"""Logs and protocols: each log prepared once for each protocol, and what is asked of the systems there."""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxdecay.data.events import Columns
from jaxdecay.data.histories import Histories
from jaxdecay.data.prepare import PrepareOptions, prepare
from jaxdecay.data.requests import Requests, requests, sample
from jaxdecay.data.split import SplitOptions
from jaxdecay.data.times import Clock
from jaxdecay.errors import InputError
from jaxdecay.evaluate import rules
from jaxdecay.train import TrainOptions

PROTOCOLS = ("leave-one-out", "global-time", "per-user-time", "last-day", "next-category")
"""last-day: global time, the last busy day tests and the day before validates; later events are left out.
next-category: global time, and the item is its category."""
DAY = 86_400


@dataclass(frozen=True)
class Known:
    """What is known of a log by name."""

    protocols: tuple[str, ...]
    clock: Clock = "utc"


KNOWN = {
    "foursquare": Known(("leave-one-out", "global-time")),
    "lastfm": Known(("per-user-time",), clock="relative"),
    "beauty": Known(("leave-one-out", "global-time")),
    "electronics": Known(("global-time",)),
    "taobao": Known(("global-time", "next-category")),
    "globo-news": Known(("last-day",)),
    "ml-1m-2999": Known(("leave-one-out",)),
    "ml-100k": Known(("leave-one-out", "global-time")),
    "online-retail": Known(("global-time",)),
}


@dataclass(frozen=True)
class Board:
    """One log under one protocol, prepared: what a table is about."""

    log: str
    protocol: str
    folder: Path
    max_requests: int | None = None
    """Judge by a sample of so many requests."""

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @cached_property
    def histories(self) -> Histories:
        return Histories.load(self.prepared)

    @property
    def fingerprint(self) -> str:
        return self.histories.config["fingerprint"]

    @cached_property
    def validation(self) -> Requests:
        """All validation requests for what was chosen."""
        return requests(self.histories, 1, chosen=True)

    @cached_property
    def test(self) -> Requests:
        """The test requests, in order of time."""
        several = self.histories.config["split"].get("targets") == "all"
        found = requests(self.histories, 2, chosen=several)
        if self.max_requests is not None:
            found = sample(found, self.max_requests, 0)
        return found.take(np.argsort(found.at, kind="stable"))

    @cached_property
    def labels(self) -> np.ndarray | None:
        """(R,) outcome of each test request's first target, None when the log has none."""
        labels = np.asarray(self.histories.label, np.float64)[self.test.event]
        return None if np.isnan(labels).all() else labels


def find(log: str, data: Path) -> tuple[str, Path]:
    """Name and file of a log given by name (a folder of ``data``) or by path."""
    path = Path(log)
    if path.is_file() or (path.suffix and not path.is_dir()):
        if not path.is_file():
            raise InputError(f"--logs {log}: no such file; give the path of a log, or a folder of {data}")
        return (path.parent.resolve().name if path.stem == "events" else path.stem), path
    named = path if path.is_dir() else data / log
    file = named / "events.parquet"
    if not file.is_file():
        raise InputError(f"--logs {log}: there is no {file}; give a folder of --data, or the path of a log")
    return named.resolve().name, file


def board(
    log: str, file: Path, protocol: str, cache: Path, *, clock: Clock | None, most: int | None
) -> Board:
    """The log under the protocol, prepared now unless the cache has it; ``most``: `Board.max_requests`."""
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol!r}: give one of {', '.join(PROTOCOLS)}")
    clock = clock or KNOWN.get(log, Known(())).clock
    place = blake2b(str(file.resolve()).encode(), digest_size=4).hexdigest()
    found = Board(log, protocol, cache / "logs" / f"{log}-{protocol}-{place}", most)
    state, items = file.stat(), _beside(file)
    frame, options = _source(file, protocol, clock)
    source = {
        "file": str(file.resolve()),
        "bytes": state.st_size,
        "changed": state.st_mtime_ns,
        "items": items and items.stat().st_mtime_ns,
        "options": json.loads(json.dumps(asdict(options), default=str)),
    }
    note = found.folder / "source.json"
    if (
        note.is_file()
        and json.loads(note.read_text()) == source
        and (found.prepared / "prepared.json").is_file()
    ):
        return found
    found.folder.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")  # the events of a log are seldom ours to pass on
    note.unlink(missing_ok=True)
    prepare(frame, found.prepared, options, overwrite=True)
    if protocol == "last-day":
        _check_days(found.histories)
    note.write_text(json.dumps(source))
    return found


def _source(file: Path, protocol: str, clock: Clock) -> tuple[Any, PrepareOptions]:
    """What is prepared (a path or a frame), and how."""
    if protocol == "last-day":
        frame, split = _last_day(file)
        return frame, PrepareOptions(split=split, clock=clock, unit="s", items=_beside(file))
    if protocol == "next-category":
        frame = _parquet(file, "category")
        kept = [one for one in ("user_id", "timestamp", "behaviour", "weight") if one in frame.columns]
        frame = frame.drop_nulls("category").select(*kept, pl.col("category").alias("item_id"))
        return frame, PrepareOptions(split=SplitOptions(), clock=clock, unit="s", columns=Columns(context=()))
    kind = {"leave-one-out": "leave-one-out", "per-user-time": "per-user-time"}.get(protocol, "global-time")
    return file, PrepareOptions(split=SplitOptions(kind=kind), clock=clock)  # type: ignore[arg-type]


def _parquet(file: Path, column: str) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(file, glob=False)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error}); give a Parquet file") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(
            f"{file}: is no Parquet file ({type(error).__name__}), which this protocol needs; write it"
            " as one, or use another --protocol"
        ) from None
    for name in ("user_id", "item_id", "timestamp", column):
        if name not in frame.columns:
            raise InputError(
                f"{file}: has no column {name!r}, which this protocol needs; use another --protocol"
            )
    return frame


def _beside(file: Path) -> Path | None:
    path = file.parent / "items.parquet"
    return path if path.is_file() else None


def _last_day(file: Path) -> tuple[pl.DataFrame, SplitOptions]:
    """Events up to the last busy day (UTC; one with at least a tenth of the events of the busiest), and the
    split whose cuts are the midnights before it and before the day before."""
    frame = _parquet(file, "timestamp")
    days, counts = np.unique(frame["timestamp"].to_numpy() // DAY, return_counts=True)
    last = int(days[counts >= counts.max() / 10][-1])
    # Shares of what `prepare` leaves of it, so that its cuts are midnights.
    frame = frame.filter(pl.col("timestamp") < (last + 1) * DAY).unique(maintain_order=True)
    day = frame["timestamp"].to_numpy() // DAY
    return frame, SplitOptions(test=float(np.mean(day == last)), validation=float(np.mean(day == last - 1)))


def _check_days(histories: Histories) -> None:
    """Raises InputError unless the test part is the last day and validation the day before."""
    day, part = np.asarray(histories.time) // DAY, np.asarray(histories.part)
    if not (np.array_equal(part == 2, day == day.max()) and np.array_equal(part == 1, day == day.max() - 1)):
        raise InputError(
            "last-day: prepare left out rows, so that the parts are no whole days; clean the log first"
        )


def hand_over(board: Board) -> Path:
    """The folder from which a peer reads the very same split; written unless it is there.

    ``log.parquet``: user_id, item_id, timestamp, part (0 training, 1 validation, 2 test), a row an event, as
    the prepared log has them: by user, then time, then file order. ``requests.parquet``: request (row of its
    first target; what its user did before is the history), part, item_id (the target). ``rules.json``.
    """
    histories = board.histories
    folder = board.folder / f"parts-{histories.config['fingerprint'][:12]}-{board.max_requests or 'all'}"
    if (folder / "rules.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    users, items = (
        pl.read_parquet(board.prepared / f"{one}s.parquet")[f"{one}_id"] for one in ("user", "item")
    )
    log = {
        "user_id": users[histories.user()],
        "item_id": items[np.asarray(histories.item)],
        "timestamp": np.asarray(histories.time),
        "part": np.asarray(histories.part),
    }
    pl.DataFrame(log).write_parquet(folder / "log.parquet")
    asked = [(1, sample(board.validation, TrainOptions().validation_requests, 0)), (2, board.test)]
    frames = []
    for part, one in asked:
        first = one.targets[one.target_offsets[:-1]]
        frames.append(pl.DataFrame({"request": one.event, "item_id": items[first]}).with_columns(part=part))
    pl.concat(frames).write_parquet(folder / "requests.parquet")
    told = {"exclude_history": rules(histories).exclude_history, "clock": histories.clock}
    (folder / "rules.json").write_text(json.dumps(told))
    return folder
