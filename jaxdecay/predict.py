"""Scores of every item for requests, by a trained model: the whole past of each user, faded to the request
time."""

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdecay import scoring
from jaxdecay.data.catalogue import Catalogue, counted_live, first_seen, known_before
from jaxdecay.data.gather import Reference, Rows, gather
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, withheld
from jaxdecay.heads.similarity import Pieces
from jaxdecay.history import History, Items
from jaxdecay.history import Requests as Asked
from jaxdecay.model import Interest

_PLACES = 1 << 17  # padded events in one call
_SCORES = 1 << 22  # scores in one call
_MOMENTS = 1 << 20  # items times moments whose popularity is worked out at once


def items_of(histories: Histories, model: Interest, *, known_only: bool = False) -> Items:
    """The catalogue as the model reads it; ``known_only`` leaves out what training never saw."""
    spec = model.spec
    size = spec.items if known_only else histories.items
    index = np.minimum(np.arange(size), spec.items).astype(np.int32)
    categorical = np.asarray(histories.item_categorical[:size], np.int32)
    group = categorical[:, spec.group_column] if spec.groups else np.zeros(size, np.int32)
    columns = spec.item_columns
    return Items(
        index=index,
        group=group,
        categorical=categorical[:, : sum(columns.widths)],
        numeric=np.asarray(histories.item_numeric[:size, : columns.numeric], np.float32),
    )


def missing_numbers(histories: Histories) -> np.ndarray:
    """(Fn,) float32 numeric columns of an item of which all are missing, as `jaxdecay.data.scaling` writes
    them: what fills the gap, then the flag."""
    described = (histories.config.get("features") or {}).get("item") or {}
    numbers = np.zeros(histories.item_numeric.shape[1], np.float32)
    start = 0
    for one in described.get("encoder", {}).get("scaled", ()):
        fill = one.get("fill", (0.0,))
        block = [*fill, 1.0] if fill and one["flag"] else fill
        numbers[start : start + len(block)] = block
        start += len(block)
    return numbers


class Context(NamedTuple):
    """What is known of R requests besides user and time: the context columns as the model reads them."""

    categorical: np.ndarray
    """(R, Fc) int32, 0 is missing or unknown."""
    numeric: np.ndarray
    """(R, Fn) float32."""

    def take(self, index: np.ndarray | slice) -> "Context":
        return Context(self.categorical[index], self.numeric[index])


class Case(NamedTuple):
    """B requests with their histories, as the model reads them: NumPy arrays, which may be changed before
    they are scored."""

    history: History
    """(B, n): padded on the left."""
    asked: Asked
    """(B, 1)"""
    at: np.ndarray
    """(B,) int64 seconds, the request times, of which ``asked`` has the copy that the model reads."""


class Predictor:
    """A model with its parameters, over histories that may have moved on since training.

    A `jaxdecay.evaluate.System`: `scores` gives (R, V) float32, higher is better, for the V items of the
    histories. Popularity is that of the very moment of each request, as in training with a loss on
    negatives; the full softmax reads the last point of a time grid before it.
    """

    logits = True

    def __init__(
        self,
        model: Interest,
        params: dict[str, Any],
        histories: Histories,
        catalogue: Catalogue,
        reference: Reference,
        *,
        name: str = "jaxdecay",
    ) -> None:
        self.name, self.model, self.params = name, model, params
        self.histories, self.catalogue, self.reference = histories, catalogue, reference
        self.items = jax.tree.map(jnp.asarray, items_of(histories, model))
        self._came = first_seen(histories) if counted_live(histories) else None
        # Popularity differs from request to request: that of one point of time stands in for it.
        self._fixed = scoring.catalogue_scorer(model, params, self.items, catalogue.shares[:, :1])

    def over(self, histories: Histories, catalogue: Any, came: np.ndarray) -> "Predictor":
        """The same model over other histories of the same items, with other counts of the catalogue (what has
        `Catalogue.at`) and (V,) moments at which items ``came``."""
        other = copy.copy(self)
        other.histories, other.catalogue = histories, catalogue
        other._came = None if self._came is None else came
        return other

    @property
    def uses_time(self) -> bool:
        return self.model.spec.request_time == "used"

    def unit_vectors(self) -> np.ndarray:
        """(V, D) float32 item vectors of length 1; 0 for an item of which the model knows nothing: new, and
        all its columns are missing."""
        vectors = np.asarray(self._fixed[1].vectors)
        index, _, categorical, numeric = map(np.asarray, self.items[:4])
        missing = missing_numbers(self.histories)[: numeric.shape[1]]
        known = (index < self.model.spec.items) | (categorical > 0).any(1) | (numeric != missing).any(1)
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        where = known[:, None] & (length > 1e-9)
        return np.divide(vectors, length, out=np.zeros_like(vectors), where=where)

    def scores(self, requests: Requests, context: Context | None = None) -> np.ndarray:
        """(R, V) float32 scores of every item at each request; a softmax of them is the model's probability.

        ``context``: that of the requests; by default of the events they were made for.
        """
        if not self.uses_time:
            requests = withheld(requests, self.histories)
        result = np.empty((len(requests), self.histories.items), np.float32)
        for members, _, kernel, base, history, _ in self._calls(requests, context):
            there = self._there(requests.at[members], len(base))
            final = scoring.total(self.model, self.params, base, there, kernel, history.item)[0]
            result[members] = np.asarray(final)[: len(members)]
        return result

    def parts(self, requests: Requests, context: Context | None = None) -> dict[str, np.ndarray]:
        """What each head adds to the scores: similarity, item bias, popularity and revisit, (R, V) each.

        They add up to `scores` but for one number per request (the base scores' normaliser).
        """
        if not self.uses_time:
            requests = withheld(requests, self.histories)
        found = {name: [] for name in ("similarity", "bias", "popularity", "revisit")}
        order = []
        for members, query, kernel, base, history, popularity in self._calls(requests, context):
            order.append(members)
            values = self._parts(requests.at[members], query, kernel, base, history, popularity)
            for name, blocks in found.items():
                blocks.append(values[name][: len(members)])
        back = np.argsort(np.concatenate(order))
        return {name: np.concatenate(blocks)[back] for name, blocks in found.items()}

    def case(self, requests: Requests, context: Context | None = None, *, room: int = 0) -> Case:
        """The requests as the model reads them, with ``room`` for so many events more."""
        if not self.uses_time:
            requests = withheld(requests, self.histories)
        length = requests.history_end - self.histories.offsets[requests.user]
        past = 64 * -(-(int(length.max(initial=0)) + room) // 64)
        return self._case(requests, context, np.arange(len(requests)), max(past, 64), len(requests))

    def judge(self, case: Case) -> dict[str, np.ndarray]:
        """What each head adds to the scores, (B, V) each, as `parts`, and the ``normaliser``, (B, 1): they
        add up to the scores."""
        popularity, which = self._popularity(case.at)
        return self._parts(case.at, *self._served(case, popularity[which]))

    def log_probabilities(self, case: Case, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(Q, V) float64 of all items for a single case, before what the user had comes back, had each of
        ``queries`` (Q, D) been its own; and (V,) bool which items have come, among which probability is
        shared out (of the others: what they would have)."""
        popularity, _ = self._popularity(case.at)
        scorer, came = self._fixed[0], self._there(case.at, 1)
        there = np.ones(self.histories.items, bool) if came is None else came[0]
        base = queries @ np.asarray(scorer.targets, np.float64).T + np.asarray(scorer.bias) + popularity
        return base - np.logaddexp.reduce(base[:, there], axis=1, keepdims=True), there

    def pieces(self, case: Case) -> tuple[Pieces, np.ndarray, np.ndarray]:
        """What the queries of the case are made of, what is left of each event of the count of its own item,
        (B, n), and the target vectors of all items, (V, D).

        Raises InputError with an encoder (`jaxdecay.heads.similarity.Similarity.pieces`).
        """
        scorer, written = self._fixed
        found = scoring.pieces(self.model, self.params, case.history, case.asked, self.items, written)
        pieces, counts = jax.tree.map(np.asarray, found)
        one = Pieces(
            pieces.kernel[:, 0],
            pieces.values,
            pieces.written,
            {name: part[:, 0] for name, part in pieces.beside.items()},
            pieces.temperature[0],
            pieces.softness[0],
        )
        return one, counts[:, 0], np.asarray(scorer.targets)

    def _parts(
        self, at: np.ndarray, query: Array, kernel: Array, base: Array, history: History, popularity: Any
    ) -> dict[str, np.ndarray]:
        there = self._there(at, len(base))
        total, probable = scoring.total(self.model, self.params, base, there, kernel, history.item)
        scorer = self._fixed[0]
        values = {
            "similarity": query @ scorer.targets.T,
            "bias": jnp.broadcast_to(scorer.bias, base.shape),
            "popularity": popularity,
            "revisit": total - probable,
            "normaliser": (probable - base)[:, :1],
        }
        return {name: np.asarray(value) for name, value in values.items()}

    def _there(self, at: np.ndarray, rows: int) -> np.ndarray | None:
        """(rows, V) bool: which items have come before each moment and so have a share of the base
        probability, as in training; None for all. The rows are filled up with the last."""
        if self._came is None:
            return None
        there = known_before(self._came, at)
        there |= ~there.any(axis=1, keepdims=True)  # before everything: as good as all
        return there[np.minimum(np.arange(rows), len(at) - 1)]

    def _popularity(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M, V) popularity at each different moment, and (R,) which of them each request's is."""
        if not self.model.spec.popularity_half_lives:
            at = np.zeros_like(at)
        moments, which = np.unique(at, return_inverse=True)
        table = np.empty((len(moments), self.histories.items), np.float32)
        most = max(1, _MOMENTS // max(1, self.histories.items))
        size = min(most, 1 << int(np.ceil(np.log2(max(len(moments), 1)))))
        for start in range(0, len(moments), size):
            some = moments[start : start + size]
            shares = self.catalogue.at(np.append(some, np.repeat(some[-1:], size - len(some))))
            found = scoring.trend(self.model, self.params, self.items, shares)
            table[start : start + size] = np.asarray(found)[: len(some)]
        return table, which

    def _calls(self, requests: Requests, context: Context | None):
        popularity, which = self._popularity(requests.at)
        first = self.histories.offsets[requests.user]
        length = requests.history_end - first
        places = np.maximum(64, 4 ** np.ceil(np.log(np.maximum(length, 1)) / np.log(4) - 1e-9)).astype(
            np.int64
        )
        for past in np.unique(places):
            members = np.flatnonzero(places == past)
            rows = int(np.clip(min(_PLACES // past, _SCORES // max(1, self.histories.items)), 1, 512))
            encoder = self.model.spec.encoder
            if encoder.blocks and encoder.kind in ("transformer", "hstu"):  # logits of all pairs of events
                attended = int(past) if encoder.bank else encoder.stack().rows(int(past))
                rows = max(1, min(rows, _SCORES // (encoder.heads * attended**2)))
            rows = min(rows, 1 << int(np.ceil(np.log2(len(members)))))
            for start in range(0, len(members), rows):
                some = members[start : start + rows]
                trend = popularity[np.append(which[some], np.zeros(rows - len(some), which.dtype))]
                case = self._case(requests, context, some, int(past), rows)
                yield some, *self._served(case, trend)

    def _served(
        self, case: Case, popularity: Float[np.ndarray, "b v"]
    ) -> tuple[Array, Array, Array, History, np.ndarray]:
        scorer, written = self._fixed
        query, kernel, base = scoring.serve(
            self.model, self.params, case.history, case.asked, self.items, written, scorer, popularity
        )
        return query, kernel, base, case.history, popularity

    def _case(
        self, requests: Requests, context: Context | None, some: np.ndarray, past: int, rows: int
    ) -> Case:
        """Some of the requests, filled up to ``rows`` with ones of nobody."""
        fill = rows - len(some)
        begin = self.histories.offsets[requests.user[some]]
        end = requests.history_end[some]
        chosen = Rows(
            *(
                np.append(x, np.full(fill, v))
                for x, v in ((requests.user[some], -1), (begin, 0), (end, 0), (end, 0))
            )
        )
        history = gather(self.histories, chosen, past, 0, self.reference)
        at = np.append(requests.at[some], np.full(fill, self.reference.origin))
        if context is None:
            event = requests.event[some]
            context = Context(
                self.histories.context_categorical[event], self.histories.context_numeric[event]
            )
        else:
            context = context.take(some)
        padded = [np.concatenate([x, np.zeros((fill, x.shape[1]), x.dtype)]) for x in context]
        asked = Asked(
            self.reference.seconds(at)[:, None],
            np.zeros((rows, 1), np.int32),
            padded[0][:, None],
            padded[1][:, None],
        )
        return Case(history, asked, at)
