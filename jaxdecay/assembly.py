"""The pieces of training put together once, for the façade, the command line and the studies; and a trained
run taken up again."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdecay import checkpointing, distributed, loop, runs
from jaxdecay.configure import group_levels
from jaxdecay.data.batches import Batches
from jaxdecay.data.catalogue import NEVER, Catalogue, build_catalogue, counted_live, first_seen
from jaxdecay.data.gather import Reference
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, requests, sample
from jaxdecay.data.tally import build_tally
from jaxdecay.durations import parse_prior
from jaxdecay.errors import InputError
from jaxdecay.evaluate import rank_requests
from jaxdecay.metrics import ndcg
from jaxdecay.model import Interest, abstract_params
from jaxdecay.model_options import ModelOptions
from jaxdecay.objective import Constants
from jaxdecay.optimizer import optimizer
from jaxdecay.predict import Predictor, items_of
from jaxdecay.priors import half_life_priors
from jaxdecay.spec import Spec
from jaxdecay.train import TrainOptions

# Targets of one user in a row. In the order of time they are to lie close together.
_SHORT, _LONG, _CLOSE = 64, 256, 4
_USERS = 8  # of a batch of long rows, at least
_GRID = 512  # points of the catalogue's time grid that training reads at each step


class Pieces(NamedTuple):
    """All that a training run is made of; each piece stands on its own in `scripts/train.py`."""

    histories: Histories
    reference: Reference
    catalogue: Catalogue
    model: Interest
    batches: Batches
    constants: Constants
    optimizer: optax.GradientTransformation


def catalogue_of(histories: Histories, spec: Spec) -> Catalogue:
    """The shares in time that a model of this spec reads."""
    if not spec.popularity_half_lives and not counted_live(histories):  # nothing reads them
        return build_catalogue(histories, (float("inf"),), budget_mib=0.0)
    half_lives = spec.popularity_half_lives or (float("inf"),)  # the grid tells when items came
    grid_mib = _GRID * 4 * histories.items * len(half_lives) / 2**20
    return build_catalogue(histories, half_lives, budget_mib=min(256.0, grid_mib))


def assemble(
    histories: Histories,
    spec: Spec,
    model: ModelOptions,
    train: TrainOptions,
    *,
    reference: Reference | None = None,
    text_learning_rate: float = 0.0,
) -> Pieces:
    """The pieces for a spec on this log. ``reference``: of the run that is trained on (default: the log's
    own). ``text_learning_rate``: of a language model that is trained along."""
    if train.id_dropout and not (
        spec.item_ids and (spec.item_columns.cardinalities or spec.item_columns.numeric)
    ):
        raise InputError(
            f"id_dropout={train.id_dropout:g} needs vectors of items' own and columns that stand in for them;"
            " leave it out"
        )
    asked = ["order='time'"] if train.order == "time" else []
    if train.evidence_half_life is not None:
        asked.append(f"evidence_half_life={train.evidence_half_life:g}")
    if asked and histories.clock == "relative":
        raise InputError(
            f"{' and '.join(asked)}: times count from each user's first event, which does not tell whose"
            " events are the latest; leave it out"
        )
    reference = reference or Reference.of(histories)
    catalogue, module = catalogue_of(histories, spec), Interest(spec)
    came = arrivals(histories)
    tokens = train.batch_targets or int(np.clip((histories.part == 0).sum() // 100, 512, 4096))
    batches = Batches(
        histories,
        catalogue,
        reference,
        window=train.window or _window(histories, spec, train, tokens),
        tokens=tokens,
        seed=train.seed,
        epochs=train.epochs + train.settling,
        request_time=spec.request_time,
        first_seen=came,
        evidence_half_life=train.evidence_half_life,
        in_order=train.order == "time",
    )
    priors = [parse_prior(text) for text in model.half_life_prior]
    constants = Constants(
        items=jax.tree.map(jnp.asarray, items_of(histories, module, known_only=True)),
        **_popular(histories, spec, catalogue, reference, came, few=train.loss != "softmax"),
        priors=half_life_priors(priors, group_levels(histories, spec), spec),
        taken=jnp.asarray(taken(histories, spec)),
        since=jnp.asarray(since(histories, spec)),
    )
    tx = optimizer(
        train.learning_rate,
        train.decay_learning_rate,
        weight_decay=train.weight_decay,
        freeze_paces=model.half_lives in ("fixed", "initial"),
        text_learning_rate=text_learning_rate,
    )
    return Pieces(histories, reference, catalogue, module, batches, constants, tx)


def _window(histories: Histories, spec: Spec, train: TrainOptions, tokens: int) -> int:
    """Targets of a row. Each row reads its whole past anew, so rows grow with the histories, and what a
    target costs does not; but a batch is of several users."""
    if train.order == "time":
        return _CLOSE
    least, share = (_LONG, 4) if spec.encoder.blocks else (_SHORT, 16)  # an encoder costs more than a read
    lengths = np.bincount(histories.user()[histories.part == 0]).astype(np.float64)
    typical = np.square(lengths).sum() / max(lengths.sum(), 1)  # of the history that an event stands in
    wanted = 2 ** int(np.round(np.log2(max(typical / share, 1))))
    return max(least, min(wanted, tokens // _USERS))


def _popular(
    histories: Histories,
    spec: Spec,
    catalogue: Catalogue,
    reference: Reference,
    came: np.ndarray | None,
    *,
    few: bool,
) -> dict[str, Any]:
    """The `Constants` that popularity and the arrival of items are read from: at the points of the time grid
    for the softmax, at every moment for losses that ask for ``few`` items."""
    found: dict[str, Any] = dict.fromkeys(("shares", "entry", "tally", "came"))
    last = int(np.asarray(histories.time)[histories.part == 0].max())
    if not few:
        shares = catalogue.at(catalogue.grid[: int(catalogue.index(np.array([last]))[0]) + 1])
        entered = entry(histories, catalogue, came)
        return found | {
            "shares": jnp.asarray(shares[:, :, : spec.items]), "entry": jnp.asarray(entered[: spec.items])
        }  # fmt: skip
    counted = build_tally(
        catalogue.events, spec.popularity_half_lives, items=spec.items, origin=reference.origin, until=last
    )
    if came is not None:
        found["came"] = jnp.asarray(reference.seconds(np.minimum(came[: spec.items], last)))
    return found | {"tally": counted}


def taken(histories: Histories, spec: Spec) -> np.ndarray:
    """(V,) int32: how often each of the model's items and all those before it were taken in training."""
    item = np.asarray(histories.item)[histories.chosen & (histories.part == 0)]
    if len(item) > np.iinfo(np.int32).max:
        raise InputError(f"{len(item):,} training targets: negatives are drawn from at most 2,147,483,647")
    return np.cumsum(np.bincount(item, minlength=spec.items)).astype(np.int32)


def since(histories: Histories, spec: Spec) -> np.ndarray:
    """(V,) float32: share of the training events that were no earlier than the first of each item."""
    train = histories.part == 0
    time, first = np.asarray(histories.time)[train], np.full(spec.items, np.iinfo(np.int64).max)
    np.minimum.at(first, np.asarray(histories.item)[train], time)
    return (1 - np.searchsorted(np.sort(time), first) / len(time)).astype(np.float32)


def arrivals(histories: Histories) -> np.ndarray | None:
    """(V,) int64 seconds: when each item came, or None where evaluation ranks all items always.

    With the likelihood of what was chosen among what was there, an item is neither blamed for the time before
    it came nor thanked for coming: its first event is no target (the left truncation of a risk set). A model
    that is not told the time of a request is asked at that of the event before, among what was there then.
    """
    return first_seen(histories) if counted_live(histories) else None


def entry(histories: Histories, catalogue: Catalogue, came: np.ndarray | None) -> np.ndarray:
    """(V,) int32 point of the time grid from which each item is a candidate: that of the first moment of the
    log after it came. Within one cell of a coarse grid it is one too early, with shares of 0."""
    if came is None:
        return np.zeros(histories.items, np.int32)
    moments = np.append(np.unique(histories.time), [NEVER, NEVER])
    return catalogue.index(moments[np.searchsorted(moments[:-1], came, side="right")])


def validation(pieces: Pieces, options: TrainOptions) -> loop.Evaluate:
    """NDCG@10 on a seeded sample of the validation requests, under the rules of evaluation, and its standard
    error; each of several processes ranks its share of the requests."""
    asked = sample(requests(pieces.histories, 1, chosen=True), options.validation_requests, options.seed)
    own = asked.take(distributed.own_share())
    if not len(asked):
        raise InputError("the validation part holds no events; prepare with a larger --split.validation")

    def score(params: Any) -> tuple[float, float]:
        values = ndcg_at_10(predictor(pieces, params), own) if len(own) else np.zeros(0)
        values = distributed.gathered(values, len(asked))
        return float(values.mean()), float(values.std() / np.sqrt(len(values)))

    return score


def ndcg_at_10(system: Predictor, asked: Requests) -> np.ndarray:
    """(R,) NDCG@10 of each request, under the rules of evaluation of the system's histories."""
    ranks = rank_requests(system, system.histories, asked)
    widest = int(np.diff(asked.target_offsets).max(initial=1))
    place = np.arange(len(asked.targets)) - np.repeat(
        asked.target_offsets[:-1], np.diff(asked.target_offsets)
    )
    table = np.full((len(asked), widest), np.inf)
    row = np.repeat(np.arange(len(asked)), np.diff(asked.target_offsets))
    table[row, place] = ranks
    there = np.arange(widest) < np.diff(asked.target_offsets)[:, None]
    return np.asarray(ndcg(table, k=10, where=there))


def predictor(pieces: Pieces, params: Any, *, name: str = "jaxdecay") -> Predictor:
    return Predictor(pieces.model, params, pieces.histories, pieces.catalogue, pieces.reference, name=name)


def load_model(run: str | Path) -> tuple[Interest, Any, dict[str, Any]]:
    """The model of a run, its best parameters by validation (averaged), and the run's config."""
    run = Path(run)
    config = runs.read_config(run)
    spec = Spec.from_json(config["spec"])
    module = Interest(spec)
    step = checkpointing.best_step(run)
    return module, checkpointing.load_average(run, step, abstract_params(module)), config


def load_predictor(run: str | Path, *, histories: Histories | None = None) -> Predictor:
    """The trained model of a run over its own histories (or newer ones of the same vocabulary)."""
    run = Path(run)
    module, params, config = load_model(run)
    histories = histories or Histories.load(run / "histories", verify=True)
    return Predictor(
        module, params, histories, catalogue_of(histories, module.spec), Reference(**config["reference"])
    )


__all__ = [
    "Pieces",
    "assemble",
    "load_model",
    "load_predictor",
    "ndcg_at_10",
    "predictor",
    "validation",
]
