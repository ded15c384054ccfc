"""What a detected change is: what rose, what fell, and what that is called.

Interests are named by the values of an item column, or by the items nearest to where they went and came
from.

- emerging: something rises that was not there before;
- returning: something rises that was there once, but was away for longer than what counts as lately (three
  fast half-lives);
- vanishing: something falls, and nothing in particular rises;
- shifting: what rises and what falls were both there all the time, or are of one kind.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay.drift import Drift
from jaxdecay.streams import Streams, means, weights

_DAY = 86_400.0
_MOVED = 0.1  # share of a kind that rises or falls
_PRESENT = 0.05  # share of a kind in one event, from which on it is there
_TOWARDS = 0.5  # cosine with where an interest went, from which on an event points there
_NEAREST = 3
_LATELY = 3.0  # fast half-lives: an eighth of what was then is left
_NAMES = {"change": pl.String, "rising": pl.List(pl.String), "falling": pl.List(pl.String)}


class Change(NamedTuple):
    rising: list[Any]
    """The strongest first."""
    falling: list[Any]
    fell: Any
    """What fell most, be it by little; None: nothing did."""
    own: np.ndarray | None
    """(n,) bool: which of the stream's events up to now are of what rises most; None: nothing rises."""


Namer = Callable[[Drift, Streams, int], Change]
"""What rose and what fell, as of an event."""


def changes(drift: Drift, streams: Streams, namer: Namer) -> pl.DataFrame:
    """The detections with change (what it is called), rising and falling (lists of names). What vanishes has
    a name."""
    rows = []
    for event in drift.detections["event"]:
        found = namer(drift, streams, event)
        called, falling = _called(drift, streams, event, found.own), found.falling
        if called == "vanishing" and not falling:
            called, falling = ("shifting", []) if found.fell is None else (called, [found.fell])
        rows.append((called, [str(one) for one in found.rising], [str(one) for one in falling]))
    return drift.detections.hstack(pl.DataFrame(rows, schema=_NAMES, orient="row"))


def by_kind(share: np.ndarray, names: list[Any]) -> Namer:
    """By kinds of items, as many as ``names``. ``share`` (V,) is the kind of each item, -1 for none; or
    (V, K) what part of it is of each kind."""

    def namer(drift: Drift, streams: Streams, event: int) -> Change:
        rows, left = weights(streams, event, drift.half_lives)
        of = share[np.asarray(streams.item)[rows]]
        if of.ndim == 1:
            of = (of[:, None] == np.arange(len(names))).astype(float)
        fast, slow = (one @ of / max((one @ of).sum(), 1e-12) for one in left)
        rise, fall = np.argsort(slow - fast, kind="stable"), np.argsort(fast - slow, kind="stable")
        # Together: many kinds may each fall by little.
        fell = names[fall[0]] if np.maximum(slow - fast, 0).sum() >= _MOVED else None
        rise, fall = rise[: (fast - slow >= _MOVED).sum()], fall[: (slow - fast >= _MOVED).sum()]
        own = of[:, rise[0]] >= _PRESENT if len(rise) else None
        return Change([names[one] for one in rise], [names[one] for one in fall], fell, own)

    return namer


def by_items(vectors: np.ndarray, names: list[Any]) -> Namer:
    """By the items nearest to the direction in which interest went, and against it. ``vectors`` (V, D) of
    the items that ``names`` names, of length 1, or 0 for one of which nothing is known."""
    vectors = np.asarray(vectors, np.float64)  # once, rather than for each event

    def namer(drift: Drift, streams: Streams, event: int) -> Change:
        fast, slow = means(streams, event, drift.half_lives)
        direction = (fast - slow) / max(float(np.linalg.norm(fast - slow)), 1e-30)
        # A product so small is done by one thread: several would wait for each other where cores are busy.
        near = np.einsum("vd,d->v", vectors, direction)
        rows, _ = weights(streams, event, drift.half_lives)
        pointed = np.asarray(streams.vectors)[np.asarray(streams.item)[rows]]
        length = np.maximum(np.linalg.norm(pointed, axis=1), 1e-30)
        own = pointed @ direction / length > _TOWARDS
        rise, fall = (_nearest(names, sign * near) for sign in (1, -1))
        fell = names[near.argmin()] if near.min() < 0 else None
        return Change(rise, fall, fell, own if rise else None)

    return namer


def _nearest(names: list[Any], near: np.ndarray) -> list[Any]:
    first = np.argsort(-near, kind="stable")[:_NEAREST]
    return [names[one] for one in first if near[one] > _TOWARDS]


def _called(drift: Drift, streams: Streams, event: int, own: np.ndarray | None) -> str:
    rows, _ = weights(streams, event, drift.half_lives)
    age = (streams.time[event] - np.asarray(streams.time)[rows]) / _DAY
    lately = age < _LATELY * drift.half_lives[0]
    if own is None or not (own & lately).any():
        return "vanishing"
    before = age[own & ~lately]
    if not len(before):
        return "emerging"
    away = before.min() - age[own & lately].max()
    return "returning" if away > _LATELY * drift.half_lives[0] else "shifting"
