"""Texts encoded once: batches, the cache, the command, and the real model where it can be had."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import language_oracles as oracle
import numpy as np
import polars as pl
import pytest
import text_model
from language_folders import BERT, QWEN3, tensors_of, write_folder
from lines import Said
from safetensors.numpy import load_file
from tiny import tiny_events, tiny_items

from jaxdecay.data.histories import Histories
from jaxdecay.data.text_batches import batches, padded_lengths
from jaxdecay.data.text_cache import TextCache, keys
from jaxdecay.embed import Encoder, embed
from jaxdecay.errors import InputError
from jaxdecay.language.load import load

TEXTS = [
    "red lamp",
    None,
    "usb cable for phone",
    "",
    "red lamp",
    "  \n",
    "\U0001f4a1 \u7ea2\u706f",
    "blue " * 90,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("embed") / "model", BERT, tensors_of(BERT))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    """Shared, so that its shapes are compiled once."""
    return Encoder(load(folder))


def vector_of(ids: list[int]) -> np.ndarray:
    mean = oracle.bert(tensors_of(BERT), BERT, ids).mean(0)
    return mean / np.linalg.norm(mean)


# Batches


def test_batches_hold_every_text_once_in_few_shapes() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 70, 5000)
    ids = [rng.integers(5, 99, length).astype(np.int32) for length in lengths]
    seen = np.zeros(len(ids), int)
    shapes, places = set(), 0
    for batch in batches(ids, tokens=512, longest=64 + 6):
        shapes.add(batch.ids.shape)
        places += batch.ids.size
        assert batch.ids.size <= 512
        assert (np.diff(batch.mask.astype(int), axis=1) <= 0).all()  # padding on the right
        for row, inside, mask in zip(batch.rows, batch.ids, batch.mask, strict=False):
            seen[row] += 1
            np.testing.assert_array_equal(inside[mask], ids[row])
        assert not batch.mask[len(batch.rows) :].any()
    assert (seen == 1).all()
    assert len(shapes) <= 9
    assert places < 1.2 * lengths.sum()
    assert not list(batches([], tokens=512, longest=64))


@pytest.mark.parametrize("each", [0, 5, 60, 10_000])
def test_padded_lengths_cost_the_least_of_all(each: int) -> None:
    """Against every choice of lengths there is."""
    rng = np.random.default_rng(each)
    lengths = rng.integers(1, 25, 20)
    edges = np.arange(4, 25, 4)

    def cost(chosen: Sequence[int]) -> float:
        return sum(min(edge for edge in chosen if edge >= one) for one in lengths) + each * len(chosen)

    longest = edges[np.searchsorted(edges, lengths.max())]
    free = [int(edge) for edge in edges if edge < longest]
    choices = [(*some, longest) for n in range(len(free) + 1) for some in combinations(free, n)]
    assert cost(padded_lengths(lengths, each).tolist()) == min(map(cost, choices))


# Vectors and the cache


def test_vectors_are_those_of_the_oracle_and_null_has_none(encoder: Encoder) -> None:
    found = embed(encoder, TEXTS)
    assert found.dtype == pl.Array(pl.Float32, 8)
    assert found.is_null().to_list() == [text is None or not text.strip() for text in TEXTS]
    rows = {0: [2, 4, 7, 3], 2: [2, 19, 8, 11, 9, 3], 4: [2, 4, 7, 3], 6: [2, 1, 1, 3], 7: [2, *[6] * 14, 3]}
    for row, ids in rows.items():
        np.testing.assert_allclose(found[row].to_numpy(), vector_of(ids), atol=5e-6)
    assert embed(encoder, [None, ""]).null_count() == 2
    assert len(embed(encoder, [])) == 0


def test_a_text_without_a_token_has_no_vector(tmp_path: Path) -> None:
    """Only a decoder may have a tokenizer that puts no marks around it."""
    folder = write_folder(tmp_path / "model", QWEN3, tensors_of(QWEN3))
    settings = json.loads((folder / "tokenizer.json").read_text())
    settings |= {
        "post_processor": None,
        "normalizer": {"type": "Replace", "pattern": {"String": "~"}, "content": ""},
    }
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    found = embed(Encoder(load(folder)), ["~", "red lamp"], cache=tmp_path / "cache")
    assert found.is_null().to_list() == [True, False]
    last = oracle.decoder(tensors_of(QWEN3), QWEN3, [4, 7])[-1]
    np.testing.assert_allclose(found[1].to_numpy(), last / np.linalg.norm(last), atol=5e-6)


def test_what_was_encoded_is_read_from_the_cache(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embed(encoder, TEXTS, cache=tmp_path)
    told: list[dict[str, Any]] = []
    asked: list[list[str]] = []
    stream = encoder.stream
    monkeypatch.setattr(encoder, "stream", lambda texts: asked.append(list(texts)) or stream(texts))
    again = embed(encoder, [*TEXTS, "green case"], cache=tmp_path, report=told.append)
    assert asked == [["green case"]]
    assert again[: len(TEXTS)].equals(first)
    assert told == [{"text": 4, "texts": 5}, {"text": 5, "texts": 5}]


def test_a_damaged_file_of_the_cache_is_known_and_made_again(encoder: Encoder, tmp_path: Path) -> None:
    first = embed(encoder, TEXTS, cache=tmp_path)
    (path,) = tmp_path.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # one bit: a vector that would be wrong
    for broken in (bytes(content), bytes(content[:-9]), b""):
        path.write_bytes(broken)
        told: list[dict[str, Any]] = []
        assert embed(encoder, TEXTS, cache=tmp_path, report=told.append).equals(first)
        assert told[0] == {"doing": "1 damaged files of the cache are removed; encoding anew"}
        assert told[1] == {"text": 0, "texts": 4}
        (path,) = tmp_path.rglob("*.parquet")


def test_models_and_prompts_have_caches_apart(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    others = [Encoder(load(folder, pooling="cls")), Encoder(load(folder), precision="bfloat16")]
    assert len({one.fingerprint for one in (encoder, *others)}) == 3
    store = TextCache(tmp_path, encoder.fingerprint, 8)
    store.write(keys(["a"]), np.ones((1, 8), np.float32))
    vectors = np.zeros((2, 8), np.float32)
    assert store.fill(vectors, keys(["b", "a"])).tolist() == [0]
    assert vectors.sum(1).tolist() == [0.0, 8.0]
    assert TextCache(tmp_path, others[0].fingerprint, 8).fill(vectors, keys(["a"])).tolist() == [0]
    narrower = TextCache(tmp_path, encoder.fingerprint, 7)
    assert narrower.fill(vectors[:, :7], keys(["a"])).tolist() == [0]
    assert len(narrower.damaged) == 1


def test_a_vector_that_is_not_finite_is_refused(folder: Path, tmp_path: Path) -> None:
    tensors = tensors_of(BERT)
    tensors["encoder.layer.1.intermediate.dense.bias"][:] = 1e38
    tensors["encoder.layer.1.output.dense.weight"][:] = 1e3
    broken = Encoder(load(write_folder(tmp_path / "model", BERT, tensors)))
    with pytest.raises(InputError, match="overflows at the text 'red lamp'"):
        broken(["red lamp"])


def test_a_cache_that_cannot_be_written_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        embed(encoder, TEXTS, cache=tmp_path / "file" / "cache")


KILLED = """
import os, signal, sys, time
from pathlib import Path
import jaxdecay.embed as module
from jaxdecay.language.load import load
module._SAVE_SECONDS = 0.0
def report(line):
    if line.get("text", 0) >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
encoder = module.Encoder(load(sys.argv[1]), batch_tokens=8)
module.embed(encoder, sys.argv[3:], cache=Path(sys.argv[2]), report=report)
"""


def test_a_killed_run_goes_on_where_it_stopped(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    texts = ["red", "green", "blue", "lamp", "cable", "phone", "case"]
    done = subprocess.run([sys.executable, "-c", KILLED, folder, tmp_path, *texts], cwd=text_root())
    assert done.returncode == -signal.SIGKILL
    told: list[dict[str, Any]] = []
    found = embed(encoder, texts, cache=tmp_path, report=told.append)
    assert not told[0].get("doing")
    assert 1 <= told[0]["text"] < 7
    np.testing.assert_allclose(found.to_numpy(), encoder(texts), atol=1e-6)


def text_root() -> Path:
    return Path(text_model.__file__).parents[1]


# The command


def test_the_command_writes_vectors_that_prepare_takes(
    say: Callable[..., Said], folder: Path, tmp_path: Path
) -> None:
    items = tiny_items().with_columns(name=pl.lit("red lamp"), note=pl.lit(None, pl.String))
    items = items.with_columns(pl.when(pl.int_range(pl.len()) % 2 == 0).then("name").alias("name"))
    items.write_csv(tmp_path / "items.csv")
    tiny_events().write_parquet(tmp_path / "events.parquet")
    out, line = tmp_path / "vectors.parquet", f"--json --model {folder} --cache {tmp_path / 'cache'}"
    said = say("embed", tmp_path / "items.csv", line, "--columns name note", "--out", out)
    assert said.status == 0, said.err
    written = pl.read_parquet(out)
    assert said.json["columns"]["name_vector"] == {"missing": items["name"].null_count()}
    assert written["note_vector"].null_count() == len(items)
    assert written["item_id"].equals(items["item_id"])
    np.testing.assert_allclose(written["name_vector"][0].to_numpy(), vector_of([2, 4, 7, 3]), atol=5e-6)
    join = "--columns name note --join --out"
    joined = say("embed", tmp_path / "items.csv", line, join, tmp_path / "joined.parquet")
    assert joined.json["columns"] == {"name_note_vector": {"missing": items["name"].null_count()}}
    texts = pl.read_parquet(tmp_path / "joined.parquet")["name_note"].to_list()  # for jaxdecay fine-tune
    assert texts == items["name"].fill_null("").to_list()

    prepared = tmp_path / "prepared"
    assert say("prepare", tmp_path / "events.parquet", "--items", out, "--out", prepared).status == 0
    names = Histories.load(prepared).config["features"]["item"]["encoder"]["scaled"]
    assert [one["column"] for one in names if one["kind"] == "Vectors"] == ["name_vector"]


def test_titles_that_are_numbers_are_texts(say: Callable[..., Said], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title,year\n7,1984,1949\n8,2001,1968\n9,,1970\n")
    line = f"--json --model {folder} --cache {tmp_path / 'cache'} --out"
    said = say("embed", tmp_path / "items.csv", line, tmp_path / "out.parquet")
    assert said.status == 0, said.err
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written["title"].to_list() == ["1984", "2001", None]
    assert (written["item_id"].dtype, written["year"].dtype) == (pl.Int64, pl.Int64)
    assert said.json["columns"] == {"title_vector": {"missing": 1}}


def test_the_command_refuses_in_one_line_and_leaves_nothing(
    refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    items = tmp_path / "items.parquet"
    row = {"item_id": 1, "title": "red", "price": 2.0, "text": "a", "text_vector": 1}
    pl.DataFrame([row]).write_parquet(items)
    out, line = tmp_path / "out.parquet", f"--model {folder} --cache {tmp_path / 'cache'} --out"
    faults = {
        "--columns titel": "there is no column 'titel'.*title",
        "--columns price": "column 'price' holds Float64, no text",
        "--columns text": "has a column 'text_vector' already",
        "--prompt query": "prompt 'query' is not known to the model; known are none",
        "--max-length 99": "max_length=99|max-length 99",
        "--batch-tokens 0": "batch.tokens",
        "--pooling max": "pooling",
    }
    for words, expected in faults.items():
        assert_in(expected, refused("embed", items, line, out, words))
    assert_in("no such folder", refused("embed", items, f"--model {tmp_path / 'no'} --out", out))
    assert_in("vectors need Parquet", refused("embed", items, line, tmp_path / "out.csv"))
    assert_in("is there already", refused("embed", items, line, items))
    assert_in("no such file", refused("embed", tmp_path / "none.parquet", line, out))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["items.parquet"]


def assert_in(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


def test_without_the_extra_a_line_says_what_to_install(
    refused: Callable[..., str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pl.DataFrame({"title": ["red"]}).write_parquet(tmp_path / "items.parquet")
    for name in ("tokenizers", "safetensors"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            line = refused(
                "embed", tmp_path / "items.parquet", f"--model {folder} --out", tmp_path / "o.parquet"
            )
        assert line == f"language models need {name}, which is missing: pip install 'jaxdecay[text]'"


# The real model


def test_the_real_model_agrees_with_the_oracle() -> None:
    """On its own tensors, by way of ids that its own vocabulary gives for whole words."""
    try:
        model = text_model.fetch()
    except OSError as error:
        pytest.skip(str(error))
    words = ["a", "red", "lamp", "for", "the", "small", "table"]
    vocabulary = (model / "vocab.txt").read_text(encoding="utf-8").split("\n")
    ids = [vocabulary.index(word) for word in ["[CLS]", *words, "[SEP]"]]
    config = json.loads((model / "config.json").read_text())
    expected = oracle.bert(load_file(model / "model.safetensors"), config, ids).mean(0)
    encoder = Encoder(load(model))
    found = encoder([" ".join(words), "USB cable, two metres", "A small red lamp to stand on a table"])
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=1e-6)
    assert found[0] @ found[2] > 0.7 > 0.4 > found[0] @ found[1]
