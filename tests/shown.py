"""A small run that has been judged, whose items have titles that a page or a formula could trip over."""

import functools
import shutil
from pathlib import Path
from unittest import mock

import jax
import polars as pl

from jaxdecay import assess
from jaxdecay.protocol import Protocol

TITLE = "<script>alert('{item}')</script> & $x^2$"


def judged(run: Path, out: Path) -> Path:
    """A copy of a run with titles and ``metrics.json``: two baselines, the model without decay left out."""
    shutil.copytree(run, out)
    table = out / "histories" / "items.parquet"
    items = pl.read_parquet(table)
    titles = [TITLE.format(item=item) for item in items["item_id"]]
    items.with_columns(pl.Series("title", titles)).write_parquet(table)
    few = functools.partial(assess.fit_baselines, names=("popularity", "own counts"))
    with jax.numpy_rank_promotion("allow"), mock.patch.object(assess, "fit_baselines", few):
        assess.assess(out, Protocol(ablation=False, bootstrap=20, max_requests=20))
    return out
