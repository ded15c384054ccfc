r"""Every strategy's answer on one scale: log-probabilities of the items that are candidates.

$$ \log p_s(i \mid u, t) = \beta_s\, \ell_{si}(u, t)
   - \log \sum_{i' \text{ candidate}} e^{\beta_s \ell_{si'}} $$

The sharpness $\beta_s$ of each is fitted on validation. $\ell$ is a score for content and model, a predicted
preference for factorisation, and for what counts, $n$, the logarithm of its shares, mixed with a little of
what everybody takes, so that no item is impossible:

$$ \ell_i = \log\Bigl((1 - 2\epsilon) \frac{n_i}{\sum n} + \epsilon\, p_i + \frac{\epsilon}{V}\Bigr),
\qquad p = \text{shares of faded popularity} $$

Of a user without a visible choice nothing can be said by content, neighbours or factors: all three then are
popularity.

A sharpness near 0 says that a strategy alone cannot tell what is taken next from what is not. That happens to
content where people mostly come back to what they had: its head was trained beside the one for such returns
and keeps to what is new. On the simulated log, with seven returns in ten targets, it ranks new targets above
the average item (by 0.5 standard deviations) and returns below it (by 0.7), and its sharpness is as low as it
may be. `Mixture.served` names such a strategy for nobody.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from jaxdecay import cohorts, drift
from jaxdecay.baselines import Factorisation, popularity
from jaxdecay.baselines.popularity import Popularity
from jaxdecay.data.requests import Requests
from jaxdecay.divergence import Paces
from jaxdecay.policy import Learned, features
from jaxdecay.predict import Context, Predictor
from jaxdecay.strategies.collaborative import Collaborative

NAMES = ("content", "collaborative", "factorisation", "model", "popularity")
PERSONAL = ("content", "collaborative", "factorisation")
"""Those that can say nothing of a user without events."""
READING = ("content", "model")
"""Those that read by the model's read weights, where its heads have any."""
_LITTLE = 0.01


@dataclass(frozen=True, eq=False)
class Fitted:
    """What validation chose, for one run."""

    half_lives: dict[str, float]
    """Days, inf never fades: of the counts of collaborative, factorisation and popularity."""
    confidence: float
    """Of the factorisation."""
    factors: np.ndarray
    """(items of training, D) float32 of the factorisation."""
    sharpness: dict[str, float]
    """By strategy."""
    paces: tuple[float, float, float, float]
    """Of the divergence: fast and slow rate per day, variance, evidence (`jaxdecay.divergence.Paces`)."""
    mixture: dict[str, float]
    """The weights, the same for everybody, that validation says most for."""
    policy: Learned
    log_likelihood: dict[str, float]
    """Mean on the validation events that all was fitted on: of each strategy alone, of the best mixture that
    is the same for everybody, and of the policy."""
    groups: Sequence[Mapping[str, Any]]
    """The same by who asked (`jaxdecay.strategies.whom`), everybody first."""
    feedback: str
    """What the policy learned from: next events, or clicks against impressions."""


UNFITTED = Fitted(
    half_lives=dict.fromkeys(("collaborative", "factorisation", "popularity"), np.inf),
    confidence=0.0,
    factors=np.zeros((0, 0), np.float32),
    sharpness=dict.fromkeys(NAMES, 1.0),
    paces=(0.0, 0.0, 0.0, 0.0),
    mixture=dict.fromkeys(NAMES, 1 / len(NAMES)),
    policy=Learned(*(np.zeros(0) for _ in Learned._fields)),
    log_likelihood={},
    groups=(),
    feedback="nothing",
)
"""Before anything is fitted. The model alone needs no more: its probabilities are those of its own
softmax."""


@runtime_checkable
class Reader(Protocol):
    """What content and model are read from: a `Predictor`, or one with other read weights."""

    def parts(self, requests: Requests, context: Context | None = None) -> dict[str, np.ndarray]: ...


class Strategies:
    """The strategies of a run over its histories, or newer ones of the same vocabulary."""

    def __init__(self, predictor: Predictor, fitted: Fitted) -> None:
        self.predictor, self.fitted = predictor, fitted
        self.histories = predictor.histories
        self._reader: Reader = predictor

    def read_by(self, reader: Reader) -> "Strategies":
        """The same with other read weights for those of `READING`."""
        other = copy.copy(self)
        other._reader = reader
        return other

    @functools.cached_property
    def popularity(self) -> Popularity:
        return popularity(self.histories, half_life=self.fitted.half_lives["popularity"])

    @functools.cached_property
    def factorisation(self) -> Factorisation:
        fitted = self.fitted
        new = self.histories.items - len(fitted.factors)  # items that came with an update
        return Factorisation(
            "factorisation",
            self.histories,
            np.pad(fitted.factors, ((0, new), (0, 0))),
            fitted.confidence,
            self.popularity,
            half_life=fitted.half_lives["factorisation"],
        )

    @functools.cached_property
    def collaborative(self) -> Collaborative:
        return Collaborative(self.predictor)

    @functools.cached_property
    def _drift(self) -> np.ndarray:
        fast, slow, variance, evidence = map(jnp.float32, self.fitted.paces)
        paces = Paces(jnp.stack([fast, slow]), variance, evidence)
        return drift.statistics(cohorts.of_users(self.histories, self.predictor.unit_vectors()), paces)

    def features(self, requests: Requests) -> np.ndarray:
        """(R, F) of who asks (`jaxdecay.policy.features`)."""
        return features(self.histories, requests, self._drift)

    def known(self, requests: Requests) -> np.ndarray:
        """(R,) int64 how many choices each request sees."""
        return self._counted[requests.history_end] - self._counted[self.histories.offsets[requests.user]]

    @functools.cached_property
    def _counted(self) -> np.ndarray:
        """(E+1,) choices before each row."""
        return np.concatenate([[0], np.cumsum(self.histories.chosen)])

    def shares(self, requests: Requests) -> np.ndarray:
        """(R, V) float32 shares of faded popularity."""
        return _shares(self.popularity.counts(requests.at))

    def raw(
        self, requests: Requests, names: tuple[str, ...], context: Context | None = None
    ) -> dict[str, np.ndarray]:
        """(R, V) float32 $\\ell$ by strategy."""
        found, shares = {}, np.zeros((0, 0), np.float32)
        if {"popularity", "collaborative"} & set(names):
            shares = self.shares(requests)
            found["popularity"] = np.log((1 - _LITTLE) * shares + _LITTLE / self.histories.items)
        if set(READING) & set(names):
            parts = self._reader.parts(requests, context)
            found["content"] = parts["similarity"]
            found["model"] = np.sum(list(parts.values()), axis=0)  # but for what normalising takes away
        if "collaborative" in names:
            counts = self.collaborative.scores(requests, self.fitted.half_lives["collaborative"])
            found["collaborative"] = log_shares(counts, shares)
        if "factorisation" in names:
            found["factorisation"] = self.factorisation.scores(requests)
        return {name: found[name] for name in names}

    def log_probabilities(
        self,
        requests: Requests,
        names: tuple[str, ...],
        excluded: np.ndarray | None,
        context: Context | None = None,
    ) -> dict[str, np.ndarray]:
        """(R, V) float32 by strategy; -inf for an item that is ``excluded`` (R, V)."""
        unknown = self.known(requests) == 0
        personal = set(names) & set(PERSONAL)
        # Whoever has no events gets popularity instead.
        wanted = tuple(dict.fromkeys((*names, "popularity"))) if personal else names
        found = {
            name: log_softmax(self.fitted.sharpness[name] * raw, excluded)
            for name, raw in self.raw(requests, wanted, context).items()
        }
        for name in personal:
            found[name][unknown] = found["popularity"][unknown]
        return {name: found[name] for name in names}


def log_shares(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(R, V) logarithm of the shares of counts, with a little of the popularity ``shares`` and of all alike;
    of popularity alone where nothing is counted."""
    mixed = np.where(counts.sum(axis=1, keepdims=True) > 0, _shares(counts), shares)
    return np.log((1 - 2 * _LITTLE) * mixed + _LITTLE * shares + _LITTLE / counts.shape[1])


def _shares(counts: np.ndarray) -> np.ndarray:
    """(R, V) by row; 0 where nothing is counted."""
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)


def log_softmax(scores: np.ndarray, excluded: np.ndarray | None) -> np.ndarray:
    """(R, V) log-probabilities among the candidates, -inf for the others; all -inf where there are none."""
    if excluded is not None:
        scores = np.where(excluded, scores.dtype.type(-np.inf), scores)
    total = logsumexp(scores, axis=1, keepdims=True)
    return scores - np.where(np.isneginf(total), 0, total).astype(scores.dtype)
