"""What every test shares: the processor as the device, strict JAX, hypothesis, and where real logs lie."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# In the environment rather than in jax.config, so that the processes which tests start have them too.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("MPLBACKEND", "agg")
# What is sharded is tested over several devices; all else uses the first.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
# Half the time to compile, for programs that run but once or twice: little optimised, by one thread each.
os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] += " --xla_cpu_parallel_codegen_split_count=1"
# Arrays are so small that threads which wait for a share of them cost more than the work does.
os.environ["XLA_FLAGS"] += " --xla_cpu_multi_thread_eigen=false"
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Lines of Python beside each operation of a program are a tenth of the time, and nobody reads them here.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("JAX_INCLUDE_FULL_TRACEBACKS_IN_LOCATIONS", "0")
# Compiling is most of the time of these tests: workers, child processes and later runs share what it made.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

import hypothesis
import jax
import pytest

if TYPE_CHECKING:
    from lines import Said

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

hypothesis.settings.register_profile(
    "jaxdecay", deadline=None, max_examples=50, derandomize=bool(os.environ.get("CI"))
)
hypothesis.settings.load_profile("jaxdecay")

ROOT = Path(__file__).parents[1]


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not walk through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(scope="module", autouse=True)
def programs() -> Iterator[None]:
    """The programs of one file of tests make room for those of the next: they would come to gigabytes."""
    yield
    jax.clear_caches()


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


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on the log of `tests/tiny.py`. It is shared: copy it before changing it."""
    from tiny import tiny_events, tiny_items, tiny_users

    from jaxdecay.model_options import ModelOptions
    from jaxdecay.recommend import fit
    from jaxdecay.train import TrainOptions

    model = ModelOptions(features=4, modes=2, periods=("1d",))
    train = TrainOptions(epochs=1, settle_epochs=0, batch_targets=256, window=16)
    out = tmp_path_factory.mktemp("tiny") / "run"
    with jax.numpy_rank_promotion("allow"):  # banks broadcast over any rank of ages
        return fit(tiny_events(), out, model=model, train=train, items=tiny_items(), users=tiny_users()).path


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that all tests of a process share: let each take a name of its own."""
    from redis_server import MISSING, PROGRAM, Server

    if PROGRAM is None:
        pytest.skip(MISSING)
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> "Callable[..., Said]":
    """Runs a command line in this process (`tests/lines.py`)."""
    from lines import sayer

    return sayer(capsys)


@pytest.fixture
def refused(say: "Callable[..., Said]") -> Callable[..., str]:
    """The one line of a command that is refused."""
    from lines import refuser

    return refuser(say)
