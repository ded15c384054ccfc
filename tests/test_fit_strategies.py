"""Strategies fitted: to a log where it is planted who follows whom, and kept in a run that is asked."""

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
import toys
from decisions import strategies as section
from lines import Said, refuser
from tiny import DAY, ITEMS, START, tiny_events
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.baselines import factorisation
from jaxdecay.cli import main
from jaxdecay.commands.policy import FitPolicy
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import requests
from jaxdecay.errors import InputError
from jaxdecay.evaluate import rules
from jaxdecay.predict import Predictor
from jaxdecay.recommend import load
from jaxdecay.strategies import (
    NAMES,
    Fitted,
    Mixture,
    Strategies,
    asked_weights,
    fit_strategies,
    load_strategies,
)
from jaxdecay.trained import Run

USERS, LENGTH, TASTES = 60, 24, 18
OTHERS = [NAMES.index("collaborative"), NAMES.index("popularity")]
"""Strategies by what others do now; the three others go by what the user did."""
TRAINED, VALIDATED = 16, 5  # of each user's events
END = START + 61 * DAY


@pytest.fixture(scope="module", autouse=True)
def one_confidence() -> Iterator[None]:
    """What takes longest is to factorise again and again."""
    with mock.patch.object(factorisation, "CONFIDENCES", (16,)):
        yield


def two_kinds() -> Histories:
    """Users with an even number take what is in fashion that week; the others one of two favourites."""
    random = np.random.default_rng(3)
    spans = np.repeat([0, 1, 2], [TRAINED, VALIDATED, LENGTH - TRAINED - VALIDATED])
    bounds = np.array([[0, 48], [48, 60], [60, 70]])[spans] * DAY
    time = np.sort(random.integers(bounds[:, 0], bounds[:, 1], (USERS, LENGTH)), axis=1)
    fashion = random.permutation(TASTES)[(time // (7 * DAY)) % TASTES]
    favourites = random.integers(0, TASTES, (USERS, 2))
    own = np.take_along_axis(favourites, random.integers(0, 2, (USERS, LENGTH)), axis=1)
    item = np.where(np.arange(USERS)[:, None] % 2 == 0, fashion, own)
    item = np.where(random.random(item.shape) < 0.1, random.integers(0, TASTES, item.shape), item)
    return Histories.from_arrays(
        np.repeat(np.arange(USERS), LENGTH), item.ravel(), toys.START + time.ravel(), items=TASTES,
        part=np.tile(spans, USERS),
        config={"split": {"kind": "global-time", "targets": "successive"}, "repeat_share": 0.5},
    )  # fmt: skip


def untrained(histories: Histories) -> Predictor:
    """Item vectors nearly at right angles: an interest is what the user took."""
    made = toys.pieces(histories, toys.bare(histories, features=16), window=64, batch_targets=64)
    return predictor(made, toys.random_params(made, scale=0.0))


@pytest.fixture(scope="module")
def world() -> tuple[Predictor, Fitted]:
    with jax.numpy_rank_promotion("allow"):
        system = untrained(two_kinds())
        return system, fit_strategies(system)


def likelihood(system: Predictor, fitted: Fitted, strategy: Any) -> float:
    """Mean log-probability of the test events."""
    asked = requests(system.histories, 2)
    found = Mixture(Strategies(system, fitted), rules(system.histories), asked_weights(strategy))
    return float(found.scores(asked)[np.arange(len(asked)), asked.targets].mean())


def test_the_policy_finds_who_follows_whom(world: tuple[Predictor, Fitted]) -> None:
    system, fitted = world
    asked = requests(system.histories, 2)
    weights = Mixture(Strategies(system, fitted), rules(system.histories), None).weights(asked)
    others = weights[:, OTHERS].sum(axis=1)
    follows = asked.user % 2 == 0
    assert others[follows].mean() > 0.7
    assert others[~follows].mean() < 0.3
    assert fitted.feedback == "next events"
    assert fitted.half_lives["popularity"] <= 7


def test_it_beats_each_alone_and_any_mixture_on_events_to_come(world: tuple[Predictor, Fitted]) -> None:
    policy = likelihood(*world, "policy")
    mixture = likelihood(*world, world[1].mixture)
    for name in NAMES:
        assert mixture > likelihood(*world, name) + 0.05
    assert policy > mixture + 0.1
    assert world[1].log_likelihood["policy"] > world[1].log_likelihood["mixture"]
    assert sum(world[1].mixture.values()) == pytest.approx(1)


def test_sharpness_is_that_of_most_likelihood(world: tuple[Predictor, Fitted]) -> None:
    """Twice as sharp and half as sharp are both worse, on what it was fitted on."""
    system, fitted = world
    asked = requests(system.histories, 1)
    row = np.arange(len(asked))
    for name in NAMES:
        found = []
        for by in (0.5, 1.0, 2.0):
            other = {**fitted.sharpness, name: by * fitted.sharpness[name]}
            made = Strategies(system, dataclasses.replace(fitted, sharpness=other))
            excluded = rules(system.histories).excluded(asked)
            log_p = made.log_probabilities(asked, (name,), excluded)[name][row, asked.targets]
            found.append(log_p[np.isfinite(log_p)].mean())
        assert np.argmax(found) == 1, (name, found)


def test_nothing_of_the_test_part_is_read(world: tuple[Predictor, Fitted]) -> None:
    system, fitted = world
    log = system.histories
    item = np.where(log.part == 2, (log.item + 5) % TASTES, log.item).astype(np.int32)
    found = fit_strategies(untrained(log.replace(item=item)))
    for name in ("half_lives", "sharpness", "mixture", "log_likelihood", "paces"):
        assert getattr(found, name) == getattr(fitted, name)
    np.testing.assert_array_equal(found.policy.matrix, fitted.policy.matrix)


def test_clicks_are_learned_from_where_the_log_has_them(world: tuple[Predictor, Fitted]) -> None:
    """Half of what was shown in validation was something else, and was not clicked."""
    log = world[0].histories
    random = np.random.default_rng(0)
    shown = (log.part == 1) & (random.random(log.events) < 0.5)
    item = np.where(shown, random.integers(0, TASTES, log.events), log.item).astype(np.int32)
    label = np.where(shown, 0.0, 1.0).astype(np.float32)
    system = untrained(log.replace(item=item, label=label))
    fitted = fit_strategies(system)
    assert fitted.feedback == "clicks against impressions"
    asked = requests(system.histories, 2)
    weights = Mixture(Strategies(system, fitted), rules(system.histories), None).weights(asked)
    others, follows = weights[:, OTHERS].sum(axis=1), asked.user % 2 == 0
    assert others[follows].mean() > others[~follows].mean() + 0.3


def test_without_validation_there_is_nothing_to_learn_from(world: tuple[Predictor, Fitted]) -> None:
    log = world[0].histories
    system = untrained(log.replace(part=np.where(log.part == 1, 0, log.part).astype(np.int8)))
    with pytest.raises(InputError, match="validation part holds no events to learn a policy from; prepare"):
        fit_strategies(system)


# In a run


@pytest.fixture(scope="module")
def path(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a policy; shared: copy it before changing it."""
    path = shutil.copytree(tiny_run, tmp_path_factory.mktemp("policy") / "run")
    out, err = io.StringIO(), io.StringIO()
    with jax.numpy_rank_promotion("allow"), redirect_stdout(out), redirect_stderr(err):
        assert main(["policy", str(path), "--json"]) == 0
    told = json.loads(out.getvalue())
    assert [row["strategy"] for row in told] == [*NAMES, "mixture", "policy"]
    assert sum(row["weight"] or 0 for row in told) == pytest.approx(1)
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
    columns = {"strategy": ["popularity", "policy"], "log_likelihood": [-2.0, -1.5]}
    columns |= {"weight": [1.0, None], "half_life_days": [7.0, None]}
    FitPolicy(run=path).show(pl.DataFrame(columns))
    assert f"next: jaxdecay recommend {path} --strategy policy" in capsys.readouterr().out


def test_by_the_command_line(say: Callable[..., Said], path: Path) -> None:
    words = "--users u01 -k 2 --at 2024-01-15 --json --strategy"
    rows = say("recommend", path, words, "content=0.7 popularity=0.3").json
    assert {row["served_by"] for row in rows} == {"warm: content and popularity"}
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
