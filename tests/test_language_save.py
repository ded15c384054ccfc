"""A language model written into a folder is the one that is read from it."""

import json
import stat
from pathlib import Path

import jax
import numpy as np
import pytest
from language_folders import BERT, tensors_of, write_folder

from jaxdecay.language.load import load
from jaxdecay.language.save import save
from jaxdecay.language.shapes import Pooling


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    random = np.random.default_rng(5)
    kernel = {"linear.weight": random.normal(size=(4, 8)).astype(np.float32)}
    settings = {"in_features": 8, "out_features": 4, "bias": False}
    modules = [
        ("Pooling", {"pooling_mode_mean_tokens": True}, {}),
        ("Dense", settings, kernel),
        ("Normalize", {}, {}),
    ]
    folder = write_folder(tmp_path / "origin", BERT, tensors_of(BERT), modules)
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return folder


def test_a_folder_that_nobody_may_write_to_is_copied_into_one_that_one_may(
    origin: Path, tmp_path: Path
) -> None:
    model = load(origin)
    folders = [origin, *(path for path in origin.rglob("*") if path.is_dir())]
    try:
        for path in folders:
            path.chmod(0o555)
        for path in origin.rglob("*.json"):
            path.chmod(0o444)
        save(model, model.params, origin, tmp_path / "copy")
    finally:
        for path in folders:
            path.chmod(0o755)
    written = [tmp_path / "copy", *(tmp_path / "copy").rglob("*")]
    assert len(written) > 8
    assert all(path.stat().st_mode & stat.S_IWUSR for path in written)


def test_weights_and_what_is_hidden_stay_behind(origin: Path, tmp_path: Path) -> None:
    (origin / "pytorch_model.bin").write_bytes(b"pickle")
    (origin / ".git").mkdir()
    (origin / ".git" / "HEAD").write_text("ref")
    (origin / "README.md").write_text("text")
    model = load(origin)
    save(model, model.params, origin, tmp_path / "copy")
    assert not (tmp_path / "copy" / "pytorch_model.bin").exists()
    assert not (tmp_path / "copy" / ".git").exists()
    assert (tmp_path / "copy" / "README.md").read_text() == "text"


def test_it_is_read_as_it_was(origin: Path, tmp_path: Path) -> None:
    model = load(origin)
    save(model, model.params, origin, tmp_path / "copy")
    copy = load(tmp_path / "copy")
    assert copy.config == model.config
    assert copy.fingerprint == model.fingerprint
    jax.tree.map(np.testing.assert_array_equal, copy.params, model.params)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_what_was_given_when_it_was_loaded_stays(origin: Path, tmp_path: Path, pooling: Pooling) -> None:
    model = load(origin, pooling=pooling, normalise=False, max_length=7)
    save(model, model.params, origin, tmp_path / "copy", prompt="passage")
    copy = load(tmp_path / "copy")
    assert (copy.config.pooling, copy.config.normalise, copy.config.max_length) == (pooling, False, 7)
    assert copy.prompt(None) == "passage: "
    assert copy.fingerprint == model.fingerprint
    save(model, model.params, origin, tmp_path / "bare", prompt="")
    assert load(tmp_path / "bare").prompt(None) == ""
