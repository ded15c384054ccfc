"""Tensors from safetensors files into a tree of parameters, each checked by name and shape.

The format holds nothing but names, shapes and numbers, so that reading it runs no code. Numbers may lie in
float32, float16 or bfloat16; they come out as float32.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdecay.errors import InputError

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_KINDS = ("F32", "F16", "BF16", "F64")
_AGAIN = "copy the model again"


class Source(NamedTuple):
    """Where a parameter lies in the files."""

    name: str
    turned: bool = False
    """Whether it is stored (outputs, inputs)."""


def files_of(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, or those that its index names."""
    index = folder / _INDEX
    if (folder / _SINGLE).exists():
        return [folder / _SINGLE]
    if not index.exists():
        pickled = next((path.name for path in folder.glob("*.bin")), None)
        also = f"; {pickled} is a pickle, which is never opened" if pickled else ""
        raise InputError(
            f"{folder / _SINGLE}: is missing{also}; save the model with save_pretrained, as safetensors"
        )
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({str(Path(name).name) for name in places.values()})
    except (ValueError, OSError, KeyError, TypeError, AttributeError):
        names = []
    if not names:
        raise InputError(f"{index}: names no files by tensor (weight_map); {_AGAIN}")
    for name in names:
        if not (folder / name).exists():
            raise InputError(f"{folder / name}: is missing, though {index.name} names it; {_AGAIN}")
    return [folder / name for name in names]


def read(
    files: list[Path],
    sources: Mapping[tuple[str, ...], Source],
    shapes: Mapping[tuple[str, ...], tuple[int, ...]],
    *,
    prefixes: tuple[str, ...] = ("",),
    unused: tuple[str, ...] = (),
) -> dict[tuple[str, ...], np.ndarray]:
    """Float32 arrays of ``shapes``, by path.

    Names may all begin with one of ``prefixes``; tensors whose names begin with one of ``unused`` are passed
    over. Raises InputError when a file is truncated or no safetensors file, when a tensor is missing, is left
    over, has another shape (both are named) or holds NaN.
    """
    with contextlib.ExitStack() as stack:
        found: dict[str, tuple[Path, Any]] = {}
        for path in files:
            opened = stack.enter_context(_open(path))
            found |= dict.fromkeys(opened.keys(), (path, opened))
        prefix = _prefix(found, [source.name for source in sources.values()], prefixes)
        _refuse_names(files[0], found, prefix, {source.name for source in sources.values()}, unused)
        wanted = {path: (source, shapes[path]) for path, source in sources.items()}
        for source, shape in wanted.values():
            path, opened = found[prefix + source.name]
            _check_shape(path, opened.get_slice(prefix + source.name), prefix + source.name, source, shape)
        return {
            path: _array(*found[prefix + source.name], prefix + source.name, source)
            for path, (source, _) in wanted.items()
        }


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError:
        raise InputError(
            "language models need safetensors, which is missing: pip install 'jaxdecay[text]'"
        ) from None
    try:
        with safe_open(path, framework="np") as opened:
            yield opened
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size if path.exists() else 0
        raise InputError(
            f"{path}: is cut short or no safetensors file ({' '.join(str(error).split())}; {size} bytes);"
            f" {_AGAIN}"
        ) from None


def _prefix(found: Mapping[str, Any], names: list[str], prefixes: tuple[str, ...]) -> str:
    """The prefix under which most of the names are there."""
    return max(prefixes, key=lambda prefix: sum(prefix + name in found for name in names))


def _refuse_names(
    path: Path, found: Mapping[str, Any], prefix: str, names: set[str], unused: tuple[str, ...]
) -> None:
    missing = sorted(prefix + name for name in names if prefix + name not in found)
    if missing:
        raise InputError(
            f"{path}: tensor {_some(missing)} is missing, which config.json asks for; {_AGAIN}, or correct"
            " config.json"
        )
    over = sorted(
        name
        for name in found
        if name.removeprefix(prefix) not in names
        and not name.removeprefix(prefix).startswith(unused)
        and not name.startswith(unused)
    )
    if over:
        raise InputError(
            f"{path}: tensor {_some(over)} has no place in what config.json describes; {_AGAIN}, or correct"
            " config.json"
        )


def _check_shape(path: Path, slice_: Any, name: str, source: Source, shape: tuple[int, ...]) -> None:
    wanted = list(shape[::-1] if source.turned else shape)
    if slice_.get_shape() != wanted:
        raise InputError(
            f"{path}: tensor {name} has shape {slice_.get_shape()}, but config.json asks for {wanted};"
            f" {_AGAIN}, or correct config.json"
        )
    if slice_.get_dtype() not in _KINDS:
        raise InputError(
            f"{path}: tensor {name} holds {slice_.get_dtype()}, known are {', '.join(_KINDS)}; save the"
            " model in float32"
        )


def _array(path: Path, opened: Any, name: str, source: Source) -> np.ndarray:
    array = opened.get_tensor(name).astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{path}: tensor {name} holds NaN or infinite numbers; {_AGAIN}")
    return np.ascontiguousarray(array.T) if source.turned else array


def _some(names: list[str]) -> str:
    return names[0] + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")
