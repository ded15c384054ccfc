"""Frames of pictures: worked out by hand, each from a small example."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from toys import DAY

from jaxdecay import plots
from jaxdecay.curves import Curve
from jaxdecay.data.histories import Histories
from jaxdecay.drift import Drift
from jaxdecay.errors import InputError
from jaxdecay.spreads import Spread

AGE = np.concatenate([[0.0], np.geomspace(1 / 1440, 36_500, 4000)])


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value / 2, "high": value * 1.5}


def report() -> dict[str, Any]:
    """Three systems; the model expects, and is better with recent interests."""

    def system(scale: float, *, expects: bool = False) -> dict[str, Any]:
        groups: dict[str, Any] = {
            "own-event:<1h": {"ndcg@10": figure(0.8 * scale), "share_of_targets": figure(0.3)},
            "own-event:never": {"ndcg@10": figure(0.1 * scale), "share_of_targets": figure(0.7)},
            "last-event:1d-7d": {"ndcg@10": figure(0.5 * scale)},
            "last-event:none": {"ndcg@10": {"value": None, "low": None, "high": None}},
        }
        if expects:
            groups["own-event:<1h"]["share_expected"] = figure(0.25)
            groups["own-event:never"]["share_expected"] = figure(0.75)
        return {"metrics": {"ndcg@10": figure(0.4 * scale)}, "groups": groups}

    return {
        "systems": {
            "popularity": system(0.2),
            "own counts": system(0.9),
            "without decay": system(0.5),
            "jaxdecay": system(1.0, expects=True),
        }
    }


def test_calibration_sets_what_was_expected_beside_what_happened() -> None:
    assert plots.calibration_frame(report()).rows() == [
        ("<1h", "happened", 0.3, 0.15, pytest.approx(0.45)),
        ("<1h", "expected", 0.25, 0.125, 0.375),
        ("never", "happened", 0.7, 0.35, pytest.approx(1.05)),
        ("never", "expected", 0.75, 0.375, 1.125),
    ]
    silent = report()
    del silent["systems"]["jaxdecay"]["groups"]["own-event:<1h"]["share_expected"]
    del silent["systems"]["jaxdecay"]["groups"]["own-event:never"]["share_expected"]
    with pytest.raises(InputError, match=r"^calibration: .*no probabilities"):
        plots.calibration_frame(silent)


def test_ablation_and_staleness_are_by_two_kinds_of_age() -> None:
    ablation = plots.ablation_frame(report())
    assert ablation.select("cohort", "system", "value").rows() == [
        ("<1h", "jaxdecay", 0.8),
        ("never", "jaxdecay", 0.1),
        ("<1h", "without decay", 0.4),
        ("never", "without decay", 0.05),
    ]
    staleness = plots.staleness_frame(report())  # a figure of nobody is left out
    assert staleness.select("age", "system", "value").rows() == [
        ("1d-7d", "jaxdecay", 0.5),
        ("1d-7d", "without decay", 0.25),
        ("1d-7d", "own counts", 0.45),
    ]
    assert set(plots.staleness_frame(report(), systems=["popularity"])["system"]) == {"popularity"}
    lacking = report()
    del lacking["systems"]["without decay"]
    with pytest.raises(InputError, match=r"'without decay' was not evaluated, only popularity, own counts,"):
        plots.ablation_frame(lacking)
    with pytest.raises(InputError, match=r"metric 'mrr@10': there is none by group"):
        plots.staleness_frame(report(), "mrr@10")


def test_ablation_is_by_cohort_where_the_evaluation_has_cohorts() -> None:
    told = report()
    assert plots.cohorts(told) == []
    with pytest.raises(InputError, match=r"ablation by 'activity': there are none; or evaluate again"):
        plots.ablation_frame(told, by="activity")
    for scale, name in ((1.0, "jaxdecay"), (0.5, "without decay")):
        groups = told["systems"][name]["groups"]
        for value, group in ((0.2, "activity:none"), (0.6, "activity:100+"), (0.3, "activity:1-4")):
            groups[group] = {"ndcg@10": figure(value * scale)}
        groups |= {f"user:land={land}": {"ndcg@10": figure(0.4 * scale)} for land in ("fr-CA", "a=b")}
    assert plots.cohorts(told) == ["activity", "land"]
    activity = plots.ablation_frame(told, by="activity")
    assert activity.select("cohort", "system", "value").rows() == [
        ("none", "jaxdecay", 0.2), ("1-4", "jaxdecay", 0.3), ("100+", "jaxdecay", 0.6),
        ("none", "without decay", 0.1), ("1-4", "without decay", 0.15), ("100+", "without decay", 0.3),
    ]  # fmt: skip
    ax = plots.plot_ablation(activity, by="activity")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["first\nvisit", "1–4", "100+"]
    assert ax.get_xlabel() == "events of the user before the request"
    land = plots.ablation_frame(told, by="land")
    assert land.filter(system="jaxdecay")["cohort"].to_list() == ["fr-CA", "a=b"]
    assert plots.plot_ablation(land, by="land").get_xlabel() == "land of the user"
    with pytest.raises(InputError, match=r"ablation by 'lamd': there are activity, land; perhaps 'land'"):
        plots.ablation_frame(told, by="lamd")


def test_learned_kernels_are_drawn_as_they_are_until_a_rhythm_is_too_fine() -> None:
    """Then as means over one turn of it, with how far it swings."""
    fine = np.union1d(AGE, np.arange(0, 800, 0.02))

    def curve(head: str, days: float, swing: float = 0.0) -> Curve:
        wave = 1 - swing + swing * np.cos(2 * np.pi * fine)
        return Curve(head, "all", 10, fine, np.exp2(-fine / days) * wave, (1.0,) if swing else (), (), ())

    spread = Spread(
        "revisit", "items", np.array([1, 8, 1]), np.array([[1.0, 0], [0.5, 0.5], [0, 1.0]]), AGE,
        np.stack([np.ones_like(AGE), np.exp2(-AGE / 5)]),
    )  # fmt: skip
    before = [curve("revisit", 50.0), curve("similarity", 9.0)]
    after = [curve("revisit", 5.0, 0.4), curve("similarity", 2.0), curve("revisit", 1.0)._replace(group="x")]
    frame = plots.learned_frame(before, after, [spread])
    assert set(frame["head"]) == {"revisit", "similarity"}
    smooth = frame.filter(head="similarity")
    age = smooth["age_days"].to_numpy()
    np.testing.assert_allclose(smooth["learned"], np.exp2(-age / 2), atol=1e-4)
    np.testing.assert_allclose(smooth["initial"], np.exp2(-age / 9), atol=1e-4)
    assert smooth["low"].is_null().all()
    wavy = frame.filter(head="revisit")
    drawn = wavy.filter(pl.col("age_days") < 4)  # 25 % of that is a day
    days = drawn["age_days"].to_numpy()
    exact = np.exp2(-days / 5) * (0.6 + 0.4 * np.cos(2 * np.pi * days))
    np.testing.assert_allclose(drawn["learned"], exact, atol=2e-3)
    assert (drawn["least"] == drawn["learned"]).all()
    assert (drawn["most"] == drawn["learned"]).all()
    meant = wavy.filter(pl.col("age_days").is_between(10, 60))  # 10 % of that
    fade = np.exp2(-meant["age_days"].to_numpy() / 5)
    np.testing.assert_allclose(meant["learned"] / fade, 0.6, atol=0.02)
    np.testing.assert_allclose(meant["most"] / fade, 1.0, atol=0.05)  # from crest to crest
    np.testing.assert_allclose(meant["least"] / fade, 0.2, atol=0.05)
    assert (wavy["least"] <= wavy["learned"] + 1e-9).all()
    assert (wavy["learned"] <= wavy["most"] + 1e-9).all()
    # Nothing begins with a step: from one age to the next, no edge moves by more than the kernel itself does.
    passing = wavy.filter(pl.col("age_days").is_between(3, 30))
    days = passing["age_days"].to_numpy()
    exact = np.exp2(-days / 5) * (0.6 + 0.4 * np.cos(2 * np.pi * days))
    for edge in ("learned", "least", "most"):
        assert np.abs(np.diff(passing[edge].to_numpy())).max() <= np.abs(np.diff(exact)).max() + 1e-3, edge
    np.testing.assert_allclose(wavy["low"], np.exp2(-age / 5), atol=1e-3)  # a tenth of events: the first item
    np.testing.assert_allclose(wavy["high"], (1 + np.exp2(-age / 5)) / 2, atol=1e-3)


def test_spread_has_a_row_for_each_item_and_user() -> None:
    curves = np.stack([np.ones_like(AGE), np.exp2(-AGE / 3)])
    weights = np.array([[0.0, 1.0], [1.0, 0.0]])
    both = [Spread("revisit", of, np.array([4, 2]), weights, AGE, curves) for of in ("items", "users")]
    frame = plots.spread_frame(both)
    assert frame.rows() == [
        ("revisit", of, half_life, events)
        for of in ("items", "users")
        for half_life, events in ((pytest.approx(3.0, rel=1e-3), 4), (math.inf, 2))
    ]
    assert plots.spread_frame([]).is_empty()


def test_memory_keeps_what_is_drawn() -> None:
    given = pl.DataFrame(
        {"head": ["revisit"], "group": ["all"], "events": [9], "days_50": [2], "days_90": [7]}
    )
    assert plots.memory_frame(given).rows() == [("revisit", "all", 2.0, 7.0)]


def test_trade_offs_are_in_order() -> None:
    given = pl.DataFrame({"distance": [0.9, 0.2], "trade_off": [0.5, 1], "ndcg": [0.3, 0.4], "n": [1, 1]})
    frame = plots.trade_off_frame(given)
    assert frame.columns == ["trade_off", "ndcg", "distance"]
    assert frame.rows() == [(0.5, 0.3, 0.9), (1.0, 0.4, 0.2)]


def test_half_lives_over_training_are_read_from_the_lines() -> None:
    lines = [
        {"epoch": 1, "settled": False, "half_lives": {"revisit": {"all": 2.0, "a": 1.0}}},
        {"epoch": 3, "settled": True, "half_lives": {"revisit": {"all": None}}},
    ]
    assert plots.training_half_lives_frame(lines).rows() == [
        (1.0, "revisit", "all", 2.0, False),
        (1.0, "revisit", "a", 1.0, False),
        (3.0, "revisit", "all", math.inf, True),
    ]
    with pytest.raises(InputError, match=r"^history\.jsonl holds no half-lives: .*train it again$"):
        plots.training_half_lives_frame([*lines, {"epoch": 4, "settled": True}])


def test_weights_are_of_events_and_of_the_item_itself_under_revisit() -> None:
    rows = pl.DataFrame(
        [
            ("similarity", "event", "a", 1.0, 0.5, 0.25),
            ("similarity", "event", "b", 2.0, 0.4, -0.5),
            ("revisit", "event", "a", 1.0, 0.7, 0.75),
            ("revisit", "event", "b", 2.0, 0.0, 0.0),
            ("bias", "item", None, None, None, 3.0),
        ],
        schema=["head", "source", "item_id", "age_days", "weight", "contribution"],
        orient="row",
    )
    assert plots.weights_frame(rows, {"a": "Apples"}).rows() == [
        ("similarity", "Apples", 1.0, 0.5, 0.25),
        ("similarity", "b", 2.0, 0.4, -0.5),
        ("revisit", "Apples", 1.0, 0.7, 0.75),
    ]
    left_out = rows.filter(pl.col("head") == "similarity").with_columns(
        pl.lit("all").alias("head"), pl.lit(None, pl.Float64).alias("weight")
    )
    assert plots.weights_frame(left_out).select("name", "weight").rows() == [("a", None), ("b", None)]


def histories() -> Histories:
    """The second of two users takes eight items, the first most often."""
    item, days = [0, 1, 0, 2, 0, 3, 4, 5, 6, 7, 0], [0, 1, 3, 3, 9, 20, 21, 22, 23, 24, 25]
    return Histories.from_arrays(
        np.array([0, 0] + [1] * 11), np.array([3, 3, *item]), np.array([0, 9, *days]) * DAY, config={}
    )


def drift_of(log: Histories) -> Drift:
    """An alarm of each user: at the second event, and at the fourth."""
    events = np.array([1, 5])
    detections = pl.DataFrame({"stream": log.user()[events], "event": events})
    return Drift(detections, np.arange(log.events, dtype=np.float32), 3.5, (2.0, 30.0), 2)


def test_a_trajectory_has_the_shares_of_what_is_left_after_each_event() -> None:
    log, drift = histories(), drift_of(histories())
    kind = np.array([0, 1, 2, 3, 4, 5, 6, 1])  # the last item has the name of the second
    names = [f"kind {place}" for place in range(7)]
    frame = plots.trajectory_frame(log, 1, kind, names, drift)
    assert frame["name"].unique().len() == 6  # of seven, the strongest
    assert frame["name"][0] == "kind 0"
    time, of = np.asarray(log.time)[2:] / DAY, kind[np.asarray(log.item)[2:]]
    for name in frame["name"].unique():
        own = frame.filter(pl.col("name") == name)
        assert (own["timestamp"] / DAY).to_list() == time.tolist()
        mine = of == names.index(name)
        assert own["happened"].to_list() == mine.tolist()
        assert own["drifted"].to_list() == [place == 3 for place in range(11)]
        for column, half_life in (("lately", 2.0), ("before", 30.0)):
            for last, found in enumerate(own[column]):
                left = np.exp2(-(time[last] - time[: last + 1]) / half_life)
                assert found == pytest.approx(left[mine[: last + 1]].sum() / left.sum(), abs=1e-12)


def test_the_statistic_is_that_of_one_user() -> None:
    frame = plots.statistic_frame(histories(), 1, drift_of(histories()))
    assert frame["statistic"].to_list() == list(range(2, 13))
    assert frame["alarm"].arg_true().to_list() == [3]
    assert set(frame["threshold"]) == {3.5}
    assert frame["timestamp"][1] == DAY
