"""Reads at every position: pair by pair, by chunks and streaming are the same function."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecay import clocks, hybrid, state, state_numpy
from jaxdecay.errors import InputError
from jaxdecay.hybrid import dual
from jaxdecay.modes import Modes

DAY, WIDTH = 86_400, 3
PLAIN = Modes(jnp.array([0.0, 0.03, 0.8]))
TURNING = Modes(jnp.array([0.0, 0.03, 0.8]), jnp.array([0.0, 0.9, 6.28]))
UPDATE = jax.jit(state.update)
read_all = jax.jit(hybrid.read_all, static_argnames="chunk")


def history(length: int = 21, *, seed: int = 0, origin: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    gap = np.where(random.random(length) < 0.3, 0, random.integers(0, 9 * DAY, length))
    time = (origin + np.cumsum(gap)).astype(np.int32)
    return {
        "time": jnp.array(time),
        "at": jnp.array(time + random.integers(0, 3 * DAY, length, dtype=np.int32)),
        "writes": jnp.array(random.random((length, 3)), jnp.float32),
        "reads": jnp.array(random.random((length, 3)), jnp.float32),
        "values": jnp.array(random.normal(size=(length, WIDTH)), jnp.float32),
    }


def wall(time: Any, at: Any) -> clocks.Readings:
    """Every request sees what came up to its own row."""
    return clocks.wall(time, jnp.ones(len(time), bool), at, 1 + jnp.arange(len(time), dtype=jnp.int32))


def by_hand(modes: Modes, given: dict[str, Any]) -> np.ndarray:
    """(L, D) float64, event by event."""
    time, at = (np.asarray(given[k], np.int64) for k in ("time", "at"))
    writes, reads, values = (np.asarray(given[k], np.float64) for k in ("writes", "reads", "values"))
    rate = np.asarray(modes.rate, np.float64)
    turn = np.zeros(3) if modes.frequency is None else np.asarray(modes.frequency, np.float64)
    found = np.zeros_like(values)
    for i in range(len(time)):
        for j in range(i + 1):
            age = (at[i] - time[j]) / DAY
            found[i] += (reads[i] * writes[j] * np.exp(-rate * age) * np.cos(turn * age)).sum() * values[j]
    return found


@pytest.mark.parametrize("modes", [PLAIN, TURNING])
@pytest.mark.parametrize("chunk", [4, 16, 32])
def test_chunks_and_pairs_are_a_double_loop(modes: Modes, chunk: int) -> None:
    given = history()
    expected = by_hand(modes, given)
    close = {"atol": 1e-6 * np.abs(expected).max(), "rtol": 0}
    np.testing.assert_allclose(read_all(modes, **given), expected, **close)
    chunked = read_all(modes, **given, chunk=chunk)
    np.testing.assert_allclose(chunked, expected, **close)


@pytest.mark.parametrize("modes", [PLAIN, TURNING])
def test_streaming_in_jax_and_numpy_is_the_same_double_loop(modes: Modes) -> None:
    given = history()
    expected = by_hand(modes, given)
    close = {"atol": 1e-6 * np.abs(expected).max(), "rtol": 0}
    update, read = (jax.jit(functools.partial(each, modes)) for each in (state.update, state.read))
    now, live = state.init(modes, WIDTH), state_numpy.init(_numpy(modes), WIDTH)
    for i in range(len(expected)):
        time, at, writes, reads, value = (given[k][i] for k in ("time", "at", "writes", "reads", "values"))
        now = update(now, time, writes, value)
        live = state_numpy.update(_numpy(modes), live, int(time), np.asarray(writes), np.asarray(value))
        np.testing.assert_allclose(read(now, at, reads), expected[i], **close)
        served = state_numpy.read(_numpy(modes), live, int(at), np.asarray(reads))
        np.testing.assert_allclose(served, expected[i], **close)


@pytest.mark.parametrize("modes", [PLAIN, TURNING])
def test_in_double_precision_all_are_a_double_loop_to_a_trillionth(modes: Modes) -> None:
    plain = {name: np.asarray(x) for name, x in history().items()}
    with jax.enable_x64(True):
        wide: Any = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), modes)
        given: dict[str, Any] = {
            k: jnp.asarray(x, x.dtype if k in ("time", "at") else jnp.float64) for k, x in plain.items()
        }
        expected = by_hand(wide, given)
        close = {"atol": 1e-12 * np.abs(expected).max(), "rtol": 0}
        np.testing.assert_allclose(read_all(wide, **given), expected, **close)
        writes, values, reads, time, at = (given[k] for k in ("writes", "values", "reads", "time", "at"))
        np.testing.assert_allclose(read_all(wide, **given, chunk=4), expected, **close)
        one = Modes(wide.rate[1:2], None if wide.frequency is None else wide.frequency[1:2])
        ones: dict[str, Any] = given | {"writes": jnp.ones((21, 1)), "reads": jnp.ones((21, 1))}
        paired = dual(lambda age: one.curves(age)[..., 0], wall(time, at), values)
        np.testing.assert_allclose(paired, read_all(one, **ones), **close)

        update, read = (jax.jit(functools.partial(each, wide)) for each in (state.update, state.read))
        step = jax.jit(lambda now, event: (state.update(wide, now, *event), None))
        folded, _ = jax.lax.scan(step, state.init(wide, WIDTH), (time, writes, values))
        assert folded.value.dtype == jnp.float64
        now = state.init(wide, WIDTH)
        live = state_numpy.init(_numpy(wide), WIDTH)
        for i in range(len(expected)):
            now = update(now, time[i], writes[i], values[i])
            live = state_numpy.update(
                _numpy(wide), live, time[i].item(), *map(np.asarray, (writes[i], values[i]))
            )
            np.testing.assert_allclose(read(now, at[i], reads[i]), expected[i], **close)
            served = state_numpy.read(_numpy(wide), live, at[i].item(), np.asarray(reads[i]))
            np.testing.assert_allclose(served, expected[i], **close)


@pytest.mark.parametrize("modes", [PLAIN, TURNING])
def test_a_numpy_state_keeps_its_precision_and_is_never_written_over(modes: Modes) -> None:
    modes, before = _numpy(modes), state_numpy.init(_numpy(modes), WIDTH)
    writes, event = np.ones(3, np.float32), np.arange(3, dtype=np.float32)
    once = state_numpy.update(modes, before, np.int64(DAY), writes, event)
    kept = once.value.copy()
    for at in (np.int64(5 * DAY), np.int64(5)):  # in order, and late
        after = state_numpy.update(modes, once, at, writes, event)
        assert after.value.dtype == before.value.dtype
        assert (once.value == kept).all()
        assert (after.value != kept).any()
    late = state_numpy.update(modes, once, np.int32(2**31 - 1), writes, event)
    assert late.time == 2**31 - 1
    with pytest.raises(TypeError):
        state_numpy.update(modes, once, 9.5 * DAY, writes, event)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dimension must be fixed"):
        state_numpy.update(modes, once, 9 * DAY, writes[:2], event)


def _numpy(modes: Modes) -> Any:
    return tuple(None if x is None else np.asarray(x) for x in modes)


def test_a_long_history_goes_by_chunks_and_a_short_one_by_pairs_with_one_derivative() -> None:
    given = history(70)
    expected = by_hand(TURNING, given)
    np.testing.assert_allclose(read_all(TURNING, **given), expected, atol=1e-6 * np.abs(expected).max())
    short = history(30)

    def total(run: Any) -> Any:
        def loss(modes: Modes, writes: Any, reads: Any, values: Any) -> Any:
            return (run(modes, writes, values, reads) ** 2).sum()

        return jax.jit(jax.grad(loss, (0, 1, 2, 3)))(
            TURNING, short["writes"], short["reads"], short["values"]
        )

    def pairs(modes: Modes, writes: Any, values: Any, reads: Any) -> Any:
        return read_all(modes, writes, values, reads, short["time"], at=short["at"])

    def chunks(modes: Modes, writes: Any, values: Any, reads: Any) -> Any:
        return read_all(modes, writes, values, reads, short["time"], at=short["at"], chunk=8)

    for one, two in zip(jax.tree.leaves(total(pairs)), jax.tree.leaves(total(chunks)), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-3, atol=2e-5 * float(np.abs(one).max()))


@pytest.mark.parametrize("length", [20, 70])
def test_a_shift_of_all_times_changes_nothing_at_all(length: int) -> None:
    here, later = history(length), history(length, origin=1_700_000_000)
    assert (read_all(PLAIN, **here) == read_all(PLAIN, **later)).all()


@pytest.mark.parametrize("length", [18, 70])
def test_padding_on_either_side_changes_nothing(length: int) -> None:
    given = history(length)
    alone = read_all(PLAIN, **given)
    wide: dict[str, Any] = {
        name: jnp.asarray(np.pad(np.asarray(x), [(5, 9)] + [(0, 0)] * (x.ndim - 1), constant_values=3))
        for name, x in given.items()
    }
    mask = jnp.arange(length + 14) - 5
    mask = (mask >= 0) & (mask < length)
    wide["values"] = jnp.where(mask[:, None], wide["values"], jnp.nan)
    found = read_all(PLAIN, **wide, mask=mask)[5 : 5 + length]
    np.testing.assert_allclose(found, alone, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("chunk", [None, 8])
def test_masked_rows_hold_anything_and_types_may_differ(chunk: int | None) -> None:
    given, mask = history(20), jnp.arange(20) < 15
    spoilt = {k: jnp.where(mask[:, None], given[k], jnp.nan) for k in ("writes", "values", "reads")}

    def loss(rate: Any, writes: Any, values: Any, reads: Any) -> Any:
        found = read_all(
            Modes(rate), writes, values, reads, given["time"], at=given["at"], mask=mask, chunk=chunk
        )
        return (found[:15] ** 2).sum()

    slopes = jax.grad(loss, (0, 1, 2, 3))(PLAIN.rate, *spoilt.values())
    assert all(np.isfinite(slope).all() for slope in slopes)
    low = jax.grad(loss, 2)(PLAIN.rate, given["writes"], given["values"].astype(jnp.bfloat16), given["reads"])
    assert low.dtype == jnp.bfloat16
    assert read_all(PLAIN, *(jnp.zeros((0, 3)),) * 3, jnp.zeros(0, jnp.int32), chunk=chunk).shape == (0, 3)


@pytest.mark.parametrize("chunk", [None, 8])
def test_sharded_over_users_with_shared_modes(chunk: int | None) -> None:
    mesh = jax.make_mesh((2,), ("users",), axis_types=(jax.sharding.AxisType.Auto,))
    users, everywhere = jax.sharding.PartitionSpec("users"), jax.sharding.PartitionSpec()
    given = [history(20, seed=seed) for seed in range(2)]
    stacked = [jnp.stack([each[k] for each in given]) for k in ("writes", "values", "reads", "time")]

    def each(rate: Any, *given: Any) -> Any:
        return jax.vmap(lambda *one: hybrid.read_all(Modes(rate), *one, chunk=chunk))(*given)

    sharded = jax.shard_map(each, mesh=mesh, in_specs=(everywhere, *(users,) * 4), out_specs=users)

    def total(run: Any) -> Any:
        return jax.jit(jax.grad(lambda *given: (run(*given) ** 2).sum(), (0, 1, 2, 3)))

    pairs = zip(total(sharded)(PLAIN.rate, *stacked), total(each)(PLAIN.rate, *stacked), strict=True)
    for one, two in pairs:
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)


def test_later_events_have_no_slope_at_all() -> None:
    given = history(70)

    def first(values: Any) -> Any:
        return read_all(PLAIN, **(given | {"values": values}))[:40].sum()

    assert (jax.grad(first)(given["values"])[40:] == 0).all()


def test_any_kernel_reads_pair_by_pair_and_no_event_at_all_is_nothing_with_a_slope() -> None:
    given = history(12)

    def power(half_life: Any) -> Any:
        return lambda age: 1 / (1 + age / half_life)

    found = dual(power(3.0), wall(given["time"], given["at"]), given["values"])
    time, at = (np.asarray(given[k], np.float64) for k in ("time", "at"))
    kernel = np.tril(1 / (1 + np.maximum(at[:, None] - time, 0) / DAY / 3))
    np.testing.assert_allclose(found, kernel @ np.asarray(given["values"], np.float64), rtol=2e-5, atol=1e-5)

    def nothing(half_life: Any) -> Any:
        clock = clocks.wall(given["time"], jnp.zeros(12, bool), given["at"], jnp.arange(12))
        return dual(power(half_life), clock, jnp.full((12, WIDTH), jnp.nan)).sum()

    assert jax.value_and_grad(nothing)(jnp.float32(3.0)) == (0, 0)


class TestState:
    """Linear in the events: late ones, shards and deletion are exact."""

    GIVEN = history(40, seed=3)

    def events(self, order: Any) -> list[tuple[int, np.ndarray, np.ndarray]]:
        time, writes, values = (np.asarray(self.GIVEN[name]) for name in ("time", "writes", "values"))
        return [(int(time[j]), writes[j], values[j]) for j in order]

    def fold(self, face: Any, modes: Any, order: Any) -> Any:
        now, update = face.init(modes, WIDTH), face.update
        for event in self.events(order):
            if face is state:
                event = (jnp.int32(event[0]), *map(jnp.asarray, event[1:]))
                update = UPDATE
            now = update(modes, now, *event)
        return now

    @pytest.mark.parametrize("modes", [PLAIN, TURNING])
    def test_shuffled_merged_and_forgotten_in_numpy(self, modes: Any) -> None:
        modes = _numpy(modes)
        whole = self.fold(state_numpy, modes, range(40))
        close = {"rtol": 0, "atol": 2e-6 * np.abs(whole.value).max()}
        shuffled = self.fold(state_numpy, modes, np.random.default_rng(0).permutation(40))
        assert shuffled.time == whole.time
        np.testing.assert_allclose(shuffled.value, whole.value, **close)
        halves = [self.fold(state_numpy, modes, range(start, 40, 2)) for start in (0, 1)]
        for pair in (halves, halves[::-1]):
            np.testing.assert_allclose(state_numpy.merge(modes, *pair).value, whole.value, **close)
        [gone] = self.events([17])
        without = self.fold(state_numpy, modes, [j for j in range(40) if j != 17])
        np.testing.assert_allclose(state_numpy.forget(modes, whole, *gone).value, without.value, **close)

    def test_shuffled_merged_and_forgotten_in_jax(self) -> None:
        whole = self.fold(state, TURNING, range(12))
        close = {"rtol": 0, "atol": 2e-6 * float(np.abs(whole.value).max())}
        shuffled = self.fold(state, TURNING, np.random.default_rng(0).permutation(12))
        np.testing.assert_allclose(shuffled.value, whole.value, **close)
        halves = [self.fold(state, TURNING, range(start, 12, 2)) for start in (0, 1)]
        np.testing.assert_allclose(state.merge(TURNING, *halves).value, whole.value, **close)
        [(at, writes, value)] = self.events([5])
        forgotten = state.forget(TURNING, whole, jnp.int32(at), jnp.asarray(writes), jnp.asarray(value))
        without = self.fold(state, TURNING, [j for j in range(12) if j != 5])
        np.testing.assert_allclose(forgotten.value, without.value, **close)

    @pytest.mark.parametrize("face", [state, state_numpy])
    def test_states_of_different_modes_or_widths_are_not_merged(self, face: Any) -> None:
        modes = PLAIN if face is state else _numpy(PLAIN)
        with pytest.raises(InputError, match="nothing in common"):
            face.merge(modes, face.init(modes, 3), face.init(modes, 1))

    def test_many_users_at_once(self) -> None:
        now = jax.vmap(lambda _: state.init(PLAIN, WIDTH))(jnp.arange(3))
        at, writes, values = jnp.array([5, 9, 9], jnp.int32), jnp.ones((3, 3)), jnp.arange(9.0).reshape(3, 3)
        update = jax.jit(jax.vmap(lambda *x: state.update(PLAIN, *x)))
        after = update(now, at, writes, values)
        np.testing.assert_allclose(after.value[:, 0, 0], values)
        assert after.time.tolist() == [5, 9, 9]
