"""Two learning rates: decay parameters and the few scalars beside them learn much faster than embeddings, and
take no weight decay."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

# A handful of scalars that set how the heads stand to each other: as well determined as the half-lives.
_LEVELS = {"level", "group_strength", "behaviour_strength", "exponent", "cold_exponent", "cold_level"}
_PACES = {
    *("log_half_life", "log_envelope", "period_shift", "decay_recovery"),
    *("decay_days_shift", "decay_steps_shift"),
}
TEXT = "text"
"""Under which a language model lies beside the model's own parameters: what is ``trained`` of it, and the
``vectors`` that it made of the items' texts."""
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


class Gathered(NamedTuple):
    """What has come together for a language model since its last step."""

    slopes: Float[Array, "v w"]
    """Sum of the gradients with respect to the vectors."""
    text_state: Any
    """The state of its own optimiser."""


def gathered(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Leaves the language model as it is, and adds up the gradients with respect to its vectors; `renewed`
    takes the step."""

    def init(params: Any) -> Gathered:
        text = params[TEXT]
        return Gathered(jnp.zeros_like(text["vectors"]), tx.init(text["trained"]))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Gathered]:
        slopes = state.slopes + updates[TEXT]["vectors"]
        return jax.tree.map(jnp.zeros_like, updates), state._replace(slopes=slopes)

    return optax.GradientTransformation(init, update)


def optimizer(
    learning_rate: float,
    decay_learning_rate: float,
    *,
    weight_decay: float = 0.0,
    freeze_paces: bool = False,
    text: optax.GradientTransformation | None = None,
) -> optax.GradientTransformation:
    """AdamW for what events and items are, Adam for how they fade and how the heads stand to each other.

    ``freeze_paces`` keeps half-lives and periods where they start. ``text``: of a language model that is
    trained along, between steps.
    """
    groups: dict[Hashable, Any] = {
        "paces": optax.set_to_zero() if freeze_paces else optax.adam(decay_learning_rate),
        "decay": optax.adam(decay_learning_rate),
        "levels": optax.adam(decay_learning_rate),
        "scales": optax.adam(decay_learning_rate),
        "rest": optax.adamw(learning_rate, weight_decay=weight_decay, mask=_linear),
    }
    if text is not None:
        groups["text"] = gathered(text)
    return optax.partition(groups, groups_of)
