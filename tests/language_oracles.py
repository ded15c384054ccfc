"""Language models in NumPy, float64, straight from tensors under Hugging Face's names: one text at a time,
one head at a time, by loops. Nothing of jaxdecay."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Tensors = Mapping[str, np.ndarray]


def erf_gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def tanh_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1.0 + np.exp(-x))


ACTIVATIONS = {"gelu": erf_gelu, "gelu_pytorch_tanh": tanh_gelu, "silu": silu}


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True) + epsilon) * weight + bias


def head(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, sees: Any, cap: float | None
) -> np.ndarray:
    """One head: token i over the tokens j with ``sees(i, j)``."""
    out = np.zeros((len(q), v.shape[1]))
    for i in range(len(q)):
        logits = {j: scale * float(q[i] @ k[j]) for j in range(len(k)) if sees(i, j)}
        if cap:
            logits = {j: cap * math.tanh(x / cap) for j, x in logits.items()}
        top = max(logits.values())
        total = sum(math.exp(x - top) for x in logits.values())
        for j, x in logits.items():
            out[i] += math.exp(x - top) / total * v[j]
    return out


def bert(tensors: Tensors, config: Mapping[str, Any], ids: list[int], first: int = 0) -> np.ndarray:
    """(n, d) vectors of the tokens."""
    t = {name: value.astype(np.float64) for name, value in tensors.items()}
    epsilon, heads = config["layer_norm_eps"], config["num_attention_heads"]

    def dense(name: str, x: np.ndarray) -> np.ndarray:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        return layer_norm(x, t[f"{name}.weight"], t[f"{name}.bias"], epsilon)

    x = t["embeddings.word_embeddings.weight"][ids]
    x = x + t["embeddings.position_embeddings.weight"][first : first + len(ids)]
    x = norm("embeddings.LayerNorm", x + t["embeddings.token_type_embeddings.weight"][0])
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}"
        q, k, v = (
            np.split(dense(f"{at}.attention.self.{name}", x), heads, axis=1)
            for name in ("query", "key", "value")
        )
        scale = 1.0 / math.sqrt(q[0].shape[1])
        mixed = np.concatenate(
            [head(q[h], k[h], v[h], scale, lambda i, j: True, None) for h in range(heads)], axis=1
        )
        x = norm(f"{at}.attention.output.LayerNorm", x + dense(f"{at}.attention.output.dense", mixed))
        inner = ACTIVATIONS[config["hidden_act"]](dense(f"{at}.intermediate.dense", x))
        x = norm(f"{at}.output.LayerNorm", x + dense(f"{at}.output.dense", inner))
    return x


def turn(x: np.ndarray, theta: float) -> np.ndarray:
    """Rotary positions as complex numbers."""
    half = x.shape[1] // 2
    z = x[:, :half] + 1j * x[:, half:]
    for place in range(len(x)):
        for pair in range(half):
            z[place, pair] *= np.exp(1j * place * theta ** (-pair / half))
    return np.concatenate([z.real, z.imag], axis=1)


def decoder(tensors: Tensors, config: Mapping[str, Any], ids: list[int]) -> np.ndarray:
    """(n, d) vectors of the tokens, of Qwen3 and of Gemma 2 and 3."""
    t = {name: value.astype(np.float64) for name, value in tensors.items()}
    kind = config["model_type"]
    gemma = kind != "qwen3"
    heads, groups, width = (config[n] for n in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    scale = (config["query_pre_attn_scalar"] if gemma else width) ** -0.5
    both_ways = config.get("use_bidirectional_attention", False)
    act = ACTIVATIONS[config["hidden_activation" if gemma else "hidden_act"]]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        weight = t[f"{name}.weight"] + (1.0 if gemma else 0.0)
        return x / np.sqrt((x**2).mean(1, keepdims=True) + config["rms_norm_eps"]) * weight

    x = t["embed_tokens.weight"][ids] * (math.sqrt(config["hidden_size"]) if gemma else 1.0)
    for i in range(config["num_hidden_layers"]):
        at = f"layers.{i}"
        local = config["layer_types"][i] == "sliding_attention"
        theta = config["rope_local_base_freq"] if local and kind == "gemma3_text" else config["rope_theta"]
        reach = config["sliding_window"] if local else 10**9
        reach = reach // 2 + 1 if both_ways and local else reach

        def sees(a: int, b: int, reach: int = reach) -> bool:
            return abs(a - b) < reach and (both_ways or b <= a)

        def part(
            name: str, y: np.ndarray, count: int, at: str = at, theta: float = theta
        ) -> list[np.ndarray]:
            rows = np.split(y @ t[f"{at}.self_attn.{name}_proj.weight"].T, count, axis=1)
            if name == "v":
                return rows
            if kind != "gemma2":
                rows = [norm(f"{at}.self_attn.{name}_norm", row) for row in rows]
            return [turn(row, theta) for row in rows]

        y = norm(f"{at}.input_layernorm", x)
        q, k, v = part("q", y, heads), part("k", y, groups), part("v", y, groups)
        shared = heads // groups
        cap = config.get("attn_logit_softcapping")
        mixed = [head(q[h], k[h // shared], v[h // shared], scale, sees, cap) for h in range(heads)]
        y = np.concatenate(mixed, axis=1) @ t[f"{at}.self_attn.o_proj.weight"].T
        x = x + (norm(f"{at}.post_attention_layernorm", y) if gemma else y)
        y = norm(f"{at}.{'pre_feedforward' if gemma else 'post_attention'}_layernorm", x)
        y = act(y @ t[f"{at}.mlp.gate_proj.weight"].T) * (y @ t[f"{at}.mlp.up_proj.weight"].T)
        y = y @ t[f"{at}.mlp.down_proj.weight"].T
        x = x + (norm(f"{at}.post_feedforward_layernorm", y) if gemma else y)
    return norm("norm", x)
