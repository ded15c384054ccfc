"""Texts into token ids, by a folder's own tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay.errors import InputError
from jaxdecay.language.architectures import BERTS
from jaxdecay.language.config import read_fields
from jaxdecay.language.shapes import LanguageConfig

_AGAIN = "copy the tokenizer that belongs to the model"
_ENDS = 2  # [CLS] and [SEP], or <s> and </s>
_SPARE = 0.99
"""Least share of a table's rows that a tokenizer made for it uses: tables are rounded up, by less."""


class Tokens:
    """A tokenizer that is known to fit a model. Ids come with the special tokens, cut to ``max_length``."""

    def __init__(self, folder: Path, config: LanguageConfig) -> None:
        """Reads ``tokenizer.json`` (or ``vocab.txt`` of a BERT model). Raises InputError when it is missing,
        damaged, or does not fit the model."""
        self._path, self._tokenizer = _open(folder, config)
        self._rows, self._lowercase = config.body.vocabulary, config.lowercase
        self.max_length = config.max_length
        _check(self._path, self._tokenizer, self._rows)
        if config.family == "bert":
            _check_words(self._path, self._tokenizer, folder / "vocab.txt")
        self._tokenizer.no_padding()
        special = self._tokenizer.num_special_tokens_to_add(False)
        if config.family in BERTS and special < _ENDS:
            raise InputError(
                f"{self._path}: puts no marks at both ends of a text, which {config.family} models need;"
                f" {_AGAIN}"
            )
        if special >= self.max_length:
            raise InputError(
                f"{self._path}: adds {special} tokens to each text, so that max_length={self.max_length}"
                " leaves none for the text; give a longer one"
            )
        self._tokenizer.enable_truncation(self.max_length)

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """(n,) int32 ids of each text."""
        if self._lowercase:
            texts = [text.lower() for text in texts]
        try:
            encoded = self._tokenizer.encode_batch_fast(list(texts))
        except Exception as error:  # tokenizers raises Exception itself
            fault = " ".join(str(error).split())
            raise InputError(f"{self._path}: cannot read a text ({fault}); {_AGAIN}") from None
        found = [np.array(one.ids, np.int32) for one in encoded]
        for text, ids in zip(texts, found, strict=True):
            if len(ids) and ids.max() >= self._rows:
                raise InputError(
                    f"{self._path}: the text {text[:40]!r} has token {ids.max()}, but the model's table has "
                    f"{self._rows} rows; {_AGAIN}"
                )
        return found

    def fingerprint(self) -> str:
        """All that the ids depend on but the text."""
        return f"{self._tokenizer.to_str()} {self.max_length} {self._lowercase}"


def _open(folder: Path, config: LanguageConfig) -> tuple[Path, Any]:
    try:
        from tokenizers import Tokenizer
        from tokenizers.implementations import BertWordPieceTokenizer
    except ModuleNotFoundError:
        raise InputError(
            "language models need tokenizers, which is missing: pip install 'jaxdecay[text]'"
        ) from None
    path, words = folder / "tokenizer.json", folder / "vocab.txt"
    try:
        if path.exists():
            return path, Tokenizer.from_file(str(path))
        if config.family == "bert" and words.exists():
            # What it wraps is the tokenizer proper.
            return words, BertWordPieceTokenizer(str(words), lowercase=_lowers(folder))._tokenizer
    except Exception as error:  # tokenizers raises Exception itself
        fault = " ".join(str(error).split())
        raise InputError(f"{path if path.exists() else words}: is damaged ({fault}); {_AGAIN}") from None
    raise InputError(f"{path}: is missing; save the tokenizer with save_pretrained, which writes it")


def _lowers(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    return not path.exists() or read_fields(path).flag("do_lower_case", True)


def _check(path: Path, tokenizer: Any, rows: int) -> None:
    """A tokenizer may know special tokens beyond the table, of pictures for instance, as long as no text has
    them."""
    words = tokenizer.get_vocab_size(with_added_tokens=False)
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
    if words > rows or largest < _SPARE * rows:
        raise InputError(
            f"{path}: knows {max(words, largest)} tokens, but the model's table has {rows} rows; {_AGAIN}"
        )


def _check_words(path: Path, tokenizer: Any, words: Path) -> None:
    """Where the words lie beside the tokenizer, both must count them alike."""
    if path == words or not words.exists():
        return
    known = tokenizer.get_vocab(with_added_tokens=True)
    # Not by splitlines: other characters that end a line may be words. Of a word that stands twice the last
    # line counts.
    listed = words.read_text(encoding="utf-8", errors="replace").split("\n")
    for word, i in {word: i for i, word in enumerate(listed)}.items():
        if known.get(word, i) != i:
            raise InputError(
                f"{path}: {word!r} is token {known[word]}, but {words.name} beside it has it in line {i + 1};"
                f" {_AGAIN}"
            )
