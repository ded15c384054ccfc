"""Asks a served run for minutes whatever its OpenAPI document allows, and what it does not, while events come
in: no answer may be a fault of the server, none may take long, and memory may not grow.

    python scripts/fuzz_serving.py RUN --minutes 10 --json FILE

In one process, through ASGI, over a store of SQLite that is thrown away. Ends with status 1 when something is
wrong.
"""

import argparse
import contextlib
import json
import resource
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

from jaxdecay.commands.live import open_service
from jaxdecay.serve.http import application
from jaxdecay.serve.limits import Limits
from jaxdecay.serve.reload import Serving
from jaxdecay.serve.telemetry import Telemetry

SLOW = 5.0  # seconds: an answer that takes longer hangs


@contextlib.contextmanager
def served(run: Path) -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as scratch:
        store = str(Path(scratch) / "live.sqlite")
        with contextlib.closing(Serving(run, lambda: open_service(run, store))) as serving:
            yield application(serving, Limits(rate=0, seconds=60), Telemetry())


def mebibytes() -> float:
    """What this process has in memory at the moment."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def ask(operation: Any, answers: Counter[str], slowest: dict[str, float], number: int) -> None:
    """A hundred questions of one kind."""
    every = operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @seed(number)
    @settings(
        max_examples=100, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=every)
    def one(case: Any) -> None:
        begin = time.perf_counter()
        found = case.call()
        seconds = time.perf_counter() - begin
        answers[f"{found.status_code}"] += 1
        slowest[operation.label] = max(slowest.get(operation.label, 0.0), seconds)
        if found.status_code >= 500:
            print(f"{found.status_code}: {case.as_curl_command()}\n{found.text[:300]}", file=sys.stderr)

    one()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    answers: Counter[str] = Counter()
    slowest: dict[str, float] = {}
    memory: list[float] = []
    with served(asked.run) as app:
        document: Any = schemathesis.openapi.from_asgi("/openapi.json", app)
        operations = [found.ok() for found in document.get_all_operations()]
        end, rounds = time.monotonic() + 60 * asked.minutes, 0
        while time.monotonic() < end:
            for operation in operations:
                ask(operation, answers, slowest, asked.seed + rounds)
            rounds += 1
            memory.append(mebibytes())
            if rounds == 2:  # everything has been compiled
                slowest.clear()
    # Half of the rounds fill what is kept at hand.
    grown = memory[-1] - memory[len(memory) // 2]
    faults = sum(count for status, count in answers.items() if status >= "500")
    report = {
        "seed": asked.seed, "questions": answers.total(), "answers": dict(sorted(answers.items())),
        "faults": faults, "slowest_seconds": slowest, "memory_mib": memory, "grown_mib": grown,
    }  # fmt: skip
    print(json.dumps(report, indent=1))
    if asked.json is not None:
        asked.json.write_text(json.dumps(report, indent=1) + "\n")
    return int(bool(faults) or max(slowest.values(), default=0.0) > SLOW)


if __name__ == "__main__":
    sys.exit(main())
