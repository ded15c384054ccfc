"""Item vectors as they are kept to be multiplied by a query: in float32, or in half or a quarter of the room.

    float32    4 bytes a number
    bfloat16   2 bytes, 8 bits of precision
    int8       1 byte, and a scale for each item: its largest number is 127

A smaller table gives products that are off by no more than `Table.radius`: enough to tell the few items that
can be among the best, whose float32 vectors are then read from a file. It saves memory and costs time, as
NumPy multiplies in float32 alone.
"""

import tempfile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from jaxdecay.errors import InputError

KINDS = ("float32", "bfloat16", "int8")
_BLOCK = 4096  # rows that are widened at a time: they stay in the processor's cache


class Table(NamedTuple):
    """Vectors of V items."""

    values: np.ndarray
    """(V, D) float32, bfloat16 or int8."""
    scale: np.ndarray | None
    """(V,) float32 that int8 values are multiplied by."""
    exact: np.ndarray
    """(V, D) float32; of a smaller table in a file."""
    error: float
    """The longest difference between a vector and what is kept of it."""

    @classmethod
    def of(cls, vectors: np.ndarray, kind: str = "float32") -> "Table":
        """A table of one of `KINDS` of the ``vectors`` (V, D) float32."""
        if kind == "float32":
            return cls(vectors, None, vectors, 0.0)
        if kind == "bfloat16":
            table = cls(vectors.astype(ml_dtypes.bfloat16), None, _in_a_file(vectors), 0.0)
        else:
            scale = np.maximum(np.abs(vectors).max(axis=1), np.float32(1e-30)) / np.float32(127)
            values = np.rint(vectors / scale[:, None]).astype(np.int8)
            table = cls(values, scale, _in_a_file(vectors), 0.0)
        apart = [
            float(np.linalg.norm(table._widened(rows) - vectors[rows], axis=1).max())
            for rows in _blocks(len(vectors))
        ]
        return table._replace(error=max(apart))

    def radius(self, query: np.ndarray) -> float:
        """By how much a product with the query (D,) can be off: by Cauchy and Schwarz."""
        return self.error * float(np.linalg.norm(query))

    def products(self, query: np.ndarray) -> np.ndarray:
        """(V,) float32 inner products with the query (D,)."""
        # One thread and no wait for others: a threaded product takes 1 ms, or 20 where cores are busy.
        if self.values is self.exact:
            return np.vecdot(self.exact, query)
        found = np.empty(len(self.values), np.float32)
        wide = np.empty((_BLOCK, len(query)), np.float32)
        for rows in _blocks(len(found)):
            part = wide[: rows.stop - rows.start]
            np.copyto(part, self.values[rows])
            np.vecdot(part, query, out=found[rows])
        if self.scale is not None:
            found *= self.scale
        return found

    def exactly(self, items: np.ndarray, query: np.ndarray) -> np.ndarray:
        """(n,) float32 inner products of some items (n,) with the query, from their float32 vectors."""
        return np.vecdot(self.exact[items], query)

    @property
    def bytes(self) -> int:
        """What is held in memory."""
        return self.values.nbytes + (0 if self.scale is None else self.scale.nbytes)

    def _widened(self, rows: slice) -> np.ndarray:
        wide = self.values[rows].astype(np.float32)
        return wide if self.scale is None else wide * self.scale[rows, None]


def _blocks(rows: int) -> list[slice]:
    return [slice(begin, min(begin + _BLOCK, rows)) for begin in range(0, rows, _BLOCK)]


def _in_a_file(vectors: np.ndarray) -> np.ndarray:
    """The same, of which only what is read is in memory; the file goes when they do."""
    try:
        with tempfile.TemporaryFile() as file:
            vectors.tofile(file)
            file.flush()
            return np.asarray(np.memmap(file, vectors.dtype, "r", shape=vectors.shape))
    except OSError as error:
        raise InputError(
            f"{vectors.nbytes / 1e6:.0f} MB of item vectors cannot be written to a temporary file "
            f"({error.strerror or error}); set TMPDIR to a folder with room, or keep items in float32"
        ) from error
