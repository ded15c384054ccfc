"""The generations of a run's histories: the prepared ones, and after each update a whole new directory.

``RUN/histories`` never changes. Generation n lies in ``RUN/histories.n``; the newest is read, older ones are
removed. Of a run that was retrained over a store, ``RUN/histories/base`` has them without the store's events.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError

BASE = "base"


def newest(run: Path) -> Path:
    """The directory of the newest histories of a run."""
    return run / (f"histories.{number}" if (number := generation(run)) else "histories")


def before_store(run: Path) -> Path:
    """The directory of the histories that the events of a store come after: the newest, but of a run that
    was retrained over a store those that it was without it."""
    base = run / "histories" / BASE
    return base if base.is_dir() else newest(run)


def own_fingerprint(histories: Histories) -> str:
    """That of a run's own events. It stays when retraining gives them users and items that came with a store,
    or takes users out who were erased there: what others made of the events is what they would make anew."""
    return histories.config.get("own_fingerprint", histories.config["fingerprint"])


def generation(run: Path) -> int:
    """The number of the newest generation; 0 before the first update."""
    found = [re.fullmatch(r"histories\.(\d+)", path.name) for path in run.glob("histories.*")]
    return max((int(match[1]) for match in found if match), default=0)


@contextlib.contextmanager
def published(run: Path, number: int) -> Iterator[Path]:
    """A new directory that becomes generation ``number`` by one rename when the block ends; then the
    generations before it go.

    If anything goes wrong it is removed, and what was there is as it was. Raises InputError when it cannot be
    written, or when another update came first.
    """
    temporary, target = run / f".histories.{number}.{secrets.token_hex(4)}.new", run / f"histories.{number}"
    try:
        temporary.mkdir()
        yield temporary
        for path in temporary.iterdir():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        if target.exists():
            raise InputError(f"{run}: another update was made meanwhile; run this one again")
        os.rename(temporary, target)
    except OSError as error:
        raise InputError(
            f"{run}: the new histories cannot be written ({' '.join(str(error).split())}); "
            "the old ones are whole: free some space and run again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in [*run.glob("histories.[0-9]*"), *run.glob(".histories.*.new")]:
        if int(old.name.split(".")[2 if old.name.startswith(".") else 1]) < number:
            shutil.rmtree(old, ignore_errors=True)
