"""``config.json`` of each architecture as a shape: what its fields are called, and what stands where one is
left out."""

from typing import Any

from jaxdecay.errors import InputError
from jaxdecay.language.fields import Fields
from jaxdecay.language.shapes import BertShape, DecoderShape

BERTS = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}
"""Encoders: by ``model_type``, what the names of their classes begin with."""
DECODERS = {"qwen3": "Qwen3", "gemma2": "Gemma2", "gemma3_text": "Gemma3"}
FAMILIES = BERTS | DECODERS
_MOST_LAYERS = 1_000
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
_KINDS = ("full_attention", "sliding_attention")


def body_of(family: str, fields: Fields) -> BertShape | DecoderShape:
    """The shape of one of `FAMILIES`; InputError when a field is missing or of the wrong kind, or when
    ``architectures`` names another family."""
    named: Any = fields.values.get("architectures") or []
    named = named if isinstance(named, list) else [named]
    if named and not any(str(name).startswith(FAMILIES[family]) for name in named):
        raise InputError(
            f"{fields.path}: model_type is {family!r}, but architectures names {', '.join(map(str, named))};"
            " copy the model again"
        )
    if fields.count("num_hidden_layers") > _MOST_LAYERS:
        raise InputError(f"{fields.path}: num_hidden_layers is beyond {_MOST_LAYERS}; copy the model again")
    return _bert(family, fields) if family in BERTS else _decoder(family, fields)


def _bert(family: str, fields: Fields) -> BertShape:
    if fields.text("position_embedding_type", "absolute") != "absolute" or fields.flag("is_decoder", False):
        raise InputError(
            f"{fields.path}: of {family} only absolute positions and sight both ways are known; use another"
            " model"
        )
    padding = fields.values.get("pad_token_id")
    shape = BertShape(
        vocabulary=fields.count("vocab_size"),
        width=fields.count("hidden_size"),
        layers=fields.count("num_hidden_layers"),
        heads=fields.count("num_attention_heads"),
        inner=fields.count("intermediate_size"),
        positions=fields.count("max_position_embeddings"),
        types=fields.count("type_vocab_size", 2 if family == "bert" else 1),
        activation=fields.one_of("hidden_act", _ACTIVATIONS, "gelu"),
        epsilon=fields.number("layer_norm_eps", 1e-12 if family == "bert" else 1e-5),
        first=0 if family == "bert" else 1 + (padding if isinstance(padding, int) else 1),
    )
    if shape.first >= shape.positions:
        raise InputError(
            f"{fields.path}: positions begin behind pad_token_id {padding}, but there are only"
            f" {shape.positions}; copy the model again"
        )
    if shape.width % shape.heads:
        raise InputError(
            f"{fields.path}: hidden_size {shape.width} is no multiple of {shape.heads} heads; copy the model"
            " again"
        )
    return shape


def _decoder(family: str, fields: Fields) -> DecoderShape:
    gemma = family != "qwen3"
    layers, heads, width = (
        fields.count(name) for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")
    )
    groups = fields.count("num_key_value_heads", 4 if gemma else heads)
    head_width = fields.count("head_dim", 256 if gemma else 128)
    both_ways = gemma and fields.flag("use_bidirectional_attention", False)
    kinds = _kinds(family, fields, layers)
    thetas, stretches = zip(*(_rotary(family, fields, kind) for kind in kinds), strict=True)
    if heads % groups or head_width % 2:
        raise InputError(
            f"{fields.path}: {heads} heads in {groups} groups, of width {head_width}: heads must be a"
            " multiple of groups, and the width even; copy the model again"
        )
    return DecoderShape(
        vocabulary=fields.count("vocab_size"),
        width=width,
        layers=layers,
        heads=heads,
        groups=groups,
        head_width=head_width,
        inner=fields.count("intermediate_size"),
        positions=fields.count("max_position_embeddings"),
        activation=fields.one_of(
            "hidden_activation" if gemma else "hidden_act",
            _ACTIVATIONS,
            "gelu_pytorch_tanh" if gemma else "silu",
        ),
        epsilon=fields.number("rms_norm_eps", 1e-6),
        scale=(fields.number("query_pre_attn_scalar", 256.0) if gemma else head_width) ** -0.5,
        thetas=thetas,
        stretches=stretches,
        windows=tuple(_window(fields, both_ways) if kind == "sliding_attention" else 0 for kind in kinds),
        causal=not both_ways,
        head_norms=family != "gemma2",
        biased=fields.flag("attention_bias", False),
        gemma=gemma,
        cap=_cap(family, fields),
    )


def _kinds(family: str, fields: Fields, layers: int) -> tuple[str, ...]:
    """Which layers see all and which a window, one word a layer."""
    kinds: Any = fields.values.get("layer_types")
    if kinds is None:
        if family == "qwen3":
            begin = (
                fields.count("max_window_layers", 28) if fields.flag("use_sliding_window", False) else layers
            )
            kinds = [_KINDS[i >= begin] for i in range(layers)]
        else:
            every = 2 if family == "gemma2" else fields.count("sliding_window_pattern", 6)
            kinds = [_KINDS[(i + 1) % every > 0] for i in range(layers)]
    if not (isinstance(kinds, list) and len(kinds) == layers and all(kind in _KINDS for kind in kinds)):
        raise InputError(
            f"{fields.path}: layer_types must name {' or '.join(_KINDS)} for each of {layers} layers; copy"
            " the model again"
        )
    return tuple(kinds)


def _window(fields: Fields, both_ways: bool) -> int:
    """Tokens less than so many places away are seen. With sight both ways the width on disk is that of both
    sides together."""
    width = fields.count("sliding_window", 4096)
    return width // 2 + 1 if both_ways else width


def _cap(family: str, fields: Fields) -> float:
    if "attn_logit_softcapping" in fields.values and fields.values["attn_logit_softcapping"] is None:
        return 0.0
    if family == "qwen3" or (family == "gemma3_text" and "attn_logit_softcapping" not in fields.values):
        return 0.0
    return fields.number("attn_logit_softcapping", 50.0)


def _rotary(family: str, fields: Fields, kind: str) -> tuple[float, float]:
    """Base of the frequencies and what positions are divided by, for one kind of layer.

    Newer files have ``rope_parameters``, for Gemma 3 by kind of layer; older ones ``rope_theta``,
    ``rope_local_base_freq`` and ``rope_scaling``, which is of the layers that see all.
    """
    local = family == "gemma3_text" and kind == "sliding_attention"
    given: Any = fields.values.get("rope_parameters")
    if isinstance(given, dict) and isinstance(given.get(kind), dict):
        given = given[kind]
    if not isinstance(given, dict):
        given = {} if local else fields.values.get("rope_scaling") or {}
        if not isinstance(given, dict):
            raise InputError(f"{fields.path}: rope_scaling {given!r} is no object; copy the model again")
        name = "rope_local_base_freq" if local else "rope_theta"
        given = {"rope_theta": fields.values.get(name), **given}
    rope = Fields(fields.path, given)
    usual = 1e6 if family == "gemma3_text" and not local else 1e4
    form = rope.text("rope_type", rope.text("type", "default"))
    if form not in ("default", "linear"):
        raise InputError(
            f"{fields.path}: rotary positions of type {form!r} are not known; known are default and linear"
        )
    return rope.number("rope_theta", usual), rope.number("factor", 1.0) if form == "linear" else 1.0
