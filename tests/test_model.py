"""The model as a whole: blind to the future, the same however it is batched, fair to strangers."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.data.batches import Batch, Batches
from jaxdecay.data.gather import Rows, gather
from jaxdecay.errors import InputError
from jaxdecay.history import History, Items, Requests
from jaxdecay.model import Interest, _writes
from jaxdecay.spec import Spec, Table

N, PAST, R = 6, 2, 4
READ = Interest.__call__  # the same for all tests: one compilation


def one_user(time: list[int]) -> tuple[Any, ...]:
    """History, requests, targets, items and what they write: a user whose events are all of other items."""
    made, params = toys.everything()
    histories = made.histories
    rows = Rows(
        *(
            np.array([x])
            for x in (0, histories.offsets[0], histories.offsets[0] + PAST, histories.offsets[0] + N)
        )
    )
    history = jax.tree.map(lambda x: jnp.asarray(x[0]), gather(histories, rows, PAST, R, made.reference))
    item, seconds = jnp.arange(N, dtype=jnp.int32), jnp.asarray(time, jnp.int32)
    history = history._replace(item=item, time=seconds)
    requests = Requests(
        seconds[PAST:],
        jnp.arange(R, dtype=jnp.int32),
        history.context_categorical[PAST:],
        history.context_numeric[PAST:],
    )
    _, written = toys.call(made.model, Interest.scorer, params, made.constants.items, made.constants.shares)
    return history, requests, item[PAST:], made.constants.items, written


@pytest.mark.parametrize("time", [[0, 0, 0, 0, 0, 0], [0, 9, 400_000, 400_000, 900_000, 900_001]])
def test_no_slope_leads_to_later_events_and_ties_follow_the_order_of_rows(time: list[int]) -> None:
    made, params = toys.everything()
    history, requests, target, items, written = one_user(time)

    def read(weight: Any, vectors: Any) -> Any:
        seen = history._replace(weight=weight)
        changed = written._replace(vectors=vectors)
        found = toys.call(made.model, READ, params, seen, requests, target, items, changed)
        return found.query, found.excitation[1]

    slopes = jax.jit(jax.jacrev(read, (0, 1)))(history.weight, written.vectors)
    earlier = np.arange(N) < PAST + np.arange(R)[:, None]
    (query_weight, query_vectors), (excitation_weight, _) = slopes
    for name, slope in {
        "query by weight": np.abs(query_weight).sum(1),
        "query by vector": np.abs(query_vectors).sum((1, 3))[:, :N],
        "excitation by weight": np.abs(excitation_weight),
    }.items():
        np.testing.assert_array_equal(slope != 0, earlier, err_msg=name)


def test_the_read_is_the_same_to_the_last_bit_whatever_comes_later() -> None:
    made, params = toys.everything()
    history, requests, target, items, written = one_user([0, 9, 400_000, 400_000, 900_000, 900_001])
    read = toys.call(made.model, READ, params, history, requests, target, items, written)
    for r in range(R):
        later = np.arange(N) >= PAST + r
        other = history._replace(
            item=jnp.where(later, 6, history.item),
            time=jnp.where(later, history.time + 77_777, history.time),
            behaviour=jnp.where(later, 1 - history.behaviour, history.behaviour),
            weight=jnp.where(later, 9.0, history.weight),
        )
        changed = toys.call(made.model, READ, params, other, requests, target, items, written)
        for before, after in zip(jax.tree.leaves(read), jax.tree.leaves(changed), strict=True):
            assert np.array_equal(before[: r + 1], after[: r + 1])
        if r < R - 1:
            assert not np.array_equal(read.query[r + 1 :], changed.query[r + 1 :])


def test_an_earlier_event_of_the_same_time_is_seen() -> None:
    made, params = toys.everything()
    history, requests, target, items, written = one_user([5] * N)
    twice = history._replace(item=history.item.at[3].set(int(target[2])))
    own = toys.call(made.model, READ, params, twice, requests, target, items, written).excitation[0]
    assert own[2] > -1e8  # row 3 has the item asked for by row 4, a tie in time
    assert own[1] < -1e8
    assert (
        toys.call(made.model, READ, params, history, requests, target, items, written).excitation[0][2] < -1e8
    )


def by_event(batches: Batches, params: Any, steps: range | None = None) -> dict[int, float]:
    """The log-likelihood of every training event, by its row (a context column of `toys.log`)."""
    made, _ = toys.everything()
    found: dict[int, float] = {}
    for step in steps or range(batches.per_epoch):
        batch = batches[step]
        values = np.asarray(toys.log_likelihood(made.model, params, batch, made.constants))
        assert not values[~batch.valid].any()
        event = batch.requests.context_numeric[..., 0].astype(int)
        pairs = list(zip(event[batch.valid].tolist(), values[batch.valid].tolist(), strict=True))
        found |= dict(pairs)
    return found


@pytest.fixture(scope="module")
def whole_histories() -> dict[int, float]:
    with jax.numpy_rank_promotion("allow"):
        made, params = toys.everything()
        return by_event(made.batches, params)


@pytest.mark.parametrize("options", [{"window": 4, "tokens": 16}, {"window": 4, "tokens": 64, "seed": 3}])
def test_window_buckets_and_batch_size_change_no_likelihood(
    whole_histories: dict[int, float], options: dict[str, Any]
) -> None:
    made, params = toys.everything()
    batches = dataclasses.replace(made.batches, **options)
    assert {past for past, _, _ in batches.buckets} == {0, 32}
    found = by_event(batches, params)
    assert found.keys() == whole_histories.keys() == set(range(made.histories.events))
    for event, value in whole_histories.items():
        assert found[event] == pytest.approx(value, rel=1e-4, abs=1e-4)
    assert sum(found.values()) == pytest.approx(sum(whole_histories.values()), rel=1e-5)


def test_the_likelihoods_are_proper(whole_histories: dict[int, float]) -> None:
    values = np.array(list(whole_histories.values()))
    assert (values < 0).all()
    assert np.ptp(values) > 1


def stranger(batch: Batch, **changes: Any) -> Batch:
    return batch._replace(history=batch.history._replace(**changes))


def test_a_new_user_gets_the_average() -> None:
    made, params = toys.everything()
    batch = made.batches[0]
    unknown = np.full_like(batch.history.user, made.histories.known_users)
    found = toys.log_likelihood(made.model, params, stranger(batch, user=unknown), made.constants)
    average = jax.tree.map(lambda x: x, params)
    for head in ("similarity", "revisit"):
        table = average[head]["decay"]["user_read"]
        average[head] = average[head] | {"decay": average[head]["decay"] | {"user_read": 0 * table}}
    expected = toys.log_likelihood(made.model, average, batch, made.constants)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(found, toys.log_likelihood(made.model, params, batch, made.constants))


def test_a_new_item_has_the_average_of_its_group_and_its_columns_alone() -> None:
    made, params = toys.everything()
    items = made.constants.items
    new = Items(
        jnp.append(items.index, jnp.array([7, 7], jnp.int32)),
        jnp.append(items.group, jnp.array([1, 2], jnp.int32)),
        jnp.concatenate([items.categorical, jnp.array([[0], [0]], jnp.int32)]),
        jnp.concatenate([items.numeric, jnp.zeros((2, 1))]),
    )
    shares = jnp.zeros((2, 1, 9))
    scorer, written = toys.call(made.model, Interest.scorer, params, new, shares)
    assert not np.asarray(written.vectors[7:]).any()  # no column, no vector
    assert scorer.bias[7:].tolist() == [0, 0]

    def weights(model: Interest, history: History) -> Any:
        assert model.revisit is not None
        return _writes(model.revisit.decay, history, new, written.revisit)

    history = one_user([0] * N)[0]._replace(item=jnp.array([7, 8, 0, 0, 0, 0], jnp.int32))
    found = toys.call(made.model, weights, params, history)
    decay = params["revisit"]["decay"]
    for place, group in ((0, 1), (1, 2)):
        logits = (
            decay["write"] + decay["group_write"][group] + decay["behaviour_write"][history.behaviour[place]]
        )
        np.testing.assert_allclose(found[place], jax.nn.softmax(logits), rtol=1e-5)


def test_a_spec_survives_json() -> None:
    spec = toys.everything()[0].model.spec
    again = Spec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again) == hash(spec)  # it is a static argument of compiled functions
    assert isinstance(again.item_columns, Table)
    assert Spec.from_json(spec.to_json()) == spec


STILL = {
    "similarity_half_lives": (), "revisit_half_lives": (), "revisit_periods": (),
    "popularity_half_lives": (float("inf"),), "calendar": False, "adaptive": False,
}  # fmt: skip


def test_a_model_whose_request_time_is_dead_is_refused_unless_that_is_meant() -> None:
    histories = toys.everything()[0].histories
    with pytest.raises(InputError, match="changes no ranking"):
        toys.spec(histories, **STILL)
    ignored = toys.spec(histories, **STILL, request_time="ignored")
    assert not ignored.request_time_matters()


@pytest.mark.parametrize(
    "moving",
    [
        {"similarity_half_lives": (7.0,)},
        {"revisit_half_lives": (7.0,)},
        {"revisit_periods": (7.0,)},
        {"popularity_half_lives": (3.0, float("inf"))},
        {"calendar": True},
    ],
)
def test_one_thing_that_moves_is_enough(moving: dict[str, Any]) -> None:
    histories = toys.everything()[0].histories
    assert toys.spec(histories, **(STILL | moving)).request_time_matters()


def test_half_lives_of_a_revisit_head_that_is_off_do_not_count() -> None:
    histories = toys.everything()[0].histories
    with pytest.raises(InputError):
        toys.spec(histories, **(STILL | {"revisit": False, "revisit_half_lives": (7.0,)}))
