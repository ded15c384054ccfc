"""Encoders of events: blind to the future and to padding, against loops in float64, and inside the model the
same however a history is cut and whether it is trained or served."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.data.requests import Requests
from jaxdecay.encoders import Places, Stack
from jaxdecay.errors import InputError
from jaxdecay.model import Interest
from jaxdecay.predict import Predictor
from jaxdecay.spec import Encoder, Spec

DAY = 86_400
N, D = 7, 4
KINDS = ("bank", "transformer", "hstu")
PACES: dict[str, Any] = {"half_lives": (3.0, float("inf")), "steps": (2.0, float("inf"))}


def stack(kind: Any, **changes: Any) -> Stack:
    return Stack(kind, 1, 2, **(PACES if kind == "bank" else {}), **changes)


def places(seed: int = 0, left: int = 1, right: int = 1) -> tuple[jax.Array, Places]:
    random = np.random.default_rng(seed)
    mask = (np.arange(N) >= left) & (np.arange(N) < N - right)
    time = np.cumsum(np.where(random.random(N) < 0.3, 0, random.integers(1, 3 * DAY, N)))
    until = np.append(time[1:], time[-1] + 5 * DAY)
    given = Places(jnp.asarray(time, jnp.int32), jnp.asarray(until, jnp.int32), jnp.asarray(mask))
    return jnp.asarray(np.where(mask[:, None], random.normal(size=(N, D)), 0.0), jnp.float32), given


@functools.cache
def params_of(kind: str, scale: float = 0.5) -> Any:
    """Parameters none of which stands where it started."""
    start = stack(kind).init(jax.random.key(0), *places())
    random = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + scale * random.normal(size=x.shape).astype(np.float32), start)


@functools.partial(jax.jit, static_argnums=0)
def run(kind: str, params: Any, x: Any, given: Any) -> Any:
    return stack(kind).apply(params, x, given)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_stack_changes_nothing(kind: str) -> None:
    x, given = places()
    start = stack(kind).init(jax.random.key(0), x, given)
    np.testing.assert_array_equal(run(kind, start, x, given), x)


@pytest.mark.parametrize("kind", KINDS)
def test_no_slope_leads_to_later_events_or_to_padding(kind: str) -> None:
    x, given = places()
    params = params_of(kind)
    slopes = jax.jit(jax.jacrev(lambda x: run(kind, params, x, given)))(x)
    reached = np.abs(slopes).sum((1, 3)) > 0
    counts = np.asarray(given.mask)
    expected = np.tril(np.ones((N, N), bool)) & counts[None]
    np.testing.assert_array_equal(reached[counts], expected[counts])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_the_origin_of_time_change_nothing(kind: str) -> None:
    x, given = places()
    found = np.asarray(run(kind, params_of(kind), x, given))[1:-1]
    wild = jnp.where(given.mask, given.time, 2**31 - 1)
    moved = jnp.roll(x, -1, 0), Places(*(jnp.roll(field, -1) for field in (wild, given.until, given.mask)))
    np.testing.assert_allclose(run(kind, params_of(kind), *moved)[: N - 2], found, rtol=1e-6, atol=1e-6)
    later = given._replace(time=given.time + 10**9, until=given.until + 10**9)
    np.testing.assert_array_equal(np.asarray(run(kind, params_of(kind), x, later))[1:-1], found)


def test_time_reaches_decayed_states_and_timed_attention_but_not_the_plain_one() -> None:
    x, given = places()
    slower = given._replace(time=3 * given.time, until=3 * given.until)
    idle = given._replace(until=given.until + 300 * DAY)
    for kind, by_time, by_idling in (
        ("bank", True, False),
        ("transformer", False, False),
        ("hstu", True, True),
    ):
        found = run(kind, params_of(kind), x, given)
        assert np.array_equal(run(kind, params_of(kind), x, slower), found) != by_time
        assert np.array_equal(run(kind, params_of(kind), x, idle), found) != by_idling


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def rms(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def forward(x: np.ndarray, p: Any) -> np.ndarray:
    value, gate = np.split(rms(x, p["norm"]["scale"]) @ p["in"]["kernel"], 2, axis=-1)
    return x + value * silu(gate) @ p["out"]["kernel"] + p["out"]["bias"]


def bank(x: np.ndarray, p: Any, given: Any) -> np.ndarray:
    """Every pair of events, in float64."""
    value, gate = x @ p["value"]["kernel"], silu(x @ p["gate"]["kernel"] + p["gate"]["bias"])
    days, steps = 3.0 * np.exp(p["decay_days_shift"][0]), 2.0 * np.exp(p["decay_steps_shift"][0])
    state, counts = np.zeros((N, D)), np.asarray(given.mask)
    for row in np.flatnonzero(counts):
        for other in np.flatnonzero(counts[: row + 1]):
            age = (int(given.time[row]) - int(given.time[other])) / DAY
            after = counts[other + 1 : row + 1].sum()
            state[row] += np.array([0.5 ** (age / days), 1.0, 0.5 ** (after / steps), 1.0]) * value[other]
    state /= np.sqrt((state**2).mean(1, keepdims=True) + np.exp(2 * p["log_softness"]))
    return state * gate @ p["out"]["kernel"] + p["out"]["bias"]


def transformer(x: np.ndarray, p: Any, given: Any) -> np.ndarray:
    query, key, value = (x @ p[name]["kernel"] for name in ("query", "key", "value"))
    mixed = np.zeros((N, D))
    for head in range(2):
        own = slice(2 * head, 2 * head + 2)
        for row in range(N):
            seen = [j for j in range(row + 1) if given.mask[j]]
            near = np.array([p["distance"][head, row - j] for j in seen])
            weight = np.exp([query[row, own] @ key[j, own] / np.sqrt(2) for j in seen] + near)
            if seen:
                mixed[row, own] = weight / weight.sum() @ value[seen, own]
    return mixed @ p["out"]["kernel"] + p["out"]["bias"]


def hstu(x: np.ndarray, p: Any, given: Any) -> np.ndarray:
    query, key, value, gate = np.split(silu(x @ p["in"]["kernel"]), 4, axis=1)
    mixed = np.zeros((N, D))
    for head in range(2):
        own = slice(2 * head, 2 * head + 2)
        for row in range(N):
            seen = [j for j in range(row + 1) if given.mask[j]]
            for j in seen:
                gap = max(1, int(given.until[row]) - int(given.time[j]))
                bias = p["distance"][head, row - j] + p["age"][head, int(np.log(gap) / 0.301)]
                mixed[row, own] += silu(query[row, own] @ key[j, own] + bias) * value[j, own] / len(seen)
    centred = mixed - mixed.mean(1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-6)
    return normed * gate @ p["out"]["kernel"] + p["out"]["bias"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_is_what_its_formula_says(kind: str) -> None:
    x, given = places(3)
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), params_of(kind))["params"]["block_0"]
    mixer = {"bank": bank, "transformer": transformer, "hstu": hstu}[kind]
    wide = np.asarray(x, np.float64)
    expected = forward(wide + mixer(rms(wide, p["norm"]["scale"]), p["mixer"], given), p["forward"])
    found, counts = run(kind, params_of(kind), x, given), np.asarray(given.mask)
    np.testing.assert_allclose(found[counts], expected[counts], rtol=2e-5, atol=2e-5)


def test_half_precision_is_near_and_recomputing_is_the_same() -> None:
    x, given = places()

    def loss(params: Any, module: Stack) -> Any:
        found: Any = module.apply(params, x, given)
        return jnp.sin(found).sum(), found

    slopes = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (_, full), slope = slopes(params_of("bank"), stack("bank"))
    (_, again), same = slopes(params_of("bank"), stack("bank", remat=True))
    np.testing.assert_allclose(again, full, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), slope, same)
    (_, half), _ = slopes(params_of("bank"), stack("bank", dtype=jnp.dtype("bfloat16")))
    assert half.dtype == jnp.float32
    assert not np.array_equal(half, full)
    np.testing.assert_allclose(half, full, rtol=0.05, atol=0.05 * float(jnp.abs(full).max()))


def test_what_drops_out_is_drawn_by_the_key_and_only_in_training() -> None:
    x, given = places()
    module = stack("bank", dropout=0.5)
    params = params_of("bank")
    drop = jax.jit(lambda key: module.apply(params, x, given, training=True, rngs={"dropout": key}))
    one, two, other = (drop(jax.random.key(seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    still = jax.jit(module.apply)(params_of("bank"), x, given)
    np.testing.assert_allclose(still, run("bank", params_of("bank"), x, given), rtol=1e-6)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Stack("bank", 1, half_lives=(1.0,), steps=(1.0, 2.0)), "3 heads for 4 dimensions"),
        (Stack("bank", 1), "give at least one head"),
        (Stack("bank", 1, half_lives=(0.0,)), "half_lives=0"),
        (Stack("transformer", 1, 3), "3 heads for 4 dimensions"),
        (Stack("hstu", 1, 3), "3 heads for 4 dimensions"),
    ],
)
def test_what_cannot_be_is_refused(module: Stack, said: str) -> None:
    with pytest.raises(InputError, match=said):
        module.init(jax.random.key(0), *places())


# In the model


@functools.cache
def encoded(kind: Any) -> tuple[Any, Any]:
    """Pieces and parameters of a small model whose events pass an encoder."""
    histories, changes = toys.log(), dict(MODELS[kind])
    window, request_time = changes.pop("window", 32), changes.pop("request_time", "used")
    paces = PACES if kind == "bank" else {}
    spec = toys.bare(
        histories, behaviours=2, features=4, calendar=True, request_time=request_time,
        encoder=Encoder(kind, blocks=2, heads=2, **(paces | changes)),
    )  # fmt: skip
    made = toys.pieces(histories, spec, window=window, batch_targets=64)
    return made, toys.random_params(made)


MODELS: dict[str, dict[str, Any]] = {
    "bank": {},
    # see three events in each block; the transformer is not told when it is asked
    "hstu": {"window": 5, "context": 3, "bank": False},
    "transformer": {"window": 5, "context": 3, "request_time": "ignored"},
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_history_may_be_cut_into_windows_anywhere(kind: str) -> None:
    made, params = encoded(kind)
    found = []
    for window in (32, 6):
        batches = dataclasses.replace(made.batches, window=window)
        values: dict[int, float] = {}
        for step in range(batches.per_epoch):
            batch = batches[step]
            likelihood = np.asarray(toys.log_likelihood(made.model, params, batch, made.constants))
            event = batch.requests.context_numeric[..., 0].astype(int)[batch.valid]
            values |= dict(zip(event.tolist(), likelihood[batch.valid].tolist(), strict=True))
        found.append(values)
    assert found[0].keys() == found[1].keys() == set(range(made.histories.events))
    for event, value in found[0].items():
        assert found[1][event] == pytest.approx(value, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("place", [0, 15, 17])
def test_what_is_served_is_what_was_trained(kind: str, place: int) -> None:
    made, params = encoded(kind)
    histories, user = made.histories, 1
    event = int(histories.offsets[user]) + place
    asked = Requests(
        np.array([user], np.int32), np.array([event]), np.asarray(histories.time)[[event]], np.array([0, 1]),
        np.asarray(histories.item)[[event]], np.array([event]),
    )  # fmt: skip
    scores = Predictor(made.model, params, histories, made.catalogue, made.reference).scores(asked)[0]
    served = jax.nn.log_softmax(scores)[histories.item[event]]
    trained = None
    for step in range(made.batches.per_epoch):
        batch = made.batches[step]
        here = batch.valid & (batch.requests.context_numeric[..., 0] == event)
        if here.any():
            trained = np.asarray(toys.log_likelihood(made.model, params, batch, made.constants))[here][0]
    assert trained == pytest.approx(float(served), rel=1e-4, abs=1e-4)


def test_an_event_of_no_weight_says_nothing() -> None:
    made, params = encoded("bank")
    batch = made.batches[0]
    rows, place = np.arange(len(batch.valid)), 3
    history = batch.history
    without, other, kind = history.weight.copy(), history.item.copy(), history.behaviour.copy()
    without[rows, place] = 0.0
    kind[rows, place] = 1 - kind[rows, place]
    other[rows, place] = (other[rows, place] + 1) % 7
    silent = history._replace(weight=without)
    found = [
        np.asarray(toys.log_likelihood(made.model, params, batch._replace(history=one), made.constants))
        for one in (history, silent, silent._replace(item=other, behaviour=kind))
    ]
    assert np.abs(found[0] - found[1])[batch.valid].max() > 1e-3
    np.testing.assert_array_equal(found[1], found[2])


def test_attention_with_time_serves_one_request_at_a_time() -> None:
    made, params = encoded("hstu")
    one = jax.tree.map(lambda x: jnp.asarray(x[0]), made.batches[0])
    asked = one.requests._replace(seen=jnp.zeros_like(one.requests.seen))
    items = made.constants.items
    _, written = toys.call(made.model, Interest.scorer, params, items, made.constants.shares)
    with pytest.raises(InputError, match="one at a time"):
        made.model.apply({"params": params}, one.history, asked, items, written, method=Interest.serve)


def test_the_spec_survives_json_and_knows_whether_time_matters() -> None:
    made, _ = encoded("bank")
    assert Spec.from_json(made.model.spec.to_json()) == made.model.spec
    quiet = {
        "calendar": False, "revisit": False, "revisit_half_lives": (), "popularity_half_lives": (),
    }  # fmt: skip
    alone = Encoder("hstu", blocks=1, bank=False)
    assert dataclasses.replace(made.model.spec, **quiet, encoder=alone).request_time_matters()
    with pytest.raises(InputError, match="fades"):
        dataclasses.replace(made.model.spec, **quiet, encoder=dataclasses.replace(alone, kind="transformer"))
