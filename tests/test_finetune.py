"""A language model trained along with the recommender: gradients, what a step goes through, whole runs."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from language_folders import BERT, WORDS, tensors_of, write_folder
from tiny import ITEMS, tiny_events, tiny_items
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import checkpointing, runs
from jaxdecay.assembly import Pieces, assemble, load_model, load_predictor
from jaxdecay.data.histories import Histories
from jaxdecay.data.prepare import PrepareOptions, prepare
from jaxdecay.data.requests import requests
from jaxdecay.embed import Encoder, embed
from jaxdecay.errors import InputError
from jaxdecay.finetune import MODEL, fine_tune
from jaxdecay.fitting import train_run
from jaxdecay.frozen import FineTuneOptions, place_of, texts_of, titles_of
from jaxdecay.language.load import load
from jaxdecay.model_options import ModelOptions
from jaxdecay.objective import Objective, batch_loss
from jaxdecay.optimizer import TEXT, groups_of
from jaxdecay.titles import Titles
from jaxdecay.train import TrainOptions

OPTIONS = FineTuneOptions(
    epochs=2, batch_targets=160, negatives=8, max_length=16, rank=2, text_learning_rate=0.05
)
DRAWN = Objective("sampled-softmax", 4, 0.5)


def titled_items() -> pl.DataFrame:
    random = np.random.default_rng(3)
    titles: list[str | None] = [" ".join(random.choice(WORDS, 1 + i % 4)) for i in range(ITEMS)]
    titles[4] = None
    return tiny_items().with_columns(title=pl.Series(titles))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model, and a run on a log with its vectors of the items' titles."""
    folder = tmp_path_factory.mktemp("tuned")
    write_folder(folder / "bert", BERT, tensors_of(BERT))
    items = titled_items()
    vectors = embed(Encoder(load(folder / "bert", max_length=16)), items["title"].to_list())
    frame = items.with_columns(title_vector=vectors)
    prepare(tiny_events(), folder / "prepared", PrepareOptions(), items=frame)
    model = ModelOptions(features=4, modes=1, periods=(), per_item=False, per_user=False)
    train = TrainOptions(epochs=1, settle_epochs=0, batch_targets=160)
    with jax.numpy_rank_promotion("allow"):  # as in all tests here, whose fixtures come before theirs
        train_run(folder / "prepared", folder / "run", model=model, train=train)
    return folder


@pytest.fixture(scope="module")
def parts(world: Path) -> tuple[Pieces, Any, Titles]:
    """The pieces of training, parameters none of which stands where it began, and the titles."""
    with jax.numpy_rank_promotion("allow"):
        return made_parts(world)


def made_parts(world: Path) -> tuple[Pieces, Any, Titles]:
    module, params, config = load_model(world / "run")
    histories = Histories.load(world / "run" / "histories")
    language = load(world / "bert", max_length=16)
    place = place_of(histories, module.spec, "title", language)
    titles, trained = titles_of(language, texts_of(world / "run", histories, "title"), place, OPTIONS, 0)
    train = TrainOptions(**config["train"] | {"loss": "sampled-softmax"})
    pieces = assemble(histories, module.spec, ModelOptions.from_json(config["model"]), train)
    random = np.random.default_rng(0)
    moved = jax.tree.map(
        lambda x: jnp.asarray(x + 0.1 * random.normal(size=x.shape), jnp.float32), {**params, TEXT: trained}
    )
    exact = jax.tree.map(jnp.asarray, titles.replace(below=titles.below.astype(np.float32)))
    return pieces._replace(constants=pieces.constants.replace(titles=exact)), moved, exact


def loss_of(pieces: Pieces, titles: Titles) -> Any:
    constants, batch = pieces.constants.replace(titles=titles), jax.tree.map(jnp.asarray, pieces.batches[0])

    def loss(params: Any) -> Any:
        return batch_loss(pieces.model, params, batch, constants, DRAWN, jnp.int32(1)).sum()

    return jax.jit(jax.value_and_grad(loss))


@jax.jit
def vectors_of(titles: Titles, text: Any, items: Any) -> Any:
    return titles.vectors(text, items)


def test_the_gradient_goes_through_the_titles(parts: tuple[Pieces, Any, Titles]) -> None:
    pieces, params, titles = parts
    loss = loss_of(pieces, titles)
    value, slope = loss(params)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(slope[TEXT]))
    random = np.random.default_rng(1)
    step = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), jnp.float32), params[TEXT])

    def at(by: float) -> float:
        moved = jax.tree.map(lambda x, d: x + by * d, params[TEXT], step)
        return float(loss({**params, TEXT: moved})[0])

    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float((g * d).sum()), slope[TEXT], step)))
    assert along == pytest.approx((at(1e-2) - at(-1e-2)) / 2e-2, rel=0.02, abs=0.02)
    assert np.isfinite(value)


def test_a_step_goes_through_so_many_titles_and_leaves_the_others_as_they_are(
    parts: tuple[Pieces, Any, Titles],
) -> None:
    _, params, titles = parts
    items = parts[0].constants.items
    named = jnp.array([3, 99, 4, 3, 7, 1])
    few = titles.replace(most=3)
    renewed = np.asarray(jax.jit(lambda text: few.renewed(text, items, named).numeric)(params[TEXT]))
    assert not np.asarray(titles.mask)[4].any()
    begin, end = titles.column, titles.column + titles.config.width
    changed = np.flatnonzero((renewed != np.asarray(items.numeric)).any(1))
    assert changed.tolist() == [3, 7]  # 4 has no title, and 1 comes fourth
    expected = vectors_of(titles, params[TEXT], jnp.array([3, 7]))
    np.testing.assert_allclose(renewed[changed, begin:end], expected, rtol=1e-6)
    np.testing.assert_array_equal(
        np.delete(renewed, np.s_[begin:end], 1), np.delete(items.numeric, np.s_[begin:end], 1)
    )


def test_what_the_language_model_makes_is_what_the_items_have(
    parts: tuple[Pieces, Any, Titles], world: Path
) -> None:
    _, params, titles = parts
    still = jax.tree.map(jnp.zeros_like, params[TEXT])
    there = np.flatnonzero(np.asarray(titles.mask).any(1))
    found = vectors_of(titles, still, jnp.asarray(there))
    numeric = Histories.load(world / "run" / "histories").item_numeric
    begin = titles.column
    np.testing.assert_allclose(found, numeric[there, begin : begin + titles.config.width], atol=0.03)


def test_it_learns_at_a_rate_of_its_own(parts: tuple[Pieces, Any, Titles]) -> None:
    groups = groups_of(parts[1])
    assert set(jax.tree.leaves(groups[TEXT])) == {"text"}
    assert "text" not in jax.tree.leaves({name: part for name, part in groups.items() if name != TEXT})


@pytest.fixture(scope="module")
def tuned(world: Path) -> Path:
    with jax.numpy_rank_promotion("allow"):
        return fine_tune(world / "run", world / "bert", world / "out", OPTIONS)


def test_a_tuned_run_is_a_run_with_the_vectors_of_the_tuned_model(world: Path, tuned: Path) -> None:
    before, after = (Histories.load(path / "histories", verify=True) for path in (world / "run", tuned))
    language = load(tuned / MODEL)
    assert language.config.max_length == 16
    items = pl.read_parquet(tuned / "histories" / "items.parquet")
    vectors = embed(Encoder(language), items["title"].to_list())
    kept = pl.Series(items["title_vector"]).to_list()
    names = before.config["features"]["item"]["numeric_names"]
    begin = names.index("title_vector_0")
    for row, vector in enumerate(vectors.to_list()):
        if vector is None:
            np.testing.assert_array_equal(after.item_numeric[row], before.item_numeric[row])
            assert kept[row] is None
            continue
        np.testing.assert_allclose(after.item_numeric[row, begin : begin + 8], vector, atol=0.03)
        np.testing.assert_allclose(kept[row], after.item_numeric[row, begin : begin + 8], rtol=1e-6)
    assert np.abs(after.item_numeric - before.item_numeric).max() > 0.01
    found = load_predictor(tuned).scores(requests(after, 2))
    assert np.isfinite(found).all()
    config = runs.read_config(tuned)
    assert config["tuned"]["rank"] == 2
    # what stands for the model is how the run was trained, for the same without decay, too
    assert config["train"] == runs.read_config(world / "run")["train"]
    assert config["before"]["ndcg@10"] == pytest.approx(runs.HistoryLog.lines(world / "run")[-1]["ndcg@10"])
    assert not tuned.with_name("out.tuning").exists()


def test_an_interrupted_one_goes_on_to_the_same_end(world: Path, tuned: Path) -> None:
    out = world / "again"

    evaluated = []

    def interrupt(line: dict[str, Any]) -> None:
        """In the first step after the checkpoint of the first evaluation."""
        if "step" in line and evaluated:
            raise KeyboardInterrupt
        evaluated.extend(["epoch"] if "epoch" in line else [])

    with pytest.raises(KeyboardInterrupt):
        fine_tune(world / "run", world / "bert", out, OPTIONS, report=interrupt)
    assert not out.exists()
    assert checkpointing.latest_step(world / "again.tuning") == runs.HistoryLog.lines(tuned)[0]["step"]
    with pytest.raises(InputError, match="was begun with another run, another language model or"):
        fine_tune(world / "run", world / "bert", out, dataclasses.replace(OPTIONS, rank=3))
    fine_tune(world / "run", world / "bert", out, OPTIONS)
    one, other = (load_model(path)[1] for path in (tuned, out))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_what_cannot_be_tuned_is_refused(world: Path, tuned: Path, tmp_path: Path) -> None:
    run, bert = world / "run", world / "bert"
    with pytest.raises(InputError, match="is there already; give another --out"):
        fine_tune(run, bert, tuned, OPTIONS)
    other = write_folder(
        tmp_path / "wide", BERT | {"hidden_size": 12}, tensors_of(BERT | {"hidden_size": 12})
    )
    with pytest.raises(
        InputError, match="title_vector has 8 numbers in the run, and this language model makes 12"
    ):
        fine_tune(run, other, tmp_path / "out", OPTIONS)
    with pytest.raises(InputError, match="has no inputs genre_vector: jaxdecay embed ITEMS"):
        fine_tune(run, bert, tmp_path / "out", FineTuneOptions(column="genre", max_length=16))
    with pytest.raises(InputError, match="layers=3: the language model has 2"):
        fine_tune(run, bert, tmp_path / "out", FineTuneOptions(layers=3, max_length=16))
    with pytest.raises(InputError, match="learning_rate=-1: give at least 0"):
        FineTuneOptions(learning_rate=-1)
    with pytest.raises(InputError, match="rank=-1: give at least 0"):
        FineTuneOptions(rank=-1)
    backwards = tensors_of(BERT)
    for name, tensor in backwards.items():
        backwards[name] = np.ascontiguousarray(tensor[::-1])
    other = write_folder(tmp_path / "other", BERT, backwards)
    with pytest.raises(InputError, match="are not those that this language model makes"):
        fine_tune(run, other, tmp_path / "out", OPTIONS)
    assert not list(tmp_path.glob("out*"))
