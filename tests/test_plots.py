"""Pictures: frames hold what is drawn, drawings hold the frame, and nothing is said by colour alone."""

import importlib
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import test_frames
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxdecay import plots
from jaxdecay.curves import Curve
from jaxdecay.errors import InputError


def x(line: Line2D) -> np.ndarray:
    """Where a line's points lie, across."""
    return np.asarray(line.get_xdata(), np.float64)


GROUPS = {"all": 4.0, "slow": 90.0, "fast": 0.5}


def half_lives(*, intervals: bool = True) -> pl.DataFrame:
    rows = [
        {
            "head": head,
            "group": group,
            "half_life_days": days * factor,
            "low": days * factor / 1.5 if intervals else None,
            "high": days * factor * 1.5 if intervals else None,
        }
        for head, factor in (("similarity", 3.0), ("revisit", 1.1))
        for group, days in GROUPS.items()
    ]
    rows.append({"head": "popularity", "group": "all", "half_life_days": math.inf, "low": None, "high": None})
    return pl.DataFrame(rows, schema_overrides={"low": pl.Float64, "high": pl.Float64})


TRUTH = {"categories": {"fast": {"half_life_days": 0.5}, "slow": {"half_life_days": 90.0}}}


def curves() -> list[Curve]:
    age = np.concatenate([[0.0], np.geomspace(1 / 1440, 3650, 300)])
    return [
        Curve("revisit", name, 10, age, np.exp2(-age / days), (), (), ()) for name, days in GROUPS.items()
    ]


def report() -> dict[str, Any]:
    def metrics(value: float) -> dict[str, Any]:
        return {"ndcg@10": {"value": value, "low": value - 0.01, "high": value + 0.01}}

    return {
        "systems": {
            "popularity": {"uses_time": False, "metrics": metrics(0.1), "withheld": {}},
            "jaxdecay": {"uses_time": True, "metrics": metrics(0.3), "withheld": metrics(0.2)},
        }
    }


LINES = [
    {"epoch": 1.0, "loss": 5.0, "ndcg@10": 0.1, "settled": False, "kept": True},
    {"epoch": 2.0, "loss": 4.0, "ndcg@10": 0.3, "settled": False, "kept": True},
    {"epoch": 3.0, "loss": 3.5, "ndcg@10": 0.2, "settled": False, "kept": False},
    {"epoch": 7.0, "loss": 3.4, "ndcg@10": 0.31, "settled": True, "kept": True},
]

AGES = test_frames.report()
SPREAD = {"similarity": 4.0, "revisit": 1.0}


def learned() -> pl.DataFrame:
    age = np.geomspace(1 / 24, 700, 96)
    numbers = {"initial": np.exp2(-age / 30), "learned": np.exp2(-age / 4)}
    numbers |= {"least": numbers["learned"] * 0.4, "most": numbers["learned"] * 1.1}
    numbers |= {"low": numbers["learned"] * 0.8, "high": numbers["learned"] ** 0.8}
    return pl.DataFrame({"head": ["revisit"] * len(age), "age_days": age, **numbers})


def spread() -> pl.DataFrame:
    days = np.append(np.random.default_rng(0).lognormal(1.0, 1.0, 40), [math.inf] * 10)
    parts = {head: pl.DataFrame({"half_life_days": days * factor}) for head, factor in SPREAD.items()}
    return pl.concat(
        one.select(
            pl.lit(head).alias("head"), pl.lit("items").alias("of"), "half_life_days", events=pl.lit(2)
        )
        for head, one in parts.items()
    )


MEMORY = pl.DataFrame(
    {"head": ["revisit", "similarity"] * 2, "group": ["all", "all", "news", "news"],
     "days_50": [9.0, 0.0, 1.0, 4.0], "days_90": [80.0, 60.0, 5.0, 12.0]}
)  # fmt: skip
TRADE_OFF = pl.DataFrame(
    {"trade_off": [0.2, 0.5, 1.0], "ndcg": [0.3, 0.38, 0.4], "distance": [0.8, 0.6, 0.3]}
)
LEARNING = [
    {
        "epoch": epoch,
        "settled": epoch > 2,
        "half_lives": {"revisit": {"all": 3.0 / epoch}, "popularity": {"all": never}},
    }
    for epoch, never in ((1, None), (2, 90.0), (3, 80.0))
]
WEIGHTS = pl.DataFrame(
    {"head": ["revisit", "similarity", "similarity"], "name": ["a $ign", "a $ign", "b" * 60],
     "age_days": [0.0, 0.0, 40.0], "weight": [0.9, 0.5, 0.1], "contribution": [1.5, 0.25, -0.5]}
)  # fmt: skip


def trajectory() -> pl.DataFrame:
    log = test_frames.histories()
    names = ["a $ign", "<b>", "c" * 60, "d", "e", "f", "g", "h"]
    return plots.trajectory_frame(log, 1, np.arange(8), names, test_frames.drift_of(log))


def statistic() -> pl.DataFrame:
    log = test_frames.histories()
    return plots.statistic_frame(log, 1, test_frames.drift_of(log))


DRAWN: dict[str, Callable[..., Axes]] = {
    "half_lives": lambda ax=None: plots.plot_half_lives(plots.half_lives_frame(half_lives(), TRUTH), ax),
    "kernels": lambda ax=None: plots.plot_kernels(plots.kernels_frame(curves()), ax),
    "metrics": lambda ax=None: plots.plot_metrics(plots.metrics_frame(report()), ax),
    "history": lambda ax=None: plots.plot_history(plots.history_frame(LINES), ax),
    "spread": lambda ax=None: plots.plot_spread(spread(), ax),
    "learned": lambda ax=None: plots.plot_learned(learned(), ax),
    "memory": lambda ax=None: plots.plot_memory(MEMORY, ax),
    "calibration": lambda ax=None: plots.plot_calibration(plots.calibration_frame(AGES), ax),
    "ablation": lambda ax=None: plots.plot_ablation(plots.ablation_frame(AGES), ax),
    "staleness": lambda ax=None: plots.plot_staleness(plots.staleness_frame(AGES), ax),
    "trade_off": lambda ax=None: plots.plot_trade_off(TRADE_OFF, ax),
    "training_half_lives": lambda ax=None: plots.plot_training_half_lives(
        plots.training_half_lives_frame(LEARNING), ax
    ),
    "weights": lambda ax=None: plots.plot_weights(WEIGHTS, ax),
    "contributions": lambda ax=None: plots.plot_weights(
        WEIGHTS.with_columns(head=pl.lit("all"), weight=pl.lit(None, pl.Float64)), ax
    ),
    "trajectory": lambda ax=None: plots.plot_trajectory(trajectory(), ax),
    "relative_trajectory": lambda ax=None: plots.plot_trajectory(trajectory(), ax, relative=True),
    "statistic": lambda ax=None: plots.plot_statistic(statistic(), ax),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_plot_draws_into_the_axes_it_is_given_and_writes_a_picture(name: str, tmp_path: Path) -> None:
    ax = Figure(layout="constrained").subplots()
    assert DRAWN[name](ax) is ax
    own = DRAWN[name]()
    assert own is not ax
    path = plots.save(own, tmp_path / f"{name}.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert own.get_xlabel()


@pytest.mark.parametrize("name", DRAWN)
def test_no_text_lies_on_another(name: str) -> None:
    """Tick labels of one axis do not overlap, at the size that is written."""
    ax = DRAWN[name]()
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    for labels, side in ((ax.get_xticklabels(), 0), (ax.get_yticklabels(), 1)):
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        spans = sorted((box.min[side], box.max[side]) for box in boxes)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@pytest.mark.parametrize("name", ["calibration", "ablation", "staleness", "memory", "weights"])
def test_what_has_a_name_in_the_legend_has_a_form_of_its_own(name: str) -> None:
    """In grey, colour says nothing."""
    legend = DRAWN[name]().get_legend()
    assert legend is not None
    handles = [line for line in legend.legend_handles if isinstance(line, Line2D)]
    forms = {(str(line.get_marker()), line.get_markerfacecolor() == "white") for line in handles}
    assert len(forms) == len(handles) >= 2


def test_a_trajectory_marks_drift_and_each_event() -> None:
    ax = DRAWN["trajectory"]()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert (labels[0], len(labels)) == (r"a \$ign", 6)
    upright = [line for line in ax.lines if line.get_linestyle() == "--" and len(x(line)) == 2]
    assert len(upright) == 1
    ticks = [len(x(line)) for line in ax.lines if line.get_marker() == "|" and len(x(line))]
    happened = trajectory().group_by("name", maintain_order=True).agg(pl.col("happened").sum())["happened"]
    assert ticks == happened.to_list()


def test_the_strongest_reason_is_named_once_and_what_takes_away_is_hollow() -> None:
    ax = DRAWN["weights"]()
    assert [text.get_text() for text in ax.texts] == [r"a \$ign"]
    fills = [
        line.get_markerfacecolor() == "white"
        for line in ax.lines
        if str(line.get_marker()) in "os" and len(x(line)) == 1
    ]
    assert fills == [False, False, True]
    assert DRAWN["contributions"]().get_ylim()[0] < 0


def test_reasons_that_stand_together_are_named_below_each_other() -> None:
    """As what one basket holds: names written over each other could not be read."""
    basket = pl.DataFrame(
        {"head": "similarity", "name": ["bread bin", "kitchen scales", "coat rack", "far"],
         "age_days": [9.8, 9.8, 9.8, 200.0], "weight": [0.37, 0.37, 0.36, 0.1],
         "contribution": [3.0, 2.0, 1.0, 0.1]}
    )  # fmt: skip
    ax = plots.plot_weights(basket)
    figure = ax.get_figure()
    assert figure is not None
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == basket["name"].to_list()[:3]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert boxes[0].y0 > boxes[1].y0 > boxes[2].y0


def test_the_plain_list_stands_out_of_a_trade_off() -> None:
    ax = DRAWN["trade_off"]()
    [square] = [line for line in ax.lines if line.get_marker() == "s"]
    assert (x(square).tolist(), np.asarray(square.get_ydata()).tolist()) == ([0.3], [0.4])
    assert {text.get_text() for text in ax.texts} == {"0.2", "0.5", "relevance alone"}


def test_dots_of_a_trade_off_are_named_where_there_is_room() -> None:
    near = [0.0, 0.001, 0.003, 0.006, 0.01, 0.03, 0.1, 0.2]
    crowded = pl.DataFrame(
        {"trade_off": np.linspace(1, 0.3, 8), "ndcg": [0.4 - 2 * one**2 for one in near],
         "distance": [0.1 + one for one in near]}
    )  # fmt: skip
    ax = plots.plot_trade_off(crowded)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert [text.get_text() for text in ax.texts] == ["relevance alone", "0.4", "0.3"]


def test_an_interval_that_says_nothing_does_not_set_the_scale() -> None:
    told = half_lives()
    wide = told.with_columns(
        low=pl.when(head="popularity").then(1e-5).otherwise("low"),
        high=pl.when(head="popularity").then(math.inf).otherwise("high"),
        half_life_days=pl.when(head="popularity").then(20.0).otherwise("half_life_days"),
    )
    ax = plots.plot_half_lives(plots.half_lives_frame(wide))
    left, _ = ax.get_xlim()
    assert 0.01 < left < 1
    [bar] = [line for line in ax.lines if len(x(line)) == 2 and x(line)[0] == pytest.approx(left)]
    assert x(bar)[1] > 600  # to where never is


def test_a_picture_has_an_ending_that_says_how_it_is_written(tmp_path: Path) -> None:
    for ending, begin in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        assert plots.save(DRAWN["memory"](), tmp_path / f"a.{ending}").read_bytes().startswith(begin)
    with pytest.raises(InputError, match=r"a\.jpg: pictures end in \.png, \.svg, \.pdf, not in '\.jpg'"):
        plots.save(DRAWN["memory"](), tmp_path / "a.jpg")


def test_planted_half_lives_stand_beside_the_revisit_head() -> None:
    frame = plots.half_lives_frame(half_lives(), TRUTH)
    planted = dict(frame.filter(head="revisit").select("group", "planted_days").iter_rows())
    assert planted == {"all": None, "slow": 90.0, "fast": 0.5}
    assert frame.filter(pl.col("head") != "revisit")["planted_days"].is_null().all()
    assert plots.half_lives_frame(half_lives())["planted_days"].is_null().all()


def test_half_lives_are_drawn_where_they_are_shortest_first() -> None:
    ax = DRAWN["half_lives"]()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["all", "fast", "slow"]
    points = {(line.get_marker(), round(float(x(line)[0]), 6)) for line in ax.lines if len(x(line)) == 1}
    assert {("o", 0.55), ("s", 1.5), ("|", 0.5), ("|", 90.0)} <= points
    assert "never" in [label.get_text() for label in ax.get_xticklabels()]
    bars = {tuple(np.round(x(line), 6)) for line in ax.lines if len(x(line)) == 2}
    assert (round(0.55 / 1.5, 6), round(0.55 * 1.5, 6)) in bars


def test_half_lives_without_intervals_or_truth_have_points_alone() -> None:
    ax = plots.plot_half_lives(plots.half_lives_frame(half_lives(intervals=False)))
    legend = ax.get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["revisit", "similarity", "popularity"]


def test_an_interval_without_an_upper_end_reaches_the_edge() -> None:
    frame = half_lives().filter(group="fast", head="revisit").with_columns(high=float("inf"))
    ax = plots.plot_half_lives(plots.half_lives_frame(frame))
    [line] = [line for line in ax.lines if np.size(line.get_xdata()) == 2 and line.get_linewidth() == 2.4]
    ends = np.asarray(line.get_xdata(), float)
    assert np.isfinite(ends).all()
    assert ends[1] > frame["half_life_days"][0]
    assert "never" in [label.get_text() for label in ax.get_xticklabels()]


def test_all_half_lives_the_same_still_make_an_axis() -> None:
    frame = half_lives().filter(group="fast", head="revisit").with_columns(low=0.55, high=0.55)
    assert len(plots.plot_half_lives(plots.half_lives_frame(frame)).get_xticks()) >= 2


def test_every_line_and_marker_has_a_form_of_its_own() -> None:
    kernels = [line for line in DRAWN["kernels"]().lines if len(x(line)) > 2]
    assert [line.get_label() for line in kernels] == ["fast", "slow"]
    forms = [(style, width) for _, style, width in plots.paper.LINES]
    assert len({(str(style), width) for style, width in forms}) >= 10
    assert len({marker for marker, _ in plots.paper.HEADS.values()}) == len(plots.paper.HEADS)


def test_kernels_are_half_at_their_half_life() -> None:
    frame = plots.kernels_frame(curves(), head="revisit")
    assert frame.columns == ["head", "group", "age_days", "value"]
    for name, days in GROUPS.items():
        line = frame.filter(group=name)
        assert np.interp(days, line["age_days"], line["value"]) == pytest.approx(0.5, abs=1e-3)
    assert plots.kernels_frame(curves(), head="similarity").is_empty()


def test_metrics_are_best_first_and_hollow_where_the_time_was_withheld() -> None:
    frame = plots.metrics_frame(report())
    assert frame.rows() == [
        ("popularity", "ignored", 0.1, pytest.approx(0.09), pytest.approx(0.11)),
        ("jaxdecay", "given", 0.3, pytest.approx(0.29), pytest.approx(0.31)),
        ("jaxdecay", "withheld", 0.2, pytest.approx(0.19), pytest.approx(0.21)),
    ]
    ax = plots.plot_metrics(frame)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["jaxdecay", "popularity"]
    fills = {float(x(line)[0]): line.get_markerfacecolor() for line in ax.lines if len(x(line)) == 1}
    assert fills[0.2] == "white" != fills[0.3]
    with pytest.raises(InputError, match=r"metric 'hr@5': no system has it; there are ndcg@10"):
        plots.metrics_frame(report(), "hr@5")


def test_history_rings_what_the_run_uses() -> None:
    frame = plots.history_frame(LINES)
    assert frame["kept"].to_list() == [False, False, False, True]
    assert plots.history_frame(LINES[:3])["kept"].to_list() == [False, True, False]
    assert plots.history_frame([]).is_empty()
    ring = next(
        line for line in plots.plot_history(frame, column="loss").lines if line.get_label() == "in use"
    )
    assert (x(ring).tolist(), np.asarray(ring.get_ydata()).tolist()) == ([7.0], [3.4])


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "jaxdecay.plots")
    with pytest.raises(InputError, match=r"^pictures need matplotlib, .*pip install 'jaxdecay\[plots\]'$"):
        importlib.import_module("jaxdecay.plots")


def test_a_cohort_of_whom_little_is_known_does_not_set_the_scale() -> None:
    rows = [("1-4", "jaxdecay", 0.2, 0.15, 0.25), ("100+", "jaxdecay", 0.3, 0.0, 3.0)]
    columns = ["cohort", "system", "value", "low", "high"]
    for high, top in ((3.0, 2.5 * 0.3), (0.4, 0.4)):
        frame = pl.DataFrame([rows[0], (*rows[1][:4], high)], schema=columns, orient="row")
        assert plots.plot_ablation(frame, by="activity").get_ylim() == pytest.approx((0, 1.08 * top))


def test_ages_within_a_few_years_have_ticks_that_people_say() -> None:
    ages = WEIGHTS.with_columns(pl.Series("age_days", [500.0, 900.0, 1500.0]))
    labels = [label.get_text() for label in plots.plot_weights(ages).get_xticklabels()]
    assert labels == ["1 y", "2 y", "3 y", "5 y"]


def test_kernels_begin_where_there_is_something_to_see() -> None:
    age = np.geomspace(1 / 1440, 730, 400)
    for days, begin in ((4.0, 1 / 24), (0.01, 1 / 1440)):
        value = np.exp2(-age / days)
        same = dict.fromkeys(("initial", "learned", "least", "most", "low", "high"), value)
        frame = pl.DataFrame({"head": ["revisit"] * len(age), "age_days": age, **same})
        ax = plots.plot_learned(frame)
        assert ax.get_xlim()[0] == pytest.approx(begin)
        legend = ax.get_legend()
        assert legend is not None
        # Bands as thin as their line are none.
        assert [text.get_text() for text in legend.get_texts()] == ["initial", "learned"]
        groups = pl.DataFrame({"head": "revisit", "group": "all", "age_days": age, "value": value})
        assert plots.plot_kernels(groups).get_xlim()[0] == pytest.approx(begin)
