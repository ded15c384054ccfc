"""What a language model is made of, apart from its weights: frozen, hashable, so that a compiled function may
depend on it."""

from dataclasses import dataclass
from typing import Literal

Pooling = Literal["mean", "cls", "last"]
"""The mean over the tokens, the first token, or the last one."""
Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh", "identity"]
"""``gelu`` is exact (by the error function), ``gelu_tanh`` its approximation."""


@dataclass(frozen=True)
class BertShape:
    """An encoder of the BERT type: learned positions, a norm after each residual sum, all tokens see all."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    """Width inside the feed-forward part."""
    positions: int
    """Rows of the table of positions."""
    types: int
    """Rows of the table of token types; a single text has type 0 throughout."""
    activation: Activation
    epsilon: float
    first: int = 0
    """Row of the first token's position: RoBERTa counts from the padding token's id + 1."""

    @property
    def longest(self) -> int:
        """Most tokens of a text."""
        return self.positions - self.first


@dataclass(frozen=True)
class DecoderShape:
    """A decoder with grouped-query attention and rotary positions: Qwen3, or one of the Gemma family."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    groups: int
    """Heads of keys and values; ``heads / groups`` heads of queries share one."""
    head_width: int
    inner: int
    positions: int
    activation: Activation
    epsilon: float
    scale: float
    """What products of queries and keys are multiplied by."""
    thetas: tuple[float, ...]
    """Base of the rotary frequencies, by layer."""
    stretches: tuple[float, ...]
    """What positions are divided by, by layer; 1 but for linear scaling."""
    windows: tuple[int, ...]
    """A token sees others less than so many places away, by layer; 0: all."""
    causal: bool
    """Whether a token sees only itself and those before it."""
    head_norms: bool
    """Whether queries and keys are normed, head by head."""
    biased: bool
    """Whether the projections of attention have biases."""
    gemma: bool
    """Norms multiply by 1 + weight and stand on both sides of each part; embeddings times sqrt(width)."""
    cap: float = 0.0
    """Logits of attention are bent to lie within this, cap tanh(x / cap); 0: as they are."""

    @property
    def longest(self) -> int:
        """Most tokens of a text."""
        return self.positions


@dataclass(frozen=True)
class DenseShape:
    """A dense layer after pooling."""

    folder: str
    """Where it lies in the model's folder."""
    inputs: int
    outputs: int
    biased: bool
    activation: Activation


@dataclass(frozen=True)
class LanguageConfig:
    """All of a model but its weights and its tokenizer."""

    family: str
    """``model_type`` of its config.json."""
    body: BertShape | DecoderShape
    pooling: Pooling
    dense: tuple[DenseShape, ...]
    normalise: bool
    """Whether vectors have length 1."""
    max_length: int
    """Most tokens of a text, special ones included; what is longer is cut."""
    lowercase: bool = False
    """Whether texts are lowered before the tokenizer sees them."""
    prompts: tuple[tuple[str, str], ...] = ()
    """Named texts that stand before each text, such as ("query", "query: ")."""
    default_prompt: str | None = None
    """The name of the one that is used where none is asked for."""

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return self.dense[-1].outputs if self.dense else self.body.width
