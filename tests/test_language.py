"""Language models against NumPy in float64, whole and in parts, and every folder that is refused."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import language_oracles as oracle
import numpy as np
import pytest
from language_folders import (
    BERT,
    BOTH_WAYS,
    GEMMA2,
    GEMMA3,
    QWEN3,
    SPECIAL,
    VOCABULARY,
    WORDS,
    tensors_of,
    write_folder,
)
from safetensors.numpy import save_file

from jaxdecay.errors import InputError
from jaxdecay.language import encoder, lora
from jaxdecay.language.layers import attend
from jaxdecay.language.load import LanguageModel, load
from jaxdecay.language.pooling import unit

IDS = [2, 5, 9, 7, 4, 3]
KINDS = {"bert": BERT, "qwen3": QWEN3, "gemma2": GEMMA2, "gemma3": GEMMA3, "both ways": BOTH_WAYS}
MEAN = ("Pooling", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, None)


def padded(ids: list[int], width: int = 9) -> tuple[jax.Array, jax.Array]:
    """A text on the left of its row, and garbage behind it."""
    row = np.full(width, 6, np.int32)
    row[: len(ids)] = ids
    return jnp.array(row), jnp.arange(width) < len(ids)


encode = jax.jit(encoder.encode, static_argnums=0)


def whole(model: LanguageModel, ids: jax.Array, mask: jax.Array) -> jax.Array:
    return encode(model.config, model.params, ids, mask)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LanguageModel]:
    folder = tmp_path_factory.mktemp("models")
    return {name: load(write_folder(folder / name, one, tensors_of(one))) for name, one in KINDS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole BERT folder; copy it before changing it."""
    return write_folder(tmp_path_factory.mktemp("whole") / "bert", BERT, tensors_of(BERT), [MEAN])


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


@pytest.mark.parametrize("name", KINDS)
def test_tokens_are_those_of_the_independent_implementation(
    models: dict[str, LanguageModel], name: str
) -> None:
    model, config = models[name], KINDS[name]
    tensors = tensors_of(config)
    expected = (oracle.bert if name == "bert" else oracle.decoder)(tensors, config, IDS)
    ids, mask = padded(IDS)
    found = jax.jit(partial(encoder.body(model.config).apply))({"params": model.params}, ids, mask)
    np.testing.assert_allclose(found[: len(IDS)], expected, atol=2e-5)
    last = name in ("qwen3", "gemma2", "gemma3")  # causal: their last token has seen all
    pooled = expected[-1] if last else expected.mean(0)
    vector = whole(model, ids, mask)
    np.testing.assert_allclose(vector, pooled / np.linalg.norm(pooled), atol=5e-6)


@pytest.mark.parametrize("name", KINDS)
def test_two_parts_make_the_whole(models: dict[str, LanguageModel], name: str) -> None:
    """And the upper part needs no parameter of the lower one."""
    model = models[name]
    ids, mask = padded(IDS)
    hidden = jax.jit(partial(encoder.lower, model.config, layers=1))(model.params, ids, mask)
    kept = {name: one for name, one in model.params.items() if name in ("layer_1", "norm")}
    found = jax.jit(partial(encoder.upper, model.config, layers=1))(kept, hidden, mask)
    np.testing.assert_allclose(found, whole(model, ids, mask), atol=1e-6)


def test_roberta_counts_places_behind_the_padding_token(tmp_path: Path) -> None:
    config = {**BERT, "model_type": "roberta", "pad_token_id": 3, "type_vocab_size": 1}
    tensors = tensors_of({**config, "model_type": "bert"})
    named = {f"roberta.{name}": one for name, one in tensors.items()}
    model = load(write_folder(tmp_path / "m", config, named))
    ids, mask = padded(IDS)
    expected = oracle.bert(tensors, config, IDS, first=4).mean(0)
    np.testing.assert_allclose(whole(model, ids, mask), expected / np.linalg.norm(expected), atol=5e-6)
    assert model.config.max_length == BERT["max_position_embeddings"] - 4


def test_dense_layers_and_pooling_of_a_sentence_transformers_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=(5, 8)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    square = rng.normal(size=(3, 5)).astype(np.float32)
    tanh, plain = "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"
    modules = [
        ("Pooling", {"pooling_mode": "cls", "embedding_dimension": 8}, None),
        (
            "Dense",
            {"in_features": 8, "out_features": 5, "bias": True, "activation_function": tanh},
            {"linear.weight": weight, "linear.bias": bias},
        ),
        (
            "Dense",
            {"in_features": 5, "out_features": 3, "bias": False, "activation_function": plain},
            {"linear.weight": square},
        ),
    ]
    model = load(write_folder(tmp_path / "m", BERT, tensors_of(BERT), modules))
    assert (model.config.width, model.config.normalise) == (3, False)
    first = oracle.bert(tensors_of(BERT), BERT, IDS)[0]
    expected = square @ np.tanh(weight @ first + bias)
    np.testing.assert_allclose(whole(model, *padded(IDS)), expected, atol=1e-5)


def test_weights_in_bfloat16_half_and_shards_are_the_same_numbers(folder: Path, copied: Path) -> None:
    tensors = tensors_of(BERT)
    names = sorted(tensors)
    (copied / "model.safetensors").unlink()
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for name, inside in shards.items():
        kind = jnp.bfloat16 if name[0] == "a" else np.float16
        save_file({f"bert.{one}": tensors[one].astype(kind) for one in inside}, copied / name)
    places = {f"bert.{one}": name for name, inside in shards.items() for one in inside}
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = load(copied).params["layer_1"]["up"]
    exact = {
        "kernel": "encoder.layer.1.intermediate.dense.weight",
        "bias": "encoder.layer.1.intermediate.dense.bias",
    }
    for ours, theirs in exact.items():
        kind = jnp.bfloat16 if places[f"bert.{theirs}"][0] == "a" else np.float16
        rounded = tensors[theirs].astype(kind).astype(np.float32)
        np.testing.assert_array_equal(found[ours], rounded.T)
        assert found[ours].dtype == np.float32


def test_padding_changes_nothing_and_has_no_gradient(models: dict[str, LanguageModel]) -> None:
    model = models["bert"]
    ids, mask = padded(IDS)
    exact, all_true = jnp.array(IDS), jnp.ones(len(IDS), bool)
    np.testing.assert_allclose(whole(model, ids, mask), whole(model, exact, all_true), atol=1e-6)
    hidden = jax.random.normal(jax.random.key(0), (len(ids), model.config.body.width))

    def first(x: jax.Array) -> jax.Array:
        return encoder.upper(model.config, model.params, x, mask, layers=1)[0]

    slope = np.asarray(jax.jit(jax.grad(first))(hidden))
    assert np.abs(slope[: len(IDS)]).min(axis=1).max() > 0
    np.testing.assert_array_equal(slope[len(IDS) :], 0.0)


@pytest.mark.parametrize("name", ["qwen3", "gemma2"])
def test_a_causal_token_has_no_gradient_towards_later_ones(
    models: dict[str, LanguageModel], name: str
) -> None:
    model = models[name]
    ids, mask = padded(IDS)
    hidden = jax.random.normal(jax.random.key(0), (len(ids), model.config.body.width))
    module: Any = encoder.body(model.config)

    def third(x: jax.Array) -> jax.Array:
        return module.apply({"params": model.params}, x, mask, 1, method="upper")[2].sum()

    slope = np.abs(jax.jit(jax.grad(third))(hidden)).sum(1)
    assert slope[:3].all()
    np.testing.assert_array_equal(slope[3:], 0.0)


def test_a_row_of_padding_gives_nought_and_finite_gradients(models: dict[str, LanguageModel]) -> None:
    model = models["bert"]
    ids, mask = jnp.zeros(4, jnp.int32), jnp.zeros(4, bool)
    summed = jax.value_and_grad(lambda p: encoder.encode(model.config, p, ids, mask).sum())
    value, slope = jax.jit(summed)(model.params)
    assert value == 0.0
    assert all(np.isfinite(one).all() for one in jax.tree.leaves(slope))


def test_long_texts_take_turns_to_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    query, key, value = (jnp.array(rng.normal(size=shape)) for shape in ((7, 2, 2, 3), (7, 2, 3), (7, 2, 3)))
    visible = jnp.tril(jnp.ones((7, 7), bool))

    def both(query: jax.Array) -> tuple[jax.Array, jax.Array]:
        squares = jax.value_and_grad(lambda q: (attend(q, key, value, visible, scale=0.5) ** 2).sum())
        return jax.jit(squares)(query)

    at_once = both(query)
    monkeypatch.setattr("jaxdecay.language.layers._LONG", 4)
    monkeypatch.setattr("jaxdecay.language.layers._BLOCK", 3)
    for one, other in zip(at_once, both(query), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_bfloat16_and_recomputation_are_close_and_have_the_same_gradient(
    models: dict[str, LanguageModel],
) -> None:
    model = models["bert"]
    ids, mask = padded(IDS)
    exact = whole(model, ids, mask)
    rough = jax.jit(partial(encoder.encode, model.config, dtype=jnp.bfloat16))(model.params, ids, mask)
    assert rough.dtype == jnp.float32
    assert float(exact @ rough) > 0.999
    assert not np.array_equal(exact, rough)

    def slope(remat: bool) -> Any:
        first = jax.grad(lambda p: encoder.encode(model.config, p, ids, mask, remat=remat)[0])
        return jax.jit(first)(model.params)

    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), slope(False), slope(True))


def test_adapters_begin_as_nothing_and_train_alone(models: dict[str, LanguageModel]) -> None:
    model = models["qwen3"]
    ids, mask = padded(IDS)
    adapters = lora.init(model.params, jax.random.key(0), rank=2, start=1)
    assert set(adapters) == {"layer_1"}
    assert set(adapters["layer_1"]["attention"]) == {"query", "value"}
    assert adapters["layer_1"]["attention"]["value"]["a"].shape == (8, 2)
    every = lora.init(model.params, jax.random.key(0), rank=2, names=None)
    assert len(jax.tree.leaves(every)) == 2 * 2 * 7
    merged = lora.merge(model.params, adapters)
    np.testing.assert_array_equal(encode(model.config, merged, ids, mask), whole(model, ids, mask))

    @jax.jit
    @jax.grad
    def slopes(adapters: Any) -> jax.Array:
        return encoder.encode(model.config, lora.merge(model.params, adapters), ids, mask)[0]

    slope = slopes(adapters)["layer_1"]["attention"]["query"]
    np.testing.assert_array_equal(slope["a"], 0.0)  # as long as b is 0
    assert np.abs(slope["b"]).max() > 0
    with pytest.raises(InputError, match="rank=0"):
        lora.init(model.params, jax.random.key(0), rank=0)


def test_unit_of_nought_is_nought_and_hides_no_nan() -> None:
    value, slope = jax.value_and_grad(lambda x: unit(x).sum())(jnp.zeros(3))
    assert value == 0.0
    np.testing.assert_array_equal(slope, 0.0)
    assert np.isnan(unit(jnp.array([1.0, np.nan, 2.0]))).all()


def test_the_tokenizers_own_padding_and_truncation_give_way(models: dict[str, LanguageModel]) -> None:
    """The file pads to 7 and cuts at 5; the model reads 16."""
    short, long = models["bert"].tokens(["Red lamp", "red " * 40])
    assert short.tolist() == [2, 4, 7, 3]
    assert long.tolist() == [2, *[4] * 14, 3]


def test_an_old_folder_with_a_list_of_words_reads_alike(copied: Path) -> None:
    listed = json.loads((copied / "tokenizer.json").read_text())["model"]["vocab"]
    (copied / "vocab.txt").write_text("\n".join(sorted(listed, key=listed.get)) + "\n")
    (copied / "tokenizer.json").unlink()
    assert [ids.tolist() for ids in load(copied).tokens(["Red lamp"])] == [[2, 4, 7, 3]]
    (copied / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert [ids.tolist() for ids in load(copied).tokens(["Red lamp"])] == [[2, 1, 7, 3]]


# Folders that are refused: what is changed, and words of the line that it gets

CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "other architecture": ({"model_type": "t5"}, r"'t5' is not known; known are bert, .*gemma3_text"),
    "no architecture": ({"model_type": None}, "model_type is missing"),
    "no width": ({"hidden_size": None}, "hidden_size is missing"),
    "width in words": ({"hidden_size": "8"}, "hidden_size '8' is no whole number"),
    "heads": ({"num_attention_heads": 3}, "hidden_size 8 is no multiple of 3 heads"),
    "activation": ({"hidden_act": "softplus"}, "hidden_act 'softplus' is not known"),
    "positions": ({"position_embedding_type": "relative_key"}, "only absolute positions"),
    "one layer less": ({"num_hidden_layers": 1}, r"encoder\.layer\.1\..* has no place"),
    "one layer more": ({"num_hidden_layers": 3}, r"encoder\.layer\.2\..*missing"),
    "width": (
        {"intermediate_size": 24},
        r"0\.intermediate\.dense\.weight has shape \[12, 8\], but config\.json asks for \[24, 8\]",
    ),
    "vocabulary": ({"vocab_size": 40}, r"knows 20 tokens, but the model's table has 40 rows"),
    "named otherwise": (
        {"architectures": ["RobertaModel"]},
        "model_type is 'bert', but architectures names RobertaModel",
    ),
    "layers without end": ({"num_hidden_layers": 10**7}, "num_hidden_layers is beyond 1000"),
    "no place left": (
        {"model_type": "roberta", "pad_token_id": 15},
        "positions begin behind pad_token_id 15, but there are only 16",
    ),
    "small table": ({"vocab_size": 10}, r"knows 20 tokens, but the model's table has 10 rows"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_config_that_does_not_fit_is_refused(copied: Path, name: str) -> None:
    change, words = CHANGES[name]
    (copied / "config.json").write_text(json.dumps({**BERT, **change}))
    refused(copied, words)


def refused(folder: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def tensor(name: str, value: Any) -> Callable[[Path], object]:
    """Replaces a tensor, or leaves it out."""

    def change(folder: Path) -> None:
        tensors = {**tensors_of(BERT), name: value}
        save_file({key: one for key, one in tensors.items() if one is not None}, folder / "model.safetensors")

    return change


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def tokenizing(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Changes what stands in tokenizer.json."""

    def changed(folder: Path) -> None:
        path = folder / "tokenizer.json"
        told = json.loads(path.read_text())
        change(told)
        path.write_text(json.dumps(told))

    return changed


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


WORD = "embeddings.word_embeddings.weight"
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (gone("config.json"), r"config\.json: is missing"),
    "damaged config": (text("config.json", '{"model_type": '), r"config\.json: cannot be read"),
    "a list for a config": (text("config.json", "[]"), "holds no JSON object"),
    "no tensors": (gone("model.safetensors"), r"model\.safetensors: is missing; save"),
    "a pickle": (pickled, r"pytorch_model\.bin is a pickle, which is never opened"),
    "cut short": (cut, r"model\.safetensors: is cut short or no safetensors file .*bytes\)"),
    "empty": (text("model.safetensors", ""), "is cut short or no safetensors file"),
    "no safetensors": (text("model.safetensors", "hello hello hello"), "is cut short or no safetensors file"),
    "missing tensor": (tensor(WORD, None), rf"tensor {WORD} is missing"),
    "shape": (
        tensor(WORD, np.zeros((3, 8), np.float32)),
        rf"{WORD} has shape \[3, 8\], but .* \[{VOCABULARY}, 8\]",
    ),
    "turned": (
        tensor("encoder.layer.0.output.dense.weight", np.zeros((12, 8), np.float32)),
        r"has shape \[12, 8\], but config\.json asks for \[8, 12\]",
    ),
    "whole numbers": (tensor(WORD, np.zeros((VOCABULARY, 8), np.int64)), "holds I64, known are F32"),
    "NaN": (tensor(WORD, np.full((VOCABULARY, 8), np.nan, np.float32)), "holds NaN or infinite"),
    "left over": (tensor("decoder.weight", np.zeros(2, np.float32)), r"decoder\.weight has no place"),
    "no tokenizer": (gone("tokenizer.json"), r"tokenizer\.json: is missing"),
    "damaged tokenizer": (text("tokenizer.json", "{}"), r"tokenizer\.json: is damaged"),
    "no marks": (
        tokenizing(lambda told: told.update(post_processor=None)),
        "puts no marks at both ends of a text, which bert models need",
    ),
    "a word less": (
        tokenizing(lambda told: told["model"]["vocab"].pop("usb")),
        "knows 19 tokens, but the model's table has 20 rows",
    ),
    "other words": (
        text("vocab.txt", "\n".join([*SPECIAL, *WORDS[::-1]])),
        r"tokenizer\.json: 'usb' is token 19, but vocab\.txt beside it has it in line 5",
    ),
    "an index of nothing": (
        lambda folder: (
            gone("model.safetensors")(folder),
            text("model.safetensors.index.json", '{"weight_map": {}}')(folder),
        ),
        "names no files by tensor",
    ),
    "a config without end": (text("config.json", "[" * 200_000), r"config\.json: cannot be read"),
    "a length in words": (
        text("sentence_bert_config.json", '{"max_seq_length": "256"}'),
        "max_seq_length '256' is no number",
    ),
    "damaged modules": (text("modules.json", "{}"), "holds no JSON array"),
    "no pooling": (text("modules.json", "[]"), "names no Pooling"),
    "other module": (
        text("modules.json", '[{"path": "", "type": "x.Transformer"}, {"path": "1", "type": "x.LSTM"}]'),
        r"module 1 \(LSTM\) is not known",
    ),
    "other pooling": (
        text("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}'),
        "pooling_mode_max_tokens is not known",
    ),
    "two poolings": (
        text("1_Pooling/config.json", '{"pooling_mode": "mean+cls"}'),
        r"'mean\+cls' is not known",
    ),
    "prompts": (text("config_sentence_transformers.json", '{"prompts": ["a"]}'), "no texts by name"),
    "default prompt": (
        text("config_sentence_transformers.json", '{"default_prompt_name": "query"}'),
        "'query' is not among the prompts",
    ),
    "default prompts": (
        text("config_sentence_transformers.json", '{"prompts": {"q": ""}, "default_prompt_name": ["q"]}'),
        r"\['q'\] is not among the prompts",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_folder_that_is_damaged_is_refused(copied: Path, name: str) -> None:
    change, words = FAULTS[name]
    change(copied)
    refused(copied, words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rope_scaling": "yarn", "rope_theta": None}, "rope_scaling 'yarn' is no object"),
        ({"layer_types": [["full_attention"], "full_attention"]}, "layer_types must name"),
    ],
)
def test_a_decoders_config_that_is_damaged_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    refused(write_folder(tmp_path / "m", {**QWEN3, **change}, {}), words)


def test_words_that_end_lines_or_stand_twice_are_counted_as_the_tokenizer_counts_them(copied: Path) -> None:
    listed = [*SPECIAL, *WORDS]
    listed[5], listed[6] = "\u2028", listed[4]  # of a word that stands twice the last place counts

    def change(told: dict[str, Any]) -> None:
        told["model"]["vocab"] = {word: i for i, word in enumerate(listed)}

    tokenizing(change)(copied)
    (copied / "vocab.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    assert load(copied).tokens([WORDS[0]])[0].tolist() == [2, 6, 3]


def test_a_text_that_the_tokenizer_cannot_read_is_refused(copied: Path) -> None:
    tokenizing(lambda told: told["model"].update(unk_token="[NOPE]"))(copied)
    tokens = load(copied).tokens
    assert tokens(["red lamp"])[0].tolist() == [2, 4, 7, 3]
    with pytest.raises(InputError, match=r"tokenizer\.json: cannot read a text \(.*; copy the tokenizer"):
        tokens(["red elephants"])


def test_a_folder_that_is_not_there_and_lengths_are_refused(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "none", "there is no such folder")
    for length in (2, 17):
        with pytest.raises(InputError, match=f"max_length={length}: .* from 3 to 16"):
            load(folder, max_length=length)
    assert load(folder, max_length=5).tokens(["red " * 9])[0].tolist() == [2, 4, 4, 4, 3]


def test_prompts_are_read(copied: Path) -> None:
    prompts = {"prompts": {"query": "usb ", "document": ""}, "default_prompt_name": "query"}
    (copied / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    model = load(copied)
    assert [model.prompt(name) for name in (None, "query", "document", "")] == ["usb ", "usb ", "", ""]
    with pytest.raises(
        InputError, match="prompt 'other' is not known to the model; known are query, document"
    ):
        model.prompt("other")


def test_the_fingerprint_is_of_all_that_a_vector_depends_on(folder: Path, copied: Path) -> None:
    before = load(folder).fingerprint
    assert load(copied).fingerprint == before
    assert len({before, load(folder, max_length=9).fingerprint, load(folder, pooling="cls").fingerprint}) == 3
    tensor("embeddings.LayerNorm.bias", np.ones(8, np.float32))(copied)
    assert load(copied).fingerprint != before
