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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.evaluate import Rules
from jaxdecay.expect import is_number
from jaxdecay.names import perhaps
from jaxdecay.predict import Context
from jaxdecay.strategies.scores import NAMES, PERSONAL, READING, Reader, Strategies

Strategy = str | Mapping[str, float]
"""A name, "policy", or weights by name."""
LUKEWARM = 5
"""Choices from which a strategy is given all of its weight."""
_WORTH = 0.05  # a weight from which a strategy is named
_TELLS = 0.1  # by how much its best item must be likelier than the average one
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


def needs_fit(weights: np.ndarray | None) -> bool:
    """Whether weights as `asked_weights` gives them ask for more than the model alone."""
    return weights is None or float(weights[NAMES.index("model")]) < 1


def path_of(known: int) -> str:
    """In a word, by how many choices are known."""
    return "cold" if known == 0 else "lukewarm" if known < LUKEWARM else "warm"


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
    served: list[str] | None = None
    """Where given, who served is added in words for each request that is scored, in order: the path, and the
    strategies with at least 5 % of the weight that can tell items apart for this user, the heaviest first,
    such as "warm: model and content"; where none of them can, all of them so: "warm: content (all items
    alike)"."""
    name: str = "mixture"
    uses_time: bool = True
    logits: bool = True

    @property
    def histories(self) -> Histories:
        return self.strategies.histories

    def read_by(self, reader: Reader, what: str) -> "Mixture":
        """The same with other read weights. Raises InputError, in which ``what`` moves them, where no
        strategy that is asked reads by any."""
        # Without half-lives of its own, the similarity head has none to move.
        bank = "decay" in self.strategies.predictor.params["similarity"]
        reads = READING if bank else ("model",)
        if self.asked is not None and not any(self.asked[NAMES.index(name)] for name in reads):
            raise InputError(
                f"{what} moves how the model reads, which none of these strategies asks for; leave it out, or"
                f" give the strategy {' or '.join(reads)} a weight"
            )
        return replace(self, strategies=self.strategies.read_by(reader))

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
        tells = np.zeros(weights.shape, bool)
        for name in used:
            place, log_p = NAMES.index(name), found.pop(name)
            tells[:, place] = _tells_apart(log_p)
            np.logaddexp(total, logs[:, place, None] + log_p, out=total)
        if self.served is not None:
            self.served.extend(map(_words, self.strategies.known(requests).tolist(), weights, tells))
        return total


def _tells_apart(log_p: np.ndarray) -> np.ndarray:
    """(R,) whether the best of the candidates is likelier than the average one by more than a little."""
    candidates = np.isfinite(log_p).sum(axis=1)
    return log_p.max(axis=1) + np.log(np.maximum(candidates, 1)) > np.log1p(_TELLS)


def _words(known: int, weights: np.ndarray, tells: np.ndarray) -> str:
    """Who served a request."""
    order = [place for place in np.argsort(-weights, kind="stable") if weights[place] >= _WORTH]
    named = [place for place in order if tells[place]]
    said = " and ".join(NAMES[place] for place in named or order)
    return f"{path_of(known)}: {said}{'' if named else ' (all items alike)'}"
