"""Serving: the probabilities of training, however calls are cut, and request times that count or do not."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import predict
from jaxdecay.assembly import Pieces, predictor
from jaxdecay.data.catalogue import build_catalogue
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.evaluate import rules
from jaxdecay.predict import Predictor


def ask(histories: Histories, event: np.ndarray) -> Requests:
    """A request at the time of each event, seeing what came before it."""
    return Requests(
        user=histories.user()[event],
        history_end=event,
        at=np.asarray(histories.time[event]),
        target_offsets=np.arange(len(event) + 1),
        targets=np.asarray(histories.item[event]),
        event=event,
    )


def training_face(made: Pieces, params: Any) -> tuple[np.ndarray, np.ndarray]:
    """Every training event and its log-likelihood in training."""
    events, values = [], []
    for step in range(made.batches.per_epoch):
        batch = made.batches[step]
        found = np.asarray(toys.log_likelihood(made.model, params, batch, made.constants))
        events.append(batch.requests.context_numeric[..., 0][batch.valid].astype(np.int64))
        values.append(found[batch.valid])
    return np.concatenate(events), np.concatenate(values)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(np.float64)
    scores -= scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


@pytest.fixture(scope="module")
def system() -> Predictor:
    with jax.numpy_rank_promotion("allow"):
        return predictor(*toys.everything())


def test_training_and_serving_are_two_faces_of_one_model(system: Predictor) -> None:
    made, params = toys.everything()
    events, expected = training_face(made, params)
    requests = ask(made.histories, events)
    scores = system.scores(requests)
    assert scores.shape == (made.histories.events, 7)
    assert scores.dtype == np.float32
    found = log_softmax(scores)[np.arange(len(events)), requests.targets]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_both_faces_share_out_probability_among_what_is_there() -> None:
    live = toys.live(toys.log((30, 40), items=30))
    made = toys.pieces(live, toys.spec(live), window=64, batch_targets=64)
    params = toys.random_params(made)
    events, expected = training_face(made, params)
    requests = ask(live, events)
    absent = rules(live, exclude_history=False).excluded(requests)
    assert absent is not None
    assert absent.any(1).sum() > 9
    scores = predictor(made, params).scores(requests)
    there = log_softmax(np.where(absent, -np.inf, scores))[np.arange(len(events)), requests.targets]
    np.testing.assert_allclose(there, expected, atol=1e-5)
    assert np.isfinite(scores).all()


def test_a_model_trained_blind_to_the_request_time_serves_what_it_was_trained_on() -> None:
    made, params = toys.everything()
    blind = toys.pieces(
        made.histories, toys.spec(made.histories, request_time="ignored"), window=64, batch_targets=64
    )
    events, expected = training_face(blind, params)
    system = predictor(blind, params)
    assert not system.uses_time
    requests = ask(made.histories, events)
    known = requests.history_end > made.histories.offsets[requests.user]
    scores = system.scores(requests)
    found = log_softmax(scores)[np.arange(len(events)), requests.targets]
    np.testing.assert_allclose(found[known], expected[known], atol=1e-5)
    later = dataclasses.replace(requests, at=requests.at + 40 * toys.DAY)
    np.testing.assert_array_equal(system.scores(later)[known], scores[known])
    whole = np.sum(list(system.parts(later).values()), axis=0)
    apart = whole[known] - scores[known]  # the base scores' normaliser
    np.testing.assert_allclose(apart, np.repeat(apart[:, :1], 7, axis=1), atol=1e-5)


def test_the_request_time_counts_when_it_is_used(system: Predictor) -> None:
    made, _ = toys.everything()
    requests = ask(made.histories, np.array([5, 30]))
    later = dataclasses.replace(requests, at=requests.at + 40 * toys.DAY)
    now, then = log_softmax(system.scores(requests)), log_softmax(system.scores(later))
    assert np.abs(now - then).max() > 0.01


def test_requests_one_by_one_or_together_in_any_order(system: Predictor, monkeypatch: Any) -> None:
    made, _ = toys.everything()
    requests = ask(made.histories, np.random.default_rng(0).permutation(made.histories.events)[:9])
    together = system.scores(requests)
    monkeypatch.setattr(predict, "_PLACES", 64)  # rows of four and of one
    np.testing.assert_allclose(system.scores(requests), together, atol=1e-5)
    order = np.arange(9)[::-1]
    np.testing.assert_allclose(system.scores(requests.take(order)), together[order], atol=1e-5)


def test_popularity_is_that_of_the_moment_however_coarse_the_grid_of_training(
    system: Predictor, monkeypatch: Any
) -> None:
    made, params = toys.everything()
    half_lives = made.model.spec.popularity_half_lives
    budget = 4 * 4 * 7 * len(half_lives) / 2**20
    coarse = build_catalogue(made.histories, half_lives, budget_mib=budget, between=9)
    assert len(coarse.grid) < len(made.catalogue.grid) / 4
    other = Predictor(made.model, params, made.histories, coarse, made.reference)
    requests = ask(made.histories, np.arange(made.histories.events))
    np.testing.assert_allclose(other.scores(requests), system.scores(requests), atol=1e-5)
    monkeypatch.setattr(predict, "_MOMENTS", 5 * 7)  # five at a time
    np.testing.assert_allclose(other.scores(requests), system.scores(requests), atol=1e-5)


def test_no_requests_no_scores(system: Predictor) -> None:
    made, _ = toys.everything()
    assert system.scores(ask(made.histories, np.array([], np.int64))).shape == (0, 7)


def test_the_parts_add_up_to_the_scores_but_for_one_number_a_request(system: Predictor) -> None:
    made, _ = toys.everything()
    requests = ask(made.histories, np.array([3, 19, 40]))
    parts = system.parts(requests)
    assert set(parts) == {"similarity", "bias", "popularity", "revisit"}
    difference = sum(parts.values()) - system.scores(requests)
    np.testing.assert_allclose(difference, np.repeat(difference[:, :1], 7, axis=1), atol=1e-5)
    assert (parts["revisit"] >= -1e-6).all()
    for row, event in enumerate(requests.history_end):
        seen = made.histories.item[made.histories.offsets[requests.user[row]] : event]
        assert set(np.flatnonzero(parts["revisit"][row] > 1e-6)) == set(seen.tolist())


def test_a_user_without_a_history_and_one_never_seen_are_served(system: Predictor) -> None:
    made, params = toys.everything()
    histories = made.histories
    cold = ask(histories, histories.offsets[[0, 2]])
    assert np.isfinite(system.scores(cold)).all()
    # somebody who came after training did exactly what the last user did
    first, last = histories.offsets[-2:]
    again = {
        name: np.append(array, array[first:last], axis=0)
        for name, array in histories.arrays().items()
        if len(array) == histories.events
    }
    again |= {
        name: np.append(array, array[-1:], axis=0)
        for name, array in histories.arrays().items()
        if name.startswith("user")
    }
    grown = histories.replace(**again, offsets=np.append(histories.offsets, 2 * last - first))
    stranger = Predictor(made.model, params, grown, made.catalogue, made.reference)
    known, unknown = log_softmax(stranger.scores(ask(grown, np.array([first + 5, last + 5]))))
    np.testing.assert_allclose(
        known, log_softmax(system.scores(ask(histories, np.array([first + 5]))))[0], atol=1e-5
    )
    assert np.abs(known - unknown).max() > 1e-3
    heads = {
        head: params[head]
        | {"decay": params[head]["decay"] | {"user_read": 0 * params[head]["decay"]["user_read"]}}
        for head in ("similarity", "revisit")
    }
    average = Predictor(made.model, params | heads, histories, made.catalogue, made.reference)
    expected = log_softmax(average.scores(ask(histories, np.array([first + 5]))))[0]
    np.testing.assert_allclose(unknown, expected, atol=1e-5)
