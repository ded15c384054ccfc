"""Texts encoded once by a language model: in batches of like length, cached, resumable."""

import time
from collections.abc import Callable, Sequence
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
_BATCH_TOKENS = {"cpu": 2_048}  # more leaves a core's cache
_BATCH_TOKENS_ELSEWHERE = 32_768
_SAVE_SECONDS = 10.0
_AHEAD = 2  # batches under way before one is awaited


def embed(
    model: LanguageModel,
    texts: Sequence[str | None],
    *,
    prompt: str | None = None,
    cache: Path | None = None,
    precision: Precision = "float32",
    batch_tokens: int | None = None,
    report: Report | None = None,
) -> pl.Series:
    """A vector of each text, encoded once however often it stands there.

    Args:
        prompt: name of one of the model's prompts; by default the model's own default, if it has one.
        cache: folder of what was encoded before, by the hash of model, prompt, precision and text; what is
            encoded now is added to it every ten seconds, so that a killed run goes on where it stopped.
        precision: of the products of matrices; norms, softmax and the result are float32 in any case.
        batch_tokens: tokens with padding in a batch; by default 2,048 on a processor, 32,768 elsewhere.
        report: called with ``{"text": done, "texts": all}``, and ``{"doing": ...}``.

    Returns n arrays of float32. Null, the empty text and one of blanks alone have no vector: null. A text
    longer than the model reads is cut at its end, as the model's own library does.
    """
    if batch_tokens is not None and batch_tokens < 1:
        raise InputError(f"batch_tokens={batch_tokens}: give 1 or more")
    width = model.config.width
    wanted = list(dict.fromkeys(text for text in texts if text is not None and text.strip()))
    before = model.prompt(prompt)
    store = TextCache(cache, _space(model, before, precision), width) if cache is not None else None
    hashes = keys(wanted)
    known = store.read() if store else {}
    report = report or (lambda line: None)
    if store and store.damaged:
        report({"doing": f"{store.damaged[0]}: damaged, removed and made again; encoding"})
    vectors = np.zeros((len(wanted), width), np.float32)
    rest = []
    for at, key in enumerate(hashes):
        if key in known:
            vectors[at] = known[key]
        else:
            rest.append(at)
    del known
    _encode(
        model, wanted, rest, vectors, before, precision, batch_tokens, report,
        lambda rows: store.write([hashes[row] for row in rows], vectors[rows]) if store else None,
    )  # fmt: skip
    place = {text: at for at, text in enumerate(wanted)}
    rows = pl.Series([None if text is None else place.get(text) for text in texts], dtype=pl.UInt32)
    return pl.Series("vector", vectors, dtype=pl.Array(pl.Float32, width)).gather(rows)


def _encode(
    model: LanguageModel,
    wanted: list[str],
    rest: list[int],
    vectors: np.ndarray,
    before: str,
    precision: Precision,
    batch_tokens: int | None,
    report: Report,
    save: Callable[[list[int]], None],
) -> None:
    """Fills ``vectors[rest]``, and hands rows to ``save`` as they come, also when interrupted."""
    report({"text": len(wanted) - len(rest), "texts": len(wanted)})
    if not rest:
        return
    tokens = batch_tokens or _BATCH_TOKENS.get(jax.default_backend(), _BATCH_TOKENS_ELSEWHERE)
    ids = model.tokens([before + wanted[row] for row in rest])
    params = jax.device_put(model.params)
    run = jax.jit(partial(_vectors, model.config, precision))
    under_way: list[tuple[Batch, jax.Array]] = []
    unsaved: list[int] = []
    saved_at = time.monotonic()

    def await_one() -> None:
        batch, result = under_way.pop(0)
        rows = [rest[row] for row in batch.rows]
        vectors[rows] = np.asarray(result)[: len(rows)]
        if not np.isfinite(vectors[rows]).all():
            raise InputError(
                f"the model gives NaN for {wanted[rows[0]][:40]!r} or another; use --precision float32"
            )
        unsaved.extend(rows)

    done = len(wanted) - len(rest)
    try:
        for batch in batches(ids, tokens=tokens, longest=model.config.body.longest):
            under_way.append((batch, run(params, batch.ids, batch.mask)))
            if len(under_way) > _AHEAD:
                await_one()
                report({"text": done + len(unsaved), "texts": len(wanted)})
            if time.monotonic() - saved_at > _SAVE_SECONDS:
                save(unsaved)
                done, unsaved, saved_at = done + len(unsaved), [], time.monotonic()
        while under_way:
            await_one()
    finally:
        save(unsaved)
    report({"text": len(wanted), "texts": len(wanted)})


def _vectors(config: Any, precision: Precision, params: Any, ids: jax.Array, mask: jax.Array) -> jax.Array:
    one = partial(encode, config, params, dtype=jnp.dtype(precision))
    with jax.default_matmul_precision("float32" if precision == "float32" else "default"):
        return jax.vmap(one)(ids, mask)


def _space(model: LanguageModel, before: str, precision: Precision) -> str:
    """All that a vector depends on but its text."""
    digest = blake2b(f"{model.fingerprint} {precision} {before}".encode(), digest_size=16)
    return digest.hexdigest()
