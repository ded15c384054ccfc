"""The model: a history, faded to the request time, as scores of every item. One user; batches come from
`jax.vmap`."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdecay import readout
from jaxdecay.heads.features import Columns
from jaxdecay.heads.popularity import Popularity, popularity
from jaxdecay.heads.revisit import Revisit
from jaxdecay.heads.similarity import Pieces, Similarity
from jaxdecay.history import History, Items, Requests
from jaxdecay.interest import Bank
from jaxdecay.scorer import Excitation, Scorer, SparseScorer
from jaxdecay.spec import Spec, Table
from jaxdecay.tally import Tally


def abstract_params(model: "Interest") -> Any:
    """Shapes and dtypes of the model's parameters."""
    spec = model.spec
    columns = spec.item_columns
    zeros, number = jnp.zeros, spec.items
    items = Items(
        zeros(number, jnp.int32),
        zeros(number, jnp.int32),
        zeros((number, sum(columns.widths)), jnp.int32),
        zeros((number, columns.numeric)),
    )
    shares = zeros((len(spec.popularity_half_lives), 1, number))

    def init(key: Array) -> Any:
        return model.init(key, items, shares, method=Interest.everything)["params"]

    return jax.eval_shape(init, jax.random.key(0))


class Read(NamedTuple):
    """What one user's R requests read from the history."""

    query: Float[Array, "r d"]
    excitation: Excitation | None
    """What is added for the target, for all items together and, if asked for, for each negative; None without
    the revisit head."""


class Written(NamedTuple):
    """What an event of each of V items writes."""

    vectors: Float[Array, "v d"]
    similarity: Float[Array, "v c"] | None
    """What the write logits of the head of that name owe to the item's content (`Bank.content_logits`)."""
    revisit: Float[Array, "v c"] | None


class Interest(nn.Module):
    """Three heads over one history: similarity, revisit, popularity."""

    spec: Spec

    def setup(self) -> None:
        spec = self.spec

        def columns(table: Table) -> Columns:
            return Columns(table.cardinalities, table.widths, table.numeric, spec.features)

        def bank(
            half_lives: tuple[float, ...], periods: tuple[float, ...] = (), sharpness: tuple[int, ...] = ()
        ) -> Bank:
            return Bank(
                half_lives,
                periods,
                sharpness,
                groups=spec.groups,
                items=spec.items if spec.per_item else 0,
                behaviours=spec.behaviours if spec.per_behaviour else 0,
                users=spec.users if spec.per_user else 0,
                content=spec.features if spec.fades_by_content else 0,
                adaptive=spec.adaptive,
                floor=spec.floor,
            )

        self.similarity = Similarity(
            items=spec.items,
            features=spec.features,
            decay=bank(spec.similarity_half_lives) if spec.encoder.bank else None,
            item_columns=columns(spec.item_columns),
            user_columns=columns(spec.user_columns),
            context_columns=columns(spec.context_columns),
            encoder=spec.encoder.stack(),
            behaviours=spec.behaviours,
            calendar=spec.calendar,
            timed=spec.request_time == "used",
            cold=spec.cold_items,
            ids=spec.item_ids,
            gated=spec.fusion == "gated",
            content_bias=spec.by_content,
        )
        self.revisit = (
            Revisit(
                decay=bank(spec.revisit_half_lives, spec.revisit_periods, spec.revisit_sharpness),
                groups=spec.groups,
                behaviours=spec.behaviours,
                recovery=spec.recovery,
            )
            if spec.revisit
            else None
        )
        rates = len(spec.popularity_half_lives)
        self.popularity = Popularity(rates, cold=spec.cold_items) if rates else None

    def everything(self, items: Items, shares: Float[Array, "r g v"]) -> Read:
        """All parts once, on an empty history: what `init` needs to see."""
        context, user = self.spec.context_columns, self.spec.user_columns
        none, one = jnp.zeros(1, jnp.int32), jnp.ones(1, jnp.float32)

        def columns(table: Table, *rows: int) -> tuple[Array, Array]:
            codes = jnp.zeros((*rows, sum(table.widths)), jnp.int32)
            return codes, jnp.zeros((*rows, table.numeric), jnp.float32)

        history = History(jnp.int32(0), *columns(user), none, none, none > 0, none, one, *columns(context, 1))
        _, written = self.scorer(items, shares)
        return self(history, Requests(none, none, *columns(context, 1)), none, items, written)

    def scorer(self, items: Items, shares: Float[Array, "r g v"]) -> tuple[Scorer, Written]:
        """What scores every item, and what events of these items write: the same for all users."""
        written, targets, bias, cold = self._catalogue(items)
        shares = shares if self.popularity else shares[:0]
        trend = popularity(shares, *self._popularity_weights(), cold, items=len(bias))
        return Scorer(targets, bias, trend), written

    def sparse_scorer(self, items: Items, tally: Tally) -> tuple[SparseScorer, Written]:
        """The same, with popularity to be worked out for the items that are asked for."""
        written, targets, bias, cold = self._catalogue(items)
        return SparseScorer(targets, bias, tally, *self._popularity_weights(), cold), written

    def _catalogue(self, items: Items) -> tuple[Written, Array, Array, Array]:
        """What V items write, (V, D) target vectors, (V,) biases, and (V,) 1 for what training does not
        know."""
        content = self.similarity.content(items)
        vectors = self.similarity.vectors(items, content)
        cold = (items.index >= self.spec.items).astype(jnp.int32)
        written = Written(vectors, *self.content_logits(content))
        return written, self.similarity.targets(vectors), self.similarity.bias(items, content), cold

    def content_logits(self, content: Float[Array, "v d"]) -> tuple[Array | None, Array | None]:
        """What the write logits of both banks owe to the items' content."""
        decays = self.similarity.decay, self.revisit and self.revisit.decay
        similarity, revisit = (None if decay is None else decay.content_logits(content) for decay in decays)
        return similarity, revisit

    def _popularity_weights(self) -> tuple[Float[Array, "2 r1"], Float[Array, " 2"]]:
        """Those of the head; without one, of the logarithm of anything, times nothing."""
        return self.popularity.weights() if self.popularity else (jnp.ones((2, 1)), jnp.zeros(2))

    def __call__(
        self,
        history: History,
        requests: Requests,
        target: Int[Array, " r"],
        items: Items,
        written: Written,
        negatives: Int[Array, " k"] | None = None,
        *,
        training: bool = False,
    ) -> Read:
        """The query of each request and the excitation of its target, and of ``negatives`` if given: the R
        requests are made at the last R events, each before its own (``seen`` counts from 0). ``training``
        drops out, by the key named ``dropout``."""
        ages = self._ages(history, requests, history.item.shape[0] - requests.at.shape[0])
        query = self.similarity.query(
            history,
            requests,
            ages,
            written.vectors[history.item],
            self._similarity_writes(history, items, written),
            training=training,
        )
        if self.revisit is None:
            return Read(query, None)
        weights = self._revisit_weights(history, items, written, ages)
        counts = self.revisit.counts(history, requests, ages, weights, target)
        if negatives is not None:
            counts += (self.revisit.counts_of(history, requests, ages, weights, negatives),)
        return Read(query, Excitation(*(self.revisit.excitation(count) for count in counts)))

    def serve(
        self, history: History, requests: Requests, items: Items, written: Written
    ) -> tuple[Float[Array, "r d"], Float[Array, "r n"]]:
        """The query of each request, and what each past event still adds to the count of its own item (zero
        where padded)."""
        ages = self._ages(history, requests, history.item.shape[0])
        query = self.similarity.query(
            history,
            requests,
            ages,
            written.vectors[history.item],
            self._similarity_writes(history, items, written),
        )
        if self.revisit is None:
            return query, jnp.zeros((query.shape[0], history.item.shape[0]), jnp.float32)
        weights = self._revisit_weights(history, items, written, ages)
        return query, self.revisit.kernel(history, requests, ages, weights)

    def pieces(
        self, history: History, requests: Requests, items: Items, written: Written
    ) -> tuple[Pieces, Float[Array, "r n"]]:
        """What the queries that `serve` gives are made of, and what each past event still adds to the count
        of its own item. Raises InputError with an encoder (`Similarity.pieces`)."""
        ages = self._ages(history, requests, history.item.shape[0])
        pieces = self.similarity.pieces(
            history,
            requests,
            ages,
            written.vectors[history.item],
            self._similarity_writes(history, items, written),
        )
        _, counts = self.serve(history, requests, items, written)
        return pieces, counts

    def excitation(self, counts: Float[Array, "..."]) -> Float[Array, "..."]:
        """The revisit head's log intensity of faded counts."""
        assert self.revisit is not None
        return self.revisit.excitation(counts)

    def _ages(self, history: History, requests: Requests, past: int) -> readout.Ages:
        """Training asks at each of the last events, in their order; serving (``past`` all) asks after all
        of them."""
        seen = requests.seen if past == history.item.shape[0] else None
        return readout.ages(history.time, history.mask, requests.at, seen, past=past)

    def _similarity_writes(
        self, history: History, items: Items, written: Written
    ) -> Float[Array, "n c"] | None:
        bank = self.similarity.decay
        return None if bank is None else _writes(bank, history, items, written.similarity)

    def _revisit_weights(
        self, history: History, items: Items, written: Written, ages: readout.Ages
    ) -> tuple[Array, Array]:
        assert self.revisit is not None
        writes = _writes(self.revisit.decay, history, items, written.revisit)
        return self.revisit.kernel_weights(history, items.group[history.item], ages, writes)


def _writes(
    bank: Bank, history: History, items: Items, content: Float[Array, "v c"] | None
) -> Float[Array, "n c"]:
    """The write weights of a history's events."""
    item = history.item
    alike = None if content is None else content[item]
    return bank.write_weights(items.index[item], items.group[item], history.behaviour, alike)
