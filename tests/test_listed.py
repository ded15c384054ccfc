"""Lists that something else made: scored as said, or refused by row number."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from jaxdecay.data.histories import Histories
from jaxdecay.data.prepare import PrepareOptions, prepare
from jaxdecay.data.requests import Requests, requests
from jaxdecay.data.split import SplitOptions
from jaxdecay.errors import InputError
from jaxdecay.evaluate import evaluate, rank_requests
from jaxdecay.listed import Listed, read_listed

USERS, ITEMS = 4, 30
NAMES = [f"i{item:02}" for item in range(ITEMS)]
"""All occur in training, so that an item's index is its number."""


def events() -> pl.DataFrame:
    """Each user takes eight items of the thirty, and at last item 29, 28, ...: the targets."""
    rows = []
    for user in range(USERS):
        taken = [(user * 8 + i) % ITEMS for i in range(8)] + [27, 29 - user]
        rows += [(f"u{user}", NAMES[item], 86_400 * (user + 4 * day)) for day, item in enumerate(taken)]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("listed") / "prepared"
    prepare(events(), out, PrepareOptions(split=SplitOptions(kind="leave-one-out"), unit="s"))
    return out


@pytest.fixture(scope="module")
def asked(prepared: Path) -> tuple[Histories, Requests]:
    log = Histories.load(prepared)
    assert log.known_items == ITEMS
    return log, requests(log, 2)


def written(folder: Path, rows: list[tuple], columns: str = "user_id item_id rank") -> Path:
    path = folder / "lists.parquet"
    pl.DataFrame(rows, schema=columns.split(), orient="row").write_parquet(path)
    return path


def read(prepared: Path, asked: tuple[Histories, Requests], path: Path) -> Listed:
    return read_listed(path, prepared, asked[1], name="peer", histories=asked[0])


def test_ranks_ties_and_what_is_not_listed(prepared, asked, tmp_path):
    rows = [("u0", "i29", 1), ("u0", "i10", 2)]
    rows += [("u1", "i10", 10), ("u1", "i28", 20), ("u1", "i11", 20), ("u1", "i12", 20), ("u1", "i13", 30)]
    rows += [("u2", f"i{item}", item) for item in range(10, 20)]
    system = read(prepared, asked, written(tmp_path, rows))
    found = rank_requests(system, *asked, exclude_history=False)
    # first; one above and three tied; ten above and twenty tied behind them; no list
    np.testing.assert_array_equal(found, [1, 1 + (3 + 1) / 2, 10 + (20 + 1) / 2, np.inf])
    assert system.settings["requests_without_a_list"] == 1
    assert system.settings["shortest_list"] == 2
    # The order of rows says nothing.
    shuffled = written(tmp_path, rows[::-1])
    np.testing.assert_array_equal(
        rank_requests(read(prepared, asked, shuffled), *asked, exclude_history=False), found
    )


def test_history_is_taken_out_of_a_list(prepared, asked, tmp_path):
    """u0 had items 0 to 7 and 27: its target moves up by those before it."""
    rows = [("u0", name, rank) for rank, name in enumerate(("i00", "i27", "i20", "i29"), 1)]
    system = read(prepared, asked, written(tmp_path, rows))
    assert rank_requests(system, *asked, exclude_history=True)[0] == 2
    assert rank_requests(system, *asked, exclude_history=False)[0] == 4


def test_the_evaluator_judges_lists(prepared, asked, tmp_path):
    rows = [(f"u{user}", f"i{29 - user}", 1) for user in range(3)]
    system = read(prepared, asked, written(tmp_path, rows))
    report = evaluate([system], *asked, k=(1,), exclude_history=False, bootstrap=20)
    assert report.figure("peer", "hr@1").value == 3 / 4
    assert report.to_json()["systems"]["peer"]["uses_time"] is False


def test_several_requests_of_a_user_are_told_apart(prepared, asked, tmp_path):
    log, _ = asked
    both = log.replace(part=np.where(log.part == 1, 2, log.part).astype(np.int8))
    two = requests(both, 2, "successive")
    bare = written(tmp_path, [("u0", "i29", 1)])
    with pytest.raises(InputError, match="has no column 'request', but 4 users have several requests"):
        read_listed(bare, prepared, two, name="peer", histories=both)
    columns = "user_id item_id rank request"
    first, second = two.event[:2].tolist()
    path = written(
        tmp_path, [("u0", "i29", 1, second), ("u0", "i29", 1, first), ("u0", "i27", 2, first)], columns
    )
    system = read_listed(path, prepared, two, name="peer", histories=both)
    assert rank_requests(system, both, two, exclude_history=False)[:2].tolist() == [2, 1]
    wrong = written(tmp_path, [("u0", "i29", 1, second), ("u1", "i29", 1, second)], columns)
    with pytest.raises(InputError, match=r"'request' is no row of that user's events \(row 2\)"):
        read_listed(wrong, prepared, two, name="peer", histories=both)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (
            [("u0", "i29", 1), ("nobody", "i29", 1)],
            r"'user_id' names a user that is not in the log \(row 2\)",
        ),
        ([("u0", "i29", 1), ("u0", "i99", 2), ("u1", "x", 1)], r"'item_id' names an item .* \(rows 2, 3\)"),
        (
            [("u0", "i29", 1), ("u1", "i29", 1), ("u0", "i29", 2)],
            r"names an item twice in one list \(row 3\)",
        ),
        ([("u0", "i29", 0)], r"'rank' is below 1 \(row 1\)"),
        ([("u0", "i29", 1), ("u0", None, 2)], r"'item_id' is empty \(row 2\)"),
        ([("u0", "i29", 1.5)], "'rank' holds Float64; give whole numbers"),
        ([(0.5, "i29", 1)], "user ids hold Float64"),
    ],
)
def test_what_cannot_be_scored_is_refused(prepared, asked, tmp_path, rows, fault):
    path = written(tmp_path, rows)
    with pytest.raises(InputError, match=fault) as refused:
        read(prepared, asked, path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_files_that_hold_no_lists_are_refused(prepared, asked, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(prepared, asked, tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("user_id,item_id,rank")
    with pytest.raises(InputError, match="is no Parquet file"):
        read(prepared, asked, tmp_path / "text.parquet")
    with pytest.raises(InputError, match="has no column 'rank'"):
        read(prepared, asked, written(tmp_path, [("u0", "i29")], "user_id item_id"))


def test_nobody_has_a_list(prepared, asked, tmp_path):
    empty = pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String, "rank": pl.Int64})
    empty.write_parquet(tmp_path / "empty.parquet")
    system = read(prepared, asked, tmp_path / "empty.parquet")
    assert np.isinf(rank_requests(system, *asked)).all()
