"""The leaderboard: a tiny log end to end, its cache, and its parts by hand."""

import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import leaderboard
import numpy as np
import polars as pl
import pytest
import rectools_sasrec
from board import logs, overrides, plan, rows, show, stored, systems, trials, work
from board.overrides import parse_overrides
from board.plan import Failed, Plan, Standing, _more_seeds, fill
from board.systems import ENTRIES, FLAGSHIP, GRID, Entry
from leaderboard import Options

from jaxdecay.data.requests import requests
from jaxdecay.data.simulate import SimulateOptions, simulate
from jaxdecay.errors import InputError
from jaxdecay.figures import Summary
from jaxdecay.outcomes import Outcome, Table

TINY = (
    *("features=4", "modes=1", "periods=[]", "encoder=none"),
    *(f"{piece}=false" for piece in ("calendar", "columns", "satiation", "per_user", "popularity")),
    *("train.epochs=1", "train.settle_epochs=0", "train.window=8", "train.batch_targets=256"),
)
HAND = "by hand"
SCHEMA = {"log", "protocol", "system", "metric", "value", "low", "high", "seconds", "peak_mib"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated log of 40 users."""
    options = SimulateOptions(users=40, items=30, days=40, events_per_user=25, burstiness=0.5)
    path = tmp_path_factory.mktemp("simulated") / "small" / "events.parquet"
    path.parent.mkdir()
    simulate(options).events.write_parquet(path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def board(log: Path, cache: Path) -> logs.Board:
    return logs.board("small", log, "leave-one-out", cache, clock=None, most=None)


@pytest.fixture(scope="module")
def lists(board: logs.Board, cache: Path) -> Path:
    """Every second user's target first, every fourth's at place 3, for the rest something else."""
    users, items = (
        pl.read_parquet(board.prepared / f"{one}s.parquet")[f"{one}_id"] for one in ("user", "item")
    )
    found = []
    for user, target in zip(board.test.user.tolist(), board.test.targets.tolist(), strict=True):
        others = [item for item in range(len(items)) if item != target][:15]
        place = 0 if user % 2 == 0 else 2 if user % 4 == 1 else len(others)
        ranked = [*others[:place], target, *others[place:]][:15]
        found += [(users[user], items[item], rank) for rank, item in enumerate(ranked, 1)]
    path = cache / "hand.parquet"
    pl.DataFrame(found, schema=["user_id", "item_id", "rank"], orient="row").write_parquet(path)
    return path


def options(log: Path, cache: Path, **changes: Any) -> Options:
    base = Options(
        logs=(str(log),),
        protocol=("leave-one-out",),
        cache=cache,
        budget=1,
        seeds=1,
        override=TINY,
        bootstrap=50,
    )
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def table(log: Path, cache: Path, lists: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows by system and metric: two models, a baseline, and lists written by hand.

    The flagship trains in a process of its own, as all do outside of tests; starting one takes seconds.
    """
    alone = Plan._run

    def run(self: Plan, one: trials.Trial, *, scored: bool) -> int:
        if one.configuration.get("model", {}).get("half_lives") == "learned":
            return alone(self, one, scored=scored)
        one.begin()
        with jax.numpy_rank_promotion("allow"):  # banks broadcast over any rank of ages
            work.perform(one, scored=scored, venv=None)
        return 0

    out = cache / "board.json"
    chosen = options(
        log, cache, systems=(FLAGSHIP, "no decay", "popularity"), lists=(f"{HAND}={lists}",), json=out,
        markdown=cache / "board.md", plot=cache / "board.png",
    )  # fmt: skip
    with mock.patch.object(Plan, "_run", run):
        assert leaderboard.main(chosen) == 0
    assert (cache / "board.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(out.read_text())
    assert len({(row["system"], row["metric"]) for row in found}) == len(found)
    return {(row["system"], row["metric"]): row for row in found}


def test_rows_have_what_is_promised(table):
    assert {system for system, _ in table} == {FLAGSHIP, "no decay", "popularity", HAND}
    for row in table.values():
        assert set(row) >= SCHEMA
        assert (row["log"], row["protocol"]) == ("small", "leave-one-out")
        if row["value"] is not None:
            assert row["low"] - 1e-9 <= row["value"] <= row["high"] + 1e-9
    for system in (FLAGSHIP, "no decay"):
        row = table[system, "ndcg@10"]
        assert row["seconds"] > 0
        assert row["peak_mib"] > 50
        assert row["parameters"] > 30 * 4
        assert row["versions"]["jax"]
        assert 0 <= row["validation"] <= 1
    for metric in rows.METRICS:
        assert (FLAGSHIP, metric) in table
    assert (FLAGSHIP, "ndcg@10 (time withheld)") in table
    assert (HAND, "ndcg@10 (time withheld)") not in table


def test_lists_are_judged_as_arithmetic_says(table, board):
    user = board.test.user
    hits = np.where(user % 2 == 0, 1.0, np.where(user % 4 == 1, 1 / np.log2(4), 0.0))
    assert table[HAND, "ndcg@10"]["value"] == pytest.approx(hits.mean())
    assert table[HAND, "hr@10"]["value"] == pytest.approx((hits > 0).mean())


def test_differences_are_to_the_flagship(table):
    for system in ("no decay", "popularity", HAND):
        row, flagship = table[system, "ndcg@10"], table[FLAGSHIP, "ndcg@10"]
        assert row["difference"] == pytest.approx(row["value"] - flagship["value"])
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert table[FLAGSHIP, "ndcg@10"]["difference"] is None


def test_markdown_holds_every_system(table, cache):
    text = (cache / "board.md").read_text()
    for system in (FLAGSHIP, "no decay", "popularity", HAND):
        assert f"\n| {system} | {table[system, 'hr@10']['value']:.4f} [" in text
    assert "history kept" in text or "history removed" in text


def test_what_is_cached_is_not_run_again(table, log, cache, lists, monkeypatch, capsys):
    def never(*args: Any, **kwargs: Any) -> int:
        raise AssertionError("something was run")

    monkeypatch.setattr(Plan, "_run", never)
    again = options(log, cache, systems=("popularity", FLAGSHIP), json=cache / "again.json")
    assert leaderboard.main(again) == 0
    rest = {(row["system"], row["metric"]): row for row in json.loads((cache / "again.json").read_text())}
    assert rest == {key: row for key, row in table.items() if key[0] in (FLAGSHIP, "popularity")}
    capsys.readouterr()
    leaderboard.main(options(log, cache, systems=(FLAGSHIP, "own counts"), list=True))
    lines = capsys.readouterr().out.splitlines()
    assert "| scored, validation NDCG@10" in lines[0]
    assert lines[1].endswith("own counts | own counts | seed 0 | would be run")
    with pytest.raises(AssertionError, match="something was run"):
        leaderboard.main(options(log, cache, systems=(FLAGSHIP,), override=(*TINY, "train.epochs=2")))


def test_wrong_lists_are_refused_by_row_and_the_rest_stands(table, log, cache, lists, capsys):
    wrong = cache / "wrong.parquet"
    frame = pl.read_parquet(lists)
    pl.concat([frame, frame[3:4]]).write_parquet(wrong)
    chosen = options(log, cache, systems=("popularity",), lists=(f"theirs={wrong}",))
    assert leaderboard.main(chosen) == 2
    shown = capsys.readouterr()
    assert f"names an item twice in one list (row {len(frame) + 1})" in shown.err
    assert "| popularity |" in shown.out
    assert "| theirs |" not in shown.out


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"systems": ("no such",)}, "--systems 'no such': there is no such system"),
        ({"logs": ("nowhere",)}, "--logs nowhere: there is no"),
        ({"protocol": ("random",)}, "--protocol 'random': give one of"),
        ({"lists": ("file.parquet",)}, "--lists 'file.parquet': give NAME=FILE"),
        ({"lists": (f"{FLAGSHIP}=x",)}, "is a system of the table"),
        ({"lists": ("theirs=x", "theirs=y")}, "there is a 'theirs' already"),
        ({"override": ("features",)}, "--override features: give NAME=VALUE"),
        ({"override": ("widths=3",), "systems": (FLAGSHIP,)}, "widths is no option"),
        (
            {"override": ("featurs=3",)},
            "no option; give one of models, train.NAME or peer.NAME; perhaps features",
        ),
        ({"override": ("features=eight",)}, "--override features=eight: "),
        ({"override": ("popularity=no",)}, "--override popularity=no: give true or false"),
        ({"override": ("train.epochs=lots",)}, "--override train.epochs=lots: "),
        ({"override": ("train.seed=1",)}, "train.seed is no option"),
        (
            {"override": ("peer.lenght=20",)},
            "peer.lenght is no option; give one of models, train.NAME or peer.NAME; perhaps peer.length",
        ),
        ({"override": ("peer.epochs=lots",)}, "--override peer.epochs=lots: give a whole number"),
        ({"override": ("peer.model=hstu",)}, "peer.model is no option"),
        ({"budget": 0}, "--budget 0: give at least 1"),
        ({"max_requests": 0}, "--max-requests 0: give at least 1"),
        ({"bootstrap": 0}, "--bootstrap 0: give at least 1"),
    ],
)
def test_options_that_cannot_be_used(log, cache, changes, fault, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert leaderboard.run(options(log, cache, list=True, **changes)) == 2
    assert signal.signal(signal.SIGTERM, before) is not before
    assert fault in capsys.readouterr().err


def test_two_logs_of_one_name_are_refused_in_one_table_and_apart_in_the_cache(log, cache, board, capsys):
    other = log.parent.parent / "other" / "small" / "events.parquet"
    other.parent.mkdir(parents=True)
    pl.read_parquet(log).head(500).write_parquet(other)
    assert leaderboard.run(options(log, cache, logs=(str(log), str(other)), list=True)) == 2
    assert "are both called 'small'; rename one" in capsys.readouterr().err
    assert logs.board("small", other, "leave-one-out", cache, clock=None, most=None).folder != board.folder


def test_overrides_are_what_the_command_line_would_make_of_them():
    words = (
        "preset=base", "popularity=false", 'periods=["1d", "7d"]', "half-life-prior=[]", "features=8",
        "train.evidence_half_life=0.5", "train.loss=bce", "train.window=null", "peer.length=20",
    )  # fmt: skip
    assert parse_overrides(words) == {
        "preset": "base", "popularity": False, "periods": ("1d", "7d"), "half_life_prior": (), "features": 8,
        "train.evidence_half_life": 0.5, "train.loss": "bce", "train.window": None, "peer.length": 20,
    }  # fmt: skip


def test_overrides_of_peers_are_options_of_their_script():
    source = Path(rectools_sasrec.__file__).with_name("rectools_rank.py").read_text()
    assert [name for name in overrides.PEER if f'add("--{name}"' not in source] == []


def test_requests_without_a_list_are_told(board, table):
    found = [row for row in table.values() if row["system"] == HAND]
    facts = {"requests_without_a_list": 3, "reach": {}}
    told = show.markdown(board, [{**row, **facts} for row in found])
    assert f"{HAND} has no list for 3 of the {len(board.test)} requests: misses." in told
    assert "has no list" not in show.markdown(board, found)


def test_an_ablation_of_what_is_not_there_is_left_out(table, log, cache, capsys):
    chosen = options(log, cache, systems=(FLAGSHIP, "no encoder"))
    with mock.patch.object(Plan, "_run", side_effect=AssertionError("something was run")):
        assert leaderboard.main(chosen) == 0
    shown = capsys.readouterr()
    assert "no encoder: what it takes away was not there" in shown.err
    assert "| no encoder |" not in shown.out


def test_a_peer_without_an_environment_is_never_begun(board, cache):
    peer = next(entry for entry in ENTRIES if entry.kind == "peer")
    plan = Plan(cache, 1, 3, None, {}, lambda text: None)
    with mock.patch.object(Plan, "_run", side_effect=AssertionError("something was run")):
        standings, failures = fill(plan, board, [peer])
        assert not standings
        assert "give its environment with --venv" in failures[0]
        found = Standing(peer, plan.trials(peer, board), [{}], [])
        with pytest.raises(Failed, match="seed 1: not in the cache"):
            _more_seeds(plan, board, found)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_peer_that_is_killed_has_failed_and_was_not_interrupted(number, board, cache):
    peer = next(entry for entry in ENTRIES if entry.kind == "peer")
    one = Plan(cache, 1, 1, "somewhere", {}, lambda text: None).trials(peer, board)[0]
    child = mock.Mock(wait=lambda: -number)
    with mock.patch.object(work.subprocess, "Popen", return_value=child), pytest.raises(SystemExit) as left:
        work.train_peer(one, "somewhere")
    assert left.value.code not in (0, work.UNFINISHED)


def test_a_folder_of_somebody_else_is_not_made_an_environment(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    refused = pytest.raises(SystemExit, match="was not made by this script")
    with mock.patch.object(rectools_sasrec.venv, "create", side_effect=AssertionError), refused:
        rectools_sasrec.run_in_own_environment(tmp_path, sys.executable)
    assert (tmp_path / "thesis.tex").exists()


def test_every_trained_system_has_as_many_candidates():
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names)
    for entry in ENTRIES:
        if entry.kind in ("peer", "model"):
            for budget in (1, len(GRID)):
                found = systems.configurations(entry, clock="utc", budget=budget)
                assert len(found) == budget, entry.name


def test_an_ablation_changes_what_it_says_and_nothing_else():
    by_name = {entry.name: entry for entry in ENTRIES}
    large = {"preset": "base"}
    whole = systems.configurations(by_name[FLAGSHIP], clock="utc", budget=1, overrides=large)[0]
    for entry in ENTRIES:
        if entry.group in ("flagship", "ablations"):
            overrides = large | dict(entry.model)
            one = systems.configurations(entry, clock="utc", budget=1, overrides=overrides)[0]
            changed = {name for name in one["model"] if one["model"][name] != whole["model"][name]}
            if entry.name == "no encoder":
                changed -= {"blocks", "dropout", "precision", "remat"}
            assert changed == set(entry.model), entry.name
            assert one["train"] == whole["train"]
    latest = dataclasses.replace(by_name[FLAGSHIP], grid=GRID[1:2])
    one = systems.configurations(latest, clock="relative", budget=1)
    assert one == systems.configurations(by_name[FLAGSHIP], clock="relative", budget=1)
    assert len(systems.configurations(by_name[FLAGSHIP], clock="relative", budget=2)) == 2
    slow = systems.configurations(by_name["SASRec, bare"], clock="relative", budget=4)[-1]
    assert slow["train"]["learning_rate"] == 1e-3
    names = FLAGSHIP, "no cold items"
    flagship, cold = (systems.configurations(by_name[n], clock="relative", budget=1) for n in names)
    assert cold == flagship  # without a clock of the log nothing comes after training
    still = systems.configurations(by_name["no decay"], clock="relative", budget=1)[0]
    assert still["model"]["request_time"] == "ignored"


def test_a_row_from_before_an_option_is_still_found():
    job = {"seed": 0, "configuration": systems.configurations(ENTRIES[0], clock="utc", budget=1)[0]}
    older = json.loads(json.dumps(job))
    del older["configuration"]["model"]["adaptive"]
    assert trials._same(older, json.loads(json.dumps(job)))
    job["configuration"]["model"]["adaptive"] = True
    assert not trials._same(older, job)
    assert not trials._same({**older, "seed": 1}, {**job, "seed": 0})


def test_a_killed_run_counts_its_seconds_from_its_checkpoint(board, tmp_path):
    (tmp_path / "run" / "checkpoints" / "20").mkdir(parents=True)
    lines = [{"step": step, "ndcg@10": 0.1, "seconds": 10.0 * step} for step in (10, 20, 30)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "curve.jsonl").write_text(text + '{"step": 40, "nd')
    curve = work.Curve(trials.Trial(board, {}, 0, tmp_path))
    assert [line["step"] for line in curve.lines] == [10, 20]
    curve.add({"step": 30, "ndcg@10": 0.3})
    kept = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in kept] == [10, 20, 30]
    assert 200 <= kept[-1]["seconds"] < 210


def test_outcomes_come_back_as_they_were(board, tmp_path):
    asked, random = board.test.take(slice(4)), np.random.default_rng(0)
    targets = len(asked.targets)
    given = Outcome(
        ranks=random.random(targets), listed=random.integers(0, 9, (4, 3)), listed_age=random.random((4, 3)),
        score=random.random(targets), expected=random.random(4), candidates=random.integers(1, 9, 4),
        pair_logits=True, seconds=1.5,
    )  # fmt: skip
    assert {field.name for field in dataclasses.fields(Outcome)} == set(vars(given))
    withheld = dataclasses.replace(given, ranks=given.ranks + 1, expected=None, seconds=0.5)
    table = Table(asked, random.random(targets) < 0.5, random.random(targets))
    stored.save(tmp_path / "some.npz", {"given": given, "withheld": withheld}, table)
    found, kept = stored.load(tmp_path / "some.npz", asked)
    for one, other in ((given, found["given"]), (withheld, found["withheld"])):
        for name, value in vars(one).items():
            np.testing.assert_array_equal(getattr(other, name), value)
    np.testing.assert_array_equal(kept.own, table.own)
    np.testing.assert_array_equal(kept.last, table.last)
    with pytest.raises(ValueError, match="other requests"):
        stored.load(tmp_path / "some.npz", board.test.take(slice(3)))


def test_seeds_are_averaged_draw_by_draw():
    random = np.random.default_rng(0)
    key = [("all", "ndcg@10")]
    seeds = [
        Summary(key, random.random(1), random.random((5, 1)), [("all", "gini@10", value, 0.0, 1.0)])
        for value in (0.25, 0.75)
    ]
    found = rows.mean(seeds)
    np.testing.assert_allclose(found.values, (seeds[0].values + seeds[1].values) / 2)
    np.testing.assert_allclose(found.drawn, (seeds[0].drawn + seeds[1].drawn) / 2)
    assert found.whole == [("all", "gini@10", 0.5, 0.0, 1.0)]


def test_a_baseline_that_makes_no_sense_on_a_log_is_left_out(log, cache, board):
    plan = Plan(cache, 1, 1, None, {}, lambda text: None)
    chosen = [entry for entry in ENTRIES if entry.name == "windowed popularity"]
    with mock.patch.object(Plan, "do", return_value={"none": "needs a clock that all users share"}):
        assert fill(plan, board, chosen) == ([], [])


def test_the_time_to_reach_a_peer():
    def standing(name: str, kind: Any, curve: list[list[float]]) -> Standing:
        return Standing(Entry(name, kind), [], [{"curve": curve}], [])

    ours = standing("ours", "model", [[1.0, 0.1], [2.0, 0.3], [3.0, 0.2]])
    slow = standing("slow", "model", [[9.0, 0.1]])
    peer = standing("peer", "peer", [[10.0, 0.2], [20.0, 0.25], [30.0, 0.25]])
    found = rows.reached([ours, slow, peer])
    assert found["ours"]["peer"] == {"ndcg": 0.25, "peer_seconds": 20.0, "seconds": 2.0}
    assert found["slow"]["peer"]["seconds"] is None


def test_more_seeds_go_to_the_flagship_and_its_best_rival(monkeypatch):
    value = {"weak": 0.1, "part": 0.9, "strong": 0.2}
    monkeypatch.setattr(plan, "ndcg", lambda one: value[one])
    groups = (("weak", "baselines"), ("part", "ablations"), ("strong", "peers"))
    standings = [Standing(Entry(FLAGSHIP, group="flagship"), ["none"], [], [])]  # type: ignore[list-item]
    standings += [Standing(Entry(name, group=group), [name], [], []) for name, group in groups]  # type: ignore
    assert [standings[place].entry.name for place in plan._seeded(standings, None)] == [FLAGSHIP, "strong"]  # type: ignore


def test_the_last_busy_day_tests_and_the_day_before_validates(tmp_path):
    day, hour = 86_400, 3600
    times = np.concatenate(
        [np.arange(100) * hour // 5 + start * day for start in range(4)] + [np.array([4 * day + 5, 6 * day])]
    )
    frame = pl.DataFrame({"user_id": np.arange(402) % 20, "item_id": np.arange(402) % 7, "timestamp": times})
    frame.write_parquet(tmp_path / "events.parquet")
    found = logs.board("days", tmp_path / "events.parquet", "last-day", tmp_path, clock=None, most=None)
    histories = found.histories
    assert histories.events == 400
    np.testing.assert_array_equal(histories.part, np.clip(histories.time // day - 1, 0, 2))


def test_the_next_category(tmp_path):
    frame = pl.DataFrame(
        {
            "user_id": np.arange(60) % 5,
            "item_id": np.arange(60),
            "category": [f"c{i % 7}" for i in range(60)],
            "timestamp": 86_400 * np.arange(60),
        }
    )
    frame.write_parquet(tmp_path / "events.parquet")
    found = logs.board("shop", tmp_path / "events.parquet", "next-category", tmp_path, clock=None, most=None)
    assert pl.read_parquet(found.prepared / "items.parquet")["item_id"].sort().to_list() == [
        f"c{i}" for i in range(7)
    ]
    np.testing.assert_array_equal(found.test.at, 86_400 * np.arange(54, 60))
    frame.drop("category").write_parquet(tmp_path / "bare.parquet")
    with pytest.raises(InputError, match="has no column 'category'"):
        logs.board("bare", tmp_path / "bare.parquet", "next-category", tmp_path, clock=None, most=None)


def test_a_peer_is_handed_the_same_split(log, cache):
    pytest.importorskip("pandas")
    import rectools_rank

    board = logs.board("small", log, "global-time", cache, clock=None, most=20)
    folder = logs.hand_over(board)
    given, events = pl.read_parquet(folder / "log.parquet"), pl.read_parquet(log)
    columns = ["user_id", "item_id", "timestamp"]
    expected = events.sort("user_id", "timestamp", maintain_order=True).select(columns)
    assert given.sort("user_id", "timestamp", maintain_order=True).select(columns).equals(expected)
    asked = pl.read_parquet(folder / "requests.parquet")
    assert len(asked.filter(part=2)) == 20
    assert len(asked.filter(part=1)) == len(requests(board.histories, 1))
    rows_of = given.with_row_index("request").join(asked, on="request", suffix="_asked")
    assert (rows_of["item_id"] == rows_of["item_id_asked"]).all()
    assert (rows_of["part"] == rows_of["part_asked"]).all()

    peer = rectools_rank.Log(folder)
    train = given.filter(part=0)
    assert len(peer.training(200)) == len(train)
    stretched = peer.training(4).groupby("user_id")["item_id"]
    assert 1 < stretched.size().max() <= 5
    targets = [item for _, one in stretched for item in one.iloc[1:]]
    firsts = train.group_by("user_id", maintain_order=True).first()["item_id"].to_list()
    assert sorted(targets + firsts) == sorted(train["item_id"])  # every event but the first is a target, once
    for most in (None, 3):
        for history, context in peer.chunks(peer.requests, most):
            assert not context["user_id"].duplicated().any()
            for request, at in zip(context["user_id"], context["datetime"], strict=True):
                own = given[: int(request)].filter(user_id=given["user_id"][int(request)])
                wanted = own["item_id"].to_list()[-(most or 999) :]
                mine = history[history["user_id"] == request]
                assert mine["item_id"].tolist() == wanted
                assert (mine["datetime"] <= at).all()


def test_what_a_peer_counts_as_ndcg():
    pandas = pytest.importorskip("pandas")
    import rectools_rank

    asked = pandas.DataFrame({"request": [1, 2, 3, 4], "item_id": ["a", "b", "c", "d"]})
    lists = pandas.DataFrame(
        {"request": [1, 1, 2, 3, 3], "item_id": ["a", "b", "b", "a", "c"], "rank": [1, 2, 11, 1, 3]}
    )
    assert rectools_rank.ndcg(lists, asked) == pytest.approx((1 + 1 / np.log2(4)) / 4)
