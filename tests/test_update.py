"""New events for a trained run: seen from then on, counted once, and never half-written."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import DAY, ITEMS, START, USERS, tiny_events, tiny_items, tiny_users
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.arrivals import ITEM, USER, not_there_yet
from jaxdecay.data.anonymise import AnonymiseOptions
from jaxdecay.data.histories import LIVE, Histories
from jaxdecay.data.prepare import PrepareOptions, prepare
from jaxdecay.data.requests import requests
from jaxdecay.errors import InputError
from jaxdecay.generations import newest
from jaxdecay.recommend import load
from jaxdecay.update import update

LATE = START + 61 * DAY


def events(*rows: tuple[str, str, int], behaviour: str = "view", device: str = "tv") -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return frame.with_columns(behaviour=pl.lit(behaviour), device=pl.lit(device))


def bare(path: Path, **options: Any) -> Path:
    """A run as far as an update needs it: histories alone."""
    prepare(
        tiny_events(), path / "histories", PrepareOptions(**options), items=tiny_items(), users=tiny_users()
    )
    return path


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare(tmp_path_factory.mktemp("bare"))


@pytest.fixture
def run(untouched: Path, tmp_path: Path) -> Path:
    return shutil.copytree(untouched, tmp_path / "run")


def by_ids(path: Path) -> list[tuple[str, str, int, str, str, int]]:
    """The events of a run in words, user by user."""
    directory = newest(path)
    histories = Histories.load(directory, verify=True)
    users = pl.read_parquet(directory / "users.parquet")["user_id"].to_list()
    items = pl.read_parquet(directory / "items.parquet")["item_id"].to_list()
    behaviours, devices = histories.config["behaviours"], [None, *device_names(histories)]
    columns = (histories.user(), histories.item, histories.time, histories.behaviour, histories.part)
    return [
        (users[u], items[i], int(t), behaviours[b], devices[d], int(p))
        for u, i, t, b, p, d in zip(*columns, histories.context_categorical[:, 0], strict=True)
    ]


def device_names(histories: Histories) -> list[str]:
    return histories.config["features"]["context"]["encoder"]["coded"][0]["values"]


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_new_events_stand_where_they_belong(run: Path) -> None:
    before = by_ids(run)
    new = events(
        ("new", "i03", LATE),
        ("u05", "fresh", LATE + 1),
        ("u05", "i00", START - DAY),
        ("u05", "i01", LATE + 1),
    )
    report = update(run, new)
    counts = {name: report[name] for name in ("added", "already_there", "new_users", "new_items")}
    assert counts == {"added": 4, "already_there": 0, "new_users": 1, "new_items": 1}
    after = by_ids(run)
    assert [row for row in after if row[5] != LIVE] == before
    own = [row for row in after if row[0] == "u05"]
    assert own[0] == ("u05", "i00", START - DAY, "view", "tv", LIVE)  # late news find their place
    assert [row[1] for row in own[-2:]] == ["fresh", "i01"]  # ties keep file order
    assert after[-1] == ("new", "i03", LATE, "view", "tv", LIVE)
    histories = Histories.load(newest(run))
    assert (histories.known_users, histories.known_items) == (USERS, ITEMS)
    assert (histories.users, histories.items) == (USERS + 1, ITEMS + 1)
    assert histories.item_categorical[-1].tolist() == [0]  # no columns: missing
    assert histories.config["updates"] == [
        {"source": "the frame", "added": 4, "new_users": 1, "new_items": 1}
    ]


def test_the_same_events_twice_change_nothing(run: Path) -> None:
    new = pl.concat([events(("u05", "fresh", LATE)), tiny_events().tail(7)])
    assert update(run, new)["added"] == 1
    first = snapshot(run)
    report = update(run, new)
    assert (report["added"], report["already_there"]) == (0, 8)
    assert update(run, tiny_events())["already_there"] == len(by_ids(run)) - 1
    assert snapshot(run) == first


@given(
    there=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 2)), max_size=8),
    new=st.lists(
        st.tuples(st.integers(-1, 1), st.integers(-1, 1), st.integers(0, 2)), min_size=1, max_size=8
    ),
)
def test_like_rows_are_counted_as_often_as_they_stand(there: list[tuple], new: list[tuple]) -> None:
    """The multiset of old and new rows together is the larger of the two, row by row."""
    old = np.array(there or np.zeros((0, 3)), np.int64).reshape(-1, 3)
    histories = Histories.from_arrays(old[:, 0], old[:, 1], old[:, 2], users=2, items=2)
    frame = pl.DataFrame(new, schema=[USER, ITEM, "timestamp"], orient="row").with_columns(
        user_id=pl.col(USER).cast(pl.String),
        item_id=pl.col(ITEM).cast(pl.String),
        behaviour=pl.lit(0, pl.Int8),
    )
    tables = {kind: pl.DataFrame({f"{kind}_id": ["0", "1"]}) for kind in ("user", "item")}
    report: dict[str, Any] = {}
    fresh = not_there_yet(frame, histories, tables, report).select(USER, ITEM, "timestamp").rows()
    for row in set(new):
        assert fresh.count(row) == max(0, new.count(row) - there.count(row))
    assert report["already_there"] == len(new) - len(fresh)


def test_several_updates_are_like_one(run: Path, untouched: Path, tmp_path: Path) -> None:
    other = shutil.copytree(untouched, tmp_path / "other")
    parts = [
        events(("a", "x", LATE)),
        events(("b", "y", LATE + 5), ("a", "i01", LATE + 7)),
        events(("u00", "x", LATE + 9)),
    ]
    for part in parts:
        update(run, part)
    update(other, pl.concat(parts))
    assert by_ids(run) == by_ids(other)
    assert newest(run).name == "histories.3"
    assert sorted(path.name for path in run.iterdir()) == ["histories", "histories.3"]


def test_evaluation_and_training_see_no_new_event(run: Path) -> None:
    before = Histories.load(run / "histories")
    bytes_before = snapshot(run / "histories")
    update(run, events(("u05", "fresh", START + 30 * DAY), ("new", "i01", LATE)))
    assert snapshot(run / "histories") == bytes_before
    after = Histories.load(newest(run))
    for part in (0, 1, 2):
        assert len(requests(after, part)) == len(requests(before, part))


def test_columns_of_new_ids_come_from_side_tables(run: Path) -> None:
    items = pl.DataFrame(
        {"item_id": ["fresh", "i01"], "genre": ["jazz", "rock"], "price": [3, 4], "colour": ["red", "blue"]}
    )
    users = pl.DataFrame({"user_id": ["new"], "country": ["de"]})
    report = update(run, events(("new", "fresh", LATE), ("new", "bare", LATE)), items=items, users=users)
    assert (report["new_items_without_a_row"], report["new_users_without_a_row"]) == (1, 0)
    table = pl.read_parquet(newest(run) / "items.parquet")
    assert table.tail(2).rows() == [(15, "bare", None, None), (16, "fresh", "jazz", 3.0)]
    assert table.head(ITEMS).rows() == pl.read_parquet(run / "histories" / "items.parquet").rows()
    histories = Histories.load(newest(run))
    jazz = int(histories.item_categorical[0, 0])  # i00 is jazz
    assert histories.item_categorical[-2:, 0].tolist() == [0, jazz]
    germans = histories.user_categorical[1::2, 0][:5].tolist()
    assert [int(histories.user_categorical[-1, 0])] * 5 == germans


VECTORS = pl.Series("vec", [[float(item), 1.0, 2.0] for item in range(ITEMS)])


def shown(path: Path) -> Path:
    """A run whose items have vectors and places."""
    items = tiny_items().with_columns(VECTORS, lat=pl.lit(1.5), lon=pl.int_range(pl.len()) * 1.5)
    prepare(tiny_events(), path / "histories", items=items)
    return path


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (
            "vec",
            [1.0, 2.0],
            "holds vectors of 2 numbers, but those of the training part have 3 (row 3); make",
        ),
        ("lat", -99.0, "holds degrees outside -90 to 90 (row 3); correct"),
        ("price", "cheap", "holds text that is no number (row 3); correct"),
    ],
)
def test_columns_of_new_ids_that_do_not_fit_are_told_by_file_and_row(
    tmp_path: Path, column: str, value: Any, words: str
) -> None:
    run = shown(tmp_path / "run")
    before = snapshot(run)
    row = {"genre": "jazz", "price": 1.0, "vec": [1.0, 2.0, 3.0], "lat": 1.0, "lon": 2.0}
    rows = [row, row, row | {column: value}]
    items = pl.DataFrame({name: [one[name] for one in rows] for name in row}, strict=False)
    if column == "price":
        items = items.with_columns(price=pl.Series(["1", "2", "cheap"]))
    if column == "vec":  # of one length in the file, as by another language model
        items = items.with_columns(pl.Series("vec", [[1.0, 2.0]] * 3, pl.Array(pl.Float32, 2)))
    path = tmp_path / "new.parquet"
    items.with_columns(item_id=pl.Series(["i01", "elsewhere", "fresh"])).write_parquet(path)
    with pytest.raises(InputError) as refused:
        update(run, events(("u05", "fresh", LATE)), items=path)
    assert str(refused.value).startswith(f"{path}: column '{column}' {words}")
    assert snapshot(run) == before
    assert update(run, events(("u05", "i01", LATE)), items=path)["added"] == 1  # rows of known ids: no matter


def test_columns_that_the_table_of_new_ids_lacks_are_told(tmp_path: Path) -> None:
    run, path = shown(tmp_path / "run"), tmp_path / "new.csv"
    pl.DataFrame({"item_id": ["fresh"], "genre": ["jazz"], "price": [1.0]}).write_csv(path)
    report = update(run, events(("u05", "fresh", LATE), ("u05", "other", LATE)), items=path)
    assert report["warnings"] == [f"{path}: lacks vec, lat, lon: missing for 2 new items"]
    assert report["new_items_without_a_row"] == 1
    assert update(run, events(("u05", "i00", LATE)), items=path)["warnings"] == []


def test_context_that_does_not_fit_is_told_by_file_and_row(tmp_path: Path) -> None:
    far = pl.int_range(pl.len()).hash() % 90
    prepare(tiny_events().with_columns(lat=far, lon=far), tmp_path / "run" / "histories")
    new = events(("u05", "i00", LATE + 9), ("u05", "i01", LATE)).with_columns(lat=pl.Series([95, 9]), lon=3)
    new.write_csv(tmp_path / "new.csv")
    with pytest.raises(InputError, match=r"^new.csv: column 'lat' holds degrees outside .*\(row 1\)"):
        update(tmp_path / "run", tmp_path / "new.csv")


def test_missing_context_and_foreign_columns_are_told(run: Path) -> None:
    new = events(("u05", "i00", LATE)).drop("device").with_columns(weight=2.0, colour=pl.lit("red"))
    report = update(run, new)
    assert report["warnings"] == [
        "the weight of the new events is left out: the run's log has none",
        "the new events lack device: missing as context",
    ]
    assert next(row for row in by_ids(run) if row[5] == LIVE)[4] is None
    strangers = update(run, events(("a", "b", LATE)))
    assert "is it the right log?" in strangers["warnings"][0]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (events(("u05", "i00", LATE)).drop("item_id"), "there is no column 'item_id'"),
        (
            events(("u05", "i00", LATE)).drop("behaviour"),
            "no column for the behaviour, which the run's log has",
        ),
        (
            events(("u05", "i00", LATE), behaviour="return"),
            "behaviour return is unknown to the run, which has buy, view",
        ),
        (events(("u05", "i00", LATE)).clear(), "no rows"),
        (events(("u05", "i00", LATE)).with_columns(pl.col("timestamp") * 1000), "look like milliseconds"),
        (events(("u05", "i00", LATE)).with_columns(user_id=pl.lit(None, pl.String)), "no value in row 1"),
        (events(("u05", "i00", LATE)).with_columns(timestamp=1.5), "floating-point"),
    ],
)
def test_bad_events_are_refused_in_one_line_and_nothing_is_written(
    run: Path, new: pl.DataFrame, words: str
) -> None:
    before = snapshot(run)
    with pytest.raises(InputError, match=words) as refusal:
        update(run, new)
    assert "\n" not in str(refusal.value)
    assert snapshot(run) == before


def test_ids_keep_the_type_of_the_run(tmp_path: Path) -> None:
    log = tiny_events().with_columns(pl.col("user_id", "item_id").str.slice(1).cast(pl.Int32))
    prepare(log, tmp_path / "histories")
    with pytest.raises(InputError, match="column 'user_id' holds String, but the ids of the run are Int32"):
        update(tmp_path, events(("u05", "i00", LATE)))
    new = events(("5", "99", LATE)).with_columns(pl.col("user_id", "item_id").cast(pl.Int64))
    new.write_csv(tmp_path / "new.csv")
    assert update(tmp_path, tmp_path / "new.csv")["new_items"] == 1
    assert pl.read_parquet(newest(tmp_path) / "items.parquet")["item_id"].dtype == pl.Int32
    with pytest.raises(InputError, match="the ids of the run are Int32"):
        update(tmp_path, new.with_columns(user_id=pl.lit(2**40)))
    events(("5", "7", LATE), ("x", "7", LATE + 1), ("y", "7", LATE + 2)).write_csv(tmp_path / "new.csv")
    told = r"^new.csv: column 'user_id' holds String, .* Int32: 'x', 'y' in rows 2, 3; give"
    with pytest.raises(InputError, match=told):
        update(tmp_path, tmp_path / "new.csv")
    late_first = events(("5", "7", LATE + 9), ("6", "7", LATE + 5), ("x", "7", LATE), ("7", "7", LATE + 1))
    late_first.write_csv(tmp_path / "new.csv")
    with pytest.raises(InputError, match="'x' in row 3; give"):  # of the file, whatever comes first in time
        update(tmp_path, tmp_path / "new.csv")
    with pytest.raises(InputError, match=r"^the table of items: column 'item_id' .*: 'i0' in row 1; give"):
        update(tmp_path, new.with_columns(item_id=98), items=pl.DataFrame({"item_id": ["i0"]}))


def test_a_file_that_does_not_fit_is_named(run: Path, tmp_path: Path) -> None:
    events(("u05", "i00", LATE), behaviour="return").write_csv(tmp_path / "returns.csv")
    with pytest.raises(InputError, match=r"^returns.csv: behaviour return is unknown to the run"):
        update(run, tmp_path / "returns.csv")
    events(("u05", "i00", LATE)).drop("behaviour").write_csv(tmp_path / "bare.csv")
    with pytest.raises(InputError, match=r"^bare.csv: there is no column for the behaviour"):
        update(run, tmp_path / "bare.csv")


def test_integer_ids_for_a_run_of_text_ids_are_read_as_text(run: Path) -> None:
    report = update(run, events(("u05", "i00", LATE)).with_columns(item_id=pl.lit(7)))
    assert report["warnings"] == ["item_id: integers are read as text, like the ids of the run"]
    assert ("u05", "7", LATE, "view", "tv", LIVE) in by_ids(run)


def test_new_events_are_read_as_the_log_was(tmp_path: Path) -> None:
    from jaxdecay.data.events import Columns

    renamed = {"user_id": "who", "item_id": "what", "timestamp": "when"}
    log = tiny_events().rename(renamed).with_columns(pl.col("when") * 1000)
    prepare(
        log, tmp_path / "histories", PrepareOptions(columns=Columns(user="who", item="what", time="when"))
    )
    new = events(("u05", "i00", LATE)).rename(renamed).with_columns(pl.col("when") * 1000)
    assert update(tmp_path, new)["added"] == 1
    dated = events(("u05", "i00", LATE + 1)).rename(renamed).with_columns(pl.from_epoch("when"))
    report = update(tmp_path, dated)
    assert (report["added"], report["warnings"]) == (1, [])
    assert update(tmp_path, events(("u05", "i01", LATE)), columns=Columns())["added"] == 1


def test_hashed_ids_need_their_salt(tmp_path: Path) -> None:
    salt = tmp_path / "salt"
    run = bare(tmp_path / "run", anonymise=AnonymiseOptions(users=True, salt=salt))
    new = events(("u05", "i00", LATE), ("new", "i00", LATE))
    with pytest.raises(InputError, match=r"its ids are salted hashes.*none was given; name it with --salt"):
        update(run, new)
    with pytest.raises(InputError, match="there is none at"):
        update(run, new, salt=tmp_path / "other")
    report = update(run, new, salt=salt, users=pl.DataFrame({"user_id": ["new"], "country": ["fr"]}))
    assert (report["new_users"], report["new_users_without_a_row"]) == (1, 0)
    assert "new" not in pl.read_parquet(newest(run) / "users.parquet")["user_id"]


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_crash_leaves_the_old_histories_whole(
    run: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    update(run, events(("u05", "i00", LATE)))
    before = snapshot(run)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    if moment == "write":
        monkeypatch.setattr(np, "save", full)
    else:
        monkeypatch.setattr(os, "rename", full)
    with pytest.raises(InputError, match=r"cannot be written .*No space left.* the old ones are whole"):
        update(run, events(("u05", "i01", LATE)))
    assert snapshot(run) == before
    monkeypatch.undo()
    (run / ".histories.1.dead.new").mkdir()  # what a kill -9 leaves behind
    assert update(run, events(("u05", "i01", LATE)))["added"] == 1
    assert sorted(path.name for path in run.iterdir()) == ["histories", "histories.2"]


def test_two_updates_at_once_do_not_lose_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write: Callable[[Histories, Path], None] = Histories.write

    def slowly(self: Histories, directory: Path) -> None:
        monkeypatch.setattr(Histories, "write", write)
        update(run, events(("u05", "i02", LATE)))  # another one comes first
        write(self, directory)

    monkeypatch.setattr(Histories, "write", slowly)
    with pytest.raises(InputError, match="another update was made meanwhile"):
        update(run, events(("u05", "i01", LATE)))
    assert [row[1] for row in by_ids(run) if row[5] == LIVE] == ["i02"]


def test_recommendations_follow_an_update(tiny_run: Path, tmp_path: Path) -> None:
    run = load(shutil.copytree(tiny_run, tmp_path / "run"))
    at = LATE + DAY
    everyone = run.recommend(["u05", "u06"], k=ITEMS, at=at)
    stranger = run.recommend("new", k=ITEMS, at=at, on_unknown="popular")
    often = [("new", "i03", LATE + minute) for minute in range(20)] + [("u05", "fresh", LATE + 60)]
    report = run.update(events(*often))
    assert report["added"] == 21
    items = pl.DataFrame({"item_id": ["fresh"]})
    mine = run.recommend("new", k=ITEMS, at=at)
    assert mine["item_id"][0] == "i03"  # the revisit head remembers
    assert mine["item_id"].to_list() != stranger["item_id"].to_list()
    assert "fresh" in run.recommend("u06", k=ITEMS + 1, at=at)["item_id"]  # popularity lists it
    assert "fresh" not in run.recommend("u06", k=ITEMS + 1, at=LATE, exclude_seen=False)["item_id"]
    changed = run.recommend(["u05", "u06"], k=ITEMS, at=at)
    assert changed["item_id"].to_list() != everyone["item_id"].to_list()
    again = load(run.path)
    assert again.recommend(["u05", "u06"], k=ITEMS, at=at).equals(changed)
    assert again.score(items.with_columns(user_id=pl.lit("u06")), at)["score"].is_finite().all()
    shutil.rmtree(newest(run.path))  # back to before the update
    assert load(run.path).recommend(["u05", "u06"], k=ITEMS, at=at).equals(everyone)


def test_an_update_tells_what_it_took_for_granted(tiny_run: Path, tmp_path: Path) -> None:
    run = load(shutil.copytree(tiny_run, tmp_path / "run"))
    run.update(events(("u05", "i00", LATE)).with_columns(pl.from_epoch("timestamp")).drop("device"))
    assert run.notes == (
        "times without a zone are taken as UTC",
        "the new events lack device: missing as context",
    )


def test_a_new_item_is_similar_to_others_by_its_columns_alone(tiny_run: Path, tmp_path: Path) -> None:
    """The price of i00 is missing, so there is a flag for that; a new item with this flag alone is
    nothing."""
    run = load(shutil.copytree(tiny_run, tmp_path / "run"))
    new = events(("u05", "bare", LATE), ("u05", "dear", LATE), ("u05", "jazzy", LATE))
    items = pl.DataFrame({"item_id": ["dear", "jazzy"], "genre": [None, "jazz"], "price": [9.0, None]})
    run.update(new, items=items)
    assert run.histories.item_numeric[-3:, -1].tolist() == [1.0, 0.0, 1.0]
    near = run.similar(["bare", "dear", "jazzy", "i00"], k=ITEMS + 2)
    assert near["item_id"].unique(maintain_order=True).to_list() == ["dear", "jazzy", "i00"]
    assert "bare" not in near["similar_id"]
    assert len(near) == 3 * (ITEMS + 1)


def test_missing_numbers_are_written_as_the_encoder_does() -> None:
    from jaxdecay.data.features import Encoding, FeatureSpec, fit_features
    from jaxdecay.predict import missing_numbers

    columns = {"a": [1.0, None], "b": [2.0, 5.0], "c": [[1.0, 2.0], None], "d": [None, None]}
    frame = pl.DataFrame({"item_id": ["x", "y"], "lat": [1.0, None], "lon": [2.0, None], **columns})
    frame = frame.cast({"d": pl.List(pl.Float64)})
    chosen: dict[str, Encoding] = {"a": "standardise", "b": "rank", "c": "vector", "d": "vector"}
    chosen |= {"lat": "coordinates", "lon": "coordinates"}
    encoder = fit_features(frame, FeatureSpec(chosen))
    nothing = encoder.apply(frame.clear(1)).numeric
    histories = Histories.from_arrays(
        np.zeros(1, int),
        np.zeros(1, int),
        np.zeros(1, int),
        item_numeric=nothing,
        config={"features": {"item": {"encoder": encoder.to_json()}}},
    )
    assert np.array_equal(missing_numbers(histories), nothing[0])
