"""The policy: what was planted is found again, from what was taken and from clicks."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.policy import FEATURES, Learned, Policy, features, fit

DAY = 86_400
MATRIX = np.array([[1.5, 0.0, -1.5], [0.0, 0.7, -0.7]])
BIAS = np.array([0.0, 0.5, -0.5])
ITEMS = 12


def planted(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(N, 2) features, (N, 3) planted weights, (N, 3, V) probabilities of three strategies, and (N,) what was
    drawn from the mixture."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2))
    weights = np.exp(x @ MATRIX + BIAS)
    weights /= weights.sum(axis=1, keepdims=True)
    p = random.dirichlet(np.full(ITEMS, 0.2), size=(count, 3))
    mixed = (weights[..., None] * p).sum(axis=1)
    item = (random.random((count, 1)) > np.cumsum(mixed, axis=1)).sum(axis=1).clip(0, ITEMS - 1)
    return x, weights, p, item


def log_p(p: np.ndarray, item: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.take_along_axis(p, item[:, None, None], axis=2)[..., 0], 1e-9))


def test_a_planted_policy_is_found_from_what_was_taken() -> None:
    x, _, p, item = planted(6000, 0)
    found = fit(3 * x + 5, log_p(p, item))  # features of any mean and size
    again, weights, p, item = planted(2000, 1)
    learned = np.exp(found.log_weights(3 * again + 5))
    assert np.abs(learned - weights).mean() < 0.03
    likely = found.log_likelihood(3 * again + 5, log_p(p, item)).mean()
    same = fit(x[:, :0], log_p(*planted(6000, 0)[2:]))
    assert likely > same.log_likelihood(again[:, :0], log_p(p, item)).mean() + 0.01
    assert likely > log_p(p, item).mean(axis=0).max() + 0.1


def test_from_clicks_it_learns_whom_to_believe() -> None:
    """Half of the users click what the first strategy finds likely, half what the second does."""
    random = np.random.default_rng(0)
    x = random.integers(0, 2, (3000, 1)).astype(float)
    said = random.normal(-4, 1.5, (3000, 2))
    believed = np.where(x[:, 0] == 1, said[:, 0], said[:, 1])
    clicked = random.random(3000) < 1 / (1 + np.exp(-(1.5 * believed + 6)))
    weights = np.exp(fit(x, said, clicked.astype(float)).log_weights(np.array([[1.0], [0.0]])))
    assert weights[0, 0] > 0.8
    assert weights[1, 1] > 0.8


def test_without_features_it_is_one_mixture() -> None:
    """Of two strategies that are sure of different items, the shares of what was taken."""
    taken = np.log(np.where(np.arange(100)[:, None] < 30, [[1.0, 1e-6]], [[1e-6, 1.0]]))
    weights = np.exp(fit(np.zeros((100, 0)), taken).log_weights(np.zeros((1, 0))))
    np.testing.assert_allclose(weights, [[0.3, 0.7]], atol=1e-3)


def test_numbers_and_module_are_one_policy() -> None:
    random = np.random.default_rng(1)
    learned = Learned(np.zeros(2), np.ones(2), random.normal(size=(2, 3)), random.normal(size=3))
    x = random.normal(size=(5, 2))
    params = {"params": {"dense": {"kernel": learned.matrix, "bias": learned.bias}}}
    with jax.numpy_rank_promotion("allow"):
        expected: Any = jax.vmap(lambda one: Policy(3).apply(params, one))(x)
    np.testing.assert_allclose(learned.log_weights(x), expected, atol=1e-5)


def test_a_feature_that_says_nothing_changes_nothing() -> None:
    x, _, p, item = planted(500, 2)
    with_constant = np.concatenate([x, np.full((500, 1), 7.0)], axis=1)
    one, two = fit(x, log_p(p, item)), fit(with_constant, log_p(p, item))
    np.testing.assert_allclose(one.log_weights(x), two.log_weights(with_constant), atol=1e-3)


def test_features_are_those_of_what_is_visible() -> None:
    log = Histories.from_arrays(
        np.array([0, 0, 0, 0, 1]), np.array([2, 1, 2, 0, 1]), np.array([0, 1, 2, 9, 3]) * DAY,
        users=3, items=3, weight=np.array([1, 1, 1, 1, -1.0]),
    )  # fmt: skip
    asked = Requests(
        user=np.array([0, 0, 1, 2], np.int32), history_end=np.array([3, 0, 5, 5]),
        at=np.array([4, 4, 4, 4]) * DAY, target_offsets=np.zeros(5, np.int64),
        targets=np.zeros(0, np.int32), event=np.zeros(4, np.int64),
    )  # fmt: skip
    found = features(log, asked, np.array([0.0, 0.5, 3.0, 99.0, 5.0]))
    assert FEATURES == ("events", "idle", "repeats", "drift")
    np.testing.assert_allclose(found[0], [np.log(4), np.log(3), 1 / 3, np.log(4)])
    assert not found[1:].any()  # nothing visible, nothing chosen, nobody


@pytest.mark.parametrize("count", [1, 3])
def test_few_pairs_move_little(count: int) -> None:
    """The prior: what one event says is no rule."""
    learned = fit(np.eye(4)[:count], np.tile([-1.0, -1.1], (count, 1)))
    assert np.abs(learned.matrix).max() < 0.2
