"""The likelihood over the catalogue against dense sums in float64: values, slopes, chunks, total."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import logsumexp
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.losses import log_likelihood, log_partition, partition
from jaxdecay.scorer import Excitation, Scorer

T, V, D, G = 11, 13, 3, 2  # queries, items, features, points of time
# Scores held at a time and items in a chunk. With 4 scores the queries go in blocks of eight, the last one
# padded, otherwise all at once; 4 and 12 do not divide 13.
SIZES = pytest.mark.parametrize(
    ("tile", "item_chunk"), [(4, 4), (4, 100), (1 << 20, 1), (1 << 20, 12), (1 << 20, V)]
)


def problem(dtype: Any = np.float32, seed: int = 0, scale: float = 1.0) -> tuple[Any, Any, Scorer]:
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(scale * random.normal(size=shape), dtype)

    query, scorer = normal(T, D), Scorer(normal(V, D), normal(V), normal(G, V))
    return query, jnp.asarray(random.integers(0, G, T), jnp.int32), scorer


def dense(query: Any, grid: Any, scorer: Scorer) -> np.ndarray:
    """(T, V) float64 scores."""
    query, targets, bias, popularity = (np.asarray(x, np.float64) for x in (query, *scorer))
    return query @ targets.T + bias + popularity[np.asarray(grid)]


@pytest.fixture(autouse=True)
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of eight queries, unless the test says otherwise."""
    monkeypatch.setattr(
        partition, "_TILE", request.getfixturevalue("tile") if "tile" in request.fixturenames else 4
    )


@SIZES
def test_log_partition_is_the_dense_logsumexp(tile: int, item_chunk: int) -> None:
    query, grid, scorer = problem()
    expected = logsumexp(dense(query, grid, scorer), axis=1)
    np.testing.assert_allclose(log_partition(query, grid, scorer, item_chunk), expected, rtol=1e-5, atol=1e-6)


@SIZES
def test_slopes_are_the_softmax(tile: int, item_chunk: int) -> None:
    query, grid, scorer = problem(seed=1)
    weight = jnp.asarray(np.random.default_rng(2).normal(size=T), jnp.float32)

    def weighted(query: Any, scorer: Scorer) -> Any:
        return (weight * log_partition(query, grid, scorer, item_chunk)).sum()

    of_query, of_scorer = jax.grad(weighted, (0, 1))(query, scorer)
    scores = dense(query, grid, scorer)
    share = (
        np.exp(scores - logsumexp(scores, axis=1, keepdims=True)) * np.asarray(weight, np.float64)[:, None]
    )
    popularity = np.stack([share[np.asarray(grid) == g].sum(0) for g in range(G)])
    expected = (share.T @ np.asarray(query, np.float64), share.sum(0), popularity)
    np.testing.assert_allclose(of_query, share @ np.asarray(scorer.targets, np.float64), atol=1e-5)
    for found, exact in zip(of_scorer, expected, strict=True):
        np.testing.assert_allclose(found, exact, atol=1e-5)


def test_slopes_are_those_of_finite_differences_in_float64() -> None:
    with jax.enable_x64(True):
        query, grid, scorer = problem(np.float64, seed=3)

        @jax.jit
        def chunked(query: Any, scorer: Scorer) -> jax.Array:
            return log_partition(query, grid, scorer, 4)

        check_grads(chunked, (query, scorer), 1, ["rev"], 1e-7, 1e-7)


@pytest.mark.parametrize("scale", [0.0, 30.0])
def test_no_score_is_too_flat_or_too_steep(scale: float) -> None:
    query, grid, scorer = problem(seed=4, scale=scale)
    scorer = scorer._replace(bias=scorer.bias.at[0].set(3e3).at[1].set(-3e3))
    expected = logsumexp(dense(query, grid, scorer), axis=1)
    np.testing.assert_allclose(log_partition(query, grid, scorer, 4), expected, rtol=1e-5)
    slopes = jax.grad(lambda q, s: log_partition(q, grid, s, 4).sum(), (0, 1))(query, scorer)
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))


def excited(seed: int = 5) -> tuple[Any, np.ndarray]:
    """The problem and what each item's intensity gains at each query: most items gain nothing."""
    random = np.random.default_rng(seed)
    return problem(seed=seed), np.where(random.random((T, V)) < 0.3, random.gamma(1.0, 2.0, (T, V)), 0.0)


def log_of(gained: np.ndarray) -> jax.Array:
    return jnp.asarray(np.where(gained > 0, np.log(np.where(gained > 0, gained, 1.0)), -1e9), jnp.float32)


def likelihoods(item_chunk: int, *, with_counts: bool = True) -> np.ndarray:
    """(T, V) log-likelihood of every item as the target of every query."""
    (query, grid, scorer), gained = excited()
    of_all = log_of(gained.sum(1))

    @jax.vmap
    def likelihood(item: Any, gained: Any) -> jax.Array:
        target = jnp.broadcast_to(item, T)
        excitation = Excitation(gained, of_all) if with_counts else None
        return log_likelihood(query, grid, target, scorer, excitation, item_chunk=item_chunk)

    return np.asarray(likelihood(jnp.arange(V, dtype=jnp.int32), log_of(gained.T))).T


@pytest.mark.parametrize("item_chunk", [4, 20_000])
def test_log_likelihood_is_the_dense_probability_of_every_item(item_chunk: int) -> None:
    (query, grid, scorer), gained = excited()
    scores = dense(query, grid, scorer)
    intensity = np.exp(scores - logsumexp(scores, axis=1, keepdims=True)) + gained
    expected = np.log(intensity / intensity.sum(1, keepdims=True))
    np.testing.assert_allclose(likelihoods(item_chunk), expected, atol=2e-5)


@pytest.mark.parametrize("with_counts", [True, False])
def test_the_probabilities_of_all_items_add_up_to_one(with_counts: bool) -> None:
    total = np.exp(likelihoods(4, with_counts=with_counts)).sum(1)
    np.testing.assert_allclose(total, np.ones(T), rtol=1e-5)


def test_nobody_without_a_history_is_excited() -> None:
    query, grid, scorer = problem(seed=6)
    target, nothing = jnp.arange(T, dtype=jnp.int32), jnp.full(T, -1e9, jnp.float32)
    found = log_likelihood(query, grid, target, scorer, Excitation(nothing, nothing))
    np.testing.assert_allclose(found, log_likelihood(query, grid, target, scorer), rtol=1e-6)

    def slope(query: Any) -> Any:
        return log_likelihood(query, grid, target, scorer, Excitation(nothing, nothing)).sum()

    assert np.isfinite(jax.grad(slope)(query)).all()


def test_scores_of_one_item_are_those_of_all() -> None:
    query, grid, scorer = problem(seed=7)
    item = jnp.asarray(np.random.default_rng(0).integers(0, V, T), jnp.int32)
    np.testing.assert_allclose(
        scorer.score(query, grid, item), scorer.scores(query, grid)[jnp.arange(T), item], rtol=1e-5
    )
