"""What each baseline computes, against loops and arithmetic."""

import itertools

import numpy as np
import pytest
from worlds import DAY, ITEMS, USERS, divided_world, faithful_world, popular_world

from jaxdecay.baselines import choose
from jaxdecay.baselines.choose import Judge
from jaxdecay.baselines.counts import own_counts
from jaxdecay.baselines.factorisation import item_factors, solve
from jaxdecay.baselines.neighbours import similar_items
from jaxdecay.baselines.popularity import popularity
from jaxdecay.data.catalogue import timeline
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, requests


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
