"""What lists are like: values as arithmetic."""

from math import log2, sqrt

import numpy as np
import pytest

from jaxdecay.lists import coverage, diversity, exposures, gini, novelty


def test_novelty_is_surprise_in_bits():
    counts = np.array([7, 0, 1])  # 8 events and 3 items: chances 8/11, 1/11, 2/11
    found = novelty(np.array([[0, 1], [2, -1], [-1, -1]]), counts)
    np.testing.assert_allclose(found[:2], [(log2(11 / 8) + log2(11 / 1)) / 2, log2(11 / 2)])
    assert np.isnan(found[2])


def test_diversity_is_one_minus_the_mean_cosine():
    categories = np.array([[1, 1], [1, 2], [0, 2], [0, 0]])
    found = diversity(np.array([[0, 1, 2], [0, 0, -1], [0, 3, -1]]), categories)
    pairs = [1 / 2, 0 / sqrt(2), 1 / sqrt(2)]  # 0-1 share one of two; 0-2 nothing; 1-2 one of two and one
    np.testing.assert_allclose(found[:2], [1 - sum(pairs) / 3, 0], atol=1e-12)
    assert np.isnan(found[2])


def test_coverage_and_exposures():
    shown = exposures(np.array([[0, 1], [0, -1], [2, 0]]), np.array([0, 0, 1]), (2, 4))
    assert shown.tolist() == [[2, 1, 0, 0], [1, 0, 1, 0]]
    assert coverage(shown.sum(axis=0)) == 3 / 4
    assert coverage(shown).tolist() == [2 / 4, 2 / 4]


@pytest.mark.parametrize(
    ("exposure", "value"), [([5, 5, 5, 5], 0), ([0, 0, 0, 9], 3 / 4), ([1, 3], 2 / (2 * 4))]
)
def test_gini(exposure, value):
    assert gini(np.array(exposure, float)) == pytest.approx(value)
    assert gini(np.array([exposure[::-1]], float)) == pytest.approx([value])


def test_gini_is_half_the_relative_mean_difference():
    shown = np.random.default_rng(0).integers(0, 9, 50).astype(float)
    apart = np.abs(shown[:, None] - shown[None, :]).mean()
    assert gini(shown) == pytest.approx(apart / (2 * shown.mean()))


def test_items_that_are_not_listed_may_be_left_out():
    shown = np.array([[4.0, 0, 1, 0, 0], [0, 0, 2, 7, 0]])
    some = shown[:, [0, 2, 3]]
    np.testing.assert_allclose(gini(some, items=5), gini(shown), rtol=1e-12)
    np.testing.assert_allclose(coverage(some, items=5), [2 / 5, 2 / 5], rtol=1e-12)
    assert gini(shown)[0] != pytest.approx(gini(some)[0])


def test_nothing_listed_has_no_gini():
    assert np.isnan(gini(np.zeros(3)))
    assert np.isnan(gini(np.zeros(0), items=3))
    assert coverage(np.zeros(0), items=3) == 0
