"""Freed memory goes back to the system, where the C library can do that."""

import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxdecay import memory

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")


def resident() -> int:
    """MiB that this process holds."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) // 1024


@pytest.mark.skipif(not GLIBC, reason="needs glibc")
def test_what_was_freed_in_between_is_given_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    size = 64 << 10  # too small for pages of its own
    blocks = [libc.malloc(size) for _ in range(3_200)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    top = libc.malloc(size)  # lies above them, so that glibc keeps what is freed below
    for block in blocks:
        libc.free(block)
    before = resident()
    memory.trim()
    assert resident() < before - 100
    libc.free(top)


@pytest.fixture
def another_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    memory._malloc_trim.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: os)  # has no such function
    yield
    memory._malloc_trim.cache_clear()


@pytest.mark.usefixtures("another_library")
def test_another_c_library_is_left_alone() -> None:
    memory.trim()
    assert memory._malloc_trim() is None
