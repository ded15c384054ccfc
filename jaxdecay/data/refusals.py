"""Words shared by everything that refuses an input: which rows, which other name."""

import difflib
from collections.abc import Iterable, Sequence

import polars as pl

from jaxdecay.errors import InputError

SHOWN_ROWS = 5


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


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The one of ``names`` that a person may have meant by ``name``, or None.

    >>> nearest("user_id", ["movieId", "userId"])
    'userId'
    """
    plain = {_plain(other): other for other in reversed(names)}
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def listed(names: Iterable[object], most: int = 12) -> str:
    """``a, b, c``, cut after ``most`` with a count of the rest."""
    names = list(names)
    shown = ", ".join(str(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def refuse_where(mask: pl.Series, where: str, fault: str, remedy: str) -> None:
    """Raise InputError "``where`` ``fault`` (rows ...); ``remedy``." if ``mask`` (n,) is true anywhere."""
    if mask.any():
        raise InputError(f"{where} {fault} ({row_words(mask)}); {remedy}.")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
