r"""Exposure: what share of the attention that a list gets falls on a group of items, and bounds on it.

The item in place t gets the attention $v_t = 1 / \log_2(1 + t)$; the exposure of a group in a list of n
places is $\sum_{t \in G} v_t / \sum_{t \le n} v_t$. Attention is counted in whole millionths of that of the
first place, so that sums are exact, and a bound is met or it is not.

**Within each list** (`completions`). A list is filled from the first place on; before each place it must be
known whether a choice leaves the bounds within reach. Let $F_{t,j}$ be the set of exposures that the places
before t may have given the group, so that j of the places from t on can still bring it within the bounds:

$$ F_{n,0} = [\text{low}, \text{high}], \qquad F_{t,j} = F_{t+1,j} \cup (F_{t+1,j-1} - v_t), $$

since place t goes either to another item or to one of the group. A choice at t is allowed exactly if what it
leads to lies in $F_{t+1,j}$ for some j that the candidates left can fill. Hence a list that keeps to allowed
choices meets the bounds, every list that meets them consists of allowed choices, and taking the best allowed
item at each place gives the one that is best in its first place, then in its second, and so on. Each F is a
union of intervals, as long as the bounds are apart or longer: disjoint ones are few.

**Over all lists** (`bonus`). The same bonus $\beta$ on the logits of the group in every list, the smallest
with which the bound is met. A list ordered by $s_i + \beta [i \in G]$ has the greatest $\sum_t v_t s_{(t)} +
\beta \sum_{t \in G} v_t$ of all (rearrangement inequality), so that no other lists have at least that
exposure with a greater sum of discounted logits. A greater bonus never lowers the exposure.

References:
    Singh, Joachims: Fairness of exposure in rankings, KDD 2018.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

_UNIT = 1_000_000
_FAR = 2**30  # beyond all sums
_STEPS = 60  # of bisection: a bonus to the last digit of float32

Interval = tuple[int, int]


def attention(places: int) -> np.ndarray:
    """(n,) int32 of the places of a list, in millionths of that of the first."""
    return np.rint(_UNIT / np.log2(2.0 + np.arange(places))).astype(np.int32)


def share(chosen: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """(R,) the group's share of the exposure of each list; NaN for an empty list.

    ``chosen``: (R, k) bool, whether the item in each place is of the group. ``listed``: (R, k) bool, whether
    there is one; places left empty stand at the end.
    """
    weight = attention(chosen.shape[1]).astype(np.int64)
    whole = np.where(listed, weight, 0).sum(axis=1)
    own = np.where(chosen & listed, weight, 0).sum(axis=1)
    return np.where(whole > 0, own / np.maximum(whole, 1), np.nan)


class Reach(NamedTuple):
    """Which exposures can still be brought within the bounds: the sets $F_{t,j}$ of a list of n places, each
    a union of m intervals (empty ones fill up)."""

    low: Int[Any, "n1 n1 m"]
    high: Int[Any, "n1 n1 m"]
    weight: Int[Any, " n"]
    """The attention of each place."""


@functools.lru_cache(maxsize=256)
def completions(places: int, least: float, most: float) -> Reach:
    """What a list of so many places can still become, with a share of the exposure from ``least`` to
    ``most``. The sets may be empty: `nearest` says what can be had instead."""
    weight = attention(places)
    sets = _sets(weight, _bounds(weight, least, most))
    size = max(1, max(len(one) for row in sets for one in row))
    shape = (places + 1, places + 1, size)
    low, high = np.full(shape, _FAR, np.int32), np.full(shape, -_FAR, np.int32)
    for place, row in enumerate(sets):
        for number, intervals in enumerate(row):
            for index, (start, end) in enumerate(intervals):
                low[place, number, index], high[place, number, index] = start, end
    return Reach(low, high, weight)


def _bounds(weight: np.ndarray, least: float, most: float) -> Interval:
    """In units of attention; a side without a bound lies beyond all sums, so that intervals merge."""
    whole = int(weight.sum())
    low = int(np.ceil(least * whole)) if least > 0 else -_FAR
    return low, int(np.floor(most * whole)) if most < 1 else _FAR


def _sets(weight: np.ndarray, bounds: Interval) -> list[list[list[Interval]]]:
    """F by place and number of places to come that are the group's."""
    places = len(weight)
    sets: list[list[list[Interval]]] = [[[] for _ in range(places + 1)] for _ in range(places + 1)]
    sets[places][0] = [bounds] if bounds[0] <= bounds[1] else []
    for place in reversed(range(places)):
        own = int(weight[place])
        for number in range(places - place + 1):
            moved = [(low - own, high - own) for low, high in sets[place + 1][number - 1]] if number else []
            sets[place][number] = _union(sets[place + 1][number] + moved)
    return sets


def _union(intervals: Sequence[Interval]) -> list[Interval]:
    """Of whole numbers, the fewest that hold the same."""
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return merged


def feasible(reach: Reach, others: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(R,) whether lists of n places can meet the bounds with so many other candidates, and so many of the
    group, (R,) each."""
    number = np.arange(reach.low.shape[1])
    possible = ((reach.low[0] <= 0) & (reach.high[0] >= 0)).any(axis=1)
    enough = (number <= own[:, None]) & (len(reach.weight) - number <= others[:, None])
    return (possible & enough).any(axis=1)


def nearest(places: int, least: float, most: float, others: int, own: int) -> float:
    """The bound to ask for instead of one that cannot be met: the nearest that can, to a hundredth of a
    percent (where it is both together that cannot, in steps of a percent)."""
    weight = attention(places)
    counts = max(0, places - others), min(own, places)
    top = weight[: counts[1]].sum() / weight.sum()
    bottom = weight[places - counts[0] :].sum() / weight.sum()
    if top < least:
        return math.floor(top * 1e4) / 1e4
    if bottom > most:
        return math.ceil(bottom * 1e4) / 1e4

    def within(low: float, high: float) -> bool:
        return bool(feasible(completions(places, low, high), np.array([others]), np.array([own]))[0])

    low, high = least, most
    while not (within(low, most) or within(least, high)):
        low, high = max(low - 0.01, 0.0), min(high + 0.01, 1.0)
    return math.floor(low * 1e4) / 1e4 if within(low, most) else math.ceil(high * 1e4) / 1e4


def bonus(scores: np.ndarray, chosen: np.ndarray, k: int, least: float, most: float) -> tuple[float, float]:
    """The smallest bonus (in logits, negative for a malus) on the group in all lists that brings its share of
    the exposure of all together within the bounds, and that share, which lies outside them where no bonus
    does; NaN where all lists are empty.

    ``scores``: (R, P) of candidates, best first, -inf for none: at least the first k of the group and the
    first k of the others. ``chosen``: (R, P) bool.
    """
    return _bonuses(scores, chosen, k, least, most)[1:]


def together(
    scores: np.ndarray, chosen: np.ndarray, k: int, least: float, most: float
) -> tuple[np.ndarray, float]:
    """(R, k) places among the candidates, of lists that keep to the bounds together by the bonus; and their
    share. Arguments and share as in `bonus`.

    Lists that are alike all change at the same bonus, and may jump from one side of the bounds to the other.
    Then they change one after the other and, within a list, two neighbours after the other: at that bonus all
    these orders are worth the same. Only where one exchange of neighbours leaps over both bounds, or the
    group has too few candidates, are they not met.
    """
    near, far, found = _bonuses(scores, chosen, k, least, most)
    order, there = _order(scores, chosen, far), np.isfinite(scores)
    low, high, whole = _limits(there, k, least, most)
    if not whole or low <= found * whole <= high:
        return order[:, :k], found
    weight, before = _attention(scores, k), _order(scores, chosen, near)

    def exposed(places: np.ndarray, row: slice) -> np.ndarray:
        return np.take_along_axis((chosen & there)[row], places, axis=1) @ weight

    change = exposed(order, slice(None)) - exposed(before, slice(None))
    reached = exposed(before, slice(None)).sum() + np.cumsum(change)
    crossed = reached >= low if change.sum() > 0 else reached <= high
    if not crossed.any():
        return order[:, :k], found
    last = int(np.argmax(crossed))  # the list that brings it past the first bound
    order[last + 1 :] = before[last + 1 :]
    others = reached[last] - exposed(order[last : last + 1], slice(last, last + 1))[0]
    for places in _exchanges(before[last], order[last]):
        total = others + exposed(places[None], slice(last, last + 1))[0]
        if low <= total <= high:
            order[last] = places
            return order[:, :k], float(total / whole)
    return order[:, :k], float(reached[last] / whole)


def _exchanges(before: np.ndarray, after: np.ndarray) -> Iterator[np.ndarray]:
    """Every order on the way from one to the other by exchanges of neighbours."""
    order = before.tolist()
    for place, wanted in enumerate(after.tolist()):
        for here in range(order.index(wanted), place, -1):
            order[here - 1], order[here] = order[here], order[here - 1]
            yield np.array(order)


def _bonuses(
    scores: np.ndarray, chosen: np.ndarray, k: int, least: float, most: float
) -> tuple[float, float, float]:
    """A bonus with which the first bound is just not met, one with which it just is, and the share then."""
    there, weight = np.isfinite(scores), _attention(scores, k)
    low, high, whole = _limits(there, k, least, most)
    if not whole:
        return 0.0, 0.0, math.nan

    def exposed(value: float) -> int:
        listed = np.take_along_axis(chosen & there, _order(scores, chosen, value), axis=1)
        return int((listed * weight).sum())

    plain = exposed(0.0)
    if low <= plain <= high:
        return 0.0, 0.0, plain / whole
    sign = 1.0 if plain < low else -1.0
    near, far = 0.0, float(np.ptp(scores[there])) + 1.0
    for _ in range(_STEPS):
        middle = (near + far) / 2
        enough = exposed(sign * middle) >= low if sign > 0 else exposed(sign * middle) <= high
        near, far = (near, middle) if enough else (middle, far)
    return sign * near, sign * far, exposed(sign * far) / whole


def _attention(scores: np.ndarray, k: int) -> np.ndarray:
    """(P,) int64 of the places of lists of k."""
    weight = attention(scores.shape[1]).astype(np.int64)
    weight[k:] = 0
    return weight


def _limits(there: np.ndarray, k: int, least: float, most: float) -> tuple[float, float, int]:
    """The bounds on the attention that the group gets in all lists, and what there is of it."""
    listed = np.arange(there.shape[1]) < there.sum(axis=1)[:, None]
    whole = int(np.where(listed, _attention(there, k), 0).sum())
    return least * whole, most * whole, whole


def _order(scores: np.ndarray, chosen: np.ndarray, value: float) -> np.ndarray:
    """(R, P) places with the bonus on the group, in float64."""
    promoted = np.where(chosen, scores.astype(np.float64) + value, scores)
    return np.argsort(-promoted, axis=1, kind="stable")
