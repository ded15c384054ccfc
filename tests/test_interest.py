"""The bank: who writes and reads how, and that the average is what a stranger gets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import readout
from jaxdecay.errors import InputError
from jaxdecay.interest import Bank

BANK = Bank((0.5, 9.0), (1.0, 7.0), (1, 3), groups=3, items=4, behaviours=2, users=3, adaptive=True)
NOBODY = jnp.zeros(1, jnp.int32)
DAY = 86_400


def params(bank: Bank, *, random: bool = True) -> Any:
    """Parameters of a bank, moved away from where they start."""
    given = toys.moved(bank, Bank.write_weights, NOBODY, NOBODY, NOBODY)
    return given if random else toys.start(bank, Bank.write_weights, NOBODY, NOBODY, NOBODY)


def writes(bank: Bank, p: Any, item: int, group: int, behaviour: int) -> np.ndarray:
    where = (jnp.array([index], jnp.int32) for index in (item, group, behaviour))
    return np.asarray(toys.call(bank, Bank.write_weights, p, *where))[0]


def ages(seen: int = 2) -> readout.Ages:
    """Two requests that see the one past event and ``seen`` of the three after it."""
    time = jnp.array([0, DAY, 5 * DAY, 9 * DAY], jnp.int32)
    at = jnp.array([10 * DAY, 40 * DAY], jnp.int32)
    return readout.ages(time, jnp.ones(4, bool), at, jnp.full(2, seen, jnp.int32), past=1)


def reads(bank: Bank, p: Any, user: int, seen: int = 2) -> np.ndarray:
    return np.asarray(toys.call(bank, Bank.read_weights, p, jnp.array(user, jnp.int32), ages(seen)))


def softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(np.asarray(logits, np.float64))
    return grown / grown.sum(-1, keepdims=True)


def test_write_weights_are_the_softmax_of_all_levels_added_up() -> None:
    p = params(BANK)
    logits = p["write"] + p["group_write"][2] + p["item_write"][3] + p["behaviour_write"][1]
    np.testing.assert_allclose(writes(BANK, p, 3, 2, 1), softmax(logits), rtol=1e-5)


def test_a_new_item_writes_like_the_average_of_its_group() -> None:
    p = params(BANK)
    expected = softmax(p["write"] + p["group_write"][1] + p["behaviour_write"][0])
    for new in (4, 5, 1000):
        np.testing.assert_allclose(writes(BANK, p, new, 1, 0), expected, rtol=1e-5)


def test_a_new_user_reads_like_the_average() -> None:
    steady = BANK.clone(adaptive=False)
    p = params(steady)
    np.testing.assert_allclose(reads(steady, p, 3), np.ones((2, 5)), rtol=1e-6)
    deviation = p["user_read"][1]
    np.testing.assert_allclose(reads(steady, p, 1), [5 * softmax(deviation)] * 2, rtol=1e-5)


def test_adaptive_reads_follow_how_full_the_modes_are() -> None:
    p = params(BANK)
    age = np.array([[10.0, 9.0, 5.0], [40.0, 39.0, 35.0]])  # of the events that are seen, at both requests
    half_life = np.exp(np.asarray(p["log_half_life"], np.float64))
    mass = np.stack([np.full(2, 3.0), *((2 ** (-age / h)).sum(1) for h in half_life)], axis=1)
    # a rhythm's plain mode, its envelope, is how full it is
    envelope = np.exp(np.asarray(p["log_envelope"], np.float64))
    mass = np.concatenate([mass, np.stack([(2 ** (-age / h)).sum(1) for h in envelope], axis=1)], axis=1)
    logits = np.asarray(p["user_read"][0]) + np.log1p(mass) @ np.asarray(p["state_read"], np.float64)
    np.testing.assert_allclose(reads(BANK, p, 0), 5 * softmax(logits), rtol=1e-4)


def test_adaptive_reads_do_not_move_with_what_comes_later() -> None:
    p = params(BANK)
    assert not np.allclose(reads(BANK, p, 0, seen=3), reads(BANK, p, 0, seen=2))
    before = reads(BANK, p, 0)
    later = ages()._replace(near=ages().near.at[:, 2].set(3 * 86_400))
    after = toys.call(BANK, Bank.read_weights, p, jnp.array(0, jnp.int32), later)
    assert np.array_equal(before, after)


def test_learning_starts_from_the_half_lives_and_periods_given() -> None:
    modes = toys.call(BANK, Bank.basis, params(BANK, random=False)).modes()
    half_lives = np.log(2) / np.asarray(modes.rate)[1:3]
    np.testing.assert_allclose(half_lives, [0.5, 9.0], rtol=1e-5)
    assert modes.rate[0] == 0
    waves = [1.0, 7.0, 7.0 / 2, 7.0 / 3]  # the weekly one has three harmonics
    np.testing.assert_allclose(2 * np.pi / np.asarray(modes.frequency), waves, rtol=1e-5)
    assert len(modes.rate) == 1 + 2 + 2 + 4  # the others do not oscillate


@pytest.mark.parametrize("wild", [-1e4, 1e4])
def test_half_lives_stay_between_a_second_and_ten_thousand_years(wild: float) -> None:
    p = params(BANK, random=False)
    p["log_half_life"] = jnp.full(2, wild)
    rate = np.asarray(toys.call(BANK, Bank.basis, p).rate)[1:3]
    expected = np.log(2) / (1 / DAY if wild < 0 else 3.65e6)
    np.testing.assert_allclose(rate, expected, rtol=1e-4)


def test_a_bank_without_levels_has_only_what_it_needs() -> None:
    simple = Bank((2.0,))
    p = params(simple, random=False)
    assert set(p) == {"log_half_life", "write"}
    np.testing.assert_allclose(writes(simple, p, 9, 9, 9), [0.5, 0.5])
    np.testing.assert_allclose(reads(simple, p, 9), np.ones((2, 2)))


def test_a_bank_with_another_number_of_sharpnesses_is_refused() -> None:
    with pytest.raises(InputError, match="2 periods, 1 sharpness: give as many"):
        params(Bank((0.5,), (1.0, 7.0), (4,)))


def test_weights_and_curves_give_the_kernel_of_user_and_event() -> None:
    p = params(BANK)
    write, read = writes(BANK, p, 0, 1, 1), reads(BANK, p, 2)
    basis = toys.call(BANK, Bank.basis, p)
    found = readout.kernel(basis, jnp.tile(jnp.asarray(write)[None], (4, 1)), jnp.asarray(read), ages())
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), p)
    periods = np.array([1.0, 7.0]) * np.exp(p["period_shift"] / 30)
    for r, at in enumerate((10, 40)):
        for j, when in enumerate((0, 1, 5)):
            age = at - when
            curves = [1.0, *2 ** (-age / np.exp(p["log_half_life"]))]
            envelope = 2 ** (-age / np.exp(p["log_envelope"]))
            curves = np.array([*curves, *envelope * ((1 + np.cos(2 * np.pi * age / periods)) / 2) ** (1, 3)])
            np.testing.assert_allclose(found[r, j], (read[r] * write * curves).sum(), rtol=1e-4)
        assert found[r, 3] == 0  # not seen
