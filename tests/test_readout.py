"""Reads of a fading state against a double loop over events and modes in float64, and what is invariant."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdecay import readout
from jaxdecay.basis import Basis
from jaxdecay.modes import Modes

N, R, M, D = 10, 4, 3, 2  # events, requests, modes, features
RATE = np.array([0.0, 0.07, 1.3], np.float32)
FREQUENCY = np.array([0.0, 0.9, 2 * np.pi / 7], np.float32)
DAY = 86_400
seeds = st.integers(0, 10**6)
oscillating = pytest.mark.parametrize("frequency", [None, FREQUENCY], ids=["real", "oscillating"])


class Case(NamedTuple):
    """A history with padding on both sides (which holds nonsense), and requests after what they see."""

    time: Any  # NumPy here, traced inside what is compiled
    mask: Any
    at: Any
    seen: Any
    writes: Any
    values: Any
    reads: Any
    item: Any
    asked: Any

    @property
    def same(self) -> Any:
        return self.item[None] == self.asked[:, None]


def case(seed: int, past: int) -> Case:
    random = np.random.default_rng(seed)
    left = int(random.integers(0, past + 1))
    right = int(random.integers(0, N - past + 1))
    mask = (np.arange(N) >= left) & (np.arange(N) < N - right)
    gaps = np.where(random.random(N) < 0.5, 0, random.integers(1, 6 * DAY, N))
    time = np.cumsum(gaps) + random.integers(-DAY, DAY)
    seen = np.sort(random.integers(0, N - past + 1, R))
    last = np.where(mask & (np.arange(N) < past + seen[:, None]), time, time[0]).max(1)
    at = last + np.where(random.random(R) < 0.3, 0, random.integers(0, 30 * DAY, R))
    time = np.where(mask, time, random.integers(-(10**9), 10**9, N))
    return Case(
        time.astype(np.int32),
        mask,
        at.astype(np.int32),
        seen.astype(np.int32),
        random.normal(size=(N, M)).astype(np.float32),
        random.normal(size=(N, D)).astype(np.float32),
        random.normal(size=(R, M)).astype(np.float32),
        random.integers(0, 2, N).astype(np.int32),
        random.integers(0, 2, R).astype(np.int32),
    )


@functools.partial(jax.jit, static_argnames="past")
def everything(frequency: Any, case: Case, *, past: int) -> dict[str, jax.Array]:
    modes = Modes(jnp.asarray(RATE), None if frequency is None else jnp.asarray(frequency))
    ages = readout.ages(case.time, case.mask, case.at, case.seen, past=past)
    return {
        "read": readout.read(modes, case.writes, case.values, case.reads, ages),
        "own": readout.read_own(modes, case.writes, case.item, case.reads, case.asked, ages),
        "kernel": readout.kernel(modes, case.writes, case.reads, ages),
        "mass": readout.mass(modes, ages),
    }


def double_loop(frequency: np.ndarray | None, case: Case, *, past: int) -> dict[str, Any]:
    """The same by the definition; ``scale`` is the sum of all terms' sizes, by which rounding is measured."""
    turn = np.zeros(M) if frequency is None else frequency.astype(np.float64)
    kernel, mass = np.zeros((R, N)), np.zeros((R, M))
    scale = 1.0
    for r in range(R):
        for j in range(N):
            if not case.mask[j] or (j >= past and j - past >= case.seen[r]):
                continue
            age = (int(case.at[r]) - int(case.time[j])) / DAY
            for m in range(M):
                curve = np.exp(-float(RATE[m]) * age) * np.cos(turn[m] * age)
                kernel[r, j] += float(case.reads[r, m]) * float(case.writes[j, m]) * curve
                mass[r, m] += curve
                scale += abs(float(case.reads[r, m]) * float(case.writes[j, m]))
    values = case.values.astype(np.float64)
    return {
        "read": kernel @ values,
        "own": (kernel * case.same).sum(1),
        "kernel": kernel,
        "mass": mass,
        "scale": scale,
    }


@oscillating
@pytest.mark.parametrize("past", [0, 6, N])
@given(seed=seeds)
@settings(max_examples=30)
def test_reads_are_those_of_a_double_loop(frequency: np.ndarray | None, past: int, seed: int) -> None:
    given_case = case(seed, past)
    found = everything(frequency, given_case, past=past)
    expected = double_loop(frequency, given_case, past=past)
    # a cosine's phase grows with the age, and so does its rounding
    tolerance = (1e-6 if frequency is None else 2e-5) * expected["scale"]
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], atol=tolerance, err_msg=name)


@oscillating
@given(seed=seeds)
@settings(max_examples=20)
def test_where_the_past_ends_changes_nothing(frequency: np.ndarray | None, seed: int) -> None:
    whole = case(seed, 6)
    split = everything(frequency, whole, past=6)
    joined = everything(frequency, whole._replace(seen=whole.seen + np.int32(6)), past=0)
    tolerance = double_loop(frequency, whole, past=6)["scale"] * (1e-6 if frequency is None else 2e-5)
    for name in split:
        np.testing.assert_allclose(split[name], joined[name], atol=tolerance, err_msg=name)


@oscillating
@given(seed=seeds, seconds=st.integers(-(2**30), 2**30))
@settings(max_examples=20)
def test_shifting_all_times_changes_nothing_at_all(
    frequency: np.ndarray | None, seed: int, seconds: int
) -> None:
    there = case(seed, 6)
    shift = np.int32(seconds)
    time = np.where(there.mask, there.time + shift, there.time)
    moved = everything(frequency, there._replace(time=time, at=there.at + shift), past=6)
    for name, value in everything(frequency, there, past=6).items():
        assert np.array_equal(value, moved[name]), name


@oscillating
@given(seed=seeds)
@settings(max_examples=20)
def test_what_padding_holds_changes_nothing_at_all(frequency: np.ndarray | None, seed: int) -> None:
    there = case(seed, 6)
    random = np.random.default_rng(seed)
    row = ~there.mask[:, None]
    other = there._replace(
        time=np.where(there.mask, there.time, random.integers(-(10**9), 10**9, N)).astype(np.int32),
        writes=np.where(row, np.float32(1e6), there.writes),
        values=np.where(row, np.float32(-1e6), there.values),
        item=np.where(there.mask, there.item, 1),
    )
    found = everything(frequency, other, past=6)
    for name, value in everything(frequency, there, past=6).items():
        assert np.array_equal(value, found[name]), name


@given(seed=seeds)
@settings(max_examples=10)
def test_the_amount_of_padding_changes_nothing(seed: int) -> None:
    there = case(seed, 6)
    ends = dict.fromkeys(("time", "mask", "writes", "values", "item"), (2, 3))
    wider = {
        name: np.pad(getattr(there, name), [ends[name]] + [(0, 0)] * (getattr(there, name).ndim - 1))
        for name in ends
    }
    found = everything(FREQUENCY, there._replace(**wider), past=8)
    tolerance = 1e-6 * double_loop(FREQUENCY, there, past=6)["scale"]
    for name, value in everything(FREQUENCY, there, past=6).items():
        cut = found[name][:, 2:-3] if name == "kernel" else found[name]
        np.testing.assert_allclose(value, cut, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("past", [0, 6, N])
@pytest.mark.parametrize("sharpness", [(3, 1), (1, 4)])
def test_a_basis_reads_by_its_curves_wherever_the_past_ends(past: int, sharpness: tuple[int, int]) -> None:
    there, random = case(3, past), np.random.default_rng(past)
    basis = Basis(jnp.array([0.0, 0.3, 0.02, 0.1]), jnp.array([1.0, 7.0]), sharpness)
    writes, reads = (random.normal(size=(size, 4)).astype(np.float32) for size in (N, R))
    visible = there.mask & (np.arange(N) < past + there.seen[:, None])
    age = np.where(visible, there.at[:, None].astype(float) - there.time, 0.0) / DAY
    fade = np.exp(-np.array([0.0, 0.3, 0.02, 0.1]) * age[..., None])
    fade[..., 2:] *= (0.5 + 0.5 * np.cos(2 * np.pi * age[..., None] / [1.0, 7.0])) ** sharpness
    kernel = np.where(visible, np.einsum("rc,nc,rnc->rn", reads, writes, fade), 0.0)
    given = jax.tree.map(jnp.asarray, (writes, there.values, there.item, reads, there.asked))
    ages = readout.ages(*map(jnp.asarray, there[:4]), past=past)

    @jax.jit
    def found(writes: Any, values: Any, item: Any, reads: Any, asked: Any) -> tuple[Any, ...]:
        return (
            readout.kernel(basis, writes, reads, ages),
            readout.read(basis, writes, values, reads, ages),
            readout.read_own(basis, writes, item, reads, asked, ages),
        )

    expected = kernel, kernel @ there.values.astype(float), (kernel * there.same).sum(1)
    for one, other in zip(found(*given), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * (1 + np.abs(kernel).sum(1).max()))


def test_a_gap_of_zero_a_second_and_the_longest_of_all() -> None:
    for gap in (0, 1, 2**31 - 1):
        time, at = jnp.zeros(1, jnp.int32), jnp.array([gap], jnp.int32)
        for past in (0, 1):
            ages = readout.ages(time, jnp.ones(1, bool), at, jnp.array([1], jnp.int32), past=past)
            one = jnp.ones((1, M))
            found = readout.kernel(Modes(jnp.asarray(RATE)), one, one, ages)
            np.testing.assert_allclose(
                found, [[np.exp(-RATE.astype(np.float64) * gap / DAY).sum()]], rtol=1e-6
            )


def test_modes_that_never_fade_count_the_events() -> None:
    at, seen = jnp.full(R, 99, jnp.int32), jnp.arange(R, dtype=jnp.int32)
    ages = readout.ages(jnp.arange(N, dtype=jnp.int32), jnp.ones(N, bool), at, seen, past=6)
    np.testing.assert_array_equal(readout.mass(Modes(jnp.zeros(1)), ages)[:, 0], 6 + np.arange(R))


@oscillating
@pytest.mark.parametrize("past", [0, 6])
def test_slopes_are_finite_and_exactly_zero_towards_padding_and_what_comes_later(
    frequency: Any, past: int
) -> None:
    there = case(5, past)
    mask = np.arange(N) != (0 if past else N - 1)
    there = there._replace(mask=mask, seen=np.arange(R, dtype=np.int32))
    visible = mask & (np.arange(N) < past + there.seen[:, None])
    there = jax.tree.map(jnp.asarray, there._replace(item=np.zeros(N, np.int32), asked=np.zeros(R, np.int32)))

    def own_and_read(rate: Any, writes: Any, values: Any) -> tuple[Any, Any]:
        ages = readout.ages(there.time, there.mask, there.at, there.seen, past=past)
        modes = Modes(rate, None if frequency is None else jnp.asarray(frequency))
        own = readout.read_own(modes, writes, there.item, there.reads, there.asked, ages)
        return readout.read(modes, writes, values, there.reads, ages), own

    slopes = jax.jit(jax.jacrev(own_and_read, (0, 1, 2)))(jnp.asarray(RATE), there.writes, there.values)
    assert all(np.isfinite(slope).all() for slope in jax.tree.leaves(slopes))
    (_, of_writes, of_values), (_, own_writes, _) = slopes
    for slope in (np.abs(of_writes).sum((1, 3)), np.abs(of_values).sum((1, 3)), np.abs(own_writes).sum(2)):
        np.testing.assert_array_equal(slope != 0, visible)
