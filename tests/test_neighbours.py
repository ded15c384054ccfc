"""Neighbours against sums and sorts written out."""

from typing import Any

import numpy as np
import pytest

from jaxdecay.heads import neighbours
from jaxdecay.heads.neighbours import (
    Kernel,
    counts,
    half_life_kernel,
    interests,
    interests_in_time,
    nearest,
)

DAY = 86_400
USERS, ITEMS, WIDTH = 9, 6, 4
KERNEL = Kernel(np.array([0.0, 0.3, 2.0]), np.array([0.1, 0.6, 0.3]))


@pytest.fixture
def events() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Starts, items and ages of the events of nine users, the last without any, and item vectors."""
    random = np.random.default_rng(0)
    lengths = np.append(random.integers(1, 8, USERS - 1), 0)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    vectors = random.normal(size=(ITEMS, WIDTH)).astype(np.float32)
    return starts, random.integers(0, ITEMS, starts[-1]), random.uniform(0, 9, starts[-1]), vectors


def written_out(events: tuple) -> np.ndarray:
    """(U, D) unit interests in float64."""
    starts, item, age, vectors = events
    found = np.zeros((USERS, WIDTH))
    for user in range(USERS):
        for event in range(starts[user], starts[user + 1]):
            left = sum(w * np.exp(-r * age[event]) for r, w in zip(*KERNEL, strict=True))
            found[user] += left * vectors[item[event]]
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-300)


def test_interests_are_faded_sums_of_length_one(events: tuple) -> None:
    starts, item, age, vectors = events
    found = interests(starts, item, KERNEL.left(age), vectors)
    np.testing.assert_allclose(found, written_out(events), atol=1e-5)
    assert not found[-1].any()


@pytest.mark.parametrize("times", [1, 2, 40])
def test_in_time_each_event_is_added_once_and_only_what_came_before_is_seen(
    events: tuple, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the sums at each moment; with ties, a moment before all events and one at an event's time."""
    starts, item, age, vectors = events
    time = np.concatenate([np.sort(one) for one in np.split((20 - age) * DAY, starts[1:-1])]).astype(int)
    time[starts[1] - 1] = time[starts[1] - 2]
    random = np.random.default_rng(1)
    moments = np.sort(np.append(random.integers(0, 60 * DAY, times), [time.min() - 9 * DAY, time[4]]))
    added = []

    def table(starts: np.ndarray, item: np.ndarray, left: np.ndarray, items: int) -> Any:
        added.append(len(left))
        return whole(starts, item, left, items)

    whole = neighbours._table
    monkeypatch.setattr(neighbours, "_table", table)
    found = list(interests_in_time(starts, item, time, KERNEL, vectors, moments))
    assert len(found) == len(moments)
    assert sum(added) == len(KERNEL.rates) * (time < moments[-1]).sum()
    for table_then, at in zip(found, moments, strict=True):
        before = time < at
        passed = np.concatenate([[0], np.cumsum(before)])[starts]
        then = (passed, item[before], (at - time[before]) / DAY, vectors)
        np.testing.assert_allclose(table_then, written_out(then), atol=1e-5)
    assert not found[0].any()


def test_the_nearest_are_those_of_a_sort_and_never_oneself(events: tuple) -> None:
    table = written_out(events).astype(np.float32)
    asking = np.array([3, 0, -1, 8])
    near = nearest(table[[3, 0, 0, 8]], table, asking, 3).toarray()
    for row, user in enumerate(asking):
        cosine = (table @ table[[3, 0, 0, 8][row]]).astype(np.float64)
        if user >= 0:
            cosine[user] = -np.inf
        expected = np.zeros(USERS)
        best = np.argsort(-cosine)[:3]
        expected[best] = np.maximum(cosine[best], 0)
        np.testing.assert_allclose(near[row], expected, atol=1e-5)
    assert near[2, 0] == pytest.approx(1.0, abs=1e-5)  # a stranger who is just like user 0
    assert not near[3].any()  # of somebody without a past nobody is near


def test_what_neighbours_do_is_counted_by_nearness(events: tuple) -> None:
    starts, item, age, _ = events
    near = nearest(written_out(events)[:2], written_out(events), np.array([0, 1]), 4)
    found = counts(near, starts, item, half_life_kernel(2.0).left(age), ITEMS)
    expected = np.zeros((2, ITEMS))
    for row in range(2):
        for user in range(USERS):
            for event in range(starts[user], starts[user + 1]):
                expected[row, item[event]] += near.toarray()[row, user] * 0.5 ** (age[event] / 2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_nobody_asks_and_nobody_is_there(events: tuple) -> None:
    table = written_out(events)
    assert nearest(table[:0], table, np.zeros(0, int), 3).shape == (0, USERS)
    assert nearest(table[:2], table, np.array([0, 1]), 99).shape == (2, USERS)
    np.testing.assert_allclose(half_life_kernel(np.inf).left(np.array([0.0, 1e4])), 1.0)
