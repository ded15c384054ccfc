"""Clocks against loops over events: ages, what moves them, and forward decay."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxdecay import clocks
from jaxdecay.clocks import Readings, ages_on, gaps_on

DAY = 86_400
GAP = 1_800  # seconds of silence that end a session
BEFORE = 3 * DAY  # from the landmark to time 0
NAMES = ("wall", "events", "sessions", "learned", "log_since")

seconds = st.sampled_from([0, 0, 1, 600, GAP, GAP + 1, DAY, 40 * DAY])
histories = st.tuples(
    st.lists(seconds, min_size=6, max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.lists(st.tuples(st.integers(0, 6), seconds), min_size=3, max_size=3),
    st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6),
)


@functools.partial(jax.jit, static_argnums=(0, 1))
def read(
    name: str, past: int, time: Any, mask: Any, at: Any, seen: Any, x: Any, landmark: Any
) -> tuple[Readings, Any, Any]:
    options: dict[str, Any] = {
        "sessions": {"gap": GAP}, "learned": {"increments": x}, "log_since": {"landmark": landmark}
    }.get(name, {})  # fmt: skip
    with jax.numpy_dtype_promotion("strict"):
        readings = getattr(clocks, name)(time, mask, at, seen, past=past, **options)
        return readings, ages_on(readings), gaps_on(readings)


class History:
    """Six rows, some of them not kept (their times are nonsense), and three requests, each some time after
    the last row it sees."""

    def __init__(self, gaps: list[int], mask: list[bool], asked: list[tuple[int, int]], x: list[float]):
        time = np.cumsum(gaps)
        self.mask, self.x = np.array(mask), np.array(x, np.float32)
        self.time = np.where(self.mask, time, 7)
        self.seen = np.array([seen for seen, _ in asked])
        self.at = np.array([time[seen - 1] + idle if seen else idle for seen, idle in asked])

    def on(self, name: str, *, shift: int = 0, past: int = 0) -> tuple[Readings, Any, Any]:
        """The readings, the ages and the gaps."""
        time, at = (jnp.asarray(x + shift, jnp.int32) for x in (self.time, self.at))
        seen, landmark = jnp.asarray(self.seen - past, jnp.int32), jnp.array(shift - BEFORE, jnp.int32)
        return read(name, past, time, jnp.asarray(self.mask), at, seen, jnp.asarray(self.x), landmark)

    def ages(self, name: str) -> np.ndarray:
        """(r, n) float64, by a loop over requests and events."""
        found = np.zeros((len(self.at), len(self.time)))
        for r, (at, seen) in enumerate(zip(self.at, self.seen, strict=True)):
            kept = [j for j in range(seen) if self.mask[j]]
            for j in kept:
                after = [i for i in kept if i > j]
                moments = [self.time[j], *(self.time[i] for i in after), at]
                found[r, j] = {
                    "wall": (at - self.time[j]) / DAY,
                    "events": len(after),
                    "sessions": sum(later - sooner > GAP for sooner, later in itertools.pairwise(moments)),
                    "learned": sum(np.log1p(np.exp(float(self.x[i]))) for i in after),
                    "log_since": np.log((at + BEFORE) / (self.time[j] + BEFORE)),
                }[name]  # fmt: skip
        return found


@pytest.mark.parametrize("name", NAMES)
@given(histories)
def test_ages_are_those_of_a_loop_over_the_events(name: str, values: Any) -> None:
    history = History(*values)
    readings, ages, _ = (jax.tree.map(np.asarray, x) for x in history.on(name))
    np.testing.assert_allclose(ages, history.ages(name), rtol=1e-6, atol=4e-6)
    assert (ages >= 0).all()
    assert (ages[~readings.visible] == 0).all()
    rows = np.arange(6)
    assert (readings.visible == (rows[None] < history.seen[:, None]) & history.mask[None]).all()
    if name in ("events", "sessions"):
        assert (ages == history.ages(name)).all()


@pytest.mark.parametrize("name", NAMES)
@given(histories)
def test_ages_add_up_from_event_to_event(name: str, values: Any) -> None:
    """What an event ages until a later one, and from there to a request, is its age at the request."""
    history = History(*values)
    readings, *found = history.on(name)
    ages, gaps = (np.asarray(x, np.float64) for x in found)
    assert (gaps >= 0).all()
    assert (gaps[~history.mask] == 0).all()
    for r in range(3):
        kept = np.flatnonzero(np.asarray(readings.visible)[r])
        for j in kept:
            between = gaps[j + 1 : kept[-1] + 1].sum()
            np.testing.assert_allclose(ages[r, j], between + ages[r, kept[-1]], rtol=1e-6, atol=8e-6)


@pytest.mark.parametrize("name", NAMES)
@given(histories)
def test_a_shift_of_all_times_changes_nothing_at_all(name: str, values: Any) -> None:
    history = History(*values)
    for here, later in zip(history.on(name)[1:], history.on(name, shift=1_700_000_000)[1:], strict=True):
        np.testing.assert_array_equal(here, later)


@pytest.mark.parametrize("name", NAMES)
@given(histories)
def test_past_events_are_seen_by_every_request(name: str, values: Any) -> None:
    history = History(*values)
    history.seen = np.maximum(history.seen, 2)
    jax.tree.map(np.testing.assert_array_equal, history.on(name), history.on(name, past=2))


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_not_kept_move_no_clock(name: str) -> None:
    gaps, mask, x = [5, DAY, 0, GAP, GAP + 1, 30], [True] * 6, [0.5, -1.0, 2.0, 0.0, 1.0, -2.0]
    bare = History(gaps, mask, [(6, 100), (3, 0)], x)
    padded = History([0, *gaps, 0], [False, *mask, False], [(7, 100), (4, 0)], [9.0, *x, 9.0])
    np.testing.assert_array_equal(padded.on(name)[1][:, 1:-1], bare.on(name)[1])
    empty = History([0, *gaps, 0], [False] * 8, [(7, 100), (4, 0)], [9.0, *x, 9.0])
    assert all((x == 0).all() for x in empty.on(name)[1:])


def test_an_event_that_says_nothing_moves_the_event_clock_and_not_the_wall_clock() -> None:
    gaps, ask, x = [0, DAY, 60, 60, DAY, 1], [(6, 5)], [0.0] * 6
    all_rows = History(gaps, [True] * 6, ask, x)
    without = History(gaps, [True, True, True, False, True, True], ask, x)  # the fourth, within a session
    rest = [0, 1, 2, 4, 5]

    def moved(name: str) -> list[float]:
        return (np.asarray(all_rows.on(name)[1]) - np.asarray(without.on(name)[1]))[0, rest].tolist()

    assert moved("wall") == moved("sessions") == moved("log_since") == [0, 0, 0, 0, 0]
    assert moved("events") == [1, 1, 1, 0, 0]
    np.testing.assert_allclose(moved("learned"), [np.log(2)] * 3 + [0, 0], atol=1e-6)


@pytest.mark.parametrize("gap", [0, 1, 2**31 - 1])
def test_wall_ages_of_extreme_gaps_are_exact(gap: int) -> None:
    time, at = jnp.zeros(1, jnp.int32), jnp.array([gap], jnp.int32)
    ages = ages_on(clocks.wall(time, jnp.ones(1, bool), at, jnp.ones(1, jnp.int32)))
    np.testing.assert_allclose(ages[0, 0], gap / DAY, rtol=2e-7)


@given(histories, st.floats(0, 4))
def test_an_exponential_on_the_logarithmic_clock_is_forward_decay(values: Any, beta: float) -> None:
    history = History(*values)
    with jax.enable_x64(True):
        readings, ages, _ = history.on("log_since")
    found = np.exp(-beta * np.asarray(ages))
    since_event, since = history.time + float(BEFORE), history.at + float(BEFORE)
    expected = (since_event[None] / since[:, None]) ** beta
    visible = np.asarray(readings.visible)
    np.testing.assert_allclose(found[visible], expected[visible], rtol=1e-12)


def test_an_event_before_the_landmark_reads_as_one_second_after_it() -> None:
    time, mask = jnp.array([0, 50], jnp.int32), jnp.ones(2, bool)
    at, seen = jnp.array([150], jnp.int32), jnp.array([2], jnp.int32)
    ages = ages_on(clocks.log_since(time, mask, at, seen, landmark=50))
    np.testing.assert_allclose(ages, np.full((1, 2), np.log(100)), rtol=1e-6)


def test_a_request_of_its_own_session_ages_nothing_more_until_the_silence_is_over() -> None:
    gaps, mask = [0, GAP + 1, 0, 5, 0, 0], [True] * 6
    history = History(gaps, mask, [(6, 0), (6, GAP), (6, GAP + 1)], [0.0] * 6)
    within, after = [1, 0, 0, 0, 0, 0], [2, 1, 1, 1, 1, 1]
    assert history.on("sessions")[1].tolist() == [within, within, after]


def test_learned_ages_err_by_no_more_than_is_said() -> None:
    n = 4_096
    x = np.random.default_rng(0).normal(size=n).astype(np.float32)
    zero, seen = jnp.zeros(n, jnp.int32), jnp.array([n], jnp.int32)
    readings = clocks.learned(zero, jnp.ones(n, bool), zero[:1], seen, increments=jnp.asarray(x))
    total = np.cumsum(np.logaddexp(0, x.astype(np.float64)))
    assert abs(np.asarray(ages_on(readings))[0] - (total[-1] - total)).max() < 2e-7 * total[-1]


def test_the_learned_clock_has_the_slopes_of_its_sums() -> None:
    history = History([1] * 6, [True, True, False, True, True, True], [(6, 0), (4, 2), (0, 1)], [0.3] * 6)
    with jax.enable_x64(True):

        def ages(x: jax.Array) -> jax.Array:
            at, seen = jnp.asarray(history.at, jnp.int32), jnp.asarray(history.seen, jnp.int32)
            time, mask = jnp.asarray(history.time, jnp.int32), jnp.asarray(history.mask)
            return ages_on(clocks.learned(time, mask, at, seen, increments=jnp.asarray(x)))

        x = jnp.linspace(-2, 3, 6)
        check_grads(jax.jit(ages), (x,), order=1, modes=["rev"])
        slopes = np.asarray(jax.jit(jax.jacobian(ages))(x))
    # the newest event ages nothing by itself; a row that is not kept has no say
    sigmoid = 1 / (1 + np.exp(-np.linspace(-2, 3, 6)))
    np.testing.assert_allclose(slopes[0, 0], sigmoid * [0, 1, 0, 1, 1, 1], rtol=1e-6)
    assert (slopes[0, 5] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_many_users_at_once_are_the_loop_over_them(name: str) -> None:
    asked, x = [(6, 9), (2, DAY)], [0.5, -1.0, 2.0, 0.0, 1.0, -2.0]
    users = [
        History([5, DAY, 0, GAP, GAP + 1, 30], [True] * 6, asked, x),
        History([0, 0, 7, 0, 9 * DAY, 3], [False] + [True] * 5, [(5, 0), (1, 4)], x[::-1]),
    ]
    columns = [
        jnp.asarray(np.stack([getattr(user, field) for user in users]).astype(kind))
        for field, kind in (("time", "i4"), ("mask", "?"), ("at", "i4"), ("seen", "i4"), ("x", "f4"))
    ]
    landmark = jnp.array([-BEFORE] * 2, jnp.int32)
    _, together, _ = jax.jit(jax.vmap(functools.partial(read, name, 0)))(*columns, landmark)
    for row, user in zip(together, users, strict=True):
        np.testing.assert_allclose(row, user.on(name)[1], rtol=1e-6, atol=4e-6)
