"""Two learning rates: decay parameters learn about ten times faster than embeddings and take no weight
decay."""

from collections.abc import Hashable
from typing import Any

import jax
import optax

_LEVELS = {
    "level",
    "group_strength",
    "behaviour_strength",
    "amplitude",
    "log_temperature",
    "log_softness",
    "exponent",
}  # a handful of scalars that set how the heads stand to each other: as well determined as the half-lives


def is_decay(path: tuple[Any, ...]) -> bool:
    """Whether a parameter belongs to how interest fades: anything under a name that begins with "decay"."""
    return any(str(key.key).startswith("decay") for key in path)


def is_level(path: tuple[Any, ...]) -> bool:
    """Whether a parameter sets how the heads stand to each other."""
    return path[-1].key in _LEVELS


def groups_of(params: Any) -> Any:
    """The parameters' tree with the name of each one's group: decay, levels or rest."""

    def of(path: tuple[Any, ...], _: Any) -> str:
        if is_decay(path):
            return "decay"
        return "levels" if is_level(path) else "rest"

    return jax.tree.map_with_path(of, params)


def optimizer(
    learning_rate: float, decay_learning_rate: float, *, weight_decay: float = 0.0, freeze_decay: bool = False
) -> optax.GradientTransformation:
    """AdamW for what events and items are, Adam for how they fade and how the heads stand to each other.

    ``freeze_decay`` keeps every decay parameter where it starts.
    """
    decay = optax.set_to_zero() if freeze_decay else optax.adam(decay_learning_rate)

    groups: dict[Hashable, Any] = {
        "decay": decay,
        "levels": optax.adam(decay_learning_rate),
        "rest": optax.adamw(learning_rate, weight_decay=weight_decay),
    }
    return optax.partition(groups, groups_of)
