"""Whether language models give the vectors that sentence-transformers gives, with the same folders.

    python -m venv .venv-text && .venv-text/bin/pip install torch sentence-transformers
    python scripts/parity_text.py --venv .venv-text --items items.parquet --json parity.json

The real model is that of text_model.py. The other architectures have random weights, made and saved by the
peer itself in its own environment. For each: the least cosine and the largest difference of a number over all
texts, which are titles of the items and some that are odd (long, of one letter, of other scripts, of emoji).
Exit status 1 where a cosine is below .9999 or a difference above 1e-4.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import text_model
from peers.sentence_vectors import KINDS

from jaxdecay.embed import Encoder
from jaxdecay.language.load import load

PEER = Path(__file__).parent / "peers" / "sentence_vectors.py"
COSINE, DIFFERENCE = 0.9999, 1e-4
ODD = [
    "a",
    "...",
    "USB-C \u2192 HDMI \U0001f50c\U0001f4fa, 4K\u00b2",
    "\u65e0\u7ebf\u84dd\u7259\u8033\u673a \u964d\u566a",
    "\u0631\u0641 \u0643\u062a\u0628 \u062e\u0634\u0628\u064a",
    "\u0e2b\u0e39\u0e1f\u0e31\u0e07 \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "caf\u00e9 cafe\u0301 \u212bngstr\u00f6m \ufb01lter",
    "Wireless charger, " * 90,
]


def compare(model: Path, texts: list[str], python: Path, scratch: Path) -> dict[str, Any]:
    """Both on the same texts."""
    (scratch / "texts.json").write_text(json.dumps(texts))
    words = [python, PEER, "encode", "--model", model, "--texts", scratch / "texts.json"]
    subprocess.run([*words, "--out", scratch / "theirs.npy"], check=True, stderr=subprocess.DEVNULL)
    theirs = np.load(scratch / "theirs.npy").astype(np.float64)
    ours = Encoder(load(model))(texts).astype(np.float64)
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    apart = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    return {
        "texts": len(texts),
        "width": ours.shape[1],
        "least_cosine": float(cosine.min()),
        "largest_difference": float(np.abs(ours - theirs).max()),
        "mean_cosine_between_texts": float(np.mean(apart @ apart.T)),  # 1 would prove nothing
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venv", type=Path, required=True, help="environment with sentence-transformers")
    parser.add_argument("--items", type=Path, required=True, help="table with a column of titles")
    parser.add_argument("--texts", type=int, default=200, help="titles, the first ones")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    python = options.venv / "bin" / "python"
    titles = pl.read_parquet(options.items)["title"].drop_nulls().unique(maintain_order=True)
    texts = [*titles.head(options.texts).to_list(), *ODD]
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        figures["all-MiniLM-L6-v2"] = compare(text_model.fetch(), texts, python, scratch)
        for kind in KINDS:
            words = [python, PEER, "make", "--kind", kind, "--texts", scratch / "texts.json"]
            done = subprocess.run([*words, "--out", scratch / kind], capture_output=True, text=True)
            if done.returncode:
                print(done.stderr[-2000:], file=sys.stderr)
                return 2
            figures[f"random {kind}"] = compare(scratch / kind, texts, python, scratch)
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    bad = [
        name
        for name, one in figures.items()
        if one["least_cosine"] < COSINE or one["largest_difference"] > DIFFERENCE
    ]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
