"""How well planted half-lives and periods are recovered: simulate, prepare, train, bootstrap, seed by seed.

    python scripts/studies/recovery.py --seeds 10 --json recovery.json

Every finished seed is a line of recovery.jsonl beside the figures; the same command again does the seeds that
are missing. Written to --json, over all seeds and categories:

- half_life_error_max, half_life_error_median: |learned / planted - 1| of the half-lives of coming back;
- period_error_max: the same of the planted period and the learned one of the plain rhythms nearest to it;
- coverage, coverage_laplace: share of planted half-lives inside their 95 % intervals of either kind;
- width_laplace: median of how wide intervals by Laplace are on a logarithmic scale, as a multiple of those of
  the bootstrap;
- half_lives: how many half-lives these figures are over; rows: one per seed, with all of them.
"""

import dataclasses
import json
import logging
import math
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
        curved = half_lives(root / "run", intervals="laplace", seed=seed, report=progress)
        seconds["laplace"] = time.perf_counter() - began - sum(seconds.values())
    both = (frame.filter(head="revisit").to_dicts() for frame in (learned, curved))
    return compare(simulated.truth, *both) | {
        "seconds": {name: round(value, 1) for name, value in seconds.items()}
    }


def compare(
    truth: dict[str, Any], learned: list[dict[str, Any]], curved: list[dict[str, Any]]
) -> dict[str, Any]:
    """``categories`` (planted, learned, low, high, laplace (its bounds), error, covered, covered_laplace,
    events by name) and ``period``. Learned and error are the bootstrap's."""
    by_group, by_curvature = ({one["group"]: one for one in of} for of in (learned, curved))
    categories, period = {}, None
    for name, planted in truth["categories"].items():
        one, true = by_group[name], planted["half_life_days"]
        low, high = one["low"], one["high"]
        laplace = [by_curvature[name][bound] for bound in ("low", "high")]
        categories[name] = {
            "planted": true,
            "learned": min(one["half_life_days"], _FAR),
            "low": low,
            "high": high,
            "error": min(abs(one["half_life_days"] / true - 1), _FAR),
            "laplace": laplace,
            "covered": low is not None and low <= true <= high,
            "covered_laplace": laplace[0] is not None and laplace[0] <= true <= laplace[1],
            "events": one["events"],
        }
        plain = plain_periods(one["periods_days"], one["widths_days"])  # as the planted one
        if planted["period_days"] and plain:
            nearest = min(plain, key=lambda days: abs(days - planted["period_days"]))
            error = abs(nearest / planted["period_days"] - 1)
            period = {"planted": planted["period_days"], "learned": nearest, "error": error}
    return {"categories": categories, "period": period}


def figures(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures over all rows."""
    each = [one for row in rows for one in row["categories"].values()]
    widths = [
        math.log(one["laplace"][1] / one["laplace"][0]) / math.log(one["high"] / one["low"])
        for one in each
        if all(bound not in (None, math.inf) for bound in (*one["laplace"], one["low"], one["high"]))
    ]
    periods = [row["period"]["error"] for row in rows if row["period"]]
    return {
        "seeds": len(rows),
        "half_lives": len(each),
        "half_life_error_max": max(one["error"] for one in each),
        "half_life_error_median": statistics.median(one["error"] for one in each),
        "period_error_max": max(periods, default=None),
        "coverage": sum(one["covered"] for one in each) / len(each),
        "coverage_laplace": sum(one["covered_laplace"] for one in each) / len(each),
        "width_laplace": statistics.median(widths) if widths else None,
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
