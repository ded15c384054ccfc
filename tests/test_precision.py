"""What is left of events is added up in float32 on accelerators too, which round the factors of products
unless told not to."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jaxdecay import algebra, chains, clocks, hybrid, readout
from jaxdecay.attention import attend
from jaxdecay.modes import Modes
from jaxdecay.scan import decay_scan

LENGTH, WIDTH, CURVES = 6, 4, 2
TIME = jnp.arange(LENGTH, dtype=jnp.int32) * 86_400
RATE, FREQUENCY = jnp.array([0.1, 0.7]), jnp.array([0.0, 0.9])
MODES = Modes(RATE, FREQUENCY)
WRITES = jnp.ones((LENGTH, CURVES))


def read(values: jax.Array) -> Any:
    ages = readout.ages(TIME, TIME >= 0, TIME[4:], jnp.arange(2), past=4)
    reads = WRITES[4:]
    item = jnp.zeros(LENGTH, jnp.int32)
    return (
        readout.read(MODES, WRITES, values, reads, ages),
        readout.read_own(MODES, values[:, :CURVES], item, reads, item[:2], ages),
        readout.kernel(MODES, values[:, :CURVES], reads, ages),
        readout.mass(MODES, ages) * values.sum(),
    )


def pairs_and_chunks(values: jax.Array) -> Any:
    return [hybrid.read_all(MODES, WRITES, values, WRITES, TIME, chunk=chunk) for chunk in (2, 8)]


def scan(values: jax.Array) -> Any:
    one = values[0, 0]  # so that rates, frequencies and gaps have slopes
    gap = jnp.full(LENGTH, 0.5) * one
    return decay_scan(RATE * one, gap, values, frequency=FREQUENCY * one, backend="associative")


def attention(values: jax.Array) -> Any:
    return attend(values, values, values, lambda age: -0.1 * age, TIME)


def any_kernel(values: jax.Array) -> Any:
    readings = clocks.events(TIME, TIME >= 0, TIME, jnp.arange(LENGTH))
    return hybrid.dual(lambda age: 0.5**age, readings, values)


def chain(values: jax.Array) -> Any:
    kernel = algebra.erlang(0.5, 3) * algebra.raised_cosine(7.0)
    state = chains.write(kernel, chains.init(kernel, WIDTH), values[0])
    return chains.read(kernel, chains.advance(kernel, state, jnp.array(4.0)))


@pytest.mark.parametrize("function", [read, pairs_and_chunks, scan, attention, any_kernel, chain])
def test_every_product_of_values_and_slopes_is_exact(function: Callable[[jax.Array], Any]) -> None:
    def total(values: jax.Array) -> jax.Array:
        return jnp.stack([x.sum() for x in jax.tree.leaves(function(values))]).sum()

    text = jax.jit(jax.value_and_grad(total)).lower(jnp.ones((LENGTH, WIDTH))).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products
    assert [line for line in products if "precision = [HIGHEST, HIGHEST]" not in line] == []
