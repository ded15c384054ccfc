"""Folders of small language models with random weights, under Hugging Face's names, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = [
    "red",
    "green",
    "blue",
    "lamp",
    "cable",
    "phone",
    "case",
    "for",
    "with",
    "small",
    "large",
    "and",
    "the",
    "a",
    "of",
    "usb",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
VOCABULARY = len(WORDS) + len(SPECIAL)
BERT: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "intermediate_size": 12,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 100.0,
}
QWEN3: dict[str, Any] = {
    **DECODER,
    "model_type": "qwen3",
    "hidden_act": "silu",
    "layer_types": ["full_attention"] * 2,
}
GEMMA: dict[str, Any] = {
    **DECODER,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 5,
    "sliding_window": 3,
    "layer_types": ["sliding_attention", "full_attention"],
}
GEMMA2: dict[str, Any] = {**GEMMA, "model_type": "gemma2", "attn_logit_softcapping": 0.7}
GEMMA3: dict[str, Any] = {**GEMMA, "model_type": "gemma3_text", "rope_local_base_freq": 10.0}
BOTH_WAYS: dict[str, Any] = {**GEMMA3, "use_bidirectional_attention": True, "sliding_window": 4}


def tensors_of(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors, large enough that every part of the model matters."""
    rng = np.random.default_rng(seed)
    shapes = _bert_shapes(config) if config["model_type"] == "bert" else _decoder_shapes(config)
    return {name: rng.normal(0.0, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}


def write_folder(
    folder: Path, config: dict[str, Any], tensors: dict[str, np.ndarray], modules: list[Any] | None = None
) -> Path:
    """A folder as save_pretrained writes it; ``modules``: type, settings and tensors of each after the
    first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    tokenizer().save(str(folder / "tokenizer.json"))
    if modules is not None:
        listed = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]
        for i, (kind, settings, weights) in enumerate(modules, start=1):
            where = folder / f"{i}_{kind}"
            where.mkdir(exist_ok=True)
            listed.append({"idx": i, "path": where.name, "type": f"sentence_transformers.models.{kind}"})
            (where / "config.json").write_text(json.dumps(settings))
            if weights:
                save_file(weights, where / "model.safetensors")
        (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def tokenizer() -> Tokenizer:
    """Words, lowered, between [CLS] and [SEP]; with padding and truncation of its own, as published ones
    have."""
    made = Tokenizer(WordLevel({word: i for i, word in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]"))
    made.normalizer = Lowercase()
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_truncation(5)
    made.enable_padding(length=7)
    return made


def _bert_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
        "pooler.dense.weight": (width, width),
        "pooler.dense.bias": (width,),
    }
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        dense = {f"attention.self.{name}": (width, width) for name in ("query", "key", "value")}
        dense["attention.output.dense"] = (width, width)
        dense |= {"intermediate.dense": (inner, width), "output.dense": (width, inner)}
        for name, shape in dense.items():
            shapes |= {f"{at}.{name}.weight": shape, f"{at}.{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{at}.{name}.weight": (width,), f"{at}.{name}.bias": (width,)}
    return shapes


def _decoder_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, each = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, groups = config["num_attention_heads"] * each, config["num_key_value_heads"] * each
    gemma = config["model_type"] != "qwen3"
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (config["vocab_size"], width),
        "norm.weight": (width,),
    }
    for i in range(config["num_hidden_layers"]):
        own = {
            "self_attn.q_proj": (heads, width),
            "self_attn.k_proj": (groups, width),
            "self_attn.v_proj": (groups, width),
            "self_attn.o_proj": (width, heads),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
            "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
        }
        if config["model_type"] != "gemma2":
            own |= {"self_attn.q_norm": (each,), "self_attn.k_norm": (each,)}
        if gemma:
            own |= {"pre_feedforward_layernorm": (width,), "post_feedforward_layernorm": (width,)}
        shapes |= {f"layers.{i}.{name}.weight": shape for name, shape in own.items()}
    return shapes
