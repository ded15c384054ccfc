"""Reasons and drift of a run, by id: from Python, and on the command line."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lines import Said
from tiny import DAY, START, tiny_events
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.commands.why import Explain, Reasons, by_head
from jaxdecay.drift import DriftOptions
from jaxdecay.errors import InputError
from jaxdecay.explain import Explanation
from jaxdecay.recommend import load
from jaxdecay.trained import Run

END = START + 61 * DAY
FIRST = int(tiny_events()["timestamp"].min()) + 1  # pyrefly: ignore[bad-argument-type]


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> Run:
    return load(tiny_run)


def test_reasons_add_up_to_the_score_of_the_list(run: Run) -> None:
    best = run.recommend("u07", k=1, at=END, exclude_seen=False)
    found = run.explain("u07", best["item_id"].item(), at=END)
    assert found.score == pytest.approx(best["score"].item(), abs=1e-5)
    assert found.rows["contribution"].sum() == pytest.approx(found.score, abs=1e-5)
    assert (found.user, found.item, found.at) == ("u07", best["item_id"].item(), END)
    assert found.sentence().startswith(best["item_id"].item())
    events = found.rows.filter(pl.col("source") == "event")
    assert set(events["behaviour"]) == {"buy", "view"}
    assert run.explain("u07", "i01", at=END, context={"device": "tv"}).score != pytest.approx(
        run.explain("u07", "i01", at=END, context={"device": "phone"}).score, abs=1e-7
    )


def test_what_would_be_otherwise(run: Run) -> None:
    found = run.what_if("u07", "i03", END, without=[1, 20], later=["30d"], having=["i03"], behaviour="buy")
    changes = ["as it is", "without event 1", "without event 20", "30d later", "having i03"]
    for said, change in zip(found["change"], changes, strict=True):
        assert said.startswith(change)
    scores = run.recommend("u07", k=15, at=END, exclude_seen=False)
    own = scores.filter(pl.col("item_id") == "i03")
    assert found["score"][0] == pytest.approx(own["score"].item(), abs=1e-5)
    assert found["rank"][0] == own["rank"].item()
    assert found["difference"][0] == 0
    assert found["score"][3] == pytest.approx(
        run.score(pl.DataFrame({"user_id": ["u07"], "item_id": ["i03"]}), END + 30 * DAY)["score"].item(),
        abs=1e-5,
    )
    assert found["difference"][4] > 0
    np.testing.assert_allclose(found["difference"], found["score"] - found["score"][0], atol=1e-6)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda run: run.explain("u7", "i01", END),
            r"user 'u7': never seen .* \(the nearest is 'u.*'\); give",
        ),
        (
            lambda run: run.explain("u07", "i1", END),
            r"item 'i1': never seen .* \(the nearest is 'i.*'\); give",
        ),
        (
            lambda run: run.explain("u07", "i01", FIRST),
            r"user 'u07' has no event before 2023-.*: the first is at 2023-.*; give a later time",
        ),
        (
            lambda run: run.what_if("u07", "i01", END, without=[21]),
            "without event 21: the user has 20 events",
        ),
        (lambda run: run.what_if("u07", "i01", END, later=["soon"]), "'soon' is no duration"),
        (lambda run: run.what_if("u07", "i01", END, having=["i77"]), "item 'i77': never seen"),
        (
            lambda run: run.what_if("u07", "i01", END, having=["i02"], behaviour="steal"),
            "behaviour 'steal' is not known; there are buy, view",
        ),
        (lambda run: run.drift("u01", by="country"), "drift by 'country' is of all users; leave users out"),
        (lambda run: run.drift(column="gender"), "item column 'gender': there are .*; perhaps 'genre'"),
    ],
)
def test_what_cannot_be_said_is_refused(run: Run, ask: Callable[[Run], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ask(run)


def test_drift_of_a_run_by_id(run: Run) -> None:
    options = DriftOptions(false_alarms=0.5)
    own = run.drift(["u03", "u11"], options=options)
    assert own.owners.to_list() == ["u03", "u11"]
    everybody = run.drift(options=options)
    assert everybody.watched == 40
    assert own.drift.threshold == everybody.drift.threshold
    expected = everybody.detections.filter(pl.col("user_id").is_in(["u03", "u11"]))
    assert (
        own.detections.select("user_id", "timestamp", "change").rows()
        == expected.select("user_id", "timestamp", "change").rows()
    )
    assert {*everybody.detections["rising"].explode().drop_nulls()} <= {"jazz", "rock"}


def test_a_monitor_of_a_run_says_of_a_user_what_the_log_says(run: Run) -> None:
    options = DriftOptions(false_alarms=0.5)
    expected, monitor = run.drift(["u03"], options=options), run.monitor(options)
    assert monitor.threshold == expected.drift.threshold
    events, watching = expected.streams, monitor.init()
    for at, item, z in zip(events.time, events.item, expected.statistic("u03")["statistic"], strict=True):
        if item < len(run.items):  # others were no choice
            watching = monitor.update(watching, at, item)
        assert watching.statistic == pytest.approx(z, rel=1e-3, abs=1e-3)
    with pytest.raises(InputError, match="a monitor goes by the divergence, not cusum; leave the method out"):
        run.monitor(DriftOptions(method="cusum"))


def test_what_each_event_weighs_and_adds_is_shown_by_head(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def header(explanation: Explanation) -> str:
        ask.show(Reasons(explanation, None))
        return capsys.readouterr().out.split("\n")[2]

    ask = Explain(run=run.path, user="u07", item="i03", most=4)
    found = run.explain("u07", "i03", at=END)
    heads = "similarity weight  similarity cosine  similarity adds  revisit weight  revisit adds"
    assert header(found).split() == f"event item_id behaviour age contribution {heads}".split()
    table, own = by_head(found), found.rows.filter(source="event")
    assert table["event"].to_list() == found.events()["event"].to_list()
    parts = table["similarity adds"] + table["revisit adds"]
    np.testing.assert_allclose(parts, table["contribution"], atol=1e-6)
    for head, number, name in (("similarity", "similarity", "cosine"), ("revisit", "weight", "weight")):
        expected = dict(own.filter(head=head).select("event", number).iter_rows())
        assert dict(table.select("event", f"{head} {name}").iter_rows()) == expected
    nothing = pl.lit(None, pl.String).alias("behaviour"), pl.lit(None, pl.Float32).alias("weight")
    plain = dataclasses.replace(found, rows=found.rows.filter(head="similarity").with_columns(*nothing))
    assert header(plain).split() == ["event", "item_id", "age", "contribution", "similarity", "cosine"]


def test_on_the_command_line(
    say: Callable[..., Said], refused: Callable[..., str], tiny_run: Path, tmp_path: Path
) -> None:
    at = str(END)
    told = say(
        "explain", tiny_run, "--user", "u07", "--item", "i03", "--at", at, "--later", "30d", "--without 1"
    )
    assert told.out.startswith("i03, because of ")
    assert "30d later" in told.out
    assert [line for line in told.out.split("\n") if line != line.rstrip()] == []
    plain = say("explain", tiny_run, "--user", "u07", "--item", "i03", "--at", at, "--json").json
    assert plain["exact"]
    assert sum(row["contribution"] for row in plain["rows"]) == pytest.approx(plain["score"], abs=1e-4)
    assert plain["otherwise"] is None
    out = tmp_path / "drift.parquet"
    told = say("drift", tiny_run, "--false-alarms 0.9", "--out", out)
    assert "of 40 users ever alarmed; if nothing moved, 90.0% would be" in told.out
    found = say("drift", tiny_run, "--false-alarms 0.9", "--json").json
    assert len(found["detections"]) == pl.read_parquet(out).height > 0
    assert "perhaps 'genre'" in refused("drift", tiny_run, "--column", "genres")
    assert "never seen" in refused("explain", tiny_run, "--user", "nobody", "--item", "i01", "--at", at)
