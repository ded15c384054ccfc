"""Runs on negatives, in the order of time: from training to half-lives, and on several devices."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from tiny import tiny_events, tiny_items
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import assess, distributed
from jaxdecay.assembly import assemble, load_predictor
from jaxdecay.data.requests import requests
from jaxdecay.half_lives import half_lives
from jaxdecay.layout import Layout
from jaxdecay.model_options import ModelOptions
from jaxdecay.objective import Objective, batch_loss
from jaxdecay.recommend import fit
from jaxdecay.spec import Spec
from jaxdecay.train import TrainOptions

MODEL = ModelOptions(features=4, modes=1, periods=(), satiation=False, calendar=False, per_user=False)
TRAIN = TrainOptions(
    epochs=2, batch_targets=64, loss="sampled-softmax", negatives=8, order="time", settle_epochs=3
)


def test_such_a_run_ends_resumes_predicts_and_has_half_lives(tmp_path: Path) -> None:
    def train() -> Path:
        return fit(tiny_events(), tmp_path / "run", model=MODEL, train=TRAIN, items=tiny_items()).path

    run = train()
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [line["settled"] for line in lines] == [False, False]  # nothing settles
    assert assess.finished(run)
    before = (run / "history.jsonl").read_bytes()
    assert train() == run
    assert (run / "history.jsonl").read_bytes() == before
    served = load_predictor(run)
    asked = requests(served.histories, 2, chosen=True)
    assert np.isfinite(served.scores(asked)).all()
    table = half_lives(run, bootstrap=20)
    assert np.isfinite(table["half_life_days"].drop_nulls().to_numpy()).any()
    assert table.columns[:3] == ["head", "group", "half_life_days"]


@pytest.mark.parametrize("request_time", ["used", "ignored"])
@pytest.mark.parametrize("loss", ["sampled-softmax", "gbce"])
def test_a_mesh_has_the_losses_of_one_device(loss: Any, request_time: Any) -> None:
    if jax.device_count() < 2:
        pytest.skip("one device: XLA_FLAGS was set to something else before these tests began")
    histories = toys.live(toys.log((30, 40), items=9))
    spec: Spec = toys.spec(histories, request_time=request_time)
    made = assemble(histories, spec, ModelOptions(), TrainOptions(loss=loss, order="time", batch_targets=24))
    params, objective = toys.random_params(made), Objective(loss, 6, 0.5, 0.4, 3)
    compiled = jax.jit(batch_loss, static_argnums=(0, 4, 6))

    def losses(layout: Layout) -> np.ndarray:
        batch = layout.batches(made.batches)[0]
        args = made.model, params, batch, made.constants, objective, jnp.int32(2), layout
        return np.asarray(compiled(*args))[: len(made.batches[0].valid)]

    alone = losses(Layout())
    assert (alone[made.batches[0].valid] != 0).all()
    for shape in ((2, 1), (1, 2)):
        found = losses(Layout.of(distributed.mesh(*shape), made.model))
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)
