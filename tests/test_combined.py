"""A run's own events and a store's: what `jaxdecay update` makes of the same events, and what cannot be read
left out."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tiny import DAY, START

from jaxdecay.data.histories import LIVE, Histories
from jaxdecay.errors import InputError
from jaxdecay.generations import BASE, newest
from jaxdecay.serve.combined import combined
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.store import Delivered
from jaxdecay.update import update

LATER = START + 61 * DAY
ROWS = [
    ("u01", "i03", LATER, "buy", "tv"),
    ("u01", "i03", LATER + 1, "buy", "tv"),
    ("new1", "fresh1", LATER + 5, "view", None),
    ("u00", "fresh2", LATER + 9, "view", "radio"),  # a device that training did not see
    ("new2", "i03", LATER + 9, "buy", "phone"),
    ("u01", "i00", LATER - 30 * DAY, "buy", "tv"),  # late
]
CONTENT: dict[str, dict[str, object]] = {"fresh1": {"genre": "jazz", "price": 3.5}, "fresh2": {"price": 7}}


def store_of(content: dict[str, dict[str, object]]) -> MemoryStore:
    store = MemoryStore()
    store.append(
        [
            Delivered(
                f"e{number}", user, item, at, behaviour, context=json.dumps({"device": device}),
                content=json.dumps(content[item]) if item in content else "",
            )
            for number, (user, item, at, behaviour, device) in enumerate(ROWS)
        ]
    )  # fmt: skip
    return store


def test_it_is_what_an_update_makes_of_the_events(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    found = combined(run, store_of(CONTENT))
    columns = ["user_id", "item_id", "timestamp", "behaviour", "device"]
    items = pl.DataFrame({"item_id": ["fresh1", "fresh2"], "genre": ["jazz", None], "price": [3.5, 7.0]})
    update(run, pl.DataFrame(ROWS, schema=columns, orient="row"), items=items)
    expected = Histories.load(newest(run))
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(getattr(found.histories, name), array, err_msg=name)
    for kind in ("user", "item"):
        there = pl.read_parquet(newest(run) / f"{kind}s.parquet")
        assert found.tables[kind].equals(there)
    assert (found.histories.part == LIVE).sum() == len(ROWS)
    assert found.kept == 40
    own = Histories.load(run / "histories")
    for name in ("item", "time", "part", "context_categorical"):
        np.testing.assert_array_equal(getattr(found.base, name), getattr(own, name))
    assert (found.base.users, found.base.items) == (expected.users, expected.items)


def test_what_is_written_is_read(tiny_run: Path, tmp_path: Path) -> None:
    found = combined(tiny_run, store_of(CONTENT))
    found.write(tmp_path)
    for where, wanted in ((tmp_path, found.histories), (tmp_path / BASE, found.base)):
        there = Histories.load(where, verify=True)
        assert there.events == wanted.events
        assert pl.read_parquet(where / "users.parquet").equals(found.tables["user"])


def test_columns_that_cannot_be_read_are_missing(tiny_run: Path) -> None:
    odd: dict[str, dict[str, object]] = {
        "fresh1": {"genre": ["jazz"], "price": "dear", "unheard": 1},
        "fresh2": {"genre": "jazz"},
    }
    found = combined(tiny_run, store_of(odd))
    assert found.tables["item"].tail(2).select("genre", "price").rows() == [(None, None), ("jazz", None)]
    assert found.report["new_items"] == 2


def test_events_that_cannot_be_read_are_counted(tiny_run: Path) -> None:
    store = store_of(CONTENT)
    store.append([Delivered("x", "u01", "i03", LATER, "steal"), Delivered("y", "u01", "i03", LATER, "buy")])
    found = combined(tiny_run, store)
    assert found.report["skipped"] == 1
    assert found.report["added"] == len(ROWS) + 1
    assert found.number == len(ROWS) + 2


def test_ids_are_of_the_types_of_the_log(tmp_path: Path) -> None:
    histories = Histories.from_arrays(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1, 2, 3]))
    histories.save(tmp_path / "histories")
    for kind in ("user", "item"):
        table = pl.DataFrame({"index": [0, 1], f"{kind}_id": [7, 8]}, schema_overrides={"index": pl.Int32})
        table.write_parquet(tmp_path / "histories" / f"{kind}s.parquet")
    store = MemoryStore()
    ids = ["7", "007", "9", "nobody", "-3"]
    store.append([Delivered(user, user, "8", 9) for user in ids])
    found = combined(tmp_path, store)
    assert found.tables["user"]["user_id"].to_list() == [7, 8, 9, -3]
    assert found.report["skipped"] == 2
    relative = histories.replace(config=histories.config | {"clock": "relative"})
    relative.save(tmp_path / "histories", overwrite=True)
    with pytest.raises(InputError, match="no newest day to judge by; train anew instead"):
        combined(tmp_path, store)
