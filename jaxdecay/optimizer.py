"""Two learning rates: decay parameters and the few scalars beside them learn much faster than embeddings, and
take no weight decay."""

from collections.abc import Hashable
from typing import Any

import jax
import optax

# A handful of scalars that set how the heads stand to each other: as well determined as the half-lives.
_LEVELS = {"level", "group_strength", "behaviour_strength", "exponent", "cold_exponent", "cold_level"}
_PACES = {
    *("log_half_life", "log_envelope", "period_shift", "decay_recovery"),
    *("decay_days_shift", "decay_steps_shift"),
}
TEXT = "text"
"""Under which what is trained of a language model lies beside the model's own parameters."""
# Another handful that set how loudly the item vectors speak, and belong to them.
_SCALES = {"amplitude", "log_temperature", "log_softness"}


def is_decay(path: tuple[Any, ...]) -> bool:
    """Whether a parameter belongs to how interest fades: anything under a name that begins with "decay"."""
    return any(str(key.key).startswith("decay") for key in path)


def is_level(path: tuple[Any, ...]) -> bool:
    """Whether a parameter sets how the heads stand to each other."""
    return path[-1].key in _LEVELS


def is_pace(path: tuple[Any, ...]) -> bool:
    """Whether a parameter is a half-life or a period itself, and not how much of each is written or read."""
    return path[-1].key in _PACES


def groups_of(params: Any) -> Any:
    """The parameters' tree with the name of each one's group: text, paces, decay, levels, scales or rest."""

    def of(path: tuple[Any, ...], _: Any) -> str:
        if path[0].key == TEXT:
            return "text"
        if is_decay(path):
            return "paces" if is_pace(path) else "decay"
        if is_level(path):
            return "levels"
        return "scales" if path[-1].key in _SCALES else "rest"

    return jax.tree.map_with_path(of, params)


def _linear(params: Any) -> Any:
    """All but the item vectors, which have a prior of their own (`jaxdecay.priors`)."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key != "embedding", params)


def optimizer(
    learning_rate: float,
    decay_learning_rate: float,
    *,
    weight_decay: float = 0.0,
    freeze_paces: bool = False,
    text_learning_rate: float = 0.0,
) -> optax.GradientTransformation:
    """AdamW for what events and items are, Adam for how they fade and how the heads stand to each other, and
    again Adam for what is trained of a language model.

    ``freeze_paces`` keeps half-lives and periods where they start.
    """
    groups: dict[Hashable, Any] = {
        "paces": optax.set_to_zero() if freeze_paces else optax.adam(decay_learning_rate),
        "decay": optax.adam(decay_learning_rate),
        "levels": optax.adam(decay_learning_rate),
        "scales": optax.adam(decay_learning_rate),
        "text": optax.adam(text_learning_rate),
        "rest": optax.adamw(learning_rate, weight_decay=weight_decay, mask=_linear),
    }
    return optax.partition(groups, groups_of)
