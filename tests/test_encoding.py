"""An encoder's step in NumPy is its step in JAX, which is its row of a whole history (test_encoders)."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.errors import InputError
from jaxdecay.live.compiled import Compiled, encoding_of
from jaxdecay.live.encoding import Encoder
from jaxdecay.predict import Predictor

WIDTH = 12


def system(kind: str, **shape: Any) -> Predictor:
    histories = toys.log((8, 8))
    spec: Any = toys.spec(histories, features=WIDTH, adaptive=False)
    heads = {"half_lives": (1.0, float("inf")), "steps": (4.0,), "span": 3}
    encoder = dataclasses.replace(spec.encoder, kind=kind, blocks=2, **(heads | shape))
    made = toys.pieces(histories, dataclasses.replace(spec, encoder=encoder), window=8, batch_targets=16)
    return predictor(made, toys.random_params(made, scale=0.1))


def same(one: Any, two: Any) -> None:
    """To a millionth of their size: either is rounded to float32 at every step."""

    def check(found: Any, expected: Any) -> None:
        np.testing.assert_allclose(found, expected, atol=1e-6 * max(1.0, float(np.abs(expected).max())))
        assert found.dtype == expected.dtype

    jax.tree.map(check, one, two)


@pytest.mark.parametrize("kind", ["mlp", "cnn", "gru", "lstm", "bank"])
def test_a_step_in_numpy_is_the_step_in_jax(kind: str) -> None:
    model, random = system(kind), np.random.default_rng(1)
    one, two = encoding_of(model), Compiled(model)
    assert isinstance(one, Encoder)
    jax.tree.map(np.testing.assert_array_equal, one.params, two.params)
    np.testing.assert_array_equal(one.last, two.last)
    found, expected, at = one.start(), two.start(), 0
    for row in range(40):
        at += int(random.choice([0, 1, 3_600, 20 * toys.DAY]))
        told = random.normal(size=WIDTH).astype(np.float32), int(random.integers(2)), at
        found, encoded = one.step(found, *told, counts=row % 5 != 3)
        expected, again = two.step(expected, *told, counts=row % 5 != 3)
        same((found, encoded), (expected, again))
        same(one.finish(encoded), two.finish(encoded))


def test_an_event_changes_nothing_in_place() -> None:
    encoding = encoding_of(system("bank"))
    carry, _ = encoding.step(encoding.start(), np.ones(WIDTH, np.float32), 0, 5, counts=True)
    kept = jax.tree.map(np.copy, carry)
    encoding.step(carry, np.ones(WIDTH, np.float32), 1, 9, counts=True)
    jax.tree.map(np.testing.assert_array_equal, carry, kept)
    assert not any(leaf.any() for leaf in jax.tree.leaves(encoding.start()))


def test_what_numpy_has_no_face_of_stays_in_jax() -> None:
    shape = {"heads": 2, "context": 3, "bias": "position"}
    assert isinstance(encoding_of(system("transformer", **shape)), Compiled)
    with pytest.raises(InputError, match="hstu does not stream"):
        encoding_of(system("hstu", heads=2))
