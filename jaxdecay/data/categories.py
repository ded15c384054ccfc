"""Encoders into integer codes: categories (one or several a row) and buckets of numbers.

Code 0 stands for "missing, unknown, or padding"; known values have codes from 1, the most frequent first. A
block of width 1 holds one code a row; a wider block holds the codes of a multi-valued column, padded with 0
at the end, for a model to embed and average over the codes above 0 (a row of zeros has no known value, and
takes the embedding of 0).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from jaxdecay.data.refusals import ColumnRefused
from jaxdecay.data.scaling import as_numbers

SEPARATOR = "|"


@dataclass(frozen=True)
class Categories:
    """Codes of the values of one column, in a block (n, width) int32."""

    column: str
    values: tuple[str, ...]
    """Known values as text, by falling training frequency; the value at place i has code i + 1."""
    width: int = 1
    multi: bool = False

    @property
    def cardinality(self) -> int:
        return len(self.values) + 1

    def apply(self, frame: pl.DataFrame) -> np.ndarray:
        texts = as_lists(frame[self.column]) if self.multi else as_texts(frame[self.column])
        if not self.multi:
            return self._codes(texts)[:, None]
        rows, tokens = _exploded(texts)
        codes = self._codes(tokens)
        rows, codes = rows[codes > 0], codes[codes > 0]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        block = np.zeros((frame.height, self.width), dtype=np.int32)
        fits = place < self.width
        block[rows[fits], place[fits]] = codes[fits]
        return block

    def _codes(self, texts: pl.Series) -> np.ndarray:
        if not self.values:
            return np.zeros(len(texts), dtype=np.int32)
        places = pl.Series(range(1, self.cardinality), dtype=pl.Int32)
        return texts.replace_strict(
            pl.Series(self.values), places, default=0, return_dtype=pl.Int32
        ).to_numpy()


@dataclass(frozen=True)
class Buckets:
    """Codes 1, 2, ... of numbers by training quantiles, 0 for missing: a block (n, 1) int32."""

    column: str
    edges: tuple[float, ...]
    """Ascending; a value equal to an edge belongs to the bucket above it."""

    @property
    def cardinality(self) -> int:
        return len(self.edges) + 2

    @property
    def width(self) -> int:
        return 1

    def apply(self, frame: pl.DataFrame) -> np.ndarray:
        numbers = as_numbers(frame[self.column])
        codes = 1 + np.searchsorted(np.asarray(self.edges), numbers, side="right")
        return np.where(np.isnan(numbers), 0, codes).astype(np.int32)[:, None]


def fit_categories(column: pl.Series, most: int) -> Categories:
    """The ``most`` most frequent values (ties in order of text)."""
    return Categories(column.name, _most_frequent(as_texts(column), most))


def fit_multi(column: pl.Series, most: int, widest: int) -> Categories:
    """As `fit_categories`, for lists and for text such as ``a|b``; at most ``widest`` values a row, the first
    ones."""
    lists = as_lists(column)
    rows, tokens = _exploded(lists)
    values = _most_frequent(tokens, most)
    known = rows[tokens.is_in(list(values)).to_numpy()]
    width = int(np.bincount(known).max(initial=1)) if len(known) else 1
    return Categories(column.name, values, width=min(width, widest), multi=True)


def fit_buckets(column: pl.Series, buckets: int) -> Buckets:
    """Buckets of about equal training counts; fewer where values repeat."""
    numbers = as_numbers(column)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return Buckets(column.name, ())
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, buckets + 1)[1:-1]))
    return Buckets(column.name, tuple(float(edge) for edge in edges[edges > numbers.min()]))


def values_of(column: pl.Series, multi: bool) -> pl.Series:
    """All values of all rows, as text, without nulls."""
    return _exploded(as_lists(column))[1] if multi else as_texts(column).drop_nulls()


def rows_cut(column: pl.Series, fitted: Categories) -> int:
    """Rows with more known values than the block is wide."""
    rows, tokens = _exploded(as_lists(column))
    known = rows[tokens.is_in(list(fitted.values)).to_numpy()]
    return int((np.bincount(known) > fitted.width).sum()) if len(known) else 0


def as_texts(column: pl.Series) -> pl.Series:
    """Values as text, so that 1 of an Int32, an Int64 or a Float64 column (pandas' way with missing values)
    are one category. Empty text and NaN are null."""
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Object):
        raise ColumnRefused(
            column.name,
            f"holds {column.dtype}, no single values",
            "encode it as multi or vector, or ignore it",
        )
    if column.dtype.is_float():
        whole = column.is_not_nan() & column.is_finite() & (column == column.floor()) & (column.abs() < 2**53)
        column = column.fill_nan(None)
        integers = pl.select(pl.when(whole).then(column)).to_series().cast(pl.Int64).cast(pl.String)
        return integers.zip_with(whole.fill_null(False), column.cast(pl.String)).alias(column.name)
    texts = column.cast(pl.String)
    return texts.set(texts == "", None)


def as_lists(column: pl.Series) -> pl.Series:
    """List(String) of the values in each row, each once, in their order."""
    if column.dtype in (pl.List, pl.Array):
        inner = pl.List(pl.String)
        lists = column.cast(inner)
    else:
        lists = as_texts(column).str.split(SEPARATOR).list.eval(pl.element().str.strip_chars())
    return lists.list.unique(maintain_order=True)


def _exploded(lists: pl.Series) -> tuple[np.ndarray, pl.Series]:
    """Row numbers (k,) ascending and values (k,) String, without nulls and empty text."""
    pairs = pl.DataFrame({"row": pl.int_range(len(lists), eager=True), "value": lists}).explode("value")
    pairs = pairs.filter(pl.col("value").is_not_null() & (pl.col("value") != ""))
    return pairs["row"].to_numpy(), pairs["value"]


def _most_frequent(texts: pl.Series, most: int) -> tuple[str, ...]:
    counts = (
        texts.drop_nulls().alias("value").value_counts().sort(["count", "value"], descending=[True, False])
    )
    return tuple(counts["value"].head(most))
