"""Durations as people write them: 90s, 12h, 7d, 3w, 1y; priors on half-lives, 7d±2x; rhythms, 1d±3h."""

import datetime
import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from jaxdecay.errors import InputError

_DAYS = {"s": 1 / 86_400, "min": 1 / 1_440, "h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.25}
_DURATION = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|d|w|y)\s*")
Duration = str | datetime.timedelta


class Prior(NamedTuple):
    """A log-normal prior on the half-life of a group, or of all where ``group`` is None."""

    group: str | None
    half_life: float
    """Median, in days."""
    factor: float
    """One standard deviation up or down multiplies or divides by this."""


class Rhythm(NamedTuple):
    """A wish that comes back."""

    period: float
    """Days."""
    sharpness: int = 1
    """Of its raised cosine (`jaxdecay.kernels.raised_cosine`)."""

    @property
    def width(self) -> float:
        """Days before and after each period at which one half of it is left."""
        return self.period / math.pi * math.acos(2 ** (-0.5 / self.sharpness))


def days(text: Duration, name: str = "") -> float:
    """The duration in days. ``name``: of the option that it was given for, to open messages.

    >>> days("12h"), days("1w"), days(datetime.timedelta(hours=36))
    (0.5, 7.0, 1.5)
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    value = float(match[1]) * _DAYS[match[2]] if match else 0.0
    if isinstance(text, datetime.timedelta):
        value = text / datetime.timedelta(days=1)
    if not 0 < value < math.inf:
        said = f"{name}={text!r}" if name else repr(text)
        raise InputError(
            f"{said} is no duration; write a number above 0 and s, min, h, d, w or y, such as 7d"
        )
    return value


def parse_prior(text: str) -> Prior:
    """A prior as written for ``--half-life-prior``; ``+-`` may stand for ``±``.

    >>> parse_prior("news=6h±2x")
    Prior(group='news', half_life=0.25, factor=2.0)
    """
    group, _, rest = text.rpartition("=")
    centre, sign, factor = rest.replace("+-", "±").partition("±")
    number = factor.strip().removesuffix("x")
    try:
        spread = float(number)
    except ValueError:
        spread = math.nan
    if not sign or not 1 < spread < math.inf:
        raise InputError(
            f"{text!r} is no prior on a half-life;"
            " write a duration and a factor above 1, such as 7d±2x or news=6h±2x"
        )
    return Prior(group or None, days(centre), spread)


def parse_rhythm(text: str) -> Rhythm:
    """A rhythm as written for ``--periods``: a duration, and how far from it one half is left, if that is
    less than a quarter of it; ``+-`` may stand for ``±``. Sharpness is a whole number, and widths are what it
    makes of them, within a tenth of what was asked.

    >>> parse_rhythm("7d"), parse_rhythm("1d±3h")
    (Rhythm(period=7.0, sharpness=1), Rhythm(period=1.0, sharpness=4))
    """
    written, sign, beside = text.replace("+-", "±").partition("±")
    period = days(written)
    width = days(beside) if sign else period / 4
    if not period / 40 * (1 - 1e-9) <= width <= period / 4 * (1 + 1e-9):
        raise InputError(f"{text!r} is no rhythm; after ±, write from a 40th to a quarter of its period")
    # 2^(-1/2m) = cos(pi w / p)
    exact = max(-0.5 / math.log2(math.cos(math.pi * width / period)), 1.0)
    rhythm = Rhythm(period, round(exact))
    if abs(rhythm.width / width - 1) > 0.1:
        wider, sharper = (show_days(Rhythm(period, int(exact) + more).width) for more in (0, 1))
        raise InputError(f"{text!r}: no such width can be made; the nearest are ±{wider} and ±{sharper}")
    return rhythm


def show_days(value: float) -> str:
    """A duration in days in the unit that reads best.

    >>> show_days(0.25), show_days(9.2), show_days(float("inf"))
    ('6.0 h', '9.2 d', 'never')
    """
    if math.isinf(value):
        return "never"
    if value < 1 / 24:
        return f"{value * 1440:.1f} min"
    if value < 2:
        return f"{value * 24:.1f} h"
    return f"{value:.1f} d" if value < 730 else f"{value / 365.25:.1f} y"


def show_periods(periods: Iterable[float], widths: Iterable[float]) -> str:
    """Periods in days, those of sharp rhythms with how far from them one half is left.

    >>> show_periods([1.0, 7.0, 1.0001], [0.25, 1.75, 0.13])
    '24.0 h, 7.0 d, 24.0 h ± 3.1 h'
    """
    return ", ".join(
        show_days(period) + ("" if _plain(period, width) else f" ± {show_days(width)}")
        for period, width in zip(periods, widths, strict=True)
    )


def plain_periods(periods: Iterable[float], widths: Iterable[float]) -> list[float]:
    """Those of the plain rhythms, of sharpness 1.

    >>> plain_periods([1.0, 7.0, 1.0001], [0.25, 1.75, 0.13])
    [1.0, 7.0]
    """
    return [period for period, width in zip(periods, widths, strict=True) if _plain(period, width)]


def _plain(period: float, width: float) -> bool:
    return width > 0.24 * period  # a quarter; 0.18 at the next sharpness
