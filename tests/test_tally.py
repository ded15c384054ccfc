"""The tally: shares of few items at any moment, against sums over all events in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from jaxdecay.data.catalogue import DAY, Timeline, build_catalogue, timeline
from jaxdecay.data.histories import Histories
from jaxdecay.data.tally import build_tally
from jaxdecay.tally import Tally

HALF_LIVES = (0.01, 3.0, np.inf)
ITEMS, ORIGIN = 6, 1_700_000_000


def events(seed: int, count: int, *, days: float = 30.0) -> Timeline:
    """Some items are taken often and one never; many events share their second."""
    random = np.random.default_rng(seed)
    time = ORIGIN + np.sort(random.choice(random.integers(0, int(days * DAY), max(count // 2, 1)), count))
    item = np.minimum(random.geometric(0.5, count) - 1, ITEMS - 2)
    return Timeline(item.astype(np.int32), time.astype(np.int64), ITEMS, False)


def plain(log: Timeline, at: int) -> np.ndarray:
    """(R, V) shares by their definition, relative to the last event before, so that no count underflows."""
    before = log.time < at
    if not before.any():
        return np.zeros((len(HALF_LIVES), ITEMS))
    ages = (log.time[before].max() - log.time[before]) / DAY
    weights = np.exp2(-ages / np.array(HALF_LIVES)[:, None])
    of_items = weights @ (log.item[before][:, None] == np.arange(ITEMS))
    return of_items / of_items.sum(1, keepdims=True)


one_each, among = jax.jit(Tally.shares), jax.jit(Tally.shares_among)


def shares(found: Tally, items: int, seconds: Any) -> np.ndarray:
    """(R, T, V) shares of the first ``items`` items at T moments, asked for in both ways."""
    catalogue, seconds = jnp.arange(items, dtype=jnp.int32), jnp.asarray(seconds, jnp.int32)
    together: np.ndarray = np.asarray(among(found, catalogue, seconds))
    apart = one_each(found, jnp.tile(catalogue, len(seconds)), jnp.repeat(seconds, items))
    np.testing.assert_allclose(np.asarray(apart).reshape(together.shape), together, rtol=1e-6)
    return together


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 60]))
def test_shares_are_those_of_the_definition(seed: int, count: int) -> None:
    log = events(seed, count)
    at = np.concatenate([log.time[:3], log.time[-3:] + 1, ORIGIN + np.array([-5, 0, 9 * DAY, 4_000 * DAY])])
    at = np.resize(at.astype(np.int64), 10)
    found = build_tally(log, HALF_LIVES, items=ITEMS, origin=ORIGIN, until=int(log.time[-1]) + 1)
    np.testing.assert_allclose(
        shares(found, ITEMS, at - ORIGIN),
        np.stack([plain(log, moment) for moment in at.tolist()], 1),
        rtol=1e-5,
        atol=1e-12,
    )


def test_later_events_and_items_of_later_leave_no_trace() -> None:
    log = events(1, 80)
    until = int(log.time[50])
    early = Timeline(log.item[log.time < until], log.time[log.time < until], ITEMS, False)
    whole = build_tally(log, HALF_LIVES, items=3, origin=ORIGIN, until=until)
    assert len(whole.moments) == len(early.time)
    assert len(whole.time) == (early.item < 3).sum()
    at = log.time[:50]
    expected = np.stack([plain(early, moment) for moment in at.tolist()], 1)[
        :, :, :3
    ]  # of the counts of all items
    found = shares(whole, 3, at - ORIGIN)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("count", [0, 9])
def test_without_events_there_are_no_shares(count: int) -> None:
    log = events(2, 9)
    log = log._replace(item=np.full(count, 5, np.int32), time=log.time[:count])
    found = build_tally(log, HALF_LIVES, items=3, origin=ORIGIN, until=int(ORIGIN + 99 * DAY))
    assert not shares(found, 3, np.full(4, 50 * 86_400)).any()
    none = build_tally(log, (), items=3, origin=ORIGIN, until=int(ORIGIN + 99 * DAY))
    assert none.shares_among(jnp.arange(3), jnp.arange(4)).shape == (0, 4, 3)
    assert none.shares(jnp.arange(3), jnp.arange(3)).shape == (0, 3)


def test_of_a_relative_clock_shares_are_totals_at_every_moment() -> None:
    log = events(3, 40)._replace(relative=True)
    whole = build_tally(log, HALF_LIVES, items=ITEMS, origin=0, until=0)
    found = shares(whole, ITEMS, np.array([ORIGIN, 0, ORIGIN + 7]))
    totals = np.bincount(log.item, minlength=ITEMS) / 40
    np.testing.assert_allclose(found, np.broadcast_to(totals, found.shape), rtol=1e-6)


def test_a_long_log_of_short_half_lives_ends_early_and_is_exact() -> None:
    log = events(4, 3_000, days=900.0)
    at = log.time[[5, 1_000, 2_500, 2_999]] + 1
    found = shares(
        build_tally(log, HALF_LIVES, items=ITEMS, origin=ORIGIN, until=int(at[-1])), ITEMS, at - ORIGIN
    )
    np.testing.assert_allclose(
        found, np.stack([plain(log, moment) for moment in at.tolist()], 1), rtol=2e-5, atol=1e-12
    )


def test_training_reads_what_is_served() -> None:
    histories: Histories = toys.live(toys.log())
    made: Any = toys.pieces(histories, toys.spec(histories), loss="bce")
    served = build_catalogue(histories, made.model.spec.popularity_half_lives, budget_mib=0.0)
    at = np.asarray(histories.time)[::3]
    found = shares(made.constants.tally, made.model.spec.items, made.reference.seconds(at))
    np.testing.assert_allclose(found, served.at(at), rtol=1e-5, atol=1e-9)
    assert len(made.constants.tally.moments) < len(timeline(histories).time)  # the last second's are no past
