"""The rules of evaluation on logs small enough to rank by hand."""

import json
from dataclasses import dataclass, field
from math import log2, nan

import numpy as np
import pytest

from jaxdecay import evaluate as evaluation
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, requests
from jaxdecay.evaluate import chunks, evaluate, rank_requests
from jaxdecay.groups import AGES
from jaxdecay.report import protocol_lines

DAY = 86_400
# user, item, day, part. Item 4 appears in the test part only, item 3 in training and then as a novelty of
# user 1.
LOG = np.array(
    [
        (0, 0, 1, 0), (0, 1, 2, 0), (0, 0, 3, 0), (0, 0, 10, 2),
        (1, 1, 1, 0), (1, 2, 2, 0), (1, 3, 40, 2),
        (2, 3, 1, 0), (2, 4, 11, 2), (2, 4, 12, 2),
        (3, 2, 13, 2),
    ]
)  # fmt: skip


def histories(**config) -> Histories:
    user, item, day, part = LOG.T
    split = {"kind": "global-time", "targets": "successive"}
    counts = {"known_items": 4, "known_users": 3}
    return Histories.from_arrays(
        user,
        item,
        day * DAY,
        part=part,
        config={"split": split, "repeat_share": 0.3, "counts": counts} | config,
    )


@dataclass
class Fixed:
    """Scores that do not depend on anything; ``seen`` is what it was asked."""

    row: list[float]
    name: str = "fixed"
    uses_time: bool = False
    seen: list[Requests] = field(default_factory=list)

    def scores(self, requests: Requests) -> np.ndarray:
        self.seen.append(requests)
        return np.tile(np.array(self.row, np.float32), (len(requests), 1))


@dataclass
class Knowing(Fixed):
    """Knows the target, unless the time is withheld from it."""

    uses_time: bool = True

    def scores(self, requests: Requests) -> np.ndarray:
        scores = super().scores(requests)
        told = requests.at == LOG[requests.event, 2] * DAY
        scores[told, requests.targets[told]] = 99
        return scores


def test_ranks_follow_the_rules():
    log = histories()
    asked = requests(log, 2)
    assert asked.targets.tolist() == [0, 3, 4, 4, 2]
    found = rank_requests(Fixed([5, 4, 3, 2, 1]), log, asked)
    # Item 4 is first seen by user 2 on day 11: no candidate then, one a day later.
    assert found.tolist() == [1, 4, np.inf, 5, 3]


def test_the_history_leaves_the_ranking_unless_repeats_are_common():
    asked = requests(histories(), 2)
    system = Fixed([5, 4, 3, 2, 1])
    rare = histories(repeat_share=0.05)
    assert rank_requests(system, rare, asked).tolist() == [np.inf, 2, np.inf, np.inf, 3]
    assert rank_requests(system, rare, asked, exclude_history=False).tolist() == [1, 4, np.inf, 5, 3]
    report = evaluate([system], rare, asked, k=[2], bootstrap=10)
    assert report.protocol["history"] == "removed"
    assert "5.0% of training events are repeats" in report.protocol["history_why"]
    report = evaluate([system], rare, asked, k=[2], bootstrap=10, exclude_history=False)
    assert report.protocol["history"] == "kept"
    assert report.protocol["history_why"].startswith("as asked")


def test_every_item_is_a_candidate_under_leave_one_out():
    log = histories(split={"kind": "leave-one-out", "targets": "last"})
    assert rank_requests(Fixed([5, 4, 3, 2, 1]), log, requests(log, 2, "successive")).tolist() == [
        1,
        4,
        5,
        5,
        3,
    ]


def test_figures_by_group_as_arithmetic():
    log = histories()
    report = evaluate([Fixed([5, 4, 3, 2, 1])], log, requests(log, 2), k=[3, 5], bootstrap=50)
    gain = {rank: 1 / log2(1 + rank) for rank in (1, 3, 4, 5)}

    def value(metric: str, group: str = "all") -> float:
        return report.figure("fixed", metric, group=group).value

    assert value("ndcg@5") == pytest.approx((gain[1] + gain[4] + 0 + gain[5] + gain[3]) / 5)
    assert value("hr@3") == pytest.approx(2 / 5)
    assert value("mrr@3") == pytest.approx((1 + 1 / 3) / 5)
    assert value("ndcg@5", "repeats") == pytest.approx((gain[1] + gain[5]) / 2)
    assert value("ndcg@5", "novelties") == pytest.approx((gain[4] + 0 + gain[3]) / 3)
    assert value("ndcg@5", "cold") == pytest.approx(gain[3])
    assert value("ndcg@5", "warm") == pytest.approx((gain[1] + gain[4] + gain[3]) / 3)
    assert value("hr@5", "last-event:7d-30d") == pytest.approx(1 / 2)  # users 0 after 7 and 2 after 10 days
    assert value("hr@5", "own-event:1d-7d") == 1  # user 2 takes item 4 again after a day
    assert value("share_of_targets", "own-event:never") == pytest.approx(3 / 5)
    weight = {0: (1 + 2) ** -0.5, 3: (1 + 1) ** -0.5, 4: 1, 2: (1 + 1) ** -0.5}
    total = weight[0] * gain[1] + weight[3] * gain[4] + weight[4] * gain[5] + weight[2] * gain[3]
    assert value("debiased_ndcg@5") == pytest.approx(
        total / (weight[0] + weight[3] + 2 * weight[4] + weight[2])
    )


def test_share_of_the_list_by_age():
    log = histories()
    report = evaluate([Fixed([5, 4, 3, 2, 1])], log, requests(log, 2), k=[2], bootstrap=10)
    # Everybody gets items 0 and 1. User 0 had both 7 and 8 days ago, user 1 had item 1 39 days ago.
    shares = {
        name: report.figure("fixed", "share_of_list@2", group=f"own-event:{name}").value
        for name in (*AGES, "never")
    }
    expected = dict.fromkeys(shares, 0.0) | {"7d-30d": 1 / 5, "30d-90d": 0.5 / 5, "never": 3.5 / 5}
    assert shares == pytest.approx(expected)


def test_expected_share_by_age_of_a_system_with_logits():
    @dataclass
    class Logits(Fixed):
        logits: bool = True

    log = histories()
    asked = requests(log, 2).take(slice(1))
    report = evaluate([Logits([log2(4), 0, 0, 0, 7])], log, asked, k=[1], bootstrap=10)
    odds = np.exp([log2(4), 0, 0, 0])  # item 4 is not there yet; user 0 had items 0 and 1
    found = report.figure("fixed", "share_expected", group="own-event:7d-30d").value
    assert found == pytest.approx(odds[:2].sum() / odds.sum(), rel=1e-5)
    never = report.figure("fixed", "share_expected", group="own-event:never").value
    assert found + never == pytest.approx(1, rel=1e-5)


def test_all_targets_of_a_user_at_once():
    log = histories()
    asked = requests(log, 2, "all")
    report = evaluate([Fixed([5, 4, 3, 2, 1])], log, asked, k=[5], bootstrap=10)
    assert np.diff(asked.target_offsets).tolist() == [1, 1, 1, 1]
    two = Requests(
        user=np.array([0], np.int32),
        history_end=np.array([3]),
        at=np.array([20 * DAY]),
        target_offsets=np.array([0, 2]),
        targets=np.array([1, 4], np.int32),
        event=np.array([3]),
    )
    report = evaluate([Fixed([5, 4, 3, 2, 1])], log, two, k=[5], bootstrap=10)
    both, one, other = 1 + 1 / log2(3), 1 / log2(1 + 2), 1 / log2(1 + 5)
    assert report.figure("fixed", "ndcg@5").value == pytest.approx((one + other) / both)
    assert report.figure("fixed", "ndcg@5", group="repeats").value == pytest.approx(one)
    assert report.figure("fixed", "recall@5").value == 1
    assert report.figure("fixed", "share_of_targets", group="own-event:never").value == 1 / 2


def test_time_is_given_and_withheld_and_ignored():
    log = histories()
    asked = requests(log, 2)
    fixed, knowing = Fixed([0] * 5), Knowing([0] * 5, name="knowing")
    report = evaluate([fixed, knowing], log, asked, k=[1], bootstrap=200)
    assert len(fixed.seen) == 1
    given, withheld = knowing.seen
    assert given.at.tolist() == sorted(asked.at.tolist())
    assert withheld.at.tolist() == [3 * DAY, 1 * DAY, 11 * DAY, 3 * DAY, 2 * DAY]
    assert report.figure("knowing", "hr@1").value == 4 / 5  # all but the item that nobody had seen
    assert report.figure("knowing", "hr@1", time="withheld").value == 0
    assert report.figure("fixed", "hr@1", time="withheld") == report.figure("fixed", "hr@1")
    assert report.difference("knowing", "hr@1", "fixed").value == 4 / 5
    assert report.difference("knowing", "hr@1", "fixed").clear
    told = [d for d in report.differences if d.system == d.reference == "knowing" and d.metric == "hr@1"]
    assert {(d.group, d.time, d.reference_time) for d in told} >= {("all", "given", "withheld")}
    header, rows = report.table(["hr@1"])
    assert header == ["system", "time", "hr@1"]
    assert [row[:2] for row in rows] == [["fixed", "ignored"], ["knowing", "given"], ["knowing", "withheld"]]


def test_a_system_does_not_differ_from_its_twin():
    log = histories()
    systems = [Fixed([5, 4, 3, 2, 1]), Fixed([5, 4, 3, 2, 1], name="twin")]
    report = evaluate(systems, log, requests(log, 2), bootstrap=100, k=[5])
    assert report.differences
    assert all(np.nan_to_num([d.value, d.low, d.high]).tolist() == [0, 0, 0] for d in report.differences)
    assert not any(d.clear for d in report.differences)


def test_chunks_cover_all_requests_and_change_nothing(monkeypatch):
    log = histories()
    asked = requests(log, 2)
    for budget in (1, 8, 17, 100):
        covered = [np.arange(len(asked))[chunk] for chunk in chunks(log, asked, budget=budget)]
        assert np.concatenate(covered).tolist() == list(range(5))
    whole = evaluate([Knowing([5, 4, 3, 2, 1])], log, asked, k=[2], bootstrap=20)
    monkeypatch.setattr(evaluation.chunks, "__kwdefaults__", {"budget": 7})
    pieces = evaluate([Knowing([5, 4, 3, 2, 1])], log, asked, k=[2], bootstrap=20)
    np.testing.assert_equal([f.value for f in pieces.figures], [f.value for f in whole.figures])


def test_labelled_pairs():
    @dataclass
    class Odds(Fixed):
        pair_logits: bool = True

    log = histories()
    labels = np.array([1, 0, nan, 1, 0])  # items 0, 3, 4, 4, 2 with scores 2, 0, 1, 1, -1
    report = evaluate([Odds([2, 3, -1, 0, 1])], log, requests(log, 2), k=[2], labels=labels, bootstrap=50)
    assert report.figure("fixed", "auc").value == 1
    assert report.figure("fixed", "accuracy").value == 1
    loss = [np.log1p(np.exp(-2)), np.log(2), np.log1p(np.exp(-1)), np.log1p(np.exp(-1))]
    assert report.figure("fixed", "log_loss").value == pytest.approx(np.mean(loss))
    # Rank metrics leave out what was labelled 0: ranks 2 of item 0, a miss, and 3 of item 4.
    assert report.figure("fixed", "hr@2").value == pytest.approx(1 / 3)


def test_what_was_shown_and_not_taken_is_no_request_of_the_heading():
    log = histories()
    log = log.replace(label=np.where(np.arange(log.events) == 6, 0, 1).astype(np.float32))  # of user 1
    asked = requests(log, 2)
    labels = log.label[asked.event].astype(float)
    protocol = evaluate([Fixed([5, 4, 3, 2, 1])], log, asked, k=[2], labels=labels, bootstrap=10).protocol
    told = {name: protocol[name] for name in ("requests", "targets_total", "users", "not_taken")}
    assert told == {"requests": 4, "targets_total": 4, "users": 3, "not_taken": 1}
    facts = {"sample": "all", "part": "test", "half_lives": {"how": "learned"}}
    line = protocol_lines(dict(protocol) | facts)[0]
    assert line.endswith("4 requests of 3 users; and 1 that were shown something and did not take it")


def test_more_metrics_of_lists():
    log = histories()
    found = evaluate(
        [Fixed([5, 4, 3, 2, 1])], log, requests(log, 2), k=[2], bootstrap=10,
        of_lists={"first": lambda items: items[:, 0] + items[:, 1] / 10},
    )  # fmt: skip
    assert found.figure("fixed", "first@2").value == pytest.approx(0.1)  # items 0 and 1 for everybody


def test_diversity_when_items_have_categories():
    log = histories()
    assert not any(f.metric.startswith("diversity") for f in _plain_report(log).figures)
    kinds = log.replace(item_categorical=np.array([[1], [1], [2], [2], [2]], np.int32))
    assert _plain_report(kinds).figure("fixed", "diversity@2").value == 0  # items 0 and 1 for everybody


def _plain_report(log: Histories):
    return evaluate([Fixed([5, 4, 3, 2, 1])], log, requests(log, 2), k=[2], bootstrap=10)


def test_the_report_is_json_with_value_low_high():
    log = histories()
    report = evaluate([Knowing([5, 4, 3, 2, 1], name="a")], log, requests(log, 2), k=[2], bootstrap=20)
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(found) == {"protocol", "split", "systems", "differences"}
    assert found["split"] == "global-time"
    assert set(found["systems"]["a"]["metrics"]["ndcg@2"]) == {"value", "low", "high"}
    assert (
        found["systems"]["a"]["withheld"]["ndcg@2"]["value"]
        <= found["systems"]["a"]["metrics"]["ndcg@2"]["value"]
    )
    assert found["systems"]["a"]["groups"]["cold"]["hr@2"]["value"] == 1
    assert found["protocol"]["users"] == 4


def test_intervals_hold_their_values():
    log = histories()
    report = evaluate([Fixed([5, 4, 3, 2, 1])], log, requests(log, 2), k=[2], bootstrap=200)
    whole = [f for f in report.figures if f.group == "all"]
    assert all(f.low - 1e-6 <= f.value <= f.high + 1e-6 for f in whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"systems": []}, "at least one"),
        ({"systems": [Fixed([0] * 5), Fixed([0] * 5)]}, "a name of its own"),
        ({"k": [6]}, "from 1 to the 5 items"),
        ({"k": []}, "list lengths"),
        ({"reference": "other"}, "none of the systems"),
        ({"systems": [Fixed([nan] * 5)]}, "fixed: scores hold NaN"),
        ({"systems": [Fixed([0] * 4)]}, "expected"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(change, message):
    log = histories()
    arguments = {"systems": [Fixed([0] * 5)], "k": [2], "bootstrap": 10} | change
    with pytest.raises(ValueError, match=message):
        evaluate(arguments.pop("systems"), log, requests(log, 2), **arguments)


def test_no_requests_are_refused():
    log = histories()
    with pytest.raises(ValueError, match="no requests"):
        evaluate([Fixed([0] * 5)], log, requests(log, 1))
