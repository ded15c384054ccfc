"""Intervals over users: coverage of a known mean, pairing, and what each guarantee says."""

import numpy as np
import pytest

from jaxdecay import bootstrap


def correlated(seed: int, users: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Values with mean 0 whose users differ and send different numbers of requests."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), random.integers(1, 9, users))
    return random.normal(size=users)[user] + 0.5 * random.normal(size=len(user)), user


def mean_interval(values: np.ndarray, user: np.ndarray, **options: int) -> tuple[float, float, float]:
    """The mean of one column of values, and its interval over users."""
    sums = bootstrap.by_user(user).sums(values[:, None])
    low, high = bootstrap.interval(bootstrap.replicate(sums, **options))
    return float(sums.means()[0]), float(low[0]), float(high[0])


def test_the_interval_covers_the_mean_as_often_as_it_says():
    covered = [
        low < 0 < high
        for seed in range(300)
        for _, low, high in [mean_interval(*correlated(seed), replicates=300, seed=seed)]
    ]
    assert 0.90 < np.mean(covered) < 0.985  # 0.95, and three standard errors of 300 trials either side


def test_drawing_requests_instead_of_users_would_not():
    covered = []
    for seed in range(300):
        values, _ = correlated(seed)
        _, low, high = mean_interval(values, np.arange(len(values)), replicates=300, seed=seed)
        covered.append(low < 0 < high)
    assert np.mean(covered) < 0.85


def test_the_mean_is_over_requests_and_nan_is_no_request():
    values, user = np.array([1.0, 3.0, np.nan, 8.0]), np.array([7, 7, 7, 2])
    assert mean_interval(values, user)[0] == (1 + 3 + 8) / 3


def test_weights():
    sums = bootstrap.by_user(np.array([0, 0, 1])).sums(
        np.array([[1.0], [4.0], [np.nan]]), weight=np.array([[3.0], [1.0], [5.0]])
    )
    assert sums.total.tolist() == [[7], [0]]
    assert sums.weight.tolist() == [[4], [0]]
    assert sums.means() == [7 / 4]


def test_users_are_drawn_once_on_average_with_variance_one():
    drawn = np.concatenate([d for _, d in bootstrap.draws(10_000, replicates=200, seed=3)], axis=1)
    assert drawn.shape == (200, 10_000)
    assert drawn.mean() == pytest.approx(1, abs=0.005)
    assert drawn.var() == pytest.approx(1, abs=0.01)


def test_replicates_are_weighted_means_of_the_draws():
    values, user = correlated(1)
    sums = bootstrap.by_user(user).sums(values[:, None])
    found = bootstrap.replicate(sums, replicates=20, seed=5)
    drawn = np.concatenate([d for _, d in bootstrap.draws(60, replicates=20, seed=5)], axis=1).astype(float)
    expected = [(row[user] @ values) / row[user].sum() for row in drawn]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_the_seed_decides():
    values, user = correlated(1)
    assert mean_interval(values, user, seed=1) == mean_interval(values, user, seed=1)
    assert mean_interval(values, user, seed=1) != mean_interval(values, user, seed=2)


def test_a_paired_difference_is_surer_than_two_intervals():
    values, user = correlated(2)
    gathered = bootstrap.by_user(user)
    better, worse = (bootstrap.replicate(gathered.sums(x[:, None]), seed=4) for x in (values + 0.1, values))
    low, high = bootstrap.interval(better - worse)
    assert (low, high) == pytest.approx((0.1, 0.1), abs=1e-4)
    _, wide_low, wide_high = mean_interval(values, user, seed=4)
    assert wide_high - wide_low > 0.3


def test_percentiles_are_those_of_numpy_and_skip_nan():
    drawn = np.random.default_rng(0).normal(size=(101, 3))
    low, high = bootstrap.interval(drawn)
    np.testing.assert_allclose([low, high], np.percentile(drawn, [2.5, 97.5], axis=0))
    drawn[::2, 1] = np.nan
    drawn[:, 2] = np.nan
    low, high = bootstrap.interval(drawn, level=0.8)
    np.testing.assert_allclose([low[1], high[1]], np.nanpercentile(drawn[:, 1], [10, 90]))
    assert np.isnan([low[2], high[2]]).all()


def test_one_user_and_nobody():
    value, low, high = mean_interval(np.array([0.25, 0.75]), np.array([4, 4]))
    assert (value, low, high) == (0.5, 0.5, 0.5)
    assert np.isnan(mean_interval(np.array([np.nan]), np.array([4]))).all()
