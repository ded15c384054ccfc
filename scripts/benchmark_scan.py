"""How fast the recurrence, the reads of a bank and the streaming state are, beside the alternatives.

    python scripts/benchmark_scan.py --json scan.json

Everything is measured in one run, in turns, so that whatever else the machine does meets all alike; figures
are medians over the turns (``..._low``, ``..._high``: the middle half), ratios those of medians. Forward and
backward, float32, 64 dimensions, 8 rates, log-normal gaps between events. Names in the file:

- scan_speedup_b64_l200, scan_speedup_b512_l200: `decay_scan`, vmapped over time-major arrays, against
  `jax.lax.associative_scan` and automatic derivatives;
- scan_over_sequential_b64_l200, scan_over_sequential_b512_l200: the same against a plain `jax.lax.scan` and
  automatic derivatives, which on a processor is the better alternative;
- scan_memory_ratio_b512_l200: its temporary memory as a share of the associative scan's;
- floor_ratio: its time at (512, 200) as a multiple of copying 20 B L D bytes, which it must at least read and
  write; a copy of so many bytes moves twice as many, and traffic_ratio is the multiple of one that moves as
  many;
- cost_flatness: time per event, longest over shortest, from L = 256 to 16,384 at the same number of events;
- million_seconds: a single history of 1,000,000 events;
- bank_speedup_b64_l200: reads of a bank of 8 at every position against an associative scan of its 8 states;
- stream_us_per_event, stream_batch_us_per_event: an update of one user in NumPy, of 10,000 at once in JAX.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecay import state, state_numpy
from jaxdecay.hybrid import read_all
from jaxdecay.modes import Modes
from jaxdecay.scan import decay_scan

WIDTH, RATES = 64, 8
NOT_MEASURED = ["a Pallas kernel: the recurrence has none"]
NO_ACCELERATOR = "anything on an accelerator: there is none here"
DAY = 86_400.0


def rates() -> jax.Array:
    return jnp.asarray(np.log(2) / np.geomspace(1 / 144, 90, RATES), jnp.float32)


def histories(batch: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(L, B) int32 gaps in seconds, (L, B, D) events and cotangents."""
    random = np.random.default_rng(0)
    gap = np.exp(random.normal(np.log(3600.0), 2.5, (length, batch))).clip(0, 2**20).astype(np.int32)
    events, cotangent = (random.standard_normal((length, batch, WIDTH), dtype=np.float32) for _ in range(2))
    return gap, events, cotangent


def plain_scan(rate: jax.Array, gap: jax.Array, events: jax.Array) -> jax.Array:
    """The textbook form: an associative scan over gates and events, derivatives by JAX."""
    gate = jnp.exp(-jnp.repeat(rate, WIDTH // RATES) * gap[:, None])
    return jax.lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (gate, events))[1]


def sequential_scan(rate: jax.Array, gap: jax.Array, events: jax.Array) -> jax.Array:
    """The same in order, derivatives by JAX."""
    gate = jnp.exp(-jnp.repeat(rate, WIDTH // RATES) * gap[:, None])

    def step(state: jax.Array, at: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        state = at[0] * state + at[1]
        return state, state

    return jax.lax.scan(step, jnp.zeros(WIDTH), (gate, events))[1]


def plain_bank(rate: jax.Array, mixture: jax.Array, time: jax.Array, events: jax.Array) -> jax.Array:
    """The textbook form of a bank: an associative scan over the states of all modes, then the mixture."""
    gap = jnp.diff(time, prepend=time[:1]).astype(jnp.float32) / DAY
    shape = (len(time), RATES, WIDTH)
    gate = jnp.broadcast_to(jnp.exp(-rate * gap[:, None])[..., None], shape)
    given = jnp.broadcast_to(events[:, None], shape)
    states = jax.lax.associative_scan(lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (gate, given))[1]
    return jnp.einsum("k,lkd->ld", mixture, states)


def our_bank(rate: jax.Array, mixture: jax.Array, time: jax.Array, events: jax.Array) -> jax.Array:
    weights = jnp.ones((len(time), RATES))
    return read_all(Modes(rate), weights, events, mixture * weights, time)


def both_ways(function: Callable[..., jax.Array], learned: tuple[int, ...], *given: Any) -> Any:
    """Compiled: the value of ``function`` and the pull-back of a cotangent (last of ``given``)."""

    def run(*given: Any) -> Any:
        *arguments, cotangent = given

        def of(*some: Any) -> jax.Array:
            full = list(arguments)
            for place, value in zip(learned, some, strict=True):
                full[place] = value
            return function(*full)

        value, pull = jax.vjp(of, *(arguments[place] for place in learned))
        return value, pull(cotangent)

    return jax.jit(run).lower(*given).compile()


def turns(runs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
    """Seconds of each run, by turns, after one that does not count."""
    for run in runs.values():
        jax.block_until_ready(run())
    times: dict[str, list[float]] = {name: [] for name in runs}
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(next(iter(times.values()))) < 5:
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    return times


def compare(name: str, times: dict[str, list[float]], ours: str, theirs: str) -> dict[str, float]:
    """How many times as fast ``ours`` is: of medians, and the middle half over turns."""
    ratios = sorted(b / a for a, b in zip(times[ours], times[theirs], strict=True))
    quarter = len(ratios) // 4
    return {
        name: statistics.median(times[theirs]) / statistics.median(times[ours]),
        f"{name}_low": ratios[quarter],
        f"{name}_high": ratios[-1 - quarter],
        f"{name}_milliseconds": 1e3 * statistics.median(times[ours]),
    }


def scans(seconds: float) -> dict[str, float]:
    figures = {}
    over_users = {"in_axes": (None, 1, 1), "out_axes": 1}
    for batch in (64, 512):
        gap, events, cotangent = histories(batch, 200)
        given = (rates(), jnp.asarray(gap / np.float32(DAY)), jnp.asarray(events), jnp.asarray(cotangent))
        ours = both_ways(jax.vmap(decay_scan, **over_users), (0, 2), *given)
        theirs = both_ways(jax.vmap(plain_scan, **over_users), (0, 2), *given)
        ordered = both_ways(jax.vmap(sequential_scan, **over_users), (0, 2), *given)
        for one, two in zip(*(jax.tree.leaves(run(*given)) for run in (ours, theirs)), strict=True):
            np.testing.assert_allclose(one, two, atol=1e-4 * float(np.abs(two).max()))
        floor = np.ones(20 * gap.size * WIDTH // 4, np.float32)
        copied = np.empty_like(floor)
        runs: dict[str, Callable[[], Any]] = {
            "ours": lambda run=ours, given=given: run(*given),
            "theirs": lambda run=theirs, given=given: run(*given),
            "ordered": lambda run=ordered, given=given: run(*given),
        }
        if batch == 512:  # where it is compared with; elsewhere it would empty the caches before ours alone
            half = floor.size // 2
            runs["copy"] = partial(np.copyto, copied, floor)
            runs["half"] = partial(np.copyto, copied[:half], floor[:half])
        times = turns(runs, seconds)
        figures |= compare(f"scan_speedup_b{batch}_l200", times, "ours", "theirs")
        figures |= compare(f"scan_over_sequential_b{batch}_l200", times, "ours", "ordered")
        temporary = [run.memory_analysis().temp_size_in_bytes for run in (ours, theirs)]
        figures[f"scan_memory_ratio_b{batch}_l200"] = temporary[0] / temporary[1]
        figures[f"scan_temporary_mib_b{batch}_l200"] = temporary[0] / 2**20
    return figures | {
        "floor_ratio": statistics.median(times["ours"]) / statistics.median(times["copy"]),
        "traffic_ratio": statistics.median(times["ours"]) / statistics.median(times["half"]),
        "copy_gigabytes_per_second": 2 * floor.nbytes / statistics.median(times["copy"]) / 1e9,
    }


def lengths(seconds: float) -> dict[str, Any]:
    """Time per event at one number of events, larger than caches, and a history of a million."""
    runs, total = {}, 2**20
    for length in (256, 1024, 4096, 16_384):
        gap, events, cotangent = histories(total // length, length)
        given = (rates(), jnp.asarray(gap / np.float32(DAY)), jnp.asarray(events), jnp.asarray(cotangent))
        scan = both_ways(jax.vmap(decay_scan, in_axes=(None, 1, 1), out_axes=1), (0, 2), *given)
        runs[str(length)] = lambda run=scan, given=given: run(*given)
    times = turns(runs, 2 * seconds)
    each = {name: statistics.median(found) / total for name, found in times.items()}
    runs.clear()
    gap, events, cotangent = histories(1, 1_000_000)
    given = (
        rates(),
        *(jnp.asarray(x) for x in (gap[:, 0] / np.float32(DAY), events[:, 0], cotangent[:, 0])),
    )
    scan = both_ways(decay_scan, (0, 2), *given)
    start = time.perf_counter()
    value, slopes = jax.block_until_ready(scan(*given))
    assert all(np.isfinite(x).all() for x in (value, *slopes))
    return {
        "cost_flatness": max(each.values()) / min(each.values()),
        "nanoseconds_per_event": {name: 1e9 * value for name, value in each.items()},
        "million_seconds": time.perf_counter() - start,
    }


def banks(seconds: float) -> dict[str, float]:
    gap, events, cotangent = histories(64, 200)
    at = np.cumsum(gap.T, axis=1, dtype=np.int32)
    given = (
        rates(), jnp.full(RATES, 1 / RATES), jnp.asarray(at),
        *(jnp.asarray(x.swapaxes(0, 1)) for x in (events, cotangent)),
    )  # fmt: skip
    over_users = {"in_axes": (None, None, 0, 0)}
    ours = both_ways(jax.vmap(our_bank, **over_users), (0, 1, 3), *given)
    theirs = both_ways(jax.vmap(plain_bank, **over_users), (0, 1, 3), *given)
    for one, two in zip(*(jax.tree.leaves(run(*given)) for run in (ours, theirs)), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-3 * float(np.abs(two).max()))
    times = turns({"ours": lambda: ours(*given), "theirs": lambda: theirs(*given)}, seconds)
    return compare("bank_speedup_b64_l200", times, "ours", "theirs")


def streams(seconds: float, users: int = 10_000, events: int = 1_000) -> dict[str, float]:
    random = np.random.default_rng(0)
    modes = (np.asarray(rates()), None)
    at = np.cumsum(random.integers(0, 9999, events)).tolist()
    writes = random.random((events, RATES), dtype=np.float32)
    values = random.standard_normal((events, WIDTH), dtype=np.float32)
    many = jax.jit(jax.vmap(lambda *given: state.update(Modes(rates()), *given)), donate_argnums=0)
    everybody = jax.vmap(lambda _: state.init(Modes(rates()), WIDTH))(jnp.arange(users))
    news = tuple(jnp.asarray(random.random((users, n), dtype=np.float32)) for n in (RATES, WIDTH))

    def one() -> np.ndarray:
        now = state_numpy.init(modes, WIDTH)
        for each in zip(at, writes, values, strict=True):
            now = state_numpy.update(modes, now, *each)
        return now.value

    def batch() -> jax.Array:
        nonlocal everybody
        everybody = many(everybody, everybody.time + 3600, *news)
        return everybody.value

    times = turns({"one": one, "batch": batch}, seconds)
    figures = {}
    for name, found, count in (("us", "one", events), ("batch_us", "batch", users)):
        each = [1e6 * x / count for x in sorted(times[found])]
        figures[f"stream_{name}_per_event"] = statistics.median(each)
        figures[f"stream_{name}_per_event_low"] = each[len(each) // 4]
        figures[f"stream_{name}_per_event_high"] = each[-1 - len(each) // 4]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--seconds", type=float, default=15.0, help="of turns for each comparison")
    options = parser.parse_args()
    device = jax.devices()[0]
    figures: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "device": device.device_kind,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "not_measured": NOT_MEASURED + ([NO_ACCELERATOR] * (device.platform == "cpu")),
    }
    for part in (scans, banks, lengths, streams):
        figures |= part(options.seconds)
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
