"""Texts encoded once by a language model: in batches of like length, cached, resumable."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxdecay.data.text_batches import Batch, batches
from jaxdecay.data.text_cache import TextCache, keys
from jaxdecay.errors import InputError
from jaxdecay.language.encoder import encode
from jaxdecay.language.load import LanguageModel

Precision = Literal["float32", "bfloat16"]
Report = Callable[[dict[str, Any]], None]
_BATCH_TOKENS = {"cpu": 2_048}  # more does not fit a core's cache
_BATCH_TOKENS_ELSEWHERE = 32_768
_COMPILING = {"cpu": 4_096}  # tokens encoded in the time that one shape more takes to compile
_COMPILING_ELSEWHERE = 1 << 19
_COMPILING_WARM = 512
_SAVE_SECONDS = 10.0
_AHEAD = 2  # batches under way before one is awaited


class Encoder:
    """A language model on the device, compiled once for each shape of batches.

    ``prompt``: name of one of the model's prompts; by default the model's own default, if it has one.
    ``precision``: of the products of matrices; norms, softmax and the vectors are float32 in any case.
    ``batch_tokens``: tokens with padding in a batch; by default 2,048 on a processor, 32,768 elsewhere.
    ``warm``: whether it will be used so long that compiling costs nothing: more shapes, less padding.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        prompt: str | None = None,
        precision: Precision = "float32",
        batch_tokens: int | None = None,
        warm: bool = False,
    ) -> None:
        if batch_tokens is not None and batch_tokens < 1:
            raise InputError(f"batch_tokens={batch_tokens}: give 1 or more")
        self.width = model.config.width
        self._model, self._prompt = model, model.prompt(prompt)
        device = jax.default_backend()
        self._compiling = _COMPILING_WARM if warm else _COMPILING.get(device, _COMPILING_ELSEWHERE)
        usual = _BATCH_TOKENS.get(device, _BATCH_TOKENS_ELSEWHERE)
        self._batch_tokens = usual if batch_tokens is None else batch_tokens
        self._params = jax.device_put(model.params)
        self._run = jax.jit(partial(_vectors, model.config, precision))
        depends = f"{model.fingerprint} {precision} {self._prompt}"
        self.fingerprint = blake2b(depends.encode(), digest_size=16).hexdigest()
        """Hex digest of all that a vector depends on but its text."""

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32: a vector of each text, 0 for one without a token. A text longer than the model
        reads is cut at its end."""
        vectors = np.zeros((len(texts), self.width), np.float32)
        for rows, some in self.stream(texts):
            vectors[rows] = some
        return vectors

    def stream(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices of some texts and their vectors, batch by batch, the longest texts first.

        Raises InputError when the vector of a text that has tokens is not finite, or 0.
        """
        ids = self._model.tokens([self._prompt + text for text in texts])
        under_way: list[tuple[Batch, jax.Array]] = []
        longest = self._model.config.max_length
        for batch in batches(ids, tokens=self._batch_tokens, longest=longest, compiling=self._compiling):
            under_way.append((batch, self._run(self._params, batch.ids, batch.mask)))
            if len(under_way) > _AHEAD:
                yield self._await(under_way.pop(0), texts)
        for one in under_way:
            yield self._await(one, texts)

    def _await(self, one: tuple[Batch, jax.Array], texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        rows = one[0].rows
        vectors = np.asarray(one[1])[: len(rows)]
        read = one[0].mask[: len(rows)].any(axis=1)
        faulty = read & ~(np.isfinite(vectors).all(axis=1) & vectors.any(axis=1))
        if faulty.any():
            text = texts[rows[faulty.argmax()]][:40]
            raise InputError(f"the model overflows at the text {text!r}; use float32, or another model")
        return rows, vectors


def embed(
    encoder: Encoder,
    texts: Sequence[str | None],
    *,
    cache: Path | None = None,
    report: Report | None = None,
) -> pl.Series:
    """A vector of each text, encoded once however often it stands there.

    Args:
        cache: folder of what was encoded before, by the hash of model, prompt, precision and text; what is
            encoded now is added to it every ten seconds, so that a killed run goes on where it stopped.
        report: called with ``{"text": done, "texts": all}``, and ``{"doing": ...}``.

    Returns n arrays of float32. Null, the empty text, and one of blanks alone or without a token have
    no vector: null.
    """
    report = report or (lambda line: None)
    wanted = list(dict.fromkeys(text for text in texts if text is not None and text.strip()))
    vectors = np.zeros((len(wanted), encoder.width), np.float32)
    store = TextCache(cache, encoder.fingerprint, encoder.width) if cache is not None else None
    hashes = keys(wanted)
    rest = store.fill(vectors, hashes) if store else np.arange(len(wanted))
    if store and store.damaged:
        report({"doing": f"{len(store.damaged)} damaged files of the cache are removed; encoding anew"})
    unsaved: list[int] = []

    def save() -> None:
        if store:
            store.write([hashes[row] for row in unsaved], vectors[unsaved])
        unsaved.clear()

    done, saved_at = len(wanted) - len(rest), time.monotonic()
    report({"text": done, "texts": len(wanted)})
    try:
        for places, some in encoder.stream([wanted[row] for row in rest]):
            vectors[rest[places]] = some
            unsaved.extend(rest[places].tolist())
            done += len(places)
            report({"text": done, "texts": len(wanted)})
            if time.monotonic() - saved_at > _SAVE_SECONDS:
                save()
                saved_at = time.monotonic()
    finally:  # also when interrupted
        save()
    place = {
        text: at
        for at, (text, there) in enumerate(zip(wanted, np.any(vectors, axis=1), strict=True))
        if there
    }
    rows = pl.Series([None if text is None else place.get(text) for text in texts], dtype=pl.UInt32)
    return pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, encoder.width)).gather(rows)


def _vectors(config: Any, precision: Precision, params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
    """(b, width) of a batch. An accelerator would round float32 products unless told not to."""
    one = partial(encode, config, params, dtype=jnp.dtype(precision))
    with jax.default_matmul_precision("float32" if precision == "float32" else "default"):
        return jax.vmap(one)(ids, mask)
