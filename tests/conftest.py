"""What every test shares: the processor as the device, strict JAX, hypothesis, and where real logs lie."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("MPLBACKEND", "agg")

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

hypothesis.settings.register_profile(
    "jaxdecay", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("jaxdecay")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_log() -> Callable[[str], Path]:
    """`shared_log("foursquare")` is the path of that log; the test is skipped where there is none."""

    def find(name: str) -> Path:
        path = ROOT.parent / "shared" / "data" / name / "events.parquet"
        if not path.exists():
            pytest.skip(f"the log {name!r} does not lie in ../shared/data")
        return path

    return find
