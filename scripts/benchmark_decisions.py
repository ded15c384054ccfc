"""How lists are steered, explained and watched: what it reaches and what it costs, on trained runs.

    jaxdecay prepare ../shared/data/electronics/events.parquet --out runs/electronics-log
    jaxdecay train runs/electronics-log --out runs/electronics
    python scripts/benchmark_decisions.py --runs runs/foursquare runs/electronics --json decisions.json

Each section is a function of `scripts/decisions/` that takes a run and gives figures (those of drift draw
their own data); --sections runs some of them. What is chosen is chosen on validation; figures are of the test
part.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from decisions import drift, explanations, page, steering, strategies

from jaxdecay.recommend import load

SECTIONS = {
    "diversity": steering.diversity,
    "exposure": steering.bounded,
    "cost": steering.cost,
    "explanations": explanations.explanations,
    "strategies": strategies.strategies,
    "page": page.page,
    "watching": drift.live,
}
DRIFT = {"drawn": drift.drawn, "simulated": drift.simulated, "cost": drift.cost}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="run directories")
    parser.add_argument("--sections", nargs="+", choices=[*SECTIONS, "drift"], default=[*SECTIONS, "drift"])
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    runs: dict[str, dict[str, Any]] = {}
    for path in options.runs:
        run = load(path)
        runs[path.name] = {}
        for name in [name for name in options.sections if name in SECTIONS]:
            print(f"{path.name}: {name}", file=sys.stderr)
            runs[path.name][name] = SECTIONS[name](run)
    figures: dict[str, Any] = {"runs": runs, "load_average": os.getloadavg()[0]}
    if "drift" in options.sections:
        figures["drift"] = {name: section() for name, section in DRIFT.items()}
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
