"""A language model into a folder, as `jaxdecay.language.load` and Hugging Face read it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay.language import bert, decoder
from jaxdecay.language.load import LanguageModel
from jaxdecay.language.shapes import BertShape

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.h5", "*.msgpack", "*.onnx", "*.ot")


def save(model: LanguageModel, params: Any, origin: Path, folder: Path) -> None:
    """Writes ``params`` into a new ``folder``, with all else as it stands in ``origin``, from which ``model``
    was loaded; texts are cut where the model cuts them. What follows pooling is copied as it is."""
    from safetensors.numpy import save_file

    shutil.copytree(origin, folder, ignore=shutil.ignore_patterns(*_WEIGHTS, ".*"))
    for dense in model.config.dense:
        for path in (origin / dense.folder).glob("*.safetensors"):
            shutil.copy(path, folder / dense.folder)
    kind: Any = bert if isinstance(model.config.body, BertShape) else decoder
    tensors = {}
    for path, source in kind.sources(model.config.body).items():
        value = params
        for name in path:
            value = value[name]
        array = np.asarray(value, np.float32)
        tensors[source.name] = np.ascontiguousarray(array.T if source.turned else array)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    told = folder / "sentence_bert_config.json"
    lengths = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
    lengths["max_seq_length"] = model.config.max_length
    told.write_text(json.dumps(lengths, indent=1) + "\n", encoding="utf-8")
