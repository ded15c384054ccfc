"""Which encoding a column gets when nobody says: from its name and its training values, with the reason for
the report."""

from typing import Any, Literal

import numpy as np
import polars as pl

from jaxdecay.data.categories import SEPARATOR, as_texts
from jaxdecay.data.scaling import as_numbers

Encoding = Literal[
    "category", "multi", "standardise", "rank", "bucket", "coordinates", "vector", "text", "ignore"
]
CODE_WORDS = ("id", "code", "category", "type", "class", "brand", "genre", "zip", "session", "group")
FEW_VALUES = 32
FAR = 10.0


def infer_encoding(column: pl.Series, most_categories: int) -> tuple[Encoding, str]:
    """The encoding of a training column, and why.

    - Lists of floats and arrays are vectors, other lists multi-valued.
    - Text is multi-valued if a tenth of the rows contain ``|``; else a category if values repeat (at most
    half as
      many as rows); else text if most rows have several words; else an identifier, which is ignored.
    - Integers are categories if they have at most 32 values, or the name of a code (id, category, zip, ...)
    and
      repeat; running numbers are identifiers.
    - Other numbers and dates are standardised, or ranked if one lies more than 10 standard deviations from
    the mean. - What is constant or always missing is ignored.
    """
    kind = column.dtype
    values = column.drop_nulls()
    if kind.is_float():
        values = values.drop_nans()
    if not len(values):
        return "ignore", "no value in the training part"
    if kind in (pl.List, pl.Array):
        return _of_lists(values)
    if kind.is_nested() or kind in (pl.Binary, pl.Object, pl.Time):
        return "ignore", f"{kind} cannot be encoded"
    distinct = values.n_unique()
    if distinct == 1 and len(values) == len(column):
        return "ignore", "constant in the training part"
    if kind in (pl.Boolean, pl.Categorical, pl.Enum):
        return "category", f"{distinct} values"
    if kind == pl.String:
        return _of_text(values, distinct, most_categories)
    if kind.is_integer() and distinct <= FEW_VALUES:
        return "category", f"whole numbers with {distinct} values"
    if kind.is_integer() and any(column.name.lower().endswith(word) for word in CODE_WORDS):
        return _of_codes(values, distinct, most_categories)
    if kind.is_integer() and distinct == len(values) and _span(values) <= 1.1 * distinct:
        return "ignore", "whole numbers without gaps, each once: an identifier"
    return _of_numbers(values)


def is_latitude(name: str) -> bool:
    """True of ``lat``, ``latitude`` and names that end so (``shop_lat``)."""
    return name.lower().rpartition("_")[2] in ("lat", "latitude")


def is_longitude(name: str) -> bool:
    return name.lower().rpartition("_")[2] in ("lon", "lng", "long", "longitude")


def _of_lists(values: pl.Series) -> tuple[Encoding, str]:
    inner: Any = values.dtype.inner  # type: ignore[attr-defined]
    if inner.is_nested():
        return "ignore", "lists of lists"
    if inner.is_float() or values.dtype == pl.Array:
        some = (values.cast(pl.List(inner)).list.len() > 0).any()
        return ("vector", "lists of numbers of one length") if some else ("ignore", "lists without a number")
    return "multi", "lists of whole numbers, each a category" if inner.is_integer() else "lists of values"


def _of_text(values: pl.Series, distinct: int, most_categories: int) -> tuple[Encoding, str]:
    texts = as_texts(values).drop_nulls()
    if not len(texts):
        return "ignore", "no value in the training part"
    if 10 * texts.str.contains(SEPARATOR, literal=True).sum() >= len(texts):
        return "multi", f"values separated by {SEPARATOR}"
    if 2 * distinct <= len(texts) and distinct <= most_categories:
        return "category", f"{distinct} values that repeat"
    if 2 * texts.str.contains(r"\S\s+\S").sum() >= len(texts):
        return "text", "mostly several words"
    return "ignore", f"{distinct} values in {len(texts)} rows: an identifier"


def _of_codes(values: pl.Series, distinct: int, most_categories: int) -> tuple[Encoding, str]:
    if 2 * distinct <= len(values) and distinct <= most_categories:
        return "category", f"the name of a code, {distinct} values that repeat"
    return "ignore", f"the name of a code, {distinct} values in {len(values)} rows: an identifier"


def _of_numbers(values: pl.Series) -> tuple[Encoding, str]:
    numbers = as_numbers(values)
    spread = numbers.std()
    if spread > 0 and np.abs(numbers - numbers.mean()).max() > FAR * spread:
        return "rank", "numbers, some very far from the mean"
    return "standardise", "numbers"


def _span(values: pl.Series) -> int:
    return int(values.max()) - int(values.min()) + 1  # type: ignore[arg-type]
