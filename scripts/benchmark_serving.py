"""What it costs to follow every event, and to list at any moment: figures with medians and 99th percentiles.

    python scripts/benchmark_serving.py --json serving.json
    python scripts/benchmark_serving.py --sections http --run runs/electronics --seconds 60

update: one event into one state, all heads (K=8, D=64), and into the catalogue's trends. sqlite: events made
durable and followed, in batches of 500. redis: one call of a script each, pipelined, states moved on in the
server, which has each write on the disk before it answers. recommend: lists of 20 out of 200,000 items, one
at a time (`scripts/benchmark_topk.py` has more kinds). http: `jaxdecay serve` in a process of its own, asked
for lists at a steady rate while events arrive; times count from when a request was due, so that none that
waits is left out. On Linux everything shares two cores, the load generator included.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_topk import DAY, START, drawn_run, milliseconds, timed
from serving.load import http

from jaxdecay.live.live import Live, events_of
from jaxdecay.serve.follower import Follower
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.service import Service
from jaxdecay.serve.sqlite import SqliteStore
from jaxdecay.serve.store import Delivered, key_of
from jaxdecay.serve.vocabulary import Vocabulary

BATCH = 500


def quantiles(taken: list[float], unit: float) -> dict[str, float]:
    values = unit * np.array(taken)
    return {"median": float(np.median(values)), "p99": float(np.quantile(values, 0.99))}


def update(run: Any, rounds: int = 40) -> dict[str, Any]:
    """Microseconds an event, over users of 40 events whose histories are played again and again."""
    live, states, counted = Live.of(run.predictor), [], []
    histories = run.histories
    for user in range(rounds):
        state = live.init()
        for again in range(5):
            for event in events_of(histories, user, live.weights):
                event = event._replace(at=event.at + again * 60 * DAY)
                begin = time.perf_counter()
                state = live.update(state, event)
                middle = time.perf_counter()
                live.trends.add(event.item, event.at + live.weights.origin)
                states.append(middle - begin)
                counted.append(time.perf_counter() - begin)
    bank = live.weights.similarity.bank
    return {
        "curves": len(bank.rate) if bank is not None else 0,
        "features": live.weights.targets.shape[1],
        "state_us": quantiles(states, 1e6),
        "with_trends_us": quantiles(counted, 1e6),
    }


def delivered(run: Any, batches: int, name: str) -> list[list[Delivered]]:
    random = np.random.default_rng(0)
    users, items = run.users.to_list(), run.items["item_id"].to_list()
    begin = START + 61 * DAY
    return [
        [
            Delivered(
                f"{name}{batch}-{place}",
                users[random.integers(len(users))],
                items[random.integers(len(items))],
                begin + batch,
            )
            for place in range(BATCH)
        ]
        for batch in range(batches)
    ]


def rate(batches: list[list[Delivered]], append: Callable[[list[Delivered]], Any]) -> dict[str, float]:
    """Events a second: of the median batch, and of the slowest in a hundred."""
    taken = []
    for batch in batches:
        begin = time.perf_counter()
        append(batch)
        taken.append(time.perf_counter() - begin)
    return {
        "median_per_s": BATCH / float(np.median(taken)),
        "p99_per_s": BATCH / float(np.quantile(taken, 0.99)),
    }


def sqlite(run: Any, folder: Path, batches: int = 60) -> dict[str, Any]:
    store = SqliteStore(folder / "live.sqlite")
    live = Live.of(run.predictor)
    follower = Follower(live, Vocabulary(run, live.weights), run.histories, store)
    for user in run.users:
        follower.state(user)  # all at hand: each event moves a state

    def followed(events: list[Delivered]) -> None:
        store.append(events)
        follower.follow()

    found = {
        "appended": rate(delivered(run, batches, "a"), store.append),
        "followed": rate(delivered(run, batches, "f"), followed),
    }
    store.close()
    return found


def redis(run: Any, folder: Path, batches: int = 20) -> dict[str, Any] | str:
    from redis_server import MISSING, PROGRAM, Server

    from jaxdecay.serve.moving import Moving
    from jaxdecay.serve.redis import LOG, RedisStore

    if PROGRAM is None:
        return MISSING
    live = Live.of(run.predictor)
    vocabulary = Vocabulary(run, live.weights)
    server = Server(folder)
    try:
        store = RedisStore(server.url)
        moving = Moving(live, vocabulary, store)

        def one_by_one(events: list[Delivered]) -> None:
            """A call of the script for each."""
            pipe = store.client.pipeline(transaction=False)
            for event, known in zip(events, vocabulary.events(events), strict=True):
                assert known is not None
                words = [store.prefix, key_of(event.id), key_of(event.user), json.dumps(event).encode()]
                moving._script(store.keys(*LOG), [*words, moving._adds(known)], client=pipe)
            pipe.execute()

        one_by_one(delivered(run, 1, "load")[0][:1])  # the server learns the script
        found: dict[str, Any] = {
            "durability": store.durability,
            "one_by_one": rate(delivered(run, batches, "r"), one_by_one),
            "batches": rate(delivered(run, batches, "b"), moving.append),
        }
        store.close()
    finally:
        server.stop()
    return found


def recommend(items: int, turns: int = 400) -> dict[str, Any]:
    service = Service(drawn_run(items), MemoryStore())
    users = [f"u{place % 500}" for place in range(turns)]
    for user in users[:50]:
        service.recommend(user, 20)
    return {"items": items, **milliseconds([timed(lambda one: service.recommend(one, 20), u) for u in users])}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sections = ("update", "sqlite", "redis", "recommend", "http")
    parser.add_argument("--sections", nargs="+", choices=sections, default=sections)
    parser.add_argument("--items", type=int, default=200_000, help="of the catalogue that is listed from")
    parser.add_argument(
        "--run", type=Path, help="what is served over HTTP (by default one trained on a drawn log)"
    )
    parser.add_argument("--seconds", type=float, default=60, help="of load over HTTP")
    parser.add_argument("--lists", type=float, default=100, help="asked for a second")
    parser.add_argument("--events", type=float, default=500, help="that arrive a second, ten a delivery")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    found: dict[str, Any] = {"cores": options.cores, "load_average": os.getloadavg()[0]}
    small = drawn_run(2_000) if {"update", "sqlite", "redis"} & set(options.sections) else None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ways: dict[str, Callable[[], Any]] = {
            "update": lambda: update(small),
            "sqlite": lambda: sqlite(small, folder),
            "redis": lambda: redis(small, folder),
            "recommend": lambda: recommend(options.items),
            "http": lambda: http(options, folder),
        }
        for name in options.sections:
            found[name] = ways[name]()
            print(json.dumps({name: found[name]}, indent=1), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
