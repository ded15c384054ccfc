"""What an encoder is told of N events besides their vectors: when they happened and which of them count."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Int


class Places(NamedTuple):
    """N events of one user in the order of their rows, padded on any side."""

    time: Int[Array, " n"]
    """Seconds, ascending where ``mask``."""
    until: Int[Array, " n"]
    """Seconds: when what comes after each event is asked for (the time of the next event, or of the
    request), not before ``time``."""
    mask: Bool[Array, " n"]
