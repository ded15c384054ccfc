"""What a service answers."""

import dataclasses
from typing import Any

from jaxdecay.serve.left import Mode


@dataclasses.dataclass(frozen=True)
class Receipt:
    """What became of events that were sent. What was kept is durable."""

    kept: int
    repeated: int
    """Of ids that had come before."""
    skipped: tuple[tuple[str, str], ...]
    """Ids of events that were not kept, and why."""


@dataclasses.dataclass(frozen=True)
class Listed:
    """A list."""

    user: str
    at: int
    """Seconds: only what came strictly before is seen."""
    items: tuple[Any, ...]
    """Best first."""
    scores: tuple[float, ...]
    served_by: str
    """"history", "popularity" for somebody of whom nothing is known, or the path and the strategies."""
    notes: tuple[str, ...]
    titles: tuple[str | None, ...] | None = None
    """Where the log has them."""


@dataclasses.dataclass(frozen=True)
class Similar:
    """The items nearest to one, best first."""

    item: Any
    items: tuple[Any, ...]
    scores: tuple[float, ...]
    """Cosines."""
    titles: tuple[str | None, ...] | None


@dataclasses.dataclass(frozen=True)
class OfItem:
    """An item, and a number of it."""

    item: Any
    title: str | None
    amount: float


@dataclasses.dataclass(frozen=True)
class Told:
    """What is left of a user's events at a moment."""

    user: str
    at: int
    """Seconds."""
    events: int
    """Those strictly before."""
    latest: int | None
    """Seconds: the latest of them."""
    modes: tuple[Mode, ...]
    own: tuple[OfItem, ...]
    """Items that the user had, by what is left of their events (faded counts), the most first."""
    nearest: tuple[OfItem, ...]
    """Items nearest to the user's interest, by cosine."""


@dataclasses.dataclass(frozen=True)
class About:
    """What is served."""

    name: str
    """Of the run directory."""
    users: int
    items: int
    events: int
    """Of the run's own log."""
    clock: str
    """utc, or relative: times count from each user's first event."""
    behaviours: tuple[str, ...]
    weighted: bool
    """Whether events must have a weight."""
    some: tuple[Any, ...]
    """A few users, from the busiest to the quietest."""
