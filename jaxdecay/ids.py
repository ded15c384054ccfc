"""Ids and indices: what people call users and items, and where these stand in the arrays.

The tables ``users.parquet`` and ``items.parquet`` beside the histories hold index, id and the columns as they
were given.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from jaxdecay.errors import InputError
from jaxdecay.names import listed, nearest

Lists = Iterable[tuple[slice, np.ndarray, np.ndarray]]
"""Stretches of lists: which, their items (r, k) with -1 for places left empty, and their scores (r, k)."""
_SEARCHED = 50_000  # ids among which the one that was meant is looked for
_BEGINNING = 2  # letters that it begins with, where there are more
_LIST = {"score": pl.lit(None, pl.Float32), "rank": pl.lit(None, pl.Int32)}


def read_table(histories: Path, kind: str, *, rows: int) -> pl.DataFrame:
    """The table of a kind ("user" or "item") in the order of indices: index, ``<kind>_id``, further columns.

    Raises InputError when it is missing, damaged, or does not have ``rows`` rows.
    """
    path, name = histories / f"{kind}s.parquet", f"{kind}_id"
    if not path.is_file():
        raise InputError(
            f"{path}: missing, so no {kind} can be called by its id; copy it from the prepared log"
        )
    try:
        table = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise InputError(
            f"{path}: damaged ({type(error).__name__}); copy it from the prepared log"
        ) from error
    whole = name in table.columns and "index" in table.columns and table.height == rows
    if not whole or not np.array_equal(table["index"].to_numpy(), np.arange(rows)):
        raise InputError(
            f"{path}: does not fit the histories beside it ({rows} {kind}s); copy it from the prepared log"
        )
    return table


def as_ids(given: Any, known: pl.Series) -> pl.Series:
    """What was given as ids (one, several, a Series, a frame with that column), each once, as `typed` makes
    them."""
    kind = known.name.removesuffix("_id")
    if isinstance(given, pl.DataFrame):
        if known.name not in given.columns:
            raise InputError(
                f"the frame of {kind}s has no column {known.name!r}; there are {listed(given.columns)}"
            )
        given = given[known.name]
    if isinstance(given, (str, int, np.integer)):
        given = [given]
    try:
        ids = given if isinstance(given, pl.Series) else pl.Series(list(given), strict=True)
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError):
        raise InputError(f"{kind} ids {_short(given)}: give a list of {_word(known)}") from None
    return typed(ids, known).unique(maintain_order=True) if len(ids) else known.clear()


def typed(ids: pl.Series, known: pl.Series) -> pl.Series:
    """The ids under the name of the ``known`` ones and in their type, or all as text where one of them cannot
    be of that type, which is therefore unknown.

    Integers may be written as text, as on a command line, and the other way round. Raises InputError for
    anything that is no id.
    """
    kind = known.name.removesuffix("_id")
    if ids.null_count():
        raise InputError(f"{kind} ids hold a missing value; leave it out")
    if ids.dtype in (pl.Categorical, pl.Enum):
        ids = ids.cast(pl.String)
    if ids.dtype != pl.String and not ids.dtype.is_integer():
        raise InputError(f"{kind} ids hold {ids.dtype}; give {_word(known)}")
    cast = ids.cast(known.dtype, strict=False)
    if cast.null_count():
        cast = cast.cast(pl.String).fill_null(ids.cast(pl.String))
    return cast.alias(known.name)


def find(ids: pl.Series, known: pl.Series) -> np.ndarray:
    """(n,) int64 index of each id, -1 where it is not among the known ones."""
    table = pl.DataFrame({"id": known, "index": pl.int_range(len(known), dtype=pl.Int64, eager=True)})
    asked = pl.DataFrame({"id": ids.cast(known.dtype, strict=False)})
    joined = asked.join(table, on="id", how="left", maintain_order="left")
    return joined["index"].fill_null(-1).to_numpy()


def unknown_words(ids: pl.Series, index: np.ndarray) -> str:
    """``user 'x'``, ``users 'x', 'y' and 3 more``, ``genre 'x', 'y'``: those without an index."""
    missing = [repr(one) for one in ids.filter(pl.Series(index < 0)).unique(maintain_order=True)]
    kind = ids.name.removesuffix("_id")
    return f"{kind}{'s' if len(missing) > 1 and kind != ids.name else ''} {listed(missing, 8)}"


def refuse_unknown(
    ids: pl.Series, index: np.ndarray, remedy: str, *, known: pl.Series, hint: str = ""
) -> None:
    """Raises InputError naming the ids whose index is -1; ``hint`` says what ids are in this run, where that
    is not plain."""
    if (index < 0).any():
        if ids.dtype != known.dtype:
            kind = known.name.removesuffix("_id")
            hint = f", whose {kind} ids are {_word(known)} ({known.dtype}){hint}"
        hint = hint or _perhaps(ids.filter(pl.Series(index < 0)), known)
        raise InputError(f"{unknown_words(ids, index)}: never seen in the log of this run{hint}; {remedy}")


def _perhaps(unknown: pl.Series, known: pl.Series) -> str:
    """Which id was meant, where a single one was mistyped."""
    if unknown.n_unique() > 1:
        return ""
    meant, names = str(unknown[0]), known.cast(pl.String)
    if len(names) > _SEARCHED:
        names = names.filter(names.str.starts_with(meant[:_BEGINNING])).head(_SEARCHED)
    near = nearest(meant, names.to_list())
    shown = repr(near) if known.dtype == pl.String else near
    return f" (the nearest is {shown})" if near is not None else ""


def list_frame(owner: pl.Series, items: pl.Series, lists: Lists) -> pl.DataFrame:
    """Lists as a frame: the owner's id, the item's id, score (Float32), rank (Int32, from 1), a row per place
    that is taken.

    ``owner`` (n,) holds the ids of those the lists are for, ``items`` (V,) the ids that they point at.
    """
    frames = [pl.DataFrame({owner.name: owner.clear(), items.name: items.clear()}).with_columns(**_LIST)]
    for chunk, found, score in lists:
        row, place = np.nonzero(found >= 0)
        frames.append(
            pl.DataFrame(
                {
                    owner.name: owner[chunk][row],
                    items.name: items[found[row, place]],
                    "score": score[row, place],
                    "rank": (place + 1).astype(np.int32),
                }
            )
        )
    return pl.concat(frames)


def with_words(lists: pl.DataFrame, owner: pl.Series, words: list[str]) -> pl.DataFrame:
    """Lists with a column served_by: of each owner (n,), each once, the words (n,)."""
    told = pl.DataFrame({owner.name: owner, "served_by": pl.Series(words, dtype=pl.String)})
    return lists.join(told, on=owner.name, how="left", maintain_order="left")


def _word(known: pl.Series) -> str:
    return "text" if known.dtype == pl.String else "integers"


def _short(given: Any) -> str:
    text = " ".join(repr(given).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
