"""From a log to prepared histories, end to end, and what is left behind when it fails: nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdecay.data import store
from jaxdecay.data.anonymise import AnonymiseOptions
from jaxdecay.data.clean import CleanOptions
from jaxdecay.data.context import gives_item_away
from jaxdecay.data.events import Columns
from jaxdecay.data.features import FeatureSpec
from jaxdecay.data.histories import Histories
from jaxdecay.data.prepare import PrepareOptions, prepare
from jaxdecay.data.split import SplitOptions
from jaxdecay.errors import InputError

START = 1_600_000_000
DAY = 86_400


def small() -> pl.DataFrame:
    """Ten events, one a day; "zoe" and item "m" come only at the end."""
    return pl.DataFrame(
        {
            "user_id": ["bob", "amy", "bob", "amy", "bob", "amy", "bob", "amy", "zoe", "amy"],
            "item_id": ["z", "a", "z", "q", "a", "a", "q", "z", "m", "m"],
            "timestamp": [START + day * DAY for day in range(10)],
            "behaviour": ["view", "buy", "view", "view", "buy", "view", "view", "view", "cart", "view"],
            "weight": [float(day) for day in range(10)],
            "device": ["tv", "pc", "pc", "tv", "pc", "pc", "tv", "pc", "tv", "fridge"],
        }
    )


def by_ids(path: Path) -> list[tuple[Any, ...]]:
    """The events of a prepared directory in words."""
    histories = Histories.load(path)
    users = pl.read_parquet(path / "users.parquet")["user_id"].to_list()
    items = pl.read_parquet(path / "items.parquet")["item_id"].to_list()
    columns = (histories.user(), histories.item, histories.time, histories.part)
    return [(users[u], items[i], int(t), int(p)) for u, i, t, p in zip(*columns, strict=True)]


def test_small_log(tmp_path: Path) -> None:
    histories = prepare(small(), tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "users.parquet").to_dict(as_series=False) == {
        "index": [0, 1, 2],
        "user_id": ["amy", "bob", "zoe"],
    }
    assert pl.read_parquet(tmp_path / "out" / "items.parquet").to_dict(as_series=False) == {
        "index": [0, 1, 2, 3],
        "item_id": ["a", "q", "z", "m"],  # "m" is not in the training part
    }
    assert (histories.known_users, histories.known_items) == (2, 3)
    assert histories.offsets.tolist() == [0, 5, 9, 10]
    assert histories.item.tolist() == [0, 1, 0, 2, 3, 2, 2, 0, 1, 3]
    assert ((histories.time - START) // DAY).tolist() == [1, 3, 5, 7, 9, 0, 2, 4, 6, 8]
    assert histories.part.tolist() == [0, 0, 0, 0, 2, 0, 0, 0, 0, 1]
    assert histories.weight.tolist() == [1, 3, 5, 7, 9, 0, 2, 4, 6, 8]
    assert histories.config["behaviours"] == ["buy", "cart", "view"]
    assert histories.behaviour.tolist() == [0, 2, 2, 2, 2, 2, 2, 0, 2, 1]
    assert histories.repeat_share == 2 / 8  # amy's second "a" and bob's second "z"
    assert np.isnan(histories.label).all()
    split = histories.config["split"]
    assert (split["validation_from"], split["test_from"]) == (START + 8 * DAY, START + 9 * DAY)
    assert split["cold_users"] == 1


def test_context_is_encoded_by_the_training_part(tmp_path: Path) -> None:
    histories = prepare(small(), tmp_path / "out")
    context = histories.config["features"]["context"]
    assert context["categorical_names"] == ["device"]
    assert context["cardinalities"] == [3]  # missing or unknown, pc, tv
    codes = histories.context_categorical[:, 0]
    assert codes[4] == 0  # "fridge" is not in the training part
    assert len(set(codes[[0, 2, 3, 6, 7]].tolist())) == 1  # the "pc" events
    assert set(codes.tolist()) == {0, 1, 2}


def test_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    first = prepare(small(), tmp_path / "first")
    second = prepare(small().sample(fraction=1.0, shuffle=True, seed=5), tmp_path / "second")
    assert first.config["fingerprint"] == second.config["fingerprint"]
    changed = prepare(small(), tmp_path / "third", PrepareOptions(split=SplitOptions(test=0.2)))
    assert changed.config["fingerprint"] != first.config["fingerprint"]


rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 20)), min_size=3, max_size=40)


@given(rows, st.sampled_from(["global-time", "leave-one-out", "per-user-time"]))
def test_every_event_arrives_sorted_and_once(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int]], kind: Any
) -> None:
    out = tmp_path_factory.mktemp("prepare") / "out"
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame = frame.with_columns(pl.col("timestamp") + START)
    options = PrepareOptions(split=SplitOptions(kind=kind), clean=CleanOptions(duplicates="keep"))
    try:
        histories = prepare(frame, out, options)
    except InputError:
        assert not list(out.parent.iterdir())
        return
    found = by_ids(out)
    for user in {user for user, _, _ in events}:
        mine = [(item, time) for u, item, time, _ in found if u == user]
        given_order = [(i, START + t) for u, i, t in events if u == user]
        assert mine == sorted(given_order, key=lambda row: row[1])
    trained = {item for _, item, _, part in found if part == 0}
    items = pl.read_parquet(out / "items.parquet")["item_id"].to_list()
    assert items == sorted(trained) + sorted({i for _, i, _ in events} - trained)
    assert histories.known_items == len(trained)


def test_side_tables_given_and_beside_the_log(tmp_path: Path) -> None:
    items = pl.DataFrame(
        {
            "item_id": ["m", "q", "a", "x"],
            "kind": ["new", "old", "old", "rare"],
            "price": [1e6, 3.0, 1.0, 9.0],
        }
    )
    users = pl.DataFrame({"user_id": ["zoe", "bob", "amy"], "age": [90.5, 30.5, 20.5]})
    (tmp_path / "log").mkdir()
    small().write_parquet(tmp_path / "log" / "events.parquet")
    items.write_parquet(tmp_path / "log" / "items.parquet")
    users.write_parquet(tmp_path / "log" / "users.parquet")
    beside = prepare(tmp_path / "log" / "events.parquet", tmp_path / "beside")
    given_ = prepare(small(), tmp_path / "given", items=items, users=users)
    assert beside.config["fingerprint"] == given_.config["fingerprint"]
    assert beside.config["report"]["side_tables"] == {
        "items": "items.parquet",
        "users": "users.parquet",
        "items_without_a_row": 1,
        "items_without_events": 1,
        "users_without_a_row": 0,
        "users_without_events": 0,
    }
    table = pl.read_parquet(tmp_path / "beside" / "items.parquet")
    assert table["item_id"].to_list() == ["a", "q", "z", "m"]
    assert table["price"].to_list() == [1.0, 3.0, None, 1e6]
    features = beside.config["features"]["item"]
    assert features["numeric_names"] == ["price", "price_missing"]
    # mean 2 and deviation 1 over "a" and "q": the training items that have a price, not the dear later item
    np.testing.assert_allclose(beside.item_numeric[:3], [[-1, 0], [1, 0], [0, 1]], atol=1e-6)
    assert beside.config["features"]["user"]["numeric_names"] == ["age"]
    assert beside.user_numeric.shape == (3, 1)


def test_side_tables_by_option_and_csv_log(tmp_path: Path) -> None:
    small().write_csv(tmp_path / "log.csv")
    pl.DataFrame({"item_id": ["a", "z"], "price": [1.0, 2.0]}).write_csv(tmp_path / "goods.csv")
    options = PrepareOptions(items=tmp_path / "goods.csv")
    histories = prepare(str(tmp_path / "log.csv"), str(tmp_path / "out"), options)
    assert histories.config["report"]["side_tables"]["items"] == "goods.csv"
    assert histories.events == 10
    assert str(tmp_path) not in json.dumps(histories.config)


def test_a_column_that_gives_the_item_away_is_no_context(tmp_path: Path) -> None:
    n = 60
    frame = pl.DataFrame(
        {
            "user_id": [i % 4 for i in range(n)],
            "item_id": [i % 3 for i in range(n)],
            "timestamp": [START + i for i in range(n)],
            "category": ["abc"[i % 3] for i in range(n)],
            "device": ["pc" if i % 5 else "tv" for i in range(n)],
        }
    )
    assert gives_item_away(frame, "category") == 1
    assert gives_item_away(frame, "device") == 0
    histories = prepare(frame, tmp_path / "out")
    assert histories.config["features"]["context"]["categorical_names"] == ["device"]
    assert "'category' follows from the item (100%)" in histories.config["report"]["warnings"][0]
    asked = PrepareOptions(columns=Columns(context=("category", "device")))
    histories = prepare(frame, tmp_path / "asked", asked)
    assert histories.config["features"]["context"]["categorical_names"] == ["category", "device"]
    assert "because it was asked for" in histories.config["report"]["warnings"][0]
    named = PrepareOptions(context_features=FeatureSpec({"category": "category"}))
    assert prepare(frame, tmp_path / "named", named).context_categorical.shape == (n, 2)


@pytest.mark.parametrize(
    ("items", "values", "expected"),
    [
        ("aabb", "xxyy", 1),  # two events tell as surely as many
        ("aaaabb", "xxxyyy", (5 / 6 - 1 / 2) / (1 / 2)),  # the y of "a" is not guessed
        ("aaaaa", "xxxyy", (0 - 3 / 5) / (2 / 5)),  # without one of the three there is no most common one
        ("aabbc", "xxyyz", (4 / 4 - 2 / 5) / (3 / 5)),  # "c" has no other event to guess from
        ("abcd", "xyxz", 0),  # nobody can be guessed from
        ("aabb", "xxxx", 0),  # nothing to guess
        ("aabb", [None, None, "x", "x"], 1),
        ("aabb", [["x", "y"], ["x", "y"], ["x"], ["x"]], 1),
        ("aabb", [["x"], ["y"], ["x"], None], (0 - 1 / 2) / (1 / 2)),
        ("aabb", [[1.0, 2.0], [1.0, 2.0], [3.0], [3.0]], 1),
    ],
)
def test_an_event_is_guessed_from_the_others_of_its_item(items: str, values: Any, expected: float) -> None:
    frame = pl.DataFrame({"item_id": list(items), "column": list(values)})
    assert gives_item_away(frame, "column") == pytest.approx(expected)


def test_lists_and_values_of_rare_items_give_the_item_away_too(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    n, item = 90, np.arange(90) % 30  # three events of each item
    frame = pl.DataFrame(
        {
            "user_id": np.arange(n) % 4,
            "item_id": item,
            "timestamp": START + np.arange(n),
            "brand": [f"b{one // 2}" for one in item],
            "tags": [["all", f"t{one % 5}"] for one in item],
            "device": random.choice(["pc", "tv", "car"], n),
            "screens": [["all", one] for one in random.choice(["left", "right"], n)],
        }
    )
    histories = prepare(frame, tmp_path / "out")
    assert histories.config["features"]["context"]["categorical_names"] == ["device", "screens"]
    warnings = histories.config["report"]["warnings"]
    assert [warning.split(" (")[0] for warning in warnings] == [
        "column 'brand' follows from the item",
        "column 'tags' follows from the item",
    ]


def test_k_core_counts_the_training_part_and_keeps_later_ones(tmp_path: Path) -> None:
    options = PrepareOptions(clean=CleanOptions(item_core=3))
    histories = prepare(small(), tmp_path / "out", options)
    # in training: a three times, q twice, z three times; q goes everywhere, m was never counted and stays
    assert pl.read_parquet(tmp_path / "out" / "items.parquet")["item_id"].to_list() == ["a", "z", "m"]
    assert histories.config["report"]["k_core"] == {"users_dropped": 0, "items_dropped": 1, "rows_dropped": 2}
    assert histories.events == 8
    with pytest.raises(InputError, match="no event is left"):
        prepare(small(), tmp_path / "none", PrepareOptions(clean=CleanOptions(user_core=50)))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_anonymised_ids_are_nowhere_in_the_output(tmp_path: Path) -> None:
    salt = tmp_path / "salt"
    options = PrepareOptions(anonymise=AnonymiseOptions(users=True, items=True, salt=salt))
    users = pl.DataFrame({"user_id": ["amy", "bob", "zoe"], "age": [1.5, 2.5, 3.5]})
    plain = prepare(small(), tmp_path / "plain", users=users)
    hidden = prepare(small(), tmp_path / "hidden", options, users=users)
    table = pl.read_parquet(tmp_path / "hidden" / "users.parquet")
    assert sorted(table["age"].to_list()) == [1.5, 2.5, 3.5]
    assert not set(table["user_id"]) & {"amy", "bob", "zoe"}
    assert sorted(hidden.lengths().tolist()) == sorted(plain.lengths().tolist())
    secret = salt.read_text().strip().encode()
    for file in (tmp_path / "hidden").iterdir():
        content = file.read_bytes()
        assert b"amy" not in content
        assert secret not in content
    again = prepare(small(), tmp_path / "again", options, users=users)
    assert again.config["fingerprint"] == hidden.config["fingerprint"]
    with pytest.raises(InputError, match="salt"):
        prepare(small(), tmp_path / "x", PrepareOptions(anonymise=AnonymiseOptions(users=True)))


def test_labels_and_relative_clock(tmp_path: Path) -> None:
    frame = small().with_columns(pl.Series("label", [1, 0] * 5))
    histories = prepare(frame, tmp_path / "labels")
    assert histories.label.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert "label" not in histories.config["features"]["context"]["numeric_names"]
    relative = frame.with_columns(pl.col("timestamp") - START)
    with pytest.raises(InputError, match="--split per-user-time --clock relative"):
        prepare(relative, tmp_path / "refused", PrepareOptions(clock="relative"))
    options = PrepareOptions(clock="relative", split=SplitOptions(kind="per-user-time"))
    histories = prepare(relative, tmp_path / "relative", options)
    assert histories.clock == "relative"
    assert histories.config["origin"] == "first event of each user"
    assert histories.part.tolist() == [0, 0, 0, 1, 2, 0, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("frame", "options", "tables", "message"),
    [
        (small().drop("item_id"), {}, {}, "item_id"),
        (small().head(0), {}, {}, "no rows"),
        (small().unique("user_id"), {}, {}, "nobody has two events"),
        (small().with_columns(timestamp=pl.lit(START)), {}, {}, "distinct times"),
        (
            small(),
            {},
            {"items": pl.DataFrame({"item_id": [1, 2]})},
            "table of items: column 'item_id' holds Int64",
        ),
        (
            small().unique("user_id").rename({"user_id": "who"}),
            {"columns": Columns(user="who")},
            {},
            "the frame: column 'who': nobody has two events",
        ),
        (small(), {}, {"users": pl.DataFrame({"user_id": ["amy", "amy"]})}, "more than once"),
        (small(), {}, {"users": pl.DataFrame({"user_id": ["amy"], "index": [1]})}, "column 'index'"),
        (small(), {"item_features": FeatureSpec({"colour": "category"})}, {}, "colour"),
        (pl.concat([small()] * 30).with_columns(behaviour=pl.int_range(300).cast(pl.String)), {}, {}, "127"),
    ],
)
def test_what_cannot_be_prepared_is_refused_and_nothing_is_written(
    tmp_path: Path, frame: pl.DataFrame, options: Any, tables: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        prepare(frame, tmp_path / "out", PrepareOptions(**options), **tables)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_directory_in_use_is_refused_before_any_work(tmp_path: Path) -> None:
    prepare(small(), tmp_path / "out")
    with pytest.raises(InputError, match="--overwrite"):
        prepare(tmp_path / "not-there.parquet", tmp_path / "out")
    prepare(small().tail(9), tmp_path / "out", overwrite=True)
    assert Histories.load(tmp_path / "out", verify=True).events == 9
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), InputError),
        (MemoryError(), MemoryError),
    ],
)
@pytest.mark.parametrize("place", ["tables", "arrays", "manifest"])
def test_nothing_is_left_behind_by_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, seen: type, place: str
) -> None:
    prepare(small().tail(9), tmp_path / "old")

    def fail(*_: Any, **__: Any) -> None:
        raise failure

    target, name = {
        "tables": (pl.DataFrame, "write_parquet"),
        "arrays": (np, "save"),
        "manifest": (store, "write_arrays"),
    }[place]
    monkeypatch.setattr(target, name, fail)
    with pytest.raises(seen):
        prepare(small(), tmp_path / "new")
    with pytest.raises(seen):
        prepare(small(), tmp_path / "old", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert Histories.load(tmp_path / "old", verify=True).events == 9


def test_prepare_does_not_import_jax(root: Path) -> None:
    code = "import sys, jaxdecay.data.prepare; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"


def test_movielens(tmp_path: Path, shared_log: Callable[[str], Path]) -> None:
    log = shared_log("ml-100k")
    histories = prepare(log, tmp_path / "out")
    assert (histories.users, histories.items, histories.events) == (943, 1682, 100_000)
    events = pl.read_parquet(log)
    found = pl.DataFrame(
        by_ids(tmp_path / "out"), schema=["user_id", "item_id", "timestamp", "part"], orient="row"
    )
    key = ["user_id", "item_id", "timestamp"]
    assert found.select(key).sort(key).equals(events.select(key).sort(key))
    assert abs(len(found.filter(pl.col("part") == 2)) - 10_000) < 100
    assert histories.repeat_share == 0
    assert histories.config["features"]["item"]["categorical_names"] == ["year", "genres"]
    left_out = prepare(log, tmp_path / "loo", PrepareOptions(split=SplitOptions(kind="leave-one-out")))
    assert np.bincount(left_out.part).tolist() == [100_000 - 2 * 943, 943, 943]
    assert len(left_out.config["split"]["warnings"]) == 1
