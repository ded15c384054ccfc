"""Strategies side by side on the test part of a run: each alone, the best mixture that is the same for
everybody, and the policy.

Everything that is chosen is chosen on validation (`jaxdecay.strategies.fit_strategies`).
"""

from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from jaxdecay.assembly import load_predictor
from jaxdecay.data.requests import requests, sample
from jaxdecay.evaluate import Rules, evaluate, rules
from jaxdecay.strategies import NAMES, Mixture, Strategies, asked_weights, fit_strategies
from jaxdecay.trained import Run

_FEW = 1200  # validation requests that the two ways to mix are compared by
METRIC = "ndcg@10"


def strategies(run: Run, *, max_requests: int = 2000, seed: int = 0) -> dict[str, Any]:
    """NDCG@10 on test, with 95 % intervals over users, of every strategy, the mixture and the policy; paired
    differences from the policy; mean log-likelihood on validation, there also of logarithms mixed instead of
    probabilities."""
    predictor = load_predictor(run.path)
    fitted = fit_strategies(predictor, seed=seed)
    histories = predictor.histories
    made, applied = Strategies(predictor, fitted), rules(histories)
    ways: dict[str, Any] = {name: name for name in (*NAMES, "policy")} | {"mixture": fitted.mixture}
    systems = [Mixture(made, applied, asked_weights(way), name=name) for name, way in ways.items()]
    asked = sample(requests(histories, 2, chosen=True), max_requests, seed)
    found = evaluate(systems, histories, asked, reference="policy", seed=seed)
    rows = []
    for system in systems:
        figure = found.figure(system.name, METRIC)
        row: dict[str, Any] = {"strategy": system.name, METRIC: figure.value}
        row |= {"low": figure.low, "high": figure.high}
        if system.name != "policy":
            against = found.difference(system.name, METRIC, "policy")
            row |= {"difference": against.value, "difference_low": against.low}
            row |= {"difference_high": against.high}
        row["validation_log_likelihood"] = fitted.log_likelihood.get(system.name)
        rows.append(row)
    return {
        "requests": len(asked),
        "rows": rows,
        "mixture": fitted.mixture,
        "half_lives_days": fitted.half_lives,
        "sharpness": fitted.sharpness,
        "policy": {name: array.tolist() for name, array in fitted.policy._asdict().items()},
        "ways_to_mix": ways_to_mix(made, applied, seed=seed),
    }


def ways_to_mix(made: Strategies, applied: Rules, *, seed: int = 0) -> dict[str, float]:
    """Mean log-likelihood of validation events, half of them fitted on and half judged by, of the best
    mixture of probabilities and of the best mixture of log-probabilities (normalised again); and the second
    minus the first, with the standard error of that."""
    asked = sample(requests(made.histories, 1, chosen=True), _FEW, seed)
    found = made.log_probabilities(asked, NAMES, applied.excluded(asked))
    table = np.stack([found[name] for name in NAMES])
    table = np.maximum(table, np.float32(-50))  # no candidate
    item, row = asked.targets[asked.target_offsets[:-1]], np.arange(len(asked))
    own = table[:, row, item].T.astype(np.float64)
    there = np.flatnonzero(own.min(axis=1) > -50)
    even, odd = there[::2], there[1::2]

    def of_probabilities(logits: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = logits - logsumexp(logits)
        values = logsumexp(weights + own[rows], axis=1)
        share = np.exp(weights + own[rows] - values[:, None])
        return values, share - np.exp(weights)

    def of_logarithms(weights: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mixed = np.tensordot(weights.astype(np.float32), table[:, rows], 1)
        total = logsumexp(mixed, axis=1, keepdims=True)
        expected = np.einsum("srv,rv->rs", table[:, rows], np.exp(mixed - total))
        return own[rows] @ weights - total[:, 0], own[rows] - expected

    judged = {}
    start = np.array([float(name == "model") for name in NAMES])
    for name, of in (("probabilities", of_probabilities), ("logarithms", of_logarithms)):

        def loss(x: np.ndarray, of: Any = of) -> tuple[float, np.ndarray]:
            values, slopes = of(x, even)
            return -float(values.mean()), -slopes.mean(axis=0).astype(np.float64)

        judged[name] = of(minimize(loss, start, jac=True, method="L-BFGS-B").x, odd)[0]
    apart = judged["logarithms"] - judged["probabilities"]
    return {
        **{name: float(values.mean()) for name, values in judged.items()},
        "difference": float(apart.mean()),
        "standard_error": float(apart.std() / np.sqrt(len(apart))),
    }
