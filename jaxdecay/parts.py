"""Answers too long for memory, written to Parquet as they come."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from jaxdecay.errors import InputError


def write_parquet(frames: Iterable[pl.DataFrame], empty: pl.DataFrame, out: Path) -> int:
    """Writes frames of one schema (that of ``empty``), one after the other, into the file ``out``; returns
    the number of rows.

    One frame at a time is in memory. Each goes into a part of its own beside ``out``, and the parts are
    streamed into one file at the end, so that the disk must hold the answer twice for a moment.

    Guarantees: ``out`` is replaced by one rename; if anything goes wrong (in the frames too), what was there
    still is and no part is left.
    Raises InputError when it cannot be written.
    """
    if out.is_dir():
        raise InputError(f"{out}: is a directory; name a file in it, such as {out / 'NAME.parquet'}")
    parts = out.parent / f".{out.name}.{secrets.token_hex(4)}.parts"
    rows = 0
    try:
        with _writing(out):
            parts.mkdir(parents=True)
            empty.write_parquet(parts / "000000.parquet")
        for number, frame in enumerate(frames, start=1):
            with _writing(out):
                frame.write_parquet(parts / f"{number:06d}.parquet")
            rows += frame.height
        with _writing(out):
            files = sorted(parts.glob("*.parquet"))
            pl.scan_parquet(files, glob=False).sink_parquet(parts / "whole", maintain_order=True)
            os.replace(parts / "whole", out)
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return rows


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"{out}: cannot be written ({' '.join(str(error).split())}); free some space or name another file"
        ) from error
