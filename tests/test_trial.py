"""Strategies and steered lists judged: by lists made by hand, under the rules of every evaluation."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from lines import Said, refuser
from tiny import ITEMS
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import drift
from jaxdecay.assembly import load_predictor
from jaxdecay.assess import MODEL
from jaxdecay.data.requests import Requests, requests
from jaxdecay.errors import InputError
from jaxdecay.evaluate import evaluate, rules
from jaxdecay.exposure import share
from jaxdecay.policy import Learned
from jaxdecay.predict import Predictor
from jaxdecay.protocol import Protocol
from jaxdecay.react import Reacting
from jaxdecay.recommend import load
from jaxdecay.steering import Steering
from jaxdecay.strategies import (
    UNFITTED,
    Mixture,
    asked_weights,
    load_for,
    save_strategies,
)
from jaxdecay.strategies.whom import Asked, by_group
from jaxdecay.trial import trial

FEW = Protocol(k=(2,), bootstrap=10)
JAZZ = np.arange(ITEMS) % 3 == 0  # of i00, i01, ...


@pytest.fixture(scope="module")
def path(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a policy of any numbers."""
    path = shutil.copytree(tiny_run, tmp_path_factory.mktemp("trial") / "run")
    random = np.random.default_rng(0)
    policy = Learned(np.zeros(4), np.ones(4), random.normal(size=(4, 5)), random.normal(size=5))
    groups = by_group(Asked(np.array([9]), np.array([False])), np.full((1, 7), -2.0), np.full((1, 5), 0.2))
    fitted = dataclasses.replace(
        UNFITTED,
        confidence=4.0,
        factors=random.normal(size=(ITEMS, 3)).astype(np.float32),
        paces=(0.3, 0.03, 1.0, 20.0),
        policy=policy,
        log_likelihood=groups[0]["log_likelihood"],
        groups=groups,
    )
    save_strategies(path, fitted)
    return path


@pytest.fixture(scope="module")
def system(path: Path) -> Predictor:
    with jax.numpy_rank_promotion("allow"):
        return load_predictor(path)


@pytest.fixture(scope="module")
def asked(system: Predictor) -> Requests:
    return requests(system.histories, 2)


def jazz(path: Path) -> np.ndarray:
    """(15,) bool by index."""
    names = load(path).items["item_id"].to_list()
    return np.array([JAZZ[int(name[1:])] for name in names])


def scores_of(system: Predictor, asked: Requests) -> np.ndarray:
    excluded = rules(system.histories).excluded(asked)
    scores = system.scores(asked)
    return scores if excluded is None else np.where(excluded, -np.inf, scores)


def test_a_cap_is_judged_by_the_lists_that_it_makes(path: Path, system: Predictor, asked: Requests) -> None:
    """One of each genre: the best with jazz and the best without."""
    found = load(path).evaluate(FEW, steer=Steering(group="genre", cap=1))
    scores, of = scores_of(system, asked), jazz(path)
    best = np.stack([np.where(of == one, scores, -np.inf).argmax(axis=1) for one in (True, False)], axis=1)
    second = scores[np.arange(len(asked)), best[:, 1]] > scores[np.arange(len(asked)), best[:, 0]]
    listed = np.where(second[:, None], best[:, ::-1], best)
    hit = listed == asked.targets[:, None]
    gain = (hit / np.log2([2.0, 3.0])).sum(axis=1)
    vectors = system.unit_vectors()
    far = [1 - vectors[a] @ vectors[b] for a, b in listed.tolist()]
    expected = {
        "ndcg@2": gain.mean(),
        "hr@2": hit.any(axis=1).mean(),
        "coverage@2": len(np.unique(listed)) / ITEMS,
        "distance@2": np.mean(far),
    }
    for metric, value in expected.items():
        assert found.figure("steered", metric).value == pytest.approx(value, abs=1e-6), metric
    assert list(found.systems) == ["steered", MODEL]
    assert found.protocol["steered"] == "group genre, cap 1"
    plain = evaluate([system], system.histories, asked, k=[2], bootstrap=10)
    for metric in ("ndcg@2", "gini@2", "mrr@2"):
        for time in ("given", "withheld"):
            same = plain.figure(MODEL, metric, time=time).value
            assert found.figure(MODEL, metric, time=time).value == same
    assert found.difference("steered", "ndcg@2", MODEL).value == pytest.approx(
        gain.mean() - plain.figure(MODEL, "ndcg@2").value, abs=1e-6
    )


def test_the_exposure_asked_for_is_reported_for_all_systems(
    path: Path, system: Predictor, asked: Requests
) -> None:
    bounds: dict[str, Any] = {"group": "genre", "exposed": ("jazz",), "least": 0.6}
    each, together = (
        trial(path, FEW, strategy="model", steer=Steering(**bounds, over=over)) for over in ("each", "all")
    )
    listed = np.argsort(-scores_of(system, asked), axis=1, kind="stable")[:, :2]
    plain = share(jazz(path)[listed], np.ones_like(listed, bool)).mean()
    assert plain < 0.55
    for found in (each, together):
        assert list(found.systems) == ["strategy model, steered", "strategy model", MODEL]
        for name in ("strategy model", MODEL):
            assert found.figure(name, "exposure@2").value == pytest.approx(plain, abs=1e-6)
    name = "strategy model, steered"
    assert together.figure(name, "exposure@2").value == pytest.approx(0.6, abs=0.03)
    assert each.figure(name, "exposure@2").value >= 0.6
    # Over all lists together it takes less from relevance than within each.
    assert together.figure(name, "ndcg@2").value >= each.figure(name, "ndcg@2").value - 0.02


@pytest.mark.parametrize("strategy", ["policy", {"content": 1.0, "popularity": 3.0}])
def test_a_strategy_is_ranked_as_its_mixture_is(
    path: Path, system: Predictor, asked: Requests, strategy: Any
) -> None:
    found = trial(path, FEW, strategy=strategy)
    applied = rules(system.histories)
    weights = asked_weights(strategy)
    ranks = applied.ranks(Mixture(load_for(path, system, weights), applied, weights), asked)
    (name,) = set(found.systems) - {MODEL}
    assert found.figure(name, "hr@2").value == pytest.approx((ranks <= 2).mean())
    assert name == ("strategy policy" if strategy == "policy" else "strategy content=1 popularity=3")


def test_draws_have_the_seed_of_the_protocol(path: Path) -> None:
    steer = Steering(explore="thompson")
    one, again, other = (
        trial(path, Protocol(k=(3,), bootstrap=10, seed=seed), steer=steer) for seed in (1, 1, 2)
    )
    listed = [found.figure("steered", "gini@3").value for found in (one, again, other)]
    assert listed[0] == listed[1] != listed[2]
    assert one.systems["steered"]["settings"]["notes"] == ["explored by thompson, seed 1"]


def test_a_list_is_made_with_what_was_known_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reacting lists of one user at several moments: the same as asked one by one."""
    before = drift.calibrate
    monkeypatch.setattr(drift, "calibrate", lambda streams: before(streams)._replace(threshold=0.8))
    found = trial(path, FEW, steer=Steering(react=3.0))
    system = load_predictor(path)
    asked = requests(system.histories, 2)
    reacting = Reacting(system, 3.0)
    alone = np.concatenate([reacting.scores(asked.take(np.array([row]))) for row in range(len(asked))])
    excluded = rules(system.histories).excluded(asked)
    alone = alone if excluded is None else np.where(excluded, -np.inf, alone)
    hits = (np.argsort(-alone, axis=1, kind="stable")[:, :2] == asked.targets[:, None]).any(axis=1)
    assert found.figure("steered", "hr@2").value == pytest.approx(hits.mean())
    assert 0 < reacting.alarmed < len(asked)


def test_strategies_are_not_to_be_judged_where_they_were_fitted(path: Path) -> None:
    protocol = Protocol(part="validation", k=(2,), bootstrap=10)
    (warning,) = trial(path, protocol, strategy="policy").protocol["warnings"]
    assert "fitted on the validation part" in warning
    assert not trial(path, protocol, strategy="model").protocol["warnings"]
    assert (path / "metrics-validation-strategy.json").exists()


def test_the_command_line(say: Callable[..., Said], path: Path) -> None:
    words = "evaluate", path, "-k 2 --bootstrap 10"
    said = say(*words, "--strategy model --group genre --exposed jazz --least 0.5 --trade-off 0.5 --json")
    kept = json.loads((path / "metrics-strategy-steered.json").read_text())
    assert said.json == kept
    assert set(kept["systems"]) == {"strategy model, steered", "strategy model", MODEL}
    metrics = kept["systems"]["strategy model, steered"]["metrics"]
    assert {"ndcg@2", "hr@2", "coverage@2", "gini@2", "distance@2", "exposure@2"} <= set(metrics)
    assert metrics["exposure@2"]["value"] >= 0.5
    assert not (path / "metrics.json").exists()
    said = say(*words, "--strategy model=1 popularity=1")
    assert said.status == 0
    for text in (
        "strategy: model=1 popularity=1",
        "distance@2",
        f"written: {path / 'metrics-strategy.json'}",
    ):
        assert text in said.out
    refused = refuser(say)
    assert "perhaps 'policy'" in refused(*words, "--strategy polcy")
    assert "leave it out, or give the strategy" in refused(*words, "--strategy popularity --react 1")
    said = say(*words, "--group genre --exposed jazz --least 1 --cap 1")
    assert said.status == 2
    assert "lists cannot give jazz at least 1 of the exposure; at least 0.6131 can be had" in said.err


def test_a_run_without_a_policy(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no strategies have been fitted yet; run jaxdecay policy"):
        trial(tiny_run, FEW, strategy="content")
