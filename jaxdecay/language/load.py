"""A language model from a local folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdecay.errors import InputError
from jaxdecay.language import bert, decoder, encoder, weights
from jaxdecay.language.config import read_config
from jaxdecay.language.encoder import Params
from jaxdecay.language.shapes import BertShape, LanguageConfig, Pooling
from jaxdecay.language.tokens import Tokens


@dataclass(frozen=True)
class LanguageModel:
    """What `load` read. `jaxdecay.language.encoder` makes vectors of ``params``."""

    config: LanguageConfig
    params: Params
    """float32 NumPy arrays by path, to be put on a device or handed to an optimiser."""
    tokens: Tokens
    fingerprint: str
    """Hex digest of all that a text's vector depends on but the text, its prompt and the precision."""

    def prompt(self, name: str | None) -> str:
        """The text of a prompt: that of the name, else that which the folder names as default, else none;
        none for the name "", too.

        Raises InputError for a name that the folder does not know.
        """
        known = dict(self.config.prompts)
        name = self.config.default_prompt if name is None else name
        if name and name not in known:
            raise InputError(
                f"prompt {name!r} is not known to the model; known are {', '.join(known) or 'none'}"
            )
        return known[name] if name else ""


def load(
    folder: str | Path,
    *,
    pooling: Pooling | None = None,
    normalise: bool | None = None,
    max_length: int | None = None,
) -> LanguageModel:
    """Reads a model of one of `jaxdecay.language.architectures.FAMILIES` from a local folder.

    ``pooling``, ``normalise`` and ``max_length`` (tokens, special ones included) replace what the folder
    says. Raises InputError, in one line that names the file: what is missing, damaged or truncated, tensors
    that are missing, left over or of another shape, a tokenizer that does not fit, an architecture that is
    not known. Nothing is unpickled.
    """
    folder = Path(folder)
    config = read_config(folder, pooling=pooling, normalise=normalise, max_length=max_length)
    tokens = Tokens(folder, config)
    params = _params(folder, config)
    return LanguageModel(config, params, tokens, _fingerprint(config, params, tokens))


def _params(folder: Path, config: LanguageConfig) -> Params:
    shapes = jax.eval_shape(partial(encoder.init, config), jax.random.key(0))
    wanted = {_path(path): one.shape for path, one in jax.tree_util.tree_leaves_with_path(shapes)}
    kind: Any = bert if isinstance(config.body, BertShape) else decoder
    of_body = {path: shape for path, shape in wanted.items() if not path[0].startswith("dense_")}
    files = weights.files_of(folder)
    found = weights.read(
        files, kind.sources(config.body), of_body, prefixes=kind.PREFIXES, unused=kind.UNUSED
    )
    for i, dense in enumerate(config.dense):
        names: dict[tuple[str, ...], weights.Source] = {
            (f"dense_{i}", "kernel"): weights.Source("linear.weight", turned=True)
        }
        if dense.biased:
            names[f"dense_{i}", "bias"] = weights.Source("linear.bias")
        found |= weights.read(weights.files_of(folder / dense.folder), names, wanted)
    return _tree(found)


def _path(path: Any) -> tuple[str, ...]:
    return tuple(part.key for part in path)


def _tree(arrays: Mapping[tuple[str, ...], np.ndarray]) -> Params:
    tree: dict[str, Any] = {}
    for (*path, last), array in sorted(arrays.items()):
        inner = tree
        for name in path:
            inner = inner.setdefault(name, {})
        inner[last] = array
    return tree


def _fingerprint(config: LanguageConfig, params: Params, tokens: Tokens) -> str:
    digest = blake2b(digest_size=16)
    said = {
        name: value for name, value in asdict(config).items() if name not in ("prompts", "default_prompt")
    }
    digest.update(json.dumps(said, sort_keys=True).encode())
    digest.update(tokens.fingerprint().encode())
    for path, array in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{_path(path)} {array.shape}".encode())
        digest.update(array.data.cast("B"))
    return digest.hexdigest()
