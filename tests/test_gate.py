"""The gate by time and content: against a loop in float64, its streaming face, and what it gives up."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxdecay import optimizer
from jaxdecay.errors import InputError
from jaxdecay.gate import Gate

DAY = 86_400
L, D, F = 8, 4, 3
GATE = Gate((0.5, 9.0), features=F)
PARAMS = {
    "params": {
        "decay": {
            "log_half_life": jnp.log(jnp.array([0.7, 12.0])),
            "weights": jnp.array([[0.9, -0.4], [0.3, 1.1], [-1.2, 0.2]]),
            "bias": jnp.array([-1.0, -0.2]),
        }
    }
}


def history(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    left, right = random.integers(0, 3, 2)
    mask = (np.arange(L) >= left) & (np.arange(L) < L - right)
    time = np.cumsum(np.where(random.random(L) < 0.4, 0, random.integers(1, 3 * DAY, L)))
    at = time + np.where(random.random(L) < 0.4, 0, random.integers(0, 9 * DAY, L))
    return {
        "events": jnp.asarray(random.normal(size=(L, D)), jnp.float32),
        "features": jnp.asarray(random.normal(size=(L, F)), jnp.float32),
        "time": jnp.asarray(np.where(mask, time, random.integers(-(10**9), 10**9, L)), jnp.int32),
        "at": jnp.asarray(at, jnp.int32),
        "mask": jnp.asarray(mask),
    }


@jax.jit
def states(h: dict[str, Any], params: Any = PARAMS) -> Any:
    return GATE.apply(params, h["events"], h["features"], h["time"], at=h["at"], mask=h["mask"])


def loop(h: dict[str, Any]) -> np.ndarray:
    """Event by event in float64."""
    h = jax.tree.map(np.asarray, h)
    decay = jax.tree.map(lambda x: np.asarray(x, np.float64), PARAMS["params"]["decay"])
    rate = np.repeat(np.log(2) / np.exp(decay["log_half_life"]), D // 2)
    state, last, found = np.zeros(D), None, np.zeros((L, D))
    for t in range(L):
        if h["mask"][t]:
            gap = 0.0 if last is None else (int(h["time"][t]) - last) / DAY
            opened = np.log1p(np.exp(h["features"][t].astype(np.float64) @ decay["weights"] + decay["bias"]))
            state = state * np.exp(-(rate * gap + np.repeat(opened, D // 2))) + h["events"][t]
            last = int(h["time"][t])
        if last is not None:  # padding, too, reads what there is
            found[t] = state * np.exp(-rate * (int(h["at"][t]) - last) / DAY)
    return found


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_states_are_those_of_a_loop(seed: int) -> None:
    h = history(seed)
    np.testing.assert_allclose(states(h), loop(h), rtol=1e-5, atol=2e-6)


def test_users_at_once_are_users_one_by_one_and_jit_is_eager() -> None:
    users = [history(seed) for seed in (1, 2, 3)]
    together = jax.jit(jax.vmap(states))(jax.tree.map(lambda *x: jnp.stack(x), *users))
    for found, h in zip(together, users, strict=True):
        np.testing.assert_allclose(found, states(h), rtol=1e-6, atol=1e-7)
    one = users[0]
    eager: Any = GATE.apply(PARAMS, one["events"], one["features"], one["time"], mask=one["mask"])
    np.testing.assert_allclose(eager, states(one | {"at": one["time"]}), rtol=1e-6, atol=1e-6)


def test_what_padding_holds_and_a_shift_of_all_times_change_nothing_at_all() -> None:
    h = history(8)
    row = ~h["mask"][:, None]
    assert np.asarray(row).any()
    other = h | {name: jnp.where(row, 1e6, h[name]) for name in ("events", "features")}
    other["time"] = jnp.where(h["mask"], h["time"] + 10**9, 7)
    other["at"] = h["at"] + 10**9
    assert np.array_equal(states(h), states(other))


def test_slopes_are_finite_and_exactly_zero_towards_padding_and_what_comes_later() -> None:
    h = history(5)
    mask = np.arange(L) < L - 2
    h |= {"mask": jnp.asarray(mask), "time": jnp.arange(L, dtype=jnp.int32) * DAY // 2}
    h["at"] = h["time"] + DAY

    @jax.jit
    def slopes(events: Any, features: Any, mask: Any) -> Any:
        def call(events: Any, features: Any) -> Any:
            return states(h | {"events": events, "features": features, "mask": mask})

        return jax.jacrev(call, (0, 1))(events, features)

    of_events, of_features = slopes(h["events"], h["features"], h["mask"])
    lower = np.tril(np.ones((L, L), bool)) & mask
    np.testing.assert_array_equal(np.abs(of_events).sum((1, 3)) != 0, lower)
    lower[:, 0] = False  # the first event's gate has nothing to close on
    np.testing.assert_array_equal(np.abs(of_features).sum((1, 3)) != 0, lower)
    for slope in slopes(h["events"], h["features"], jnp.zeros(L, bool)):
        assert not np.asarray(slope).any()  # neither a number nor NaN


def test_gradients_are_those_of_finite_differences() -> None:
    with jax.enable_x64(True):
        h = history(4)
        wide = jax.tree.map(lambda x: x.astype(jnp.float64), (h["events"], h["features"], PARAMS))

        def call(events: Any, features: Any, params: Any) -> Any:
            return states(h | {"events": events, "features": features}, params)

        check_grads(jax.jit(call), wide, order=1, modes=["rev"], rtol=1e-5)


def test_an_event_at_a_time_gives_the_same() -> None:
    h = history(6) | {"mask": jnp.ones(L, bool), "time": jnp.array([5, 5, 9, 10, 80, 80, 80, 99]) * 9_000}
    h["at"] = h["time"] + 40_000
    update, read = (
        jax.jit(lambda *given, method=method: GATE.apply(PARAMS, *given, method=method))
        for method in (Gate.update, Gate.read)
    )
    state: Any = GATE.apply(PARAMS, D, method=Gate.start)
    expected = states(h)
    for t in range(L):
        state = update(state, h["time"][t], h["features"][t], h["events"][t])
        np.testing.assert_allclose(read(state, h["at"][t]), expected[t], rtol=1e-5, atol=1e-6)
    assert int(state.time) == 99 * 9_000


def test_it_starts_as_a_fading_by_time_that_takes_two_per_cent_an_event() -> None:
    h = history(2) | {"mask": jnp.ones(L, bool), "time": jnp.array([0] + [9 * DAY] * (L - 1))}
    params = GATE.init(jax.random.key(0), h["events"], h["features"], h["time"])
    assert set(optimizer.groups_of(params)["params"]["decay"].values()) == {"paces", "decay"}
    events = jnp.zeros((L, D)).at[0].set(1.0)
    found = states(h | {"events": events, "at": h["time"]}, params)
    kept = 1 / (1 + np.exp(-4))  # exp(-softplus(-4))
    np.testing.assert_allclose(found[1], kept * np.repeat([2.0**-18, 0.5], 2), rtol=1e-5)
    np.testing.assert_allclose(found[-1], kept ** (L - 1) * np.repeat([2.0**-18, 0.5], 2), rtol=1e-5)


def test_it_gives_up_deletion_and_says_so() -> None:
    state = GATE.apply(PARAMS, D, method=Gate.start)
    with pytest.raises(InputError, match="replay"):
        GATE.merge(state, state)
    with pytest.raises(InputError, match="replay"):
        GATE.apply(PARAMS, state, jnp.int32(0), jnp.zeros(F), jnp.zeros(D), method=Gate.forget)
    # It must: taking the second event off afterwards would leave what its gate has closed.
    h = history(3) | {"mask": jnp.ones(L, bool), "time": jnp.arange(L, dtype=jnp.int32)}
    h["at"], h["features"] = h["time"], h["features"].at[1].set(3.0)
    without = states(h | {"mask": jnp.arange(L) != 1})
    one = states(h | {"events": h["events"].at[1].set(0.0)})
    assert np.abs(without - one)[2:].max() > 0.1


def test_heads_must_divide_the_dimensions() -> None:
    with pytest.raises(InputError, match="2 half_lives for 5 dimensions"):
        GATE.apply(PARAMS, 5, method=Gate.start)
    with pytest.raises(InputError, match="half_lives"):
        Gate((), features=F).init(jax.random.key(0), 4, method=Gate.start)
