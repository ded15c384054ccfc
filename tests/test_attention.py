"""Attention that fades: both forms against a double loop in float64, and what request time can change."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxdecay.attention import attend
from jaxdecay.errors import InputError
from jaxdecay.kernels import LN2

DAY = 86_400
L, D, V = 9, 4, 3
seeds = st.integers(0, 10**6)
attended = jax.jit(attend, static_argnames=("log_kernel", "block", "request_time"))


def power_bias(half_life: Any) -> Any:
    """The logarithm of a power law of shape 1/2."""
    return lambda age: -0.5 * jnp.log1p(3 * age / half_life)


POWER = power_bias(5.0)


def history(seed: int, length: int = L) -> dict[str, Any]:
    """A history with ties, and padding of nonsense on both sides; requests after what they see."""
    random = np.random.default_rng(seed)
    left, right = random.integers(0, 3, 2)
    mask = (np.arange(length) >= left) & (np.arange(length) < length - right)
    gaps = np.where(random.random(length) < 0.4, 0, random.integers(1, 6 * DAY, length))
    time = np.cumsum(gaps)
    at = time + np.where(random.random(length) < 0.4, 0, random.integers(0, 40 * DAY, length))
    arrays: dict[str, Any] = {
        name: random.normal(size=(length, width)) for name, width in (("q", D), ("k", D), ("v", V))
    }
    arrays["sink"] = (random.normal(size=length), random.normal(size=V))
    found = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), arrays)
    nonsense = random.integers(-(10**9), 10**9, length)
    return found | {
        "time": jnp.asarray(np.where(mask, time, nonsense), jnp.int32),
        "at": jnp.asarray(at, jnp.int32),
        "mask": jnp.asarray(mask),
    }


@functools.partial(jax.jit, static_argnames=("sunk", "block"))
def outputs(h: dict[str, Any], *, sunk: bool = True, block: int | None = None) -> Any:
    return attend(
        h["q"], h["k"], h["v"], POWER, h["time"],
        at=h["at"], mask=h["mask"], sink=h["sink"] if sunk else None, block=block,
    )  # fmt: skip


def double_loop(h: dict[str, Any], *, sunk: bool) -> np.ndarray:
    h = jax.tree.map(np.asarray, h)
    found = np.zeros((len(h["q"]), V))
    for i in range(len(h["q"])):
        total, summed = 0.0, np.zeros(V)
        if sunk:
            total = np.exp(np.float64(h["sink"][0][i]))
            summed = total * h["sink"][1].astype(np.float64)
        for j in range(i + 1):
            if h["mask"][j]:
                age = (int(h["at"][i]) - int(h["time"][j])) / DAY
                left = (1 + 3 * age / 5.0) ** -0.5  # a power law of shape .5 has halved at 5
                weight = left * np.exp(h["q"][i].astype(np.float64) @ h["k"][j].astype(np.float64) / 2)
                total, summed = total + weight, summed + weight * h["v"][j]
        found[i] = summed / total if total else 0.0
    return found


@pytest.mark.parametrize("sunk", [False, True])
@pytest.mark.parametrize("block", [None, 4])
@given(seed=seeds)
@settings(max_examples=20)
def test_both_forms_are_a_double_loop(sunk: bool, block: int | None, seed: int) -> None:
    h = history(seed)
    found = outputs(h, sunk=sunk, block=block)
    np.testing.assert_allclose(found, double_loop(h, sunk=sunk), atol=3e-6)


def test_gradients_of_both_forms_are_equal() -> None:
    @functools.partial(jax.jit, static_argnums=2)
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(h: Any, half_life: Any, block: int) -> Any:
        found = attend(
            h["q"], h["k"], h["v"], power_bias(half_life), fixed["time"],
            at=fixed["at"], mask=fixed["mask"], sink=h["sink"], block=block,
        )  # fmt: skip
        return jnp.sin(3 * found).sum()

    fixed = history(3)
    moving = {name: fixed[name] for name in ("q", "k", "v", "sink")}
    whole, *blocks = (jax.tree.leaves(slopes(moving, jnp.float32(5.0), block)) for block in (100, 1, 4))
    assert all(np.abs(slope).max() > 1e-3 for slope in whole)
    for parts in blocks:
        for one, two in zip(whole, parts, strict=True):
            np.testing.assert_allclose(one, two, atol=5e-6)


def test_long_histories_are_taken_in_blocks() -> None:
    def memory(block: int | None) -> int:
        def loss(q: Any) -> Any:
            return attend(q, q, q, power_bias(5.0), jnp.arange(1024, dtype=jnp.int32), block=block).sum()

        lowered = jax.jit(jax.grad(loss)).lower(jax.ShapeDtypeStruct((1024, D), jnp.float32))
        analysis: Any = lowered.compile().memory_analysis()
        return analysis.temp_size_in_bytes

    assert memory(None) < memory(1024) / 4


def test_gradients_are_those_of_finite_differences() -> None:
    with jax.enable_x64(True):
        h = history(1)
        moving = (h["q"], h["k"], h["v"], h["sink"], jnp.array(4.0))
        moving = jax.tree.map(lambda x: x.astype(jnp.float64), moving)

        @jax.jit
        def call(q: Any, k: Any, v: Any, sink: Any, half_life: Any) -> Any:
            return attend(
                q, k, v, power_bias(half_life), h["time"], at=h["at"], mask=h["mask"], sink=sink, block=4
            )

        check_grads(call, moving, order=1, modes=["rev"], atol=1e-5, rtol=1e-5)


# Whole days and a rate of one per day: logits of zero queries are integers, and nothing is rounded.
WHOLE = {"time": jnp.array([0, 2, 2, 7]) * DAY, "mask": jnp.array([True, True, True, False])}
LATE = [jnp.full(4, days * DAY, jnp.int32) for days in (7, 37, 3000)]


def daily(age: Any) -> Any:
    return -age


def halving(age: Any) -> Any:
    return -LN2 / 3.7 * age


def idle(at: Any, bias: Any, sink: Any = None, queries: Any = None) -> np.ndarray:
    queries = jnp.zeros((4, D)) if queries is None else queries
    values = jnp.arange(12.0).reshape(4, 3)
    keys, time, mask = jnp.ones((4, D)), WHOLE["time"], WHOLE["mask"]
    found = attended(queries, keys, values, bias, time, at=at, mask=mask, sink=sink, request_time="ignored")
    return np.asarray(found)


def test_an_exponential_without_a_sink_hides_the_request_time() -> None:
    now, later, last = (idle(at, daily) for at in LATE)
    assert np.array_equal(now, later)
    assert np.array_equal(now, last)
    assert len(np.unique(now[:, 0])) == 3  # the curve itself is not hidden
    queries = jnp.asarray(np.random.default_rng(0).normal(size=(4, D)), jnp.float32)
    now, later = (idle(at, halving, queries=queries) for at in LATE[:2])
    np.testing.assert_allclose(now, later, atol=2e-5)


def test_an_exponential_without_a_sink_is_refused_where_a_request_time_is_given() -> None:
    h = history(0)
    given = (h["q"], h["k"], h["v"])
    with pytest.raises(
        InputError, match=r"the bias is exponential and there is no sink.*Theorem A.*Ways out"
    ):
        attend(*given, halving, h["time"], at=h["at"])
    attend(*given, halving, h["time"])  # no request time is given
    attend(*given, halving, h["time"], at=h["at"], sink=h["sink"])
    traced = jax.jit(lambda rate: attend(*given, lambda age: -rate * age, h["time"], at=h["at"]))
    assert np.isfinite(traced(0.1)).all()


def test_any_other_curve_or_a_sink_shows_it() -> None:
    sink = (jnp.array(-20.0), jnp.array([5.0, -5.0, 0.0]))
    now, later, last = (idle(at, daily, sink) for at in LATE)
    assert np.abs(now - later).max() > 1
    np.testing.assert_allclose(last, np.tile(sink[1], (4, 1)), atol=1e-6)  # all but the sink has faded
    slow, bell = power_bias(3.7), lambda age: -jnp.square(age / 30)
    now, later, last = (idle(at, slow) for at in LATE)
    assert (later[3] < now[3] - 0.1).all()  # the oldest event, that of the smallest values, comes back
    np.testing.assert_allclose(last[3], [3.0, 4.0, 5.0], atol=2e-3)  # in the end, as much as the others
    now, later, _ = (idle(at, bell) for at in LATE)
    assert (later[3] > now[3] + 0.1).all()  # the newest ones take over


def test_zero_queries_attend_by_the_dual_weights() -> None:
    h = history(4)
    h = h | {"q": jnp.zeros((L, D)), "v": jnp.eye(L)}
    found = np.asarray(outputs(h, sunk=False))
    age = np.asarray(h["at"])[:, None] / DAY - np.asarray(h["time"]) / DAY
    visible = np.tril(np.ones((L, L))) * np.asarray(h["mask"])
    dual = np.where(visible, 1 / np.sqrt(1 + 3 * np.maximum(age, 0) / 5), 0)
    total = dual.sum(1, keepdims=True)
    np.testing.assert_allclose(found, dual / np.where(total > 0, total, 1), atol=1e-6)


def test_requests_of_their_own_see_the_rows_they_say() -> None:
    h = history(6) | {"mask": jnp.ones(L, bool), "time": jnp.arange(L, dtype=jnp.int32) * DAY}
    at, seen = jnp.full(2, 20 * DAY, jnp.int32), jnp.array([4, L], jnp.int32)
    both = attended(h["q"][:2], h["k"], h["v"], POWER, h["time"], at=at, seen=seen)
    cut = attended(h["q"][:1], h["k"][:4], h["v"][:4], POWER, h["time"][:4], at=at[:1], seen=seen[:1])
    np.testing.assert_allclose(both[:1], cut, atol=1e-6)
    with pytest.raises(InputError, match="2 queries for 9 keys: give both at and seen"):
        attend(h["q"][:2], h["k"], h["v"], POWER, h["time"], at=at)
    with pytest.raises(InputError, match="block=0"):
        attend(h["q"], h["k"], h["v"], POWER, h["time"], block=0)


def test_nothing_to_see_is_nothing_or_the_sink_with_finite_slopes() -> None:
    h = history(2) | {"mask": jnp.zeros(L, bool)}

    @functools.partial(jax.jit, static_argnums=(4, 5))
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2, 3), has_aux=True)
    def slopes(q: Any, k: Any, v: Any, half_life: Any, sink: bool, block: int | None) -> Any:
        found = attend(
            q, k, v, power_bias(half_life), h["time"],
            at=h["at"], mask=h["mask"], sink=h["sink"] if sink else None, block=block,
        )  # fmt: skip
        return found.sum(), found

    for sink, block in ((False, None), (True, None), (True, 2)):
        (_, found), moved = slopes(h["q"], h["k"], h["v"], jnp.float32(5.0), sink, block)
        np.testing.assert_allclose(found, np.tile(h["sink"][1] if sink else jnp.zeros(V), (L, 1)), rtol=1e-6)
        assert not any(np.asarray(slope).any() for slope in moved)  # neither a number nor NaN


def test_what_padding_holds_and_a_shift_of_all_times_change_nothing_at_all() -> None:
    h = history(8)
    row = ~h["mask"][:, None]
    other = h | {name: jnp.where(row, 1e6, h[name]) for name in ("k", "v")}
    other["time"] = jnp.where(h["mask"], h["time"] + 10**9, 7)
    other["at"] = h["at"] + 10**9
    assert not np.asarray(h["mask"]).all()
    assert np.array_equal(outputs(h), outputs(other))


@pytest.mark.parametrize("block", [None, 4])
def test_slopes_towards_what_comes_later_are_exactly_zero(block: int | None) -> None:
    h = history(5) | {"mask": jnp.ones(L, bool), "time": jnp.arange(L, dtype=jnp.int32) * DAY}

    def call(k: Any, v: Any) -> Any:
        return outputs(h | {"k": k, "v": v, "at": h["time"] + DAY}, block=block)

    for slope in jax.jacrev(call, (0, 1))(h["k"], h["v"]):
        reached = np.abs(slope).sum((1, 3)) != 0
        np.testing.assert_array_equal(reached, np.tril(np.ones((L, L), bool)))


def test_users_and_heads_at_once_are_those_one_by_one() -> None:
    users = [history(seed) for seed in (11, 12, 13)]
    together = jax.vmap(lambda h: outputs(h, block=4))(jax.tree.map(lambda *x: jnp.stack(x), *users))
    for found, h in zip(together, users, strict=True):
        np.testing.assert_allclose(found, outputs(h, block=4), atol=1e-6)
    with jax.disable_jit():
        np.testing.assert_allclose(together[0], outputs(users[0]), atol=1e-6)
    h = users[0]

    @jax.jit
    @jax.vmap
    def heads(half_life: Any) -> Any:
        bias = power_bias(half_life)
        return attend(h["q"], h["k"], h["v"], bias, h["time"], at=h["at"], mask=h["mask"])

    np.testing.assert_allclose(heads(jnp.array([1.0, 5.0]))[1], outputs(h, sunk=False), atol=1e-6)


def test_half_precision_is_biased_and_summed_in_float32() -> None:
    h = history(7)
    half = h | {name: h[name].astype(jnp.bfloat16) for name in ("q", "k", "v")}
    back = h | {name: half[name].astype(jnp.float32) for name in ("q", "k", "v")}
    with jax.numpy_dtype_promotion("strict"):
        found = outputs(half)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, outputs(back), atol=1e-5)
