"""Lists that react to drift: a detection raises how much of what came lately is read.

What a user reads is moved by `jaxdecay.divergence.raised`, whose logits are those of the user's own read
weights: a model with these weights serves the request. Nothing is trained anew, and whoever has not moved
keeps what the run has learned.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecay import cohorts, drift
from jaxdecay.data.requests import Requests
from jaxdecay.divergence import rise
from jaxdecay.errors import InputError
from jaxdecay.interest import Bank
from jaxdecay.model import Interest
from jaxdecay.predict import Predictor


class Reacting:
    """A predictor for each batch of requests. Drift is calibrated once, over the users of the histories."""

    def __init__(self, predictor: Predictor, strength: float) -> None:
        """``strength``: in logits. Raises InputError where no head reads by half-lives."""
        self._heads = [
            name for name in ("similarity", "revisit") if "decay" in predictor.params.get(name, {})
        ]
        if not self._heads:
            raise InputError(
                "react: this run reads by no half-lives, so that none can be raised; leave it out"
            )
        self._predictor, self._strength = predictor, strength
        self._streams = cohorts.of_users(predictor.histories, predictor.unit_vectors())
        self._calibrated = drift.calibrate(self._streams)
        spec = dataclasses.replace(
            predictor.model.spec,
            per_user=True,
            users=max(predictor.histories.users, predictor.model.spec.users),
        )
        self._model = Interest(spec)

    def serve(self, requests: Requests) -> tuple[Predictor, np.ndarray]:
        """The predictor of these requests, and (R,) bool, whose drift is above the threshold."""
        z = self._drift(requests)
        move = np.zeros(self._model.spec.users, np.float32)
        some = requests.user >= 0
        raised = np.asarray(rise(jnp.asarray(z), self._calibrated.threshold, self._strength))
        move[requests.user[some]] = raised[some]
        params = dict(self._predictor.params)
        for head in self._heads:
            decay = params[head]["decay"]
            params[head] = {**params[head], "decay": {**decay, "user_read": self._moved(head, decay, move)}}
        predictor = self._predictor
        moved = Predictor(
            self._model,
            jax.tree.map(jnp.asarray, params),
            predictor.histories,
            predictor.catalogue,
            predictor.reference,
            name=predictor.name,
        )
        return moved, z > self._calibrated.threshold

    def _drift(self, requests: Requests) -> np.ndarray:
        """(R,) the statistic as of the last event that each request sees."""
        z = np.zeros(len(requests), np.float32)
        begin = np.asarray(self._streams.offsets)[np.maximum(requests.user, 0)]
        some = np.flatnonzero((requests.user >= 0) & (requests.history_end > begin))
        if not len(some):
            return z
        users, place = np.unique(requests.user[some], return_inverse=True)
        streams = self._streams.take(users)
        found = drift.statistics(streams, self._calibrated.paces)
        last = requests.history_end[some] - begin[some] - 1
        z[some] = found[streams.offsets[:-1][place] + last]
        return z

    def _moved(self, head: str, decay: dict, move: np.ndarray) -> np.ndarray:
        """(U, C) read logits, those of fast curves moved."""
        spec = self._model.spec
        bank = Bank(
            spec.similarity_half_lives if head == "similarity" else spec.revisit_half_lives,
            spec.revisit_periods if head == "revisit" else (),
        )
        half_lives, envelopes, _ = (
            np.asarray(x) for x in bank.apply({"params": _paces(decay)}, method=Bank.paces)
        )
        fast = np.concatenate([[np.inf], half_lives, envelopes]) <= self._calibrated.half_lives[0]
        table = np.zeros((spec.users, len(fast)), np.float32)
        if "user_read" in decay:
            table[: len(decay["user_read"])] = decay["user_read"]
        return table + move[:, None] * fast[None]


def _paces(decay: dict) -> dict:
    names = ("log_half_life", "period_shift", "log_envelope", "write")
    return {name: value for name, value in decay.items() if name in names}
