"""Calendar encodings of time, in NumPy alone: a machine that scores needs them too."""

import numpy as np

DAY, WEEK = 86_400, 604_800
MONDAY = 345_600  # 1970-01-05 00:00, the first Monday
CALENDAR_NAMES = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")


def calendar(timestamps: np.ndarray) -> np.ndarray:
    r"""Where in the day and in the week each time lies, on two circles.

    timestamps: (n,) int64 seconds UTC. Returns (n, 4) float32: :math:`\sin, \cos` of :math:`2\pi\,(t \bmod
    1\,\mathrm{day})` and of :math:`2\pi\,(t \bmod 1\,\mathrm{week})`, in days and in weeks that begin on
    Monday 00:00 UTC. Both run continuously (Monday noon is not Monday morning). Meaningless for a relative
    clock.

    >>> calendar(np.array([345_600 + 3 * 3_600])).round(3)
    array([[0.707, 0.707, 0.112, 0.994]], dtype=float32)
    """
    seconds = np.asarray(timestamps, dtype=np.int64)
    day = 2 * np.pi * np.mod(seconds, DAY) / DAY
    week = 2 * np.pi * np.mod(seconds - MONDAY, WEEK) / WEEK
    return np.stack([np.sin(day), np.cos(day), np.sin(week), np.cos(week)], axis=-1).astype(np.float32)
