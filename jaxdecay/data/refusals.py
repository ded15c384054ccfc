"""Words shared by everything that refuses a table: which, and which rows."""

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from jaxdecay.errors import InputError

SHOWN_ROWS = 5


class ColumnRefused(InputError):
    """A column that cannot be encoded, or some rows of it: where ``mask`` (n,) is true.

    Whoever encodes knows neither the table nor its order of rows; `in_table` does.
    """

    def __init__(self, column: str, fault: str, remedy: str, mask: pl.Series | None = None) -> None:
        self._column, self._fault, self._remedy = f"column {column!r}", fault, remedy
        self._at = None if mask is None else mask.fill_null(False).arg_true()
        super().__init__(self._words(self._column, None if self._at is None else self._at + 1))

    def of(self, table: str, rows: pl.Series | None) -> InputError:
        """The same with the name of the table; row k here is ``rows[k]`` there, null if there is none."""
        numbers = None if self._at is None or rows is None else rows.gather(self._at).drop_nulls().sort()
        return InputError(self._words(f"{table}: {self._column}", numbers))

    def _words(self, where: str, numbers: pl.Series | None) -> str:
        rows = "" if numbers is None or numbers.is_empty() else f" ({numbered_rows(numbers)})"
        return f"{where} {self._fault}{rows}; {self._remedy}."


@contextmanager
def in_table(table: str, rows: pl.Series | None) -> Iterator[None]:
    """Lets columns that are refused inside be told as those of ``table``, with its own row numbers: ``rows``
    (n,), from 1, of the rows that are encoded inside; None: not known, and not told."""
    try:
        yield
    except ColumnRefused as refused:
        raise refused.of(table, rows) from refused


def refuse_values(column: pl.Series, mask: pl.Series, fault: str, remedy: str) -> None:
    """Raise ColumnRefused if ``mask`` (n,) is true anywhere."""
    if mask.any():
        raise ColumnRefused(column.name, fault, remedy, mask)


def row_words(mask: pl.Series) -> str:
    """The rows where the boolean ``mask`` (n,) is true, counted from 1: the first five, and how many in all.

    >>> row_words(pl.Series([False, True, None, True]))
    'rows 2, 4'
    >>> row_words(pl.Series([True] * 7))
    'rows 1, 2, 3, 4, 5 ... (7 in all)'
    """
    return numbered_rows(mask.fill_null(False).arg_true() + 1)


def numbered_rows(numbers: pl.Series) -> str:
    """The rows of these numbers, in words: the first five, and how many in all."""
    shown = ", ".join(map(str, numbers.head(SHOWN_ROWS)))
    if len(numbers) > SHOWN_ROWS:
        return f"rows {shown} ... ({len(numbers)} in all)"
    return f"row{'s' if len(numbers) > 1 else ''} {shown}"


def refuse_where(mask: pl.Series, where: str, fault: str, remedy: str) -> None:
    """Raise InputError "``where`` ``fault`` (rows ...); ``remedy``." if ``mask`` (n,) is true anywhere."""
    if mask.any():
        raise InputError(f"{where} {fault} ({row_words(mask)}); {remedy}.")
