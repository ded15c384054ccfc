"""How fast titles are encoded, beside sentence-transformers on the same cores, and what the command needs.

    python -m venv .venv-text && .venv-text/bin/pip install torch sentence-transformers
    python scripts/benchmark_text.py --venv .venv-text --items items.parquet --json text.json

Both run on the first two cores that this process may use, in turns: one is idle while the other works. A turn
is all of the sampled titles from text to vectors, on the same cores, with what was compiled kept; the first
turn of each is not counted. Then all titles go through the command once, in a fresh process with an empty
cache, from its start to its end; peak memory is that of the process.
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

import polars as pl
import text_model

PEER = Path(__file__).parent / "peers" / "sentence_vectors.py"
OURS = """
import json, sys, time
from pathlib import Path
import jax
from jaxdecay.embed import Encoder
from jaxdecay.language.load import load
texts = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
encoder = Encoder(load(sys.argv[1]), warm=True)
encoder(texts)
print("ready", flush=True)
for _ in sys.stdin:
    begin = time.perf_counter()
    encoder(texts)
    print(time.perf_counter() - begin, flush=True)
"""
COMMAND = """
import json, resource, sys
from jaxdecay.cli import main
status = main(sys.argv[1:])
scale = 2**20 if sys.platform == "darwin" else 2**10
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale))
sys.exit(status)
"""


class Side:
    """A process that encodes all texts for each line it is given."""

    def __init__(self, words: list[Any]) -> None:
        self._process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout
        if self._process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{words[0]} could not begin; see the help for what its environment needs")

    def turn(self) -> float:
        """Seconds."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def side_by_side(texts: list[str], model: Path, python: Path, turns: int, scratch: Path) -> dict[str, Any]:
    """Texts per second of both, and the ratio turn by turn."""
    file = scratch / "texts.json"
    file.write_text(json.dumps(texts))
    ours = Side([sys.executable, "-c", OURS, model, file])
    theirs = Side([python, PEER, "serve", "--model", model, "--texts", file])
    both = [(side.turn() for side in (ours, theirs)) for _ in range(turns + 1)]
    seconds = [tuple(pair) for pair in both][1:]
    ours.close()
    theirs.close()
    ratios = [peer / own for own, peer in seconds]
    return {
        "texts": len(texts),
        "turns": turns,
        "ours_texts_per_second": len(texts) / statistics.median(own for own, _ in seconds),
        "peer_texts_per_second": len(texts) / statistics.median(peer for _, peer in seconds),
        "ours_over_peer": statistics.median(ratios),
        "ours_over_peer_least": min(ratios),
        "ours_over_peer_most": max(ratios),
    }


def whole(items: Path, model: Path, scratch: Path) -> dict[str, Any]:
    """All titles through the command."""
    words = ["embed", items, "--model", model, "--out", scratch / "out.parquet", "--cache", scratch / "cache"]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, words)], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - begin
    rows = len(pl.read_parquet(scratch / "out.parquet"))
    return {
        "command_rows": rows,
        "command_seconds": seconds,
        "command_peak_mib": json.loads(done.stdout.splitlines()[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, required=True, help="environment with sentence-transformers")
    parser.add_argument("--items", type=Path, required=True, help="table with a column of titles")
    parser.add_argument("--texts", type=int, default=1000, help="titles in a turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    titles = pl.read_parquet(options.items)["title"].drop_nulls().unique(maintain_order=True)
    sampled = titles.sample(min(options.texts, len(titles)), seed=0).to_list()
    model = text_model.fetch()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        python = options.venv / "bin" / "python"
        figures = {
            "cores": options.cores,
            **side_by_side(sampled, model, python, options.turns, scratch),
            **whole(options.items, model, scratch),
            "load_average": os.getloadavg()[0],
        }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
