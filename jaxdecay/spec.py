"""What fixes a model: its shape and where its learning starts, as one value that JSON carries."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from jaxdecay import visibility
from jaxdecay.encoders import Stack
from jaxdecay.encoders.stack import Kind
from jaxdecay.encoders.transformer import Bias
from jaxdecay.errors import InputError


@dataclasses.dataclass(frozen=True)
class Table:
    """The shape of one set of columns: categorical ones with their cardinality (code 0 is missing) and
    width, and the numeric ones."""

    cardinalities: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    numeric: int = 0


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The shape of the similarity head's encoder of events (`jaxdecay.encoders`); no blocks, no encoder."""

    kind: Kind = "bank"
    blocks: int = 0
    heads: int = 1
    """Of attention."""
    half_lives: tuple[float, ...] = ()
    """Days: where those of the heads of decayed states, or of attention biased by time, begin; infinite for
    one that never fades."""
    steps: tuple[float, ...] = ()
    """Likewise, in events, for decayed states."""
    dropout: float = 0.0
    context: int = 0
    """Events that attention goes back in each block; 0 for all."""
    bank: bool = True
    """Whether the query is read from a bank that all events write into, or is the last event alone."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of activations; clocks, gates and states are float32."""
    remat: bool = False
    span: int = 0
    """Events that a convolution sees in each block."""
    bias: Bias = "position"
    """Of a transformer's attention."""

    def stack(self) -> Stack:
        """The module of this shape."""
        return Stack(
            self.kind,
            self.blocks,
            heads=self.heads,
            half_lives=self.half_lives,
            steps=self.steps,
            context=self.context,
            dropout=self.dropout,
            dtype=jnp.dtype(self.precision),
            remat=self.remat,
            span=self.span,
            bias=self.bias,
        )


@dataclasses.dataclass(frozen=True)
class Spec:
    """Everything that fixes the model's shape and where its learning starts. JSON in, JSON out; no defaults
    that data should decide."""

    items: int
    users: int
    behaviours: int
    features: int
    similarity_half_lives: tuple[float, ...]
    revisit_half_lives: tuple[float, ...]
    revisit_periods: tuple[float, ...]
    popularity_half_lives: tuple[float, ...]
    revisit: bool
    groups: int
    """Levels of the item column by which decay differs, code 0 (missing) included; 0 without one."""
    group_column: int
    """Place of that column among the item's categorical columns."""
    per_item: bool
    per_user: bool
    per_behaviour: bool
    adaptive: bool
    calendar: bool
    item_columns: Table = Table()
    user_columns: Table = Table()
    context_columns: Table = Table()
    request_time: Literal["used", "ignored"] = "used"
    floor: bool = True
    """Whether a bank starts with weight on the mode that never fades."""
    recovery: float = 0.0
    """Days from which on the half-life of satiation is learned; infinite for one that stays, 0 for none."""
    encoder: Encoder = Encoder()
    revisit_sharpness: tuple[int, ...] = ()
    """Of each of the rhythms; none given: 1."""
    cold_items: bool = False
    """Whether items that training does not know have a level and a popularity of their own."""
    item_ids: bool = True
    """Whether each item has a vector of its own."""
    fusion: Literal["sum", "gated"] = "sum"
    """How it goes together with the item's columns."""
    by_content: bool = False
    """Whether items whose columns are alike have part of their bias in common."""
    fades_by_content: bool = False
    """Likewise of their write weights."""

    def __post_init__(self) -> None:
        if self.request_time not in ("used", "ignored"):
            raise InputError(f"request_time={self.request_time!r}: give used or ignored")
        if self.request_time == "used" and not self.request_time_matters():
            raise visibility.refuse("nothing here fades, and neither calendar nor popularity moves")

    def request_time_matters(self) -> bool:
        """Whether the request time can change a ranking.

        A single exponential would not do for the interest alone (a scalar changes no ranking); beside the
        unfaded item bias one half-life is enough.
        """
        moving = (*self.popularity_half_lives, *(self.similarity_half_lives if self.encoder.bank else ()))
        if self.encoder.blocks and self.encoder.kind == "hstu":
            return True
        if self.revisit:
            moving += (*self.revisit_half_lives, *self.revisit_periods)
        recovers = self.revisit and 0 < self.recovery < float("inf")
        return recovers or self.calendar or any(length < float("inf") for length in moving)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Spec":
        def read(name: str, value: Any) -> Any:
            if name.endswith("_columns"):
                return Table(**_tuples(value))
            if name == "encoder":
                return Encoder(**_tuples(value))
            return tuple(value) if isinstance(value, list) else value

        return cls(**{name: read(name, value) for name, value in values.items()})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
