"""The layers that encoders are made of, on one event, in NumPy: the same as those of `jaxdecay.encoders` to
rounding, a few microseconds each."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit as sigmoid

_EPSILON = np.float32(1e-6)  # of a norm, as Flax has it


class Dense(NamedTuple):
    """A product, and what is added to it."""

    kernel: np.ndarray
    """(n, m) float32."""
    bias: np.ndarray
    """(m,) float32."""

    @classmethod
    def of(cls, *params: Mapping[str, Any]) -> "Dense":
        """Of layers that read the same, side by side; one without a bias adds nothing."""
        kernel = np.concatenate([np.asarray(one["kernel"], np.float32) for one in params], axis=1)
        none = [np.zeros(one["kernel"].shape[1], np.float32) for one in params]
        bias = [one.get("bias", nothing) for one, nothing in zip(params, none, strict=True)]
        return cls(kernel, np.concatenate(bias).astype(np.float32))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        found = x @ self.kernel
        found += self.bias
        return found


class Forward(NamedTuple):
    """`jaxdecay.encoders.FeedForward`."""

    norm: np.ndarray
    """(D,) float32 scale."""
    inner: np.ndarray
    """(D, 4 D) float32."""
    out: Dense
    """(2 D, D)."""

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Forward":
        inner = np.asarray(params["in"]["kernel"], np.float32)
        return cls(np.asarray(params["norm"]["scale"], np.float32), inner, Dense.of(params["out"]))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(D,) beside what was there before."""
        inner = normed(x, self.norm) @ self.inner
        half = len(inner) // 2
        return x + self.out(inner[:half] * silu(inner[half:]))


def normed(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(D,) of a mean square of 1, times the scale."""
    return x * (scale / np.sqrt(np.float32(x @ x) / np.float32(len(x)) + _EPSILON))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)
