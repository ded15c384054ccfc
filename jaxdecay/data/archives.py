"""Files found by name in whatever a data set came as: zip, tar, gzipped file, folder, or the file itself."""

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from jaxdecay.errors import InputError

DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


def find_files(source: Path, names: Sequence[str], scratch: Path) -> dict[str, Path]:
    """Paths of the files of these names that ``source`` holds, in whatever folder of it.

    Members of an archive are copied into ``scratch``, under their bare names. A gzipped or plain file stands
    for ``names[0]``, and files beside a plain one for the others. Raises InputError when ``names[0]`` is not
    there or the archive is damaged.
    """
    if not source.exists():
        raise InputError(
            f"{source}: no such file or folder; give the path of the download or of its unpacked folder"
        )
    try:
        found = _find(source, names, scratch)
    except DAMAGED as error:
        raise InputError(f"{source}: damaged or incomplete ({error}); download it again") from error
    if names[0] not in found:
        raise InputError(f"{source}: holds no file {names[0]}; give the data set's own archive or folder")
    return found


def _find(source: Path, names: Sequence[str], scratch: Path) -> dict[str, Path]:
    if source.is_dir():
        return _shallowest(
            names, {path: path for path in source.rglob("*") if path.is_file()}, lambda path, _: path
        )
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            members = {PurePosixPath(name): name for name in archive.namelist()}
            return _shallowest(
                names, members, lambda member, name: _copy(archive.open(member), scratch / name)
            )
    if tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            files = {PurePosixPath(member.name): member for member in archive if member.isfile()}

            def unpack(member: tarfile.TarInfo, name: str) -> Path:
                content = archive.extractfile(member)
                assert content is not None  # a plain file has content
                return _copy(content, scratch / name)

            return _shallowest(names, files, unpack)
    if source.suffix == ".gz":
        return {names[0]: _copy(gzip.open(source), scratch / names[0])}
    if source.suffix in (".zip", ".tar", ".tgz"):
        raise InputError(f"{source}: damaged or incomplete; download it again")
    beside = {name: source.parent / name for name in names[1:] if (source.parent / name).is_file()}
    return {names[0]: source, **beside}


def _shallowest(
    names: Sequence[str], members: dict[Any, Any], place: Callable[[Any, str], Path]
) -> dict[str, Path]:
    found = {}
    for name in names:
        matching = [path for path in members if path.name == name]
        if matching:
            found[name] = place(members[min(matching, key=lambda path: (len(path.parts), str(path)))], name)
    return found


def _copy(content: Any, to: Path) -> Path:
    """Copy an open binary file; the three kinds of archive share no type for it."""
    with content, to.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
    return to
