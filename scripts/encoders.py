"""Every encoder with the bank and without it, on equal terms: quality, time, memory and parameters.

    python scripts/encoders.py --json encoders.json --markdown encoders.md

All are trained with the same options and the same number of epochs at most, of which the best by validation
is scored; nothing is tuned. Each has the preset's size: of `identity`, which has no blocks, that is the
length of the vectors. With the bank (``read`` bank) the query is read from a bank that all events write what
they mean into; without it (``last``) it is what the last event means.

Trained and scored by what `scripts/leaderboard.py` is made of, a process each and everything kept in --cache:
the same command again goes on where it was killed, and one with more epochs makes all of them anew.

--json has the rows of `scripts/leaderboard.py` with ``encoder`` and ``read``; differences are with the bank
minus without it, paired over users. ``epoch_seconds`` includes a validation.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Literal

import tyro
from board.encoders import REFERENCES, entries, markdown, named
from board.overrides import parse_overrides
from board.plan import Plan, fill, overview
from board.rows import rows
from leaderboard import boards, run, say, write

from jaxdecay.data.times import Clock
from jaxdecay.errors import InputError


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains, or takes from the cache, and compares."""

    logs: tuple[str, ...] = ("electronics", "foursquare", "ml-1m-2999")
    """Names of folders under --data, or paths to logs."""
    encoders: tuple[str, ...] = ("all",)
    """identity, mlp, cnn, gru, lstm, transformer, timed-transformer, hstu, decay-stack, or all."""
    preset: Literal["small", "base"] = "base"
    """Size of all of them."""
    epochs: int = 10
    """Most passes over the training events."""
    patience: int = 3
    """Validations without a better one before training stops."""
    protocol: tuple[str, ...] = ()
    """leave-one-out, global-time, per-user-time, last-day, next-category; default: the first of each log."""
    data: Path = Path("../shared/data")
    """Folder of logs by name."""
    cache: Path = Path(".leaderboard")
    """Folder that keeps what was prepared, trained and scored."""
    clock: Clock | None = None
    """Clock of logs given by path: utc, or relative to each user's first event."""
    max_requests: int | None = None
    """Judge by a seeded sample of so many test requests."""
    bootstrap: int = 1000
    """Replicates behind the intervals."""
    override: tuple[str, ...] = ()
    """NAME=VALUE over every model's options, such as features=8 or train.learning_rate=1e-3."""
    json: Path | None = None
    """Where the rows go."""
    markdown: Path | None = None
    """Where the table goes; standard output has it in any case."""
    list: bool = False
    """Only say what is cached and what would be run."""


def main(options: Options) -> int:
    """Fills the table and writes it; 0, or 2 if an encoder could not be made."""
    for name in ("bootstrap", "max_requests"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value}: give at least 1")
    train = {"epochs": options.epochs, "patience": options.patience}
    chosen = entries(options.encoders, options.preset, train)
    plan = Plan(options.cache, 1, 1, None, parse_overrides(options.override), say)
    written, texts, failures = [], [], []
    for one in boards(options, most=1):
        if options.list:
            print(*overview(plan, one, chosen), sep="\n")
            continue
        standings, failed = fill(plan, one, chosen)
        failures += failed
        found = rows(one, standings, bootstrap=options.bootstrap, references=REFERENCES)
        if found:
            written += map(named, found)
            texts.append(markdown(one, found))
            write(options, written, texts)  # after each board, so that a long run can be looked at
    print("\n".join(texts))
    if failures:
        say(f"{len(failures)} could not be made: {'; '.join(failures)}")
    return 2 if failures else 0


if __name__ == "__main__":
    sys.exit(run(tyro.cli(Options), main))
