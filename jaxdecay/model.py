"""The model: a history, faded to the request time, as scores of every item. One user; batches come from
`jax.vmap`."""

import dataclasses
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdecay import readout, visibility
from jaxdecay.encoders import Stack
from jaxdecay.encoders.stack import Kind
from jaxdecay.errors import InputError
from jaxdecay.heads.features import Columns
from jaxdecay.heads.popularity import Popularity
from jaxdecay.heads.revisit import Revisit
from jaxdecay.heads.similarity import Similarity
from jaxdecay.history import History, Items, Requests
from jaxdecay.interest import Bank
from jaxdecay.scorer import Excitation, Scorer, SparseScorer


@dataclasses.dataclass(frozen=True)
class Table:
    """The shape of one set of columns: categorical ones with their cardinality (code 0 is missing) and
    width, and the numeric ones."""

    cardinalities: tuple[int, ...] = ()
    widths: tuple[int, ...] = ()
    numeric: int = 0


@dataclasses.dataclass(frozen=True)
class Encoder:
    """The shape of the similarity head's encoder of events (`jaxdecay.encoders`); no blocks, no encoder."""

    kind: Kind = "bank"
    blocks: int = 0
    heads: int = 1
    """Of attention."""
    half_lives: tuple[float, ...] = ()
    """Days: where those of the heads of decayed states begin, infinite for one that never fades."""
    steps: tuple[float, ...] = ()
    """Likewise, in events."""
    dropout: float = 0.0
    context: int = 0
    """Events that it goes back; 0 for all."""
    bank: bool = True
    """Whether the query is read from a bank that all events write into, or is the last event alone."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of activations; clocks, gates and states are float32."""
    remat: bool = False

    def stack(self) -> Stack:
        return Stack(
            self.kind,
            self.blocks,
            self.heads,
            self.half_lives,
            self.steps,
            self.dropout,
            jnp.dtype(self.precision),
            self.remat,
        )


@dataclasses.dataclass(frozen=True)
class Spec:
    """Everything that fixes the model's shape and where its learning starts. JSON in, JSON out; no defaults
    that data should decide."""

    items: int
    users: int
    behaviours: int
    features: int
    similarity_half_lives: tuple[float, ...]
    revisit_half_lives: tuple[float, ...]
    revisit_periods: tuple[float, ...]
    popularity_half_lives: tuple[float, ...]
    revisit: bool
    groups: int
    """Levels of the item column by which decay differs, code 0 (missing) included; 0 without one."""
    group_column: int
    """Place of that column among the item's categorical columns."""
    per_item: bool
    per_user: bool
    per_behaviour: bool
    adaptive: bool
    calendar: bool
    item_columns: Table = Table()
    user_columns: Table = Table()
    context_columns: Table = Table()
    request_time: Literal["used", "ignored"] = "used"
    floor: bool = True
    """Whether a bank starts with weight on the mode that never fades."""
    recovery: float = 0.0
    """Days from which on the half-life of satiation is learned; infinite for one that stays, 0 for none."""
    encoder: Encoder = Encoder()

    def __post_init__(self) -> None:
        if self.request_time not in ("used", "ignored"):
            raise InputError(f"request_time={self.request_time!r}: give used or ignored")
        if self.request_time == "used" and not self.request_time_matters():
            raise visibility.refuse("nothing here fades, and neither calendar nor popularity moves")

    def request_time_matters(self) -> bool:
        """Whether the request time can change a ranking.

        A single exponential would not do for the interest alone (a scalar changes no ranking); beside the
        unfaded item bias one half-life is enough.
        """
        moving = (*self.popularity_half_lives, *(self.similarity_half_lives if self.encoder.bank else ()))
        if self.encoder.blocks and self.encoder.kind == "hstu":
            return True
        if self.revisit:
            moving += (*self.revisit_half_lives, *self.revisit_periods)
        return self.calendar or any(length < float("inf") for length in moving)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Spec":
        def read(name: str, value: Any) -> Any:
            if name.endswith("_columns"):
                return Table(**_tuples(value))
            if name == "encoder":
                return Encoder(**_tuples(value))
            return tuple(value) if isinstance(value, list) else value

        return cls(**{name: read(name, value) for name, value in values.items()})


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


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
    shares = zeros((1, number, len(spec.popularity_half_lives)))

    def init(key: Array) -> Any:
        return model.init(key, items, shares, method=Interest.everything)["params"]

    return jax.eval_shape(init, jax.random.key(0))


class Read(NamedTuple):
    """What one user's R requests read from the history."""

    query: Float[Array, "r d"]
    excitation: Excitation | None
    """What is added for the target, for all items together and, if asked for, for each negative; None without
    the revisit head."""


class Interest(nn.Module):
    """Three heads over one history: similarity, revisit, popularity."""

    spec: Spec

    def setup(self) -> None:
        spec = self.spec

        def columns(table: Table) -> Columns:
            return Columns(table.cardinalities, table.widths, table.numeric, spec.features)

        def bank(half_lives: tuple[float, ...], periods: tuple[float, ...] = ()) -> Bank:
            return Bank(
                half_lives,
                periods,
                groups=spec.groups,
                items=spec.items if spec.per_item else 0,
                behaviours=spec.behaviours if spec.per_behaviour else 0,
                users=spec.users if spec.per_user else 0,
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
            context=spec.encoder.context,
            timed=spec.request_time == "used",
        )
        self.revisit = (
            Revisit(
                decay=bank(spec.revisit_half_lives, spec.revisit_periods),
                groups=spec.groups,
                behaviours=spec.behaviours,
                recovery=spec.recovery,
            )
            if spec.revisit
            else None
        )
        self.popularity = Popularity(len(spec.popularity_half_lives)) if spec.popularity_half_lives else None

    def everything(self, items: Items, shares: Float[Array, "g v r"]) -> Read:
        """All parts once, on an empty history: what `init` needs to see."""
        context, user = self.spec.context_columns, self.spec.user_columns
        none, one = jnp.zeros(1, jnp.int32), jnp.ones(1, jnp.float32)

        def columns(table: Table, *rows: int) -> tuple[Array, Array]:
            codes = jnp.zeros((*rows, sum(table.widths)), jnp.int32)
            return codes, jnp.zeros((*rows, table.numeric), jnp.float32)

        history = History(jnp.int32(0), *columns(user), none, none, none > 0, none, one, *columns(context, 1))
        _, vectors = self.scorer(items, shares)
        return self(history, Requests(none, none, *columns(context, 1)), none, items, vectors)

    def scorer(self, items: Items, shares: Float[Array, "g v r"]) -> tuple[Scorer, Float[Array, "v d"]]:
        """What scores every item, and the vectors that events of these items write: the same for all
        users."""
        sparse, vectors = self.sparse_scorer(items, shares)
        return sparse.dense(), vectors

    def sparse_scorer(
        self, items: Items, shares: Float[Array, "g v r"]
    ) -> tuple[SparseScorer, Float[Array, "v d"]]:
        """The same, with popularity to be worked out for the items that are asked for."""
        vectors = self.similarity.vectors(items)
        targets, bias = self.similarity.targets(vectors), self.similarity.bias(items)
        if self.popularity is None:  # the logarithm of anything, times nothing
            return SparseScorer(targets, bias, shares[..., :0], jnp.ones(1), jnp.zeros(())), vectors
        weights, exponent = self.popularity.weights(), self.popularity.exponent
        return SparseScorer(targets, bias, shares, weights, exponent), vectors

    def __call__(
        self,
        history: History,
        requests: Requests,
        target: Int[Array, " r"],
        items: Items,
        vectors: Float[Array, "v d"],
        negatives: Int[Array, " k"] | None = None,
        *,
        training: bool = False,
    ) -> Read:
        """The query of each request and the excitation of its target, and of ``negatives`` if given: the R
        requests are made at the last R events, each before its own. ``training`` drops out, by the key named
        ``dropout``."""
        ages = self._ages(history, requests, history.item.shape[0] - requests.at.shape[0])
        query = self.similarity.query(
            history,
            requests,
            ages,
            vectors[history.item],
            self._similarity_writes(history, items),
            training=training,
        )
        if self.revisit is None:
            return Read(query, None)
        weights = self._revisit_weights(history, items, ages)
        counts = self.revisit.counts(history, requests, ages, weights, target)
        if negatives is not None:
            counts += (self.revisit.counts_of(history, requests, ages, weights, negatives),)
        return Read(query, Excitation(*(self.revisit.excitation(count) for count in counts)))

    def serve(
        self, history: History, requests: Requests, items: Items, vectors: Float[Array, "v d"]
    ) -> tuple[Float[Array, "r d"], Float[Array, "r n"]]:
        """The query of each request, and what each past event still adds to the count of its own item (zero
        where padded)."""
        ages = self._ages(history, requests, history.item.shape[0])
        query = self.similarity.query(
            history,
            requests,
            ages,
            vectors[history.item],
            self._similarity_writes(history, items),
        )
        if self.revisit is None:
            return query, jnp.zeros((query.shape[0], history.item.shape[0]), jnp.float32)
        weights = self._revisit_weights(history, items, ages)
        return query, self.revisit.kernel(history, requests, ages, weights)

    def excitation(self, counts: Float[Array, "..."]) -> Float[Array, "..."]:
        """The revisit head's log intensity of faded counts."""
        assert self.revisit is not None
        return self.revisit.excitation(counts)

    def _ages(self, history: History, requests: Requests, past: int) -> readout.Ages:
        """Training asks at each of the last events, in their order; serving (``past`` all) asks after all
        of them."""
        return readout.ages(history.time, history.mask, requests.at, requests.seen, past=past)

    def _writes(self, bank: Bank, history: History, items: Items) -> Float[Array, "n c"]:
        return bank.write_weights(items.index[history.item], items.group[history.item], history.behaviour)

    def _similarity_writes(self, history: History, items: Items) -> Float[Array, "n c"] | None:
        bank = self.similarity.decay
        return None if bank is None else self._writes(bank, history, items)

    def _revisit_weights(self, history: History, items: Items, ages: readout.Ages) -> tuple[Array, Array]:
        assert self.revisit is not None
        writes = self._writes(self.revisit.decay, history, items)
        return self.revisit.kernel_weights(history, items.group[history.item], ages, writes)
