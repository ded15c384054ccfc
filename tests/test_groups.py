"""Groups and ages of requests."""

from math import nan

import numpy as np
import toys

from jaxdecay.data.requests import requests
from jaxdecay.evaluate import evaluate
from jaxdecay.groups import AGES, NO_AGE, age_bucket, by_user, padded
from jaxdecay.listed import Listed
from jaxdecay.metrics import RANK_METRICS


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


def test_users_by_activity_and_by_their_own_columns():
    histories = toys.log((8, 1, 22), held_out=1)
    asked = requests(histories, 1)
    found = by_user(asked, histories)
    assert {name: mask.tolist() for name, mask in found.items() if name.startswith("activity")} == {
        "activity:none": [False, True, False],
        "activity:5-19": [True, False, False],
        "activity:20-99": [False, False, True],
    }
    country = histories.user_categorical[:, 0]
    for code, name in ((1, "jazz"), (2, "rock")):
        mask = found.get(f"user:country={name}", np.zeros(3, bool))
        assert mask.tolist() == (country == code).tolist()


def test_every_metric_has_a_figure_for_every_group_of_users():
    histories = toys.log((6,) * 12, held_out=2)
    asked = requests(histories, 1)
    place = np.random.default_rng(0).permutation(7).astype(np.int32) + 1
    system = Listed(
        "fixed", asked.event, np.arange(len(asked) + 1) * 7,
        np.tile(np.arange(7, dtype=np.int32), len(asked)), np.tile(place, len(asked)), 7,
    )  # fmt: skip
    report = evaluate([system], histories, asked, k=(3,), bootstrap=10, exclude_history=False)
    country = histories.user_categorical[asked.user, 0]
    rank = place[asked.targets]
    for code, name in ((1, "jazz"), (2, "rock")):
        inside = country == code
        assert 0 < inside.sum() < len(asked)
        hits = report.figure("fixed", "hr@3", group=f"user:country={name}")
        assert hits.value == np.mean(rank[inside] <= 3)
        assert hits.low <= hits.value <= hits.high
        for metric in (*RANK_METRICS, "debiased_ndcg", "novelty", "diversity"):
            assert np.isfinite(report.figure("fixed", f"{metric}@3", group=f"user:country={name}").value)
