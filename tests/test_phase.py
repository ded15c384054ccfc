"""The angle of an oscillation: exact at any age, with a slope."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxdecay import state, state_numpy
from jaxdecay.hybrid import read_all
from jaxdecay.modes import Modes
from jaxdecay.phase import angle

at_once = jax.jit(angle)


@given(
    frequency=st.lists(st.floats(0, 150, width=32), min_size=3, max_size=3),
    seconds=st.lists(st.integers(0, 2**31 - 1), min_size=4, max_size=4),
)
def test_it_is_the_product_modulo_whole_turns(frequency: list[float], seconds: list[int]) -> None:
    found = at_once(jnp.array(frequency, jnp.float32), jnp.array(seconds, jnp.int32))
    exact = np.array(frequency, np.float32).astype(np.float64)[None] * (np.array(seconds)[:, None] / 86_400)
    off = (np.asarray(found, np.float64) - exact + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(off).max() < 1e-6 + 1e-7 * max(frequency)  # the rest of a day is a float


def test_its_slope_is_the_age_in_days() -> None:
    seconds = jnp.array([0, 86_400, 1_000_000_000], jnp.int32)
    slope = jax.jacrev(lambda frequency: at_once(frequency, seconds)[:, 0])(jnp.array([6.28]))
    np.testing.assert_allclose(slope[:, 0], np.asarray(seconds) / 86_400, rtol=1e-6)


def test_a_daily_rhythm_over_years_agrees_in_every_form() -> None:
    """Pair by pair, by chunks and streaming in JAX and NumPy are a float64 double loop to a millionth."""
    random, length = np.random.default_rng(0), 120
    modes = Modes(jnp.log(2.0) / jnp.array([365.0, 30.0, 365.0]), 2 * jnp.pi / jnp.array([1.0, 7.0, np.inf]))
    time = np.sort(random.integers(0, 3 * 365 * 86_400, length)).astype(np.int32)
    writes, reads = (random.random((length, 3), dtype=np.float32) for _ in range(2))
    values = random.standard_normal((length, 2), dtype=np.float32)
    rate, frequency = (np.asarray(x, np.float64) for x in modes)
    age = np.tril((time[:, None].astype(np.int64) - time) / 86_400)[..., None]
    kernel = np.tril((reads[:, None] * writes * np.exp(-rate * age) * np.cos(frequency * age)).sum(-1))
    expected = kernel @ values.astype(np.float64)
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-6 * np.abs(expected).max()}
    given = tuple(map(jnp.asarray, (writes, values, reads, time)))
    for chunk in (16, length):
        found = jax.jit(read_all, static_argnames="chunk")(modes, *given, chunk=chunk)
        np.testing.assert_allclose(found, expected, **close)

    def step(now: Any, event: Any) -> Any:
        at, writes, values, reads = event
        now = state.update(modes, now, at, writes, values)
        return now, state.read(modes, now, at, reads)

    order = (given[3], given[0], given[1], given[2])
    streamed = jax.jit(lambda: jax.lax.scan(step, state.init(modes, 2), order)[1])()
    np.testing.assert_allclose(streamed, expected, **close)
    plain: Any = tuple(np.asarray(x) for x in modes)
    now = state_numpy.init(plain, 2)
    for i in range(length):
        now = state_numpy.update(plain, now, time[i], writes[i], values[i])
        np.testing.assert_allclose(state_numpy.read(plain, now, time[i], reads[i]), expected[i], **close)
