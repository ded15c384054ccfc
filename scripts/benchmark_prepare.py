"""How long `prepare` takes and how much memory it needs, Python start and imports included.

    python scripts/benchmark_prepare.py --log events.parquet --json prepare.json

Every run is a fresh child process; on Linux it may use two cores. Memory is the peak resident set of that
process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHILD = """
import json, resource, sys
from jaxdecay.data.prepare import prepare
histories = prepare(sys.argv[1], sys.argv[2])
assert "jax" not in sys.modules, "prepare must not import jax"
scale = 2**20 if sys.platform == "darwin" else 2**10
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
print(json.dumps({"peak_rss_mib": peak, "events": histories.events}))
"""


def measure(log: Path, cores: int) -> dict[str, Any]:
    """One run: prepare_seconds (wall), peak_rss_mib, events."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(log), str(Path(folder) / "prepared")],
            env={**os.environ, "POLARS_MAX_THREADS": str(cores)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds = time.perf_counter() - begin
    return {"prepare_seconds": seconds, **json.loads(done.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, required=True, help="a log that needs no options")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    runs = [measure(options.log, options.cores) for _ in range(options.runs)]
    seconds = [run["prepare_seconds"] for run in runs]
    figures = {
        "prepare_seconds": statistics.median(seconds),
        "prepare_seconds_min": min(seconds),
        "prepare_seconds_max": max(seconds),
        "peak_rss_mib": max(run["peak_rss_mib"] for run in runs),
        "events": runs[0]["events"],
        "runs": options.runs,
        "cores": options.cores,
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
