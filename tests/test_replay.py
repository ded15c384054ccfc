"""What is trained on again: all that is new, so much of what is known, and nothing that judges."""

import numpy as np
import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from jaxdecay.data.histories import LIVE, Histories
from jaxdecay.data.replay import parts
from jaxdecay.errors import InputError


def log(share: float, seed: int) -> Histories:
    """Of a log of many users, some of it new."""
    random = np.random.default_rng(seed)
    histories = toys.log(tuple(random.integers(1, 60, 20).tolist()), seed=seed)
    part = np.where(random.random(histories.events) < share, LIVE, 0)
    weight = random.choice([1.0, -1.0], histories.events, p=[0.9, 0.1])
    return histories.replace(part=part.astype(np.int8), weight=weight.astype(np.float32))


@given(st.floats(0.0, 3.0), st.integers(0, 50))
def test_everything_new_and_so_much_of_what_is_known(replay: float, seed: int) -> None:
    histories = log(0.2, seed)
    cut = int(np.quantile(histories.time, 0.8))
    new, early = histories.part != 0, histories.time < cut
    found = parts(histories, cut, replay=replay, seed=seed)
    assert (found[new & early] == 0).all()
    assert set(found[new & ~early]) == {1, 2}
    assert (found[~new & ~early] == LIVE).all()  # it was trained on: it can neither judge nor be new
    again = ~new & early & (found == 0)
    wanted = replay * (new & early & histories.chosen).sum()
    there = (~new & early & histories.chosen).sum()
    number = (again & histories.chosen).sum()
    assert min(wanted, there) <= number <= wanted + 16
    users = histories.user()
    choosing, judging = (set(users[found == part]) for part in (1, 2))
    assert not choosing & judging
    assert len(choosing) <= len(judging)
    assert np.array_equal(found, parts(histories, cut, replay=replay, seed=seed))


def test_every_known_event_is_as_likely() -> None:
    """Whoever's, and from when: within five standard errors."""
    lengths = np.array([200, 40, 16, 90, 30])
    user, time = np.repeat(np.arange(5), lengths), np.concatenate([np.arange(one) for one in lengths])
    left = np.repeat(lengths, lengths) - time
    part = np.where(left > 2, 0, LIVE)  # of each the last is held out, and the one before it is new
    time = np.where(left == 1, 1000, time)
    histories = Histories.from_arrays(user, time % 7, time, part=part)
    draws = [parts(histories, 1000, replay=30.0, seed=seed)[part == 0] == 0 for seed in range(600)]
    share = np.mean(draws)
    assert 0.3 < share < 0.6
    assert (abs(np.mean(draws, axis=0) - share) < 5 * np.sqrt(share * (1 - share) / 600)).all()


def test_too_little_is_told() -> None:
    histories = log(0.2, 0)
    with pytest.raises(InputError, match="nothing new happened before the held-out time: wait for more"):
        parts(histories, int(histories.time.min()), replay=1.0, seed=0)
    with pytest.raises(InputError, match="0 users took anything new in the held-out time"):
        parts(histories, int(histories.time.max()) + 1, replay=1.0, seed=0)
