"""A directory of plain arrays: one ``.npy`` a column, one JSON written last, put in place by one rename.

NumPy only. Nothing here knows what the arrays mean; ``histories.py`` does.
"""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay.errors import InputError

MANIFEST = "prepared.json"
_AGAIN = "run jaxdecay prepare again"


def fingerprint(arrays: Mapping[str, np.ndarray], options: Mapping[str, Any]) -> str:
    """Hex digest (128 bits) of the arrays' names, dtypes, shapes and bytes and of ``options`` (as JSON)."""
    digest = blake2b(digest_size=16)
    digest.update(json.dumps(options, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        if array.size:
            digest.update(array.data.cast("B"))
    return digest.hexdigest()


@contextlib.contextmanager
def staged(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a new directory beside ``path`` to write into; it is renamed to ``path`` when the block ends.

    Guarantees: until then nothing changes at ``path``; if the block raises anything at all (Ctrl-C and a
    full disk included) the new directory is removed and what was at ``path`` is still there.

    Raises InputError when ``path`` is a file, a directory that holds something else than prepared arrays,
    or a prepared one without ``overwrite=True``; and when it cannot be written (a full disk, no permission).
    """
    target = Path(path)
    _check_target(target, overwrite)
    temporary = target.parent / f".{target.name}.{secrets.token_hex(4)}.new"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _put_in_place(temporary, target)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(
                f"{target}: cannot be written ({_one_line(error)}); nothing is left of it: "
                "free some space or give another --out"
            ) from error
        raise


def check_target(path: str | Path, *, overwrite: bool = False) -> None:
    """Raises the InputError that :func:`staged` would raise, before any work is done."""
    _check_target(Path(path), overwrite)


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{target}: is a file, not a directory; give another --out")
    if not any(target.iterdir()):
        return
    if not (target / MANIFEST).is_file():
        raise InputError(
            f"{target}: holds something else than a prepared log (no {MANIFEST}) and is left alone; "
            "give another --out"
        )
    if not overwrite:
        raise InputError(f"{target}: holds a prepared log; give another --out, or --overwrite to replace it")


def _put_in_place(temporary: Path, target: Path) -> None:
    if not target.exists():
        os.rename(temporary, target)
        return
    old = temporary.with_suffix(".old")
    os.rename(target, old)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_arrays(directory: Path, arrays: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    """Writes each array as ``<name>.npy``, then ``prepared.json``: ``config`` and the arrays' dtypes."""
    described = {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in arrays.items()}
    text = json.dumps({**config, "arrays": described}, indent=1)
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array, allow_pickle=False)
    (directory / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_config(path: str | Path, *, version: int) -> dict[str, Any]:
    """``prepared.json`` of a directory; InputError when missing, damaged or of another format version."""
    directory = Path(path)
    if directory.is_file():
        raise InputError(
            f"{directory}: is a file, no prepared log; if it is a log, first run jaxdecay prepare "
            f"{directory} --out DIR, and give DIR"
        )
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; make it: jaxdecay prepare LOG --out {directory}")
    file = directory / MANIFEST
    if not file.is_file():
        raise InputError(f"{file}: missing, so this is no prepared log or a half-written one; {_AGAIN}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{file}: cannot be read ({_one_line(error)}); {_AGAIN}") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != version:
        raise InputError(
            f"{file}: format {found!r}, but this version of jaxdecay reads format {version}; {_AGAIN}"
        )
    return config


def read_array(directory: Path, name: str, described: Mapping[str, Any]) -> np.ndarray:
    """``<name>.npy`` memory-mapped, read-only; InputError when missing, cut short or not as described."""
    file = directory / f"{name}.npy"
    if not file.is_file():
        raise InputError(f"{file}: missing, the prepared log is damaged or half-written; {_AGAIN}")
    try:
        mapped = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{file}: damaged or cut short ({_one_line(error)}); {_AGAIN}") from error
    expected = (described.get("dtype"), tuple(described.get("shape", ())))
    if (str(mapped.dtype), mapped.shape) != expected:
        raise InputError(
            f"{file}: is {mapped.dtype}{list(mapped.shape)}, but {MANIFEST} says "
            f"{expected[0]}{list(expected[1])}; {_AGAIN}"
        )
    return np.asarray(mapped)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
