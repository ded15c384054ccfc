"""Strategies: ways to answer a request, each usable alone, mixed with weights, or by a learned policy.

- content: the user's faded interest against item vectors, the similarity head alone;
- collaborative: what users with similar faded interests do now (`jaxdecay.heads.neighbours`);
- factorisation: implicit feedback factorised, users solved from their faded counts;
- model: the run's whole score;
- popularity: what everybody takes, faded.
"""

from jaxdecay.strategies.fit import fit_strategies
from jaxdecay.strategies.kept import load_for, load_strategies, save_strategies
from jaxdecay.strategies.mixture import Mixture, Strategy, asked_weights, needs_fit
from jaxdecay.strategies.scores import NAMES, UNFITTED, Fitted, Strategies

__all__ = [
    "NAMES",
    "UNFITTED",
    "Fitted",
    "Mixture",
    "Strategies",
    "Strategy",
    "asked_weights",
    "fit_strategies",
    "load_for",
    "load_strategies",
    "needs_fit",
    "save_strategies",
]
