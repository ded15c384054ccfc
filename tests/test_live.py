"""The streaming face of a whole model is the model over the whole history."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.data.requests import Requests
from jaxdecay.live.live import Live, events_of
from jaxdecay.predict import Context, Predictor


@pytest.fixture(scope="module")
def system() -> Predictor:
    with jax.numpy_rank_promotion("allow"):
        return predictor(*toys.everything())


def at_the_end(system: Predictor, seconds: int) -> Requests:
    histories = system.histories
    users = np.arange(histories.users)
    at = np.full(len(users), int(histories.time.max()) + seconds)
    end = np.asarray(histories.offsets[1:])
    return Requests(
        users, end, at, np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32), np.maximum(end - 1, 0)
    )


@pytest.mark.parametrize("seconds", [1, 40 * toys.DAY])
def test_events_one_by_one_give_the_scores_of_the_whole_history(system: Predictor, seconds: int) -> None:
    requests = at_the_end(system, seconds)
    expected = system.scores(requests)
    live = Live.of(system)
    histories = system.histories
    for user in range(histories.users):
        state = live.replay(events_of(histories, user, live.weights))
        event = requests.event[user]
        found = live.scores(
            state, user, int(requests.at[user]) - live.weights.origin,
            np.asarray(histories.context_categorical[event]), np.asarray(histories.context_numeric[event]),
        )  # fmt: skip
        np.testing.assert_allclose(found, expected[user], atol=1e-5)
