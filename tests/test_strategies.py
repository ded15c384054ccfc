"""Strategies: each is what it says written out in NumPy, no future moves any, and everybody is served."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import toys
from test_predict import ask
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import catalogue_of, predictor
from jaxdecay.data.requests import Requests
from jaxdecay.data.requests import requests as all_requests
from jaxdecay.errors import InputError
from jaxdecay.evaluate import rules
from jaxdecay.policy import FEATURES, Learned
from jaxdecay.predict import Predictor
from jaxdecay.rank import top_k
from jaxdecay.strategies import NAMES, Fitted, Mixture, Strategies, asked_weights
from jaxdecay.strategies import collaborative as strategies_collaborative
from jaxdecay.strategies.collaborative import Collaborative, kernel_of
from jaxdecay.strategies.mixture import LUKEWARM

EVENTS = np.array([3, 19, 38, 45, 62])
RANDOM = np.random.default_rng(5)
FITTED = Fitted(
    half_lives={"collaborative": 6.0, "factorisation": 5.0, "popularity": 9.0},
    confidence=4.0,
    factors=RANDOM.normal(size=(7, 3)).astype(np.float32),
    sharpness=dict(zip(NAMES, (1.3, 0.8, 2.0, 1.1, 0.6), strict=True)),
    paces=(0.3, 0.03, 1.0, 20.0),
    mixture={},
    policy=Learned(np.zeros(4), np.ones(4), RANDOM.normal(size=(4, 5)), RANDOM.normal(size=5)),
    log_likelihood={},
    groups=(),
    feedback="next events",
)


@pytest.fixture(scope="module")
def system() -> Predictor:
    with jax.numpy_rank_promotion("allow"):
        made, params = toys.everything()
        return predictor(made._replace(histories=toys.live(made.histories)), params)


@pytest.fixture(scope="module")
def made(system: Predictor) -> Strategies:
    return Strategies(system, FITTED)


def mixture(made: Strategies, strategy: Any) -> Mixture:
    return Mixture(made, rules(made.histories), asked_weights(strategy))


def past(made: Strategies, requests: Requests, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Items and ages of what one request sees."""
    log = made.histories
    seen = slice(log.offsets[requests.user[row]], requests.history_end[row])
    return log.item[seen], (requests.at[row] - log.time[seen]) / toys.DAY


def faded(age: np.ndarray, half_life: float) -> np.ndarray:
    return np.exp2(-age.astype(np.float64) / half_life)


def popular(made: Strategies, at: int) -> np.ndarray:
    """Shares of everybody's faded events before a moment."""
    log = made.histories
    before = log.time < at
    counts = np.bincount(log.item[before], faded((at - log.time[before]) / toys.DAY, 9.0), 7)
    return counts / max(counts.sum(), 1e-12)


def content(made: Strategies, requests: Requests, row: int) -> np.ndarray:
    pieces, _, targets = made.predictor.pieces(made.predictor.case(requests.take(np.array([row]))))
    query = pieces.kernel[0] @ pieces.written[0] + sum(part[0] for part in pieces.beside.values())
    scale = pieces.temperature / np.sqrt(query @ query + pieces.softness)
    return np.asarray(scale * (targets @ query))


def neighbours_counts(made: Strategies, requests: Requests, row: int, neighbours: int) -> np.ndarray:
    """(7,) what the nearest do, by a pass over everybody's events."""
    log, kernel, vectors = made.histories, kernel_of(made.predictor), made.predictor.unit_vectors()
    at = requests.at[row]

    def interest(items: np.ndarray, age: np.ndarray) -> np.ndarray:
        left = np.exp(-np.outer(age, kernel.rates)) @ kernel.weights
        found = (left[:, None] * vectors[items]).sum(axis=0)
        return found / max(np.linalg.norm(found), 1e-12)

    own, told = interest(*past(made, requests, row)), []
    for user in set(range(log.users)) - {int(requests.user[row])}:
        rows = np.arange(log.offsets[user], log.offsets[user + 1])
        rows = rows[log.time[rows] < at]
        age = (at - log.time[rows]) / toys.DAY
        cosine = max(float(interest(log.item[rows], age) @ own), 0.0)
        told.append((cosine, cosine * np.bincount(log.item[rows], faded(age, 6.0), 7)))
    told.sort(key=lambda one: -one[0])
    return np.sum([counts for _, counts in told[:neighbours]], axis=0)


def collaborative(made: Strategies, requests: Requests, row: int) -> np.ndarray:
    counts, shares = neighbours_counts(made, requests, row, 100), popular(made, requests.at[row])
    mixed = counts / counts.sum() if counts.sum() > 0 else shares
    return np.log(0.98 * mixed + 0.01 * shares + 0.01 / 7)


def factorisation(made: Strategies, requests: Requests, row: int) -> np.ndarray:
    factors = FITTED.factors.astype(np.float64)
    items, age = past(made, requests, row)
    matrix, wanted = factors.T @ factors + np.eye(3), np.zeros(3)
    for item in np.unique(items):
        own = faded(age[items == item], 5.0)
        extra = 4.0 * (1 + np.log(len(own))) * own.mean()
        matrix += extra * np.outer(factors[item], factors[item])
        wanted += (1 + extra) * factors[item]
    return factors @ np.linalg.solve(matrix, wanted)


def model(made: Strategies, requests: Requests, row: int) -> np.ndarray:
    return made.predictor.scores(requests.take(np.array([row])))[0]


def popularity(made: Strategies, requests: Requests, row: int) -> np.ndarray:
    return np.log(0.99 * popular(made, int(requests.at[row])) + 0.01 / 7)


ORACLES = dict(zip(NAMES, (content, collaborative, factorisation, model, popularity), strict=True))


def log_softmax(scores: np.ndarray, excluded: np.ndarray) -> np.ndarray:
    scores = np.where(excluded, -np.inf, scores.astype(np.float64))
    return scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max()


@pytest.mark.parametrize("name", NAMES)
def test_each_strategy_is_what_it_says(made: Strategies, name: str) -> None:
    requests = ask(made.histories, EVENTS)
    excluded = np.zeros((len(EVENTS), 7), bool)
    excluded[[1, 2], [3, 0]] = True
    found = made.log_probabilities(requests, (name,), excluded)[name]
    assert found.dtype == np.float32
    for row in range(len(EVENTS)):
        raw = FITTED.sharpness[name] * ORACLES[name](made, requests, row)
        np.testing.assert_allclose(found[row], log_softmax(raw, excluded[row]), atol=2e-4)


@pytest.mark.parametrize("name", [*NAMES, "policy"])
def test_the_future_changes_nothing(made: Strategies, name: str) -> None:
    log, system = made.histories, made.predictor
    requests = ask(log, EVENTS)
    last = requests.take(np.argsort(requests.at)[2:3])
    later = log.time >= last.at[0]
    other = log.replace(item=np.where(later, (log.item + 2) % 7, log.item).astype(np.int32))
    changed = Strategies(
        Predictor(
            system.model, system.params, other, catalogue_of(other, system.model.spec), system.reference
        ),
        FITTED,
    )
    one, two = mixture(made, name), mixture(changed, name)
    assert 5 < later.sum() < log.events - 5
    np.testing.assert_array_equal(one.scores(last), two.scores(last))
    np.testing.assert_array_equal(one.weights(last), two.weights(last))


def test_a_mixture_is_one_of_probabilities(made: Strategies) -> None:
    requests = ask(made.histories, EVENTS)
    alone = {name: np.exp(mixture(made, name).scores(requests)) for name in ("content", "model")}
    both = np.exp(mixture(made, {"content": 1, "model": 3}).scores(requests))
    warm = made.known(requests) >= LUKEWARM
    assert warm.any()
    np.testing.assert_allclose(
        both[warm], (alone["content"] + 3 * alone["model"])[warm] / 4, rtol=1e-4, atol=1e-7
    )
    for name in (*NAMES, "policy"):
        found = np.exp(mixture(made, name).scores(requests))
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-4)


def test_a_batch_is_its_requests_one_by_one(made: Strategies) -> None:
    requests = ask(made.histories, EVENTS)
    system = mixture(made, "policy")
    alone = np.concatenate([system.scores(requests.take(np.array([row]))) for row in range(len(EVENTS))])
    np.testing.assert_allclose(system.scores(requests), alone, rtol=1e-4, atol=1e-5)


def test_the_policy_goes_by_the_state_of_each_user(made: Strategies) -> None:
    requests = ask(made.histories, EVENTS)
    x = made.features(requests) @ FITTED.policy.matrix + FITTED.policy.bias
    expected = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixture(made, "policy").weights(requests), expected, rtol=1e-6)
    assert expected.shape == (len(EVENTS), len(NAMES))
    assert np.ptp(expected, axis=0).max() > 0.1
    assert made.features(requests).shape[1] == len(FEATURES)


def of_three_paths(made: Strategies) -> Requests:
    """Of one user: before the first event, after two, and after twelve; and of nobody."""
    log = made.histories
    requests = ask(log, np.array([20, 22, 32, 32]))
    user = np.append(requests.user[:3], -1).astype(np.int32)
    end = np.append(requests.history_end[:3], log.events)
    late = np.full(4, log.time.max() + 1)
    return dataclasses.replace(requests, user=user, history_end=end, at=late)


@pytest.mark.parametrize("strategy", [*NAMES, "policy", {"content": 0.7, "popularity": 0.3}])
def test_cold_lukewarm_and_warm_users_get_lists(made: Strategies, strategy: Any) -> None:
    requests, system = of_three_paths(made), mixture(made, strategy)
    system = dataclasses.replace(system, served=(words := []))
    items, scores = top_k(system.scores(requests), 7)
    assert (items >= 0).all()
    assert np.isfinite(scores).all()
    assert [one.partition(":")[0] for one in words] == ["cold", "lukewarm", "warm", "cold"]
    if isinstance(strategy, str) and strategy in ("content", "collaborative", "factorisation"):
        popularity = mixture(made, "popularity").scores(requests)
        np.testing.assert_array_equal(mixture(made, strategy).scores(requests)[[0, 3]], popularity[[0, 3]])
        assert words[:3] == ["cold: popularity", f"lukewarm: popularity and {strategy}", f"warm: {strategy}"]
        share = system.weights(requests)[:, NAMES.index(strategy)]
        np.testing.assert_allclose(share, [0, 2 / LUKEWARM, 1, 0])


def test_what_everybody_takes_backs_who_has_no_neighbours(made: Strategies) -> None:
    """Before anybody else's first event nobody is near, and there is nothing but all alike."""
    requests = dataclasses.replace(
        ask(made.histories, np.array([20])), at=np.array([int(made.histories.time.min())])
    )
    raw = made.raw(requests, ("collaborative",))["collaborative"]
    assert np.ptp(raw) == 0


def test_neighbours_at_many_moments_are_those_of_each(made: Strategies, monkeypatch: Any) -> None:
    """Asked in no order, some at the same moment, and fewer than all users near."""
    monkeypatch.setattr(strategies_collaborative, "NEIGHBOURS", 2)
    requests = ask(made.histories, np.array([62, 19, 3, 45, 38, 66, 27, 14]))
    requests = dataclasses.replace(requests, at=np.where(np.arange(8) % 3, requests.at, requests.at.max()))
    assert 3 < len(np.unique(requests.at)) < 8
    found = Collaborative(made.predictor)
    scores = found.scores(requests, 6.0)
    for row in range(8):
        expected = neighbours_counts(made, requests, row, 2)
        np.testing.assert_allclose(scores[row], expected, rtol=1e-4, atol=1e-5)
    assert found.scores(requests.take(slice(0)), 6.0).shape == (0, 7)


def test_with_relative_clocks_everybody_is_as_when_last_seen(system: Predictor) -> None:
    """There is no common time: others' training parts count, faded to the last event of each."""
    log = system.histories
    first, lengths = log.offsets[:-1], log.lengths()
    part = np.where(np.arange(log.events) >= np.repeat(log.offsets[1:] - 3, lengths), 2, 0).astype(np.int8)
    config = log.config | {"clock": "relative", "split": {"kind": "per-user-time"}}
    relative = log.replace(time=log.time - np.repeat(log.time[first], lengths), part=part, config=config)
    model = system.model
    catalogue = catalogue_of(relative, model.spec)
    found = Collaborative(Predictor(model, system.params, relative, catalogue, system.reference))
    asked = all_requests(relative, 2).take(np.array([0, 7]))
    scores = found.scores(asked, 6.0)

    def interest(rows: np.ndarray, at: int) -> np.ndarray:
        left = np.exp(-np.outer((at - relative.time[rows]) / toys.DAY, found.kernel.rates))
        return ((left @ found.kernel.weights)[:, None] * found.vectors[relative.item[rows]]).sum(axis=0)

    for row, user in enumerate(asked.user):
        own = interest(np.arange(first[user], asked.history_end[row]), int(asked.at[row]))
        expected = np.zeros(7)
        for other in set(range(log.users)) - {int(user)}:
            rows = np.arange(first[other], log.offsets[other + 1] - 3)
            last = int(relative.time[rows[-1]])
            theirs = interest(rows, last)
            cosine = max(own @ theirs / np.linalg.norm(own) / np.linalg.norm(theirs), 0)
            age = (last - relative.time[rows]) / toys.DAY
            expected += cosine * np.bincount(relative.item[rows], faded(age, 6.0), 7)
        np.testing.assert_allclose(scores[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (
            "contnet",
            "strategy 'contnet' is not known; there are content, collaborative, factorisation, model",
        ),
        ("polcy", "perhaps 'policy'"),
        ({"policy": 1.0}, "strategy 'policy' mixes by itself: ask for it alone, without a weight"),
        ({"model": 1e308, "content": -1}, "strategy content=-1: give a weight of 0 or more"),
        ({"model": -1.0}, "strategy model=-1.0: give a weight of 0 or more"),
        ({"model": float("nan")}, "strategy model=nan: give a weight"),
        ({"model": "0.5"}, "strategy model='0.5': give a weight"),
        (0.5, "strategy 0.5: give a name, or weights by name"),
        ({"model": 0, "content": 0}, "all weights are 0"),
        ({}, "all weights are 0"),
    ],
)
def test_bad_strategies(strategy: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked_weights(strategy)


def test_weights_are_brought_to_one() -> None:
    found = asked_weights({"model": 2, "popularity": 6})
    assert found is not None
    np.testing.assert_allclose(found, [0, 0, 0, 0.25, 0.75])
    assert asked_weights("policy") is None
