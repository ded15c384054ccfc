"""The two scripts in a clean clone: they make their own environments, so they need minutes and a network.

Run where ``CLEAN_CLONE=1`` says so, as ``.ci/run`` does.
"""

import os
import subprocess
from pathlib import Path

import pytest
from tiny import tiny_events, tiny_items

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    os.environ.get("CLEAN_CLONE") != "1", reason="installs twice: set CLEAN_CLONE=1 to run it"
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "clone"
    subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
    return folder


def bash(clone: Path, *words: str, at: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        ["bash", *words], cwd=at, env=environment | {"WORKERS": "1"}, capture_output=True, text=True
    )


def test_demo_does_the_main_job_on_any_log(clone: Path, tmp_path: Path) -> None:
    tiny_events().write_csv(tmp_path / "plays.csv")
    tiny_items().write_parquet(tmp_path / "items.parquet")
    done = bash(clone, f"{clone}/scripts/demo.sh", "plays.csv", at=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    for part in ("Half-lives", "decayed own counts", "Ten recommendations for user", "Written:"):
        assert part in done.stdout
    written = [line.strip() for line in done.stdout.partition("Written:")[2].splitlines() if "/" in line]
    assert len(written) >= 6
    for path in written:
        assert any((folder / path).exists() for folder in (clone, tmp_path)), path


def test_test_lints_checks_types_and_runs_tests(clone: Path) -> None:
    done = bash(clone, "scripts/test.sh", "tests/test_durations.py", at=clone)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    (clone / "jaxdecay" / "unused.py").write_text("import os\n")
    done = bash(clone, "scripts/test.sh", "tests/test_durations.py", at=clone)
    assert done.returncode != 0
    assert "F401" in done.stdout + done.stderr
