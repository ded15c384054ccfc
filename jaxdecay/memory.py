"""Memory that is free goes back to the system."""

import ctypes
import functools
from collections.abc import Callable


def trim() -> None:
    """Hands memory that this process has freed back to the system, where the C library is glibc.

    Compiling a step takes some hundred MiB for a moment. glibc keeps most of it, in pieces that the next
    compilation does not find, so that a run would hold what all of its compilations once needed.
    """
    release = _malloc_trim()
    if release is not None:
        release(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        release = ctypes.CDLL(None).malloc_trim
        release.argtypes = [ctypes.c_size_t]
        return release
    except (AttributeError, OSError, TypeError):  # another C library; no C library that can be named
        return None
