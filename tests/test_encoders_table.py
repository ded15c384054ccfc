"""The table of encoders: a tiny log end to end, and its parts by hand."""

import dataclasses
import json
from pathlib import Path
from typing import Any
from unittest import mock

import encoders
import jax
import pytest
from board import work
from board.encoders import ENCODERS, REFERENCES, entries, helped
from board.plan import Plan
from board.systems import configurations
from encoders import Options
from leaderboard import run

from jaxdecay.data.simulate import SimulateOptions, simulate
from jaxdecay.model_options import ModelOptions

TINY = (
    *("features=4", "modes=1", "periods=[]"),
    *(f"{piece}=false" for piece in ("columns", "revisit", "per_user", "popularity")),
    *("train.window=8", "train.batch_targets=256"),
)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    folder = tmp_path_factory.mktemp("encoders")
    path = folder / "small" / "events.parquet"
    path.parent.mkdir()
    made = SimulateOptions(users=40, items=30, days=40, events_per_user=25, burstiness=0.5)
    simulate(made).events.write_parquet(path)
    return Options(
        logs=(str(path),), encoders=("identity",), preset="small", epochs=2, override=TINY,
        cache=folder / "cache", bootstrap=50, json=folder / "rows.json", markdown=folder / "table.md",
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(options: Options) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of NDCG@10 by encoder and read; trained in this process, which spares starting others."""

    def alone(self: Plan, one: Any, *, scored: bool) -> int:
        one.begin()
        with jax.numpy_rank_promotion("allow"):  # banks broadcast over any rank of ages
            work.perform(one, scored=scored, venv=None)
        return 0

    with mock.patch.object(Plan, "_run", alone):
        assert encoders.main(options) == 0
    assert options.json is not None
    found = [row for row in json.loads(options.json.read_text()) if row["metric"] == "ndcg@10"]
    return {(row["encoder"], row["read"]): row for row in found}


def test_an_encoder_stands_there_with_the_bank_and_without(table, options):
    assert set(table) == {("identity", read) for read in ("bank", "last")}
    for (_, read), row in table.items():
        model = row["configuration"]["model"]
        assert (model["encoder"], model["read"]) == ("none", read)
        assert row["epochs"] == 2
        assert 0 < row["epoch_seconds"] < row["seconds"]
        assert row["peak_mib"] > 50
    bank, last = table["identity", "bank"], table["identity", "last"]
    assert bank["parameters"] > last["parameters"]
    assert bank["difference"] == pytest.approx(bank["value"] - last["value"])
    assert bank["difference_low"] <= bank["difference"] <= bank["difference_high"]
    assert last["difference"] is None
    text = options.markdown.read_text()
    assert f"\n| identity | {bank['value']:.4f} [" in text
    assert "with the bank minus without" in text
    assert "Vectors of 4 numbers, at most 2 epochs of the softmax loss, on " in text
    assert "| gru |" not in text


def test_what_is_cached_is_not_trained_again(table, options, tmp_path):
    again = dataclasses.replace(options, json=tmp_path / "again.json", markdown=None)
    with mock.patch.object(Plan, "_run", side_effect=AssertionError("something was run")):
        assert encoders.main(again) == 0
    found = json.loads((tmp_path / "again.json").read_text())
    assert [row for row in found if row["metric"] == "ndcg@10"] == [
        table["identity", read] for read in ("bank", "last")
    ]


def test_all_have_the_same_options_but_for_the_encoder_and_the_read():
    made = {}
    for entry in entries(("all",), "base", {"epochs": 3}):
        (one,) = configurations(entry, clock="utc", budget=1)
        made[entry.name] = one
        size = ModelOptions.from_json(one["model"]).size
        assert size.features == 64
    assert set(made) == {*REFERENCES, *REFERENCES.values()}
    assert len({json.dumps(one, sort_keys=True) for one in made.values()}) == len(made) == 2 * len(ENCODERS)
    encoders_own = ("encoder", "read", "blocks", "dropout", "precision", "remat", "attention_bias")
    for one in made.values():
        assert one["train"] == made["identity, bank"]["train"]
        for name, value in one["model"].items():
            assert name in encoders_own or value == made["gru, last"]["model"][name], name


def test_where_the_bank_does_not_help_is_said():
    def row(low: float, high: float) -> dict[str, dict[str, Any]]:
        figure = {"difference": (low + high) / 2, "difference_low": low, "difference_high": high}
        return {"ndcg@10": figure}

    told = {"mlp, bank": row(0.1, 0.2), "gru, bank": row(-0.1, 0.2), "cnn, bank": row(-0.2, -0.1)}
    assert list(helped(told)) == ["The bank helps mlp; it makes no sure difference to gru; it hurts cnn."]
    assert list(helped({})) == []


def test_an_encoder_that_is_not_there_is_refused(options, capsys):
    assert run(dataclasses.replace(options, encoders=("grue",)), encoders.main) == 2
    assert "--encoders 'grue': there is no such encoder; there are all, identity, mlp" in (
        capsys.readouterr().err
    )


def test_a_log_without_its_file_is_refused(options, capsys, tmp_path):
    assert run(dataclasses.replace(options, logs=("no",), data=Path(tmp_path)), encoders.main) == 2
    assert "--logs no: there is no" in capsys.readouterr().err
