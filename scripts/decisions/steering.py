"""What steering lists costs and keeps: diversity, exposure, milliseconds."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from jaxdecay import asked, exposure, serving
from jaxdecay.assembly import load_predictor
from jaxdecay.data.requests import requests
from jaxdecay.rank import top_k
from jaxdecay.steered import Steered
from jaxdecay.steering import Steering
from jaxdecay.tradeoff import diversity_tradeoff
from jaxdecay.trained import Run

K, BATCH, TURNS = 10, 256, 9


def diversity(run: Run) -> dict[str, Any]:
    """Distance within lists and NDCG at trade-off 0.5 beside those of plain lists, over all test requests."""
    predictor = load_predictor(run.path)
    held_out = requests(predictor.histories, 2, chosen=True)
    plain, steered = diversity_tradeoff(predictor, held_out, (1.0, 0.5), k=K).rows(named=True)
    return {
        "requests": len(held_out),
        "plain": plain,
        "mmr": steered,
        "distance_change": steered["distance"] / plain["distance"] - 1,
        "ndcg_change": steered["ndcg"] / plain["ndcg"] - 1,
    }


def bounded(run: Run) -> dict[str, Any]:
    """Share of all users' lists that keep to bounds on the exposure of a group."""
    column, value = _group(run)
    at = int(run.histories.time.max()) + 1
    own = set(run.items.filter(pl.col(column).cast(pl.String) == value)["item_id"])
    told: dict[str, Any] = {"group": f"{column}={value}", "items": len(own), "users": run.histories.users}
    plain = _shares(run.recommend(k=K, at=at), own)
    told["plain"] = {"mean": float(plain.mean()), "least": float(plain.min()), "most": float(plain.max())}
    for least, most, trade_off in ((0.3, 1.0, 1.0), (0.0, 0.1, 1.0), (0.2, 0.4, 1.0), (0.2, 0.4, 0.5)):
        steer = Steering(group=column, exposed=(value,), least=least, most=most, trade_off=trade_off)
        shares = _shares(run.recommend(k=K, at=at, steer=steer), own)
        met = (shares >= least) & (shares <= most)
        told[f"{least:g} to {most:g}, trade-off {trade_off:g}"] = {"met": float(met.mean())}
    least = min(float(plain.mean()) + 0.1, 1.0)
    together = Steering(group=column, exposed=(value,), least=least, over="all")
    share = float(_shares(run.recommend(k=K, at=at, steer=together), own).mean())
    told["over all lists"] = {"least": least, "share": share}
    return told


def cost(run: Run) -> dict[str, Any]:
    """Milliseconds a list beyond plain lists of the same scores, in batches of 256: the median of turns."""
    predictor, histories = run.predictor, run.histories
    users = np.argsort(-np.diff(histories.offsets), kind="stable")[:BATCH]  # of the longest histories
    at = np.full(len(users), int(histories.time.max()) + 1)
    some = asked.requests_at(histories, users, at)
    context = asked.context_of(histories, None)[0].take(np.zeros(len(users), int))
    scores = predictor.scores(some, context)
    allowed = np.random.default_rng(0).random(histories.items) < 0.9
    filters = serving.Filters(serving.seen_since(histories), allowed, exclude_seen=True)
    column, value = _group(run)
    share = {"group": column, "exposed": (value,), "least": 0.2, "most": 0.4}
    steers: dict[str, dict[str, Any]] = {
        "mmr": {"trade_off": 0.5},
        "dpp": {"trade_off": 0.5, "diversity": "dpp"},
        "cap": {"group": column, "cap": 2},
        "exposure": share,
        "mmr, cap and exposure": {"trade_off": 0.5, "cap": 4} | share,
        "temperature": {"explore": "temperature", "seed": 0},
    }

    def steered(options: dict[str, Any]) -> Callable[[], Any]:
        maker = Steered(Steering(**options), run.items, predictor, histories)

        def lists() -> Any:
            return maker.one_by_one(maker.moved(some, scores), filters.excluded(histories, some), K)

        return lists

    ways = {"plain": lambda: top_k(scores, K)}
    ways["filters"] = lambda: top_k(scores, K, excluded=filters.excluded(histories, some))
    ways |= {f"filters, {name}": steered(options) for name, options in steers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if turn:  # the first compiles
                seconds[name].append(time.perf_counter() - begin)
    each = {name: 1e3 * statistics.median(took) / len(users) for name, took in seconds.items()}
    told = {name: value - each["plain"] for name, value in each.items() if name != "plain"}
    return {"items": histories.items, "batch": len(users), "plain_ms": each["plain"], "added_ms": told}


def _group(run: Run) -> tuple[str, str]:
    """The text column with the fewest values, and the value of most items; without one, the northern half."""
    items = run.items.drop("index", "item_id")
    texts = [name for name in items.columns if items[name].dtype == pl.String]
    if not texts:
        run.items = run.items.with_columns(
            half=pl.when(pl.col("lat") > pl.col("lat").median())
            .then(pl.lit("north"))
            .otherwise(pl.lit("south"))
        )
        return "half", "north"
    column = min(texts, key=lambda name: items[name].n_unique())
    return column, items[column].drop_nulls().value_counts(sort=True)[column][0]


def _shares(lists: pl.DataFrame, own: set[Any]) -> np.ndarray:
    chosen = lists["item_id"].is_in(list(own)).to_numpy().reshape(-1, K)
    return exposure.share(chosen, np.ones(chosen.shape, bool))
