r"""The mean kernels that a run has learned, by head and item group.

The mean is over the group's training events, each with the write weights of its item, group and behaviour
and the read weights of its user, satiation left out.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecay.configure import group_levels
from jaxdecay.data.histories import Histories
from jaxdecay.durations import Rhythm
from jaxdecay.history import Items
from jaxdecay.interest import Bank
from jaxdecay.kernels import LN2
from jaxdecay.model import Interest
from jaxdecay.modes import first_half
from jaxdecay.predict import items_of
from jaxdecay.spec import Spec

CENTURY = 36_525.0
_TWO_YEARS = 731.0


class Events(NamedTuple):
    """The E training events that mean kernels are means over."""

    item: np.ndarray
    user: np.ndarray
    behaviour: np.ndarray
    group: np.ndarray
    """Level of each event's item; 0 for none."""
    content: dict[str, np.ndarray | None]
    """By head: what the write logits of each event owe to the content of its item."""

    @classmethod
    def of(cls, histories: Histories, model: Interest, params: Any) -> "Events":
        train = np.asarray(histories.part) == 0
        item, items = np.asarray(histories.item)[train], items_of(histories, model, known_only=True)
        logits = _content_logits(model, params, jax.tree.map(jnp.asarray, items))
        return cls(
            item,
            histories.user()[train],
            np.asarray(histories.behaviour)[train].astype(np.int32),
            np.asarray(items.group)[item],
            {
                head: None if of_head is None else np.asarray(of_head)[item]
                for head, of_head in zip(("similarity", "revisit"), logits, strict=True)
            },
        )


@functools.partial(jax.jit, static_argnums=0)
def _content_logits(model: Interest, params: Any, items: Items) -> Any:
    def logits(model: Interest) -> Any:
        return model.content_logits(model.similarity.content(items))

    return model.apply({"params": params}, method=logits)


class Grouping(NamedTuple):
    """Which training events belong together."""

    names: tuple[str, ...]
    label: np.ndarray
    """(E,) place of each event's group among the names, -1 for none."""

    @classmethod
    def by_item_group(cls, histories: Histories, spec: Spec, log: Events) -> "Grouping":
        """The groups of items that have decay weights of their own."""
        return cls(tuple(group_levels(histories, spec)), log.group - 1)

    def members(self, name: str) -> np.ndarray:
        """(E,) bool; "all" are all."""
        return self.label == self.place(name) if name != "all" else np.ones(len(self.label), bool)

    def place(self, name: str) -> int:
        """Of a name; -1 for "all"."""
        return -1 if name == "all" else self.names.index(name)


class Curve(NamedTuple):
    """The mean kernel of one group under one head."""

    head: str
    group: str
    events: int
    age: np.ndarray
    """(A,) days, ascending from 0."""
    value: np.ndarray
    """(A,) the kernel, 1 at age 0."""
    periods: tuple[float, ...]
    """The head's learned periods in days."""
    widths: tuple[float, ...]
    """Days before and after each of them at which one half of that rhythm is left."""
    shares: tuple[float, ...]
    """What of the kernel at age 0 each of them is."""


def mean_kernels(
    histories: Histories, model: Any, params: Any, grouping: Grouping | None = None
) -> list[Curve]:
    """Mean kernels by head and group (default: of items), and of "all"."""
    spec, log = model.spec, Events.of(histories, model, params)
    grouping = grouping or Grouping.by_item_group(histories, spec, log)
    curves = []
    for head in ("similarity", "revisit"):
        if "decay" not in params.get(head, ()):
            continue
        decay = jax.tree.map(np.asarray, params[head]["decay"])
        weights = event_weights(decay, log, log.content[head])
        age, values, rhythms = basis_of(decay, *rhythms_of(spec, head))
        periods, widths = (tuple(getattr(one, of) for one in rhythms) for of in ("period", "width"))
        for name in ("all", *grouping.names):
            members = grouping.members(name)
            if events := int(members.sum()):
                mixed = weights[members].sum(0) / weights[members].sum()
                shares = tuple(mixed[len(mixed) - len(rhythms) :].tolist())
                kernel = mixed @ values
                curves.append(Curve(head, name, events, age, kernel / kernel[0], periods, widths, shares))
    if "popularity" in params:
        curves.append(_popularity(params, spec.popularity_half_lives, len(log.item)))
    return curves


def half_lives_now(histories: Histories, model: Any, params: Any) -> dict[str, dict[str, float | None]]:
    """Half-lives in days by head and item group, of parameters as they are; None: never, or beyond a
    century."""
    found: dict[str, dict[str, float | None]] = {}
    for curve in mean_kernels(histories, model, params):
        half = float(first_half(curve.age, curve.value))
        found.setdefault(curve.head, {})[curve.group] = half if np.isfinite(half) else None
    return found


def rhythms_of(spec: Spec, head: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Periods from which a head's rhythms start, and their sharpness."""
    return (spec.revisit_periods, spec.revisit_sharpness) if head == "revisit" else ((), ())


def event_weights(decay: dict[str, np.ndarray], log: Events, content: np.ndarray | None) -> np.ndarray:
    """(E, C) what is left of each event at age 0 in each of the bank's curves: its write weight times its
    user's read weight."""
    writes = np.broadcast_to(decay["write"], (len(log.item), len(decay["write"]))).copy()
    for name in ("group", "item", "behaviour"):
        if f"{name}_write" in decay:
            writes += decay[f"{name}_write"][getattr(log, name)]
    if content is not None:
        writes += content
    reads = decay["user_read"][log.user] if "user_read" in decay else np.zeros_like(writes)
    return _softmax(writes) * _softmax(reads) * writes.shape[1]


def basis_of(
    decay: dict[str, np.ndarray], starts: tuple[float, ...], sharpness: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, list[Rhythm]]:
    """Ages, the bank's curves (C, A) at them, and its rhythms as learned. Of every rhythm's width there are
    four ages in the first two years."""
    names = ("log_half_life", "period_shift", "log_envelope", "write")
    learned = {name: np.asarray(decay[name]) for name in names if name in decay}
    # Where half-lives started plays no part: with ones for all, there is one program for every run of a size.
    bank = Bank((1.0,) * len(decay.get("log_half_life", ())), starts)
    half_lives, envelopes, periods = (np.asarray(x, np.float64) for x in _paces(bank, learned))
    rhythms = [Rhythm(*one) for one in zip(periods.tolist(), sharpness or (1,) * len(periods), strict=True)]
    age = np.concatenate([[0.0], np.geomspace(1 / 1440, CENTURY, 2000)])
    if rhythms:
        age = np.union1d(age, np.arange(0.0, _TWO_YEARS, min(one.width for one in rhythms) / 4))
    fade = np.exp2(-age / half_lives[:, None])
    wave = 0.5 * (1 + np.cos(2 * np.pi * age / periods[:, None]))
    power = np.array([one.sharpness for one in rhythms], float)[:, None]
    swing = np.exp2(-age / envelopes[:, None]) * wave**power
    return age, np.concatenate([np.ones((1, len(age))), fade, swing]), rhythms


@functools.partial(jax.jit, static_argnums=0)
def _paces(bank: Bank, learned: dict[str, Any]) -> Any:
    return bank.apply({"params": learned}, method=Bank.paces)


def _popularity(params: Any, half_lives: tuple[float, ...], events: int) -> Curve:
    """The kernel by which the catalogue's counts fade."""
    age = np.concatenate([[0.0], np.geomspace(1 / 1440, CENTURY, 2000)])
    weights = _softmax(np.asarray(params["popularity"]["decay_mixture"], np.float64))[:-1]
    rates = LN2 / np.asarray(half_lives)
    kernel = weights @ np.exp(-rates[:, None] * age)
    return Curve("popularity", "all", events, age, kernel / kernel[0], (), (), ())


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
