"""What is run, and in what order: every candidate once, the best by validation scored, more seeds for two."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from board.logs import Board
from board.stored import load
from board.systems import Candidate, Configuration, Entry, Overrides, candidate_of, configurations
from board.trials import CUT, Trial, trial
from board.work import UNFINISHED
from jaxdecay import metrics, runs
from jaxdecay.errors import InputError
from jaxdecay.groups import padded
from jaxdecay.model_options import ModelOptions

Say = Callable[[str], None]


class Failed(Exception):
    """A trial whose process came to grief; the others go on."""


@dataclass(frozen=True)
class Plan:
    """How a table is filled."""

    cache: Path
    budget: int
    seeds: int
    venv: str | None
    overrides: Overrides
    say: Say

    def trials(self, entry: Entry, board: Board, *, seed: int = 0) -> list[Trial]:
        """The candidates of a system on a board."""
        if entry.kind == "lists":
            file = Path(entry.lists)
            if not file.is_file():
                raise InputError(f"--lists {entry.name}={file}: no such file")
            digest = blake2b(file.read_bytes(), digest_size=16).hexdigest()
            listed: dict[str, Any] = {"kind": "lists", "file": str(file.resolve()), "digest": digest}
            found = [listed]
        else:
            clock = board.histories.clock
            found = configurations(entry, clock=clock, budget=self.budget, overrides=self.overrides)
        if entry.kind == "peer":  # its lists answer these requests and no others
            found = [{**one, "peer": {**one["peer"], "max_requests": board.max_requests}} for one in found]
        return [trial(self.cache, board, one, seed) for one in found]

    def done(self, one: Trial, *, scored: bool) -> bool:
        there = one.trained()
        return there is not None and (not scored or "none" in there or one.outcomes.is_file())

    def do(self, one: Trial, what: str, *, scored: bool) -> dict[str, Any]:
        """Runs a trial in a process of its own unless the cache has it; what training found.

        Raises Failed when it cannot be made, and KeyboardInterrupt after a signal, with everything saved.
        """
        if not self.done(one, scored=scored):
            if one.configuration["kind"] == "peer" and one.trained() is None and self.venv is None:
                raise Failed(f"{what}, seed {one.seed}: not in the cache; give its environment with --venv")
            self.say(f"{one.board.log} {one.board.protocol}: {what}, seed {one.seed}")
            status = self._run(one, scored=scored)
            if status in (UNFINISHED, -signal.SIGINT, -signal.SIGTERM):
                raise KeyboardInterrupt
            if status:
                log = one.folder / "log.txt"
                lines = log.read_text(encoding="utf-8").strip().splitlines()
                why = f"killed by signal {-status}" if status < 0 else (lines or ["no reason given"])[-1]
                raise Failed(f"{what}: {why} (see {log})")
        found = one.trained()
        assert found is not None
        return found

    def _run(self, one: Trial, *, scored: bool) -> int:
        one.begin()
        job = {**one.job, "folder": str(one.folder), "board": str(one.board.folder), "scored": scored}
        runs.write_json(
            one.folder / "work.json",
            {**job, "max_requests": one.board.max_requests, "venv": self.venv},
        )
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "board.work", str(one.folder / "work.json")]
        with (one.folder / "log.txt").open("ab") as log:
            child = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path}
            )
            try:
                return child.wait()
            except BaseException:
                child.terminate()  # it saves and leaves
                child.wait()
                raise


@dataclass(frozen=True)
class Standing:
    """A system on one board: the trials of the configuration that validation chose, a seed each."""

    entry: Entry
    trials: list[Trial]
    trained: list[dict[str, Any]]
    tuning: list[dict[str, Any]]
    """Every candidate tried: configuration, validation, seconds."""


def fill(plan: Plan, board: Board, entries: Sequence[Entry]) -> tuple[list[Standing], list[str]]:
    """Does all that a board's table lacks; the standings, and a line for each system that failed."""
    standings, failures = [], []
    chosen: Candidate | None = None
    whole: Configuration | None = None
    for entry in entries:
        try:
            if entry.group == "ablations" and chosen:
                entry = dataclasses.replace(entry, grid=(chosen,))
                if plan.trials(entry, board)[0].configuration == whole:
                    plan.say(f"{board.log} {board.protocol}: {entry.name}: what it takes away was not there")
                    continue
            standing = _tuned(plan, board, entry)
        except (Failed, InputError) as error:
            failures.append(f"{board.log} {board.protocol}: {error}")
            plan.say(f"failed: {failures[-1]}")
            continue
        if standing:
            standings.append(standing)
            if entry.group == "flagship":
                made = {"clock": board.histories.clock, "overrides": plan.overrides}
                whole = standing.trials[0].configuration
                chosen = candidate_of(entry, whole, **made)
    for place in _seeded(standings, board):
        try:
            standings[place] = _more_seeds(plan, board, standings[place])
        except Failed as error:
            failures.append(f"{board.log} {board.protocol}: {error}")
            plan.say(f"failed: {failures[-1]}")
    return standings, failures


def _tuned(plan: Plan, board: Board, entry: Entry) -> Standing | None:
    """The best candidate by validation, scored; None for a system that makes no sense on this log."""
    tried, found = plan.trials(entry, board), []
    for number, one in enumerate(tried, 1):
        which = f" (candidate {number} of {len(tried)})" if len(tried) > 1 else ""
        found.append(plan.do(one, entry.name + which, scored=len(tried) == 1))
    best = int(np.argmax([one.get("validation") or 0.0 for one in found]))
    if "none" in found[best]:
        return None
    plan.do(tried[best], f"{entry.name}, scoring", scored=True)
    tuning = [
        {"configuration": one.configuration, "validation": told["validation"], "seconds": told.get("seconds")}
        for one, told in zip(tried, found, strict=True)
    ]
    return Standing(entry, [tried[best]], [found[best]], tuning)


def _seeded(standings: Sequence[Standing], board: Board) -> Iterator[int]:
    """The places that get all seeds: the flagship and its best rival, by test NDCG@10 at the first seed: what
    is chosen by test can only favour the rival."""
    best, place = -1.0, None
    for number, one in enumerate(standings):
        if one.entry.group == "flagship":
            yield number
        if one.entry.rival and (value := ndcg(one.trials[0])) > best:
            best, place = value, number
    if place is not None:
        yield place


def ndcg(one: Trial) -> float:
    """Mean test NDCG@10 of a scored trial."""
    outcomes, _ = load(one.outcomes, one.board.test)
    offsets, ranks = one.board.test.target_offsets, outcomes["given"].ranks
    where = padded(np.ones(len(ranks), bool), offsets, False)
    return float(np.mean(np.asarray(metrics.ndcg(padded(ranks, offsets, np.inf), k=CUT, where=where))))


def _more_seeds(plan: Plan, board: Board, standing: Standing) -> Standing:
    """The same configuration with the other seeds; one is all there is of what no seed moves."""
    kind = standing.trials[0].configuration["kind"]
    if kind == "lists" or (kind == "baseline" and standing.entry.name != "matrix factorisation"):
        return standing
    trials, trained = list(standing.trials), list(standing.trained)
    for seed in range(1, plan.seeds):
        one = trial(plan.cache, board, trials[0].configuration, seed)
        trained.append(plan.do(one, standing.entry.name, scored=True))
        trials.append(one)
    return dataclasses.replace(standing, trials=trials, trained=trained)


def overview(plan: Plan, board: Board, entries: Sequence[Entry]) -> Iterator[str]:
    """A line for each candidate: what is cached and what would be run."""
    for entry in entries:
        try:
            tried = plan.trials(entry, board)
        except InputError as error:
            yield f"{board.log} {board.protocol} | {entry.name} | cannot be made: {error}"
            continue
        for one in tried:
            state = "would be run"
            if (one.folder / "curve.jsonl").is_file() or (one.folder / "run").is_dir():
                state = "begun, would go on"
            if (found := one.trained()) is not None:
                state = "scored" if one.outcomes.is_file() else "trained"
                if found.get("validation") is not None:
                    state += f", validation NDCG@10 {found['validation']:.4f}, {found['seconds']:.0f} s"
            if entry.kind == "peer" and plan.venv is None and found is None:
                state = "not cached; needs --venv"
            yield f"{board.log} {board.protocol} | {entry.name} | {_brief(one)} | seed {one.seed} | {state}"


def _brief(one: Trial) -> str:
    """What a candidate varies."""
    told = one.configuration
    if told["kind"] == "model":
        size = ModelOptions.from_json(told["model"]).size
        words = f"{size.features} features, encoder {size.encoder}, dropout {size.dropout:g}"
        return f"{words}, learning rate {told['train']['learning_rate']:g}"
    if told["kind"] == "peer":
        return json.dumps(told["peer"])
    return told.get("baseline") or Path(told["file"]).name
