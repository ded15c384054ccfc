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
PACES: dict[str, Any] = {"half_lives": (3.0, float("inf")), "steps": (2.0, float("inf"))}
OF_HEADS = {"heads": 2, "half_lives": (3.0, 40.0)}
CASES: dict[str, dict[str, Any]] = {
    "mlp": {},
    "cnn": {"span": 3},
    "gru": {},
    "lstm": {},
    "bank": PACES,
    "transformer": {"heads": 2},
    "transformer by time": {"bias": "time", **OF_HEADS},
    "transformer by both": {"bias": "both", **OF_HEADS},
    "hstu": {"heads": 2},
}
STREAMS = [case for case in CASES if case != "hstu"]


def stack(case: str, **changes: Any) -> Stack:
    kind: Any = case.split()[0]
    return Stack(kind, 1, **(CASES[case] | changes))


def places(seed: int = 0, left: int = 1, right: int = 1, hole: int | None = None) -> tuple[jax.Array, Places]:
    random = np.random.default_rng(seed)
    mask = (np.arange(N) >= left) & (np.arange(N) < N - right) & (np.arange(N) != hole)
    time = np.cumsum(np.where(random.random(N) < 0.3, 0, random.integers(1, 3 * DAY, N)))
    until = np.append(time[1:], time[-1] + 5 * DAY)
    given = Places(jnp.asarray(time, jnp.int32), jnp.asarray(until, jnp.int32), jnp.asarray(mask))
    return jnp.asarray(np.where(mask[:, None], random.normal(size=(N, D)), 0.0), jnp.float32), given


@functools.cache
def params_of(case: str, scale: float = 0.5) -> Any:
    """Parameters none of which stands where it started."""
    start = fresh(case)
    random = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + scale * random.normal(size=x.shape).astype(np.float32), start)


@functools.cache
def fresh(case: str) -> Any:
    return jax.jit(stack(case).init)(jax.random.key(0), *places())


@functools.partial(jax.jit, static_argnums=0)
def run(case: str, params: Any, x: Any, given: Any) -> Any:
    return stack(case).apply(params, x, given)


@pytest.mark.parametrize("case", CASES)
def test_a_fresh_stack_changes_nothing(case: str) -> None:
    x, given = places()
    np.testing.assert_array_equal(run(case, fresh(case), x, given), x)
    assert not np.allclose(run(case, params_of(case), x, given)[1:-1], x[1:-1], atol=0.1)


def sees(case: str, counts: np.ndarray) -> np.ndarray:
    """(N, N) whether an event sees another: those before it that count, as far as its kind goes back."""
    ago = np.cumsum(counts)[:, None] - np.cumsum(counts)[None]
    reach = {"mlp": 1, "cnn": 3}.get(case, N)
    return np.tril(np.ones((N, N), bool)) & counts[None] & (ago < reach)


@pytest.mark.parametrize("case", CASES)
def test_no_slope_leads_to_later_events_or_to_those_that_do_not_count(case: str) -> None:
    x, given = places(hole=3)
    params = params_of(case)
    slopes = jax.jit(jax.jacrev(lambda x: run(case, params, x, given)))(x)
    reached = np.abs(slopes).sum((1, 3)) > 0
    counts = np.asarray(given.mask)
    np.testing.assert_array_equal(reached[counts], sees(case, counts)[counts])


@pytest.mark.parametrize("case", CASES)
def test_rows_that_do_not_count_and_the_origin_of_time_change_nothing(case: str) -> None:
    """Wherever they stand (at the left, at the right, in the middle) and whatever stands in them."""
    x, given = places(left=0, right=0)
    random, few = np.random.default_rng(5), 4
    found = []
    for rows in ([3, 4, 5, 6], [0, 1, 2, 3], [0, 2, 3, 6], [1, 3, 4, 5]):
        mask = np.isin(np.arange(N), rows)
        wild = random.integers(-(2**30), 2**30, N)
        wild[0] = 2**31 - 1
        time, until = wild.copy(), wild.copy()
        time[rows], until[rows] = given.time[:few], given.until[:few]
        junk = 9 * random.normal(size=(N, D))
        junk[rows] = x[:few]
        told = Places(jnp.asarray(time, jnp.int32), jnp.asarray(until, jnp.int32), jnp.asarray(mask))
        found.append(run(case, params_of(case), jnp.asarray(junk, jnp.float32), told)[np.array(rows)])
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-6)
    later = given._replace(time=given.time + 10**9, until=given.until + 10**9)
    np.testing.assert_array_equal(run(case, params_of(case), x, later), run(case, params_of(case), x, given))


def test_time_reaches_who_asks_for_it() -> None:
    x, given = places()
    slower = given._replace(time=3 * given.time, until=3 * given.until)
    idle = given._replace(until=given.until + 300 * DAY)
    timed = ("bank", "transformer by time", "transformer by both", "hstu")
    for case in CASES:
        found = run(case, params_of(case), x, given)
        assert np.array_equal(run(case, params_of(case), x, slower), found) != (case in timed)
        assert np.array_equal(run(case, params_of(case), x, idle), found) != (case == "hstu")


# One event at a time


def numbers(carry: Any) -> int:
    """How many numbers are carried, of vectors."""
    return sum(leaf.size for leaf in jax.tree.leaves(carry) if jnp.issubdtype(leaf.dtype, jnp.floating))


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_makes_the_same_as_a_whole_history(case: str) -> None:
    """Two blocks, equal times, rows that do not count, two users at once."""
    module = stack(case, context=3).clone(blocks=2)
    users = [places(seed, left, 0, hole) for seed, left, hole in ((0, 1, 3), (2, 0, 5))]
    x, given = jax.tree.map(lambda *parts: jnp.stack(parts), *users)
    equal = (np.diff(given.time) == 0) & given.mask[:, 1:] & given.mask[:, :-1]
    assert equal.any()
    random = np.random.default_rng(2)
    start = jax.jit(module.init)(jax.random.key(0), *users[0])
    params = jax.tree.map(lambda v: v + 0.5 * random.normal(size=v.shape).astype(np.float32), start)

    @jax.jit
    @jax.vmap
    def stream(x: Any, given: Any) -> Any:
        def step(carry: Any, event: Any) -> Any:
            return module.apply(params, carry, *event, method=Stack.step)

        return jax.lax.scan(step, module.start(D), (x, given))

    whole = jax.jit(jax.vmap(lambda x, given: module.apply(params, x, given)))(x, given)
    carry, found = stream(x, given)
    counts = np.asarray(given.mask)
    np.testing.assert_allclose(found[counts], whole[counts], rtol=1e-5, atol=1e-5)
    # What is carried is of the size that it had before the first event, and of the one that is promised.
    assert jax.tree.map(jnp.shape, module.start(D)) == jax.tree.map(lambda part: part.shape[1:], carry)
    promised = {"mlp": 0, "cnn": 2 * D, "gru": D, "lstm": 2 * D, "bank": D, "transformer": 2 * 3 * D}
    assert numbers(module.start(D)) == 2 * promised[case.split()[0]]


@pytest.mark.parametrize("case", STREAMS)
def test_an_event_that_does_not_count_changes_nothing_that_is_carried(case: str) -> None:
    module, params, (x, given) = stack(case, context=3), params_of(case), places()
    step = jax.jit(lambda carry, *event: module.apply(params, carry, *event, method=Stack.step))
    event = jax.tree.map(lambda field: field[1], (x, given))
    once, _ = step(module.start(D), *event)
    silent = event[0] + 9.0, event[1]._replace(time=jnp.int32(2**31 - 1), mask=jnp.array(False))
    again, _ = step(once, *silent)
    jax.tree.map(np.testing.assert_array_equal, again, once)
    before, after = map(jax.tree.leaves, (module.start(D), once))
    assert case == "mlp" or not all(map(np.array_equal, before, after))


def test_what_does_not_stream_says_so() -> None:
    with pytest.raises(InputError, match="hstu does not stream: what it makes of an event changes until"):
        stack("hstu", context=3).start(D)
    with pytest.raises(InputError, match="context=0: attention to all events carries them all"):
        stack("transformer").start(D)


@pytest.mark.parametrize("case", ["cnn", "transformer"])
def test_the_last_event_hangs_on_no_more_rows_than_are_said(case: str) -> None:
    """With a row that does not count among them."""
    module, params = stack(case, context=3), params_of(case)
    x, given = places(hole=4, right=0)
    skip = N - module.rows(N)
    assert skip == 4
    apply = jax.jit(lambda rows: module.apply(params, x, given, skip=rows), static_argnums=0)
    whole, few = (np.asarray(apply(rows)) for rows in (0, skip))
    np.testing.assert_allclose(few[-1], whole[-1], rtol=1e-6, atol=1e-6)
    assert not np.array_equal(few[3], whole[3])


# Against loops in float64


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def rms(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def forward(x: np.ndarray, p: Any) -> np.ndarray:
    value, gate = np.split(rms(x, p["norm"]["scale"]) @ p["in"]["kernel"], 2, axis=-1)
    return x + value * silu(gate) @ p["out"]["kernel"] + p["out"]["bias"]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def cnn(x: np.ndarray, p: Any, given: Any) -> np.ndarray:
    kernel = p["in"]["kernel"].reshape(3, D, D)  # the oldest first
    rows = np.flatnonzero(given.mask)
    inner = np.tile(p["in"]["bias"], (N, 1))
    for place, row in enumerate(rows):
        for ago in range(min(3, place + 1)):
            inner[row] += x[rows[place - ago]] @ kernel[2 - ago]
    return silu(inner) @ p["out"]["kernel"] + p["out"]["bias"]


def gru(x: np.ndarray, p: Any, given: Any) -> np.ndarray:
    weights, state, found = p["cell"], np.zeros(D), np.zeros((N, D))

    def linear(name: str, of: np.ndarray) -> np.ndarray:
        return of @ weights[name]["kernel"] + weights[name].get("bias", 0)

    for row in np.flatnonzero(given.mask):
        reset = sigmoid(linear("ir", x[row]) + linear("hr", state))
        keep = sigmoid(linear("iz", x[row]) + linear("hz", state))
        new = np.tanh(linear("in", x[row]) + reset * linear("hn", state))
        state = found[row] = keep * state + (1 - keep) * new
    return found @ p["out"]["kernel"] + p["out"]["bias"]


def lstm(x: np.ndarray, p: Any, given: Any) -> np.ndarray:
    weights, memory, state, found = p["cell"], np.zeros(D), np.zeros(D), np.zeros((N, D))
    for row in np.flatnonzero(given.mask):
        put, keep, new, show = (
            x[row] @ weights[f"i{gate}"]["kernel"]
            + state @ weights[f"h{gate}"]["kernel"]
            + weights[f"h{gate}"]["bias"]
            for gate in "ifgo"
        )
        memory = sigmoid(keep) * memory + sigmoid(put) * np.tanh(new)
        state = found[row] = sigmoid(show) * np.tanh(memory)
    return found @ p["out"]["kernel"] + p["out"]["bias"]


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
    """By whatever it has parameters for."""
    query, key, value = (x @ p[name]["kernel"] for name in ("query", "key", "value"))
    mixed = np.zeros((N, D))
    half_lives = np.array(OF_HEADS["half_lives"]) * np.exp(p.get("decay_days_shift", np.full(2, np.inf)))
    for head in range(2):
        own = slice(2 * head, 2 * head + 2)
        for row in range(N):
            seen = [j for j in range(row + 1) if given.mask[j]]
            near = np.array([p["distance"][head, row - j] if "distance" in p else 0.0 for j in seen])
            days = np.array([int(given.time[row]) - int(given.time[j]) for j in seen]) / DAY
            near = near - np.log(2) * days / half_lives[head]
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


MIXERS = {"cnn": cnn, "gru": gru, "lstm": lstm, "bank": bank, "transformer": transformer, "hstu": hstu}


@pytest.mark.parametrize("case", CASES)
def test_a_block_is_what_its_formula_says(case: str) -> None:
    x, given = places(3)
    p = jax.tree.map(lambda v: np.asarray(v, np.float64), params_of(case))["params"]["block_0"]
    expected = wide = np.asarray(x, np.float64)
    if case != "mlp":
        mixer = MIXERS[case.split()[0]]
        expected = wide + mixer(rms(wide, p["norm"]["scale"]), p["mixer"], given)
    expected = forward(expected, p["forward"])
    found, counts = run(case, params_of(case), x, given), np.asarray(given.mask)
    np.testing.assert_allclose(found[counts], expected[counts], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("case", ["bank", "lstm"])
def test_half_precision_is_near_and_recomputing_is_the_same(case: str) -> None:
    x, given = places()

    def loss(params: Any, module: Stack) -> Any:
        found: Any = module.apply(params, x, given)
        return jnp.sin(found).sum(), found

    slopes = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (_, full), slope = slopes(params_of(case), stack(case))
    (_, again), same = slopes(params_of(case), stack(case, remat=True))
    np.testing.assert_allclose(again, full, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), slope, same)
    (_, half), _ = slopes(params_of(case), stack(case, dtype=jnp.dtype("bfloat16")))
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
        (Stack("transformer", 1, 2, bias="time"), "0 half_lives for 2 heads; give one each"),
        (Stack("cnn", 1, span=0), "span=0: give 1 or more events"),
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
    shape = Encoder(bank=False) if kind == "none" else Encoder(kind, blocks=2, heads=2, **(paces | changes))
    spec = toys.bare(
        histories, behaviours=2, features=4, calendar=True, request_time=request_time, encoder=shape
    )
    made = toys.pieces(histories, spec, window=window, batch_targets=64)
    return made, toys.random_params(made)


MODELS: dict[str, dict[str, Any]] = {
    "none": {},
    "gru": {},
    "cnn": {"window": 5, "span": 2, "bank": False},
    "bank": {},
    # see three events in each block; the transformer is not told when it is asked
    "hstu": {"window": 5, "context": 3, "bank": False},
    "transformer": {"window": 5, "context": 3, "request_time": "ignored"},
}


@pytest.mark.parametrize("kind", ["none", "gru", "bank", "transformer"])
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


@pytest.mark.parametrize(
    ("kind", "place"),
    [(kind, 17) for kind in MODELS] + [(kind, place) for kind in ("bank", "hstu") for place in (0, 15)],
)
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


@pytest.mark.parametrize("encoder", ["bank", "cnn", "none"])
def test_an_event_of_no_weight_says_nothing(encoder: str) -> None:
    made, params = encoded(encoder)
    batch = made.batches[0]
    history = batch.history
    later = np.cumsum(history.mask[:, ::-1], axis=1)[:, ::-1]
    rows, place = np.arange(len(batch.valid)), np.argmax(later == 3, axis=1)  # the last but two
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
    older = made.model.spec.to_json()
    del older["encoder"]["span"], older["encoder"]["bias"]
    assert Spec.from_json(older) == made.model.spec
    quiet = {
        "calendar": False, "revisit": False, "revisit_half_lives": (), "popularity_half_lives": (),
    }  # fmt: skip
    alone = Encoder("hstu", blocks=1, bank=False)
    assert dataclasses.replace(made.model.spec, **quiet, encoder=alone).request_time_matters()
    with pytest.raises(InputError, match="fades"):
        dataclasses.replace(made.model.spec, **quiet, encoder=dataclasses.replace(alone, kind="transformer"))
