"""Groups and ages of requests."""

from dataclasses import dataclass
from math import nan

import numpy as np
import toys

from jaxdecay.data.requests import Requests, requests
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
    for code, name in ((0, "(no value)"), (1, "jazz"), (2, "rock")):
        mask = found.get(f"user:country={name}", np.zeros(3, bool))
        assert mask.tolist() == (country == code).tolist()


def test_users_without_a_value_have_a_row_of_their_own():
    histories = toys.log((8, 1, 22), held_out=1)
    histories = histories.replace(user_categorical=np.array([[0], [2], [0]], np.int32))
    found = by_user(requests(histories, 1), histories)
    columns = {name: mask.tolist() for name, mask in found.items() if name.startswith("user:")}
    assert columns == {
        "user:country=rock": [False, True, False],
        "user:country=(no value)": [True, False, True],
    }


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


@dataclass
class Drawn:
    """Scores of its own for every event of the log; they are log odds."""

    table: np.ndarray
    name: str = "drawn"
    uses_time: bool = False
    pair_logits: bool = True

    def scores(self, requests: Requests) -> np.ndarray:
        return self.table[requests.event]


def test_coverage_gini_and_auc_of_every_group_of_users_as_written_out():
    """Lists of items that had come before the request; labels of some events."""
    histories = toys.live(toys.log((6, 2, 30, 6, 6, 9, 2, 6), held_out=2))
    asked, random = requests(histories, 1), np.random.default_rng(3)
    system = Drawn(random.normal(size=(histories.events, 7)).astype(np.float32))
    labels = random.choice([0.0, 1.0, nan], len(asked))
    report = evaluate(
        [system], histories, asked, k=(1, 3), bootstrap=20, labels=labels, exclude_history=False
    )
    come = np.stack([[np.any(histories.time[histories.item == i] < at) for i in range(7)] for at in asked.at])
    score = np.where(come, system.table[asked.event], -np.inf)
    seen = asked.history_end - histories.offsets[asked.user]
    country = histories.user_categorical[asked.user, 0]
    groups = {
        "all": seen >= 0,
        "activity:none": seen == 0,
        "activity:1-4": (seen >= 1) & (seen < 5),
        "activity:5-19": (seen >= 5) & (seen < 20),
        "activity:20-99": seen >= 20,
        "user:country=jazz": country == 1,
        "user:country=rock": country == 2,
    }
    candidates = np.flatnonzero(come.any(axis=0))
    for group, inside in groups.items():
        assert inside.any()
        for k in (1, 3):
            shown = np.zeros(7)
            for row in np.flatnonzero(inside):
                for item in np.argsort(-score[row], kind="stable")[:k]:
                    shown[item] += np.isfinite(score[row, item])
            shown = shown[candidates]
            apart = np.mean([abs(one - other) for one in shown for other in shown])
            found = {
                name: report.figure("drawn", f"{name}@{k}", group=group) for name in ("coverage", "gini")
            }
            np.testing.assert_allclose(found["coverage"].value, np.mean(shown > 0), rtol=1e-6)
            np.testing.assert_allclose(found["gini"].value, apart / (2 * shown.mean()), rtol=1e-6)
            for one in found.values():
                assert 0 <= one.low <= one.value <= one.high <= 1
        told = {of: system.table[asked.event, asked.targets][inside & (labels == of)] for of in (0, 1)}
        wins = [(one > other) + 0.5 * (one == other) for one in told[1] for other in told[0]]
        auc = report.figure("drawn", "auc", group=group).value
        np.testing.assert_allclose(auc, np.mean(wins) if wins else nan, rtol=1e-6)
        right = [*(told[1] > 0), *(told[0] <= 0)]
        accuracy = report.figure("drawn", "accuracy", group=group).value
        np.testing.assert_allclose(accuracy, np.mean(right) if right else nan, rtol=1e-6)
    kinds = {np.isnan(report.figure("drawn", "auc", group=group).value) for group in groups}
    assert kinds == {True, False}
