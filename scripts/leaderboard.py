"""The honest table: every system on the same splits, each tuned with the same budget on validation only.

    python scripts/leaderboard.py --logs foursquare beauty --json board.json --markdown board.md

Every candidate trains in a process of its own; wall time and peak memory are its own. Everything found is
kept in --cache by data, protocol, configuration and seed: the same command again goes on where it was killed,
and a later one with more logs, systems or seeds only adds to the table. Differences between rows made on
different days need no scoring again.

--json has a row for each figure: log, protocol, system, metric (``ndcg@10``; ``ndcg@10 (repeats)``,
(novelties), (warm); ``ndcg@10 (time withheld)``), value, low, high (95 % over users), seconds and peak_mib of
training (means over seeds); and group, time, seeds, seed_low, seed_high (their range), difference,
difference_low, difference_high (system minus flagship, paired over users), events_per_second, parameters,
validation, epochs and epoch_seconds (median seconds from one validation to the next), candidates,
tuning_seconds, configuration, versions, device, cores that training could use, requests_without_a_list
(misses, where lists are somebody else's), and reach (by peer: its best validation NDCG@10, its seconds to
there, and the seconds of this system to be as good). The seconds of a model are all from loading to the last
checkpoint, with compiling and validating; those of a peer are of fitting alone, which favours the peer.

A peer is trained by its own script in its own environment (--venv; scripts/peers/rectools_rank.py makes it on
the first call), or has its ranked lists read from Parquet: --lists 'NAME=FILE' (see jaxdecay/listed.py).
"""

import dataclasses
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from board.logs import KNOWN, Board, board, find
from board.overrides import parse_overrides
from board.plan import Plan, fill, overview
from board.rows import rows
from board.show import markdown, plot, table_of
from board.systems import Entry, choose, listed_entries

from jaxdecay.data.times import Clock
from jaxdecay.errors import InputError


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains, or takes from the cache, and compares."""

    logs: tuple[str, ...] = ("foursquare",)
    """Names of folders under --data, or paths to logs."""
    systems: tuple[str, ...] = ("all",)
    """Names, or flagship, ablations, references, baselines, peers, or all (peers only with --venv)."""
    protocol: tuple[str, ...] = ()
    """leave-one-out, global-time, per-user-time, last-day, next-category; default: those of each log."""
    data: Path = Path("../shared/data")
    """Folder of logs by name."""
    cache: Path = Path(".leaderboard")
    """Folder that keeps what was prepared, trained and scored."""
    budget: int = 4
    """Candidates that are tried of each trained system."""
    seeds: int = 3
    """Seeds of the flagship and its best rival; the others have one."""
    lists: tuple[str, ...] = ()
    """Ranked lists of somebody else's, NAME=FILE, for one log under one protocol."""
    venv: str | None = None
    """Environment of the peers; made on the first call if it is not there."""
    clock: Clock | None = None
    """Clock of logs given by path: utc, or relative to each user's first event."""
    max_requests: int | None = None
    """Judge by a seeded sample of so many test requests."""
    bootstrap: int = 1000
    """Replicates behind the intervals."""
    override: tuple[str, ...] = ()
    """NAME=VALUE over every system's options, such as features=8, train.epochs=2 or peer.epochs=1."""
    json: Path | None = None
    """Where the rows go."""
    markdown: Path | None = None
    """Where the table goes; standard output has it in any case."""
    plot: Path | None = None
    """Where the picture goes."""
    list: bool = False
    """Only say what is cached and what would be run."""


def main(options: Options) -> int:
    """Fills the table and writes it; 0, or 2 if a system could not be made."""
    plan = Plan(
        options.cache, options.budget, options.seeds, options.venv, parse_overrides(options.override), say
    )
    for name in ("budget", "seeds", "bootstrap", "max_requests"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: give at least 1")
    entries, asked = _entries(options), boards(options)
    if options.lists and len(asked) > 1:
        raise InputError(
            "--lists: lists are of one log under one protocol; give one --logs and one --protocol"
        )
    if options.list:
        for one in asked:
            print(*overview(plan, one, entries), sep="\n")
        return 0
    written, texts, tables, failures = [], [], {}, []
    for one in asked:
        standings, failed = fill(plan, one, entries)
        failures += failed
        found = rows(one, standings, bootstrap=options.bootstrap)
        if not found:
            continue
        written += found
        texts.append(markdown(one, found))
        tables[f"{one.log}, {one.protocol}"] = table_of(found)
        write(options, written, texts)  # after each board, so that a long run can be looked at
    print("\n".join(texts))
    if options.plot and tables:
        plot(tables, options.plot)
    if failures:
        say(f"{len(failures)} could not be made: {'; '.join(failures)}")
    return 2 if failures else 0


def _entries(options: Options) -> list[Entry]:
    """The systems asked for."""
    return [*choose(options.systems, peers=options.venv is not None), *listed_entries(options.lists)]


def boards(options: Any, *, most: int | None = None) -> list[Board]:
    """The boards of these options' logs; ``most``: of the protocols known of a log."""
    found, files = [], {}
    for log in options.logs:
        name, file = find(log, options.data)
        if files.setdefault(name, file.resolve()) != file.resolve():
            raise InputError(
                f"--logs: {files[name]} and {file.resolve()} are both called {name!r}; rename one"
            )
        known = KNOWN[name].protocols if name in KNOWN else ("global-time",)
        for protocol in options.protocol or known[:most]:
            found.append(
                board(name, file, protocol, options.cache, clock=options.clock, most=options.max_requests)
            )
    return found


def write(options: Any, written: list[dict[str, Any]], texts: list[str]) -> None:
    """Rows and tables, where the options want them."""
    for path, text in ((options.json, json.dumps(written, indent=1)), (options.markdown, "\n".join(texts))):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def say(text: str) -> None:
    """A line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def run(options: Any, work: Callable[[Any], int] = main) -> int:
    """``work`` for a shell: one line and status 2 for what cannot be used, 130 after a signal."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        return work(options)
    except InputError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130


if __name__ == "__main__":
    sys.exit(run(tyro.cli(Options)))
