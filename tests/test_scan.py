"""The recurrence: both ways of running it against a double loop, its derivative, and what must not leak."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxdecay import scan
from jaxdecay.errors import InputError

BACKENDS = ("sequential", "associative")
decay_scan = jax.jit(scan.decay_scan, static_argnames="backend")
RATES = np.array([0.7, 0.02], np.float32)
FREQUENCIES = np.array([0.0, 0.9], np.float32)
HOUR = 1 / 24


def inputs(length: int = 9, width: int = 4, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaps of whole hours, a third of them 0, and events."""
    random = np.random.default_rng(seed)
    gap = random.integers(0, 300, length) * HOUR * (random.random(length) > 0.3)
    return gap.astype(np.float32), random.normal(size=(length, width)).astype(np.float32)


def by_hand(gap: Any, events: Any, keep: Any = None, *, turning: bool = False) -> np.ndarray:
    """(L, D) complex128 states, one event after the other."""
    gap, events = np.asarray(gap, np.float64), np.asarray(events, np.float64)
    width = events.shape[1] // len(RATES)
    rate = np.repeat(RATES.astype(np.float64), width) + 0j
    if turning:
        rate -= 1j * np.repeat(FREQUENCIES.astype(np.float64), width)
    state, states = np.zeros(events.shape[1], np.complex128), []
    for t, event in enumerate(events):
        fresh = keep is not None and not keep[t]
        state = (0 if fresh or t == 0 else np.exp(-rate * gap[t]) * state) + event
        states.append(state)
    return np.array(states)


def parts(states: Any, turning: bool) -> np.ndarray:
    states = np.asarray(states)
    return states[:, 0] + 1j * states[:, 1] if turning else states


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("turning", [False, True])
def test_states_are_those_of_a_double_loop(backend: Any, turning: bool) -> None:
    gap, events = inputs(70)
    keep = np.arange(70) % 23 != 0
    found = decay_scan(
        jnp.array(RATES), jnp.array(gap), jnp.array(events), jnp.array(keep),
        frequency=jnp.array(FREQUENCIES) if turning else None, backend=backend,
    )  # fmt: skip
    expected = by_hand(gap, events, keep, turning=turning)
    np.testing.assert_allclose(parts(found, turning), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("turning", [False, True])
def test_slopes_are_those_of_finite_differences(backend: Any, turning: bool) -> None:
    with jax.enable_x64(True):
        gap, events = (jnp.asarray(x, jnp.float64) for x in inputs(7))
        keep = jnp.array([True, True, True, False, True, True, True])
        rate, frequency = jnp.asarray(RATES, jnp.float64), jnp.asarray(FREQUENCIES, jnp.float64)

        def states(*given: Any) -> Any:
            rate, gap, events, frequency = map(jnp.asarray, given)
            return decay_scan(
                rate, gap, events, keep, frequency=frequency if turning else None, backend=backend
            )

        check_grads(
            jax.jit(states), (rate, gap, events, frequency), order=1, modes=["rev"], rtol=1e-5, atol=1e-6
        )
        expected = by_hand(gap, events, np.asarray(keep), turning=turning)
        np.testing.assert_allclose(parts(states(rate, gap, events, frequency), turning), expected, atol=1e-12)


def test_second_order_slopes_are_right_too() -> None:
    with jax.enable_x64(True):
        gap, events = (jnp.asarray(x, jnp.float64) for x in inputs(5))

        def total(rate: Any) -> Any:
            return (decay_scan(jnp.asarray(rate), gap, events) ** 2).sum()

        rate = jnp.asarray(RATES, jnp.float64)
        check_grads(jax.jit(jax.grad(total)), (rate,), order=1, modes=["rev"], rtol=1e-5, atol=1e-6)
        second = jax.grad(lambda rate: jax.grad(total)(rate).sum())
        assert np.isfinite(second(jnp.full(2, np.log(2) * 86_400))).all()  # half-lives of a second


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_leaks_from_one_packed_history_into_the_next(backend: Any) -> None:
    gap, events = (jnp.array(x) for x in inputs(8))
    keep = jnp.arange(8) != 5

    def after(gap: Any, events: Any) -> Any:
        return (decay_scan(jnp.array(RATES), gap, events, keep, backend=backend)[5:] ** 2).sum()

    by_gap, by_events = jax.grad(after, (0, 1))(gap, events)
    assert (by_events[:5] == 0).all()
    assert (by_gap[:6] == 0).all()
    assert (by_events[5:] != 0).all()
    alone = decay_scan(jnp.array(RATES), gap[5:], events[5:], backend=backend)
    packed = decay_scan(jnp.array(RATES), gap, events, keep, backend=backend)[5:]
    np.testing.assert_allclose(packed, alone, rtol=1e-6, atol=1e-7)
    for bad in (jnp.nan, jnp.inf):
        spoilt = events.at[2].set(bad)
        assert (decay_scan(jnp.array(RATES), gap, spoilt, keep, backend=backend)[5:] == packed).all()
        slopes = jax.grad(after, (0, 1))(gap, spoilt)
        for one, two in zip(slopes, (by_gap, by_events), strict=True):
            np.testing.assert_array_equal(one[5:], two[5:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_states_have_the_type_of_the_rates_and_no_event_gives_none(backend: Any) -> None:
    gap, events = (jnp.array(x) for x in inputs(6))
    low = events.astype(jnp.bfloat16)
    found, pull = jax.vjp(lambda events: decay_scan(jnp.array(RATES), gap, events, backend=backend), low)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(
        found, decay_scan(jnp.array(RATES), gap, low.astype(jnp.float32), backend=backend)
    )
    assert pull(found)[0].dtype == jnp.bfloat16
    assert decay_scan(jnp.array(RATES), gap[:0], events[:0], backend=backend).shape == (0, events.shape[1])


def test_later_events_change_nothing_before_them() -> None:
    gap, events = (jnp.array(x) for x in inputs(6))
    slope = jax.grad(lambda events: decay_scan(jnp.array(RATES), gap, events)[:3].sum())(events)
    assert (slope[3:] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_on_either_side_changes_nothing(backend: Any) -> None:
    gap, events = inputs(6)
    alone = decay_scan(jnp.array(RATES), jnp.array(gap), jnp.array(events), backend=backend)
    wide = [np.pad(gap, (3, 2)), np.pad(events, ((3, 2), (0, 0)))]
    wide[0][3] = 77.0  # the gap that leads into the first event: nothing is there to fade
    padded = decay_scan(jnp.array(RATES), *map(jnp.array, wide), backend=backend)
    np.testing.assert_allclose(padded[3:9], alone, rtol=1e-6)


def test_eager_is_compiled() -> None:
    given = (jnp.array(RATES), *map(jnp.array, inputs(6)))
    np.testing.assert_allclose(scan.decay_scan(*given), decay_scan(*given), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_histories_at_once_are_each_of_them(backend: Any) -> None:
    gaps, events = zip(*(inputs(6, seed=seed) for seed in range(3)), strict=True)
    gap, event, rate = jnp.array(gaps), jnp.array(events), jnp.array(RATES)

    def one(gap: Any, events: Any) -> Any:
        return decay_scan(rate, gap, events, backend=backend)

    alone = jnp.stack([one(*each) for each in zip(gap, event, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(one))(gap, event), alone, rtol=2e-6, atol=1e-6)
    time_major = jax.vmap(one, in_axes=1, out_axes=1)(gap.T, event.swapaxes(0, 1))
    np.testing.assert_allclose(time_major.swapaxes(0, 1), alone, rtol=2e-6, atol=1e-6)

    def summed(rate: Any, axis: int) -> Any:
        def one(gap: Any, events: Any) -> Any:
            return decay_scan(rate, gap, events, backend=backend)

        given = (gap, event) if axis == 0 else (gap.T, event.swapaxes(0, 1))
        return (jax.vmap(one, in_axes=axis, out_axes=axis)(*given) ** 2).sum()

    slopes = [jax.grad(summed)(rate, axis) for axis in (0, 1)]
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-5)


@given(
    gaps=st.lists(st.sampled_from([0, 1, 3600, 2**31 - 1]), min_size=1, max_size=6),
    keep=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_ties_seconds_and_a_lifetime_apart(gaps: list[int], keep: list[bool]) -> None:
    padded = np.pad(np.array(gaps, np.float64), (0, 6 - len(gaps))) / 86_400
    events = np.arange(24, dtype=np.float32).reshape(6, 4) - 11
    on = np.array(keep)
    found = decay_scan(jnp.array(RATES), jnp.asarray(padded, jnp.float32), jnp.array(events), jnp.array(on))
    expected = by_hand(padded.astype(np.float32), events, on).real
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-5)


def test_a_rate_of_zero_never_fades_and_a_mode_of_its_own_for_each_dimension() -> None:
    gap, events = (jnp.array(x) for x in inputs(6))
    np.testing.assert_allclose(
        decay_scan(jnp.zeros(1), gap, events), jnp.cumsum(events, 0), rtol=2e-6, atol=1e-6
    )
    each = decay_scan(jnp.repeat(jnp.array(RATES), 2), gap, events)
    np.testing.assert_allclose(each, decay_scan(jnp.array(RATES), gap, events), rtol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    gap, events = (jnp.array(x) for x in inputs(3))
    with pytest.raises(InputError, match=r"rate is \(3,\) for 4 dimensions"):
        decay_scan(jnp.ones(3), gap, events)
    with pytest.raises(InputError, match="backend='fast': give one of sequential, associative"):
        decay_scan(jnp.ones(2), gap, events, backend="fast")  # type: ignore[arg-type]


def test_dtypes_are_kept_under_strict_promotion() -> None:
    gap, events = (jnp.array(x) for x in inputs(3))
    with jax.numpy_dtype_promotion("strict"):
        assert decay_scan(jnp.array(RATES), gap, events).dtype == jnp.float32
        slope = jax.grad(lambda rate: decay_scan(rate, gap, events).sum())(jnp.array(RATES))
    assert slope.dtype == jnp.float32


def test_the_likelihood_of_a_hawkes_process_is_that_of_its_definition() -> None:
    r"""$\sum_i \log \lambda(t_i) - \int_0^T \lambda$ with $\lambda(t) = \mu + \alpha\beta \sum_{t_j<t}
    e^{-\beta(t-t_j)}$ (Hawkes 1971), the sums by the recurrence of Ozaki (1979)."""
    random, (mu, alpha, beta), end = np.random.default_rng(0), (0.5, 0.6, 2.0), 300.0
    time = np.sort(random.uniform(0, end, 200))

    # The intensity is smooth between events: Gauss-Legendre there.
    edges = np.concatenate([[0.0], time, [end]])
    node, weight = np.polynomial.legendre.leggauss(12)
    half = np.diff(edges) / 2
    grid = ((edges[:-1] + half)[:, None] + half[:, None] * node).ravel()

    def by_definition(mu: float, alpha: float, beta: float) -> float:
        def intensity(at: np.ndarray) -> np.ndarray:
            age = at[:, None] - time
            return mu + alpha * beta * np.where(age > 0, np.exp(-beta * np.abs(age)), 0.0).sum(1)

        integral = (intensity(grid) * (half[:, None] * weight).ravel()).sum()
        return float(np.log(intensity(time)).sum() - integral)

    with jax.enable_x64(True):
        given = [jnp.float64(x) for x in (mu, alpha, beta)]
        found, slopes = jax.jit(jax.value_and_grad(hawkes, (0, 1, 2)), static_argnums=4)(
            *given, jnp.asarray(time), end
        )
    assert float(found) == pytest.approx(by_definition(mu, alpha, beta), rel=1e-9)
    for place, slope in enumerate(slopes):
        step = 1e-4 * np.eye(3)[place]
        above, below = (by_definition(*(np.array([mu, alpha, beta]) + sign * step)) for sign in (1, -1))
        assert float(slope) == pytest.approx((above - below) / 2e-4, rel=1e-5)


def test_the_likelihood_of_two_events_is_the_one_worked_out_by_hand() -> None:
    r"""$\ln\mu + \ln(\mu + \alpha\beta e^{-\beta}) - \mu T - \alpha(1-e^{-2\beta}) - \alpha(1-e^{-\beta})$
    for events at 1 and 2, and $T = 3$."""
    given = [jnp.float32(x) for x in (0.5, 0.6, 2.0)]
    assert float(hawkes(given[0], given[1], given[2], jnp.array([1.0, 2.0]), 3.0)) == pytest.approx(
        -3.712838771, rel=1e-6
    )


def hawkes(mu: Any, alpha: Any, beta: Any, time: Any, end: float) -> Any:
    """Log-likelihood of the process, its sums by the recurrence."""
    states = decay_scan(beta[None], jnp.diff(time, prepend=time[:1]), jnp.ones((len(time), 1)))[:, 0]
    intensity = mu + alpha * beta * (states - 1.0)  # an event does not excite itself
    compensator = mu * end + alpha * (1 - jnp.exp(-beta * (end - time))).sum()
    return jnp.log(intensity).sum() - compensator


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_sharded_over_users_with_shared_rates(backend: Any) -> None:
    mesh = jax.make_mesh((2,), ("users",), axis_types=(jax.sharding.AxisType.Auto,))
    users, everywhere = jax.sharding.PartitionSpec("users"), jax.sharding.PartitionSpec()
    gaps, events = (
        jnp.stack(x) for x in zip(*(map(jnp.array, inputs(6, seed=s)) for s in range(2)), strict=True)
    )

    def each(rate: Any, gap: Any, events: Any) -> Any:
        return jax.vmap(lambda g, e: decay_scan(rate, g, e, backend=backend))(gap, events)

    sharded = jax.shard_map(each, mesh=mesh, in_specs=(everywhere, users, users), out_specs=users)

    def total(run: Any) -> Any:
        return jax.jit(jax.value_and_grad(lambda *given: (run(*given) ** 2).sum(), (0, 1, 2)))

    rate = jnp.array(RATES)
    for one, two in zip(
        jax.tree.leaves(total(sharded)(rate, gaps, events)),
        jax.tree.leaves(total(each)(rate, gaps, events)),
        strict=True,
    ):
        np.testing.assert_allclose(one, two, rtol=1e-5)
