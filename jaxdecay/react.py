"""Lists that react to drift: a detection raises how much of what came lately is read.

The read logits of curves no slower than the fast half-life of the drift rise by `jaxdecay.divergence.rise`,
which is smooth: half of the strength at the threshold, and 2 % of it where nothing drifts at all. A model
with these logits serves the request. Nothing is trained anew.
"""

import copy
import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecay import cohorts, drift
from jaxdecay.data.requests import Requests
from jaxdecay.divergence import rise
from jaxdecay.durations import show_days
from jaxdecay.errors import InputError
from jaxdecay.interest import Bank
from jaxdecay.model import Interest
from jaxdecay.predict import Context, Predictor


class Reacting:
    """A predictor whose read weights follow the drift of who asks. Drift is calibrated once, over the
    training events of the histories."""

    def __init__(self, predictor: Predictor, strength: float) -> None:
        """``strength``: in logits. Raises InputError where no head reads by half-lives."""
        self._heads = [
            name for name in ("similarity", "revisit") if "decay" in predictor.params.get(name, {})
        ]
        if not self._heads:
            raise InputError(
                "react: this run reads by no half-lives, so that none can be raised; leave it out"
            )
        self.histories, self._predictor, self._strength = predictor.histories, predictor, strength
        self.alarmed, self.asked = 0, 0
        """For how many of the requests scored what came lately was raised."""
        self._streams = cohorts.of_users(predictor.histories, predictor.unit_vectors())
        self._calibrated = drift.calibrate(self._streams.where(predictor.histories.part == 0))
        spec = dataclasses.replace(
            predictor.model.spec,
            per_user=True,
            users=max(predictor.histories.users, predictor.model.spec.users),
        )
        self._model = Interest(spec)
        self._fast = {head: self._fast_curves(head) for head in self._heads}
        if not any(fast.any() for fast in self._fast.values()):
            fast = show_days(self._calibrated.half_lives[0])
            raise InputError(f"react: this run has no half-life of {fast} or less to raise; leave it out")
        # New users have a row of their own here: known to this model are all.
        histories = predictor.histories
        counts = {**histories.config["counts"], "known_users": histories.users}
        known = histories.replace(config={**histories.config, "counts": counts})
        self._raised = Predictor(
            self._model,
            self._params(np.zeros(self._model.spec.users, np.float32)),
            known,
            predictor.catalogue,
            predictor.reference,
            name=predictor.name,
        )

    def scores(self, requests: Requests, context: Context | None = None) -> np.ndarray:
        """(R, V) as `Predictor.scores`."""
        found = np.empty((len(requests), self.histories.items), np.float32)
        for rows, served in self._served(requests):
            found[rows] = served.scores(requests.take(rows), None if context is None else context.take(rows))
        return found

    def parts(self, requests: Requests, context: Context | None = None) -> dict[str, np.ndarray]:
        """(R, V) each as `Predictor.parts`."""
        found: dict[str, np.ndarray] = {}
        for rows, served in self._served(requests):
            parts = served.parts(requests.take(rows), None if context is None else context.take(rows))
            for name, part in parts.items():
                found.setdefault(name, np.empty((len(requests), part.shape[1]), part.dtype))[rows] = part
        return found

    def _served(self, requests: Requests) -> Iterator[tuple[np.ndarray, Predictor]]:
        """Some of the requests, no two of them of one user, whose reads are one row; and who serves them."""
        z = self._drift(requests)
        raised = np.asarray(rise(jnp.asarray(z), self._calibrated.threshold, self._strength))
        self.alarmed += int((z > self._calibrated.threshold).sum())
        self.asked += len(requests)
        order = np.argsort(requests.user, kind="stable")
        user = requests.user[order]
        number = np.empty(len(user), np.int64)
        number[order] = np.where(user < 0, 0, np.arange(len(user)) - np.searchsorted(user, user))
        for one in range(int(number.max(initial=-1)) + 1):
            rows = np.flatnonzero(number == one)
            known = rows[requests.user[rows] >= 0]
            move = np.zeros(self._model.spec.users, np.float32)
            move[requests.user[known]] = raised[known]
            served = copy.copy(self._raised)  # what else it is made of does not depend on anybody's reads
            served.params = self._params(move)
            yield rows, served

    def _params(self, move: np.ndarray) -> dict:
        """Those of the predictor, with the reads of each user raised by ``move`` (U,) on the fast curves."""
        params = dict(self._predictor.params)
        for head in self._heads:
            decay = params[head]["decay"]
            read = self._table(decay, len(self._fast[head])) + move[:, None] * self._fast[head][None]
            params[head] = {**params[head], "decay": {**decay, "user_read": read}}
        return jax.tree.map(jnp.asarray, params)

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

    def _table(self, decay: dict, curves: int) -> np.ndarray:
        """(U, C) read logits as learned; 0 of new users."""
        table = np.zeros((self._model.spec.users, curves), np.float32)
        if "user_read" in decay:
            table[: len(decay["user_read"])] = decay["user_read"]
        return table

    def _fast_curves(self, head: str) -> np.ndarray:
        """(C,) bool."""
        spec, decay = self._model.spec, self._predictor.params[head]["decay"]
        bank = Bank(
            spec.similarity_half_lives if head == "similarity" else spec.revisit_half_lives,
            spec.revisit_periods if head == "revisit" else (),
        )
        half_lives, envelopes, _ = (
            np.asarray(x) for x in bank.apply({"params": _paces(decay)}, method=Bank.paces)
        )
        return np.concatenate([[np.inf], half_lives, envelopes]) <= self._calibrated.half_lives[0]


def _paces(decay: dict) -> dict:
    names = ("log_half_life", "period_shift", "log_envelope", "write")
    return {name: value for name, value in decay.items() if name in names}
