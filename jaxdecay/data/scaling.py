"""Encoders into float32 columns: standardised, ranked, coordinates on the sphere, given vectors.

Missing values (null and NaN) are filled by training statistics. If the training part had any, a 0/1 column
``<name>_missing`` follows. Every output is finite for every finite input; infinite input is refused.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from jaxdecay.data.refusals import ColumnRefused, refuse_values
from jaxdecay.names import listed

KNOTS = 1_001
LARGEST = float(np.finfo(np.float32).max)
"""Of a vector's numbers, which are taken as they are."""


@dataclass(frozen=True)
class Standardised:
    r""":math:`(x - \mu) / \sigma` with training mean and population deviation (1 where that is 0); missing
    values become the mean."""

    column: str
    mean: float
    scale: float
    flag: bool

    @property
    def names(self) -> tuple[str, ...]:
        return _with_flag((self.column,), self.column, self.flag)

    def apply(self, frame: pl.DataFrame) -> np.ndarray:
        numbers = as_numbers(frame[self.column])
        missing = np.isnan(numbers)
        return _block(np.where(missing, 0.0, (numbers - self.mean) / self.scale)[:, None], missing, self.flag)


@dataclass(frozen=True)
class Ranked:
    """Share of the training values below, from -1 to 1: ties in the middle, linear between knots, flat
    outside; missing values become the median, 0."""

    column: str
    knots: tuple[float, ...]
    """Training values, ascending (at most 1,001 of them)."""
    places: tuple[float, ...]
    """Their mid-ranks: share below plus half the share equal."""
    flag: bool

    @property
    def names(self) -> tuple[str, ...]:
        return _with_flag((self.column,), self.column, self.flag)

    def apply(self, frame: pl.DataFrame) -> np.ndarray:
        numbers = as_numbers(frame[self.column])
        missing = np.isnan(numbers)
        knots, places = (
            (np.asarray(self.knots), np.asarray(self.places))
            if self.knots
            else (np.zeros(1), np.full(1, 0.5))
        )
        ranks = 2 * np.interp(np.where(missing, 0.0, numbers), knots, places) - 1
        return _block(np.where(missing, 0.0, ranks)[:, None], missing, self.flag)


@dataclass(frozen=True)
class Coordinates:
    """Latitude and longitude in degrees as a point (x, y, z) of the unit sphere; missing ones become the mean
    training point (inside it)."""

    latitude: str
    longitude: str
    fill: tuple[float, ...]
    flag: bool

    @property
    def names(self) -> tuple[str, ...]:
        name = f"{self.latitude}_{self.longitude}"
        return _with_flag(tuple(f"{name}_{axis}" for axis in "xyz"), name, self.flag)

    def apply(self, frame: pl.DataFrame) -> np.ndarray:
        points = on_sphere(frame[self.latitude], frame[self.longitude])
        return _filled(points, self.fill, self.flag)


@dataclass(frozen=True)
class Vectors:
    """Given vectors (lists or arrays of one length) as they are; missing ones become the training mean."""

    column: str
    fill: tuple[float, ...]
    flag: bool

    @property
    def names(self) -> tuple[str, ...]:
        return _with_flag(
            tuple(f"{self.column}_{place}" for place in range(len(self.fill))), self.column, self.flag
        )

    def apply(self, frame: pl.DataFrame) -> np.ndarray:
        if not self.fill:  # never there in the training part
            return np.zeros((frame.height, 0), np.float32)
        return _filled(as_vectors(frame[self.column], len(self.fill)), self.fill, self.flag)


def fit_standardised(column: pl.Series) -> Standardised:
    numbers = as_numbers(column)
    missing = np.isnan(numbers)
    numbers = numbers[~missing]
    peak = float(np.abs(numbers).max(initial=0.0)) or 1.0  # squares of large numbers would overflow
    mean = float((numbers / peak).mean() * peak) if len(numbers) else 0.0
    scale = float((numbers / peak).std() * peak) if len(numbers) else 0.0
    return Standardised(column.name, mean, scale if scale > 1e-12 * peak else 1.0, bool(missing.any()))


def fit_ranked(column: pl.Series) -> Ranked:
    numbers = as_numbers(column)
    missing = np.isnan(numbers)
    values, counts = np.unique(numbers[~missing], return_counts=True)
    places = (np.cumsum(counts) - counts / 2) / max(1, counts.sum())
    chosen = np.unique(np.linspace(0, max(0, len(values) - 1), min(KNOTS, len(values))).round().astype(int))
    return Ranked(column.name, _floats(values[chosen]), _floats(places[chosen]), bool(missing.any()))


def fit_coordinates(latitude: pl.Series, longitude: pl.Series) -> Coordinates:
    points = on_sphere(latitude, longitude)
    return Coordinates(latitude.name, longitude.name, _means(points), bool(np.isnan(points).any()))


def fit_vectors(column: pl.Series) -> Vectors:
    vectors = as_vectors(column)
    return Vectors(column.name, _means(vectors), bool(np.isnan(vectors).any()))


def as_numbers(column: pl.Series) -> np.ndarray:
    """(n,) float64, NaN where missing; dates and durations in days. Raises InputError for text and infinite
    values."""
    kind = column.dtype
    if kind in (pl.Date, pl.Datetime):
        column = column.cast(pl.Datetime("us")).to_physical() / 86_400e6
    elif kind == pl.Duration:
        column = column.dt.total_microseconds() / 86_400e6
    elif kind == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        refuse_values(
            column,
            numbers.is_null() & column.is_not_null(),
            "holds text that is no number",
            "correct it, or encode it as category",
        )
        column = numbers
    elif not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        raise ColumnRefused(
            column.name,
            f"holds {kind}, no numbers",
            "encode it as category, multi or vector, or ignore it",
        )
    column = column.cast(pl.Float64)
    refuse_values(column, column.is_infinite(), "holds infinite numbers", "correct them, or leave them empty")
    return column.fill_null(float("nan")).to_numpy()


def on_sphere(latitude: pl.Series, longitude: pl.Series) -> np.ndarray:
    """(n, 3) float64, NaN where either is missing. Raises InputError outside [-90, 90] and [-180, 360]
    degrees."""
    degrees = {series.name: as_numbers(series) for series in (latitude, longitude)}
    for series, low, high in ((latitude, -90, 90), (longitude, -180, 360)):
        outside = pl.Series((degrees[series.name] < low) | (degrees[series.name] > high))
        refuse_values(
            series, outside, f"holds degrees outside {low} to {high}", "correct them, or leave them empty"
        )
    lat, lon = np.radians(degrees[latitude.name]), np.radians(degrees[longitude.name])
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    return np.where(np.isnan(lat + lon)[:, None], np.nan, points)


def as_vectors(column: pl.Series, width: int | None = None) -> np.ndarray:
    """(n, width) float64, rows of NaN where missing, empty, or with a missing number; ``width`` is that of
    the training part, where it has been seen. Raises InputError when lengths differ, and for numbers beyond
    float32."""
    if column.dtype == pl.Null:  # nothing but missing values
        column = column.cast(pl.List(pl.Float64))
    refused = ColumnRefused(
        column.name,
        f"holds {column.dtype}, no vectors",
        "give lists or arrays of numbers, or encode it otherwise",
    )
    if column.dtype not in (pl.List, pl.Array):
        raise refused
    try:
        lists = column.cast(pl.List(pl.Float64))
    except pl.exceptions.PolarsError as error:
        raise refused from error
    lengths = lists.list.len().fill_null(0)
    fault, remedy = "holds vectors of other lengths than {width}", "make all one length"
    if width is None:
        width = next(iter(lengths.filter(lengths > 0)), 0)
    else:
        fault = "holds vectors of {found} numbers, but those of the training part have {width}"
        remedy = "make them as those were made"
    other = (lengths > 0) & (lengths != width)
    found = listed(lengths.filter(other).unique().sort(), 3)
    refuse_values(column, other, fault.format(found=found, width=width), remedy)
    vectors = np.full((len(column), width), np.nan)
    full = (lengths > 0).to_numpy()
    vectors[full] = (
        lists.filter(lengths > 0).explode().cast(pl.Float64).to_numpy().reshape(-1, width)
        if full.any()
        else 0
    )
    beyond = pl.Series((np.abs(vectors) > LARGEST).any(axis=1))
    refuse_values(column, beyond, "holds vectors with numbers infinite or beyond float32", "correct them")
    return np.where(np.isnan(vectors).any(axis=1, keepdims=True), np.nan, vectors)


def _means(points: np.ndarray) -> tuple[float, ...]:
    known = points[~np.isnan(points).any(axis=1)]
    return _floats(known.mean(axis=0) if len(known) else np.zeros(points.shape[1]))


def _filled(points: np.ndarray, fill: tuple[float, ...], flag: bool) -> np.ndarray:
    missing = np.any(np.isnan(points), axis=1)
    return _block(np.where(missing[:, None], np.asarray(fill)[None, :], points), missing, flag)


def _block(values: np.ndarray, missing: np.ndarray, flag: bool) -> np.ndarray:
    # A number that lies beyond float32 in units of the training spread is kept at its end.
    values = np.clip(values, -LARGEST, LARGEST)
    return np.concatenate([values, missing[:, None]] if flag else [values], axis=1).astype(np.float32)


def _with_flag(names: tuple[str, ...], name: str, flag: bool) -> tuple[str, ...]:
    return (*names, f"{name}_missing") if flag else names


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
