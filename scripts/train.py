"""A whole training run on one page, on the functional layer alone: copy it and change what you like.

jaxdecay prepare LOG --out DIR
python scripts/train.py --prepared DIR --epochs 5

The same page trains on one device, on all that there are, and in several processes, each started with
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID (`jaxdecay.distributed`).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from jaxdecay import distributed
from jaxdecay.assembly import arrivals, catalogue_of, entry, ndcg_at_10
from jaxdecay.configure import configure
from jaxdecay.data.batches import Batch, Batches
from jaxdecay.data.gather import Reference
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import requests, sample
from jaxdecay.layout import Layout
from jaxdecay.losses import log_likelihood
from jaxdecay.model import Interest
from jaxdecay.model_options import ModelOptions
from jaxdecay.optimizer import optimizer
from jaxdecay.predict import Predictor, items_of
from jaxdecay.priors import half_life_priors, penalty


@dataclasses.dataclass(frozen=True)
class Options:
    """Train on a prepared log and print the loss and the validation NDCG@10 of every epoch."""

    prepared: str
    """Directory written by jaxdecay prepare."""
    epochs: int = 5
    features: int = 32
    batch_targets: int = 4096
    learning_rate: float = 3e-3
    decay_learning_rate: float = 3e-2
    seed: int = 0
    model_parallel: int = 1
    """Devices that share one item table; histories are shared out over the others."""


def main(options: Options) -> None:
    distributed.initialise()

    # Data: flat arrays; batch i is a pure function of (seed, i).
    histories = Histories.load(options.prepared)
    spec = configure(histories, ModelOptions(features=options.features))
    reference, catalogue = Reference.of(histories), catalogue_of(histories, spec)
    came = arrivals(histories)  # an item is a candidate from then on
    batches = Batches(
        histories, catalogue, reference, tokens=options.batch_targets, seed=options.seed, first_seen=came
    )

    # Model: one user; items, popularity shares and priors are the same for all.
    model = Interest(spec)
    layout = Layout.of(distributed.mesh(model=options.model_parallel), model)  # on one device: nothing
    batches = layout.batches(batches)
    items = jax.tree.map(jnp.asarray, items_of(histories, model, known_only=True))
    last = catalogue.index(histories.time[histories.part == 0].max(keepdims=True))[0]
    shares = jnp.asarray(catalogue.at(catalogue.grid[: last + 1])[:, :, : spec.items])
    entered = jnp.asarray(entry(histories, catalogue, came)[: spec.items])
    priors = half_life_priors([], [], spec)

    def likelihood(params: Any, batch: Batch) -> jax.Array:
        """Sum of the log-likelihoods of a batch's targets."""
        params = layout.trimmed(params)
        scorer, written = model.apply({"params": params}, items, shares, method=Interest.scorer)
        scorer = scorer.from_entry(entered)
        read = jax.vmap(lambda *user: model.apply({"params": params}, *user, items, written))(
            batch.history, batch.requests, batch.target
        )
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (read, batch.grid, batch.target))
        values = layout.by_rows(
            lambda read, grid, target: log_likelihood(read.query, grid, target, scorer, read.excitation)
        )(*flat)
        return (batch.evidence.reshape(-1) * jnp.where(batch.valid.reshape(-1), values, 0.0)).sum()

    # Training: two learning rates, one jitted step.
    tx = optimizer(options.learning_rate, options.decay_learning_rate)
    per_batch = batches.targets / batches.per_epoch

    @jax.jit
    def step(params: Any, state: optax.OptState, batch: Batch) -> tuple[Any, optax.OptState, jax.Array]:
        def loss(params: Any) -> jax.Array:
            return -likelihood(params, batch) / per_batch + penalty(params, priors) / batches.targets

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = tx.update(gradient, state, params)
        return *layout.kept((optax.apply_updates(params, updates), state)), value

    @jax.jit
    def init(key: jax.Array) -> Any:
        return model.init(key, items, shares, method=Interest.everything)["params"]

    params = layout.params(init(jax.random.key(options.seed)))
    state = jax.jit(lambda params: layout.kept(tx.init(params)))(params)
    asked = sample(requests(histories, 1, chosen=True), 2000, options.seed)
    for epoch in range(options.epochs):
        losses = []
        for i in range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch):
            params, state, loss = step(params, state, layout.batch(batches[i]))
            losses.append(loss)
        trained = layout.whole(params)
        score = ndcg_at_10(Predictor(model, trained, histories, catalogue, reference), asked).mean()
        loss = np.mean(jax.device_get(losses))
        if distributed.leading():
            print(f"epoch {epoch + 1}: loss {loss:.4f}, validation NDCG@10 {score:.4f}")
    half_life = np.exp(layout.whole(params)["similarity"]["decay"]["log_half_life"])
    if distributed.leading():
        print("half-lives of the similarity bank, in days:", ", ".join(f"{h:.3g}" for h in half_life))


if __name__ == "__main__":
    main(tyro.cli(Options))
