"""How soon and how surely drift is found, and what it costs: on sequences drawn here, and on the simulated
log."""

import dataclasses
import statistics as middle
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxdecay import divergence, state
from jaxdecay.data.simulate import SimulateOptions, simulate
from jaxdecay.divergence import Paces
from jaxdecay.drift import DriftOptions, detect, statistics
from jaxdecay.live.live import Live, events_of
from jaxdecay.modes import Modes
from jaxdecay.streams import Streams
from jaxdecay.trained import Run

_USERS, _EVENTS, _WIDTH = 400, 240, 32
_WARM, _CHANGE = 60, 120  # events: nothing counts before the first, drift begins at the second
_FAST, _SLOW = 4.0, 40.0  # days
_LIVE = 60  # events of a user
_METHODS = ("divergence", "cosine", "page-hinkley", "cusum")
_DAY = 86_400


def drawn() -> dict[str, Any]:
    """Vectors about a direction of each user's own that, from the 121st of 240 events on, is another
    (abrupt), half another (partial), or becomes another within 40 events (gradual). Gaps are log-normal about
    half a day. The threshold of each method is that which 5 % of users without drift exceed at any of 180
    events."""
    random = np.random.default_rng(0)
    calm = _sequences(random, "none")
    found = {method: _watched(calm, method, calm) for method in _METHODS}
    limit = {method: float(np.quantile(z[:, _WARM:].max(1), 0.95)) for method, z in found.items()}
    report: dict[str, Any] = {}
    for kind in ("abrupt", "partial", "gradual"):
        moved = _sequences(random, kind)
        for method in _METHODS:
            z = _watched(moved, method, calm)
            early = (z[:, _WARM:_CHANGE] > limit[method]).any(1)
            hit = z[:, _CHANGE:] > limit[method]
            there = hit.any(1) & ~early
            delay = float(np.median(hit.argmax(1)[there])) if there.any() else None
            report.setdefault(kind, {})[method] = {"found": float(there.mean()), "delay_events": delay}
    report["as_shipped"] = _as_shipped(random)
    return report


def _as_shipped(random: np.random.Generator) -> dict[str, Any]:
    """Half-lives and threshold as `detect` chooses them, of 400 calm sequences and 100 of partial drift
    together. Alarms of the first 60 events count here, too."""
    calm, moved = _sequences(random, "none"), _sequences(random, "partial").take(np.arange(_USERS // 4))
    streams = Streams(
        np.concatenate([calm.offsets, moved.offsets[1:] + calm.offsets[-1]]),
        np.concatenate([calm.time, moved.time]),
        np.concatenate([calm.item, moved.item + len(calm.vectors)]),
        np.concatenate([calm.vectors, moved.vectors]),
    )
    found = detect(streams)
    rows = found.detections.with_columns(place=pl.col("event") % _EVENTS)
    others = rows.filter(pl.col("stream") < _USERS)["stream"].n_unique()
    after = rows.filter(pl.col("stream") >= _USERS, pl.col("place") >= _CHANGE)
    first = after.group_by("stream").agg(pl.col("place").min())["place"]
    return {
        "alarmed_without_drift": others / _USERS,
        "found": len(first) / (len(streams.offsets) - 1 - _USERS),
        "delay_events": float(np.median(first.to_numpy())) - _CHANGE,
        "threshold": found.threshold,
        "half_lives": found.half_lives,
    }


def simulated(users: int = 500) -> list[dict[str, Any]]:
    """The simulated log at its defaults, and where tastes are strong and habits weak. Events point at
    categories. Of the users who drift, how many are found afterwards, and how far the day on which it began
    by our estimate lies from the planted one."""
    report = []
    strong: dict[str, Any] = {"events_per_user": 360.0, "taste_spread": 2.0, "kappa": 0.001}
    for options in ({}, strong):
        made = simulate(dataclasses.replace(SimulateOptions(users=users), **options))
        streams, names = _streams(made)
        drifting, planted = made.truth["drift"]["user_ids"], made.truth["drift"]["timestamp"]
        found = detect(streams)
        rows = found.detections.with_columns(user=pl.Series(names[found.detections["stream"].to_numpy()]))
        others = set(rows["user"]) - set(drifting)
        first = (
            rows.filter(pl.col("timestamp") >= planted, pl.col("user").is_in(drifting))
            .group_by("user")
            .agg(pl.all().sort_by("timestamp").first())
        )
        days = {name: (first[name].to_numpy() - planted) / _DAY for name in ("timestamp", "since")}
        report.append(
            {
                "options": options,
                "alarmed_without_drift": len(others) / (users - len(drifting)),
                "found": len(first) / len(drifting),
                "median_days_to_detection": float(np.median(days["timestamp"])),
                "median_days_off_planted_date": float(np.median(np.abs(days["since"]))),
            }
        )
    return report


def cost() -> dict[str, Any]:
    """In JAX, for many users at once; where a run serves, `live` says it."""
    return {f"{users} users": _in_jax(users) for users in (512, 4096)}


def _in_jax(users: int, *, modes: int = 8, width: int = 64, rounds: int = 15) -> dict[str, Any]:
    """Microseconds an event of updating a bank's state, in place as in a loop over events: alone, with what
    drift is judged by kept beside two of its modes, and with the statistic read after every event, too;
    medians of rounds that take turns, and how many times the first the others are."""
    random = np.random.default_rng(1)
    rates = jnp.asarray(np.log(2) / np.geomspace(0.1, 400, modes), jnp.float32)
    bank = Modes(rates)
    paces = Paces(rates[3::3], jnp.float32(1.0), jnp.float32(20.0))
    events = jnp.asarray(random.normal(size=(users, width)), jnp.float32)
    squares = jnp.square(events).sum(-1)  # of an item's vector: known beforehand
    writes = jnp.full((users, modes), 1 / modes)
    at = jnp.full(users, 3600, jnp.int32)

    def alone(one: state.State, spread: Any, at: Any, write: Any, event: Any, square: Any) -> Any:
        return state.update(bank, one, at, write, event), spread

    def kept(one: state.State, spread: Any, at: Any, write: Any, event: Any, square: Any) -> Any:
        moved = state.update(bank, one, at, write, event)
        gap = (moved.time - one.time) / _DAY
        return moved, divergence.update(paces, spread, gap, square, write[3::3])

    def read(*given: Any) -> Any:
        moved, spread = kept(*given)
        return moved, spread, divergence.statistic(paces, moved.value[0, 3::3], spread)

    def start() -> Any:
        one = state.init(bank, width), divergence.init()
        return jax.tree.map(lambda x: jnp.tile(x, (users,) + (1,) * x.ndim), one)

    named = {"update": alone, "and_kept": kept, "and_read": read}
    calls = {name: jax.jit(jax.vmap(call), donate_argnums=(0, 1)) for name, call in named.items()}
    held = {name: start() for name in calls}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(20):
                held[name] = jax.block_until_ready(call(*held[name], at, writes, events, squares))[:2]
            if turn:  # the first compiles
                seconds[name].append((time.perf_counter() - begin) / 20)
    each = {name: 1e6 * middle.median(all_of) / users for name, all_of in seconds.items()}
    times = {
        name: sorted(b / a for a, b in zip(seconds["update"], seconds[name], strict=True))
        for name in ("and_kept", "and_read")
    }
    return {
        "microseconds": each,
        "times": {name: [middle.median(all_of), all_of[0], all_of[-1]] for name, all_of in times.items()},
    }


def live(run: Run, *, users: int = 200, rounds: int = 9) -> dict[str, Any]:
    """Microseconds an event costs where a run serves (`jaxdecay.live`, NumPy, a user at a time): all that
    moves the model's own state, then the catalogue's counts, and `jaxdecay.monitor.Monitor`, which keeps its
    modes and reads the statistic after every event; medians of rounds that take turns over the same events.
    ``times``: how many times model and counts alone all three are (median, least, most of the rounds)."""
    served, monitor = Live.of(run.predictor), run.monitor()
    busy = np.argsort(-run.histories.lengths(), kind="stable")[:users]
    events = [events_of(run.histories, int(user), served.weights)[:_LIVE] for user in busy]
    number, origin = sum(map(len, events)), served.weights.origin

    def model() -> None:
        for own in events:
            served.replay(own)

    def counts() -> None:
        for own in events:
            for event in own:
                served.trends.add(event.item, event.at + origin)

    def watched() -> None:
        for own in events:
            watching = monitor.init()
            for event in own:
                watching = monitor.update(watching, event.at + origin, event.item)

    calls = {"model": model, "counts": counts, "drift": watched}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    times = sorted(1 + d / (m + c) for m, c, d in zip(*seconds.values(), strict=True))
    return {
        "events": number,
        "encoder_blocks": run.predictor.model.spec.encoder.blocks,
        "microseconds": {name: 1e6 * middle.median(all_of) / number for name, all_of in seconds.items()},
        "times": [middle.median(times), times[0], times[-1]],
    }


def _sequences(random: np.random.Generator, kind: str) -> Streams:
    before, after = (_unit(random.normal(size=(_USERS, 1, _WIDTH))) for _ in range(2))
    if kind == "partial":
        after = _unit(before + 0.8 * after)
    place = np.arange(_EVENTS)[None, :, None]
    share = {"none": 0.0 * place, "gradual": np.clip((place - _CHANGE) / 40, 0, 1)}.get(
        kind, 1.0 * (place >= _CHANGE)
    )
    noise = random.normal(size=(_USERS, _EVENTS, _WIDTH)) / np.sqrt(_WIDTH)
    vectors = _unit(_unit((1 - share) * before + share * after) + noise)
    gap = random.lognormal(np.log(0.5), 1.5, (_USERS, _EVENTS)) * _DAY
    return Streams(
        np.arange(_USERS + 1) * _EVENTS,
        np.cumsum(gap, axis=1).astype(np.int64).ravel(),
        np.arange(_USERS * _EVENTS),
        vectors.reshape(-1, _WIDTH).astype(np.float32),
    )


def _watched(streams: Streams, method: Any, calm: Streams) -> np.ndarray:
    """(users, events) the statistic, with what vectors vary by among those without drift."""
    vectors = calm.vectors.reshape(_USERS, _EVENTS, _WIDTH)
    variance = np.square(vectors - vectors.mean(axis=1, keepdims=True)).sum(-1).mean()
    rate = jnp.log(2.0) / jnp.array([_FAST, _SLOW])
    paces = Paces(rate, jnp.float32(variance), jnp.float32(20.0))
    return statistics(streams, paces, DriftOptions(method=method)).reshape(_USERS, _EVENTS)


def _streams(made: Any) -> tuple[Streams, np.ndarray]:
    events = made.events.sort("user_id", "timestamp", maintain_order=True)
    names, counts = np.unique(events["user_id"].to_numpy(), return_counts=True)
    index = {item: place for place, item in enumerate(made.items["item_id"])}
    item = events["item_id"].replace_strict(index, return_dtype=pl.Int64).to_numpy()
    codes = made.items["category"].cast(pl.Categorical).to_physical().to_numpy()
    _, codes = np.unique(codes, return_inverse=True)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Streams(offsets, events["timestamp"].to_numpy(), item, np.eye(codes.max() + 1)[codes]), names


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
