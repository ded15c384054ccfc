"""Chains: what streams is the kernel itself, whatever its phases and degrees, on every clock."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecay import algebra, chains, clocks, state
from jaxdecay.errors import InputError

KERNELS = {
    "exponential": algebra.exponential(5.0),
    "bank": algebra.bank(jnp.array([1.0, 30.0]), jnp.array([0.4, 0.6]), 0.1),
    "rhythm with a phase": algebra.damped_cosine(30.0, 7.0, 0.6, 0.5),
    "bump": algebra.erlang(0.3, 4),
    "oscillating bump": algebra.erlang(0.3, 3) * algebra.damped_cosine(20.0, 5.0, 0.4, 1.0),
    "echo": algebra.exponential(4.0).convolve(algebra.raised_cosine(3.0)),
}
TIME = jnp.array([0, 0, 3, 3, 9, 26, 27, 60], jnp.int32) * 40_000
AT = jnp.array([12, 20, 61, 90], jnp.int32) * 40_000
SEEN = jnp.array([5, 5, 8, 8], jnp.int32)


@pytest.mark.parametrize("clock", [clocks.wall, clocks.events, clocks.sessions])
@pytest.mark.parametrize("name", KERNELS)
def test_a_chain_reads_the_sum_of_the_kernel_over_all_events(name: str, clock: Any) -> None:
    kernel = KERNELS[name]
    options = {"gap": 100_000} if clock is clocks.sessions else {}
    readings = clock(TIME, jnp.ones(8, bool), AT, SEEN, **options)
    values = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32)
    left = jnp.where(readings.visible, kernel(clocks.ages_on(readings)), 0.0)
    expected = left @ values
    gaps = clocks.gaps_on(readings)

    @jax.jit
    def streamed(kernel: Any) -> Any:
        now, states = chains.init(kernel, 2), []
        for gap, value in zip(gaps, values, strict=True):
            now = chains.write(kernel, chains.advance(kernel, now, gap), value)
            states.append(now)
        since = (readings.request - readings.event[SEEN - 1]) / readings.per
        asked = (
            chains.advance(kernel, states[s - 1], gap) for s, gap in zip(SEEN.tolist(), since, strict=True)
        )
        return jnp.stack([chains.read(kernel, one) for one in asked])

    np.testing.assert_allclose(streamed(kernel), expected, atol=2e-5 * float(jnp.abs(expected).max()))


def test_chains_are_merged_by_adding_and_forget_by_writing_a_minus() -> None:
    kernel, one, two = KERNELS["oscillating bump"], jnp.array([1.0]), jnp.array([-3.0])
    first = chains.write(kernel, chains.init(kernel, 1), one)
    second = chains.write(kernel, chains.init(kernel, 1), two)
    both = chains.advance(kernel, chains.write(kernel, first, two), jnp.array(2.5))
    apart = [chains.advance(kernel, each, jnp.array(2.5)) for each in (first, second)]
    np.testing.assert_allclose(apart[0] + apart[1], both, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(both - apart[1], apart[0], rtol=1e-5, atol=1e-6)


def test_a_kernel_without_phase_or_degree_streams_by_its_modes() -> None:
    kernel = algebra.exponential(5.0) * algebra.raised_cosine(3.0)
    modes, weights = kernel.modes()
    now = state.update(modes, state.init(modes, 1), jnp.int32(0), weights, jnp.ones(1))
    found = state.read(modes, now, jnp.int32(4 * 86_400), jnp.ones_like(weights))
    np.testing.assert_allclose(found[0], kernel(4.0), rtol=1e-5)
    for other in ("rhythm with a phase", "bump"):
        with pytest.raises(InputError, match=r"phase or a degree; stream it by jaxdecay\.chains"):
            KERNELS[other].modes()


@pytest.mark.parametrize("name", KERNELS)
def test_slopes_are_finite_at_any_age(name: str) -> None:
    ages = jnp.array([-7000.0, 0.0, 1e-6, 11_000.0, jnp.inf])
    values, pull = jax.vjp(lambda kernel: kernel(ages), KERNELS[name])
    [slopes] = pull(jnp.ones_like(values))
    assert all(np.isfinite(x).all() for x in (values, *jax.tree.leaves(slopes)))
    assert np.isfinite(jax.vmap(jax.grad(KERNELS[name]))(ages)).all()
    assert values[0] == values[1]
