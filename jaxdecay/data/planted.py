r"""What the simulator plants: its options, the kernels of the categories, the world that users choose from.

The kernel of category :math:`c` at an age in days, with :math:`\rho = 0` outside the weekly categories, is

.. math:: \varphi_c(\mathrm{age}) = 2^{-\mathrm{age} / h_c}
          \left(1 - \rho + \rho \, \frac{1 + \cos(2 \pi \, \mathrm{age} / \mathrm{period})}{2}\right) .
"""

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np

from jaxdecay.errors import InputError

DAY = 86_400  # seconds


@dataclass(frozen=True)
class SimulateOptions:
    """Size and truth of a simulated log; half-lives, ages and periods in days."""

    seed: int = 0
    """Everything drawn follows from this number."""
    users: int = 1500
    """Number of users."""
    items: int = 300
    """Number of items, spread evenly over the categories."""
    days: float = 180.0
    """Length of the log in days."""
    start: str = "2025-01-01"
    """First day of the log (UTC)."""
    events_per_user: float = 60.0
    """Length of the log over a user's mean gap, on average; the log has more: the longest gaps do not fit."""
    activity_spread: float = 0.5
    """Standard deviation of the logarithm of a user's rate of events (0: all alike)."""
    burstiness: float = 2.2
    """Standard deviation of the logarithm of the gaps between a user's events (0: regular as a clock)."""
    same_time: float = 0.0
    """Share of gaps that are exactly zero; an item is never taken twice in the same second."""
    joining_days: float = 20.0
    """Users have their first event at a random moment of this many first days."""
    categories: tuple[str, ...] = ("news", "videos", "music", "food", "books")
    """Names of the item categories."""
    half_lives: tuple[float, ...] = (0.5, 2.0, 7.0, 30.0, 90.0)
    """Planted half-lives of the kernel's envelope in days, one per category."""
    appeal: tuple[float, ...] = (1.2, 0.7, 0.2, 0.0, -0.7)
    """What all tastes have in common (logits, one per category): slow interests pile up without help."""
    weekly_categories: tuple[str, ...] = ("food",)
    """Categories whose kernel also swings with the period."""
    period: float = 7.0
    """Planted period in days."""
    swing: float = 0.7
    """How far the kernel swings in the weekly categories: 0 not at all, 1 down to zero."""
    kappa: float = 0.1
    """Excitation: what a past event adds at age 0 to its item's weight, where all other weights sum to 1."""
    taste_spread: float = 0.5
    """Standard deviation of a user's taste for a category (in logits)."""
    attractiveness_spread: float = 0.5
    """Standard deviation of an item's attractiveness (in logits)."""
    popularity_half_life: float = 30.0
    """An item's attractiveness halves towards its floor in this many days after its birth."""
    popularity_floor: float = 0.3
    """Share of its attractiveness that an item never loses."""
    newborn_share: float = 0.5
    """Share of the items that are born during the log; the others were born in as long a time before it."""
    drift_day: float = 120.0
    """Day on which some users' tastes are drawn anew."""
    drift_share: float = 0.3
    """Share of the users whose tastes are drawn anew."""
    buy_share: float = 0.0
    """Share of events that are buys rather than views; above 0 the log gets a behaviour column."""
    buy_strength: float = 3.0
    """How many views a buy counts for in the excitation."""

    def __post_init__(self) -> None:
        if not self.categories or len(set(self.categories)) < len(self.categories):
            raise InputError(f"categories={self.categories}: expected different names, at least one")
        for name in ("half_lives", "appeal"):
            if (given := len(getattr(self, name))) != (wanted := len(self.categories)):
                raise InputError(f"{name}: {given} given for {wanted} categories; give one for each")
        if unknown := set(self.weekly_categories) - set(self.categories):
            raise InputError(f"weekly_categories={sorted(unknown)}: not among categories={self.categories}")
        if self.items < len(self.categories):
            raise InputError(
                f"items={self.items}: expected at least one per category ({len(self.categories)})"
            )
        for name in ("users", "days", "events_per_user", "period", "popularity_half_life"):
            _expect(name, getattr(self, name), getattr(self, name) > 0, "> 0")
        for half_life, appeal in zip(self.half_lives, self.appeal, strict=True):
            _expect("half_lives", half_life, half_life > 0, "> 0")
            _expect("appeal", appeal, True, "(a logit)")
        for name in ("seed", "activity_spread", "burstiness", "joining_days", "kappa", "buy_strength"):
            _expect(name, getattr(self, name), getattr(self, name) >= 0, ">= 0")
        for name in ("taste_spread", "attractiveness_spread"):
            _expect(name, getattr(self, name), getattr(self, name) >= 0, ">= 0")
        for name in ("swing", "popularity_floor", "newborn_share", "drift_share", "buy_share"):
            _expect(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "from 0 to 1")
        _expect("same_time", self.same_time, 0 <= self.same_time < 1, "from 0 to below 1")
        start_seconds(self.start)


def _expect(name: str, value: float, holds: bool, what: str) -> None:
    if not (np.isfinite(value) and holds):
        raise InputError(f"{name}={value}: expected a finite number {what}")


def start_seconds(start: str) -> int:
    """Seconds since 1970 of an ISO date or time, taken as UTC when it names no zone."""
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        raise InputError(f"start={start!r}: expected a date such as 2025-01-01") from None
    return int(moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp())  # noqa: UP017


def kernel(
    age: np.ndarray | float, half_life: np.ndarray | float, swing: np.ndarray | float, period: float
) -> np.ndarray | np.floating:
    """The planted kernel, 1 at age 0; all arguments broadcast, times in days.

    >>> float(kernel(7.0, 7.0, 0.9, 7.0))
    0.5
    """
    share = 1 - swing + swing * (1 + np.cos(2 * np.pi * np.asarray(age) / period)) / 2
    return np.exp2(-np.asarray(age) / half_life) * share


def half_life_of(half_life: float, swing: float, period: float) -> float:
    """The first age (days) at which the kernel is 1/2: the envelope's half-life, or sooner where it swings.

    >>> half_life_of(7.0, 0.0, 7.0)
    7.0
    >>> round(half_life_of(1e6, 1.0, 8.0), 3)
    2.0
    """
    if swing == 0:
        return half_life
    # dip k lies near (k + 1/2) periods; the root is in the first dip that reaches 1/2
    reach = half_life * np.log2(2 * (1 - swing)) / period if swing < 1 else 0.0
    dip = max(0, int(np.ceil(reach - 0.5)))
    ages = np.linspace(max(0, dip - 1) * period, min(half_life, (dip + 0.5) * period), 4001)
    first = np.flatnonzero(kernel(ages, half_life, swing, period) <= 0.5)[0]
    low, high = ages[first - 1], ages[first]
    for _ in range(60):
        middle = (low + high) / 2
        if kernel(middle, half_life, swing, period) > 0.5:
            low = middle
        else:
            high = middle
    return float(high)


class World(NamedTuple):
    """What users choose from, and what they like; U users, V items, C categories; times in seconds UTC."""

    options: SimulateOptions
    category: np.ndarray
    """(V,) index of the item's category"""
    birth: np.ndarray
    """(V,) int64, before which nobody can choose the item"""
    attractiveness: np.ndarray
    """(V,) attractiveness at birth"""
    taste: np.ndarray
    """(2, U, C) a user's logits before and after the drift; equal for users who do not drift"""
    drifting: np.ndarray
    """(D,) users who drift, ascending"""
    drift_time: int
    half_life: np.ndarray
    """(C,) days, of the envelope"""
    swing: np.ndarray
    """(C,)"""

    def base(self, user: np.ndarray, time: np.ndarray) -> np.ndarray:
        """(n, V) chances of the items at times (n,) for users (n,) without a history; every row sums to 1."""
        options = self.options
        age = (time[:, None] - self.birth) / DAY
        fading = np.exp2(-np.maximum(age, 0) / options.popularity_half_life)
        popularity = self.attractiveness * (
            options.popularity_floor + (1 - options.popularity_floor) * fading
        )
        liking = np.exp(self.taste[(time >= self.drift_time).astype(int), user])
        weight = np.where(age >= 0, popularity * liking[:, self.category], 0)
        return weight / weight.sum(axis=1, keepdims=True)

    def excitation(self, age: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The kernel at ages (days) of the items' categories; both arrays of one shape."""
        category = self.category[item]
        return np.asarray(kernel(age, self.half_life[category], self.swing[category], self.options.period))


def draw_world(options: SimulateOptions, rng: np.random.Generator | None = None) -> World:
    """The world of these options; the same one that ``simulate(options)`` used."""
    rng = rng or world_generator(options)
    users, items, kinds = options.users, options.items, len(options.categories)
    start, span = start_seconds(options.start), round(options.days * DAY)
    category = np.arange(items) % kinds
    birth = rng.integers(0, span, size=items)
    newborn = rng.random(items) < options.newborn_share
    newborn[:kinds] = False  # whatever the draw, every category has something to choose from on the first day
    taste = options.appeal + rng.normal(0, options.taste_spread, size=(2, users, kinds))
    attractiveness = np.exp(rng.normal(0, options.attractiveness_spread, size=items))
    drifting = np.sort(rng.choice(users, size=round(options.drift_share * users), replace=False))
    stays = np.setdiff1d(np.arange(users), drifting)
    taste[1, stays] = taste[0, stays]
    return World(
        options=options,
        category=category,
        birth=start + np.where(newborn, birth, birth - span),
        attractiveness=attractiveness,
        taste=taste,
        drifting=drifting,
        drift_time=start + round(options.drift_day * DAY),
        half_life=np.array(options.half_lives, dtype=float),
        swing=np.array([options.swing * (name in options.weekly_categories) for name in options.categories]),
    )


def world_generator(options: SimulateOptions) -> np.random.Generator:
    """The random numbers that make the world; times, choices and columns have streams of their own."""
    return np.random.default_rng([options.seed, 0])
