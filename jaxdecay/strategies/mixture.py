r"""Strategies mixed: with weights that are given, or those of the policy.

$$ p(i \mid u, t) = \sum_s w_s(u, t)\, p_s(i \mid u, t) $$

A mixture of probabilities, not of their logarithms: a strategy that has nothing to say of an item cannot veto
what another is sure of, every weight has a meaning (the share of choices that are made this way), and the
policy is fitted without looking at the catalogue. The price is small: with fixed weights a mixture of
logarithms was likelier, on validation events not fitted on, by .011 ± .017 nats (800 users of foursquare) and
.024 ± .011 (3,000 of electronics; standard errors; ``ways_to_mix`` of ``scripts/decisions/strategies.py``).
Three paths:

- cold, no visible choice: content, neighbours and factors know nothing, and popularity has their weight;
- lukewarm, fewer than `LUKEWARM` choices: of m choices their weight is m / `LUKEWARM` of what was asked, and
  popularity has the rest; the policy knows m itself and is not corrected;
- warm: as asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.evaluate import Rules
from jaxdecay.expect import is_number
from jaxdecay.names import perhaps
from jaxdecay.predict import Context
from jaxdecay.strategies.scores import NAMES, PERSONAL, Strategies

Strategy = str | Mapping[str, float]
"""A name, "policy", or weights by name."""
LUKEWARM = 5
"""Choices from which a strategy is given all of its weight."""
_WORTH = 0.05  # a weight from which a strategy is named
_PERSONAL = [NAMES.index(name) for name in PERSONAL]
_POPULARITY = NAMES.index("popularity")


def asked_weights(strategy: Any) -> np.ndarray | None:
    """(S,) weights that sum to 1 in the order of `NAMES`, of a `Strategy`; None for "policy", whose weights
    differ by user. Raises InputError for anything else."""
    if isinstance(strategy, str):
        _check_name(strategy, ("policy",))
        return None if strategy == "policy" else np.array([float(name == strategy) for name in NAMES])
    if not isinstance(strategy, Mapping):
        raise InputError(f"strategy {strategy!r}: give a name, or weights by name")
    for name, weight in strategy.items():
        if name == "policy":
            raise InputError("strategy 'policy' mixes by itself: ask for it alone, without a weight")
        _check_name(name)
        if not is_number(weight) or not (np.isfinite(float(weight)) and float(weight) >= 0):
            raise InputError(f"strategy {name}={weight!r}: give a weight of 0 or more")
    weights = np.array([float(strategy.get(name, 0)) for name in NAMES])
    if not weights.any():
        raise InputError("strategy: all weights are 0; give one of them more")
    weights /= weights.max()  # sums of huge ones would be infinite
    return weights / weights.sum()


def _check_name(name: str, more: tuple[str, ...] = ()) -> None:
    if name not in (known := (*NAMES, *more)):
        raise InputError(f"strategy {name!r} is not known; {perhaps(str(name), known)}")


@dataclass(frozen=True, eq=False)
class Mixture:
    """A `jaxdecay.evaluate.System` that asks strategies: scores are log-probabilities."""

    strategies: Strategies
    rules: Rules
    """Which items are candidates: a strategy's probability is among those."""
    asked: np.ndarray | None
    """(S,) weights, or None for those of the policy."""
    name: str = "mixture"
    uses_time: bool = True
    logits: bool = True

    @property
    def histories(self) -> Histories:
        return self.strategies.histories

    def weights(self, requests: Requests) -> np.ndarray:
        """(R, S) float64 of each strategy, after what who asks is not known for has been handed over."""
        known = self.strategies.known(requests)
        if self.asked is None:
            policy = self.strategies.fitted.policy
            weights = np.exp(policy.log_weights(self.strategies.features(requests)))
            trust = np.minimum(known, 1)
        else:
            weights = np.tile(self.asked, (len(requests), 1))
            trust = np.minimum(known / LUKEWARM, 1)
        handed = weights[:, _PERSONAL] * (1 - trust)[:, None]
        weights[:, _PERSONAL] -= handed
        weights[:, _POPULARITY] += handed.sum(axis=1)
        return weights

    def scores(self, requests: Requests, context: Context | None = None) -> np.ndarray:
        """(R, V) float32 log-probabilities; -inf for an item that is no candidate."""
        weights = self.weights(requests)
        used = tuple(name for name, some in zip(NAMES, np.any(weights, axis=0), strict=True) if some)
        found = self.strategies.log_probabilities(requests, used, self.rules.excluded(requests), context)
        with np.errstate(divide="ignore"):  # no weight at all
            logs = np.log(weights).astype(np.float32)
        total = np.full((len(requests), self.histories.items), -np.inf, np.float32)
        for name in used:
            np.logaddexp(total, logs[:, NAMES.index(name), None] + found.pop(name), out=total)
        return total

    def served_by(self, requests: Requests) -> list[str]:
        """In words for each request: the path, and the strategies with at least 5 % of the weight, the
        heaviest first, such as "warm: model and content"."""
        known, weights = self.strategies.known(requests), self.weights(requests)
        order = np.argsort(-weights, axis=1, kind="stable")
        words = []
        for row, places in enumerate(order):
            path = "cold" if known[row] == 0 else "lukewarm" if known[row] < LUKEWARM else "warm"
            named = [NAMES[place] for place in places if weights[row, place] >= _WORTH]
            words.append(f"{path}: {' and '.join(named)}")
        return words
