"""A model's folder, as Hugging Face and sentence-transformers write it, read into one `LanguageConfig`.

``config.json`` is the architecture. Where ``modules.json`` stands beside it, its modules say how tokens
become one vector: pooling, dense layers, length 1. Without it a text's vector is the mean over its tokens
(the last token's for a causal decoder), brought to length 1.
"""

import json
from pathlib import Path
from typing import Any, cast

from jaxdecay.errors import InputError
from jaxdecay.language.architectures import FAMILIES, body_of
from jaxdecay.language.fields import Fields
from jaxdecay.language.shapes import Activation, DecoderShape, DenseShape, LanguageConfig, Pooling

_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_OLD_POOLINGS: dict[str, Pooling | None] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": None,
    "pooling_mode_mean_sqrt_len_tokens": None,
    "pooling_mode_weightedmean_tokens": None,
}
_DENSE: dict[str, Activation] = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "SiLU": "silu",
    "GELU": "gelu",
}
_POOLED = "mean, cls or lasttoken"


def read_config(
    folder: Path,
    *,
    pooling: Pooling | None = None,
    normalise: bool | None = None,
    max_length: int | None = None,
) -> LanguageConfig:
    """What the folder holds.

    ``pooling``, ``normalise`` and ``max_length`` replace what the folder says. Raises InputError when there
    is no such folder, when a file is damaged, and for architectures, poolings and modules that are not known.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: there is no such folder; give one that holds config.json and model.safetensors"
        )
    config = read_fields(folder / "config.json")
    family = config.text("model_type")
    if family not in FAMILIES:
        raise InputError(
            f"{config.path}: the architecture {family!r} is not known; known are {', '.join(FAMILIES)}"
        )
    body = body_of(family, config)
    found = _modules(folder, body.width, causal=isinstance(body, DecoderShape) and body.causal)
    prompts, default = _prompts(folder)
    longest = _longest(folder, body.longest)
    if max_length is not None and not 3 <= max_length <= body.longest:
        raise InputError(
            f"max_length={max_length}: {folder} reads from 3 to {body.longest} tokens; give one of these"
        )
    lowercase = folder / "sentence_bert_config.json"
    return LanguageConfig(
        family=family,
        body=body,
        pooling=found[0] if pooling is None else pooling,
        dense=found[1],
        normalise=found[2] if normalise is None else normalise,
        max_length=max_length or longest,
        lowercase=lowercase.exists() and read_fields(lowercase).flag("do_lower_case", False),
        prompts=prompts,
        default_prompt=default,
    )


def read_fields(path: Path) -> Fields:
    """A file that holds one JSON object."""
    return Fields(path, _json(path, dict))


def _json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path}: is missing; give a folder as Hugging Face's save_pretrained writes it"
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); copy the model again"
        ) from None
    if not isinstance(value, kind):
        raise InputError(
            f"{path}: holds no JSON {'object' if kind is dict else 'array'}; copy the model again"
        )
    return value


def _modules(folder: Path, width: int, *, causal: bool) -> tuple[Pooling, tuple[DenseShape, ...], bool]:
    """Pooling, dense layers and whether to normalise."""
    path = folder / "modules.json"
    if not path.exists():
        return ("last" if causal else "mean"), (), True
    pooling: Pooling | None = None
    dense: list[DenseShape] = []
    normalise = False
    modules = _json(path, list)
    for place, module in enumerate(modules):
        if not (isinstance(module, dict) and isinstance(module.get("type"), str)):
            raise InputError(f"{path}: module {place} has no type; copy the model again")
        kind, where = module["type"].rpartition(".")[2], str(module.get("path", ""))
        if (kind, place) == ("Transformer", 0) and not where:
            continue
        if kind == "Pooling" and pooling is None:
            pooling = _pooling(folder / where / "config.json")
        elif kind == "Dense" and pooling is not None and not normalise:
            dense.append(_dense(where, read_fields(folder / where / "config.json"), width))
            width = dense[-1].outputs
        elif kind == "Normalize" and pooling is not None and place == len(modules) - 1:
            normalise = True
        elif kind != "Dropout":
            raise InputError(
                f"{path}: module {place} ({kind}) is not known at that place; known are a Transformer,"
                " Pooling, Dense and at last Normalize"
            )
    if pooling is None:
        raise InputError(f"{path}: names no Pooling, so that a text would have no vector; add one")
    return pooling, tuple(dense), normalise


def _pooling(path: Path) -> Pooling:
    fields = read_fields(path)
    if not fields.flag("include_prompt", True):
        raise InputError(f"{path}: a pooling that leaves out the prompt is not known; use another model")
    if "pooling_mode" in fields.values:
        mode = fields.text("pooling_mode")
        if mode not in _POOLINGS:
            raise InputError(f"{path}: the pooling {mode!r} is not known; known are {_POOLED}")
        return _POOLINGS[mode]
    chosen = [name for name in _OLD_POOLINGS if fields.flag(name, False)]
    if len(chosen) != 1 or _OLD_POOLINGS[chosen[0]] is None:
        raise InputError(
            f"{path}: the pooling {' and '.join(chosen) or 'none'} is not known; known are one of {_POOLED}"
        )
    return cast(Pooling, _OLD_POOLINGS[chosen[0]])


def _dense(where: str, fields: Fields, width: int) -> DenseShape:
    shape = DenseShape(
        folder=where,
        inputs=fields.count("in_features"),
        outputs=fields.count("out_features"),
        biased=fields.flag("bias", True),
        activation=_dense_activation(fields),
    )
    if shape.inputs != width:
        raise InputError(
            f"{fields.path}: in_features {shape.inputs}, but what comes before has width {width}; copy the"
            " model again"
        )
    return shape


def _dense_activation(fields: Fields) -> Activation:
    word = str(fields.values.get("activation_function") or "torch.nn.modules.activation.Tanh").rpartition(
        "."
    )[2]
    if word not in _DENSE:
        raise InputError(
            f"{fields.path}: activation_function {word!r} is not known; known are {', '.join(_DENSE)}"
        )
    return _DENSE[word]


def _prompts(folder: Path) -> tuple[tuple[tuple[str, str], ...], str | None]:
    path = folder / "config_sentence_transformers.json"
    if not path.exists():
        return (), None
    fields = read_fields(path)
    prompts, default = fields.values.get("prompts") or {}, fields.values.get("default_prompt_name")
    if not (isinstance(prompts, dict) and all(isinstance(text, str) for text in prompts.values())):
        raise InputError(f"{path}: prompts are no texts by name; copy the model again")
    if default is not None and not (isinstance(default, str) and default in prompts):
        raise InputError(
            f"{path}: default_prompt_name {default!r} is not among the prompts; copy the model again"
        )
    return tuple((str(name), text) for name, text in prompts.items()), default


def _longest(folder: Path, most: int) -> int:
    """The least of what the model, sentence-transformers and the tokenizer name as most tokens."""
    lengths = [most]
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        path = folder / name
        if path.exists():
            value = read_fields(path).number(key, 2.0**31)
            # A tokenizer without a limit says so by a number beyond all texts.
            if 3 <= value < 2**31:
                lengths.append(int(value))
    return min(lengths)
