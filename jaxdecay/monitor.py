"""Drift while events arrive: one user at a time, what `jaxdecay.drift.detect` finds over a log."""

from typing import NamedTuple

import numpy as np

from jaxdecay import divergence_numpy as numpy_face
from jaxdecay.divergence_numpy import Trace
from jaxdecay.drift import Calibration
from jaxdecay.errors import InputError
from jaxdecay.state_numpy import Seconds


class Watching(NamedTuple):
    """A user who is being watched: a few hundred bytes, which a store can keep."""

    trace: Trace
    statistic: float
    """As of the latest event."""
    above: bool
    """Whether it has exceeded the threshold and not been below half of it since."""
    detected: bool
    """Whether the latest event set off an alarm."""


class Monitor:
    """Judges by a calibration that was made over a log (`jaxdecay.drift.calibrate`), by the divergence.

    watching = monitor.init()
    watching = monitor.update(watching, at, item)
    """

    def __init__(self, vectors: np.ndarray, calibrated: Calibration) -> None:
        """``vectors`` (V, D): of items, 0 where nothing is known."""
        self.half_lives, self.threshold = calibrated.half_lives, calibrated.threshold
        """Fast and slow, in days; and what the statistic must exceed."""
        paces = calibrated.paces
        fast, slow = np.asarray(paces.rate, np.float64).tolist()
        self._paces = numpy_face.Paces(fast, slow, float(paces.variance), float(paces.evidence))
        self._vectors = np.ascontiguousarray(vectors, np.float32)
        self._squares: list[float] = np.square(vectors, dtype=np.float64).sum(axis=1).tolist()

    def init(self) -> Watching:
        """Before any event."""
        return Watching(numpy_face.init(self._vectors.shape[1]), 0.0, False, False)

    def update(self, watching: Watching, at: Seconds, item: int | np.integer) -> Watching:
        """After an event at ``at`` (seconds) on an item, by index. It may be late: it counts as it would have
        counted in time, and alarms that it would have set off or prevented before are not told anew. Events
        of which nothing is known change nothing. Raises InputError for an index that no item has."""
        if not 0 <= item < len(self._squares):
            raise InputError(f"item {item}: give the index of an item, from 0 to {len(self._squares) - 1}")
        square = self._squares[item]
        if not square:
            return watching._replace(detected=False)
        trace = numpy_face.update(self._paces, watching.trace, at, self._vectors[item], square)
        z = numpy_face.statistic(self._paces, trace)
        alarm = z > self.threshold
        # The same hysteresis as over a log: below half of the threshold an alarm is over.
        above = alarm or (watching.above and z >= self.threshold / 2)
        return Watching(trace, z, above, alarm and not watching.above)

    def direction(self, watching: Watching) -> np.ndarray:
        """(D,) where interest went, of length 1: items along it are rising, items against it falling. 0
        where nothing moved."""
        weights = np.maximum(np.asarray(watching.trace.weights, np.float32), 1e-30)
        fast, slow = watching.trace.sums / weights[:, None]
        apart = fast - slow
        return apart / max(float(np.linalg.norm(apart)), 1e-30)
