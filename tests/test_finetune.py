"""A language model trained along with the recommender: gradients, what a step changes, whole runs."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
from jaxdecay.finetune import MODEL, Renewal, fine_tune
from jaxdecay.fitting import train_run
from jaxdecay.frozen import FineTuneOptions, place_of, reader_of, texts_of
from jaxdecay.language.load import load
from jaxdecay.model_options import ModelOptions
from jaxdecay.objective import Objective, batch_loss
from jaxdecay.optimizer import TEXT, groups_of, optimizer
from jaxdecay.titles import Reader, Titled
from jaxdecay.train import TrainOptions, init_state

OPTIONS = FineTuneOptions(epochs=2, max_length=16, rank=2, text_learning_rate=0.05)


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


class Parts(NamedTuple):
    """The pieces of training, parameters none of which stands where it began, and what reads the texts."""

    pieces: Pieces
    params: Any
    reader: Reader
    titled: Titled

    def with_vectors(self, trained: Any) -> Any:
        text = {"trained": trained, "vectors": jnp.asarray(self.reader.vectors(trained))}
        return {**self.params, TEXT: text}


@pytest.fixture(scope="module")
def parts(world: Path) -> Parts:
    with jax.numpy_rank_promotion("allow"):
        return made_parts(world)


def made_parts(world: Path) -> Parts:
    module, params, config = load_model(world / "run")
    histories = Histories.load(world / "run" / "histories")
    language = load(world / "bert", max_length=16)
    place = place_of(histories, module.spec, "title", language)
    reader, trained = reader_of(language, texts_of(world / "run", histories, "title"), OPTIONS, 0)
    reader.chunks = [chunk._replace(below=chunk.below.astype(np.float32)) for chunk in reader.chunks]
    model = ModelOptions.from_json(config["model"])
    pieces = assemble(histories, module.spec, model, TrainOptions(**config["train"]), text=optax.adam(0.05))
    titled = Titled(jnp.asarray(reader.there[: module.spec.items]), place)
    random = np.random.default_rng(0)
    moved = jax.tree.map(
        lambda x: jnp.asarray(x + 0.1 * random.normal(size=x.shape), jnp.float32), {**params, TEXT: trained}
    )
    return Parts(pieces._replace(constants=pieces.constants.replace(titles=titled)), moved, reader, titled)


def loss_of(pieces: Pieces) -> Any:
    """The loss of two batches."""
    batches = [jax.tree.map(jnp.asarray, pieces.batches[number]) for number in (0, 1)]

    def loss(params: Any) -> Any:
        each = [
            batch_loss(pieces.model, params, batch, pieces.constants, Objective(), jnp.int32(1)).sum()
            for batch in batches
        ]
        return jnp.stack(each).sum()

    return jax.jit(jax.value_and_grad(loss))


def test_what_comes_together_is_the_gradient_of_the_layers(parts: Parts) -> None:
    loss, reader, trained = loss_of(parts.pieces), parts.reader, parts.params[TEXT]
    _, slope = loss(parts.with_vectors(trained))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(slope[TEXT]["trained"]))
    gradient = reader.gradient(trained, np.asarray(slope[TEXT]["vectors"]))
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))
    random = np.random.default_rng(1)
    step = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), jnp.float32), trained)

    def at(by: float) -> float:
        moved = jax.tree.map(lambda x, d: x + by * d, trained, step)
        return float(loss(parts.with_vectors(moved))[0])

    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float((g * d).sum()), gradient, step)))
    assert along == pytest.approx((at(1e-2) - at(-1e-2)) / 2e-2, rel=0.02, abs=0.02)


def test_steps_gather_gradients_and_a_renewal_takes_one_step_with_their_sum(parts: Parts) -> None:
    pieces, reader, tx = parts.pieces, parts.reader, optax.sgd(0.5)
    trained = parts.params[TEXT]
    params = parts.with_vectors(trained)
    both = optimizer(0.0, 0.0, text=tx)
    state = init_state(params, both)
    slopes = jax.tree.map(jnp.zeros_like, params)
    slopes[TEXT]["vectors"] = jnp.asarray(
        np.random.default_rng(2).normal(size=params[TEXT]["vectors"].shape), jnp.float32
    )
    moved = state
    for _ in range(2):
        updates, kept = both.update(slopes, moved.optimizer, moved.params)
        moved = moved.replace(params=optax.apply_updates(moved.params, updates), optimizer=kept)
    jax.tree.map(np.testing.assert_array_equal, moved.params[TEXT], params[TEXT])

    renewed = Renewal(reader, tx)(moved)
    expected = reader.gradient(trained, 2.0 * np.asarray(slopes[TEXT]["vectors"]))
    expected = jax.tree.map(lambda x, g: x - 0.5 * g, trained, expected)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        renewed.params[TEXT]["trained"],
        expected,
    )
    vectors = renewed.params[TEXT]["vectors"]
    np.testing.assert_array_equal(vectors, reader.vectors(renewed.params[TEXT]["trained"]))
    np.testing.assert_array_equal(renewed.average[TEXT]["vectors"], vectors)
    assert not np.asarray(renewed.optimizer.inner_states["text"].inner_state.slopes).any()
    items = parts.titled.items(pieces.constants.items, vectors)  # what is scored by
    there, begin = reader.there[: len(items.index)], parts.titled.column
    assert not there[4]  # without a title, and so as it was
    columns = slice(begin, begin + vectors.shape[1])
    np.testing.assert_array_equal(
        np.asarray(items.numeric)[there, columns], np.asarray(vectors)[: len(there)][there]
    )
    np.testing.assert_array_equal(
        np.asarray(items.numeric)[~there], np.asarray(pieces.constants.items.numeric)[~there]
    )
    np.testing.assert_array_equal(
        np.delete(items.numeric, np.s_[columns], 1),
        np.delete(pieces.constants.items.numeric, np.s_[columns], 1),
    )


def test_a_model_that_overflows_is_refused(parts: Parts) -> None:
    tx = optax.sgd(np.inf)
    both = optimizer(0.0, 0.0, text=tx)
    state = init_state(parts.with_vectors(parts.params[TEXT]), both)
    with pytest.raises(InputError, match="no longer finite: lower --text-learning-rate"):
        Renewal(parts.reader, tx)(state)


def test_what_the_language_model_makes_is_what_the_items_have(parts: Parts, world: Path) -> None:
    still = jax.tree.map(jnp.zeros_like, parts.params[TEXT])
    there, begin = parts.reader.there, parts.titled.column
    found = parts.reader.vectors(still)
    numeric = Histories.load(world / "run" / "histories").item_numeric
    np.testing.assert_allclose(found[there], numeric[there, begin : begin + found.shape[1]], atol=1e-3)
    assert not found[~there].any()


def test_computing_again_changes_no_gradient(world: Path, parts: Parts) -> None:
    language = load(world / "bert", max_length=16)
    texts = texts_of(world / "run", Histories.load(world / "run" / "histories"), "title")
    again, _ = reader_of(language, texts, dataclasses.replace(OPTIONS, remat=True), 0)
    again.chunks = parts.reader.chunks
    trained = parts.params[TEXT]
    slopes = np.random.default_rng(3).normal(size=(len(texts), 8)).astype(np.float32)
    one, other = (reader.gradient(trained, slopes) for reader in (parts.reader, again))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), one, other)


def test_it_is_a_group_of_its_own(parts: Parts) -> None:
    groups = groups_of(parts.params)
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
    with pytest.raises(InputError, match="rank=-1: give at least 0"):
        FineTuneOptions(rank=-1)
    backwards = tensors_of(BERT)
    for name, tensor in backwards.items():
        backwards[name] = np.ascontiguousarray(tensor[::-1])
    other = write_folder(tmp_path / "other", BERT, backwards)
    with pytest.raises(InputError, match="are not those that this language model makes"):
        fine_tune(run, other, tmp_path / "out", OPTIONS)
    assert not list(tmp_path.glob("out*"))
