"""What a model is made of, as a user says it; `jaxdecay.configure` makes a shape of it for a log."""

import dataclasses
from typing import Any, Literal, get_args

from jaxdecay.encoders.transformer import Bias
from jaxdecay.errors import InputError
from jaxdecay.presets import PRESETS, Mixer, Precision, Preset

ENCODERS = ("blocks", "dropout", "precision", "remat")
"""Options of encoders alone, refused where there is none."""
_ATTENTION = ("transformer", "hstu")
_OF_SOME = {"heads": _ATTENTION, "context": _ATTENTION, "span": ("cnn",), "attention_bias": ("transformer",)}
"""Options that say nothing to other encoders than these."""


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """What the model is made of."""

    preset: Literal["small", "base", "large"] = "small"
    """small: vectors of 32 numbers and no encoder. base: 64 numbers, two blocks of decayed states, dropout.
    large: 128 numbers, four blocks in bfloat16, computed again for the gradient. Options that are given
    win."""
    features: int | None = None
    """Length of item vectors; default: the preset's."""
    modes: int = 8
    """Half-lives in each bank, beside the mode that never fades."""
    periods: tuple[str, ...] = ("1d", "7d", "1d±3h", "7d±16h")
    """Rhythms of coming back: a period, from which learning starts, and how near to it one half is left, a
    quarter of it unless said, as in 1d±3h. Those the log cannot show are left out."""
    floor: bool = True
    """Whether each bank also has a mode that never fades."""
    half_lives: Literal["learned", "initial", "fixed", "cross-validated", "none"] = "learned"
    """learned: trained with everything else. initial: kept where they would start, their weights learned.
    fixed: as given by --half-life, the same for all items, users and groups, without a floor, rhythms or
    recovery from satiation (heads of an encoder that count events keep theirs). cross-validated: one for all
    heads, chosen over rolling folds. none: nothing ever fades (the same model without decay)."""
    half_life: tuple[str, ...] = ()
    """Half-lives to start from (learned) or to keep (fixed), as durations such as 12h or 30d; default:
    spread over the log's own ages. Of many, an encoder's heads take a few, from the first to the last."""
    half_life_prior: tuple[str, ...] = ()
    """Log-normal priors on half-lives, such as 7d±2x, or for one group news=6h±2x."""
    group_by: str | None = None
    """The item column by whose values decay may differ; default: the only categorical one with at most 64
    values, if there is one. "none" for no groups."""
    encoder: Mixer | None = None
    """What an event means after those before it. none: the vector of its item. mlp: that of the event alone,
    transformed. cnn: of the last few, convolved. gru, lstm: of all, in a gated state. bank: of all, in blocks
    of decayed states. transformer, hstu: of the last ones, by attention. All have the preset's size. Default:
    the preset's."""
    blocks: int | None = None
    """Blocks of the encoder; default: the preset's."""
    heads: int = 4
    """Heads of attention (transformer, hstu)."""
    read: Literal["bank", "last"] = "bank"
    """bank: the query is read from a bank that all events write into, faded to the request. last: it is what
    the encoder makes of the last event, or without one its item's vector."""
    dropout: float | None = None
    """Share of what each block adds that is dropped in training; default: the preset's."""
    context: int = 128
    """Events that attention goes back in each block (transformer, hstu)."""
    span: int = 8
    """Events that a convolution sees in each block (cnn)."""
    attention_bias: Bias = "position"
    """By what attention is biased (transformer). position: how many events ago. time: how long ago, by a
    half-life of each head's own, learned. both."""
    precision: Precision | None = None
    """Of the encoder's activations (clocks, gates and states are float32); default: the preset's."""
    remat: bool | None = None
    """Compute a block's inside again for the gradient: less memory, more time. Default: the preset's."""
    revisit: bool = True
    """The head for coming back to the same item; left out by itself where fewer than 1 in 1,000 events
    repeat an item."""
    satiation: bool = True
    """Whether the item taken last may be wanted less for a while (or more): learned with its half-life."""
    popularity: bool = True
    """The head of decayed popularity."""
    cold_items: bool = True
    """Whether items that came after training have a level and a mixture of popularity of their own, learned
    by hiding some of the latest items from each batch (not with relative times)."""
    calendar: bool = True
    """Hour of day and day of week of the request as inputs (not with relative times)."""
    per_item: bool = True
    """Write weights of each item's own."""
    per_user: bool = True
    """Read weights of each user's own."""
    per_behaviour: bool = True
    """Write weights of each behaviour's own."""
    adaptive: bool = False
    """Read weights that move with how full the modes are."""
    columns: bool = True
    """User, item and context columns as inputs."""
    item_ids: bool = True
    """A vector of each item's own; without it items are what their columns say."""
    fusion: Literal["sum", "gated"] = "sum"
    """How an item's own vector goes together with what its columns say. gated: by gates that look at both,
    and the columns pass a small network first."""
    by_content: bool = False
    """Items whose columns are alike have part of their level and of how they fade in common: a new item
    starts from there."""
    request_time: Literal["used", "ignored"] = "used"
    """ignored: requests are read at the time of the last event before them."""

    def __post_init__(self) -> None:
        for name in ("features", "modes", "blocks", "heads", "context", "span"):
            least = 0 if name == "modes" else 1
            value = getattr(self, name)
            if value is not None and not (value >= least and value == int(value)):
                raise InputError(f"{name}={value}: give a whole number from {least}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout}: give a share from 0 to below 1")
        for name, known in (
            ("preset", tuple(PRESETS)),
            ("half_lives", ("learned", "initial", "fixed", "cross-validated", "none")),
            ("encoder", (None, *get_args(Mixer))),
            ("read", ("bank", "last")),
            ("attention_bias", get_args(Bias)),
            ("precision", (None, *get_args(Precision))),
            ("request_time", ("used", "ignored")),
            ("fusion", ("sum", "gated")),
        ):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"{name}={value!r}: give one of {', '.join(filter(None, known))}")
        if self.size.encoder != "none":
            return
        for name in ENCODERS:
            if (value := getattr(self, name)) is not None:
                raise InputError(
                    f"{name}={value!r} needs an encoder, such as --encoder bank or --preset base"
                )

    @property
    def size(self) -> Preset:
        """The preset, with those options in its place that are given."""
        preset = PRESETS[self.preset]
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(preset)}
        return dataclasses.replace(preset, **{k: v for k, v in given.items() if v is not None})

    def resolved(self) -> "ModelOptions":
        """The same model with what the preset fixes written out: equal for equal models."""
        size = dataclasses.asdict(self.size)
        if self.size.encoder == "none":
            size |= dict.fromkeys((one for one in ENCODERS if one in size), None)
        size |= {
            name: getattr(ModelOptions, name)
            for name, kinds in _OF_SOME.items()
            if self.size.encoder not in kinds
        }
        return dataclasses.replace(self, **{"preset": "small", **size})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ModelOptions":
        """The options as a run's config.json keeps them."""
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**options)
