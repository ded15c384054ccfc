"""Negatives of each target's own, from what was taken just before it: what they promise, by counting."""

from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import distributed, losses
from jaxdecay import tally as tallies
from jaxdecay.data.catalogue import Timeline
from jaxdecay.data.counted import build_tally
from jaxdecay.errors import InputError
from jaxdecay.layout import Layout
from jaxdecay.losses import Negatives, draw, draw_recent
from jaxdecay.objective import Objective, batch_loss
from jaxdecay.scorer import Excitation, Scorer
from jaxdecay.train import TrainOptions

V, N, K, LATELY, TIMES = 7, 4, 6, 8, 20_000
TIME = np.array([0, 0, 3, 3, 3, 5, 8, 8, 9, 11, 11, 11, 11, 12, 15, 20])
ITEM = np.array([0, 1, 2, 0, 0, 5, 3, 3, 4, 4, 4, 1, 0, 5, 5, 3])  # 6 is never taken
AT = np.array([0, 1, 8, 12, 20])
TAKEN = np.bincount(ITEM, minlength=V)


def drawn(at: np.ndarray, keys: Any) -> Negatives:
    events = Timeline(ITEM.astype(np.int32), TIME.astype(np.int64), V, False)
    tally = build_tally(events, (1.0,), items=V, origin=0, until=21)
    cumulative = jnp.asarray(np.cumsum(TAKEN), jnp.int32)

    def once(key: Any) -> Negatives:
        of_all, of_each = jax.random.split(key)
        shared = draw(of_all, cumulative, N, uniform=0.5)
        own = jax.vmap(jax.random.fold_in, (None, 0))(of_each, jnp.arange(len(at)))
        return draw_recent(own, shared, jnp.asarray(at, jnp.int32), tally, cumulative, K, uniform=0.5)

    with mock.patch.object(tallies, "_RECENT", LATELY):
        return jax.jit(jax.vmap(once))(keys)


def window(at: int) -> np.ndarray:
    """Places of the last events before a moment; all of the second with which they begin."""
    before = np.flatnonzero(at > TIME)
    return before[TIME[before] >= TIME[before[-LATELY:][0]]] if len(before) else before


def test_items_are_drawn_as_often_as_expected() -> None:
    found = drawn(AT, jax.random.split(jax.random.key(0), TIMES))
    assert found.own is not None
    assert found.log_expected_own is not None
    for target, at in enumerate(AT.tolist()):
        lately = window(at)
        taken = np.bincount(ITEM[lately], minlength=V)
        shared = N / 2 / V + N / 2 * TAKEN / TAKEN.sum()
        expected = shared + (K * taken / len(lately) if len(lately) else 0)
        logs = np.asarray(found.log_expected)[:, target]
        np.testing.assert_allclose(logs, np.log(expected[found.item]), rtol=1e-5, atol=1e-6)
        own, own_logs = np.asarray(found.own)[:, target], np.asarray(found.log_expected_own)[:, target]
        if not len(lately):
            assert np.isposinf(own_logs).all()
            own = own[:, :0]
        else:
            np.testing.assert_allclose(own_logs, np.log(expected[own]), rtol=1e-5, atol=1e-6)
        times = np.bincount(np.ravel(found.item), minlength=V) + np.bincount(own.ravel(), minlength=V)
        assert (np.abs(times - TIMES * expected) <= 4.5 * np.sqrt(TIMES * expected)).all()


def test_a_window_is_whole_seconds() -> None:
    assert [len(window(at)) for at in AT] == [0, 2, 6, 8, 9]  # the last eight, and who shares a second


def test_a_target_draws_by_its_key_and_moment_alone() -> None:
    one, other = (drawn(at, jax.random.split(jax.random.key(1), 1)) for at in (AT, AT[:3]))
    assert one.own is not None
    assert other.own is not None
    np.testing.assert_array_equal(one.own[:, :3], other.own)
    np.testing.assert_array_equal(one.log_expected[:, :3], other.log_expected)


def scorer(random: np.random.Generator) -> Scorer:
    arrays = random.normal(size=(V, 3)), random.normal(size=V), random.normal(size=(len(AT), V))
    return Scorer(*(jnp.asarray(x, jnp.float32) for x in arrays))


def test_the_normaliser_is_unbiased_for_every_target() -> None:
    random = np.random.default_rng(2)
    made, query = scorer(random), jnp.asarray(random.normal(size=(len(AT), 3)), jnp.float32)
    target = jnp.asarray([4, 0, 6, 3, 1], jnp.int32)
    place = jnp.arange(len(AT), dtype=jnp.int32)
    found = drawn(AT, jax.random.split(jax.random.key(3), TIMES))
    score = made.score(query, place, target)

    @jax.jit
    @jax.vmap
    def normaliser(negatives: Negatives) -> jax.Array:
        return jnp.exp(losses.sampled_softmax(query, place, target, made, negatives=negatives) + score)

    values = np.asarray(normaliser(found), np.float64)
    expected = np.exp(np.asarray(made.scores(query, place), np.float64)).sum(1)
    error = values.std(0, ddof=1) / np.sqrt(TIMES)
    assert (error < 0.02 * expected).all()
    assert (np.abs(values.mean(0) - expected) < 4.5 * error).all()


def test_a_loss_by_its_definition() -> None:
    random = np.random.default_rng(4)
    made, query = scorer(random), jnp.asarray(random.normal(size=(len(AT), 3)), jnp.float32)
    target = np.array([4, 0, 2, 3, 5])
    place = jnp.arange(len(AT), dtype=jnp.int32)
    found = jax.tree.map(lambda x: x[0], drawn(AT, jax.random.split(jax.random.key(5), 1)))
    gained = Excitation(*(jnp.asarray(x, jnp.float32) for x in ([0.1, -1, 0, 2, -5], [1.0, 0, 0.5, 2.5, -3])))
    scores = np.asarray(made.scores(query, place), np.float64)
    expected = []
    for row, y in enumerate(target.tolist()):
        total = np.exp(scores[row, y])
        draws = [*zip(found.item.tolist(), found.log_expected[row].tolist(), strict=True)]
        draws += zip(found.own[row].tolist(), found.log_expected_own[row].tolist(), strict=True)
        total += sum(np.exp(scores[row, j] - m) for j, m in draws if j != y)
        added, every = np.exp(float(gained.target[row])), np.exp(float(gained.total[row]))
        expected.append(np.log1p(every) - np.log(np.exp(scores[row, y]) / total + added))
    values = losses.sampled_softmax(
        query, place, jnp.asarray(target, jnp.int32), made, gained, negatives=found
    )
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    with pytest.raises(InputError, match=r"negatives\.own: a binary loss takes those"):
        losses.bce(query, place, jnp.asarray(target, jnp.int32), made, negatives=found)


def test_the_objective_asks_for_them_and_a_mesh_draws_the_same() -> None:
    assert TrainOptions(loss="sampled-softmax").objective == Objective(
        "sampled-softmax", 256, 0.5, 0.75, 0, 64
    )
    assert TrainOptions(loss="bce").objective.recent == TrainOptions().objective.recent == 0
    with pytest.raises(InputError, match="recent_negatives=-1: give a whole number from 0"):
        TrainOptions(recent_negatives=-1)
    made, params = toys.everything()
    batch, without = made.batches[0], Objective("sampled-softmax", 6, 0.5, 0.0, 3)
    both = without._replace(recent=5)
    step = jnp.int32(2)
    found = [
        jax.jit(batch_loss, static_argnums=(0, 4))(made.model, params, batch, made.constants, objective, step)
        for objective in (without, both)
    ]
    assert not np.allclose(*found)
    if jax.device_count() < 2:
        pytest.skip("one device: XLA_FLAGS was set to something else before these tests began")
    layout = Layout.of(distributed.mesh(2), made.model)
    filled = layout.batches(made.batches)[0]
    assert len(filled.valid) >= len(batch.valid)
    args = made.model, params, filled, made.constants, both, step, layout
    on_two = jax.jit(batch_loss, static_argnums=(0, 4, 6))(*args)
    np.testing.assert_allclose(on_two[: len(batch.valid)], found[1], rtol=1e-5, atol=1e-6)
