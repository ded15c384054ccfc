"""What output may be called, and a folder of it that is there wholly or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from jaxdecay.errors import InputError


def check_file(out: Path, *endings: str) -> None:
    """Raises InputError unless a file may be called so: not what is a directory, and with one of the endings,
    such as ".html"."""
    if out.is_dir():
        example = out / f"NAME{endings[0]}"
        raise InputError(f"{out}: is a directory; name a file in it, such as {example}")
    if out.suffix.lower() not in endings:
        raise InputError(f"{out}: give a name that ends in {' or '.join(endings)}")


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yields a directory beside ``path`` to write into, which becomes ``path`` when the block ends, and is
    removed if it raises.

    Raises InputError when ``path`` is there and not an empty directory, and when it cannot be written (a full
    disk, no permission).
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path}: is there already; give another --out")
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.new"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            path.rmdir()
        os.rename(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(
            error, (OSError, pl.exceptions.PolarsError)
        ):  # Polars has errors of its own for a full disk
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise InputError(
                f"{path}: cannot be written ({reason}); nothing is left of it: "
                "free some space or give another --out"
            ) from error
        raise
