"""Half-lives with their intervals, kept in the run as ``half_lives.json``: the refits behind them take
minutes, and what shows a run is to take seconds."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from jaxdecay import checkpointing, runs
from jaxdecay.errors import InputError
from jaxdecay.half_lives import Intervals

FILE = "half_lives.json"
_INFINITE = float("inf")


def said(intervals: Intervals, *, bootstrap: int = 0, seed: int = 0) -> str:
    """In words what the intervals are that `jaxdecay.half_lives.half_lives` gives for these options."""
    if intervals == "laplace":
        return "95 %, from the curvature of the likelihood (Laplace) and who the users are"
    return f"95 %, {bootstrap} bootstrap refits over users, seed {seed}"


def keep(run: Path, half_lives: pl.DataFrame, words: str) -> None:
    """Writes half-lives, and in ``words`` what their intervals are."""
    facts = {"step": checkpointing.best_step(run), "intervals": words}
    runs.write_json(run / FILE, {**facts, "half_lives": plain(half_lives)})


def kept(run: Path) -> tuple[pl.DataFrame, str] | None:
    """The half-lives that were kept, and in words what their intervals are; None where there are none, or
    where they are of parameters from before training went on."""
    path = run / FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["step"] != checkpointing.best_step(run):
            return None
        rows = [_row(row) for row in found["half_lives"]]
        words = str(found["intervals"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: damaged; run jaxdecay half-lives {run} again, or delete it") from None
    schema = {"low": pl.Float64, "high": pl.Float64, "half_life_days": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=schema), words


def plain(half_lives: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON, where infinity is null, and so is a missing interval: ``never`` tells of a half-life
    that never comes, and a ``low`` without a ``high`` of one that may be beyond a century."""
    numbers = pl.col("half_life_days", "low", "high")
    rows = half_lives.with_columns(pl.col("half_life_days").is_infinite().alias("never"))
    return rows.with_columns(pl.when(numbers.is_finite()).then(numbers)).to_dicts()


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """As it was before `plain`."""
    half_life = _INFINITE if row.pop("never") else row["half_life_days"]
    high = _INFINITE if row["low"] is not None and row["high"] is None else row["high"]
    return row | {"half_life_days": half_life, "high": high}
