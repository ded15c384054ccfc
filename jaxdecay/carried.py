"""A trained model's parameters in a model of more items and other users: what a run that is trained on
begins with."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecay.layout import tables_by
from jaxdecay.model import Interest, abstract_params


def carried(params: Any, model: Interest, grown: Interest, *, users: np.ndarray) -> Any:
    """The parameters of ``model`` as ``grown`` has them, a model with at least as many items.

    Item i of the one is item i of the other; user i of ``grown`` is user ``users[i]``, and those beyond
    ``users`` (n,) are new. Guarantee: what is new is scored, written and read as the model does with what it
    does not know (but for popularity where that has weights of its own for the unknown): deviations and own
    vectors are 0, the bias is that of all unknown items.
    """
    items, readers = tables_by(model, "items"), tables_by(model, "users")
    level = params["similarity"].get("cold_level", 0.0)

    def row_by_row(path: Any, x: jax.Array, wanted: jax.ShapeDtypeStruct) -> jax.Array:
        name = tuple(key.key for key in path)
        if name in readers:
            x = x[users]
        elif name not in items:
            return x
        fill = level if name == ("similarity", "bias") else 0.0
        return jnp.full(wanted.shape, fill, wanted.dtype).at[: len(x)].set(x)

    return jax.tree.map_with_path(row_by_row, params, abstract_params(grown))
