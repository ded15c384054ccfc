"""Small logs, and small models of them, for the tests of the model, its training and its use."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecay import loop
from jaxdecay.assembly import Pieces, assemble
from jaxdecay.data.histories import Histories
from jaxdecay.model_options import ModelOptions
from jaxdecay.objective import batch_log_likelihood
from jaxdecay.spec import Spec, Table
from jaxdecay.train import State, TrainOptions, init_params, make_train_step

DAY = 86_400
START = 1_700_000_000  # a Tuesday in November 2023


def columns(*names: str, numeric: tuple[str, ...] = ()) -> dict[str, Any]:
    """What `prepare` says of categorical columns with two values each, and of numeric ones."""
    coded = [{"kind": "Categories", "column": name, "values": ["jazz", "rock"], "width": 1} for name in names]
    return {
        "categorical_names": list(names),
        "cardinalities": [3] * len(names),
        "widths": [1] * len(names),
        "numeric_names": list(numeric),
        "encoder": {"coded": coded, "scaled": []},
    }


FEATURES = {
    "item": columns("genre", numeric=("size",)),
    "user": columns("country"),
    "context": columns("device", numeric=("row",)),
}

log_likelihood = jax.jit(batch_log_likelihood, static_argnums=0)


def log(
    lengths: tuple[int, ...] = (20, 20, 9, 9, 9), *, items: int = 7, held_out: int = 0, seed: int = 0
) -> Histories:
    """One user per length: repeats, ties, behaviours, weights and columns of every kind.

    The last ``held_out`` events of each user are validation. The one numeric context column is the row of
    each event, by which tests know it again.
    """
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(len(lengths)), lengths)
    events = len(user)
    gap = np.where(random.random(events) < 0.3, 0, random.integers(1, 4 * DAY, events))
    time = np.concatenate([START + np.cumsum(part) for part in np.split(gap, np.cumsum(lengths)[:-1])])
    from_end = np.concatenate([np.arange(length)[::-1] for length in lengths])
    item = random.integers(0, items, events)
    item[:items] = np.arange(items)[:events]  # everything is known
    categorical: dict[str, Any] = {
        f"{kind}_categorical": random.integers(0, 3, (rows, 1))
        for kind, rows in (("item", items), ("user", len(lengths)), ("context", events))
    }
    return Histories.from_arrays(
        user,
        item,
        time,
        part=(from_end < held_out).astype(int),
        behaviour=random.integers(0, 2, events),
        weight=random.uniform(0.5, 2.0, events),
        item_numeric=random.normal(size=(items, 1)),
        context_numeric=np.arange(events)[:, None],
        config={
            "split": {"kind": "leave-one-out"},
            "behaviours": ["look", "take"],
            "repeat_share": 0.5,
            "features": FEATURES,
        },
        **categorical,
    )


def live(histories: Histories) -> Histories:
    """The same log under a split by one moment: counts go on, items are candidates once they have come."""
    return histories.replace(config=histories.config | {"split": {"kind": "global-time"}})


def spec(histories: Histories, **changes: Any) -> Spec:
    """A model with every part switched on."""
    values: dict[str, Any] = {
        "items": histories.known_items,
        "users": histories.known_users,
        "behaviours": 2,
        "features": 3,
        "similarity_half_lives": (0.5, 8.0),
        "revisit_half_lives": (1.0, 20.0),
        "revisit_periods": (7.0,),
        "revisit_sharpness": (3,),
        "popularity_half_lives": (3.0, float("inf")),
        "revisit": True,
        "groups": 3,
        "group_column": 0,
        "per_item": True,
        "per_user": True,
        "per_behaviour": True,
        "adaptive": True,
        "calendar": True,
        "item_columns": Table((3,), (1,), 1),
        "user_columns": Table((3,), (1,), 0),
        "context_columns": Table((3,), (1,), 0),
        "fusion": "gated",
        "by_content": True,
        "fades_by_content": True,
    }
    return Spec(**(values | changes))


def bare(histories: Histories, **changes: Any) -> Spec:
    """The smallest model that still fades: one half-life, item vectors, the revisit head."""
    off = {
        "behaviours": 1, "features": 2, "similarity_half_lives": (2.0,), "revisit_half_lives": (2.0,),
        "revisit_periods": (), "revisit_sharpness": (), "popularity_half_lives": (), "groups": 0,
        "item_columns": Table(), "user_columns": Table(), "context_columns": Table(),
        "fusion": "sum", "by_content": False, "fades_by_content": False,
    }  # fmt: skip
    off |= dict.fromkeys(("per_item", "per_user", "per_behaviour", "adaptive", "calendar"), False)
    return spec(histories, **(off | changes))


def pieces(histories: Histories, spec: Spec, **train: Any) -> Pieces:
    return assemble(histories, spec, ModelOptions(), TrainOptions(**train))


def for_every_loss(made: Pieces) -> Pieces:
    """The same with the constants that losses on negatives read beside those of the softmax."""
    drawing = pieces(made.histories, made.model.spec, loss="bce").constants
    return made._replace(constants=made.constants.replace(tally=drawing.tally, came=drawing.came))


def random_params(made: Pieces, seed: int = 0, scale: float = 0.4) -> Any:
    """Parameters none of which stands where it started: at zero most of them would be invisible."""
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(x + scale * random.normal(size=x.shape), jnp.float32),
        begun(made.model, made.constants, seed),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def call(module: nn.Module, method: Any, params: Any, *args: Any) -> Any:
    """A method of a module, compiled: op by op each small operation would be compiled on its own."""
    return module.apply({"params": params}, *args, method=method)


@functools.partial(jax.jit, static_argnums=(0, 1))
def start(module: nn.Module, method: Any, *args: Any) -> Any:
    return module.init(jax.random.key(0), *args, method=method).get("params", {})


def moved(module: nn.Module, method: Any, *args: Any) -> Any:
    """Parameters of a module, none of which stands where it started."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: jnp.asarray(x + 0.5 * random.normal(size=x.shape), jnp.float32),
        start(module, method, *args),
    )


@functools.cache
def everything() -> tuple[Pieces, Any]:
    """The pieces of the full model on `log`, and random parameters; shared by all tests of a process."""
    histories = log()
    made = for_every_loss(pieces(histories, spec(histories), window=64, batch_targets=64))
    return made, random_params(made)


@functools.cache
def quick() -> Pieces:
    """A small model and batches of one shape, three an epoch, with which training takes a moment."""
    histories = log((8,) * 12, items=9)
    made = pieces(histories, bare(histories, behaviours=2), window=8, batch_targets=32, epochs=99)
    return for_every_loss(made)


def training(*, epochs: int = 3, **train: Any) -> tuple[Pieces, TrainOptions]:
    options: dict[str, Any] = {"epochs": epochs, "patience": 99, "settle_epochs": 0, **train}
    return quick(), TrainOptions(**options)


def how_far(params: Any) -> tuple[float, float]:
    """Stands in for validation: a score that depends on every parameter, and its standard error."""
    leaves = jax.tree.leaves(params)
    return 1.0 - sum(float(np.abs(np.asarray(leaf, np.float64) - 1).sum()) for leaf in leaves) / 100, 0.0


def train(run: Path, evaluate: loop.Evaluate = how_far, *, report: Any = None, **options: Any) -> State:
    """The training loop on `training`; ``report`` is called with every line."""
    made, chosen = training(**options)
    with mock.patch.multiple(loop, make_train_step=compiled_once, init_params=begun):
        return loop.train(
            run, made.model, made.optimizer, made.batches, made.constants, evaluate, chosen,
            report=report or (lambda line: None),
        )  # fmt: skip


compiled_once = functools.cache(make_train_step)
begun = jax.jit(init_params, static_argnums=(0, 2))


@pytest.fixture(autouse=True)
def any_rank() -> Iterator[None]:
    """Banks broadcast over any rank of ages: the strict rule of the other tests does not hold for them."""
    with jax.numpy_rank_promotion("allow"):
        yield
