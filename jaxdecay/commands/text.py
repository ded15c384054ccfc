"""``jaxdecay embed``: columns of text as vectors."""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import tyro

from jaxdecay.commands import Command
from jaxdecay.data.checks import require_column
from jaxdecay.data.datasets import cache_folder
from jaxdecay.data.formats import PARQUET_SUFFIXES, collect, column_names, open_table, with_types
from jaxdecay.embed import Encoder, Precision, embed
from jaxdecay.errors import InputError
from jaxdecay.language.load import load
from jaxdecay.language.shapes import Pooling
from jaxdecay.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Embed(Command):
    """Adds to a table of items the vectors that a pre-trained language model makes of their texts.

    Every column of text becomes one of vectors, title_vector of title, or several become one with --join.
    jaxdecay prepare takes such columns as inputs of the model. Null and blank texts have no vector (null).
    What was encoded is kept in a cache, so that the same command goes on after an interruption, and a text
    is never encoded twice.
    """

    items: tyro.conf.Positional[Path]
    """Table: Parquet, CSV, TSV or a MovieLens :: file."""
    model: Path
    """Folder of the language model, as Hugging Face writes it: config.json, model.safetensors,
    tokenizer.json."""
    out: Path
    """Parquet file to write: the table with the vectors, whole or not at all."""
    columns: tuple[str, ...] = ("title",)
    """Columns of text."""
    join: bool = False
    """Make one text of the columns, in their order with ", " between, a column of its own, and one column of
    vectors."""
    overwrite: bool = False
    """Replace a file at --out."""
    cache: Path | None = None
    """Folder of what was encoded; by default one in the user's cache."""
    prompt: str | None = None
    """Name of one of the model's prompts, which stands before each text, or "" for none; by default the
    model's own default."""
    pooling: Pooling | None = None
    """How a text's tokens become one vector; by default what the model's folder says."""
    max_length: int | None = None
    """Most tokens of a text; what is longer is cut. By default what the model's folder says."""
    batch_tokens: int | None = None
    """Tokens in a batch; by default 2048 on a processor, 32768 elsewhere."""
    precision: Precision = "float32"
    """Of the products of matrices."""

    def perform(self) -> dict[str, Any]:
        self._check_out()
        frame = self._read()
        texts = self._texts(frame)
        made = [f"{name}_vector" for name in texts] + [name for name in texts if name not in self.columns]
        clash = [name for name in made if name in frame.columns]
        if clash:
            raise InputError(f"{self.items}: has a column {clash[0]!r} already; rename it, or leave it out")
        model = load(self.model, pooling=self.pooling, max_length=self.max_length)
        encoder = Encoder(model, prompt=self.prompt, precision=self.precision, batch_tokens=self.batch_tokens)
        found = {}
        for name, column in texts.items():
            with Progress() as progress:
                vectors = embed(encoder, column, cache=self.cache or cache_folder() / "text", report=progress)
            found[name] = vectors.alias(f"{name}_vector")
        joined = [pl.Series(name, column, pl.String) for name, column in texts.items() if self.join]
        self._write(frame.with_columns(*joined, *found.values()))
        return {
            "written": str(self.out),
            "rows": frame.height,
            "width": model.config.width,
            "columns": {one.name: {"missing": one.null_count()} for one in found.values()},
            "model": {"folder": str(self.model), "fingerprint": model.fingerprint},
        }

    def show(self, result: dict[str, Any]) -> None:
        for name, column in result["columns"].items():
            missing = f", {column['missing']} without a text" if column["missing"] else ""
            print(f"{name}: {result['rows']} rows, vectors of {result['width']} numbers{missing}")
        print(f"{result['written']}; next: jaxdecay prepare EVENTS --items {result['written']} --out DIR")

    def _check_out(self) -> None:
        if self.out.suffix.lower() not in PARQUET_SUFFIXES:
            raise InputError(f"--out {self.out}: vectors need Parquet; give a name that ends in .parquet")
        if self.out.exists() and not self.overwrite:
            raise InputError(f"{self.out}: is there already; give another --out, or --overwrite")
        if not self.out.absolute().parent.is_dir():
            raise InputError(f"{self.out}: there is no such folder; make it, or give another --out")

    def _read(self) -> pl.DataFrame:
        table = open_table(self.items)
        names = column_names(table)
        for name in self.columns:
            require_column(table.name, names, name, "correct --columns")
        if not self.columns:
            raise InputError("--columns: is empty; name columns of text")
        ids = ("user_id", "item_id")
        texts = [name for name in self.columns if name not in ids]  # a title may be a number, such as 1984
        return collect(table, with_types(table, table.frame, ids=ids, texts=texts))

    def _texts(self, frame: pl.DataFrame) -> dict[str, list[str | None]]:
        """Texts by the name that their vectors get."""
        columns: dict[str, pl.Series] = {}
        for name in dict.fromkeys(self.columns):
            column = frame[name]
            if column.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
                raise InputError(
                    f"{self.items}: column {name!r} holds {column.dtype}, no text; write it as text, or name "
                    "another with --columns"
                )
            columns[name] = column.cast(pl.String)
        if not self.join:
            return {name: column.to_list() for name, column in columns.items()}
        filled = [pl.when(one.str.strip_chars() != "").then(one) for one in columns.values()]
        joined = pl.select(pl.concat_str(filled, separator=", ", ignore_nulls=True)).to_series()
        return {"_".join(columns): joined.to_list()}

    def _write(self, frame: pl.DataFrame) -> None:
        partial = self.out.with_name(f".{self.out.name}.{secrets.token_hex(4)}.partial")
        try:
            frame.write_parquet(partial)
            os.replace(partial, self.out)
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise InputError(
                f"{self.out}: cannot be written ({reason}); nothing is left of it, and what was encoded is"
                " kept: free some space or give another --out"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
