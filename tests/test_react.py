"""Reacting lists: the reads of who moved are raised on fast curves, and nobody else's."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from test_predict import ask
from tiny import DAY, START
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.divergence import rise
from jaxdecay.drift import statistics
from jaxdecay.errors import InputError
from jaxdecay.model import Interest
from jaxdecay.predict import Predictor
from jaxdecay.react import Reacting
from jaxdecay.recommend import load
from jaxdecay.steering import Steering

EVENTS = np.array([15, 19, 38])


@pytest.fixture(scope="module")
def system() -> Predictor:
    with jax.numpy_rank_promotion("allow"):
        return predictor(*toys.everything())


@pytest.fixture
def reacting(system: Predictor) -> Reacting:
    return Reacting(system, 2.0)


def test_the_drift_of_a_request_is_that_of_what_it_sees(reacting: Reacting, system: Predictor) -> None:
    requests = ask(system.histories, EVENTS)
    z = reacting._drift(requests)
    every = statistics(reacting._streams, reacting._calibrated.paces)
    np.testing.assert_allclose(z, every[requests.history_end - 1], rtol=1e-5)
    nobody = dataclasses.replace(requests, user=np.full(3, -1, np.int32))
    assert not reacting._drift(nobody).any()


def test_reads_of_fast_curves_are_raised(reacting: Reacting, system: Predictor) -> None:
    requests = ask(system.histories, EVENTS)
    reacting._calibrated = reacting._calibrated._replace(threshold=1e-9, half_lives=(3.0, 30.0))
    reacting._fast = {head: reacting._fast_curves(head) for head in reacting._heads}
    found = reacting.scores(requests)
    assert (reacting.alarmed, reacting.asked) == (3, 3)
    expected = jax.tree.map(np.array, system.params)
    for head in ("similarity", "revisit"):
        decay: Any = expected[head]["decay"]
        half_lives = np.exp(decay["log_half_life"])
        fast = np.zeros(decay["user_read"].shape[1])
        fast[1 : 1 + len(half_lives)] = half_lives <= 3.0
        assert 0 < fast.sum() < len(half_lives)
        decay["user_read"][np.unique(requests.user)] += 2.0 * fast.astype(np.float32)
    other = Predictor(system.model, expected, system.histories, system.catalogue, system.reference)
    np.testing.assert_allclose(found, other.scores(requests), atol=1e-5)
    assert np.abs(found - system.scores(requests)).max() > 1e-3
    for name, part in other.parts(requests).items():
        np.testing.assert_allclose(reacting.parts(requests)[name], part, atol=1e-5)


def test_requests_of_one_user_are_each_raised_by_what_they_see(reacting: Reacting, system: Predictor) -> None:
    """At several moments, in no order, and of nobody twice."""
    requests = ask(system.histories, np.array([19, 4, 38, 11, 4, 4]))
    end = np.append(requests.history_end[:4], np.full(2, system.histories.events))
    user = np.array([0, 0, 1, 0, -1, -1], np.int32)
    requests = dataclasses.replace(requests, user=user, history_end=end)
    middle = float(np.median(reacting._drift(requests)[:4]))
    reacting._calibrated = reacting._calibrated._replace(threshold=middle)
    together = reacting.scores(requests)
    alone = [reacting.scores(requests.take(np.array([row]))) for row in range(6)]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    assert 0 < reacting.alarmed < reacting.asked == 12


def test_what_is_held_out_does_not_calibrate(system: Predictor) -> None:
    log = system.histories
    late = log.time > np.quantile(log.time, 0.7)
    part = np.where(late, 2, 0).astype(np.int8)

    def calibrated(item: np.ndarray) -> Any:
        other = log.replace(item=item, part=part)
        return Reacting(
            Predictor(system.model, system.params, other, system.catalogue, system.reference), 2.0
        )._calibrated

    one, two = calibrated(log.item), calibrated(np.where(late, (log.item + 2) % 7, log.item).astype(np.int32))
    assert one.threshold == two.threshold
    assert one.half_lives == two.half_lives


def test_new_users_are_raised_each_by_their_own_drift(system: Predictor) -> None:
    made = system.histories
    counts = {**made.config["counts"], "known_users": 2}
    histories = made.replace(config={**made.config, "counts": counts})
    spec: Any = dataclasses.replace(system.model.spec, users=2)
    params = jax.tree.map(np.array, system.params)
    for head in ("similarity", "revisit"):
        params[head]["decay"]["user_read"] = params[head]["decay"]["user_read"][:2]
    params = jax.tree.map(jnp.asarray, params)
    fewer = Predictor(Interest(spec), params, histories, system.catalogue, system.reference)
    reacting = Reacting(fewer, 2.0)
    reacting._calibrated = reacting._calibrated._replace(threshold=1e-9)
    requests = ask(histories, np.array([45, 55, 64]))  # of users 2, 3 and 4, all new
    assert requests.user.tolist() == [2, 3, 4]
    moved = np.abs(reacting.scores(requests) - fewer.scores(requests)).max(axis=1)
    assert reacting.alarmed == 3
    assert (moved > 1e-3).all()


def test_who_has_not_moved_keeps_what_was_learned(reacting: Reacting, system: Predictor) -> None:
    requests = ask(system.histories, EVENTS)
    reacting._calibrated = reacting._calibrated._replace(threshold=1e9)
    found = reacting.scores(requests)
    assert reacting.alarmed == 0
    # 2 % of the strength is left where nothing drifts at all.
    alike = Reacting(system, 2.0 * float(rise(jnp.float32(0.0), 1.0, 1.0)))
    alike._calibrated = alike._calibrated._replace(threshold=1e-9)
    np.testing.assert_allclose(found, alike.scores(requests), atol=1e-5)


def test_lists_say_for_how_many_they_react(tiny_run: Path) -> None:
    run = load(tiny_run)
    at = START + 61 * DAY
    plain = run.recommend(["u01", "u02"], k=3, at=at)
    lists = run.recommend(["u01", "u02"], k=3, at=at, steer=Steering(react=1.0))
    assert lists.schema == plain.schema
    assert len(lists) == 6
    [note] = [note for note in run.notes if note.startswith("drift")]
    assert note.endswith("of 2 users what came lately counts for more")
    with pytest.raises(InputError, match="react=-1: give a number from 0"):
        Steering(react=-1.0)
    with pytest.raises(InputError, match="both move how users read"):
        Steering(react=1.0, explore="thompson")
