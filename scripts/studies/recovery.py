"""How well planted half-lives and periods are recovered: simulate, prepare, train, bootstrap, seed by seed.

    python scripts/studies/recovery.py --seeds 10 --json recovery.json

Every finished seed is a line of recovery.jsonl beside the figures; the same command again does the seeds that
are missing. Written to --json, over all seeds and categories:

- half_life_error_max, half_life_error_median: |learned / planted - 1| of the half-lives of coming back;
- period_error_max: the same of the planted period and the learned one of the plain rhythms nearest to it;
- coverage: share of planted half-lives inside their 95 % intervals;
- half_lives: how many half-lives these figures are over; rows: one per seed, with all of them.
"""

import dataclasses
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import tyro

from jaxdecay.data.prepare import prepare
from jaxdecay.data.simulate import SimulateOptions, simulate, write
from jaxdecay.durations import plain_periods
from jaxdecay.fitting import train_run
from jaxdecay.half_lives import half_lives
from jaxdecay.model_options import ModelOptions
from jaxdecay.progress import Progress
from jaxdecay.train import TrainOptions

_FAR = 1e6
"""What stands for the error of a half-life that is learned as never: JSON knows no infinity."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Recovery of planted half-lives and periods over seeds."""

    json: Path
    """Where the figures are written; the rows go beside it, as lines, with the ending .jsonl."""
    seeds: int = 10
    """Seeds 0, 1, ... of the simulated log and of training."""
    refits: int = 400
    """Refits behind each interval."""
    simulated: SimulateOptions = dataclasses.field(default_factory=SimulateOptions)
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    train: TrainOptions = dataclasses.field(default_factory=TrainOptions)


def main(options: Options) -> None:
    """Does the seeds that are missing, and writes the figures of all that are asked for."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    lines = options.json.with_suffix(".jsonl")
    asked = _settings(options)
    done = {row["seed"]: row for row in _read(lines) if row["settings"] == asked}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        if seed not in done:
            done[seed] = {"seed": seed, "settings": asked, **recover(options, seed)}
            with lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[seed]) + "\n")
        print(f"seed {seed}: {_line(done[seed])}", file=sys.stderr, flush=True)
    found = figures([done[seed] for seed in range(options.seeds)])
    text = json.dumps(found, indent=1)
    options.json.write_text(text + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in found.items() if name != "rows"}, indent=1))


def recover(options: Options, seed: int) -> dict[str, Any]:
    """One seed: planted and learned by category, period, and seconds of each stage."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        root, began = Path(folder), time.perf_counter()
        simulated = simulate(dataclasses.replace(options.simulated, seed=seed))
        write(simulated, root / "log")
        prepare(root / "log" / "events.parquet", root / "prepared")
        seconds["simulate and prepare"] = time.perf_counter() - began
        train = dataclasses.replace(options.train, seed=seed)
        train_run(root / "prepared", root / "run", model=options.model, train=train, report=progress)
        seconds["train"] = time.perf_counter() - began - sum(seconds.values())
        learned = half_lives(root / "run", bootstrap=options.refits, seed=seed, report=progress)
        seconds["half-lives"] = time.perf_counter() - began - sum(seconds.values())
    return compare(simulated.truth, learned.filter(head="revisit").to_dicts()) | {
        "seconds": {name: round(value, 1) for name, value in seconds.items()}
    }


def compare(truth: dict[str, Any], learned: list[dict[str, Any]]) -> dict[str, Any]:
    """``categories`` (planted, learned, low, high, error, covered, events by name) and ``period``."""
    by_group = {one["group"]: one for one in learned}
    categories, period = {}, None
    for name, planted in truth["categories"].items():
        one, true = by_group[name], planted["half_life_days"]
        low, high = one["low"], one["high"]
        categories[name] = {
            "planted": true,
            "learned": min(one["half_life_days"], _FAR),
            "low": low,
            "high": high,
            "error": min(abs(one["half_life_days"] / true - 1), _FAR),
            "covered": low is not None and low <= true <= high,
            "events": one["events"],
        }
        if planted["period_days"] and one["periods_days"]:
            plain = plain_periods(one["periods_days"], one["widths_days"])  # as the planted one
            nearest = min(plain, key=lambda days: abs(days - planted["period_days"]))
            error = abs(nearest / planted["period_days"] - 1)
            period = {"planted": planted["period_days"], "learned": nearest, "error": error}
    return {"categories": categories, "period": period}


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures over all rows."""
    each = [one for row in rows for one in row["categories"].values()]
    periods = [row["period"]["error"] for row in rows if row["period"]]
    return {
        "seeds": len(rows),
        "half_lives": len(each),
        "half_life_error_max": max(one["error"] for one in each),
        "half_life_error_median": statistics.median(one["error"] for one in each),
        "period_error_max": max(periods, default=None),
        "coverage": sum(one["covered"] for one in each) / len(each),
        "rows": rows,
    }


def _settings(options: Options) -> dict[str, Any]:
    """What a row depends on besides its seed, as it looks when read back."""
    kept = dataclasses.asdict(options)
    return json.loads(json.dumps({name: kept[name] for name in ("refits", "simulated", "model", "train")}))


def _read(lines: Path) -> list[dict[str, Any]]:
    """The rows of earlier calls; a line cut short is left out."""
    rows = []
    for line in lines.read_text(encoding="utf-8").splitlines() if lines.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _line(row: dict[str, Any]) -> str:
    """A row for people."""
    parts = []
    for name, one in row["categories"].items():
        outside = "" if one["covered"] else ", outside"
        parts.append(f"{name} {one['learned']:.3g} d for {one['planted']:.3g} ({one['error']:.0%}{outside})")
    return ", ".join(parts)


if __name__ == "__main__":
    main(tyro.cli(Options))
