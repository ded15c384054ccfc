"""From a log to prepared histories: read, clean, split, count and fit on the training part, write.

Polars here, NumPy from here on: what is written needs no Polars to be trained on.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from jaxdecay.data import store
from jaxdecay.data.anonymise import AnonymiseOptions, anonymise, keep_salt, read_or_draw_salt
from jaxdecay.data.checks import require_column
from jaxdecay.data.clean import CleanOptions, clean, k_core
from jaxdecay.data.context import choose_context
from jaxdecay.data.events import ROW, Columns, read_events, read_items, read_users
from jaxdecay.data.features import Encoder, FeatureSpec, fit_features
from jaxdecay.data.formats import name_of
from jaxdecay.data.histories import Histories
from jaxdecay.data.refusals import in_table
from jaxdecay.data.split import SplitOptions, assign_parts, describe_split, repeat_share
from jaxdecay.data.times import Clock, Unit
from jaxdecay.data.vocabulary import behaviours_of, table_of, vocabulary


@dataclass(frozen=True)
class PrepareOptions:
    """How a log becomes prepared histories."""

    columns: Columns = field(default_factory=Columns)
    """Where the log keeps what."""
    unit: Unit | None = None
    """Unit of integer times, where it is not unmistakable."""
    clock: Clock = "utc"
    """utc, or relative: times count from each user's first event."""
    clean: CleanOptions = field(default_factory=CleanOptions)
    """What is taken out."""
    split: SplitOptions = field(default_factory=SplitOptions)
    """Training, validation and test."""
    item_features: FeatureSpec = field(default_factory=FeatureSpec)
    """Encodings of item columns."""
    user_features: FeatureSpec = field(default_factory=FeatureSpec)
    """Encodings of user columns."""
    context_features: FeatureSpec = field(default_factory=FeatureSpec)
    """Encodings of the further columns of the log."""
    anonymise: AnonymiseOptions = field(default_factory=AnonymiseOptions)
    """Ids replaced by salted hashes."""
    items: Path | None = None
    """Table of item columns; by default items.parquet beside a Parquet log, if there is one."""
    users: Path | None = None
    """Table of user columns; by default users.parquet beside a Parquet log, if there is one."""


class _Log(NamedTuple):
    events: pl.DataFrame
    """With row numbers (`ROW`) if there are further columns; tables of items and users always have them."""
    items: pl.DataFrame | None
    users: pl.DataFrame | None
    names: dict[str, str]
    """Of the tables of context, items and users, in messages."""
    report: dict[str, Any]
    salt: tuple[bytes, Path | None] | None
    """That of hashed ids, and where it must yet be written if it is new."""


def prepare(
    source: Any,
    out: str | Path,
    options: PrepareOptions | None = None,
    *,
    items: Any = None,
    users: Any = None,
    overwrite: bool = False,
) -> Histories:
    """Reads a log (a path or a frame), writes prepared histories to the directory ``out`` and maps them.

    Args:
        items, users: tables of item and user columns (paths or frames); default: those of the options, or
            items.parquet and users.parquet beside a Parquet log.
        overwrite: replace a prepared directory at ``out``.

    Guarantees: everything fitted or counted comes from the training part; indices depend on ids alone, not
    on the order of rows; ``out`` is written wholly or not at all, and a new salt only with it.

    Raises:
        InputError: everything that reading, cleaning, splitting and encoding refuse, in one line.
    """
    options = options or PrepareOptions()
    store.check_target(out, overwrite=overwrite)
    log = _read(source, options, Path(out), items, users)
    events, part = _split(log, options)
    histories, tables = _assemble(log, events, part, options)
    with store.staged(out, overwrite=overwrite) as directory:
        for name, table in tables.items():
            _write_table(table, directory / f"{name}.parquet")
        histories.write(directory)
        if log.salt is not None and log.salt[1] is not None:  # last, but never after what it hashed is there
            keep_salt(log.salt[1], log.salt[0])
    return Histories.load(out)


def _write_table(table: pl.DataFrame, path: Path) -> None:
    """OSError for all that can go wrong, which `store.staged` puts into words; Polars has an error of its own
    for a full disk."""
    try:
        table.write_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise OSError(" ".join(str(error).split())) from error


def _read(source: Any, options: PrepareOptions, out: Path, items: Any, users: Any) -> _Log:
    frame, read = read_events(
        source,
        columns=options.columns,
        unit=options.unit,
        clock=options.clock,
        nulls=options.clean.nulls,
        row=ROW,
    )
    frame = frame if read["context"] else frame.drop(ROW)
    item_source = _side_source(source, "items", items if items is not None else options.items)
    user_source = _side_source(source, "users", users if users is not None else options.users)
    item_frame = None if item_source is None else read_items(item_source, row=ROW)
    user_frame = None if user_source is None else read_users(user_source, row=ROW)
    names = {"context": name_of(source, "the log")}
    for one, table in (("item", item_source), ("user", user_source)):
        names[one] = name_of(table, f"the table of {one}s")
    there = {"context": read["context"]}
    for one, table in (("item", item_frame), ("user", user_frame)):
        there[one] = [f"{one}_id"] if table is None else table.drop(ROW).columns
    _check_encodings(options, there, names)
    frame, cleaned = clean(frame, options.clean)
    hidden = options.anonymise
    salt = None
    if hidden.users or hidden.items:
        salt = read_or_draw_salt(hidden.salt, outside=(out,))
        frame, item_frame, user_frame = (
            None if one is None else anonymise(one, salt[0], users=hidden.users, items=hidden.items)
            for one in (frame, item_frame, user_frame)
        )
        assert frame is not None
    report = {"read": read, "clean": cleaned, "warnings": list(read["warnings"])}
    report["side_tables"] = {
        name: chosen.name if isinstance(chosen, Path) else "given"
        for name, chosen in (("items", item_source), ("users", user_source))
        if chosen is not None
    }
    return _Log(frame, item_frame, user_frame, names, report, salt)


def _check_encodings(options: PrepareOptions, there: dict[str, list[str]], names: dict[str, str]) -> None:
    """Raises InputError for a column to be encoded that is not among those of its table: before anything is
    worked out."""
    for one, columns in there.items():
        spec: FeatureSpec = getattr(options, f"{one}_features")
        for column in spec.encodings:
            require_column(names[one], columns, column, f"correct --{one}-features.encodings")


def _side_source(source: Any, name: str, given: Any) -> Any:
    """The given table, or ``<name>.parquet`` beside a log that is a Parquet file, or None."""
    if given is not None:
        return Path(given) if isinstance(given, str) else given
    if not isinstance(source, (str, Path)) or Path(source).suffix != ".parquet":
        return None
    beside = Path(source).parent / f"{name}.parquet"
    return beside if beside.is_file() and beside.name != Path(source).name else None


def _split(log: _Log, options: PrepareOptions) -> tuple[pl.DataFrame, np.ndarray]:
    """Events sorted by user id, then time, then file order, with the part of each; k-core applied."""
    events = log.events.sort("user_id", maintain_order=True)
    begins = events["user_id"].ne_missing(events["user_id"].shift()).to_numpy()
    begins[0] = True
    offsets = np.append(np.flatnonzero(begins), len(events))
    read = log.report["read"]
    part = assign_parts(
        events["timestamp"].to_numpy(),
        offsets,
        options.split,
        clock=options.clock,
        where=read["source"],
        users=read["columns"]["user_id"],
    )
    if options.clean.user_core == options.clean.item_core == 1:
        return events, part
    return _only_core(events, part, options.clean, log.report)


def _only_core(
    events: pl.DataFrame, part: np.ndarray, options: CleanOptions, report: dict[str, Any]
) -> tuple[pl.DataFrame, np.ndarray]:
    """Without the users and items of the training part that are outside its k-core.

    Users and items that occur only later were never counted, and stay: leaving them out would flatter.
    """
    training = events.filter(pl.Series(part == 0))
    kept = dict(
        zip(("user_id", "item_id"), k_core(training, options.user_core, options.item_core), strict=True)
    )
    outside = pl.lit(False)
    report["k_core"] = {}
    for name, ids in kept.items():
        dropped = training[name].unique()
        dropped = dropped.filter(~dropped.is_in(ids.implode()))
        outside |= pl.col(name).is_in(dropped.implode())
        report["k_core"][f"{name.removesuffix('_id')}s_dropped"] = len(dropped)
    stays = events.select(~outside).to_series().to_numpy()
    report["k_core"]["rows_dropped"] = int(len(stays) - stays.sum())
    return events.filter(pl.Series(stays)), part[stays]


def _assemble(
    log: _Log, events: pl.DataFrame, part: np.ndarray, options: PrepareOptions
) -> tuple[Histories, dict[str, pl.DataFrame]]:
    """Histories, and the tables items and users: index, id, raw columns."""
    user, item = (vocabulary(events[name], part) for name in ("user_id", "item_id"))
    tables = {
        "items": table_of(item.ids, log.items, log.report),
        "users": table_of(user.ids, log.users, log.report),
    }
    arrays, features = {}, {}
    for one, known, spec in (
        ("item", item.known, options.item_features),
        ("user", user.known, options.user_features),
    ):
        table = tables[f"{one}s"].drop("index")
        features[one] = _encode(one, table, table.head(known), spec, log.names[one], arrays)
    context, warnings = choose_context(events, part, log.report["read"]["context"], _asked_for(options))
    log.report["warnings"] += warnings
    training = context
    if context.width:
        context = context.with_columns(events[ROW])
        training = context.filter(pl.Series(part == 0))
    features["context"] = _encode(
        "context", context, training, options.context_features, log.names["context"], arrays
    )
    behaviours, arrays["behaviour"] = behaviours_of(events)
    arrays |= {"item": item.codes, "time": events["timestamp"].to_numpy(), "part": part}
    arrays |= {
        name: events[name].to_numpy().astype(np.float32)
        for name in ("weight", "label")
        if name in events.columns
    }
    config = {
        "options": _plain(asdict(options)),
        "clock": options.clock,
        "behaviours": behaviours,
        "features": features,
        "report": log.report,
        "repeat_share": repeat_share(user.codes, item.codes, part),
        "counts": {"known_users": user.known, "known_items": item.known},
    }
    histories = Histories.from_arrays(
        user.codes, users=len(user.ids), items=len(item.ids), config=config, **arrays
    )
    histories.config["split"] = describe_split(histories, options.split)
    return histories, {name: table.drop(ROW, strict=False) for name, table in tables.items()}


def _encode(
    prefix: str,
    frame: pl.DataFrame,
    training: pl.DataFrame,
    spec: FeatureSpec,
    name: str,
    arrays: dict[str, np.ndarray],
) -> dict[str, Any]:
    """Fits on ``training``, puts the encoded ``frame`` into ``arrays``; what a model must know of the
    columns. Both frames may have `ROW`, of the table ``name``."""
    encoder = Encoder()
    if frame.width:
        with in_table(name, training.get_column(ROW, default=None)):
            encoder = fit_features(training.drop(ROW, strict=False), spec)
        with in_table(name, frame.get_column(ROW, default=None)):
            encoded = encoder.apply(frame)
        arrays[f"{prefix}_categorical"], arrays[f"{prefix}_numeric"] = encoded
    return {
        "categorical_names": list(encoder.categorical_names),
        "cardinalities": list(encoder.cardinalities),
        "widths": list(encoder.widths),
        "numeric_names": list(encoder.numeric_names),
        "text_names": list(encoder.text_names),
        "encoder": encoder.to_json(),
    }


def _asked_for(options: PrepareOptions) -> set[str]:
    return {*(options.columns.context or ()), *options.context_features.encodings}


def _plain(value: Any) -> Any:
    """Options as JSON, without paths: the same data and options give the same fingerprint anywhere."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items() if not isinstance(one, Path)}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
