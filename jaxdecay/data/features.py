"""User, item and context columns as arrays: fitted on the training part, then applied to anything.

`fit_features` looks at the training rows only; `Encoder.apply` turns any frame with the same columns into
integer codes and float32 numbers. The encoder is plain data: `Encoder.to_json` and `Encoder.from_json` carry
it through ``prepared.json`` without loss.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay.data import categories, scaling
from jaxdecay.data.calendar import CALENDAR_NAMES, calendar
from jaxdecay.data.categories import Buckets, Categories
from jaxdecay.data.checks import require_column
from jaxdecay.data.infer import Encoding, infer_encoding, is_latitude, is_longitude
from jaxdecay.data.scaling import Coordinates, Ranked, Standardised, Vectors
from jaxdecay.errors import InputError
from jaxdecay.names import listed

__all__ = ["CALENDAR_NAMES", "Encoder", "Encoding", "FeatureSpec", "Features", "calendar", "fit_features"]

Fitted = Categories | Buckets | Standardised | Ranked | Coordinates | Vectors
CODED = {"Categories": Categories, "Buckets": Buckets}
SCALED = {"Standardised": Standardised, "Ranked": Ranked, "Coordinates": Coordinates, "Vectors": Vectors}
ENCODINGS = ("category", "multi", "standardise", "rank", "bucket", "coordinates", "vector", "text", "ignore")
IDS = ("user_id", "item_id")
ROLES = (*IDS, "timestamp", "behaviour", "weight", "label")


@dataclass(frozen=True)
class FeatureSpec:
    """How columns become model inputs."""

    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    """Encoding by column name; columns not named are inferred. Coordinates need two columns, latitude then
    longitude."""
    buckets: int = 16
    """Buckets of a column encoded as bucket."""
    max_categories: int = 10_000
    """Most categories of a column; the rarer ones count as unknown."""
    multi_width: int = 16
    """Most values a row keeps of a multi-valued column."""

    def __post_init__(self) -> None:
        for name, encoding in self.encodings.items():
            if encoding not in ENCODINGS:
                raise InputError(
                    f"encoding {encoding!r} of column {name!r} is not known; give one of {listed(ENCODINGS)}."
                )
        for name in ("buckets", "max_categories", "multi_width"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"{name} {getattr(self, name)} is less than 1; give a whole number from 1 on."
                )


class Features(NamedTuple):
    """Model inputs of n rows."""

    categorical: np.ndarray
    """(n, sum of widths) int32: the blocks of `Encoder.categorical_names` side by side; 0 is missing, unknown
    or padding."""
    numeric: np.ndarray
    """(n, Fn) float32, finite: the columns of `Encoder.numeric_names`."""


@dataclass(frozen=True)
class Encoder:
    """Fitted encodings. Categorical feature j has ``cardinalities[j]`` codes (0 among them) and fills the
    columns ``blocks[j]``."""

    coded: tuple[Categories | Buckets, ...] = ()
    scaled: tuple[Standardised | Ranked | Coordinates | Vectors, ...] = ()
    text_names: tuple[str, ...] = ()
    """Columns of free text: kept aside for a text encoder, not in the arrays."""
    notes: tuple[dict[str, Any], ...] = ()
    """For the report, one per column: column, encoding, why, missing (rows of the training part), width;
    categories and how many were cut."""

    @property
    def categorical_names(self) -> tuple[str, ...]:
        return tuple(one.column for one in self.coded)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        return tuple(one.cardinality for one in self.coded)

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns that each categorical feature takes: 1, or the most values a row holds of a multi-valued
        one."""
        return tuple(one.width for one in self.coded)

    @property
    def blocks(self) -> tuple[slice, ...]:
        ends = np.cumsum(self.widths, dtype=int).tolist()
        return tuple(slice(end - width, end) for end, width in zip(ends, self.widths, strict=True))

    @property
    def numeric_names(self) -> tuple[str, ...]:
        return tuple(name for one in self.scaled for name in one.names)

    def apply(self, frame: pl.DataFrame) -> Features:
        """Encode any rows. Raises InputError when a column is missing or holds what cannot be encoded."""
        for name in self.sources():
            if name not in frame.columns:
                raise InputError(
                    f"there is no column {name!r}, which the model was prepared with; there are "
                    f"{listed(frame.columns)}; add it (it may be empty)."
                )
        rows = frame.height
        coded = [one.apply(frame) for one in self.coded]
        scaled = [one.apply(frame) for one in self.scaled]
        return Features(
            np.concatenate([np.zeros((rows, 0), np.int32), *coded], axis=1),
            np.concatenate([np.zeros((rows, 0), np.float32), *scaled], axis=1),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries and lists."""
        return {
            "coded": [{"kind": type(one).__name__, **_lists(asdict(one))} for one in self.coded],
            "scaled": [{"kind": type(one).__name__, **_lists(asdict(one))} for one in self.scaled],
            "text_names": list(self.text_names),
            "notes": [dict(note) for note in self.notes],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Encoder":
        """The encoder that `to_json` described. Raises InputError when it is of another version."""
        try:
            return cls(
                coded=tuple(_from_dict(CODED, one) for one in data["coded"]),
                scaled=tuple(_from_dict(SCALED, one) for one in data["scaled"]),
                text_names=tuple(data["text_names"]),
                notes=tuple(data["notes"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(
                f"the feature encoder is damaged or from another version ({error!r}); prepare the log again."
            ) from error

    def sources(self) -> list[str]:
        """The columns of a frame that are read, in order."""
        return list(self.readers())

    def readers(self) -> dict[str, Fitted]:
        """What reads each of these columns."""
        return {
            name: one
            for one in (*self.coded, *self.scaled)
            for name in ((one.latitude, one.longitude) if isinstance(one, Coordinates) else (one.column,))
        }


def fit_features(training: pl.DataFrame, spec: FeatureSpec | None = None) -> Encoder:
    """Fit the encodings of the columns of ``training`` (rows of the training part only; items or users seen
    in it).

    user_id and item_id are left out; so are timestamp, behaviour, weight and label of a frame of events (one
    with a timestamp), unless ``spec`` names them. Raises InputError when ``spec`` names a column that is not
    there, or an encoding that its values do not allow.
    """
    spec = spec or FeatureSpec()
    for name in spec.encodings:
        require_column("the table", training.columns, name, "correct the encodings")
    chosen = _encodings(training, spec)
    coded: list[Categories | Buckets] = []
    scaled: list[Standardised | Ranked | Coordinates | Vectors] = []
    notes: list[dict[str, Any]] = []
    for name, (encoding, why) in chosen.items():
        fitted = _fit(training[name], encoding, spec)
        if isinstance(fitted, (Categories, Buckets)):
            coded.append(fitted)
        elif fitted is not None:
            scaled.append(fitted)
        notes.append({"column": name, "encoding": encoding, "why": why, **_counts(training[name], fitted)})
    for latitude, longitude in _pairs(
        [name for name, (encoding, _) in chosen.items() if encoding == "coordinates"]
    ):
        scaled.append(scaling.fit_coordinates(training[latitude], training[longitude]))
    texts = tuple(name for name, (encoding, _) in chosen.items() if encoding == "text")
    return Encoder(tuple(coded), tuple(scaled), texts, tuple(notes))


def _encodings(training: pl.DataFrame, spec: FeatureSpec) -> dict[str, tuple[Encoding, str]]:
    """Encoding of every column that is a feature, and why."""
    skipped = ROLES if "timestamp" in training.columns else IDS
    names = [name for name in training.columns if name in spec.encodings or name not in skipped]
    free = [name for name in names if name not in spec.encodings]
    places = [name for name in free if is_latitude(name)], [name for name in free if is_longitude(name)]
    numeric = all(training[name].dtype.is_numeric() for side in places for name in side)
    on_map = [name for pair in zip(*places, strict=False) for name in pair] if numeric else []
    chosen: dict[str, tuple[Encoding, str]] = {}
    for name in names:
        if name in spec.encodings:
            chosen[name] = (spec.encodings[name], "given")
        elif name in on_map:
            chosen[name] = ("coordinates", "latitude and longitude by name")
        else:
            chosen[name] = infer_encoding(training[name], spec.max_categories)
    return chosen


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    """Latitude and longitude columns two by two, in their order; those without a telling name are taken as
    latitude, longitude."""
    latitudes = [name for name in names if is_latitude(name)]
    longitudes = [name for name in names if is_longitude(name)]
    others = [name for name in names if name not in (*latitudes, *longitudes)]
    if len(latitudes) != len(longitudes) or len(others) % 2:
        raise InputError(
            f"coordinates need two columns, latitude and longitude, but got {listed(names)}; name both."
        )
    return [*zip(latitudes, longitudes, strict=True), *zip(others[::2], others[1::2], strict=True)]


def _fit(column: pl.Series, encoding: Encoding, spec: FeatureSpec) -> Fitted | None:
    """None for what is not encoded column by column."""
    match encoding:
        case "category":
            return categories.fit_categories(column, spec.max_categories)
        case "multi":
            return categories.fit_multi(column, spec.max_categories, spec.multi_width)
        case "bucket":
            return categories.fit_buckets(column, spec.buckets)
        case "standardise":
            return scaling.fit_standardised(column)
        case "rank":
            return scaling.fit_ranked(column)
        case "vector":
            return scaling.fit_vectors(column)
        case _:
            return None


def _counts(column: pl.Series, fitted: Fitted | None) -> dict[str, int]:
    """Of the training rows: how many are missing; how many numbers a vector has, or values a row; how many
    categories are known, and how many were cut off."""
    if isinstance(fitted, Vectors):
        vectors = scaling.as_vectors(column)
        lost = np.isnan(vectors).any(axis=1) if fitted.fill else np.ones(len(column))
        return {"missing": int(lost.sum()), "width": len(fitted.fill)}
    missing = int(column.null_count() + (column.is_nan().sum() if column.dtype.is_float() else 0))
    if not isinstance(fitted, Categories):
        return {"missing": missing}
    values = categories.values_of(column, fitted.multi)
    counts = {
        "missing": missing,
        "categories": len(fitted.values),
        "categories_cut": values.n_unique() - len(fitted.values),
    }
    if not fitted.multi:
        return counts
    return {**counts, "width": fitted.width, "rows_cut": categories.rows_cut(column, fitted)}


def _from_dict(kinds: Mapping[str, Any], data: Mapping[str, Any]) -> Any:
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in data.items()
        if name != "kind"
    }
    return kinds[data["kind"]](**values)


def _lists(data: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}
