"""Salted hashes of ids: deterministic given the salt, different without it, the salt kept outside and
private."""

import hashlib
import os
import stat
from pathlib import Path

import polars as pl
import pytest

from jaxdecay.data.anonymise import anonymise, hash_ids, read_or_make_salt
from jaxdecay.errors import InputError

SALT, OTHER = b"0" * 32, b"1" * 32


def test_hash_is_keyed_blake2b() -> None:
    expected = hashlib.blake2b(b"7", key=SALT, person=b"user_id", digest_size=16).hexdigest()
    assert hash_ids(pl.Series([7]), SALT, kind="user_id").to_list() == [expected]
    assert hash_ids(pl.Series(["7"]), SALT, kind="user_id").to_list() == [expected]


def test_hashes_depend_on_salt_and_kind_only() -> None:
    ids = pl.Series(["a", "b", "a", None])
    hashed = hash_ids(ids, SALT, kind="user_id")
    assert hashed[0] == hashed[2] != hashed[1]
    assert hashed[3] is None
    assert hashed.equals(hash_ids(ids, SALT, kind="user_id"))
    assert hashed[0] == hash_ids(pl.Series(["a"]), SALT, kind="user_id")[0]
    assert hashed[0] != hash_ids(ids, OTHER, kind="user_id")[0]
    assert hashed[0] != hash_ids(ids, SALT, kind="item_id")[0]
    assert hash_ids(ids, b"x" * 100, kind="user_id")[0] != hashed[0]  # longer than a BLAKE2b key


def test_frame_keeps_everything_else() -> None:
    frame = pl.DataFrame({"user_id": [2, 1, 2], "item_id": [5, 6, 7], "timestamp": [1, 2, 3]})
    hashed = anonymise(frame, SALT)
    assert hashed.drop("user_id").equals(frame.drop("user_id"))
    assert hashed["user_id"].dtype == pl.String
    assert hashed.columns == frame.columns
    both = anonymise(frame, SALT, items=True)
    assert both["item_id"].n_unique() == 3
    items = anonymise(pl.DataFrame({"item_id": [7, 5]}), SALT, items=True)
    assert both.join(items, on="item_id")["timestamp"].to_list() == [1, 3]
    assert anonymise(frame, SALT, users=False).equals(frame)


def test_collisions_and_short_salts_are_refused() -> None:
    with pytest.raises(InputError, match="same hash"):
        hash_ids(pl.Series(range(300)), SALT, kind="user_id", digest_bytes=1)
    with pytest.raises(InputError, match="3 bytes"):
        hash_ids(pl.Series([1]), b"abc", kind="user_id")


def test_salt_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "salt"
    salt = read_or_make_salt(path, outside=[tmp_path / "run"])
    assert len(salt) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_or_make_salt(path) == salt
    assert read_or_make_salt(tmp_path / "other") != salt


def test_salt_never_lies_in_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "link").symlink_to(run)
    for path in (run / "salt", run, tmp_path / "link" / "salt", run / ".." / "run" / "salt"):
        with pytest.raises(InputError, match="must not lie in"):
            read_or_make_salt(path, outside=[run])
    assert list(run.iterdir()) == []


def test_bad_salt_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need a salt file"):
        read_or_make_salt(None)
    with pytest.raises(InputError, match="cannot be written"):
        read_or_make_salt(tmp_path / "nowhere" / "salt")
    with pytest.raises(InputError, match="cannot be read"):
        read_or_make_salt(tmp_path)
    path = tmp_path / "salt"
    for text, words in (("no hex", "holds no salt"), ("abcd", "only 2 bytes")):
        path.write_text(text)
        path.chmod(0o600)
        with pytest.raises(InputError, match=words):
            read_or_make_salt(path)
    path.write_text("ab" * 32)
    path.chmod(0o644)
    if os.name == "posix":
        with pytest.raises(InputError, match="chmod 600"):
            read_or_make_salt(path)
