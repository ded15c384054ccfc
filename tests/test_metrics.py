"""Metrics against arithmetic, scikit-learn, and one battery of properties for all of them."""

import functools
from collections.abc import Callable
from math import log2

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdecay import metrics
from jaxdecay.metrics import RANK_METRICS
from jaxdecay.rank import ranks

every_metric = pytest.mark.parametrize("name", RANK_METRICS)
RANKS = hnp.arrays(np.float64, (4, 3), elements=st.sampled_from([1.0, 2.0, 2.5, 7.0, 10.0, 11.0, np.inf]))
MASKS = hnp.arrays(bool, (4, 3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hr", 1),
        ("recall", 2 / 3),
        ("precision", 2 / 5),
        ("f1", 2 * (2 / 3) * (2 / 5) / (2 / 3 + 2 / 5)),
        ("mrr", 1 / 2),
        ("map", (1 / 2 + 2 / 4) / 3),
        ("ndcg", (1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / log2(4))),
    ],
)
def test_three_targets_two_of_them_found(name, value):
    assert RANK_METRICS[name](np.array([4.0, 8.0, 2.0]), k=5) == pytest.approx(value)


@pytest.mark.parametrize("rank", [1, 2.5, 10])
def test_a_single_target_has_ndcg_of_one_over_log_rank(rank):
    assert metrics.ndcg(np.array([[rank]]), k=10) == pytest.approx(1 / log2(1 + rank))


def test_hits_follow_the_mean_rank():
    assert metrics.hit_rate(np.array([[10.0], [10.5]]), k=10).tolist() == [1, 0]


@every_metric
@given(RANKS, MASKS)
def test_padding_changes_nothing(name, ranks, where):
    metric = RANK_METRICS[name]
    wide = np.concatenate([ranks, np.ones((4, 2))], axis=1)
    hidden = np.concatenate([where, np.zeros((4, 2), bool)], axis=1)
    np.testing.assert_allclose(metric(wide, k=10, where=hidden), metric(ranks, k=10, where=where))


@every_metric
def test_a_request_without_targets_has_no_value(name):
    where = np.array([[True, False], [False, False]])
    value = RANK_METRICS[name](np.ones((2, 2)), k=3, where=where)
    assert not np.isnan(value[0])
    assert np.isnan(value[1])


@every_metric
def test_a_miss_is_worth_nothing(name):
    assert RANK_METRICS[name](np.array([[np.inf, 11.0]]), k=10) == [0]


@every_metric
def test_the_best_list_is_worth_one(name):
    best = np.array([[1.0, 2.0, 3.0]])
    assert RANK_METRICS[name](best, k=3) == pytest.approx(1)


@functools.cache
def compiled(name: str) -> Callable[..., jax.Array]:
    """The metric of one request, compiled for many."""
    return jax.jit(jax.vmap(lambda ranks, where: RANK_METRICS[name](ranks, k=10, where=where)))


@every_metric
@given(RANKS, MASKS)
def test_jax_jit_and_vmap_agree_with_numpy(name, ranks, where):
    found = compiled(name)(jnp.asarray(ranks, jnp.float32), jnp.asarray(where))
    np.testing.assert_allclose(found, RANK_METRICS[name](ranks, k=10, where=where), rtol=1e-5)


@every_metric
@given(
    hnp.arrays(np.float32, (2, 5), elements=st.sampled_from([0.0, 1.0])),
    st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
    st.integers(1, 5),
)
def test_no_value_leaves_zero_to_one_whatever_the_ties(name, scores, targets, k):
    found = ranks(scores, np.array([0, len(targets), 2 * len(targets)]), np.array([*targets, *targets]))
    value = RANK_METRICS[name](found.reshape(2, -1), k=k)
    assert (value >= 0).all()
    assert (value <= 1 + 1e-9).all()


@pytest.mark.parametrize("k", [2, 5, 20])
def test_ndcg_with_gains_is_that_of_scikit_learn(k):
    random = np.random.default_rng(1)
    scores = random.permuted(np.tile(np.arange(20.0), (6, 1)), axis=1)
    gain = random.integers(0, 4, (6, 20)).astype(float)
    place = 1 + (scores[:, :, None] < scores[:, None, :]).sum(axis=2)
    expected = [sklearn.metrics.ndcg_score(g[None], s[None], k=k) for g, s in zip(gain, scores, strict=True)]
    np.testing.assert_allclose(np.asarray(metrics.ndcg(place, k=k, gain=gain), float), expected)


def test_average_precision_over_the_whole_list_is_that_of_scikit_learn():
    random = np.random.default_rng(2)
    for _ in range(20):
        scores, liked = random.permutation(12), random.permutation(12) < 4
        place = 1 + (scores[liked][:, None] < scores[None, :]).sum(axis=1)
        expected = sklearn.metrics.average_precision_score(liked, scores)
        assert metrics.average_precision(place, k=12) == pytest.approx(expected)


LABELLED = st.lists(st.tuples(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), st.booleans()), min_size=4, max_size=4)


@given(LABELLED, hnp.arrays(np.int64, (2, 6), elements=st.integers(1, 3)))
def test_labelled_pairs_are_judged_as_by_scikit_learn(pairs, weight):
    pairs = [*pairs, (0.5, True), (0.5, False)]
    scores, labels = np.array([s for s, _ in pairs]), np.array([int(y) for _, y in pairs])
    chance = 1 / (1 + np.exp(-scores))
    for row in (weight[0], np.ones(6)):
        expected = sklearn.metrics.roc_auc_score(labels, scores, sample_weight=row)
        assert metrics.auc(scores, labels, where=row) == pytest.approx(expected)
        expected = sklearn.metrics.log_loss(labels, chance, sample_weight=row)
        assert metrics.log_loss(scores, labels, where=row) == pytest.approx(expected)
        expected = sklearn.metrics.accuracy_score(labels, chance > 0.5, sample_weight=row)
        assert metrics.accuracy(scores, labels, where=row) == pytest.approx(expected)


@pytest.mark.parametrize("function", [metrics.auc, metrics.accuracy, metrics.log_loss])
def test_weights_may_have_further_axes_and_a_mask_is_a_weight(function):
    random = np.random.default_rng(3)
    scores, labels, weight = random.normal(size=9), random.integers(0, 2, 9), random.integers(0, 3, (2, 3, 9))
    values = function(scores, labels, where=weight)
    assert values.shape == (2, 3)
    assert values[1, 2] == pytest.approx(function(scores, labels, where=weight[1, 2]))
    mask = np.arange(9) < 6
    assert function(scores, labels, where=mask) == pytest.approx(function(scores[:6], labels[:6]))
    assert function(jnp.asarray(scores), jnp.asarray(labels), where=mask) == pytest.approx(
        function(scores[:6], labels[:6]), rel=1e-5
    )


def test_auc_needs_both_kinds_and_log_loss_survives_extreme_scores():
    assert np.isnan(metrics.auc(np.array([1.0, 2.0]), np.array([1, 1])))
    assert np.isnan(metrics.auc(np.zeros(0), np.zeros(0)))
    assert np.isnan(metrics.auc(np.zeros(0), np.zeros(0), where=np.zeros((2, 0)))).all()
    assert np.isnan(metrics.accuracy(np.array([1.0]), np.array([1]), where=np.array([0])))
    assert metrics.log_loss(np.array([1000.0, -1000.0]), np.array([0, 0])) == pytest.approx(500)


def test_inverse_propensity_makes_rare_items_weigh_more():
    np.testing.assert_allclose(metrics.inverse_propensity(np.array([0, 3, 99])), [1, 1 / 2, 1 / 10])


def test_gradients_of_log_loss_are_finite():
    gradient = jax.grad(lambda s: metrics.log_loss(s, jnp.array([0, 1])))(jnp.array([80.0, -80.0]))
    np.testing.assert_allclose(gradient, [0.5, -0.5], rtol=1e-5)
