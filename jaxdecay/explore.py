r"""Lists that try things out: drawn by their probability, or as they would be if users remembered otherwise.

`perturbed` draws a list without replacement from the softmax of the scores at a temperature T, by the Gumbel
trick: ordered by $s_i + T g_i$, with independent Gumbel noise, a list is a draw from the Plackett-Luce model
of $s / T$.

`thompson` draws how each user reads from what is believed of it, and scores with that. The belief about a
deviation $\delta_{uc}$ of the read logits (`jaxdecay.deviations`) is Gaussian about what training found, with
the variance

$$ v_{uc} = \left( \sigma^{-2} + n_u \tau_c \right)^{-1}, $$

$\sigma$ that of the prior and $n_u$ the user's training events. How much an event says of a curve, $\tau_c$,
is read off the spread of what training found, which is what the prior has lost by the data: $\sum_u
\delta_{uc}^2 = \sum_u (\sigma^2 - v_{uc})$; never more than 1/4, the greatest information that one outcome
has of the logit of a mixture's part. So somebody unknown is drawn from the prior, and the more is known the
narrower is the draw. Not drawn are rates, write weights and item vectors, and curves are taken as
independent.

References:
    Kool, van Hoof, Welling: Stochastic beams and where to find them, ICML 2019 (Gumbel top-k).
    Thompson: On the likelihood that one unknown probability exceeds another, Biometrika 1933.
    Morris: Parametric empirical Bayes inference, JASA 1983.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.model import Interest
from jaxdecay.predict import Predictor
from jaxdecay.priors import SHRINKAGE

_STEPS = 60  # of bisection
_INFORMATION = 0.25  # of one event, at most


def perturbed(scores: np.ndarray, requests: Requests, temperature: float, seed: int) -> np.ndarray:
    """(R, V) float32 scores with Gumbel noise times the temperature: the same for the same seed, user and
    request time, whoever else is asked for."""
    noise = np.empty_like(scores)
    for row, (user, at) in enumerate(zip(requests.user, requests.at, strict=True)):
        random = np.random.default_rng([seed, int(user) + 1, abs(int(at))])
        # Of the exponential distribution in float32, which is three times as fast as NumPy's Gumbel.
        noise[row] = -np.log(random.standard_exponential(scores.shape[1], np.float32) + np.float32(1e-30))
    return scores + np.float32(temperature) * noise


def variance(deviations: np.ndarray, events: np.ndarray, prior: float) -> np.ndarray:
    """(U, C) of what is believed of each user's deviations.

    ``deviations``: (U, C), as trained. ``events``: (U,) of each user in training. ``prior``: standard
    deviation.
    """
    spread = np.square(deviations, dtype=np.float64).mean(axis=0)
    low, high = np.zeros(len(spread)), np.full(len(spread), _INFORMATION)
    for _ in range(_STEPS):  # in the logarithm: what an event says may be very little
        middle = np.sqrt(np.maximum(low, 1e-12) * high)
        left = 1.0 / (prior**-2 + events[:, None] * middle)
        less = (prior**2 - left).mean(axis=0) < spread
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return 1.0 / (prior**-2 + events[:, None] * low)


def thompson(predictor: Predictor, events: np.ndarray, seed: int) -> Predictor:
    """The same predictor with read weights drawn anew: one draw for each user that training knew, and one for
    all others together.

    ``events``: (U,) training events of these users. Raises InputError where the run has no read weights of
    each user's own.
    """
    random = np.random.default_rng(seed)
    spec, params, prior = predictor.model.spec, dict(predictor.params), SHRINKAGE["user_read"]
    drawn = 0
    for head in ("similarity", "revisit"):
        bank = params.get(head, {}).get("decay", {})
        if "user_read" not in bank:
            continue
        table = np.asarray(bank["user_read"], np.float32)
        spread = np.sqrt(np.append(variance(table, events, prior), [[prior**2] * table.shape[1]], axis=0))
        moved = np.append(table, np.zeros((1, table.shape[1]), np.float32), axis=0)
        moved += (spread * random.standard_normal(spread.shape)).astype(np.float32)
        params[head] = {**params[head], "decay": {**bank, "user_read": jnp.asarray(moved)}}
        drawn += 1
    if not drawn:
        raise InputError(
            "explore='thompson' draws the read weights of each user, and this run has none of users' own; "
            "train with --per-user, or say explore='temperature'"
        )
    # The row behind the last user is that of everybody new.
    model = Interest(dataclasses.replace(spec, users=spec.users + 1))
    return Predictor(
        model, params, predictor.histories, predictor.catalogue, predictor.reference, name=predictor.name
    )
