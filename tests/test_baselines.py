"""One contract for every baseline, and what each of them is for."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from jaxdecay.baselines import choose, fit_baselines
from jaxdecay.baselines.choose import Judge
from jaxdecay.baselines.counts import own_counts
from jaxdecay.baselines.factorisation import item_factors, solve
from jaxdecay.baselines.neighbours import similar_items
from jaxdecay.baselines.popularity import popularity
from jaxdecay.data.catalogue import timeline
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, requests
from jaxdecay.evaluate import evaluate, rank_requests

DAY = 86_400
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
USERS, ITEMS, LENGTH = 40, 12, 14


def log_of(item: np.ndarray, time: np.ndarray, **config) -> Histories:
    """(U, L) items and times; each user's last two events validate and test under a global-time split."""
    users, length = item.shape
    part = np.tile(np.repeat([0, 1, 2], [length - 2, 1, 1]), users)
    return Histories.from_arrays(
        np.repeat(np.arange(users), length), item.ravel(), time.ravel(), items=ITEMS, part=part,
        config={"split": {"kind": "global-time", "targets": "successive"}, "repeat_share": 0.5} | config,
    )  # fmt: skip


def times(random: np.random.Generator) -> np.ndarray:
    """(U, L) seconds: training on days 0-60, validation on day 61, test on day 62."""
    train = np.sort(random.integers(0, 60 * DAY, (USERS, LENGTH - 2)), axis=1)
    held_out = np.array([61, 62]) * DAY + random.integers(0, DAY, (USERS, 2))
    return np.concatenate([train, held_out], axis=1)


def popular_world() -> Histories:
    """Everybody takes item 5 most of the time, and then."""
    random = np.random.default_rng(0)
    item = np.where(random.random((USERS, LENGTH)) < 0.6, 5, random.integers(0, ITEMS, (USERS, LENGTH)))
    item[:, -2:] = 5
    return log_of(item, times(random))


def faithful_world() -> Histories:
    """Each user has a favourite and returns to it."""
    random = np.random.default_rng(1)
    favourite = np.arange(USERS)[:, None] % ITEMS
    item = np.where(
        random.random((USERS, LENGTH)) < 0.6, favourite, random.integers(0, ITEMS, (USERS, LENGTH))
    )
    item[:, -3:] = favourite
    return log_of(item, times(random))


def divided_world() -> Histories:
    """Users of two tastes take all items of theirs, once each, but one; the test is that one. History is
    removed.
    """
    random = np.random.default_rng(2)
    item = np.empty((USERS, 6), np.int64)
    for user in range(USERS):
        item[user] = (user % 2) * 6 + random.permutation(6)
    return log_of(item, times(random)[:, -6:] + np.arange(6), repeat_share=0.0)


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


@pytest.mark.parametrize(("half_life", "window"), [(np.inf, np.inf), (3.0, np.inf), (np.inf, 5.0)])
def test_popularity_is_what_a_loop_counts(half_life, window):
    log = popular_world()
    asked = requests(log, 2)
    expected = np.zeros((USERS, ITEMS))
    for row, at in enumerate(asked.at):
        for item, time in zip(log.item, log.time, strict=True):
            if at - window * DAY <= time < at:
                expected[row, item] += 2 ** (-(at - time) / DAY / half_life)
    found = popularity(log, half_life=half_life, window=window).scores(asked)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def three_items(gap_days: float) -> tuple[Histories, Requests]:
    """One user takes item 0 three times and ``gap_days`` later item 1 once; item 2 is what another user
    takes.
    """
    log = Histories.from_arrays(
        np.array([0, 0, 0, 0, 0, 1, 1]),
        np.array([0, 0, 0, 1, 3, 2, 2]),
        np.array([0, 0, 0, gap_days * DAY, (gap_days + 1) * DAY, 0, 1]),
        items=4,
        part=np.array([0, 0, 0, 0, 2, 0, 0]),
        config={"split": {"kind": "leave-one-out"}},
    )
    return log, requests(log, 2, "successive")


@pytest.mark.parametrize(("half_life", "best"), [(0, 1), (1, 1), (6.2, 1), (6.4, 0), (np.inf, 0)])
def test_three_old_events_outweigh_a_new_one_from_a_half_life_on(half_life, best):
    log, asked = three_items(10)  # 3 · 2^(-10/h) = 1 at h = 10 / log2(3) = 6.31
    scores = own_counts(log, half_life, popularity(log), name="own").scores(asked)[0]
    assert scores.argmax() == best
    assert scores[[0, 1]].min() > scores[2] > scores[3]


def test_nothing_underflows_however_old():
    log, asked = three_items(20_000)
    scores = own_counts(log, 1 / 24, popularity(log), name="own").scores(asked)[0]
    assert np.argsort(-scores).tolist() == [1, 0, 2, 3]


def test_equal_counts_are_ordered_by_popularity():
    log = Histories.from_arrays(
        np.array([0, 0, 0, 1, 1]), np.array([0, 1, 3, 1, 2]), np.array([0, 1, 9, 2, 3]), items=4,
        part=np.array([0, 0, 2, 0, 0]), config={"split": {"kind": "leave-one-out"}},
    )  # fmt: skip
    scores = own_counts(log, np.inf, popularity(log), name="own").scores(requests(log, 2, "successive"))
    assert np.argsort(-scores[0]).tolist() == [1, 0, 2, 3]


def test_neighbours_are_the_cosines_of_a_loop(monkeypatch):
    log = divided_world()
    taken = np.zeros((USERS, ITEMS))
    taken[log.user()[log.part == 0], log.item[log.part == 0]] = 1
    shared = taken.T @ taken
    cosine = shared / np.sqrt(np.outer(np.diag(shared), np.diag(shared)))
    np.fill_diagonal(cosine, 0)
    expected = -np.sort(-cosine, axis=1)[:, :4]
    for block in (2**23, 20):
        monkeypatch.setattr("jaxdecay.baselines.neighbours._BLOCK", block)
        near = similar_items(log, neighbours=4)
        np.testing.assert_allclose(-np.sort(-near.cosine, axis=1), expected, rtol=1e-6)
        np.testing.assert_allclose(near.cosine, np.take_along_axis(cosine, near.item, axis=1), rtol=1e-6)


def test_factors_solve_the_normal_equations():
    random = np.random.default_rng(3)
    y = random.normal(size=(7, 4)).astype(np.float32)
    starts, column = np.array([0, 3, 3, 5]), np.array([0, 2, 6, 1, 2])
    strength = np.array([1.0, 2.0, 1.0, 1.5, 1.0])
    found = solve(y, starts, column, strength, 10.0, steps=12)
    for row, (begin, end) in enumerate(itertools.pairwise(starts)):
        mine, extra = y[column[begin:end]].astype(float), 10 * strength[begin:end]
        left = y.T.astype(float) @ y + np.eye(4) + mine.T @ (extra[:, None] * mine)
        np.testing.assert_allclose(
            found[row], np.linalg.solve(left, mine.T @ (1 + extra)), rtol=1e-3, atol=1e-5
        )


def test_factors_are_of_the_training_part_and_of_a_seed():
    log = faithful_world()
    last = np.where(log.part == 0, log.item, 11).astype(np.int32)
    first = item_factors(log, confidence=4, seed=1)
    np.testing.assert_array_equal(first, item_factors(log.replace(item=last), confidence=4, seed=1))
    assert not np.allclose(first, item_factors(log, confidence=4, seed=2))


def test_the_sample_to_choose_by_is_bounded_and_seeded(monkeypatch):
    log = faithful_world()
    asked = requests(log, 1)
    monkeypatch.setattr(choose, "_MOST", 7)
    monkeypatch.setattr(choose, "_FEWEST", 2)
    one, same, other = (Judge.of(log, asked, seed=seed).requests for seed in (1, 1, 2))
    assert len(one) == 7
    assert one.event.tolist() == same.event.tolist() != other.event.tolist()
    assert (np.diff(one.at) >= 0).all()


def test_the_best_of_the_grid_is_chosen_and_the_last_of_equals():
    log = popular_world()
    events = timeline(log)
    judge = Judge.of(log, requests(log, 1))
    _, value, found = judge.choose(lambda h: popularity(events, half_life=h), [5.0, 5.0001, 1e-3])
    assert value == 5.0001
    assert found["5.0"] == found["5.0001"] >= found["0.001"]
