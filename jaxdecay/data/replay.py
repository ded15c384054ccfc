"""Which events a trained run is trained on again: what is new to it, and some of what it knows, lest it
forget that.

NumPy only.
"""

import numpy as np

from jaxdecay.data.histories import LIVE, Histories
from jaxdecay.errors import InputError

_BLOCK = 16  # events of a user that are drawn together: neighbours are asked for in one window
_CHOOSES = 0.25  # of the users of the held-out time, by whom the epoch is chosen; the others judge


def parts(histories: Histories, cut: int, *, replay: float, seed: int) -> np.ndarray:
    """(E,) int8 parts to train a run on with. In ``histories`` the part is 0 for events that the run has been
    trained on, and anything else for those it has not.

    Those it has not are trained on (0) if they lie before ``cut`` (seconds). Later ones are held out: a
    quarter of the users, drawn by ``seed``, are to choose the epoch (1), the others to judge (2). Of those it
    has, about ``replay`` times as many as are new are drawn to be trained on again, in blocks of 16
    successive events of a user, each block as likely as any other. All else is seen in histories and counted
    for popularity (3).

    Raises InputError where nothing is new before the cut, or fewer than two users took anything after it.
    """
    time, old = np.asarray(histories.time), np.asarray(histories.part) == 0
    fresh, held = ~old & (time < cut), ~old & (time >= cut)
    number = int((fresh & histories.chosen).sum())
    if not number:
        raise InputError("nothing new happened before the held-out time: wait for more, or hold out less")
    random, user = np.random.default_rng(seed), histories.user()
    users = np.unique(user[held & histories.chosen])
    if len(users) < 2:
        raise InputError(
            f"{len(users)} users took anything new in the held-out time, and it takes two: hold out more"
        )
    chosen = random.permutation(users)[: max(1, round(_CHOOSES * len(users)))]
    part = np.full(histories.events, LIVE, np.int8)
    part[held] = np.where(np.isin(user[held], chosen), 1, 2)
    part[fresh] = 0
    part[_drawn(histories, old & (time < cut), replay * number, random)] = 0
    return part


def _drawn(histories: Histories, old: np.ndarray, wanted: float, random: np.random.Generator) -> np.ndarray:
    """Rows of the ``old`` events drawn, ``wanted`` choices among them or a few more, or all."""
    row = np.flatnonzero(old)
    user = histories.user()[row]
    place = np.searchsorted(user, user, side="right") - 1 - np.arange(len(row))  # from the user's last
    _, block = np.unique(np.stack([user, place // _BLOCK]), axis=1, return_inverse=True)
    block = block.ravel()
    sizes = np.bincount(block, histories.chosen[row])
    order = random.permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]
    return row[np.isin(block, order[before < wanted])]
