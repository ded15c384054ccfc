"""A cache of encoded texts: Parquet files of keys and vectors, which only grow in number.

A file is named after the hash of its bytes and put in place by one rename: one that was cut short or changed
is known by its name, reported, and made again. Any number of processes may write at once.
"""

import io
import os
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import polars as pl

from jaxdecay.data.formats import READING_ERRORS
from jaxdecay.errors import InputError


def keys(texts: Sequence[str]) -> list[bytes]:
    """A hash (128 bits) of each text."""
    return [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]


class TextCache:
    """Vectors of ``width`` numbers by text, in the folder ``root / space``.

    ``space`` names all that a vector depends on but its text: the model, the prompt, the precision.
    """

    def __init__(self, root: Path, space: str, width: int) -> None:
        self._folder = root / space
        self._schema = pl.Schema({"key": pl.Binary, "vector": pl.Array(pl.Float32, width)})
        self.damaged: list[Path] = []
        """Files that could not be used, and were removed."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self._folder}: cannot be made ({error.strerror or error}); give another --cache"
            ) from None

    def fill(self, vectors: np.ndarray, keys: Sequence[bytes]) -> np.ndarray:
        """Puts what there is into the rows of ``vectors`` (n, width) whose keys these are.

        Returns the rows that remain, ascending. One file is in memory at a time.
        """
        place = {key: row for row, key in enumerate(keys)}
        absent = np.ones(len(keys), bool)
        for path in sorted(self._folder.glob("*.parquet")):
            table = self._read(path)
            if table is None:
                self.damaged.append(path)
                path.unlink(missing_ok=True)
                continue
            found = [place.get(key, -1) for key in table["key"].to_list()]
            rows = np.array(found, np.int64)
            vectors[rows[rows >= 0]] = table["vector"].to_numpy()[rows >= 0]
            absent[rows[rows >= 0]] = False
        return np.flatnonzero(absent)

    def write(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Adds a file, whole or not at all. Raises InputError when the disk is full."""
        if not len(keys):
            return
        table = pl.DataFrame({"key": keys, "vector": vectors}, schema=self._schema)
        memory = io.BytesIO()
        table.write_parquet(memory)
        content = memory.getvalue()
        path = self._folder / f"{_digest(content)}.parquet"
        partial = self._folder / f".{path.stem}.{secrets.token_hex(4)}.partial"
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise InputError(
                f"{self._folder}: cannot be written ({error.strerror or error}); free some space or give"
                " another --cache; what was encoded before is kept"
            ) from None

    def _read(self, path: Path) -> pl.DataFrame | None:
        try:
            content = path.read_bytes()
            if _digest(content) != path.stem:
                return None
            table = pl.read_parquet(io.BytesIO(content))
        except READING_ERRORS:
            return None
        return table if table.schema == self._schema else None


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()
