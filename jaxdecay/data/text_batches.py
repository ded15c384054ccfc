"""Token ids into padded batches of few shapes, with little padding: texts of like length together."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxdecay.data.buckets import least_padding

_CLASSES = 16  # compiled shapes, at most
_STEP = 4  # padded lengths are multiples of this
_COMPILING = 8_192  # padded tokens that cost about as much as compiling for one shape more


class Batch(NamedTuple):
    """Texts of like length."""

    rows: np.ndarray
    """Indices of the texts, as many as there are; the rest of ``ids`` is padding."""
    ids: np.ndarray
    """(b, n) int32."""
    mask: np.ndarray
    """(b, n), False at padding, which stands on the right."""


def batches(ids: Sequence[np.ndarray], *, tokens: int, longest: int, padding: int = 0) -> Iterator[Batch]:
    """Every text once, the longest first, about ``tokens`` tokens together with padding in each batch.

    Padded lengths are at most ``longest``. All batches of one length have one shape, so that few are
    compiled.
    """
    lengths = np.array([len(one) for one in ids])
    classes = least_padding(np.maximum(lengths, 1), _CLASSES, step=_STEP, worth=_COMPILING)
    for edge, members in reversed(classes):
        width = min(edge, longest)
        count = -(-len(members) * width // tokens)  # batches of one size, so that the last one is full too
        size = -(-len(members) // count)
        for start in range(0, len(members), size):
            rows = members[start : start + size]
            batch = Batch(rows, np.full((size, width), padding, np.int32), np.zeros((size, width), bool))
            for at, row in enumerate(rows):
                batch.ids[at, : lengths[row]], batch.mask[at, : lengths[row]] = ids[row], True
            yield batch
