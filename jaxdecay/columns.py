"""Columns of items or of users as what tells them apart: the values of one, and which of them each row
has."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay.errors import InputError
from jaxdecay.names import perhaps

FEW = 100
"""Different values of a column of words that is taken unasked."""
_MOST_KINDS = 10_000
_OWN = ("index", "item_id", "user_id")


class Coded(NamedTuple):
    """A column of n rows."""

    names: list[str]
    """Its different values as text, sorted."""
    of: np.ndarray
    """(n,) int64, the place of each row's value among them; -1 where there is none."""


def columns_of(table: pl.DataFrame) -> list[str]:
    """Those that were given, besides index and id."""
    return [name for name in table.columns if name not in _OWN]


def coded(table: pl.DataFrame, column: str, said: str, *, more: Sequence[str] = ()) -> Coded:
    """A column of the table; that of ids, too. ``said`` opens messages; ``more``: what
    else could have been named.

    Raises InputError, with the nearest name, for a column that is not there, and for one of lists.
    """
    if column == "index" or column not in table.columns:
        raise InputError(f"{said}: {perhaps(column, [*more, *columns_of(table)])}")
    if table[column].dtype.is_nested():
        raise InputError(f"{said}: holds {table[column].dtype}; give a column of single values")
    values = table[column].cast(pl.String, strict=False)
    names = values.drop_nulls().unique().sort()
    code = values.replace_strict(names, range(len(names)), default=-1, return_dtype=pl.Int64)
    return Coded(names.to_list(), code.to_numpy())


def kinds_by(items: pl.DataFrame, column: str) -> Coded:
    """An item column by whose values interests are named. Raises InputError as `coded` does, and for one of
    fewer than 2 or more than 10,000 values."""
    found = coded(items, column, f"item column {column!r}")
    if not 1 < len(found.names) <= _MOST_KINDS:
        raise InputError(
            f"item column {column!r} has {len(found.names)} values; give one of 2 to {_MOST_KINDS}"
        )
    return found


def as_text(values: Sequence[Any], column: pl.Series) -> pl.Series:
    """(n,) values as `coded` names those of the column, whose name it has.

    >>> as_text([5, "9.740"], pl.Series([5.0])).to_list(), as_text([True], pl.Series([True])).to_list()
    (['5.0', '9.74'], ['true'])
    """
    words = pl.Series(column.name, [str(value) for value in values], dtype=pl.String)
    if column.dtype == pl.Boolean:
        return words.str.to_lowercase()
    if not column.dtype.is_numeric():
        return words
    return words.cast(column.dtype, strict=False).cast(pl.String).fill_null(words)


def few_valued(table: pl.DataFrame) -> str | None:
    """The first column of words with 2 to `FEW` different values, or None."""
    words = (pl.String, pl.Categorical, pl.Enum, pl.Boolean)
    there = (name for name in columns_of(table) if table[name].dtype in words)
    return next((name for name in there if 2 <= table[name].drop_nulls().n_unique() <= FEW), None)
