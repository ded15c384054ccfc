"""Three sizes of the model: what they fix where the options say nothing.

`small` writes the vectors of items as they are; `base` and `large` let blocks of decayed states say what an
event means after those before it. Every encoder has these sizes: ``--preset small --encoder gru`` is two
blocks of 32 numbers.
"""

import dataclasses
from typing import Literal

Mixer = Literal["none", "mlp", "cnn", "gru", "lstm", "bank", "transformer", "hstu"]
Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True)
class Preset:
    """See the options of the same names (`jaxdecay.model_options.ModelOptions`)."""

    features: int
    encoder: Mixer
    blocks: int = 2
    dropout: float = 0.0
    precision: Precision = "float32"
    remat: bool = False


PRESETS = {
    "small": Preset(32, "none"),
    "base": Preset(64, "bank", dropout=0.1),
    "large": Preset(128, "bank", blocks=4, dropout=0.2, precision="bfloat16", remat=True),
}
