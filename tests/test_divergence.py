"""The fast-slow divergence: one by one and all at once, against sums written out, and what chance makes of
it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecay import divergence, state
from jaxdecay.divergence import Paces
from jaxdecay.modes import Modes

WIDTH = 6
PACES = Paces(jnp.log(2.0) / jnp.array([4.0, 40.0]), jnp.float32(0.8), jnp.float32(3.0))

after_each, statistic = jax.jit(divergence.after_each), jax.jit(divergence.statistic)
of_many = jax.jit(
    jax.vmap(lambda gap, vectors: divergence.after_each(PACES, gap, vectors, jnp.ones(len(gap), bool)))
)


def history(seed: int, count: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaps, vectors and write weights."""
    random = np.random.default_rng(seed)
    gap = np.where(random.random(count) < 0.3, 0.0, random.lognormal(-0.5, 1.5, count))
    return gap, random.normal(size=(count, WIDTH)) + 1.0, random.uniform(0.2, 2.0, (count, 2))


def written_out(gap: np.ndarray, vectors: np.ndarray, writes: np.ndarray) -> float:
    """The statistic after the last event, from ages, in float64."""
    age = np.append(np.cumsum(gap[1:][::-1])[::-1], 0.0)
    left = writes * np.exp(-np.asarray(PACES.rate, np.float64) * age[:, None])
    share = left / left.sum(0)
    fast, slow = share.T @ vectors
    spread = ((share[:, 0] - share[:, 1]) ** 2).sum()
    own = (share[:, 1] * ((vectors - slow) ** 2).sum(-1)).sum()
    behind = 1 / (share[:, 1] * share[:, 1]).sum()
    variance = (3.0 * 0.8 + behind * own) / (3.0 + behind - 1)
    return float(((fast - slow) ** 2).sum() / (variance * spread))


def all_at_once(gap: np.ndarray, vectors: np.ndarray, writes: np.ndarray, mask: np.ndarray) -> np.ndarray:
    gaps, pointed, weights = (jnp.asarray(x, jnp.float32) for x in (gap, vectors, writes))
    return np.asarray(after_each(PACES, gaps, pointed, jnp.asarray(mask), weights))


def test_it_is_what_its_sums_written_out_are() -> None:
    gap, vectors, writes = history(0)
    found = all_at_once(gap, vectors, writes, np.ones(len(gap), bool))
    for count in (3, 10, 30):
        expected = written_out(gap[:count], vectors[:count], writes[:count])
        assert found[count - 1] == pytest.approx(expected, rel=1e-3)
    assert found[0] == pytest.approx(0, abs=1e-6)  # one event has nothing to be compared with


def test_one_by_one_beside_two_modes_of_a_bank_is_all_at_once() -> None:
    gap, vectors, writes = history(1)
    seconds = np.cumsum(np.round(gap * 86_400).astype(np.int32), dtype=np.int32)
    gap = np.diff(seconds, prepend=seconds[:1]) / 86_400
    found = all_at_once(gap, vectors, writes, np.ones(len(gap), bool))
    modes, spread = Modes(PACES.rate), divergence.init()
    bank, write, update = state.init(modes, WIDTH), jax.jit(state.update), jax.jit(divergence.update)
    assert statistic(PACES, bank.value[0], spread) == 0
    for i in range(len(gap)):
        days, vector, weights = (jnp.asarray(x, jnp.float32) for x in (gap[i], vectors[i], writes[i]))
        bank = write(modes, bank, jnp.int32(seconds[i]), weights, vector)
        spread = update(PACES, spread, days, (vector * vector).sum(), weights)
        z = statistic(PACES, bank.value[0], spread)
        np.testing.assert_allclose(z, found[i], rtol=1e-3, atol=1e-4)


def test_a_detection_raises_the_fast_reads_and_can_be_learned() -> None:
    reads, half_lives = jnp.array([0.5, 1.0, 2.0, 0.5]), jnp.array([jnp.inf, 1.0, 30.0, 7.0])

    def fast_share(z: jax.Array) -> jax.Array:
        moved = divergence.raised(reads, half_lives, z, fast=7.0, threshold=5.0)
        return moved[jnp.array([1, 3])].sum() / moved.sum()

    calm, alarmed = (
        divergence.raised(reads, half_lives, jnp.float32(z), fast=7.0, threshold=5.0) for z in (0, 50)
    )
    np.testing.assert_allclose(calm, reads, rtol=0.02)
    np.testing.assert_allclose(alarmed.sum(), reads.sum(), rtol=1e-6)
    np.testing.assert_allclose(alarmed[1] / alarmed[2], np.e * 1.0 / 2.0, rtol=1e-5)
    np.testing.assert_allclose(alarmed[3] / alarmed[1], 0.5, rtol=1e-5)
    slope = (fast_share(jnp.float32(5.01)) - fast_share(jnp.float32(4.99))) / 0.02
    np.testing.assert_allclose(jax.grad(fast_share)(jnp.float32(5.0)), slope, rtol=1e-2)
    assert slope > 0


def test_padding_changes_nothing() -> None:
    gap, vectors, writes = history(2, 12)
    mask = np.ones(12, bool)
    plain = all_at_once(gap, vectors, writes, mask)
    pad = ((3, 2),)
    padded = all_at_once(
        np.pad(gap, pad), np.pad(vectors, (*pad, (0, 0)), constant_values=np.nan),
        np.pad(writes, (*pad, (0, 0))), np.pad(mask, pad),
    )  # fmt: skip
    assert not padded[:3].any()
    np.testing.assert_allclose(padded[3:15], plain, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(padded[15:], plain[-1], rtol=1e-4)


def test_a_long_pause_before_what_is_unknown_leaves_it_as_it_was() -> None:
    gap, vectors, writes = history(4, 12)
    gap = np.append(gap, [4_000.0, 1.0])
    mask = np.append(np.ones(12, bool), [False, True])
    vectors, writes = (np.concatenate([x, np.ones((2, x.shape[1]))]) for x in (vectors, writes))
    found = all_at_once(gap, vectors, writes, mask)
    assert found[12] == found[11] > 0
    assert found[13] == pytest.approx(0, abs=1e-3)  # all but the last has faded beyond reach
    same = all_at_once(gap, np.ones((14, WIDTH)), np.ones((14, 2)), np.ones(14, bool))
    assert np.isfinite(same).all()
    assert (same < 1e-3).all()


@pytest.mark.parametrize("median_gap", [0.01, 0.5, 5.0])
def test_without_drift_it_is_about_one_however_events_lie(median_gap: float) -> None:
    random = np.random.default_rng(3)
    gap = random.lognormal(np.log(median_gap), 1.5, (200, 60))
    vectors = (
        random.normal(size=(200, 1, WIDTH)) + random.normal(size=(200, 60, WIDTH)) * (0.8 / WIDTH) ** 0.5
    )
    found = of_many(jnp.asarray(gap, jnp.float32), jnp.asarray(vectors, jnp.float32))
    means = np.asarray(found)[:, 20:].mean()
    # Where all events lie within an hour of fast and slow, they are means of the same.
    assert means == pytest.approx(1.0, abs=0.15) or (median_gap == 0.01 and 0 < means < 1.1)
