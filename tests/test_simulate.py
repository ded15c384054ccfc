"""The simulator: reproducible, faithful to its formula, and with what was planted there to be found."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from jaxdecay.data.planted import DAY, draw_world, kernel, start_seconds
from jaxdecay.data.simulate import Simulated, SimulateOptions, choices, event_times, simulate, write

SMALL = SimulateOptions(users=40, items=30, days=30.0, drift_day=20.0, events_per_user=15.0)
HALF_LIVES = {"news": 0.5, "videos": 2.0, "music": 7.0, "books": 90.0}  # days, without the weekly category
TELLING = SimulateOptions(users=700, taste_spread=1.5, popularity_half_life=10.0, popularity_floor=0.02)
FILES = ("events.parquet", "items.parquet", "users.parquet", "truth.json")


@pytest.fixture(scope="module")
def telling() -> Simulated:
    return simulate(TELLING)


def joined(simulated: Simulated) -> pl.DataFrame:
    return simulated.events.join(simulated.items, on="item_id", maintain_order="left")


def same_item_pairs(simulated: Simulated, category: str) -> pl.DataFrame:
    """Ages in days of a user's earlier events in the category, and whether they were of the same item."""
    events = joined(simulated).filter(pl.col("category") == category).with_row_index("row")
    later = events.select("row", "user_id", "item_id", "timestamp")
    return (
        later.join(later, on="user_id", suffix="_past")
        .filter(pl.col("row_past") < pl.col("row"))
        .select(
            age=(pl.col("timestamp") - pl.col("timestamp_past")) / DAY,
            same=pl.col("item_id") == pl.col("item_id_past"),
        )
    )


def test_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    options = replace(SMALL, buy_share=0.2, same_time=0.1)
    write(simulate(options), tmp_path / "a")
    write(simulate(options), tmp_path / "b")
    write(simulate(replace(options, seed=1)), tmp_path / "other")
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_files_hold_the_frames_and_the_truth(tmp_path: Path) -> None:
    simulated = simulate(SMALL)
    write(simulated, tmp_path)
    assert pl.read_parquet(tmp_path / "events.parquet").equals(simulated.events)
    assert pl.read_parquet(tmp_path / "items.parquet").equals(simulated.items)
    assert pl.read_parquet(tmp_path / "users.parquet").equals(simulated.users)
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["seed"] == SMALL.seed
    assert truth["options"] == json.loads(json.dumps(asdict(SMALL)))
    assert truth["kappa"] == SMALL.kappa
    assert truth["popularity_half_life_days"] == SMALL.popularity_half_life
    assert truth["events"] == len(simulated.events) == sum(c["events"] for c in truth["categories"].values())
    assert truth["drift"]["timestamp"] == start_seconds(SMALL.start) + 20 * DAY
    assert len(truth["drift"]["user_ids"]) == round(SMALL.drift_share * SMALL.users)
    assert set(truth["drift"]["user_ids"]) <= set(simulated.users["user_id"])
    repeats = 1 - simulated.events.select("user_id", "item_id").n_unique() / len(simulated.events)
    assert truth["repeat_share"] == pytest.approx(repeats)
    for name, half_life in zip(SMALL.categories, SMALL.half_lives, strict=True):
        planted = truth["categories"][name]
        assert planted["envelope_half_life_days"] == half_life
        assert planted["period_days"] == (7.0 if name == "food" else None)
        assert kernel(planted["half_life_days"], half_life, planted["swing"], 7.0) == pytest.approx(0.5)


def test_frames_keep_the_contract_of_events_items_and_users() -> None:
    events, items, users, _ = simulate(SMALL)
    assert events.schema == {"user_id": pl.Int64, "item_id": pl.String, "timestamp": pl.Int64}
    assert events["timestamp"].is_sorted()
    assert events.null_count().sum_horizontal().item() == 0
    start = start_seconds(SMALL.start)
    assert events["timestamp"].is_between(start, start + 30 * DAY, closed="left").all()
    assert items["item_id"].is_unique().all()
    assert users["user_id"].is_unique().all()
    assert set(events["item_id"]) <= set(items["item_id"])
    assert set(events["user_id"]) == set(users["user_id"])  # everyone has an event
    assert (items["title"].str.len_chars() > 5).all()
    assert 0 < items["price"].null_count() < len(items)
    assert 0 < users["age"].null_count() < len(users)
    assert items.group_by("category").len()["len"].to_list() == [6] * 5


def test_buys_are_marked_and_their_strength_is_in_the_truth() -> None:
    events, _, _, truth = simulate(replace(SMALL, buy_share=0.25, buy_strength=4.0))
    assert set(events["behaviour"]) == {"view", "buy"}
    assert (events["behaviour"] == "buy").mean() == pytest.approx(0.25, abs=0.06)
    assert truth["behaviours"] == {"view": 1.0, "buy": 4.0}


def test_choices_follow_the_formula() -> None:
    """Against a plain loop over users, events, items and past events."""
    options = replace(SMALL, users=6, items=8, days=60.0, drift_day=20.0, swing=0.8)
    world = draw_world(options)
    offsets, time = event_times(options)
    rng = np.random.default_rng(5)
    luck, strength = rng.random(len(time)), rng.choice([1.0, 3.0], len(time))
    item = choices(world, offsets, time, luck, strength)
    for user in range(options.users):
        for row in range(offsets[user], offsets[user + 1]):
            now = time[row]
            taste = world.taste[1 if now >= world.drift_time else 0, user]
            base = np.zeros(8)
            for i in range(8):
                if now >= world.birth[i]:
                    faded = 2 ** (-(now - world.birth[i]) / DAY / options.popularity_half_life)
                    popularity = world.attractiveness[i] * (0.3 + 0.7 * faded)
                    base[i] = popularity * np.exp(taste[i % 5])
            weight = base / base.sum()
            for past in range(offsets[user], row):
                age, c = (now - time[past]) / DAY, item[past] % 5
                phi = 2 ** (-age / options.half_lives[c])
                if options.categories[c] in options.weekly_categories:
                    phi *= 1 - 0.8 + 0.8 * (1 + np.cos(2 * np.pi * age / 7)) / 2
                weight[item[past]] += options.kappa * strength[past] * phi
            chance = weight / weight.sum()
            low, high = chance[: item[row]].sum(), chance[: item[row] + 1].sum()
            assert low - 1e-12 <= luck[row] <= high + 1e-12


def test_users_may_be_taken_in_any_number_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = simulate(SMALL)
    monkeypatch.setattr("jaxdecay.data.simulate.CELLS", 7 * SMALL.items)
    assert simulate(SMALL).events.equals(whole.events)


def test_nothing_is_chosen_before_its_birth(telling: Simulated) -> None:
    events = joined(telling)
    assert (events["timestamp"] >= events["created"]).all()
    assert (telling.items["created"] > events["timestamp"].min()).mean() == pytest.approx(0.5, abs=0.1)


def same_share(simulated: Simulated, category: str, low: float, high: float) -> float:
    """Share of the pairs of events in a category, at ages in [low, high), that are of one item."""
    pairs = same_item_pairs(simulated, category).filter(pl.col("age").is_between(low, high, closed="left"))
    return int(pairs["same"].sum()) / len(pairs)


def test_interest_in_an_item_fades_sooner_where_the_half_life_is_shorter(telling: Simulated) -> None:
    kept = {name: same_share(telling, name, 2, 5) / same_share(telling, name, 0, 0.5) for name in HALF_LIVES}
    assert list(kept.values()) == sorted(
        kept.values()
    )  # 3.5 days are 7 half-lives of news, 1/25 of one of books
    assert kept["books"] > 1.5 * kept["news"]


def test_the_weekly_category_comes_back_after_a_week(telling: Simulated) -> None:
    # planted: 0.85 of the first weight after a week, 0.28 after half of it
    assert same_share(telling, "food", 6.5, 7.5) > 1.2 * same_share(telling, "food", 3, 4)
    assert same_share(telling, "music", 6.5, 7.5) < same_share(telling, "music", 3, 4)


def test_items_are_chosen_less_as_they_age(telling: Simulated) -> None:
    """Of the items born during the log; first choices only, since repeats are past choices coming back."""
    events = joined(telling).unique(["user_id", "item_id"], keep="first", maintain_order=True)
    start, end = events["timestamp"].to_numpy()[[0, -1]]
    newborn = events.filter(pl.col("created").is_between(start, end - 60 * DAY))
    age = ((newborn["timestamp"] - newborn["created"]) / DAY).to_numpy()
    young, old = (age < 20).sum(), ((age >= 40) & (age < 60)).sum()
    assert young > 2 * old


def test_only_drifting_users_change_their_tastes(telling: Simulated) -> None:
    drift = telling.truth["drift"]
    counts = (
        joined(telling)
        .unique(["user_id", "item_id"], keep="first")
        .with_columns(after=pl.col("timestamp") >= drift["timestamp"])
        .pivot("category", index=["user_id", "after"], values="item_id", aggregate_function="len")
        .fill_null(0)
    )
    profile = counts.select(
        pl.exclude("user_id", "after") / counts.select(pl.exclude("user_id", "after")).sum_horizontal()
    )
    known = pl.concat([counts.select("user_id", "after"), profile], how="horizontal")
    pairs = known.filter(~pl.col("after")).join(known.filter("after"), on="user_id", suffix="_after")
    names = profile.columns
    moved = pairs.select(
        drifts=pl.col("user_id").is_in(drift["user_ids"]),
        distance=pl.sum_horizontal((pl.col(n) - pl.col(f"{n}_after")).abs() for n in names),
    )
    distance = dict(moved.group_by("drifts").agg(pl.col("distance").mean()).iter_rows())
    assert distance[True] > 1.3 * distance[False]
    world = draw_world(TELLING)
    stays = np.setdiff1d(np.arange(TELLING.users), world.drifting)
    assert np.array_equal(world.taste[0, stays], world.taste[1, stays])


def test_planted_half_lives_are_the_likeliest() -> None:
    """The log-likelihood of the choices, by its definition, falls when a half-life is halved or doubled."""
    options = SimulateOptions(users=250, kappa=0.2)
    simulated = simulate(options)
    world = draw_world(options)
    index = {name: i for i, name in enumerate(simulated.items["item_id"])}
    events = simulated.events.sort("user_id", maintain_order=True)
    user, time = events["user_id"].to_numpy() - 1, events["timestamp"].to_numpy()
    item = events["item_id"].replace_strict(index).to_numpy()
    base = np.concatenate(
        [world.base(user[k : k + 1], time[k : k + 1])[:, item[k]] for k in range(len(user))]
    )
    row, past = np.tril_indices(int(np.bincount(user).max()), -1)
    row, past = (
        np.concatenate([first + part[row < n] for first, n in zip(*starts(user), strict=True)])
        for part in (row, past)
    )
    age, category = (time[row] - time[past]) / DAY, world.category[item[past]]

    def likelihood(half_lives: np.ndarray) -> float:
        weight = options.kappa * kernel(age, half_lives[category], world.swing[category], options.period)
        same = np.bincount(row, weight * (item[row] == item[past]), len(user))
        return float(np.log((base + same) / (1 + np.bincount(row, weight, len(user)))).sum())

    planted = np.array(options.half_lives)
    best = likelihood(planted)
    for c in range(5):
        for factor in (0.5, 2.0):
            assert likelihood(np.where(np.arange(5) == c, factor * planted, planted)) < best


def starts(user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.bincount(user)
    return np.cumsum(counts) - counts, counts


def test_gaps_are_as_bursty_as_asked() -> None:
    regular = replace(
        SMALL, days=29.0, events_per_user=14.5, burstiness=0.0, activity_spread=0.0, joining_days=0.0
    )
    offsets, time = event_times(regular)
    assert np.array_equal(np.diff(offsets), np.full(40, 15))  # on days 0, 2, ..., 28
    assert np.abs(np.diff(time[:15]) - 2 * DAY).max() <= 1
    offsets, time = event_times(replace(SMALL, users=300, days=300.0, same_time=0.3, events_per_user=100.0))
    inner = np.delete(np.diff(time), offsets[1:-1] - 1)
    assert inner.min() == 0
    assert (inner == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert np.log(inner[inner > 0]).std() == pytest.approx(2.2, abs=0.4)


def test_an_item_is_not_taken_twice_in_the_same_second() -> None:
    events = simulate(replace(SMALL, same_time=0.5, kappa=2.0)).events
    assert events.is_unique().all()


def test_even_a_second_with_more_events_than_items_passes() -> None:
    events = simulate(replace(SMALL, users=1, items=5, same_time=0.95, joining_days=0.0)).events
    assert len(events) >= 1


def test_the_simulator_shares_no_code_with_the_model() -> None:
    code = "import sys, jaxdecay.data.simulate; print(sorted(m for m in sys.modules if m.startswith('jax')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'jax'" not in loaded
    assert all(
        name.startswith(("jaxdecay.data", "jaxdecay.errors")) or name == "jaxdecay" for name in eval(loaded)
    )
