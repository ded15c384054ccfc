r"""A log whose half-lives are known, because they were planted.

At the times of its events (a bursty renewal process) a user chooses item :math:`i` with probability

.. math:: P(i \mid u, t) = \frac{b_i(u, t) + \kappa \sum_{j:\, i_j = i} w_j \, \varphi_{c(i)}(t - t_j)}
                                {1 + \kappa \sum_j w_j \, \varphi_{c(i_j)}(t - t_j)}

The sums run over the user's earlier rows; :math:`w_j` is 1 for a view and ``buy_strength`` for a buy;
:math:`\varphi` is the kernel of `jaxdecay.data.planted`; and :math:`b` sums to 1 over the items born by then,

.. math:: b_i(u, t) \propto a_i \, (f + (1 - f) \, 2^{-(t - \mathrm{birth}_i) / h})
                           \, \exp(\mathrm{taste}_{u, c(i)}(t)) :

attractiveness that ages towards a floor, times a taste for categories that some users draw anew on the day of
the drift.

Nothing here is shared with the model that is to recover the half-lives. The log and its truth follow from the
options alone: the same options give the same bytes (with the same versions of NumPy and Polars).
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay.data.planted import DAY, SimulateOptions, World, draw_world, half_life_of, start_seconds
from jaxdecay.data.titles import titles

__all__ = ["SimulateOptions", "Simulated", "simulate", "write"]

COUNTRIES = ("DE", "FR", "IN", "JP", "US")
CELLS = 2_000_000  # users x items weighed at once, so that memory does not grow with the number of users


class Simulated(NamedTuple):
    """A simulated log: one row per event (by time), per item, per user, and the truth, JSON-able."""

    events: pl.DataFrame
    """user_id (Int64), item_id (String), timestamp (Int64 seconds), and behaviour where there are buys"""
    items: pl.DataFrame
    """item_id, title, category, price (some missing), created (Int64 seconds)"""
    users: pl.DataFrame
    """user_id, age (some missing), country"""
    truth: dict[str, Any]


def simulate(options: SimulateOptions = SimulateOptions()) -> Simulated:  # noqa: B008 (frozen)
    """Draw the world, the event times and the choices."""
    world = draw_world(options)
    offsets, time = event_times(options)
    rng = np.random.default_rng([options.seed, 2])
    luck, bought = rng.random(len(time)), rng.random(len(time)) < options.buy_share
    item = choices(world, offsets, time, luck, np.where(bought, options.buy_strength, 1.0))
    user = np.repeat(np.arange(options.users), np.diff(offsets))
    events = _events(options, user, item, time, bought)
    items, users = _items(world), _users(options)
    return Simulated(events, items, users, _truth(world, user, item))


def write(simulated: Simulated, out_dir: str | Path) -> None:
    """Write events.parquet, items.parquet, users.parquet and, last, truth.json into a folder."""
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    simulated.events.write_parquet(folder / "events.parquet")
    simulated.items.write_parquet(folder / "items.parquet")
    simulated.users.write_parquet(folder / "users.parquet")
    (folder / "truth.json").write_text(json.dumps(simulated.truth, indent=2) + "\n", encoding="utf-8")


def event_times(options: SimulateOptions) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (U+1,) and int64 times (E,), ascending for each user; every user has at least one event.

    Gaps are log-normal with the spread ``burstiness``; a share ``same_time`` of them is zero.
    """
    rng = np.random.default_rng([options.seed, 1])
    span = round(options.days * DAY)
    spread = options.activity_spread
    rate = np.exp(rng.normal(-(spread**2) / 2, spread, options.users)) * options.events_per_user / span
    log_gap = -np.log(rate) - np.log1p(-options.same_time)  # of the gaps that are not zero
    first = rng.uniform(0, min(options.joining_days * DAY, span), options.users)
    times = [_user_times(rng, options, first[u], log_gap[u], span) for u in range(options.users)]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in times])])
    return offsets, start_seconds(options.start) + np.concatenate(times)


def _user_times(
    rng: np.random.Generator, options: SimulateOptions, first: float, log_gap: float, span: int
) -> np.ndarray:
    """Times (n,) of one user in whole seconds since the start, ``first`` included; log_gap: of the mean."""
    times = np.array([first])
    block = 8 + int(2 * (span - first) * np.exp(-log_gap))
    while times[-1] < span:
        gaps = rng.lognormal(log_gap - options.burstiness**2 / 2, options.burstiness, block)
        gaps[rng.random(block) < options.same_time] = 0
        times = np.concatenate([times, times[-1] + np.cumsum(gaps)])
    return times[times < span].astype(np.int64)


def choices(
    world: World, offsets: np.ndarray, time: np.ndarray, luck: np.ndarray, strength: np.ndarray
) -> np.ndarray:
    """Items (E,) chosen at times (E,) seconds; luck: (E,) uniform numbers; strength: (E,) what events write.

    All users take their first step together, then their second, and so on; the busiest users come first, so
    that those who still have a step to take are always the leading ones.
    """
    counts = np.diff(offsets)
    item = np.full(len(time), -1, dtype=np.int64)
    busiest = np.argsort(-counts, kind="stable")
    block = max(1, CELLS // world.options.items)
    for begin in range(0, len(busiest), block):
        users = busiest[begin : begin + block]
        for step in range(counts[users[0]]):
            users = users[: np.searchsorted(-counts[users], -step)]
            _step(world, users, offsets[users] + step, step, item, time, luck, strength)
    return item


def _step(
    world: World,
    users: np.ndarray,
    row: np.ndarray,
    step: int,
    item: np.ndarray,
    time: np.ndarray,
    luck: np.ndarray,
    strength: np.ndarray,
) -> None:
    """Choose the items of rows (n,), the step-th event of users (n,) each, and write them into ``item``."""
    n, items = len(users), world.options.items
    weight = world.base(users, time[row])
    if step:
        past = row[:, None] - step + np.arange(step)
        gap = time[row][:, None] - time[past]
        written = world.options.kappa * strength[past] * world.excitation(gap / DAY, item[past])
        cell = np.arange(n)[:, None] * items + item[past]
        weight += np.bincount(cell.ravel(), written.ravel(), minlength=n * items).reshape(n, items)
        free = weight.copy()
        free.ravel()[cell[gap == 0]] = 0  # no exact duplicates, which cleaning would drop ...
        weight = np.where(free.any(axis=1, keepdims=True), free, weight)  # ... while there is anything else
    bounds = np.cumsum(weight, axis=1)
    item[row] = (bounds <= luck[row][:, None] * bounds[:, -1:]).sum(axis=1)


def _item_ids(options: SimulateOptions) -> np.ndarray:
    width = len(str(options.items))
    return np.array([f"i{number:0{width}d}" for number in range(1, options.items + 1)])


def _events(
    options: SimulateOptions, user: np.ndarray, item: np.ndarray, time: np.ndarray, bought: np.ndarray
) -> pl.DataFrame:
    columns = {"user_id": user + 1, "item_id": _item_ids(options)[item], "timestamp": time}
    if options.buy_share > 0:
        columns["behaviour"] = np.where(bought, "buy", "view")
    return pl.DataFrame(columns).sort("timestamp", maintain_order=True)


def _items(world: World) -> pl.DataFrame:
    options = world.options
    rng = np.random.default_rng([options.seed, 3])
    names = [options.categories[index] for index in world.category]
    price = np.round(np.exp(rng.normal(2.5, 0.8, options.items)), 2)
    return pl.DataFrame(
        {
            "item_id": _item_ids(options),
            "title": titles(rng, names),
            "category": names,
            "price": np.where(rng.random(options.items) < 0.1, np.nan, price),
            "created": world.birth,
        }
    ).with_columns(pl.col("price").fill_nan(None))


def _users(options: SimulateOptions) -> pl.DataFrame:
    rng = np.random.default_rng([options.seed, 4])
    age = pl.Series(rng.integers(16, 80, options.users))
    known = pl.Series(rng.random(options.users) >= 0.15)
    country = np.array(COUNTRIES)[rng.integers(len(COUNTRIES), size=options.users)]
    frame = pl.DataFrame({"user_id": np.arange(1, options.users + 1), "age": age, "country": country})
    return frame.with_columns(pl.when(known).then(pl.col("age")).alias("age"))


def _truth(world: World, user: np.ndarray, item: np.ndarray) -> dict[str, Any]:
    options = world.options
    repeats = 1 - len(np.unique(user * options.items + item)) / len(item)
    return {
        "format": 1,
        "seed": options.seed,
        "categories": {
            name: {
                "half_life_days": half_life_of(half_life, float(swing), options.period),
                "envelope_half_life_days": half_life,
                "period_days": options.period if swing > 0 else None,
                "swing": float(swing),
                "events": int((world.category[item] == index).sum()),
            }
            for index, (name, half_life, swing) in enumerate(
                zip(options.categories, options.half_lives, world.swing, strict=True)
            )
        },
        "kappa": options.kappa,
        "popularity_half_life_days": options.popularity_half_life,
        "popularity_floor": options.popularity_floor,
        "behaviours": {"view": 1.0, "buy": options.buy_strength} if options.buy_share > 0 else {"view": 1.0},
        "drift": {
            "day": options.drift_day,
            "timestamp": world.drift_time,
            "user_ids": (world.drifting + 1).tolist(),
        },
        "events": len(item),
        "repeat_share": repeats,
        "options": asdict(options),
    }
