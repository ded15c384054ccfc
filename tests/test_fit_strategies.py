"""Strategies fitted to a log where it is planted who follows whom."""

import dataclasses
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest
import toys
from tiny import DAY
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.baselines import factorisation
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import requests
from jaxdecay.errors import InputError
from jaxdecay.evaluate import rules
from jaxdecay.predict import Predictor
from jaxdecay.strategies import (
    NAMES,
    Fitted,
    Mixture,
    Strategies,
    asked_weights,
    fit_strategies,
)
from jaxdecay.strategies.whom import Asked, by_group

USERS, LENGTH, TASTES = 60, 24, 18
OTHERS = [NAMES.index("collaborative"), NAMES.index("popularity")]
"""Strategies by what others do now; the three others go by what the user did."""
TRAINED, VALIDATED = 16, 5  # of each user's events


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


def test_groups_add_up_to_everybody(world: tuple[Predictor, Fitted]) -> None:
    system, fitted = world
    everybody, *groups = fitted.groups
    asked = requests(system.histories, 1)
    strategies = Strategies(system, fitted)
    assert everybody["events"] == sum(group["events"] for group in groups) == len(asked)
    assert everybody["log_likelihood"] == fitted.log_likelihood
    for what in ("log_likelihood", "weight"):
        for name, value in everybody[what].items():
            total = sum(group["events"] * group[what][name] for group in groups)
            assert total / len(asked) == pytest.approx(value, rel=1e-6)
    assert everybody["log_likelihood"]["policy"] > max(everybody["log_likelihood"][one] for one in NAMES)
    # Everybody has sixteen choices and more; the weights are those that the policy serves with.
    assert {group["known"] for group in groups} == {"warm"}
    weights = Mixture(strategies, rules(system.histories), None).weights(asked).mean(axis=0)
    np.testing.assert_allclose([everybody["weight"][name] for name in NAMES], weights, rtol=1e-4)


def test_who_asked_is_told_by_what_is_known_and_whether_they_moved() -> None:
    known, moved = np.array([0, 4, 5, 9, 5]), np.array([False, False, True, False, True])
    log_p = np.arange(35.0).reshape(5, 7)
    groups = by_group(Asked(known, moved), log_p, np.eye(5))
    told = [(one["known"], one["moved"], one["events"]) for one in groups]
    assert told == [
        ("all", None, 5), ("cold", False, 1), ("lukewarm", False, 1), ("warm", False, 1), ("warm", True, 2),
    ]  # fmt: skip
    assert list(groups[-1]["log_likelihood"].values()) == ((log_p[2] + log_p[4]) / 2).tolist()
    assert list(groups[-1]["weight"].values()) == [0, 0, 0.5, 0, 0.5]


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
