"""How long a list of 20 takes out of a large catalogue, everything from the request to the ids included.

    python scripts/benchmark_topk.py --items 200000 --json topk.json

The model is drawn, not trained: items in 500 clusters, popular as by Zipf's law, popularity and revisit heads
with their half-lives, users of three clusters each with 40 events. The tables (`jaxdecay.live.lists.TABLES`)
take turns, 20 requests at a time, so that a machine that changes its pace shows in all of them; the first
five of a turn, in which a table comes back into the processor's cache, are not counted. Where an event is
counted between any two requests, popularity is made anew for each. "seen left out" reads the user's events
again for each list. On Linux the process may use two cores.
"""

import argparse
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import polars as pl

from jaxdecay.assembly import assemble, predictor
from jaxdecay.configure import configure
from jaxdecay.data.histories import Histories
from jaxdecay.live.lists import TABLES
from jaxdecay.model_options import ModelOptions
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.service import Service
from jaxdecay.train import TrainOptions, init_params

START, DAY = 1_700_006_400, 86_400
K, KINDS, USERS = 20, 500, 500
TURN = 20


def drawn_run(items: int, users: int = USERS, *, features: int = 64, seed: int = 0) -> Any:
    """What a `Service` reads of a run: a model of a drawn log with drawn parameters."""
    random = np.random.default_rng(seed)
    drawn, kind = 40 * users, random.integers(0, KINDS, items)
    weight = random.permutation(1.0 / np.arange(1, items + 1))
    own = []
    for _ in range(users):
        chance = weight * np.isin(kind, random.integers(0, KINDS, 3))
        own.append(random.choice(items, 40, p=chance / chance.sum()))
    item = np.concatenate([np.arange(items), *own])
    user = np.concatenate([np.full(items, users), np.repeat(np.arange(users), 40)])
    again = np.flatnonzero(random.random(drawn) < 0.3)[1:] + items
    item[again] = item[again - 1]
    when = START + np.sort(random.integers(0, 60 * DAY, len(item)))
    order = random.permutation(len(item))
    histories = Histories.from_arrays(
        user[order], item[order], when, config={"repeat_share": 0.3, "split": {"kind": "global-time"}}
    )
    options = ModelOptions(features=features)
    made = assemble(histories, configure(histories, options), options, TrainOptions())
    params = jax.jit(lambda constants: init_params(made.model, constants, 0))(made.constants)
    params = jax.tree.map(lambda x: x + 0.1 * random.normal(size=x.shape).astype(np.float32), params)
    vectors = random.normal(size=(KINDS, features))[kind] + 0.7 * random.normal(size=(items, features))
    params["similarity"]["embedding"] = np.float32(0.3 * vectors)
    # As trained runs have them: lists hold a few own items and many others.
    params["similarity"]["log_temperature"] = np.float32(3.0)
    params["popularity"]["exponent"] = np.float32(1.2)
    params["revisit"]["level"] = np.float32(-5.0)
    system = predictor(made, params)
    return SimpleNamespace(
        predictor=system,
        before_store=system,
        histories=histories,
        items=pl.DataFrame({"index": np.arange(items), "item_id": [f"i{one}" for one in range(items)]}),
        users=pl.Series("user_id", [f"u{one}" for one in range(users + 1)]),
    )


def timed(ask: Callable[[str], Any], user: str) -> float:
    """Seconds."""
    begin = time.perf_counter()
    ask(user)
    return time.perf_counter() - begin


def milliseconds(taken: list[float]) -> dict[str, float]:
    values = 1e3 * np.array(taken)
    return {"median_ms": float(np.median(values)), "p99_ms": float(np.quantile(values, 0.99))}


def ways_to_ask(services: dict[str, Service], denied: list[str]) -> dict[str, Callable[[str], Any]]:
    exact = services["float32"]
    ways: dict[str, Callable[[str], Any]] = {
        name: functools.partial(one.recommend, k=K) for name, one in services.items()
    }

    def after_an_event(user: str) -> Any:
        trends = exact._live.trends
        trends.add(int(user[1:]), trends.latest + 1)
        return exact.recommend(user, K)

    ways["float32, an event between"] = after_an_event
    ways["float32, items denied"] = functools.partial(exact.recommend, k=K, deny=denied)
    ways["float32, seen left out"] = functools.partial(exact.recommend, k=K, exclude_seen=True)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--turns", type=int, default=20, help=f"of {TURN} requests of each kind")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    run = drawn_run(options.items)
    services, built = {}, {}
    for name in dict.fromkeys(["float32", *options.tables]):
        begin = time.perf_counter()
        services[name] = Service(run, MemoryStore(), table=name)
        built[name] = {"seconds": time.perf_counter() - begin, "notes": services[name].notes}
        print(f"{name}: {built[name]['seconds']:.1f} s", *services[name].notes)
    ways = ways_to_ask(services, [f"i{one}" for one in range(0, options.items, 1000)])
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.turns):
        for name, ask in ways.items():
            times = [timed(ask, f"u{(TURN * turn + place) % USERS}") for place in range(TURN)]
            taken[name] += times[5:]
    figures = {
        "items": options.items,
        "cores": options.cores,
        "load_average": os.getloadavg()[0],
        "built": built,
        "requests": {name: milliseconds(times) for name, times in taken.items()},
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
