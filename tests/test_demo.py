"""The demonstration: its tables and its story, by hand and on a small run; its options and faults."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.curves import Curve
from jaxdecay.recommend import load
from jaxdecay.results import Difference, Figure, Report

SCRIPTS = Path(__file__).parents[1] / "scripts"


def script(name: str) -> Any:
    """A script as a module, under its own name, so that another finds it."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo_story, demo = script("demo_story"), script("demo")

HALF_LIVES = pl.DataFrame(
    [
        {"head": "revisit", "group": "news", "half_life_days": 0.5, "low": 0.4, "high": 0.625, "events": 1200,
         "periods_days": [0.99, 7.02, 7.0], "widths_days": [0.25, 1.75, 0.7]},
        {"head": "revisit", "group": "books", "half_life_days": 99.0, "low": None, "high": None, "events": 3,
         "periods_days": [0.99, 7.02, 7.0], "widths_days": [0.25, 1.75, 0.7]},
        {"head": "similarity", "group": "all", "half_life_days": float("inf"), "low": None, "high": None,
         "events": 9, "periods_days": [], "widths_days": []},
    ]
)  # fmt: skip


def test_planted_stands_beside_learned_with_the_period_that_is_nearest() -> None:
    truth = {
        "categories": {
            "news": {"half_life_days": 0.4, "period_days": 7.0},
            "books": {"half_life_days": 90.0, "period_days": None},
        }
    }
    header, rows = demo_story.half_life_table(HALF_LIVES, truth)
    assert rows == [
        ["news", "9.6 h", "12.0 h", "9.6 to 15.0 h", "+25%", "7.00 d", "7.02 d"],
        ["books", "90.0 d", "99.0 d", "", "+10%", "", ""],
    ]
    assert len(header) == 7


def test_without_truth_all_heads_are_listed() -> None:
    header, rows = demo_story.half_life_table(HALF_LIVES, None)
    assert rows[0] == ["revisit", "news", "12.0 h", "9.6 to 15.0 h", "1,200", "23.8 h, 7.0 d, 7.0 d ± 16.8 h"]
    assert rows[2] == ["similarity", "all", "never", "", "9", ""]
    assert len(header) == 6
    never = HALF_LIVES[:1].with_columns(high=float("inf"))
    assert demo_story.half_life_table(never, None)[1][0][3] == "9.6 h to never"


def test_metrics_are_best_first_with_the_lead_over_each() -> None:
    figures = [
        Figure(system, metric, value, value - 0.1, value + 0.1)
        for system, value in (("popularity", 0.25), ("jaxdecay", 0.5))
        for metric in ("ndcg@10", "hr@10")
    ]
    figures.append(Figure("jaxdecay", "ndcg@10", 0.375, 0.3, 0.4, time="withheld"))
    differences = [
        Difference("popularity", "jaxdecay", "ndcg@10", -0.25, -0.3, -0.2),
    ]
    facts = {"popularity": {"uses_time": False}, "jaxdecay": {"uses_time": True}}
    _, rows = demo_story.metrics_table(Report({}, figures, differences, facts))
    both = ["0.500 [0.400, 0.600]"] * 2, ["0.250 [0.150, 0.350]"] * 2
    assert rows == [
        ["jaxdecay", *both[0], "0.375", ""],
        ["popularity", *both[1], "", "+0.250 [+0.200, +0.300]"],
    ]


def change() -> Any:
    """Three items: news and books had before, and one of no group that was never had."""
    zeros = np.zeros((2, 3))
    parts = {
        "similarity": np.array([[0.5, 0.5, 0.5], [0.4, 0.4, 0.4]]),
        "bias": zeros,
        "popularity": zeros,
        "revisit": np.array([[2.1, 1.0, 0.0], [0.3, 0.8, 0.0]]),  # by -1.8 and -0.2
    }
    age = np.linspace(0, 200, 4001)
    curves = {
        ("revisit", name): Curve("revisit", name, 9, age, np.exp2(-age / days), (), (), ())
        for name, days in (("news", 0.5), ("books", 30.0))
    }
    return demo_story.Change(
        parts, ["news", "books", None], np.array([4, 1, 0]), np.array([0.5, 30.0, np.nan]), curves
    )


def test_the_story_names_the_head_that_moved_and_what_it_goes_by() -> None:
    moved = pl.DataFrame(
        {"item_id": ["n", "b"], "rank": [1, 2], "rank_later": [6, 1], "change": [np.log2(6), 1.0]}
    )
    said = change().sentences(moved, {"n": 0, "b": 1, "x": 2})
    assert said == [
        "n (news) falls from 1 to 6: its revisit score falls from 2.1 to 0.3. The latest of the 4 events "
        "behind it is 12.0 h old: of it 50% is left now, 0% later, for what news leaves behind has a "
        "half-life of 12.0 h.",
        "b (books) rises from 2 to 1: its revisit score goes from 1.0 to 0.8, that of the former ten by "
        "-1.0. The one event behind it is 30.0 d old: of it 50% is left now, 25% later, for what books "
        "leaves behind has a half-life of 30.0 d.",
    ]
    still = moved.with_columns(rank_later="rank")
    assert change().sentences(still, {"n": 0, "b": 1}) == [
        "They do not: what this user did fades alike within 30 days."
    ]


def test_the_story_of_a_run_is_told_in_its_own_ids(tiny_run: Path) -> None:
    run = load(tiny_run)
    story = demo_story.find(run)
    assert story.lists["when"].to_list() == ["now"] * 10 + ["later"] * 10
    assert set(story.lists["group"]) <= {"jazz", "rock"}
    user = story.lists["user_id"][0]
    assert f"user {user} now" in story.title
    header, rows = story.table()
    assert len(rows) == 10
    assert all(len(row) == len(header) for row in rows)
    before = [row[1] for row in rows]
    assert all(row[7] == (str(before.index(row[4]) + 1) if row[4] in before else "new") for row in rows)
    assert story.why


def test_a_log_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\n1,2\n")
    assert demo.main([str(log), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("demo.sh: ")
    assert "timestamp" in said[-1]
    assert not (tmp_path / "out" / "prepared").exists()
    assert demo.main(["--no-such-option"]) == 2


def test_what_a_log_is_called() -> None:
    assert demo._name(Path("beauty/events.parquet")) == "beauty"
    assert demo._name(Path("plays.csv")) == "plays"


def test_the_script_is_sound_and_says_what_it_takes() -> None:
    subprocess.run(["bash", "-n", SCRIPTS / "demo.sh"], check=True)
    done = subprocess.run(
        [sys.executable, SCRIPTS / "demo.py", "--help"], capture_output=True, text=True, check=True
    )
    for option in ("--clock", "--out", "--split.kind", "--columns.user", "--epochs"):
        assert option in done.stdout
