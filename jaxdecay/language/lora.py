r"""Low-rank adapters: a dense layer's kernel plus a product of two thin matrices, which alone are trained.

$$ W' = W + \frac{\alpha}{r} A B, \qquad A \in \mathbb{R}^{d \times r},\ B \in \mathbb{R}^{r \times e} $$

$B$ begins at 0, so that the model begins as it was. Adapters are a tree of their own beside the frozen
parameters, and `merge` gives the tree that `jaxdecay.language.encoder` takes; gradients go through it.

References:
    Hu et al.: LoRA (2022).
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdecay.errors import InputError
from jaxdecay.language.encoder import Params

ATTENTION = ("query", "value")
"""What adapters usually stand on."""


def init(
    params: Params, key: Array, *, rank: int = 8, names: tuple[str, ...] | None = ATTENTION, start: int = 0
) -> Params:
    """Adapters for the dense layers called ``names`` (None: all) of the layers from ``start`` on.

    Returns ``{"layer_3": {"query": {"a": (d, rank), "b": (rank, e)}, ...}, ...}`` with the nesting of
    ``params``; float32. Raises InputError when that is nothing, or ``rank`` is not from 1 on.
    """
    found = [
        (path, kernel)
        for path, kernel in _kernels(params, ())
        if path[0].startswith("layer_")
        and int(path[0].removeprefix("layer_")) >= start
        and (names is None or path[-1] in names)
    ]
    if rank < 1 or not found:
        raise InputError(
            f"rank={rank}, names={names}, start={start}: give a rank from 1 on, and names of dense layers"
            " that the parameters have from that layer on"
        )
    adapters: dict[str, Any] = {}
    for i, (path, kernel) in enumerate(found):
        inner = adapters
        for name in path:
            inner = inner.setdefault(name, {})
        inputs, outputs = kernel.shape
        inner["a"] = jax.random.normal(jax.random.fold_in(key, i), (inputs, rank)) / inputs**0.5
        inner["b"] = jnp.zeros((rank, outputs))
    return adapters


def merge(params: Params, adapters: Params, *, alpha: float = 16.0) -> Params:
    """``params`` with the adapters added to their kernels: a new tree, which shares all other leaves.

    >>> params = {"layer_0": {"query": {"kernel": jnp.ones((1, 2)), "bias": jnp.zeros(2)}}}
    >>> adapters = {"layer_0": {"query": {"a": jnp.ones((1, 1)), "b": jnp.array([[0.0, 0.25]])}}}
    >>> merge(params, adapters, alpha=4.0)["layer_0"]["query"]["kernel"].tolist()
    [[1.0, 2.0]]
    """
    if "a" in adapters:
        rank = adapters["a"].shape[1]
        return {**params, "kernel": params["kernel"] + (alpha / rank) * (adapters["a"] @ adapters["b"])}
    return {**params, **{name: merge(params[name], inner, alpha=alpha) for name, inner in adapters.items()}}


def _kernels(tree: Params, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path to a dense layer and its kernel."""
    for name, inner in tree.items():
        if isinstance(inner, dict):
            if "kernel" in inner:
                yield (*path, name), inner["kernel"]
            else:
                yield from _kernels(inner, (*path, name))
