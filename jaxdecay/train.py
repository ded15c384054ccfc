"""One training step: the loss of what was chosen next plus the priors, differentiated and applied.
Pure functions of arrays.

The loop that feeds it, evaluates, saves and resumes is in `jaxdecay.loop`.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array

from jaxdecay.data.batches import Batch
from jaxdecay.errors import InputError
from jaxdecay.layout import Layout
from jaxdecay.model import Interest
from jaxdecay.objective import Constants, Loss, Objective, batch_loss
from jaxdecay.optimizer import groups_of
from jaxdecay.priors import Priors, penalty

Order = Literal["shuffled", "time"]

_SLOW = 0.2  # what is left of the learning rate in the second half of settling


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How the model is trained."""

    epochs: int = 30
    """Most passes over the training events."""
    patience: int = 3
    """Evaluations without a better validation NDCG@10 before training stops."""
    learning_rate: float = 3e-3
    """Of embeddings and linear maps."""
    decay_learning_rate: float = 1e-1
    """Of half-lives, periods, write and read weights, and the levels of the heads."""
    weight_decay: float = 1e-3
    """Of embeddings and linear maps (decoupled); decay parameters take none."""
    batch_targets: int | None = None
    """Targets in a batch, about; default: a hundredth of the training events, from 512 to 4096."""
    window: int | None = None
    """Most targets of one user in a row of a batch; the past before them is never cut. Default: 64, or 256
    with an encoder, and more where histories are long: about a 16th, or a 4th, of their mean length weighted
    by events, up to an eighth of ``batch_targets``; 4 in the order of time."""
    order: Order = "shuffled"
    """Of the batches of an epoch. time: about as their targets happened, so that in the first epoch a target
    is predicted by vectors that have hardly seen what came after it, as when it is served. For logs of short
    histories of which one epoch is enough: the past is read anew for every few targets."""
    average: float = 1.0
    """Epochs that the exponential moving average of the parameters goes back, and a twentieth of that in the
    order of time; it is evaluated and kept."""
    validation_requests: int = 4000
    """Most validation requests used for early stopping (a seeded sample)."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints within an epoch; one at each evaluation in any case."""
    settle_epochs: int = 4
    """Epochs after early stopping in which only the decay parameters and the heads' levels move: the rate
    falls to a fifth over the first half, and what is kept is the mean over the second, if validation is not
    worse by more than one standard error. They start from the last parameters if those are as good in that
    sense, and else from the best. 0: no settling, for rankings a little better and half-lives less sure. In
    the order of time there is none: the vectors have seen it all by then."""
    loss: Loss = "softmax"
    """The softmax over all items, or one over negatives drawn anew for every batch and shared by its targets
    (with the logQ correction), or binary cross-entropy against them, generalised or plain. The softmax reads
    popularity at no more than 512 points of time, the others at the moment of each target. `half-lives` are
    refitted by the softmax over all items in any case."""
    negatives: int = 256
    """Negatives in a batch, for the losses that draw some."""
    uniform_negatives: float = 0.5
    """Share of the negatives that are drawn from all items alike; the others as often as they are taken."""
    evidence_half_life: float | None = None
    """As a share of all targets in order of time (no days): a target counts half as much as one that comes so
    much later. 0.5: the first target of the log counts a quarter of the last. Default: all count alike."""
    calibration: float = 0.75
    """Of gbce: from 0 (as bce) to 1 (the logits of few negatives become those of all items)."""
    id_dropout: float = 0.0
    """Share of the items whose own vectors are left out of a batch, so that their columns learn to stand
    alone, as they do for an item that is new."""
    seed: int = 0
    """Of initialisation, batches, negatives and samples."""

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "validation_requests"):
            _expect(name, getattr(self, name), 1, whole=True)
        for name in ("batch_targets", "checkpoint_steps", "window"):
            if getattr(self, name) is not None:
                _expect(name, getattr(self, name), 1, whole=True)
        _expect("settle_epochs", self.settle_epochs, 0, whole=True)
        for name in ("learning_rate", "decay_learning_rate", "weight_decay", "average"):
            _expect(name, getattr(self, name), 0)
        if self.order not in get_args(Order):
            raise InputError(f"order={self.order!r}: give one of {', '.join(get_args(Order))}")
        if self.loss not in get_args(Loss):
            raise InputError(f"loss={self.loss!r}: give one of {', '.join(get_args(Loss))}")
        _expect("negatives", self.negatives, 1, whole=True)
        if not 0 <= self.id_dropout < 1:
            raise InputError(f"id_dropout={self.id_dropout}: give a share from 0 to below 1")
        for name in ("uniform_negatives", "calibration"):
            _expect(name, getattr(self, name), 0, most=1)
        if self.evidence_half_life is not None:
            _expect("evidence_half_life", self.evidence_half_life, 0.01, most=10)

    @property
    def average_epochs(self) -> float:
        """What ``average`` comes to."""
        return self.average / 20 if self.order == "time" else self.average

    @property
    def settling(self) -> int:
        """What ``settle_epochs`` comes to."""
        return 0 if self.order == "time" else self.settle_epochs

    @property
    def objective(self) -> Objective:
        """What of these a step depends on."""
        if self.loss == "softmax":
            return Objective(id_dropout=self.id_dropout, seed=self.seed)
        return Objective(
            self.loss,
            self.negatives,
            self.uniform_negatives,
            self.calibration,
            id_dropout=self.id_dropout,
            seed=self.seed,
        )


def _expect(name: str, value: float, least: float, *, most: float = np.inf, whole: bool = False) -> None:
    if not (np.isfinite(value) and least <= value <= most and (not whole or value == int(value))):
        kind = "a whole number" if whole else "a number"
        upto = f" to {most}" if np.isfinite(most) else ""
        raise InputError(f"{name}={value}: give {kind} from {least}{upto}")


class State(struct.PyTreeNode):
    """All that a resumed run needs besides the data position.

    The scalars are arrays; on the way to and from disk their places hold shapes, shardings and metadata.
    """

    step: Any
    params: Any
    average: Any
    """Exponential moving average of the parameters: what is evaluated, kept and served."""
    optimizer: Any
    loss: Any
    """Sum of the losses since the last evaluation."""
    best: Any
    """Best validation score so far."""
    best_step: Any
    stale: Any
    """Evaluations since it was reached."""
    near: Any
    """1 if the last score was within one standard error of the best, else 0."""
    settling: Any
    """The step at which settling began; -1 before."""


def init_params(model: Interest, constants: Constants, seed: int) -> Any:
    """Fresh parameters."""
    rates, items = len(model.spec.popularity_half_lives), len(constants.items.index)
    shares = jnp.zeros((rates, 1, items))
    key = jax.random.key(seed)
    return model.init(key, constants.items, shares, method=Interest.everything)["params"]


def init_state(params: Any, tx: optax.GradientTransformation) -> State:
    """The state before the first step; jit it with the shardings you want."""
    zero = jnp.zeros((), jnp.int32)
    return State(
        step=zero,
        params=params,
        average=jax.tree.map(jnp.copy, params),
        optimizer=tx.init(params),
        loss=jnp.zeros((), jnp.float32),
        best=jnp.full((), -jnp.inf, jnp.float32),
        best_step=zero,
        stale=zero,
        near=zero,
        settling=jnp.full((), -1, jnp.int32),
    )


def make_train_step(
    model: Interest,
    tx: optax.GradientTransformation,
    *,
    batch_targets: float,
    targets: int,
    average_steps: float,
    settle_steps: int = 1,
    objective: Objective = Objective(),  # noqa: B008 - it cannot be changed
    layout: Layout = Layout(),  # noqa: B008 (frozen)
) -> Callable[[State, Batch, Constants], tuple[State, Array]]:
    """The step: a gradient, compiled for each shape of batch, and an update, compiled once; donates the
    state.

    The loss is that of the batch by ``objective``, the negative log-likelihood unless it says otherwise, over
    ``batch_targets`` (the mean number of targets in a batch, so that each counts by its evidence whatever the
    batch that it is in), plus the negative log-density of the priors over ``targets`` (those of an epoch): in
    expectation the mean negative log-posterior per target, weighted by ``Batch.evidence``. What is drawn for
    it depends on the seed and ``state.step`` alone.

    Once ``state.settling`` is set, item vectors, linear maps and their scales rest, and the decay parameters
    and levels follow the loss for ``settle_steps``, first with a learning rate that falls along a
    cosine, then averaged.

    ``layout``: where state, batches and constants lie, if they lie on several devices.
    """

    @jax.jit
    def differentiate(params: Any, batch: Batch, constants: Constants, step: Array) -> tuple[Array, Any]:
        def loss_fn(params: Any) -> Array:
            params = layout.trimmed(params)
            losses = batch_loss(model, params, batch, constants, objective, step, layout)
            return (batch.evidence * losses).sum() / batch_targets

        loss, gradient = jax.value_and_grad(loss_fn)(params)
        return loss, layout.kept(gradient)

    @functools.partial(jax.jit, donate_argnums=0)
    def update(state: State, loss: Array, gradient: Any, priors: Priors) -> tuple[State, Array]:
        prior = jax.grad(lambda params: penalty(params, priors) / targets)(state.params)
        gradient = jax.tree.map(jnp.add, gradient, prior)
        # A gradient that is not finite shows in the loss, which the loop looks at before it saves.
        loss = jnp.where(jnp.isfinite(optax.tree.norm(gradient)), loss, jnp.nan)
        updates, optimizer = tx.update(gradient, state.optimizer, state.params)
        rates = _rates(state, settle_steps)
        updates = jax.tree.map(lambda group, x: rates[group] * x, groups_of(updates), updates)
        params = optax.apply_updates(state.params, updates)
        steps = state.step.astype(jnp.float32)
        keep = jnp.minimum(1.0 - 1.0 / jnp.maximum(average_steps, 1.0), (1.0 + steps) / (10.0 + steps))
        keep = jnp.where(state.settling >= 0, _kept(state, settle_steps), keep)
        average = optax.incremental_update(params, state.average, 1.0 - keep)
        moved = state.replace(
            step=state.step + 1,
            params=params,
            average=average,
            optimizer=optimizer,
            loss=state.loss + loss,
        )
        return layout.kept(moved), loss

    def step(state: State, batch: Batch, constants: Constants) -> tuple[State, Array]:
        loss, gradient = differentiate(state.params, batch, constants, state.step)
        return update(state, loss, gradient, constants.priors)

    return step


def _rates(state: State, settle_steps: int) -> dict[str, Array]:
    """What each group's updates are multiplied by."""
    settling = state.settling >= 0
    share = (state.step - state.settling).astype(jnp.float32) / settle_steps
    falling = _SLOW + (1.0 - _SLOW) * 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(2.0 * share, 0.0, 1.0)))
    moving, resting = jnp.where(settling, falling, 1.0), jnp.where(settling, 0.0, 1.0)
    return {
        **dict.fromkeys(("paces", "decay", "levels"), moving),
        **dict.fromkeys(("scales", "rest", "text"), resting),
    }


def _kept(state: State, settle_steps: int) -> Array:
    """What is kept of the average in a step of settling: nothing over the first half, then so much that it is
    the plain mean since.

    At a constant rate the noise of single batches cancels in the mean over an epoch; a rate that falls to 0
    would freeze it instead, at a few per cent of a half-life (Polyak and Juditsky 1992).
    """
    since = jnp.maximum(state.step - state.settling - settle_steps // 2, 0).astype(jnp.float32)
    return since / (since + 1.0)
