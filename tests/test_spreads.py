"""Kernels of single items and users: mixtures worked out by hand, and quantiles counted event by event."""

from typing import Any

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import Pieces
from jaxdecay.curves import half_lives_now
from jaxdecay.modes import first_half
from jaxdecay.spreads import Spread, spreads

HALF_LIVES = np.array([0.5, 8.0])


@pytest.fixture(scope="module")
def made() -> tuple[Pieces, Any]:
    """A model in which items differ and nothing else does, with random parameters."""
    histories = toys.log((9, 6, 3), items=5)
    changes = {"similarity_half_lives": tuple(HALF_LIVES), "revisit": False, "revisit_half_lives": ()}
    pieces = toys.pieces(histories, toys.bare(histories, per_item=True, **changes), window=64)
    with jax.numpy_rank_promotion("allow"):
        return pieces, toys.random_params(pieces, scale=1.0)


def mixtures(params: Any) -> np.ndarray:
    """(V, C) by hand: the softmax of what is written of everything and of each item."""
    decay = jax.tree.map(lambda x: np.asarray(x, np.float64), params["similarity"]["decay"])
    logits = decay["write"] + decay["item_write"]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def half_life(weights: np.ndarray, half_lives: np.ndarray) -> float:
    """By bisection; the first curve never fades."""
    if weights[0] >= 0.5:
        return np.inf
    low, high = 1e-6, 1e6
    for _ in range(200):
        middle = np.sqrt(low * high)
        left = weights[0] + (weights[1:] * np.exp2(-middle / half_lives)).sum()
        low, high = (middle, high) if left > 0.5 else (low, middle)
    return low


def test_half_lives_of_items_and_users_are_those_of_their_mixtures(made: tuple[Pieces, Any]) -> None:
    pieces, params = made
    log, own = pieces.histories, mixtures(params)
    learned = np.exp(np.asarray(params["similarity"]["decay"]["log_half_life"], np.float64))
    item, user = np.asarray(log.item), log.user()
    for of, one in (("items", item), ("users", user)):
        [found] = spreads(log, pieces.model, params, of)
        assert (found.head, found.of) == ("similarity", of)
        np.testing.assert_array_equal(found.events, np.bincount(one)[np.unique(one)])
        expected = [half_life(own[item[one == which]].mean(axis=0), learned) for which in np.unique(one)]
        np.testing.assert_allclose(found.half_lives(), expected, rtol=2e-3)
    assert len(set(np.round(expected, 6))) > 1


def test_half_lives_now_are_those_of_all_events_together(made: tuple[Pieces, Any]) -> None:
    pieces, params = made
    own, learned = mixtures(params), np.exp(np.asarray(params["similarity"]["decay"]["log_half_life"]))
    expected = half_life(own[np.asarray(pieces.histories.item)].mean(axis=0), learned)
    found = half_lives_now(pieces.histories, pieces.model, params)
    assert found == {"similarity": {"all": pytest.approx(expected, rel=2e-3)}}
    steady = jax.tree.map(lambda x: x, params)
    steady["similarity"]["decay"]["write"] = steady["similarity"]["decay"]["write"].at[0].set(20.0)
    assert half_lives_now(pieces.histories, pieces.model, steady) == {"similarity": {"all": None}}


def test_a_band_counts_each_item_as_often_as_it_has_events() -> None:
    random = np.random.default_rng(0)
    age = np.linspace(0, 30, 400)
    curves = np.stack([np.ones_like(age), np.exp2(-age / 2), np.exp2(-age / 9)])
    weights = random.dirichlet(np.ones(3), 40)
    one = Spread("revisit", "items", random.integers(1, 9, 40), weights, age, curves)
    at = curves[:, [0, 50, 200, 399]]
    found = one.band(at, (0.1, 0.5, 0.9))
    each = np.repeat(weights @ at, one.events, axis=0)
    np.testing.assert_allclose(found, np.quantile(each, [0.1, 0.5, 0.9], axis=0, method="inverted_cdf"))
    np.testing.assert_allclose(one.half_lives(), [first_half(age, row @ curves) for row in weights])
