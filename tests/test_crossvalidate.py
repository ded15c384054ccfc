"""One half-life for all heads, chosen over rolling folds: which, how it is told, that it is chosen once."""

import dataclasses
import signal
from pathlib import Path
from typing import Any

import jax
import pytest
from tiny import tiny_events

from jaxdecay import crossvalidate, fitting, runs
from jaxdecay.data.histories import Histories
from jaxdecay.data.prepare import prepare
from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.train import TrainOptions

MODEL = ModelOptions(half_lives="cross-validated", half_life=("2d", "30d"), features=4, revisit=False)
TRAIN = TrainOptions(epochs=1, settle_epochs=0, batch_targets=256, window=16)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("folds") / "prepared"
    prepare(tiny_events(), out)
    return out


def scripted(monkeypatch: pytest.MonkeyPatch, scores: dict[str, list[float]]) -> list[Any]:
    """Stands in for training: the score of each candidate on the folds in their order. Returns what was
    asked."""
    left, asked = {name: list(values) for name, values in scores.items()}, []

    def score(fold: Histories, model: ModelOptions, train: TrainOptions, mesh: Any, stop: Any) -> float:
        assert model.half_lives == "fixed"
        asked.append((model.half_life, fold, train))
        return left[model.half_life[0]].pop(0)

    monkeypatch.setattr(crossvalidate, "_score", score)
    return asked


def test_the_best_mean_over_folds_is_chosen(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories = Histories.load(prepared)
    asked = scripted(monkeypatch, {"2d": [0.9, 0.1, 0.1], "30d": [0.3, 0.5, 0.4]})
    found = crossvalidate.choose_half_life(histories, MODEL, TRAIN, kept=tmp_path / "run" / "folds.jsonl")
    assert found["chosen"] == "30d"
    assert found["days"] == 30
    assert found["candidates"] == ["2d", "30d"]
    assert found["ndcg@10"] == [[0.9, 0.1, 0.1], [0.3, 0.5, 0.4]]
    for _, fold, train in asked:
        assert set(fold.part[histories.part != 0]) == {-1}  # held-out events take no part
        assert fold.time[fold.part == 0].max() < fold.time[fold.part == 1].min()
        assert train.settle_epochs == 0


def test_without_candidates_they_lie_within_the_logs_own_ages(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[float] = set()

    def score(fold: Histories, model: ModelOptions, train: TrainOptions, mesh: Any, stop: Any) -> float:
        seen.add(float(model.half_life[0].removesuffix("d")))
        return 0.0

    monkeypatch.setattr(crossvalidate, "_score", score)
    histories = Histories.load(prepared)
    crossvalidate.choose_half_life(
        histories, ModelOptions(half_lives="cross-validated"), TRAIN, kept=tmp_path / "f"
    )
    span = float(histories.time.max() - histories.time.min()) / 86_400
    assert len(seen) == 5
    assert 0 < min(seen) < max(seen) <= 2 * span


def test_simultaneous_events_leave_nothing_to_choose_from(tmp_path: Path) -> None:
    at_once = Histories.load(_prepared_at_once(tmp_path))
    with pytest.raises(InputError, match="simultaneous"):
        crossvalidate.choose_half_life(
            at_once, ModelOptions(half_lives="cross-validated"), TRAIN, kept=tmp_path / "f"
        )


def _prepared_at_once(folder: Path) -> Path:
    import polars as pl

    users, days = range(12), range(12)
    rows = [(u, i, 1_700_006_400 + 86_400 * u) for u in users for i in days]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    prepare(log, folder / "prepared")
    return folder / "prepared"


def test_a_run_tells_what_was_chosen_and_goes_on_without_choosing_again(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def once(
        histories: Histories, model: ModelOptions, train: TrainOptions, *, kept: Path, **others: Any
    ) -> dict[str, Any]:
        calls.append(model)
        return {"chosen": "2d", "days": 2.0, "candidates": ["2d", "30d"], "ndcg@10": [[0.2], [0.1]]}

    monkeypatch.setattr(fitting, "choose_half_life", once)
    run = tmp_path / "run"
    with jax.numpy_rank_promotion("allow"):  # banks broadcast over any rank of ages
        fitting.train_run(prepared, run, model=MODEL, train=TRAIN)
        fitting.train_run(prepared, run, model=MODEL, train=TRAIN)
        older = runs.read_config(run)  # as if from before there was some option
        del older["train"]["evidence_half_life"]
        runs.write_json(run / "config.json", older)
        fitting.train_run(prepared, run, model=MODEL, train=TRAIN)
    assert calls == [MODEL]
    config = runs.read_config(run)
    assert config["half_lives"]["how"] == "cross-validated"
    assert config["half_lives"]["chosen"] == "2d"
    assert config["spec"]["similarity_half_lives"] == [2.0]


def test_what_was_interrupted_goes_on_where_it_was(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories, kept, asked, lines = Histories.load(prepared), tmp_path / "folds.jsonl", [], []

    def score(fold: Histories, model: ModelOptions, train: TrainOptions, mesh: Any, stop: Any) -> float:
        asked.append(model.half_life)
        if len(asked) == 4:
            signal.raise_signal(signal.SIGTERM)  # as if it came during this training
            assert stop()
            raise KeyboardInterrupt
        return 0.1 * len(asked)

    monkeypatch.setattr(crossvalidate, "_score", score)

    def choose(model: ModelOptions = MODEL) -> dict[str, Any]:
        return crossvalidate.choose_half_life(histories, model, TRAIN, kept=kept, report=lines.append)

    with pytest.raises(KeyboardInterrupt):
        choose()
    assert len(kept.read_text().splitlines()) == len(lines) == 3
    with kept.open("a") as file:
        file.write('{"half_life": "30d", "fo')  # cut short
        file.write("\n")
    found = choose()
    assert len(asked) == 7  # six trainings, one of them begun twice
    assert [[round(one, 1) for one in row] for row in found["ndcg@10"]] == [[0.1, 0.3, 0.6], [0.2, 0.5, 0.7]]
    choose(dataclasses.replace(MODEL, features=5))
    assert len(asked) == 13


def test_a_signal_in_the_last_evaluation_of_a_candidate_stops_it_all(prepared: Path) -> None:
    histories = Histories.load(prepared)
    fold = histories.replace(part=crossvalidate.rolling_folds(histories)[0])
    fixed = dataclasses.replace(MODEL, half_lives="fixed", half_life=("2d",))
    with pytest.raises(KeyboardInterrupt), jax.numpy_rank_promotion("allow"):
        crossvalidate._score(fold, fixed, TRAIN, None, lambda: True)
