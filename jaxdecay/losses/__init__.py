"""Losses of a target item: ``f(query, moment, target, scorer, excitation, *, negatives, where)``, each the
negative log-likelihood (or what stands for it) of T targets.

Every function takes the same arguments in the same order. Axes: T targets, D features, N negatives that all
targets share, V items. ``query`` (T, D) and ``moment`` (T,) are what the ``scorer`` needs: a point of its
time grid, or int32 seconds for a `jaxdecay.scorer.SparseScorer`, which all but the softmax take.
``excitation`` is what the revisit head adds, None without one. ``where``: which targets count; the others
give 0 and no slope. No loss holds T by V numbers.
"""

from jaxdecay.losses.binary import bce, gbce
from jaxdecay.losses.likelihood import log_likelihood, softmax
from jaxdecay.losses.negatives import Negatives, draw
from jaxdecay.losses.partition import log_partition
from jaxdecay.losses.sampled import sampled_softmax

__all__ = [
    "Negatives",
    "bce",
    "draw",
    "gbce",
    "log_likelihood",
    "log_partition",
    "sampled_softmax",
    "softmax",
]
