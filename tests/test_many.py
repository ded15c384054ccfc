"""Many states at once in JAX are the states of one user after the other in NumPy."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.errors import InputError
from jaxdecay.live.interest import Event
from jaxdecay.live.live import Live, UserState, events_of
from jaxdecay.live.many import Events, States, move, start, tables_of, unstacked
from jaxdecay.predict import Predictor


def rounds(histories: list[list[Event]]) -> Iterator[tuple[np.ndarray, list[Event]]]:
    """The first event of everybody, then the second, and so on; filled up with events of nobody."""
    for place in range(max(map(len, histories))):
        users = [user if place < len(history) else len(histories) for user, history in enumerate(histories)]
        yield (
            np.array(users, np.int32),
            [history[min(place, len(history) - 1)] for history in histories],
        )


def moved(system: Predictor, live: Live, histories: list[list[Event]], capacity: int) -> States:
    tables, states = tables_of(live, system), start(live, len(histories), capacity)
    for users, events in rounds(histories):
        states = move(system.model, tables, states, jnp.asarray(users), Events.of(events))
    return states


def same(found: UserState, expected: UserState) -> None:
    def check(one: Any, two: Any) -> None:
        np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-6)

    assert (found.time, found.events, found.counts.last) == (
        expected.time, expected.events, expected.counts.last,
    )  # fmt: skip
    assert list(found.counts.own) == list(expected.counts.own)
    jax.tree.map(check, found, expected)


def test_they_are_those_of_one_after_the_other() -> None:
    system = predictor(*toys.everything())
    live, random = Live.of(system), np.random.default_rng(0)
    histories = [events_of(system.histories, user, live.weights) for user in range(system.histories.users)]
    histories = [
        [
            event._replace(weight=w)
            for event, w in zip(one, random.choice([-1.0, 0.0, 1.5], len(one)).tolist(), strict=True)
        ]
        for one in histories
    ]
    assert live.linear
    late = [[one[place] for place in random.permutation(len(one))] for one in histories]
    for log in (histories, late):
        found = unstacked(live, moved(system, live, log, capacity=20))
        for state, events in zip(found, log, strict=True):
            same(state, live.replay(events))


@pytest.mark.parametrize("kind", ["gru", "bank"])
def test_so_are_they_through_an_encoder(kind: str) -> None:
    histories = toys.log((6, 9))
    spec: Any = toys.spec(histories, adaptive=False)
    shape = dataclasses.replace(spec.encoder, kind=kind, blocks=1, half_lives=(1.0,), steps=(4.0, 9.0))
    made = toys.pieces(histories, dataclasses.replace(spec, encoder=shape), window=16, batch_targets=16)
    system = predictor(made, toys.random_params(made, scale=0.1))
    live = Live.of(system)
    logs = [events_of(histories, user, live.weights) for user in range(2)]
    for state, events in zip(unstacked(live, moved(system, live, logs, capacity=9)), logs, strict=True):
        same(state, live.replay(events))


def test_what_there_was_no_room_for_is_told() -> None:
    system = predictor(*toys.everything())
    live = Live.of(system)
    logs = [events_of(system.histories, user, live.weights) for user in range(system.histories.users)]
    with pytest.raises(
        InputError, match="2 users have more events than the capacity of 9: give 20, or replay"
    ):
        unstacked(live, moved(system, live, logs, capacity=9))
