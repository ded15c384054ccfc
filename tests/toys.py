"""Small logs and one small model with everything in it, for the tests of the model, its training and its use."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from jaxdecay.configure import ModelOptions
from jaxdecay.data.histories import Histories
from jaxdecay.fit import Pieces, assemble
from jaxdecay.model import Spec, Table
from jaxdecay.train import TrainOptions, batch_log_likelihood, init_state

DAY = 86_400
START = 1_700_000_000  # a Tuesday in November 2023

log_likelihood = jax.jit(batch_log_likelihood, static_argnums=0)


def log(
    lengths: tuple[int, ...] = (20, 20, 9, 9, 9), *, items: int = 7, held_out: int = 0, seed: int = 0
) -> Histories:
    """One user per length: repeats, ties, behaviours, weights and columns of every kind; the last ``held_out`` events of each user are
    validation. The one numeric context column is the row of each event, by which tests know it again."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(len(lengths)), lengths)
    events = len(user)
    gap = np.where(random.random(events) < 0.3, 0, random.integers(1, 4 * DAY, events))
    time = np.concatenate([START + np.cumsum(part) for part in np.split(gap, np.cumsum(lengths)[:-1])])
    from_end = np.concatenate([np.arange(length)[::-1] for length in lengths])
    item = random.integers(0, items, events)
    item[:items] = np.arange(items)  # everything is known
    categorical = {
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
        config={"split": {"kind": "leave-one-out"}, "behaviours": ["look", "take"], "repeat_share": 0.5},
        **categorical,
    )


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
    }
    return Spec(**(values | changes))


def bare(histories: Histories, **changes: Any) -> Spec:
    """The smallest model that still fades: one half-life, item vectors, the revisit head."""
    off = {
        "behaviours": 1, "features": 2, "similarity_half_lives": (2.0,), "revisit_half_lives": (2.0,),
        "revisit_periods": (), "popularity_half_lives": (), "groups": 0, "item_columns": Table(),
        "user_columns": Table(), "context_columns": Table(),
    }  # fmt: skip
    off |= dict.fromkeys(("per_item", "per_user", "per_behaviour", "adaptive", "calendar"), False)
    return spec(histories, **(off | changes))


def pieces(histories: Histories, spec: Spec, **train: Any) -> Pieces:
    return assemble(histories, spec, ModelOptions(), TrainOptions(**train))


def random_params(made: Pieces, seed: int = 0, scale: float = 0.4) -> Any:
    """Parameters none of which stands where it started: at zero most of them would be invisible."""
    state = init_state(made.model, made.constants, made.batches[0], made.optimizer, seed)
    random = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: x + np.asarray(scale * random.normal(size=x.shape), np.float32), state.params
    )


@functools.cache
def everything() -> tuple[Pieces, Any]:
    """The pieces of the full model on `log`, and random parameters; shared by all tests of a process."""
    histories = log()
    made = pieces(histories, spec(histories), window=64, batch_targets=64)
    return made, random_params(made)


@pytest.fixture(autouse=True)
def any_rank() -> Iterator[None]:
    """Banks broadcast over any rank of ages: the strict rule of the other tests does not hold for them."""
    with jax.numpy_rank_promotion("allow"):
        yield
