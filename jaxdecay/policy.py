r"""The policy: which strategy serves whom, by a softmax over strategies of what is known of the user.

$$ \pi(s \mid u, t) = \operatorname{softmax}_s(A\, x_u(t) + b), \qquad
p(i \mid u, t) = \sum_s \pi(s \mid u, t)\, p_s(i \mid u, t) $$

with the strategies' own probabilities $p_s$ and features $x$ of the user's state: how much is known, how long
ago, how much of it are repeats, and how far interests have drifted. It is a mixture of experts: $A$ and $b$
maximise the likelihood of what was taken next or, where the log says of what was shown whether it was
clicked, of the clicks, $\sigma(\gamma \log p + \delta)$. Everything that the strategies have learned is held
as it is, so that a pair of request and item is S numbers, and the catalogue is not looked at again.

A number of $A$ has the prior $N(0, 1)$ (features have mean 0 and variance 1): a log that says little keeps
the same mixture for everybody.

References:
    Jacobs, Jordan, Nowlan, Hinton: Adaptive mixtures of local experts, Neural Computation 1991.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from scipy.special import log_softmax

from jaxdecay.baselines.counts import visible
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests

FEATURES = ("events", "idle", "repeats", "drift")
"""Logarithms of 1 + the number of visible events, 1 + days since the last, the share of repeats, and the
logarithm of 1 + the fast-slow divergence. All are 0 of a user without events."""
_STEPS, _RATE = 1000, 0.05
_FAR = 4.0  # standard deviations
_DAY = 86_400.0


class Policy(nn.Module):
    """Log-probabilities of S strategies from F features of one user."""

    strategies: int

    @nn.compact
    def __call__(self, features: Float[Array, " f"]) -> Float[Array, " s"]:
        zeros = nn.initializers.zeros
        return nn.log_softmax(nn.Dense(self.strategies, kernel_init=zeros, name="dense")(features))


class Learned(NamedTuple):
    """A policy that has been fitted, as arrays."""

    mean: np.ndarray
    """(F,) of each feature, in what it was fitted on."""
    scale: np.ndarray
    """(F,) standard deviation."""
    matrix: np.ndarray
    """(F, S) A, on features of mean 0 and variance 1."""
    bias: np.ndarray
    """(S,) b."""

    def log_weights(self, features: np.ndarray) -> np.ndarray:
        """(R, S) what `Policy` gives for R users, without compiling for every R."""
        return log_softmax(_usual(features, self.mean, self.scale) @ self.matrix + self.bias, axis=1)

    def log_likelihood(self, features: np.ndarray, log_p: np.ndarray) -> np.ndarray:
        """(N,) log-probability of each item taken; ``log_p`` (N, S) by each strategy alone."""
        return np.logaddexp.reduce(self.log_weights(features) + log_p, axis=1)


def fit(features: np.ndarray, log_p: np.ndarray, labels: np.ndarray | None = None) -> Learned:
    """The policy that N pairs of a request and an item say most for.

    Args:
        features: (N, F) of who asked; F = 0 fits one mixture for everybody.
        log_p: (N, S) log-probability of the item by each strategy.
        labels: (N,) 1 for an item shown and clicked, 0 for one not clicked; None: all were taken.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    given = (jnp.asarray(x, jnp.float32) for x in (_usual(features, mean, scale), log_p))
    dense = _fitted(*given, None if labels is None else jnp.asarray(labels, jnp.float32))
    return Learned(mean, scale, *(np.asarray(dense[name], np.float64) for name in ("kernel", "bias")))


def _usual(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Features of mean 0 and variance 1, kept within what was fitted on: a log asked years after its end has
    users who have been away for longer than anybody in it."""
    return np.clip((features - mean) / scale, -_FAR, _FAR)


@jax.jit
def _fitted(
    features: Float[Array, "n f"], log_p: Float[Array, "n s"], labels: Float[Array, " n"] | None
) -> dict[str, Array]:
    policy = Policy(log_p.shape[1])
    start = {"policy": policy.init(jax.random.key(0), features[0])["params"]}
    start |= {"gain": jnp.zeros(()), "offset": jnp.zeros(())}

    def loss(params: dict) -> Array:
        weights: Any = jax.vmap(lambda one: policy.apply({"params": params["policy"]}, one))(features)
        mixed = jax.nn.logsumexp(weights + log_p, axis=1)
        prior = jnp.square(params["policy"]["dense"]["kernel"]).sum() / (2 * len(log_p))
        if labels is None:
            return prior - mixed.mean()
        logits = jnp.exp(params["gain"]) * mixed + params["offset"]
        return prior + optax.sigmoid_binary_cross_entropy(logits, labels).mean()

    optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, _STEPS))

    def step(state: tuple, _: None) -> tuple[tuple, None]:
        params, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(params), moments)
        return (optax.apply_updates(params, updates), moments), None

    (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=_STEPS)
    return params["policy"]["dense"]


def features(histories: Histories, requests: Requests, drift: np.ndarray) -> np.ndarray:
    """(R, F) float64 `FEATURES` of who asks, as of the request; ``drift`` (E,) is the divergence after each
    event of the histories."""
    own, size = visible(histories, requests), len(requests)
    events = np.bincount(own.row[own.pair], minlength=size)
    last = np.full(size, np.iinfo(np.int64).min)
    np.maximum.at(last, own.row, np.asarray(histories.time)[own.last])
    there = events > 0
    idle = np.where(there, requests.at - last, 0) / _DAY
    repeats = 1 - np.bincount(own.row, minlength=size) / np.maximum(events, 1)
    divergence = drift[np.maximum(requests.history_end - 1, 0)]
    found = [np.log1p(events), np.log1p(np.maximum(idle, 0)), repeats, np.log1p(divergence)]
    return np.where(there[:, None], np.stack(found, axis=1), 0.0)
