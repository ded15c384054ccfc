"""What is left of a user's events is the sum of what is left of each, by hand."""

from typing import Any

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.asked import requests_at
from jaxdecay.assembly import predictor
from jaxdecay.live.interest import Event
from jaxdecay.live.live import Live, events_of
from jaxdecay.live.weights import Bank
from jaxdecay.predict import Context, Predictor
from jaxdecay.serve.left import left, nearness


@pytest.fixture(scope="module")
def system() -> Predictor:
    with jax.numpy_rank_promotion("allow"):
        return predictor(*toys.everything())


def curves(bank: Bank, days: float) -> np.ndarray:
    """(C,) what each curve has left of an event so old."""
    found = [float(2 ** (-days * rate / np.log(2))) for rate in bank.rate]
    plain = len(found) - len(bank.sharpness)
    for rhythm, sharpness in enumerate(bank.sharpness):
        wave = (1 + np.cos(bank.frequency[rhythm] * days)) / 2
        found[plain + rhythm] *= wave**sharpness
    return np.array(found)


def reads(bank: Bank, user: int, mass: np.ndarray) -> np.ndarray:
    """(C,) a softmax of the user's own logits and of how full the modes are, times C."""
    assert bank.reads is not None
    assert bank.adaptive is not None
    logits = bank.reads[user] + np.log1p(mass) @ bank.adaptive
    return len(logits) * np.exp(logits) / np.exp(logits).sum()


@pytest.mark.parametrize("again", [1, 6])  # with 6 rounds items have more events than are kept as they came
def test_of_each_item_and_in_each_mode(system: Predictor, again: int) -> None:
    live: Any = Live.of(system)
    own, amplitude = live.weights.revisit, live.weights.similarity.amplitude
    user = 1
    history = events_of(system.histories, user, live.weights)
    events = [one._replace(at=one.at + day * toys.DAY) for day in range(again) for one in history]
    events.sort(key=lambda event: event.at)
    at = events[-1].at + 3 * toys.DAY
    found = left(live, live.replay(events), user, at)
    if again > 1:
        assert any(one.folded is not None for one in live.replay(events).counts.own.values())

    def age(event: Event) -> float:
        return (at - event.at) / toys.DAY

    mass = np.sum([2 ** (-age(one) * own.bank.rate / np.log(2)) for one in events], axis=0)
    spread = reads(own.bank, user, mass)
    parts = {
        place: event.weight * own.strength[event.item, event.behaviour]
        * own.bank.writes[event.item, event.behaviour] * curves(own.bank, age(event)) * spread
        for place, event in enumerate(events)
    }  # fmt: skip
    expected = dict.fromkeys((event.item for event in events), 0.0)
    for place, part in parts.items():
        expected[events[place].item] += part.sum()
    assert dict(zip(found.items.tolist(), found.counts, strict=True)) == pytest.approx(expected, rel=2e-5)
    assert (np.diff(found.counts) <= 0).all()
    modes = [one.left for one in found.modes if one.head == "revisit"]
    np.testing.assert_allclose(modes, sum(parts.values()), rtol=2e-5)

    bank = live.weights.similarity.bank
    mass = np.sum([2 ** (-age(one) * bank.rate / np.log(2)) for one in events], axis=0)
    written = [
        event.weight * amplitude[event.behaviour]
        * (live.weights.similarity.vectors[event.item]
           + live.weights.similarity.context.vector(event.codes, event.numbers))
        for event in events
    ]  # fmt: skip
    faded = [bank.writes[one.item, one.behaviour] * curves(bank, age(one)) for one in events]
    state = np.einsum("nc,nd->cd", np.array(faded), np.array(written))
    lengths = reads(bank, user, mass) * np.linalg.norm(state, axis=1)
    near = [one for one in found.modes if one.head == "similarity"]
    np.testing.assert_allclose([one.left for one in near], lengths, rtol=1e-4)
    assert [one.half_life_days for one in near] == [
        None if rate == 0 else pytest.approx(np.log(2) / rate) for rate in bank.rate
    ]
    assert [one.period_days for one in found.modes if one.period_days] == pytest.approx(
        (2 * np.pi / own.bank.frequency).tolist()
    )


def test_the_nearest_item_is_the_one_that_scores_highest_by_similarity(system: Predictor) -> None:
    live = Live.of(system)
    state = live.replay(events_of(system.histories, 0, live.weights))
    found = nearness(live, state, 0, state.time + toys.DAY)
    lengths = np.linalg.norm(live.weights.targets, axis=1)
    assert (np.abs(found) <= 1 + 1e-6).all()
    # Cosines times lengths are proportional to the head's scores: so are those of the batch model.
    at = np.array([state.time + live.weights.origin + toys.DAY])
    requests = requests_at(system.histories, np.array([0]), at)
    parts = system.parts(requests, Context(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.float32)))
    ratio = parts["similarity"][0] / (found * lengths)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
