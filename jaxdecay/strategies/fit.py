"""What strategies need to be told by validation: half-lives, how sharp each is, and the policy over them.

Nothing of the test part is read: requests are those of validation, factors are of the training part, and what
is fast and slow in drift is of the training part, too. The model's own parameters are held as they are.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecay import cohorts, drift
from jaxdecay.assess import Say
from jaxdecay.baselines import Factorisation, fit_baselines
from jaxdecay.baselines.choose import Judge
from jaxdecay.baselines.neighbours import HALF_LIVES
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, requests, sample
from jaxdecay.divergence import Paces
from jaxdecay.errors import InputError
from jaxdecay.evaluate import Rules, chunks
from jaxdecay.policy import FEATURES, fit
from jaxdecay.predict import Predictor
from jaxdecay.strategies.scores import (
    NAMES,
    PERSONAL,
    UNFITTED,
    Fitted,
    Strategies,
    log_shares,
    log_softmax,
)
from jaxdecay.strategies.whom import Asked, by_group

_SCORES = 5e7  # of one strategy, held at once
_FEWEST = 300  # requests, however large the catalogue


class Pairs(NamedTuple):
    """Requests, and N items that they are judged by."""

    requests: Requests
    row: np.ndarray
    """(N,) request of each pair."""
    item: np.ndarray
    """(N,)"""
    label: np.ndarray | None
    """(N,) whether what was shown was clicked; None: all were taken."""


def fit_strategies(predictor: Predictor, *, seed: int = 0, report: Say = lambda line: None) -> Fitted:
    """Fits all strategies of a model, and the policy, on the validation events of its histories.

    ``seed`` draws the requests, at most 5,000 and as many as make 5e7 scores. ``report`` is called with
    ``{"doing": ...}`` before each piece of work. Raises InputError without validation events.
    """
    histories = predictor.histories
    validation = requests(histories, 1, chosen=True)
    if not len(validation):
        raise InputError(
            "the validation part holds no events to learn a policy from; prepare with a larger"
            " --split.validation"
        )
    judge = Judge.of(histories, validation, seed=seed)
    taken = _pairs(judge.requests, judge.rules, seed)
    report({"doing": "popularity and factorisation: half-lives"})
    moves = _drift_of_training(predictor)
    fitted = dataclasses.replace(_counted(judge, validation, seed), paces=_numbers(moves.paces))
    report({"doing": "collaborative: half-life"})
    half_life = _of_neighbours(Strategies(predictor, fitted), judge.rules, taken)
    fitted = dataclasses.replace(fitted, half_lives={**fitted.half_lives, "collaborative": half_life})
    report({"doing": "how sharp each strategy is"})
    sharpness = _sharpness(Strategies(predictor, fitted), judge.rules, taken)
    report({"doing": "the policy"})
    strategies = Strategies(predictor, dataclasses.replace(fitted, sharpness=sharpness))
    shown = _shown(histories, judge.rules, seed)
    return _with_policy(strategies, judge.rules, taken, shown, moves.threshold)


def _counted(judge: Judge, validation: Requests, seed: int) -> Fitted:
    """What the baselines have already: faded popularity, and a factorisation, whose half-life of histories
    is chosen, too."""
    names = ("popularity", "decayed popularity", "matrix factorisation")
    found: dict[str, Any] = {
        one.name: one for one in fit_baselines(judge.histories, validation, seed=seed, names=names)
    }
    factorised = found["matrix factorisation"]

    def make(half_life: float) -> Factorisation:
        return dataclasses.replace(factorised, half_life=half_life)

    return dataclasses.replace(
        UNFITTED,
        half_lives={
            "collaborative": np.inf,
            "factorisation": judge.choose(make, HALF_LIVES)[1],
            "popularity": found.get("decayed popularity", found["popularity"]).half_life,
        },
        confidence=factorised.confidence,
        factors=factorised.factors,
    )


def _with_policy(
    strategies: Strategies, applied: Rules, taken: Pairs, shown: Pairs | None, threshold: float
) -> Fitted:
    """The policy learned from what was shown where the log has it, and from what was taken otherwise.
    ``threshold``: of the divergence of somebody who has moved."""

    def told(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        return strategies.features(pairs.requests)[pairs.row], log_probability(strategies, applied, pairs)

    features, log_p = told(taken)
    policy = fit(features, log_p) if shown is None else fit(*told(shown), shown.label)
    same = fit(features[:, :0], log_p)
    mixed = [same.log_likelihood(features[:, :0], log_p), policy.log_likelihood(features, log_p)]
    divergence = np.expm1(features[:, FEATURES.index("drift")])
    asked = Asked(strategies.known(taken.requests)[taken.row], divergence > threshold)
    groups = by_group(asked, np.column_stack([log_p, *mixed]), np.exp(policy.log_weights(features)))
    return dataclasses.replace(
        strategies.fitted,
        mixture=dict(zip(NAMES, np.exp(same.log_weights(features[:1, :0]))[0].tolist(), strict=True)),
        policy=policy,
        log_likelihood=groups[0]["log_likelihood"],
        groups=groups,
        feedback="next events" if shown is None else "clicks against impressions",
    )


def log_probability(strategies: Strategies, applied: Rules, pairs: Pairs) -> np.ndarray:
    """(N, S) of the item of each pair by each strategy."""
    result = np.empty((len(pairs.row), len(NAMES)))
    for chunk, inside in _stretches(strategies.histories, pairs):
        asked = pairs.requests.take(chunk)
        found = strategies.log_probabilities(asked, NAMES, applied.excluded(asked))
        for place, name in enumerate(NAMES):
            result[inside, place] = found[name][pairs.row[inside] - chunk.start, pairs.item[inside]]
    return result


def _stretches(histories: Histories, pairs: Pairs) -> Iterator[tuple[slice, slice]]:
    """Chunks of requests, and the places of their pairs."""
    for chunk in chunks(histories, pairs.requests):
        yield chunk, slice(*np.searchsorted(pairs.row, [chunk.start, chunk.stop]))


def _pairs(asked: Requests, applied: Rules, seed: int) -> Pairs:
    """The targets that are candidates."""
    size = max(int(_SCORES / applied.histories.items), _FEWEST)
    asked = sample(asked, size, seed)
    row = np.repeat(np.arange(len(asked)), np.diff(asked.target_offsets))
    there = np.ones(len(row), bool)
    for chunk in chunks(applied.histories, asked):
        if (excluded := applied.excluded(asked.take(chunk))) is not None:
            inside = slice(*np.searchsorted(row, [chunk.start, chunk.stop]))
            there[inside] = ~excluded[row[inside] - chunk.start, asked.targets[inside]]
    if not there.any():
        raise InputError(
            "no validation event is of an item that may be recommended, so there is nothing to learn a"
            " policy from; prepare with a larger --split.validation"
        )
    return Pairs(asked, row[there], asked.targets[there], None)


def _shown(histories: Histories, applied: Rules, seed: int) -> Pairs | None:
    """Impressions with their clicks; None where the log has not both."""
    if histories.config["split"].get("targets") == "all":
        return None  # the events of a request have been put together: there is no label of each
    asked = requests(histories, 1)
    labels = np.asarray(histories.label)[asked.event]
    if not ((labels == 0).any() and (labels == 1).any()):
        return None
    asked = asked.take(np.flatnonzero(~np.isnan(labels)))
    pairs = _pairs(asked.take(np.argsort(asked.at, kind="stable")), applied, seed)
    return pairs._replace(label=np.asarray(histories.label)[pairs.requests.event[pairs.row]])


def _of_neighbours(strategies: Strategies, applied: Rules, pairs: Pairs) -> float:
    """Half-life (days) of the neighbours' counts under which validation events are likeliest."""
    found, total = strategies.collaborative, np.zeros(len(HALF_LIVES))
    for chunk, inside in _stretches(strategies.histories, pairs):
        asked = pairs.requests.take(chunk)
        excluded = applied.excluded(asked)
        shares = strategies.shares(asked)
        row, item = pairs.row[inside] - chunk.start, pairs.item[inside]
        near = found.near(asked)
        for place, half_life in enumerate(HALF_LIVES):
            counts = found.counts(asked, near, half_life)
            total[place] += log_softmax(log_shares(counts, shares), excluded)[row, item].sum()
    return float(HALF_LIVES[int(np.argmax(total))])


def _sharpness(strategies: Strategies, applied: Rules, pairs: Pairs) -> dict[str, float]:
    """By strategy, that under which what was taken is likeliest; of those that need a user's events, among
    users who have some."""
    histories, asked = strategies.histories, pairs.requests
    excluded, known = applied.excluded(asked), strategies.known(asked) > 0
    found = dict.fromkeys(NAMES, 1.0)
    for name in NAMES:
        judged = known[pairs.row] if name in PERSONAL else np.ones(len(pairs.row), bool)
        if not judged.any():
            continue
        parts = [strategies.raw(asked.take(chunk), (name,))[name] for chunk in chunks(histories, asked)]
        raw = np.concatenate(parts)
        raw -= raw.max(axis=1, keepdims=True)
        if excluded is not None:
            raw[excluded] = -np.inf
        found[name] = _sharpest(raw, pairs.row[judged], pairs.item[judged])
    return found


def _sharpest(raw: np.ndarray, row: np.ndarray, item: np.ndarray) -> float:
    from scipy.optimize import minimize_scalar

    scores = jnp.asarray(raw)

    def loss(log_sharpness: float) -> float:
        return float(_surprise(scores, row, item, np.float32(np.exp(log_sharpness))))

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 7), method="bounded").x))


@jax.jit
def _surprise(raw: jax.Array, row: jax.Array, item: jax.Array, sharpness: jax.Array) -> jax.Array:
    return (jax.nn.logsumexp(sharpness * raw, axis=1)[row] - sharpness * raw[row, item]).mean()


def _drift_of_training(predictor: Predictor) -> drift.Calibration:
    """What is fast and slow in drift, and who has moved, from the training part alone."""
    streams = cohorts.of_users(predictor.histories, predictor.unit_vectors())
    return drift.calibrate(streams.where(predictor.histories.part == 0))


def _numbers(paces: Paces) -> tuple[float, float, float, float]:
    fast, slow = np.asarray(paces[0]).tolist()
    return fast, slow, float(paces[1]), float(paces[2])
