"""Three small worlds in which it is plain what comes next."""

import numpy as np

from jaxdecay.data.histories import Histories

DAY = 86_400
USERS, ITEMS, LENGTH = 40, 12, 14


def log_of(item: np.ndarray, time: np.ndarray, **config) -> Histories:
    """(U, L) items and times; each user's last two events validate and test under a global-time split."""
    users, length = item.shape
    part = np.tile(np.repeat([0, 1, 2], [length - 2, 1, 1]), users)
    return Histories.from_arrays(
        np.repeat(np.arange(users), length), item.ravel(), time.ravel(), items=ITEMS, part=part,
        config={"split": {"kind": "global-time", "targets": "successive"}, "repeat_share": 0.5} | config,
    )  # fmt: skip


def times(random: np.random.Generator) -> np.ndarray:
    """(U, L) seconds: training on days 0-60, validation on day 61, test on day 62."""
    train = np.sort(random.integers(0, 60 * DAY, (USERS, LENGTH - 2)), axis=1)
    held_out = np.array([61, 62]) * DAY + random.integers(0, DAY, (USERS, 2))
    return np.concatenate([train, held_out], axis=1)


def popular_world() -> Histories:
    """Everybody takes item 5 most of the time, and then."""
    random = np.random.default_rng(0)
    item = np.where(random.random((USERS, LENGTH)) < 0.6, 5, random.integers(0, ITEMS, (USERS, LENGTH)))
    item[:, -2:] = 5
    return log_of(item, times(random))


def faithful_world() -> Histories:
    """Each user has a favourite and returns to it."""
    random = np.random.default_rng(1)
    favourite = np.arange(USERS)[:, None] % ITEMS
    item = np.where(
        random.random((USERS, LENGTH)) < 0.6, favourite, random.integers(0, ITEMS, (USERS, LENGTH))
    )
    item[:, -3:] = favourite
    return log_of(item, times(random))


def divided_world() -> Histories:
    """Users of two tastes take all items of theirs, once each, but one; the test is that one. History is
    removed.
    """
    random = np.random.default_rng(2)
    item = np.empty((USERS, 6), np.int64)
    for user in range(USERS):
        item[user] = (user % 2) * 6 + random.permutation(6)
    return log_of(item, times(random)[:, -6:] + np.arange(6), repeat_share=0.0)
