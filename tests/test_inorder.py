"""Reads in turn, linear in the window, against the same pair by pair."""

import functools
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import readout
from jaxdecay.basis import Basis
from jaxdecay.errors import InputError
from jaxdecay.modes import Modes
from jaxdecay.objective import batch_log_likelihood

PAST, WINDOW, CURVES, WIDTH, ITEMS = 9, 80, 4, 3, 5
RATE = jnp.array([0.0, 0.3, 0.02, 0.1])
BASES = {
    "real": Modes(RATE),
    "all oscillate": Modes(RATE, jnp.array([0.9, 0.4, 2.0, 0.1])),
    "rhythms": Basis(RATE, jnp.array([1.0, 7.0]), (4, 1)),
}


def given(seed: int, past: int) -> dict[str, Any]:
    """A history with padding on both sides, half of its gaps 0, and requests between the event before and
    their own."""
    random, length = np.random.default_rng(seed), past + WINDOW
    mask = (np.arange(length) >= min(2, past)) & (np.arange(length) < length - 3)
    gap = np.where(random.random(length) < 0.5, 0, random.integers(1, 20 * 86_400, length))
    time = np.cumsum(gap) + 10**8
    before = np.append(time[:1], time[:-1])[past:]
    at = np.where(random.random(WINDOW) < 0.5, time[past:], before)
    nonsense = random.integers(-(10**9), 10**9, length)
    return {
        "time": np.where(mask, time, nonsense).astype(np.int32),
        "mask": mask,
        "at": np.where(mask[past:], at, nonsense[past:]).astype(np.int32),
        "writes": random.random((length, CURVES), np.float32),
        "values": random.normal(size=(length, WIDTH)).astype(np.float32),
        "reads": random.random((WINDOW, CURVES), np.float32),
        "item": random.integers(0, ITEMS, length).astype(np.int32),
        "asked": random.integers(-1, ITEMS + 1, WINDOW).astype(np.int32),
    }


@functools.partial(jax.jit, static_argnames=("past", "in_turn"))
def reads(basis: Any, given: dict[str, Any], *, past: int, in_turn: bool) -> dict[str, jax.Array]:
    seen = None if in_turn else jnp.arange(WINDOW, dtype=jnp.int32)
    ages = readout.ages(given["time"], given["mask"], given["at"], seen, past=past)
    assert (ages.near.shape[1] == 0) == in_turn  # else nothing would be compared
    writes, values, taken = (given[name] for name in ("writes", "values", "reads"))
    found = {
        "read": readout.read(basis, writes, values, taken, ages),
        "own": readout.read_own(basis, writes, given["item"], taken, given["asked"], ages),
        "mass": readout.mass(basis.modes(), ages),
    }
    return {
        name: jnp.where(given["mask"][past:, None], x.reshape(WINDOW, -1), 0.0) for name, x in found.items()
    }


@pytest.mark.parametrize("past", [0, PAST])
@pytest.mark.parametrize("basis", BASES.values(), ids=BASES)
def test_reads_in_turn_are_those_of_pairs(basis: Any, past: int) -> None:
    for seed in range(5):
        case = given(seed, past)
        pairs, turns = (reads(basis, case, past=past, in_turn=in_turn) for in_turn in (False, True))
        for name in pairs:
            np.testing.assert_allclose(turns[name], pairs[name], atol=1e-4, rtol=1e-4, err_msg=name)
            assert np.abs(pairs[name]).max() > 0.1, name


@pytest.mark.parametrize("past", [0, PAST])
def test_slopes_in_turn_are_those_of_pairs(past: int) -> None:
    case, basis, random = given(7, past), BASES["rhythms"], np.random.default_rng(0)
    modes = len(basis.modes().rate)
    by = {name: random.normal(size=(WINDOW, n)) for name, n in (("read", WIDTH), ("own", 1), ("mass", modes))}
    smooth = {name: case[name] for name in ("writes", "values", "reads")}

    def total(rate: Any, period: Any, smooth: dict[str, Any], in_turn: bool) -> Any:
        curves = basis.replace(rate=rate, period=period)
        found = reads(curves, case | smooth, past=past, in_turn=in_turn)
        return sum((by[name] * found[name]).sum() for name in by)

    slopes = jax.jit(jax.grad(total, (0, 1, 2)), static_argnums=3)
    turns, pairs = (slopes(basis.rate, basis.period, smooth, in_turn) for in_turn in (True, False))
    for name in smooth:
        np.testing.assert_allclose(turns[2][name], pairs[2][name], atol=1e-3, rtol=1e-3, err_msg=name)
    for one, other in zip(turns[:2], pairs[:2], strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3)


def test_nothing_flows_back_from_what_comes_later_or_is_padding() -> None:
    case = given(3, PAST) | {"item": np.zeros(PAST + WINDOW, np.int32), "asked": np.zeros(WINDOW, np.int32)}
    row = 40

    def one(writes: Any, values: Any) -> Any:
        found = reads(BASES["real"], case | {"writes": writes, "values": values}, past=PAST, in_turn=True)
        return found["read"][row].sum() + found["own"][row].sum()

    of_writes, of_values = jax.grad(one, (0, 1))(case["writes"], case["values"])
    visible = case["mask"] & (np.arange(PAST + WINDOW) < PAST + row)
    np.testing.assert_array_equal(np.abs(of_writes).sum(1) != 0, visible)
    np.testing.assert_array_equal(np.abs(of_values).sum(1) != 0, visible)


def test_requests_in_turn_are_one_before_each_event_and_keep_no_pairs() -> None:
    case = {name: jnp.asarray(value) for name, value in given(0, PAST).items()}
    with pytest.raises(InputError, match="80 requests in turn for 70 events: give one before each"):
        readout.ages(case["time"][:-10], case["mask"][:-10], case["at"], None, past=PAST)
    ages = readout.ages(case["time"], case["mask"], case["at"], None, past=PAST)
    with pytest.raises(InputError, match="the kernel of pairs is not kept"):
        readout.kernel(BASES["real"], case["writes"], case["reads"], ages)


@pytest.mark.parametrize("request_time", ["used", "ignored"])
def test_a_model_trained_in_turn_is_the_one_trained_on_pairs(request_time: Any) -> None:
    histories = toys.log((90, 75, 12))
    made = toys.pieces(
        histories, toys.spec(histories, request_time=request_time), window=70, batch_targets=140
    )
    params = toys.random_params(made)

    def losses(pairs: int) -> Any:
        with mock.patch.object(readout, "_PAIRS", pairs):
            loss = jax.jit(
                jax.value_and_grad(
                    lambda params, batch: batch_log_likelihood(
                        made.model, params, batch, made.constants
                    ).sum()
                )
            )
            return [loss(params, batch) for batch in long]

    batches = [made.batches[i] for i in range(made.batches.per_epoch)]
    long = [batch for batch in batches if batch.target.shape[1] == 70]  # shorter ones are pairs either way
    assert 0 < len(long) < len(batches)
    for (turns, slopes), (pairs, others) in zip(losses(64), losses(1000), strict=True):
        np.testing.assert_allclose(turns, pairs, rtol=1e-5)
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, atol=2e-3, rtol=1e-3), slopes, others
        )


def test_windows_grow_with_the_histories_and_leave_room_for_several_users() -> None:
    def window(length: int, **options: Any) -> int:
        histories = toys.log((length,))
        return toys.pieces(histories, toys.bare(histories), **options).batches.window

    assert window(10) == 64
    assert window(1600) == 64  # 1600 / 16 is 100, but an eighth of 512 targets no more
    assert window(1600, batch_targets=2048) == 128
    assert window(1600, batch_targets=2048, order="time") == 4
    assert window(1600, window=7) == 7
