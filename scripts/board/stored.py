"""Outcomes on disk: what a system did with the requests; all figures follow without scoring again."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay.data.requests import Requests
from jaxdecay.outcomes import Outcome, Table
from jaxdecay.results import Time

_ARRAYS = ("ranks", "listed", "listed_age", "score", "expected", "candidates")


def save(path: Path, outcomes: dict[Time, Outcome], table: Table) -> None:
    """Writes the outcomes of one system, time given and withheld, whole or not at all."""
    arrays: dict[str, Any] = {"own": table.own, "last": table.last, "events": table.requests.event}
    facts = {}
    for time, outcome in outcomes.items():
        facts[time] = {"pair_logits": outcome.pair_logits, "seconds": outcome.seconds}
        for name in _ARRAYS:
            if (value := getattr(outcome, name)) is not None:
                arrays[f"{time}.{name}"] = value
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    os.replace(partial, path)


def load(path: Path, requests: Requests) -> tuple[dict[Time, Outcome], Table]:
    """What `save` wrote for these very requests."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    if not np.array_equal(arrays["events"], requests.event):
        raise ValueError(f"{path}: holds the outcomes of other requests")
    found: dict[Time, Outcome] = {}
    for time, facts in json.loads(arrays["facts"].tobytes()).items():
        values = {name: arrays.get(f"{time}.{name}") for name in _ARRAYS}
        found[time] = Outcome(**values, **facts)  # type: ignore[arg-type]
    return found, Table(requests, arrays["own"], arrays["last"])
