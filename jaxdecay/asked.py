"""Requests as people make them, turned into arrays: who asks, when, in what context, and what may be
answered."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from jaxdecay import ids, moments
from jaxdecay.data.categories import Categories
from jaxdecay.data.checks import require_column
from jaxdecay.data.features import Encoder
from jaxdecay.data.formats import collect, open_table, with_types
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.data.scaling import Vectors
from jaxdecay.errors import InputError
from jaxdecay.names import listed, nearest, perhaps
from jaxdecay.predict import Context

_FEW = 20  # values of a column that are told
OnUnknown = Literal["raise", "skip", "popular"]


def check_on_unknown(value: str, *, users: bool = True) -> None:
    """``users``: somebody asks, who may be answered like anybody new."""
    if value not in ("raise", "skip", *(("popular",) if users else ())):
        choices = "raise, skip or popular" if users else "raise or skip"
        raise InputError(f"on_unknown {value!r} is not known; give {choices}")


def hashed(histories: Histories, kind: str, table: Path) -> str:
    """What messages about unknown ids add when those of the run are hashes; nothing when they are not."""
    options = histories.config.get("options", {}).get("anonymise") or {}
    there = f" ({kind} ids of this run are salted hashes: ask with those in {table})"
    return there if options.get(f"{kind}s") else ""


def check_k(k: Any, items: int, what: str = "the catalogue has {} items") -> int:
    """``k`` as an int from 1 to ``items``; InputError otherwise."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise InputError(f"k {k!r}: give a whole number from 1 to {items}")
    if not 1 <= k <= items:
        raise InputError(f"k={k}, but {what.format(items)}; give a k from 1 to {items}")
    return int(k)


def requests_at(histories: Histories, users: np.ndarray, at: np.ndarray | None) -> Requests:
    """A request of each user (R,), -1 for one without a history, at the times ``at`` (R,) int64: seen are the
    events strictly before.

    ``at`` None: right after each user's last event, which is seen. The requests have no targets.
    """
    users = np.asarray(users, np.int64)
    there = users >= 0
    begin, end = np.full(len(users), histories.events), np.full(len(users), histories.events)
    begin[there], end[there] = histories.offsets[users[there]], histories.offsets[users[there] + 1]
    if at is None:
        last = np.asarray(histories.time)[np.maximum(end - 1, 0)]
        at = np.where(end > begin, last, 0)
    else:
        end[there] = begin[there] + _events_before(histories, users[there], at[there])
    return Requests(
        user=users.astype(np.int32),
        history_end=end,
        at=np.asarray(at, np.int64),
        target_offsets=np.zeros(len(users) + 1, np.int64),
        targets=np.zeros(0, np.int32),
        event=np.zeros(len(users), np.int64),
    )


def without_past(histories: Histories, requests: Requests) -> int:
    """How many users that the run knows have not one visible event."""
    known = requests.user >= 0
    return int((requests.history_end[known] == histories.offsets[requests.user[known]]).sum())


def _events_before(histories: Histories, users: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(R,) how many events of each user lie strictly before its time."""
    rows, starts = histories.rows(users)
    earlier = np.asarray(histories.time)[rows] < np.repeat(at, np.diff(starts))
    counted = np.concatenate([[0], np.cumsum(earlier)])
    return counted[starts[1:]] - counted[starts[:-1]]


def refuse_empty(histories: Histories, requests: Requests, user: Any) -> None:
    """Raises InputError if the one request, of this user, sees no event."""
    index, at = int(requests.user[0]), int(requests.at[0])
    begin, end = histories.offsets[index : index + 2]
    if requests.history_end[0] > begin:
        return
    relative = histories.clock == "relative"
    if begin == end:
        raise InputError(f"user {user!r} has no event in this run; ask for one who has")
    first = int(np.asarray(histories.time)[begin])
    words = (at, first) if relative else (moments.iso(at), moments.iso(first))
    raise InputError(
        f"user {user!r} has no event before {words[0]}: the first is at {words[1]}; give a later time"
    )


def behaviour_of(histories: Histories, name: str | None) -> int:
    """Index of a behaviour; None: that of most events."""
    names = histories.config["behaviours"]
    if name is None:
        counted = np.bincount(np.asarray(histories.behaviour), minlength=1)
        return int(counted.argmax())
    if name not in names:
        there = perhaps(name, names) if names else "the log names none"
        raise InputError(f"behaviour {name!r} is not known; {there}")
    return names.index(name)


def found(
    given: Any, known: pl.Series, on_unknown: OnUnknown, *, popular: bool = False, hint: str = ""
) -> tuple[pl.Series, np.ndarray, tuple[str, ...]]:
    """Ids, their indices (-1 for one never seen, only with "popular"), and notes on what was done about those
    never seen, in the type of the known ones where all of them can be.

    ``popular``: whether that may be said. ``hint`` as in `jaxdecay.ids.refuse_unknown`.
    """
    names = ids.as_ids(given, known)
    index = ids.find(names, known)
    if not (index < 0).any():
        return names, index, ()
    if on_unknown == "raise":
        remedy = "leave them out, or say on_unknown='skip'" + " or on_unknown='popular'" * popular
        ids.refuse_unknown(names, index, remedy, known=known, hint=hint)
    words = f"{ids.unknown_words(names, index)}: never seen"
    if on_unknown == "popular":
        return names, index, (f"{words}, answered like somebody without a history{hint}",)
    there = index >= 0
    return names.filter(pl.Series(there)).cast(known.dtype), index[there], (f"{words}, skipped{hint}",)


def shortage(rows: int, lists: int, k: int) -> tuple[str, ...]:
    """A note when lists came out short."""
    missing = lists * k - rows
    return (
        (f"fewer than {k} items are left for some: {missing} of {lists * k} places are empty",)
        if missing
        else ()
    )


def unique_requests(
    histories: Histories, users: np.ndarray, at: np.ndarray | int | None
) -> tuple[Requests, np.ndarray]:
    """A request for each different pair of user and time among n, and which of them each is (n,)."""
    when = np.full(len(users), -1 if at is None else at, np.int64)
    pairs, row = np.unique(np.stack([users, when], axis=1), axis=0, return_inverse=True)
    return requests_at(histories, pairs[:, 0], None if at is None else pairs[:, 1]), row.ravel()


def read_pairs(pairs: Any) -> tuple[pl.DataFrame, str]:
    """The rows of a table of user_id, item_id and perhaps at, as they are, and the name of the table in
    messages."""
    table = open_table(pairs)
    frame = collect(table, with_types(table, table.frame, ids=("user_id", "item_id")))
    for name in ("user_id", "item_id"):
        require_column(table.name, frame.columns, name, "rename the one that is meant")
    if "timestamp" in frame.columns and "at" not in frame.columns:
        raise InputError(
            f"{table.name}: column 'timestamp' is not read; rename it to 'at', the moment of each pair, "
            "or drop it"
        )
    if "score" in frame.columns:
        raise InputError(f"{table.name}: column 'score' is in the way of the scores; rename or drop it")
    return frame, table.name


def context_of(histories: Histories, given: Mapping[str, Any] | None) -> tuple[Context, tuple[str, ...]]:
    """The context columns of one request, (1, .) each: what was ``given`` by column name, the rest missing;
    and a note on each category that the log never had, which counts as missing.

    Raises InputError for a column that the run does not know and a value that its encoding cannot take.
    """
    described = histories.config["features"].get("context") or {}
    encoder = Encoder.from_json(described["encoder"]) if "encoder" in described else Encoder()
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"context {given!r}: give columns with their values, such as {{'device': 'phone'}}")
    readers, given = encoder.readers(), dict(given or {})
    row, notes = {name: [None] for name in readers}, []
    for name, value in given.items():
        if name not in readers:
            there = perhaps(name, list(readers)) if readers else "it was prepared without any"
            raise InputError(f"context column {name!r}: this run does not know it; {there}")
        reader = readers[name]
        try:
            encoded = reader.apply(pl.DataFrame(row | {name: [value]}))
        except (InputError, TypeError, pl.exceptions.PolarsError) as error:
            wanted = "a list of numbers" if isinstance(reader, Vectors) else "a number"
            wanted = "text" if isinstance(reader, Categories) else wanted
            raise InputError(f"context {name}={value!r}: give {wanted}") from error
        if isinstance(reader, Categories) and value is not None and not encoded.any():
            notes.append(f"context {name}={value!r}: never seen in the log, taken as missing")
    if not readers:
        return Context(
            np.zeros((1, histories.context_categorical.shape[1]), np.int32),
            np.zeros((1, histories.context_numeric.shape[1]), np.float32),
        ), ()
    row |= {name: [value] for name, value in given.items()}
    return Context(*encoder.apply(pl.DataFrame(row))), tuple(notes)


def allowed_items(
    items: pl.DataFrame,
    allow: Any,
    deny: Any,
    where: pl.Expr | str | None,
    on_unknown: OnUnknown,
    *,
    hint: str = "",
) -> np.ndarray | None:
    """(V,) bool: the items that may be listed, or None for all of them.

    ``allow``, ``deny``: item ids; those never seen are refused with ``on_unknown="raise"`` and have no effect
    otherwise. ``where``: a Polars expression (or SQL text) over the columns of ``items``; rows for which it
    is null are left out.
    """
    if allow is None and deny is None and where is None:
        return None
    mask = np.ones(len(items), bool)
    for given, name in ((allow, "allow"), (deny, "deny")):
        if given is None:
            continue
        listed_ids = ids.as_ids(given, items["item_id"])
        index = ids.find(listed_ids, items["item_id"])
        if on_unknown == "raise":
            remedy = f"take it off {name}, or say on_unknown='skip'"
            ids.refuse_unknown(listed_ids, index, remedy, known=items["item_id"], hint=hint)
        chosen = np.zeros(len(items), bool)
        chosen[index[index >= 0]] = True
        mask &= chosen if name == "allow" else ~chosen
    if where is not None:
        mask &= _where(items, where)
    return mask


def _where(items: pl.DataFrame, where: pl.Expr | str) -> np.ndarray:
    columns = items.drop("index")
    there = f"there are the item columns {listed(columns.columns, 40)}"
    unknown: list[str] = []
    try:
        expression = pl.sql_expr(where) if isinstance(where, str) else where
        unknown += (name for name in expression.meta.root_names() if name not in columns.columns)
        result = columns.select(expression.alias("where")).to_series()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, AttributeError) as error:
        near = nearest(unknown[0], columns.columns) if unknown else None
        perhaps_meant = "" if near is None else f"; perhaps {near!r}"
        raise InputError(f"where: {_line(error)}; {there}{perhaps_meant}") from error
    if result.dtype != pl.Boolean or len(result) not in (1, len(items)):
        raise InputError(
            f"where: gives {result.dtype} in {len(result)} rows instead of true or false for each of "
            f"{len(items)} items; {there}"
        )
    if not result.any() and (values := _values(columns, expression)):  # a name that there is not
        raise InputError(f"where: none of {len(items)} items fits{values}")
    result = result.fill_null(False).to_numpy()
    return np.broadcast_to(result, len(items))


def _values(items: pl.DataFrame, expression: pl.Expr) -> str:
    """What there is in the columns of text that an expression reads, where that is little."""
    read = [items[name] for name in expression.meta.root_names() if items[name].dtype == pl.String]
    few = [column for column in read if column.n_unique() <= _FEW]
    return "".join(f"; {one.name} is {listed(one.drop_nulls().unique().sort(), _FEW)}" for one in few)


def _line(error: Exception) -> str:
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
