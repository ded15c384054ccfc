r"""The fast-slow divergence of one user as events arrive, in plain Python and NumPy: the statistic of
`jaxdecay.divergence` to rounding, at a few microseconds an event. No JAX here.

Of the two modes it needs three inner products, $f^\top f$, $s^\top s$ and $f^\top s$, and these fade and grow
as the modes do: an event $x$ adds its own with both. So all but two products of the vectors' width is
arithmetic on numbers, which are kept in float64, for the difference of two means is small against both.
"""

import math
import operator
from typing import NamedTuple

import numpy as np
from scipy.linalg import get_blas_funcs

from jaxdecay.state_numpy import Seconds

_SECONDS_PER_DAY = 86_400.0
_ADD_OUTER = get_blas_funcs("ger", dtype="f")
_TINY, _LEAST = 1e-12, 1e-3  # as in `jaxdecay.divergence`


class Paces(NamedTuple):
    """What is fast and what slow, and what is said in general of how vectors vary
    (`jaxdecay.divergence.Paces`)."""

    fast: float
    """Rate per day."""
    slow: float
    """Rate per day."""
    variance: float
    evidence: float


class Trace(NamedTuple):
    """Where a user has pointed lately and before, at the time of the latest event."""

    sums: np.ndarray
    """(2, d) float32 faded sums of vectors, fast and slow."""
    weights: tuple[float, float]
    """Faded sums of what events count: fast, slow."""
    products: tuple[float, float, float]
    """Faded sums of the products of these: fast twice, slow twice, one of each."""
    inner: tuple[float, float, float]
    """Inner products of the sums: fast with itself, slow with itself, of both."""
    energy: float
    """Slowly faded sum of the vectors' squared lengths."""
    time: int
    """Seconds."""


def init(width: int) -> Trace:
    """Before any event, of vectors of ``width`` numbers."""
    return Trace(np.zeros((2, width), np.float32), (0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0)


def update(paces: Paces, trace: Trace, at: Seconds, vector: np.ndarray, square: float) -> Trace:
    """The trace after an event at ``at`` (seconds), which may be late, that points along ``vector`` (d,)
    float32 of squared length ``square``."""
    sums, (nf, ns), (qff, qss, qfs), (ff, ss, fs), energy, time = trace
    at = operator.index(at)
    gap = (at - time) / _SECONDS_PER_DAY
    if gap < 0:  # late: the event has faded since
        kf, ks, wf, ws = 1.0, 1.0, math.exp(paces.fast * gap), math.exp(paces.slow * gap)
        at = time
    else:
        kf, ks, wf, ws = math.exp(-paces.fast * gap), math.exp(-paces.slow * gap), 1.0, 1.0
    fx, sx = (sums @ vector).tolist()
    fx, sx = kf * fx, ks * sx
    moved = sums.T * np.array((kf, ks), np.float32)
    return Trace(
        _ADD_OUTER(1.0, vector, (wf, ws), 1, 1, moved, 1, 1, 1).T,
        (kf * nf + wf, ks * ns + ws),
        (kf * kf * qff + wf * wf, ks * ks * qss + ws * ws, kf * ks * qfs + wf * ws),
        (
            kf * kf * ff + wf * (2 * fx + wf * square),
            ks * ks * ss + ws * (2 * sx + ws * square),
            kf * ks * fs + ws * fx + wf * sx + wf * ws * square,
        ),
        ks * energy + ws * square,
        at,
    )


def statistic(paces: Paces, trace: Trace) -> float:
    """$z$ as of the latest event; 0 where there is nothing to compare."""
    _, (nf, ns), (qff, qss, qfs), (ff, ss, fs), energy, _ = trace
    if nf <= 0 or ns <= 0:
        return 0.0
    of_slow = qss / (ns * ns)
    spread = qff / (nf * nf) + of_slow - 2 * qfs / (nf * ns)
    slow = ss / (ns * ns)
    behind = 1 / of_slow
    own = max(energy / ns - slow, 0.0)
    variance = (paces.evidence * paces.variance + behind * own) / (paces.evidence + behind - 1)
    apart = max(ff / (nf * nf) + slow - 2 * fs / (nf * ns), 0.0)
    return apart / (max(variance, _TINY) * max(spread, _LEAST))
