"""Groups and ages of requests."""

from math import nan

import numpy as np

from jaxdecay.groups import AGES, NO_AGE, age_bucket, padded


def test_age_buckets():
    days = np.array([0, 0.03, 1 / 24, 1, 6.9, 7, 400, nan])
    names = (*AGES, "none")
    assert [names[b] for b in age_bucket(days)] == [
        "<1h", "<1h", "1h-1d", "1d-7d", "1d-7d", "7d-30d", ">365d", "none",
    ]  # fmt: skip
    assert names[NO_AGE] == "none"


def test_targets_of_all_requests_as_a_table():
    offsets = np.array([0, 2, 2, 3])
    assert padded(np.array([1.0, 2.0, 3.0]), offsets, np.inf).tolist() == [[1, 2], [np.inf] * 2, [3, np.inf]]
    assert padded(np.array([1.0, 2.0]), np.array([0, 1, 2]), np.inf).tolist() == [[1], [2]]
