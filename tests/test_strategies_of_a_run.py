"""Strategies kept in a run: who serves whom, lists of theirs that are steered, and what is damaged."""

import dataclasses
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import polars as pl
import pytest
from decisions import strategies as section
from lines import Said, refuser
from tiny import DAY, ITEMS, START, tiny_events
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.baselines import factorisation
from jaxdecay.cli import main
from jaxdecay.commands.policy import FitPolicy
from jaxdecay.errors import InputError
from jaxdecay.exposure import share
from jaxdecay.recommend import load
from jaxdecay.steering import Steering
from jaxdecay.strategies import (
    NAMES,
    load_strategies,
    whom,
)
from jaxdecay.trained import Run

END = START + 61 * DAY


@pytest.fixture(scope="module", autouse=True)
def one_confidence() -> Iterator[None]:
    """What takes longest is to factorise again and again."""
    with mock.patch.object(factorisation, "CONFIDENCES", (16,)):
        yield


@pytest.fixture(scope="module")
def path(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a policy; shared: copy it before changing it."""
    path = shutil.copytree(tiny_run, tmp_path_factory.mktemp("policy") / "run")
    out, err = io.StringIO(), io.StringIO()
    with jax.numpy_rank_promotion("allow"), redirect_stdout(out), redirect_stderr(err):
        assert main(["policy", str(path), "--json"]) == 0
    told = json.loads(out.getvalue())
    everybody = [row for row in told if row["known"] == "all"]
    assert [row["strategy"] for row in everybody] == [*NAMES, "mixture", "policy"]
    for weight in ("weight", "policy_weight"):
        assert sum(row[weight] or 0 for row in everybody) == pytest.approx(1)
    assert "the policy learned from next events" in err.getvalue()
    return path


@pytest.fixture(scope="module")
def run(path: Path) -> Run:
    return load(path)


@pytest.mark.parametrize("strategy", [*NAMES, "policy", {"content": 0.7, "popularity": 0.3}])
def test_lists_say_who_served_them(run: Run, strategy: Any) -> None:
    users = ["u07", "nobody", "u01"]
    lists = run.recommend(users, k=4, at=END, strategy=strategy, on_unknown="popular")
    assert lists.columns == ["user_id", "item_id", "score", "rank", "served_by"]
    assert lists["user_id"].to_list() == [user for user in users for _ in range(4)]
    assert lists["rank"].to_list() == [1, 2, 3, 4] * 3
    paths = lists.group_by("user_id", maintain_order=True).agg(pl.col("served_by").unique())
    words = paths["served_by"].explode().to_list()
    assert [one.split(":")[0] for one in words] == ["warm", "cold", "warm"]
    own = lists.filter(pl.col("user_id") == "u01")
    assert own["score"].is_sorted(descending=True)
    assert (own["score"] < 0).all()


def test_the_model_alone_keeps_its_order_and_its_frame(run: Run) -> None:
    default = run.recommend(k=ITEMS, at=END)
    alone = run.recommend(k=ITEMS, at=END, strategy="model")
    assert default.columns == ["user_id", "item_id", "score", "rank"]
    assert alone["item_id"].to_list() == default["item_id"].to_list()
    assert set(alone["served_by"]) == {"warm: model"}
    total = alone.group_by("user_id").agg(pl.col("score").exp().sum())["score"]
    np.testing.assert_allclose(total, 1, rtol=1e-4)


@pytest.mark.parametrize("strategy", ["policy", {"collaborative": 0.7, "factorisation": 0.3}])
def test_lists_of_strategies_are_steered(run: Run, strategy: Any) -> None:
    """Each option does to their log-probabilities what it does to the scores of the model."""
    options: dict[str, Any] = {"k": 4, "at": END, "strategy": strategy}
    whole = run.recommend(k=ITEMS, at=END, strategy=strategy)
    plain = run.recommend(**options)
    scores = {(user, item): score for user, item, score, *_ in whole.iter_rows()}
    bounds = {"group": "genre", "exposed": ("jazz",), "least": 0.5}
    steers: dict[str, dict[str, Any]] = {
        "mmr": {"trade_off": 0.3},
        "dpp": {"trade_off": 0.3, "diversity": "dpp"},
        "cap": {"group": "genre", "cap": 2},
        "each": bounds,
        "all": {**bounds, "over": "all"},
        "drawn": {"explore": "temperature", "seed": 3},
    }
    found = {name: run.recommend(**options, steer=Steering(**one)) for name, one in steers.items()}
    for name, lists in found.items():
        assert lists.columns == plain.columns
        assert lists.drop("item_id", "score").equals(plain.drop("item_id", "score"))
        assert lists["item_id"].to_list() != plain["item_id"].to_list(), name
        again = [scores[user, item] for user, item in lists.select("user_id", "item_id").iter_rows()]
        np.testing.assert_allclose(lists["score"], again, atol=1e-4)
    of = {f"i{item:02}": item % 3 == 0 for item in range(ITEMS)}
    jazz = {name: np.reshape([of[item] for item in one["item_id"]], (-1, 4)) for name, one in found.items()}
    assert (jazz["cap"].sum(axis=1) == 2).all()
    assert (share(jazz["each"], np.ones_like(jazz["each"])) >= 0.5).all()
    assert share(jazz["all"], np.ones_like(jazz["all"])).mean() >= 0.5 - 1e-6


@pytest.mark.parametrize("steer", [Steering(react=3.0), Steering(explore="thompson", seed=1)])
def test_reads_are_moved_where_the_model_is_asked(run: Run, steer: Steering) -> None:
    options: dict[str, Any] = {"k": 5, "at": END}
    model = run.recommend(**options, steer=steer)
    alone = run.recommend(**options, steer=steer, strategy="model")
    assert alone["item_id"].to_list() == model["item_id"].to_list()
    both = run.recommend(**options, steer=steer, strategy={"model": 0.5, "popularity": 0.5})
    plain = run.recommend(**options, strategy={"model": 0.5, "popularity": 0.5})
    assert both["score"].to_list() != plain["score"].to_list()
    with pytest.raises(InputError, match="none of these strategies asks for; leave it out, or give the"):
        run.recommend(**options, steer=steer, strategy={"collaborative": 1.0, "popularity": 1.0})


def test_the_model_alone_needs_nothing_fitted(tiny_run: Path, run: Run) -> None:
    """Its scores are those of its own softmax, whether a policy is there or not."""
    bare = load(tiny_run)
    lists = bare.recommend(["u01", "u02"], k=ITEMS, at=END, strategy="model")
    assert set(lists["served_by"]) == {"warm: model"}
    plain = bare.recommend(["u01", "u02"], k=ITEMS, at=END)
    expected = plain["score"].to_numpy().reshape(2, -1)
    expected = expected - np.log(np.exp(expected).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(lists["score"].to_numpy().reshape(2, -1), expected, atol=1e-4)
    assert run.recommend(["u01", "u02"], k=ITEMS, at=END, strategy={"model": 2.0}).equals(lists)


def test_who_cannot_tell_items_apart_did_not_serve(path: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(path, tmp_path / "run")
    damage(copied, lambda config: config["sharpness"].update(content=1e-4, collaborative=50, model=50))

    def served(strategy: Any) -> set[str]:
        return set(load(copied).recommend(["u01", "u02"], k=2, at=END, strategy=strategy)["served_by"])

    assert served("content") == {"warm: content (all items alike)"}
    assert served({"content": 0.6, "collaborative": 0.4}) == {"warm: collaborative"}
    assert served({"content": 0.6, "collaborative": 0.1, "model": 0.3}) == {"warm: model and collaborative"}


def test_what_may_be_listed_holds_for_strategies(run: Run, tmp_path: Path) -> None:
    options: dict[str, Any] = {"k": 5, "at": END, "exclude_seen": True, "where": "genre = 'rock'"}
    lists = run.recommend(strategy="policy", **options)
    allowed = {f"i{item:02}" for item in range(ITEMS) if item % 3}
    seen = set(tiny_events().select("user_id", "item_id").iter_rows())
    assert lists.height
    assert set(lists["item_id"]) <= allowed
    assert not seen & set(lists.select("user_id", "item_id").iter_rows())
    written = run.recommend(strategy="policy", out=tmp_path / "lists.parquet", **options)
    assert pl.read_parquet(written).equals(lists)
    assert run.recommend([], strategy="policy", **options).schema == lists.schema


def test_a_run_without_a_policy_says_what_to_do(tiny_run: Path) -> None:
    run = load(tiny_run)
    line = f"{tiny_run}: no strategies have been fitted yet; run jaxdecay policy {tiny_run}"
    with pytest.raises(InputError, match=re.escape(line)):
        run.recommend("u01", at=END, strategy="content")
    with pytest.raises(InputError, match="perhaps 'content'"):
        run.recommend("u01", at=END, strategy="contents")


def damage(path: Path, change: Callable[[dict], Any]) -> None:
    config = json.loads((path / "policy.json").read_text())
    change(config)
    (path / "policy.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(format=9), "is of another version of jaxdecay"),
        (lambda config: config["features"].append("hour"), "is of another version"),
        (lambda config: config["run"].update(step=-1), "was fitted before the run was trained on"),
        (lambda config: config.pop("sharpness"), r"damaged \(KeyError\)"),
        (lambda config: config.update(factors=1), r"damaged \(ValueError\)"),
    ],
)
def test_a_policy_of_something_else_is_refused(
    path: Path, tmp_path: Path, change: Callable[[dict], Any], message: str
) -> None:
    copied = shutil.copytree(path, tmp_path / "run")
    damage(copied, change)
    with pytest.raises(InputError, match=f"{message}.*; run jaxdecay policy "):
        load(copied).recommend("u01", at=END, strategy="policy")


_WRONG: list[Any] = [None, "text", [], {}, {"content": "x"}, float("nan"), True]


@pytest.mark.parametrize(
    "name",
    [
        *("confidence", "sharpness", "mixture", "half_lives", "log_likelihood", "paces", "policy"),
        *("factors", "groups", "feedback", "run", "strategies", "features", "format"),
    ],
)
def test_any_damaged_field_is_one_line(path: Path, tmp_path: Path, name: str) -> None:
    """Left out, or with what no fit has written; the line names the file and what to run."""
    copied = shutil.copytree(path, tmp_path / "run")
    config = json.loads((copied / "policy.json").read_text())
    line = re.escape(f"{copied / 'policy.json'}: ") + ".*; " + re.escape(f"run jaxdecay policy {copied}")
    for wrong in (*_WRONG, ...):
        if wrong == "text" and name == "feedback":
            continue
        changed = {key: value for key, value in config.items() if key != name}
        (copied / "policy.json").write_text(json.dumps(changed if wrong is ... else changed | {name: wrong}))
        with pytest.raises(InputError, match=line):
            load_strategies(copied)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["sharpness"].update(model=-1.0),
        lambda config: config["half_lives"].update(popularity=0.0),
        lambda config: config["policy"].update(bias=[0.0] * 4),
        lambda config: config["policy"].update(mean=[float("nan")] * 4),
        lambda config: config["policy"].update(scale=[0.0] * 4),
        lambda config: config["mixture"].pop("model"),
        lambda config: config["groups"][0].pop("weight"),
        lambda config: config["groups"][0]["log_likelihood"].update(policy=None),
    ],
)
def test_numbers_that_no_fit_writes_are_damage(path: Path, tmp_path: Path, change: Callable) -> None:
    copied = shutil.copytree(path, tmp_path / "run")
    damage(copied, change)
    with pytest.raises(InputError, match=r"policy.json: damaged \(.*\); run jaxdecay policy"):
        load_strategies(copied)


def test_cut_files_are_refused(path: Path, tmp_path: Path) -> None:
    for name in ("policy.json", "policy.npz"):
        copied = shutil.copytree(path, tmp_path / name)
        (copied / name).write_bytes((copied / name).read_bytes()[:100])
        with pytest.raises(InputError, match="damaged"):
            load(copied).recommend("u01", at=END, strategy="policy")


def test_new_items_and_users_are_served_after_an_update(path: Path, tmp_path: Path) -> None:
    run = load(shutil.copytree(path, tmp_path / "run"))
    rows = [("new", "brand-new", END), ("new", "i03", END + 5), ("u01", "brand-new", END + 9)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    run.update(events.with_columns(behaviour=pl.lit("view"), device=pl.lit("tv")))
    for strategy in (*NAMES, "policy"):
        lists = run.recommend(["new", "u01"], k=ITEMS + 1, at=END + DAY, strategy=strategy)
        assert lists["item_id"].n_unique() == ITEMS + 1
        assert lists["score"].is_finite().all()
        assert lists["served_by"][0].startswith("lukewarm: ")


def test_what_was_fitted_is_shown(capsys: pytest.CaptureFixture[str], path: Path) -> None:
    """All groups there can be, in 100 columns."""
    fitted = load_strategies(path)
    one = {**fitted.groups[0], "events": 123_456}
    cases = [("all", None), ("cold", False)]
    cases += [(known, moved) for known in ("lukewarm", "warm") for moved in (False, True)]
    likely = {name: -10.0 - place for place, name in enumerate(whom.JUDGED)}
    groups = [{**one, "known": known, "moved": moved, "log_likelihood": likely} for known, moved in cases]
    FitPolicy(run=path).show(whom.frame(dataclasses.replace(fitted, groups=groups)))
    out = capsys.readouterr().out
    assert f"next: jaxdecay recommend {path} --strategy policy" in out
    table = [line for line in out.splitlines() if str(path) not in line]
    assert max(map(len, table)) <= 100
    assert "lukewarm, moved" in out
    (content,) = [line for line in table if line.startswith("content") and "*" in line]
    assert content.count("-10.00*") == len(cases)
    assert sum("*" in line for line in table) == 2  # and the line that says what it is


def test_by_the_command_line(say: Callable[..., Said], path: Path) -> None:
    words = "--users u01 -k 2 --at 2024-01-15 --json --strategy"
    rows = say("recommend", path, words, "content=0.7 popularity=0.3").json
    assert {row["served_by"] for row in rows} == {"warm: content and popularity (all items alike)"}
    refused = refuser(say)
    message = "--strategy 'content=x': give NAME=WEIGHT, such as content=0.7"
    assert refused("recommend", path, words, "content=x") == message
    assert "content is given twice" in refused("recommend", path, words, "content=1 content=2")
    assert "perhaps 'policy'" in refused("recommend", path, words, "polcy")


def test_the_section_of_the_benchmark(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(section, "fit_strategies", lambda predictor, seed: load_strategies(path))
    found = section.strategies(load(path), max_requests=20)
    assert [row["strategy"] for row in found["rows"]] == [*NAMES, "policy", "mixture"]
    assert all(row["low"] <= row["ndcg@10"] <= row["high"] for row in found["rows"])
    ways = found["ways_to_mix"]
    assert ways["difference"] == pytest.approx(ways["logarithms"] - ways["probabilities"], abs=1e-5)
    json.dumps(found)
