"""Ids replaced by salted hashes, on request.

A hash hides an id only from those who do not have the salt: ids are few, and with the salt anybody can hash
them all. The salt therefore lives in a file of its own, readable by its owner alone and never inside a
prepared log or a run; keep it to add later events, delete it to cut the tie for good. Only ids are replaced:
titles, texts and context columns stay, and may still point at a person.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from jaxdecay.errors import InputError

SALT_BYTES = 32
DIGEST_BYTES = 16


@dataclass(frozen=True)
class AnonymiseOptions:
    """Which ids are replaced by salted hashes."""

    users: bool = False
    """Replace user ids."""
    items: bool = False
    """Replace item ids too."""
    salt: Path | None = None
    """File of the salt, outside the output; made (mode 0600) if there is none yet."""


def anonymise(frame: pl.DataFrame, salt: bytes, *, users: bool = True, items: bool = False) -> pl.DataFrame:
    """``frame`` (events, items or users) with hashed ids in user_id and item_id as far as asked for and
    there.

    Guarantees: rows, order and other columns are unchanged; the same salt gives the same hashes in every
    table, so that tables still join.
    """
    chosen = [
        name for name, wanted in (("user_id", users), ("item_id", items)) if wanted and name in frame.columns
    ]
    return frame.with_columns(hash_ids(frame[name], salt, kind=name) for name in chosen)


def hash_ids(ids: pl.Series, salt: bytes, *, kind: str, digest_bytes: int = DIGEST_BYTES) -> pl.Series:
    """Keyed BLAKE2b of each id (n,) written as text, in hexadecimal: String (n,), the same for the integer 7
    and the text "7". Nulls stay.

    kind ("user_id", "item_id") separates the hashes of users from those of items. Raises InputError when two
    ids would share a hash (never at 16 bytes, in practice) or when the salt is shorter than 16 bytes.
    """
    if len(salt) < 16:
        raise InputError(f"the salt has {len(salt)} bytes; give at least 16 (or let jaxdecay make one).")
    person = kind.encode()[: hashlib.blake2b.PERSON_SIZE]
    key = salt if len(salt) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(salt).digest()
    known = ids.drop_nulls().unique().cast(pl.String)
    hashes = [
        hashlib.blake2b(one.encode(), key=key, person=person, digest_size=digest_bytes).hexdigest()
        for one in known
    ]
    if len(set(hashes)) < len(hashes):
        raise InputError(f"column {kind!r}: two different ids have the same hash; take another salt.")
    return ids.cast(pl.String).replace_strict(
        known, pl.Series(hashes, dtype=pl.String), default=None, return_dtype=pl.String
    )


def read_or_make_salt(path: Path | None, *, outside: Iterable[Path] = ()) -> bytes:
    """The salt in the file ``path``; a new random one is written there (mode 0600) if there is no such file.

    Raises InputError as `read_or_draw_salt` and `keep_salt` do.
    """
    salt, new = read_or_draw_salt(path, outside=outside)
    if new is not None:
        keep_salt(new, salt)
    return salt


def read_or_draw_salt(path: Path | None, *, outside: Iterable[Path] = ()) -> tuple[bytes, Path | None]:
    """The salt in the file ``path`` and None or, if there is no such file, a new random one and the path that
    `keep_salt` is to write it to.

    outside: directories (output, run) that must not contain it. Raises InputError when no file is named, when
    it lies in one of them, when others may read it, or when it holds no salt.
    """
    if path is None:
        raise InputError(
            "hashed ids need a salt file; name one outside the output, for example with --anonymise.salt "
            "~/jaxdecay.salt."
        )
    path = path.expanduser()
    for directory in outside:
        if path.resolve().is_relative_to(directory.resolve()):
            raise InputError(
                f"{path}: the salt must not lie in {directory}, which may be passed on; name a file "
                "elsewhere."
            )
    if os.path.lexists(path):
        return _read(path), None
    return secrets.token_bytes(SALT_BYTES), path


def keep_salt(path: Path, salt: bytes) -> None:
    """Writes a new salt, readable by its owner alone. Raises InputError when it cannot, or when there is a
    file by now."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(
            f"{path}: another salt has been written there meanwhile; run the same command again to use that."
        ) from None
    except OSError as error:
        raise InputError(
            f"{path}: the salt cannot be written ({error.strerror}); name another file."
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(salt.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> bytes:
    try:
        mode, text = path.stat().st_mode, path.read_text().strip()
        salt = bytes.fromhex(text)
    except OSError as error:
        raise InputError(f"{path}: the salt cannot be read ({error.strerror}); name another file.") from error
    except ValueError as error:
        raise InputError(
            f"{path}: holds no salt (hexadecimal digits); name another file, or none yet to make one."
        ) from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise InputError(
            f"{path}: the salt may be read by others (mode {stat.S_IMODE(mode):o}); run chmod 600 on it."
        )
    if len(salt) < 16:
        raise InputError(
            f"{path}: holds only {len(salt)} bytes of salt; name another file, or none yet to make one."
        )
    return salt
