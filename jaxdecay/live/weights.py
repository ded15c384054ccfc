"""The arrays that a trained model comes down to where it is served. NumPy alone."""

from typing import NamedTuple

import numpy as np


class Bank(NamedTuple):
    """A bank of C curves, the last P of them rhythms, and who writes and reads them how."""

    rate: np.ndarray
    """(C,) float64 per day; 0 never fades."""
    frequency: np.ndarray
    """(P,) float64 radians per day, as the model has them in float32: rounded anew, they would be out of step
    within a year."""
    sharpness: tuple[int, ...]
    """Of each of the P rhythms."""
    writes: np.ndarray
    """(V, B, C) float32 write weights of an event by its item and behaviour."""
    reads: np.ndarray | None
    """(U, C) float32 read logits of the users that training knew; None: all read alike."""
    adaptive: np.ndarray | None
    """(C, C) float32: what read logits owe to how full the modes are."""


class Columns(NamedTuple):
    """Columns as vectors (`jaxdecay.heads.features.Columns`)."""

    tables: tuple[np.ndarray, ...]
    """(cardinality, D) float32 of each categorical column."""
    widths: tuple[int, ...]
    numeric: np.ndarray | None
    """(F, D) float32."""

    def vector(self, codes: np.ndarray, numbers: np.ndarray) -> np.ndarray | float:
        """(D,) of one row; 0 where there are no columns."""
        total, start = 0.0, 0
        for table, width in zip(self.tables, self.widths, strict=True):
            present = codes[start : start + width]
            present = present[present > 0]
            start += width
            if len(present):
                total = total + table[present].sum(axis=0) / np.float32(len(present))
        return total if self.numeric is None else total + numbers @ self.numeric


class Similarity(NamedTuple):
    """What events write and how interest is read (`jaxdecay.heads.similarity`)."""

    vectors: np.ndarray
    """(V, D) float32 that events of an item write."""
    bank: Bank | None
    amplitude: np.ndarray
    """(B,) float32: 1 and what a behaviour adds to it."""
    context: Columns
    users: np.ndarray
    """(U, D) float32: what the columns of each user say."""
    hours: np.ndarray | None
    """(8, D) float32: what the calendar of the request says."""
    temperature: float
    softness: float
    """Squared."""
    timed: bool
    """Whether the model is told when it is asked; else it is asked at the time of the last event."""


class Revisit(NamedTuple):
    """How a user's own items excite themselves (`jaxdecay.heads.revisit`)."""

    bank: Bank
    strength: np.ndarray
    """(V, B) float32: what an event of weight 1 adds, by its item and behaviour."""
    level: float
    satiation: float
    """0 for none."""
    recovery: float
    """Half-life of satiation in days, infinite for one that stays."""


class Popularity(NamedTuple):
    """How the catalogue's faded shares are mixed (`jaxdecay.heads.popularity`): of items that training knew,
    and of the others."""

    mixture: np.ndarray
    """(2, R) float32."""
    floor: np.ndarray
    """(2,) float32."""
    exponent: np.ndarray
    """(2,) float32."""
    cold: np.ndarray
    """(n,) int64 the others."""
    rates: np.ndarray
    """(R,) float64 halvings per second."""


class Weights(NamedTuple):
    """Of V items, U users and B behaviours."""

    targets: np.ndarray
    """(V, D) float32 that interest is compared with."""
    bias: np.ndarray
    """(V,) float32."""
    similarity: Similarity
    revisit: Revisit | None
    popularity: Popularity | None
    known_users: int
    """Users that training knew; the others read as the average does."""
    origin: int
    """Seconds that times are measured from: a Monday's midnight, UTC, or 0 for relative times."""
    weight: float
    """An event of this weight writes with strength 1."""
    silent_zero: bool
    """Whether an event with the label 0 writes nothing: in a log without behaviours."""
    entering: bool
    """Whether items are candidates only once they have come."""
