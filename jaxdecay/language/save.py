"""A language model into a folder, as `jaxdecay.language.load` and Hugging Face read it."""

import fnmatch
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay.errors import InputError
from jaxdecay.language import bert, decoder
from jaxdecay.language.load import LanguageModel
from jaxdecay.language.shapes import BertShape, LanguageConfig

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.h5", "*.msgpack", "*.onnx", "*.ot")
_MODULES = "sentence_transformers.models."
_POOLINGS = {
    "mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"
}  # fmt: skip


def save(model: LanguageModel, params: Any, origin: Path, folder: Path, *, prompt: str | None = None) -> None:
    """Writes ``params`` into a new ``folder``, with all else as it stands in ``origin``, from which ``model``
    was loaded, but for what was given when it was: where texts are cut, pooling, and whether vectors have
    length 1. ``prompt``: the name of the one that is used from now on where none is asked for, "" for none.
    Dense layers after pooling are copied as they are."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    kept = [path for path in origin.rglob("*") if path.is_file() and _stays(path.relative_to(origin))]
    for dense in model.config.dense:
        kept += (origin / dense.folder).glob("*.safetensors")
    for path in kept:  # what they hold, and not whether they may be written to
        copy = folder / path.relative_to(origin)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    kind: Any = bert if isinstance(model.config.body, BertShape) else decoder
    tensors = {}
    for path, source in kind.sources(model.config.body).items():
        value = params
        for name in path:
            value = value[name]
        array = np.asarray(value, np.float32)
        tensors[source.name] = np.ascontiguousarray(array.T if source.turned else array)
    try:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    except SafetensorError as error:  # OSError of another name
        raise InputError(f"{folder}: cannot be written ({' '.join(str(error).split())})") from None
    _told(folder / "sentence_bert_config.json", {"max_seq_length": model.config.max_length})
    if prompt is not None:
        _told(folder / "config_sentence_transformers.json", {"default_prompt_name": prompt or None})
    (folder / "1_Pooling").mkdir(exist_ok=True)
    chosen = {mode: pooling == model.config.pooling for pooling, mode in _POOLINGS.items()}
    pooling = {"word_embedding_dimension": model.config.body.width, **chosen}
    _write(folder / "1_Pooling" / "config.json", pooling)
    _write(folder / "modules.json", _modules(model.config))


def _stays(path: Path) -> bool:
    """Whether a file of the folder is copied: no weights, and nothing hidden."""
    return not any(part.startswith(".") for part in path.parts) and not any(
        fnmatch.fnmatch(path.name, pattern) for pattern in _WEIGHTS
    )


def _modules(config: LanguageConfig) -> list[dict[str, Any]]:
    """What stands in modules.json."""
    paths = [("Transformer", ""), ("Pooling", "1_Pooling")]
    paths += [("Dense", dense.folder) for dense in config.dense]
    paths += [("Normalize", f"{len(paths)}_Normalize")] if config.normalise else []
    return [
        {"idx": i, "name": str(i), "path": path, "type": _MODULES + kind}
        for i, (kind, path) in enumerate(paths)
    ]


def _told(path: Path, more: dict[str, Any]) -> None:
    """Adds to a file of one JSON object, which may not be there yet."""
    _write(path, (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}) | more)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
