"""Pools: the best candidates of each list, and how many of them a list can hold.

NumPy only, and the batch axis is explicit, as in `jaxdecay.rank`.
"""

import numpy as np

from jaxdecay.rank import top_k


def candidates(
    scores: np.ndarray, excluded: np.ndarray | None, size: int, k: int, chosen: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(R, P) items and (R, P) scores of the best candidates, best first, -1 for none; and (R,) whether there
    are no others.

    P is ``size``, or all items. With a ``chosen`` group half of them are the group's best, half the others',
    k each at least.
    """
    if chosen is None:
        parts = [(np.arange(scores.shape[1]), size)]
    else:
        parts = [(np.flatnonzero(chosen == of), max(k, -(-size // 2))) for of in (False, True)]
    pools, bests, whole = [], [], np.ones(len(scores), bool)
    for columns, most in parts:
        if not len(columns):
            continue
        inside = scores if chosen is None else scores[:, columns]
        mask = excluded if excluded is None or chosen is None else excluded[:, columns]
        place, best = top_k(inside, min(most, len(columns)), excluded=mask)
        pools.append(np.where(place >= 0, columns[place], -1))
        bests.append(best)
        whole &= (len(columns) <= most) | (place[:, -1] < 0)
    pool, best = np.concatenate(pools, axis=1).astype(np.int32), np.concatenate(bests, axis=1)
    if chosen is not None:
        order = np.lexsort((np.where(pool < 0, scores.shape[1], pool), -best), axis=1)
        pool, best = np.take_along_axis(pool, order, axis=1), np.take_along_axis(best, order, axis=1)
    return pool, best, whole


def fitting(
    pool: np.ndarray, group: np.ndarray | None, cap: int | None, chosen: np.ndarray | None
) -> np.ndarray:
    """(R, 2) how many of the candidates a list can hold with at most ``cap`` of a group: of the others, and
    of the chosen ones."""
    fits = pool >= 0
    if cap is not None and group is not None:
        # Those of no group are each one of their own.
        key = np.where(fits & (group[pool] >= 0), group[pool], -1 - np.arange(pool.shape[1]))
        order = np.argsort(key, axis=1, kind="stable")
        ordered = np.take_along_axis(key, order, axis=1)
        begins = np.diff(ordered, axis=1, prepend=ordered[:, :1] - 1) != 0
        place = np.arange(pool.shape[1])
        number = place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
        np.put_along_axis(number, order, number.copy(), axis=1)
        fits &= number < cap
    own = fits & chosen[pool] if chosen is not None else np.zeros_like(fits)
    return np.stack([(fits & ~own).sum(axis=1), own.sum(axis=1)], axis=1)
