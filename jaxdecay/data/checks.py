"""Checks of columns that every table of a log shares: presence, ids, numbers, nulls."""

from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from jaxdecay.data.refusals import refuse_where, row_words
from jaxdecay.data.scaling import LARGEST
from jaxdecay.errors import InputError
from jaxdecay.names import listed, nearest

Nulls = Literal["refuse", "drop"]
OPTIONAL = ("label",)  # a label may be unknown: such a pair is not labelled


def require_column(where: str, names: Sequence[str], column: str, remedy: str) -> None:
    """Raise InputError unless ``column`` is one of ``names``."""
    if column in names:
        return
    near = nearest(column, names)
    raise InputError(
        f"{where}: there is no column {column!r}; there are {listed(names)}"
        f"{f', of which {near!r} is the nearest' if near else ''}; {remedy}."
    )


def refuse_clash(where: str, roles: Mapping[str, str], kept: Sequence[str]) -> None:
    """Raise InputError when two roles share a column, or a kept column has the name of a role."""
    for role, name in roles.items():
        if list(roles.values()).count(name) > 1:
            twins = listed(other for other, column in roles.items() if column == name)
            raise InputError(
                f"{where}: column {name!r} was named for several things ({twins}); give each its own column."
            )
        if role in kept:
            raise InputError(
                f"{where}: column {role!r} is in the way of {name!r}, which was named for it; rename or "
                "leave out one of them."
            )


def refuse_no_rows(where: str, frame: pl.DataFrame, dropped: int = 0) -> None:
    if frame.is_empty():
        detail = f" left of {dropped}, all of which lack a value" if dropped else ""
        raise InputError(f"{where}: has no rows{detail}; give a table with at least one.")


def ids(column: pl.Series, where: str) -> pl.Series:
    """Integer or String ids as given; Categorical and Enum as String. Raises InputError for anything else."""
    kind = column.dtype
    if kind.is_integer() or kind == pl.String:
        floats = column.str.contains(r"^-?\d+\.0*$") if kind == pl.String else pl.Series([False])
        if floats.any() and floats.all():
            raise InputError(
                f"{where} holds ids written as floating-point numbers ({row_words(floats)}); write them as "
                "integers."
            )
        return column
    if kind in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    if kind == pl.Null:
        return column.cast(pl.String)
    if kind.is_float() or kind.is_decimal():
        lost = column.is_nan() if kind.is_float() else pl.Series([False])
        detail = f" with NaN ({row_words(lost)})" if lost.any() else f" ({row_words(column.is_not_null())})"
        raise InputError(
            f"{where} holds floating-point ids{detail}; make them integers or text, and remove rows without "
            "an id."
        )
    raise InputError(f"{where} holds {kind}, no ids; give integers or text.")


def numbers(column: pl.Series, where: str) -> pl.Series:
    """Float32 numbers, NaN as null. Raises InputError for infinite values and for anything that is no
    number."""
    kind = column.dtype
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        bad = (
            column.cast(pl.Float64, strict=False).is_null() & column.is_not_null()
            if kind == pl.String
            else None
        )
        rows = f" ({row_words(bad)})" if bad is not None and bad.any() else ""
        raise InputError(
            f"{where} holds {kind} values that are no numbers{rows}; correct them, or name another column."
        )
    column = column.cast(pl.Float32).fill_nan(None)
    if column.is_infinite().any():
        raise InputError(
            f"{where} holds infinite or too large numbers ({row_words(column.is_infinite())}); correct them."
        )
    return column


def refuse_unusable(column: pl.Series, where: str) -> None:
    """Raise InputError for infinite numbers, and for vectors that hold one, or one beyond float32, or are not
    all of one length: no encoding takes them."""
    kind = column.dtype
    remedy = "correct them, or leave out the column"
    if kind.is_float():
        refuse_where(column.is_infinite(), where, "holds infinite numbers", remedy)
    if isinstance(kind, (pl.List, pl.Array)) and kind.inner in (pl.Float32, pl.Float64):
        lists = column.cast(pl.List(pl.Float64))
        lengths = lists.list.len().fill_null(0)
        width = lengths.filter(lengths > 0).mode().sort().first()
        if width is None:  # not one vector there
            return
        refuse_where(
            (lengths > 0) & (lengths != width), where, f"holds vectors of other lengths than {width}", remedy
        )
        # NaN, which counts as missing, is above everything to Polars.
        beyond = (pl.element().abs() > LARGEST) & pl.element().is_not_nan()
        beyond = lists.list.eval(beyond).list.any()
        refuse_where(beyond, where, "holds vectors with numbers infinite or beyond float32", remedy)


def outcomes(column: pl.Series, where: str) -> pl.Series:
    """Float32 labels: 0, 1 or null. Raises InputError for all else."""
    column = numbers(column, where)
    refuse_where(
        ~column.is_in([0.0, 1.0]),
        where,
        "holds labels other than 0 and 1",
        "write 0, 1 or nothing, or rename the column to keep it as context",
    )
    return column


def without_nulls(
    frame: pl.DataFrame,
    places: Mapping[str, str],
    nulls: Nulls,
    *,
    blank_lines: bool = False,
    row: str | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Refuse or drop the rows that lack one of the columns in ``places`` (column -> words for messages); also
    counts by column.

    blank_lines: rows without any value are blank lines of a text file, and dropped whatever ``nulls`` says.
    Empty text counts as null. row: a column of row numbers, which blank lines have, too.
    """
    if nulls not in ("refuse", "drop"):
        raise InputError(f"nulls {nulls!r} is not known; give one of refuse, drop.")
    missing = {column: _missing(frame[column]) for column in places if column not in OPTIONAL}
    missing = {column: mask for column, mask in missing.items() if mask.any()}
    if not missing:
        return frame, {}
    blank = pl.Series([False]).new_from_index(0, frame.height)
    if blank_lines:
        values = frame if row is None else frame.drop(row)
        blank = values.select(pl.all_horizontal(pl.all().is_null())).to_series()
    counts = {"blank lines": int(blank.sum())} if blank.any() else {}
    lost = blank
    for column, mask in missing.items():
        only = mask & ~blank
        if only.any() and nulls == "refuse":
            raise InputError(
                f"{places[column]} has no value in {row_words(only)}; correct them, or drop them with "
                "--nulls drop."
            )
        if only.any():
            counts[f"no {column}"] = int((only & ~lost).sum())
        lost = lost | mask
    return frame.filter(~lost), {reason: count for reason, count in counts.items() if count}


def _missing(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String and (column == "").any():
        return column.is_null() | (column == "")
    return column.is_null()
