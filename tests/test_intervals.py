"""Half-lives kept in the run: as they were, and only while they are those of its parameters."""

import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from jaxdecay import checkpointing
from jaxdecay.errors import InputError
from jaxdecay.intervals import FILE, keep, kept, said

NEVER = float("inf")
FRAME = pl.DataFrame(
    [
        ("revisit", "all", 4.0, 2.0, 8.0, 10, [1.0], [0.25]),
        ("revisit", "slow", 9e4, 1e4, NEVER, 4, [], []),  # beyond a century
        ("similarity", "all", NEVER, None, None, 10, [], []),
        ("popularity", "all", 3.0, None, None, 10, [], []),
    ],
    schema={
        "head": pl.String, "group": pl.String, "half_life_days": pl.Float64, "low": pl.Float64,
        "high": pl.Float64, "events": pl.Int64, "periods_days": pl.List(pl.Float64),
        "widths_days": pl.List(pl.Float64),
    },
    orient="row",
)  # fmt: skip


def test_what_was_kept_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "best_step", lambda run: 30)
    assert kept(tmp_path) is None
    keep(tmp_path, FRAME, said("bootstrap", bootstrap=40, seed=3))
    json.loads((tmp_path / FILE).read_text(), parse_constant=pytest.fail)  # JSON knows no infinity
    found = kept(tmp_path)
    assert found is not None
    assert_frame_equal(found[0], FRAME)
    assert found[1] == "95 %, 40 bootstrap refits over users, seed 3"
    monkeypatch.setattr(checkpointing, "best_step", lambda run: 60)
    assert kept(tmp_path) is None


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"step": 30, "half_lives": [{}], "intervals": "95 %"}'])
def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(checkpointing, "best_step", lambda run: 30)
    (tmp_path / FILE).write_text(text)
    with pytest.raises(InputError, match=r"half_lives\.json: damaged; run jaxdecay half-lives .* again"):
        kept(tmp_path)
