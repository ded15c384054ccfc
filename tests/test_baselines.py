"""One contract for every baseline, and what each of them is for."""

from dataclasses import replace

import numpy as np
import pytest
from worlds import DAY, ITEMS, USERS, divided_world, faithful_world, popular_world

from jaxdecay.baselines import fit_baselines
from jaxdecay.baselines.popularity import popularity
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, requests
from jaxdecay.evaluate import evaluate, rank_requests

NAMES = (
    "popularity",
    "windowed popularity",
    "decayed popularity",
    "most recent",
    "own counts",
    "decayed own counts",
    "item neighbours",
    "matrix factorisation",
)
POPULAR, PERSONAL, SIMILAR = NAMES[:3], NAMES[3:6], NAMES[6:]


def fitted(log: Histories) -> dict:
    return {system.name: system for system in fit_baselines(log, requests(log, 1), seed=0)}


@pytest.fixture(scope="module")
def worlds() -> dict[str, tuple[Histories, dict]]:
    logs = {"popular": popular_world(), "faithful": faithful_world(), "divided": divided_world()}
    return {name: (log, fitted(log)) for name, log in logs.items()}


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(params=["popular", "faithful", "divided"])
def world(request, worlds):
    return worlds[request.param]


def at_home(name: str) -> str:
    return "popular" if name in POPULAR else "faithful" if name in PERSONAL else "divided"


def test_all_baselines_in_the_order_of_the_table(worlds):
    assert tuple(worlds["popular"][1]) == NAMES


def test_the_withheld_item_comes_first(worlds, name):
    log, systems = worlds[at_home(name)]
    assert np.mean(rank_requests(systems[name], log, requests(log, 2)) == 1) > 0.9


def test_scores_are_finite_floats_of_every_item(world, name):
    log, systems = world
    scores = systems[name].scores(requests(log, 2))
    assert scores.dtype == np.float32
    assert scores.shape == (USERS, ITEMS)
    assert np.isfinite(scores).all()


def test_a_batch_is_its_requests_one_by_one(world, name):
    log, systems = world
    asked = requests(log, 2).take(slice(6))
    together = systems[name].scores(asked)
    alone = np.concatenate([systems[name].scores(asked.take(np.array([row]))) for row in range(6)])
    np.testing.assert_allclose(together, alone, rtol=2e-5, atol=1e-6)
    backwards = systems[name].scores(asked.take(np.arange(5, -1, -1)))[::-1]
    np.testing.assert_allclose(together, backwards, rtol=2e-5, atol=1e-6)


def test_a_user_without_history_gets_what_is_popular(world, name):
    log, systems = world
    asked = requests(log, 2).take(slice(3))
    cold = replace(asked, history_end=log.offsets[asked.user])
    scores = systems[name].scores(cold)
    backing = getattr(systems[name], "backing", systems[name])
    np.testing.assert_array_equal(np.argsort(scores, axis=1), np.argsort(backing.counts(cold.at), axis=1))
    assert np.ptp(scores, axis=1).min() > 0


@pytest.fixture(scope="module")
def other_futures(worlds) -> dict[str, tuple[Requests, dict]]:
    """By world: its first test request, and the baselines fitted on a log that differs from then on."""
    found = {}
    for world, (log, _) in worlds.items():
        asked = requests(log, 2)
        first = asked.take(np.array([np.argmin(asked.at)]))
        later = log.time >= first.at[0]
        changed = np.where(later, (log.item + 3) % ITEMS, log.item).astype(np.int32)
        found[world] = first, fitted(log.replace(item=changed))
    return found


@pytest.mark.parametrize("world_name", ["popular", "faithful", "divided"])
def test_the_future_changes_nothing(worlds, other_futures, world_name, name):
    first, changed = other_futures[world_name]
    _, systems = worlds[world_name]
    np.testing.assert_allclose(changed[name].scores(first), systems[name].scores(first), rtol=1e-5, atol=1e-6)


def test_who_ignores_the_time_answers_alike_at_any_time(world, name):
    log, systems = world
    asked = requests(log, 2)
    if not systems[name].uses_time:
        later = replace(asked, at=asked.at + 30 * DAY)
        np.testing.assert_array_equal(systems[name].scores(later), systems[name].scores(asked))


def test_no_requests_and_no_validation():
    log = faithful_world()
    nobody = requests(log, 2).take(slice(0))
    for system in fit_baselines(log, nobody):
        assert system.scores(nobody).shape == (0, ITEMS)


def test_baselines_stand_in_one_report(worlds):
    log, systems = worlds["faithful"]
    report = evaluate(list(systems.values()), log, requests(log, 2), k=[3], bootstrap=100)
    better = report.difference("own counts", "ndcg@3", "popularity")
    assert better.low > 0
    assert "validation_ndcg@10" in report.to_json()["systems"]["decayed popularity"]["settings"]


def test_relative_clocks_have_no_popularity_at_a_time():
    log = faithful_world()
    split = {"kind": "per-user-time", "targets": "successive"}
    start = np.repeat(log.time[log.offsets[:-1]], log.lengths())
    relative = log.replace(time=log.time - start, config=log.config | {"clock": "relative", "split": split})
    systems = fitted(relative)
    assert tuple(systems) == (NAMES[0], *NAMES[3:])
    assert not any(system.uses_time for system in systems.values())
    trained = np.bincount(log.item[log.part == 0], minlength=ITEMS)
    np.testing.assert_array_equal(systems["popularity"].scores(requests(relative, 2))[0], trained)


def test_no_half_life_is_chosen_where_own_items_are_removed(worlds):
    settings = {name: worlds[name][1]["decayed own counts"].settings for name in ("faithful", "divided")}
    assert "validation_ndcg@10" in settings["faithful"]
    assert "validation_ndcg@10" not in settings["divided"]


def test_held_out_events_are_not_counted_under_leave_one_out():
    log = popular_world()
    alone = log.replace(config=log.config | {"split": {"kind": "leave-one-out"}})
    asked = replace(requests(alone, 2), at=np.full(USERS, 99 * DAY))
    trained = np.bincount(log.item[log.part == 0], minlength=ITEMS)
    np.testing.assert_array_equal(popularity(alone).scores(asked), np.tile(trained, (USERS, 1)))
