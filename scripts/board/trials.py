"""Trials: one configuration of one system on one board with one seed, and its place in the cache.

CACHE/rows/<data fingerprint>/<hash of protocol, configuration and seed>/ holds ``job.json`` (what it is),
``run/`` (what training leaves), ``curve.jsonl``, ``trained.json`` (written last) and ``outcomes-*.npz``.
"""

import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from board.logs import Board
from jaxdecay import runs
from jaxdecay.model_options import ModelOptions
from jaxdecay.train import TrainOptions

CUT = 10
"""k of all figures."""
_NEW = {"model": ModelOptions, "train": TrainOptions}


@dataclass(frozen=True)
class Trial:
    """One row of the cache."""

    board: Board
    configuration: dict[str, Any]
    seed: int
    folder: Path

    @property
    def job(self) -> dict[str, Any]:
        """What the row is, as ``job.json`` says it."""
        return {
            "log": self.board.log,
            "protocol": self.board.protocol,
            "fingerprint": self.board.fingerprint,
            "configuration": json.loads(json.dumps(self.configuration)),
            "seed": self.seed,
        }

    def trained(self) -> dict[str, Any] | None:
        """What training found, None before its end."""
        path = self.folder / "trained.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def outcomes(self) -> Path:
        """The file of outcomes under the board's rules."""
        return self.folder / f"outcomes-{self.board.max_requests or 'all'}.npz"

    def begin(self) -> None:
        """Makes the row's folder, and notes in it what it is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "job.json").is_file():
            runs.write_json(self.folder / "job.json", self.job)


def trial(cache: Path, board: Board, configuration: dict[str, Any], seed: int) -> Trial:
    """The row of the cache: the exact one or, if there is none, a finished one from before this version had
    some option, if that option now stands at its default."""
    rows = cache / "rows" / board.fingerprint[:12]
    made = Trial(board, configuration, seed, rows)
    wanted = made.job
    digest = blake2b(json.dumps(wanted, sort_keys=True).encode(), digest_size=8).hexdigest()
    exact = Trial(board, configuration, seed, rows / digest)
    if exact.folder.is_dir():
        return exact
    for path in sorted(rows.glob("*/trained.json")):
        if _same(json.loads((path.parent / "job.json").read_text(encoding="utf-8")), wanted):
            return Trial(board, configuration, seed, path.parent)
    return exact


def _same(there: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether two jobs are one, options that the older lacks being at their defaults in the newer."""
    there, wanted = json.loads(json.dumps(there)), json.loads(json.dumps(wanted))
    for part, options in _NEW.items():
        defaults = json.loads(json.dumps(vars(options())))
        if part in there["configuration"] and part in wanted["configuration"]:
            there["configuration"][part] = defaults | there["configuration"][part]
            if part == "train":
                there["configuration"][part].pop("seed", None)
    return there == wanted
