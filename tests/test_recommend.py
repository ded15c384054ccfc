"""A run in use: lists, similar items and scores, by id, at any moment, and what is refused."""

import datetime
import inspect
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import DAY, ITEMS, START, USERS, tiny_events, tiny_items
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import asked, ids, parts, serving
from jaxdecay.assembly import load_predictor
from jaxdecay.data.features import FeatureSpec, fit_features
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.moments import iso, moment, moments
from jaxdecay.recommend import fit, load
from jaxdecay.train import TrainOptions
from jaxdecay.trained import Run

MODEL = ModelOptions(features=4, modes=2, periods=("1d",))
TRAIN = TrainOptions(epochs=1, settle_epochs=0, batch_targets=256, window=16)
END = START + 61 * DAY
ALL = [f"i{item:02}" for item in range(ITEMS)]


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> Run:
    return load(tiny_run)


@pytest.fixture
def copied(tiny_run: Path, tmp_path: Path) -> Path:
    """A run that may be damaged."""
    return shutil.copytree(tiny_run, tmp_path / "run")


def pairs(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return list(frame.select("user_id", "item_id").iter_rows())


def test_lists_are_frames_in_ids_of_the_log_best_first(run: Run) -> None:
    lists = run.recommend(["u07", "u01"], k=4, at=END)
    assert lists.schema == {"user_id": pl.String, "item_id": pl.String, "score": pl.Float32, "rank": pl.Int32}
    assert lists["user_id"].to_list() == ["u07"] * 4 + ["u01"] * 4
    assert lists["rank"].to_list() == [1, 2, 3, 4] * 2
    for _, own in lists.group_by("user_id"):
        assert own["score"].to_list() == sorted(own["score"], reverse=True)
        assert own["item_id"].is_unique().all()
    assert run.notes == ()
    for same in ("u07", pl.Series(["u07", "u07"]), pl.DataFrame({"user_id": ["u07"]})):
        assert pairs(run.recommend(same, k=4, at=END)) == pairs(lists.head(4))


def test_one_by_one_is_like_all_at_once(run: Run) -> None:
    at = START + 45 * DAY
    together = run.recommend(k=5, at=at)
    assert together["user_id"].unique().sort().to_list() == [f"u{user:02}" for user in range(USERS)]
    for user in ("u00", "u13", "u39"):
        alone = run.recommend([user], k=5, at=at)
        own = together.filter(pl.col("user_id") == user)
        assert alone["item_id"].to_list() == own["item_id"].to_list()
        np.testing.assert_allclose(alone["score"], own["score"], rtol=1e-4, atol=1e-5)


def test_scores_are_those_of_the_lists(run: Run) -> None:
    lists = run.recommend(["u01", "u02"], k=ITEMS, at=END).sample(fraction=1, shuffle=True, seed=1)
    scored = run.score(lists.drop("score", "rank").with_columns(at=pl.lit(END)))
    assert scored.columns == ["user_id", "item_id", "at", "score"]
    np.testing.assert_allclose(scored["score"], lists["score"], rtol=1e-4, atol=1e-5)
    assert pairs(scored) == pairs(lists)


def test_a_request_sees_only_what_came_before_it(run: Run) -> None:
    """Other items from some moment on change nothing of what is asked at that moment."""
    at = START + 30 * DAY
    history = run.histories
    users = np.arange(history.users)
    requests = asked.requests_at(history, users, np.full(history.users, at))
    for user in users:
        own = history.time[history.offsets[user] : history.offsets[user + 1]]
        assert requests.history_end[user] - history.offsets[user] == (own < at).sum()
    later = np.asarray(history.time) >= at
    other = np.where(later, (history.item + 1) % ITEMS, history.item).astype(np.int32)
    changed = load_predictor(run.path, histories=serving.all_known(history.replace(item=other)))
    assert np.array_equal(changed.scores(requests), run.predictor.scores(requests))
    # an event of this very second is not seen yet, one second later it is
    first = np.asarray(history.time[history.offsets[:-1]])
    assert (asked.requests_at(history, users, first).history_end == history.offsets[:-1]).all()
    assert (asked.requests_at(history, users, first + 1).history_end > history.offsets[:-1]).all()


def test_time_passing_changes_lists(run: Run) -> None:
    now, later = (
        run.recommend(k=ITEMS, at=at, exclude_seen=False) for at in (END, "2024-03-05T12:00:00+01:00")
    )
    assert len(now) == len(later) == USERS * ITEMS
    assert pairs(now) != pairs(later)


def test_seen_items_leave_only_when_asked_or_repeats_are_rare(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = START + 50 * DAY
    before = tiny_events().filter(pl.col("timestamp") < at)
    had = set(before.filter(pl.col("user_id") == "u03")["item_id"])
    assert run.histories.repeat_share > 0.05
    assert set(run.recommend("u03", k=ITEMS, at=at)["item_id"]) == set(ALL)
    assert set(run.recommend("u03", k=ITEMS, at=at, exclude_seen=True)["item_id"]) == set(ALL) - had
    assert run.notes == (f"fewer than 15 items are left for some: {len(had)} of 15 places are empty",)
    monkeypatch.setitem(run.histories.config, "repeat_share", 0.05)
    assert set(run.recommend("u03", k=ITEMS, at=at)["item_id"]) == set(ALL) - had


def test_items_not_seen_before_the_moment_are_no_candidates(run: Run) -> None:
    first = tiny_events().group_by("item_id").agg(pl.col("timestamp").min()).sort("timestamp")
    at = int(first["timestamp"][4])
    listed = run.recommend("u00", k=ITEMS, at=at)
    assert set(listed["item_id"]) == set(first.filter(pl.col("timestamp") < at)["item_id"])
    assert len(listed) == 4


@given(
    allow=st.none() | st.sets(st.sampled_from(ALL)),
    deny=st.none() | st.sets(st.sampled_from(ALL)),
    dear=st.none() | st.floats(0, 16),
    k=st.integers(1, ITEMS),
)
def test_filters_are_kept_exactly(
    run: Run, allow: set[str] | None, deny: set[str] | None, dear: float | None, k: int
) -> None:
    """The filtered list is the full list with the others taken out."""
    where = None if dear is None else pl.col("price") >= dear
    full = run.recommend("u05", k=ITEMS, at=END, exclude_seen=False)["item_id"].to_list()
    price = dict(tiny_items().select("item_id", "price").iter_rows())
    left = [
        item
        for item in full
        if (allow is None or item in allow)
        and (deny is None or item not in deny)
        and (dear is None or (price[item] is not None and price[item] >= dear))
    ]
    got = run.recommend("u05", k=k, at=END, exclude_seen=False, allow=allow, deny=deny, where=where)
    assert got["item_id"].to_list() == left[:k]
    assert got["rank"].to_list() == list(range(1, len(left[:k]) + 1))


def test_whoever_has_no_past_yet_is_told(run: Run) -> None:
    first = tiny_events().group_by("user_id").agg(pl.col("timestamp").min()).sort("timestamp")
    early, late = first["user_id"][0], first["user_id"][-1]
    frame = run.recommend([early, late], k=3, at=first["timestamp"][-1])
    assert frame["user_id"].unique().sort().to_list() == sorted([early, late])
    assert run.notes[0] == "1 user had no event before then: answered like somebody without a history"
    run.recommend([early, late], k=3, at=END)
    assert not any("no event" in note for note in run.notes)


def test_where_may_be_sql(run: Run) -> None:
    jazz = run.recommend("u05", k=ITEMS, at=END, where="genre = 'jazz' AND item_id <> 'i03'")
    assert set(jazz["item_id"]) == {"i00", "i06", "i09", "i12"}
    assert jazz.equals(
        run.recommend(
            "u05", k=ITEMS, at=END, where=(pl.col("genre") == "jazz") & (pl.col("item_id") != "i03")
        )
    )


def test_unknown_users(run: Run) -> None:
    with pytest.raises(
        InputError, match=r"users 'nobody', 'x': never seen .* on_unknown='skip' or on_unknown='popular'"
    ):
        run.recommend(["u01", "nobody", "x"], k=2, at=END)
    skipped = run.recommend(["u01", "nobody"], k=2, at=END, on_unknown="skip")
    assert skipped["user_id"].to_list() == ["u01"] * 2
    assert run.notes == ("user 'nobody': never seen, skipped",)
    asked_for = run.recommend(["nobody", "u01"], k=2, at=END, on_unknown="popular")
    assert asked_for["user_id"].to_list() == ["nobody"] * 2 + ["u01"] * 2
    assert asked_for.tail(2)["item_id"].to_list() == skipped["item_id"].to_list()
    assert "answered like somebody without a history" in run.notes[0]
    others = run.recommend(["another"], k=2, at=END, on_unknown="popular")
    assert others["item_id"].to_list() == asked_for.head(2)["item_id"].to_list()
    assert run.recommend([], k=2).is_empty()
    assert run.recommend(["x"], k=2, at=END, on_unknown="skip").schema == skipped.schema


def test_ids_of_another_type_are_unknown_ids(copied: Path) -> None:
    table = pl.read_parquet(copied / "histories" / "users.parquet")
    table.with_columns(user_id=pl.col("index").cast(pl.Int64) * 10).write_parquet(
        copied / "histories" / "users.parquet"
    )
    run = load(copied)
    remedies = r"leave them out, or say on_unknown='skip' or on_unknown='popular'"
    with pytest.raises(
        InputError, match=rf"user 'abc': never seen .*, whose user ids are integers \(Int64\); {remedies}"
    ):
        run.recommend(["10", "abc"], k=2, at=END)
    skipped = run.recommend(["10", "abc"], k=2, at=END, on_unknown="skip")
    assert skipped.equals(run.recommend([10], k=2, at=END))
    run.recommend(["10", "abc"], k=2, at=END, on_unknown="skip")
    assert run.notes == ("user 'abc': never seen, skipped",)
    popular = run.recommend(["10", "abc"], k=2, at=END, on_unknown="popular")
    assert popular["user_id"].to_list() == ["10", "10", "abc", "abc"]
    new = run.recommend([7], k=2, at=END, on_unknown="popular")
    assert popular["item_id"].to_list() == [*skipped["item_id"], *new["item_id"]]
    asked_for = pl.DataFrame({"user_id": ["10", "abc"], "item_id": ["i01", "i01"]})
    with pytest.raises(InputError, match=r"user 'abc': never seen .* ids are integers"):
        run.score(asked_for, END)
    assert run.score(asked_for, END, on_unknown="skip")["user_id"].to_list() == ["10"]


def test_unknown_ids_of_a_run_with_hashes_are_told_of_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.histories.config["options"], "anonymise", {"users": True, "items": False})
    there = re.escape(str(run.path / "histories" / "users.parquet"))
    hint = rf" \(user ids of this run are salted hashes: ask with those in {there}\)"
    with pytest.raises(InputError, match=rf"user 'nobody': never seen in the log of this run{hint}; leave"):
        run.recommend("nobody", k=2, at=END)
    run.recommend("nobody", k=2, at=END, on_unknown="popular")
    assert re.search(hint, run.notes[0])
    with pytest.raises(
        InputError, match=r"item 'i99': never seen in the log of this run \(the nearest is 'i\d9'\); leave"
    ):
        run.similar("i99")


def test_everybody_at_once_goes_to_a_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import jaxdecay.trained

    whole = run.recommend(k=3, at=END)
    monkeypatch.setattr(jaxdecay.trained, "_BLOCK", 16)
    (tmp_path / "all.parquet").write_text("an older answer")
    out = run.recommend(k=3, at=END, out=tmp_path / "all.parquet")
    assert out == tmp_path / "all.parquet"
    written = pl.read_parquet(out)
    assert written.drop("score").equals(whole.drop("score"))
    np.testing.assert_allclose(written["score"], whole["score"], rtol=1e-4, atol=1e-5)
    assert list(tmp_path.iterdir()) == [out]
    run.recommend([], k=3, at=END, out=out)
    assert pl.read_parquet(out).schema == whole.schema


def test_a_stream_that_breaks_leaves_what_was_there(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": [1]})

    def breaking():
        yield frame
        raise KeyboardInterrupt

    out = tmp_path / "out.parquet"
    assert parts.write_parquet(iter([frame, frame]), frame.clear(), out) == 2
    with pytest.raises(KeyboardInterrupt):
        parts.write_parquet(breaking(), frame.clear(), out)
    assert pl.read_parquet(out)["a"].to_list() == [1, 1]
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(InputError, match="is a directory; name a file"):
        parts.write_parquet([], frame, tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        parts.write_parquet([], frame, out / "below" / "a.parquet")


def test_similar_items_are_near_by_cosine(run: Run) -> None:
    near = run.similar(["i03", "i00"], k=ITEMS - 1)
    assert near.columns == ["item_id", "similar_id", "score", "rank"]
    vectors = np.asarray(run.predictor._fixed[1].vectors, np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    place = {item: index for index, item in enumerate(run.items["item_id"])}
    for item, other, score, _ in near.iter_rows():
        assert score == pytest.approx(unit[place[item]] @ unit[place[other]], abs=1e-5)
    assert set(near.filter(pl.col("item_id") == "i03")["similar_id"]) == set(ALL) - {"i03"}
    for _, own in near.group_by("item_id"):
        assert own["score"].to_list() == sorted(own["score"], reverse=True)
    assert set(run.similar("i03", k=5, where=pl.col("genre") == "jazz")["similar_id"]) == {
        "i00",
        "i06",
        "i09",
        "i12",
    }
    with pytest.raises(InputError, match="k=15, but there are 14 other items; give a k from 1 to 14"):
        run.similar("i03", k=ITEMS)


def test_scores_of_pairs(run: Run) -> None:
    frame = pl.DataFrame({"user_id": ["u01", "x", "u01"], "item_id": ["i01", "i01", "y"], "note": [1, 2, 3]})
    with pytest.raises(InputError, match="user 'x': never seen"):
        run.score(frame, END)
    assert run.score(frame, END, on_unknown="skip")["note"].to_list() == [1]
    assert run.notes == ("2 pairs of users or items never seen are left out",)
    with pytest.raises(InputError, match="item 'y': never seen"):
        run.score(frame, END, on_unknown="popular")
    assert run.score(frame.head(2), END, on_unknown="popular")["score"].is_not_null().all()
    assert run.score(frame.head(0), END)["score"].dtype == pl.Float32
    days = frame.head(1).select("user_id", "item_id", at=pl.lit(datetime.date(2024, 1, 20)))
    given_as_date = run.score(days)
    assert run.notes == ("the frame: column 'at' has no zone and is taken as UTC",)
    assert (
        given_as_date["score"].to_list() == run.score(days.drop("at"), "2024-01-20T00:00Z")["score"].to_list()
    )
    with pytest.raises(InputError, match="there is no column 'item_id'"):
        run.score(frame.drop("item_id"))
    with pytest.raises(InputError, match="column 'at' has no value in row 1"):
        run.score(days.with_columns(at=pl.lit(None, pl.Date)))


def test_context_moves_scores(run: Run) -> None:
    frame = pl.DataFrame({"user_id": ["u01"] * 3, "item_id": ["i01", "i02", "i03"]})
    phone, tv, none = (
        run.score(frame, END, context=context)["score"].to_numpy()
        for context in ({"device": "phone"}, {"device": "tv"}, None)
    )
    assert not np.allclose(phone - phone.mean(), tv - tv.mean(), atol=1e-5)
    unheard_of = run.score(frame, END, context={"device": "fridge"})["score"].to_numpy()
    assert np.array_equal(unheard_of, none)
    assert run.notes == ("context device='fridge': never seen in the log, taken as missing",)
    assert run.recommend("u01", at=END, context={"device": "fridge"}).height
    assert run.notes == ("context device='fridge': never seen in the log, taken as missing",)
    with pytest.raises(
        InputError, match="context column 'place': this run does not know it; there are device"
    ):
        run.score(frame, END, context={"place": "home"})


@pytest.mark.parametrize(
    ("at", "seconds", "noted"),
    [
        (893_980_800, 893_980_800, False),
        ("893980800", 893_980_800, False),
        (np.int64(893_980_800), 893_980_800, False),
        ("1998-05-01", 893_980_800, True),
        (datetime.date(1998, 5, 1), 893_980_800, True),
        (datetime.datetime(1998, 5, 1), 893_980_800, True),
        (np.datetime64("1998-05-01"), 893_980_800, True),
        ("1998-05-01T00:00:00Z", 893_980_800, False),
        ("1998-05-01 02:00:00.9+02:00", 893_980_800, False),
        (
            datetime.datetime(1998, 5, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
            893_980_800,
            False,
        ),
        ("1970-01-01", 0, True),
        ("2099-12-31T23:59:59Z", 4_102_444_799, False),
    ],
)
def test_moments(at: Any, seconds: int, noted: bool) -> None:
    assert moment(at, clock="utc").seconds == seconds
    assert moment(at, clock="utc").notes == ((f"at {at} has no zone and is taken as UTC",) if noted else ())


@pytest.mark.parametrize(
    ("at", "clock", "words"),
    [
        ("tomorrow", "utc", "at 'tomorrow' is no time"),
        ("1998-13-01", "utc", "is no time"),
        (1.5, "utc", "at 1.5 is no time"),
        (True, "utc", "at True is no time"),
        (-1, "utc", "lies before 1970"),
        ("1969-12-31T23:59:59.9Z", "utc", "lies before 1970"),
        ("2100-01-01", "utc", "lies after 2099"),
        (893_980_800_000, "utc", "lies after 2099; it looks like milliseconds"),
        ("20261122", "utc", "may be a date or seconds; write the date as 2026-11-22"),
        ("1998-05-01", "relative", "the log's times are relative; give whole seconds"),
        (-1, "relative", "lies before the user's first event"),
        (np.datetime64("NaT", "s"), "utc", "is no time"),
    ],
)
def test_moments_that_are_none(at: Any, clock: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        moment(at, clock=clock)
    assert "\n" not in str(refusal.value)


def test_now_is_said(run: Run) -> None:
    run.recommend("u01", k=1)
    (note,) = run.notes
    assert note.startswith(f"at was not given: asked now, {iso(moment(None, clock='utc').seconds or 0)[:13]}")
    assert moment(None, clock="relative").seconds is None
    ticks, notes = moments(pl.Series([5, 6]), where="pairs", clock="relative")
    assert (ticks.tolist(), notes) == ([5, 6], ())


def test_relative_times_are_asked_after_each_users_last_event() -> None:
    history = Histories.from_arrays(
        np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0, 50, 0]), config={"clock": "relative"}
    )
    requests = asked.requests_at(history, np.array([0, 1, -1]), None)
    assert requests.at.tolist() == [50, 0, 0]
    assert requests.history_end.tolist() == [2, 3, 3]  # all is seen, and nothing by somebody unknown


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda run: run.recommend("u01", k=16),
            "k=16, but the catalogue has 15 items; give a k from 1 to 15",
        ),
        (lambda run: run.recommend("u01", k=0), "k=0, but the catalogue has 15 items"),
        (lambda run: asked.check_k(2.5, 15), "k 2.5: give a whole number from 1 to 15"),
        (lambda run: asked.check_k(True, 15), "k True: give a whole number from 1 to 15"),
        (
            lambda run: run.recommend("u01", at="2001-01-01"),
            "the log begins only at 2023-11-15T.*give a later time",
        ),
        (lambda run: run.recommend([1.5]), "user ids hold Float64; give text"),
        (lambda run: run.recommend(["u01", None]), "user ids hold a missing value"),
        (lambda run: run.recommend(["u01", 7]), "give a list of text"),
        (lambda run: run.recommend(object()), "give a list of text"),
        (lambda run: run.recommend(pl.DataFrame({"user": ["u01"]})), "no column 'user_id'; there are user"),
        (lambda run: asked.check_on_unknown("ignore"), "on_unknown 'ignore' is not known"),
        (
            lambda run: run.recommend("u01", allow=["i01", "i99"]),
            "item 'i99': never seen .*take it off allow",
        ),
        (
            lambda run: run.recommend("u01", where=pl.col("colour") == 1),
            "colour.*item columns item_id, genre, price",
        ),
        (lambda run: run.recommend("u01", where=pl.col("genre") > 1), "item columns item_id, genre, price"),
        (
            lambda run: run.recommend("u01", where=pl.col("price") + 1),
            "gives Float64 in 15 rows instead of true",
        ),
        (lambda run: run.recommend("u01", where="genre ="), "item columns item_id, genre, price"),
        (
            lambda run: run.similar("i99"),
            r"item 'i99': never seen in the log of this run \(the nearest is 'i\d9'\); "
            "leave them out, or say on_unknown='skip'$",
        ),
        (
            lambda run: inspect.unwrap(Run.similar)(run, "i99", on_unknown="popular"),
            "on_unknown 'popular' is not known; give raise or skip",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(run: Run, call: Callable[[Run], Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as refusal:
        call(run)
    assert "\n" not in str(refusal.value)


def test_unknown_items_of_filters_may_be_passed_over(run: Run) -> None:
    assert run.recommend("u01", k=3, at=END, allow=["i01", "i99"], on_unknown="skip")[
        "item_id"
    ].to_list() == ["i01"]


def test_integer_ids_may_be_written_as_text_and_back() -> None:
    numbers, words = pl.Series("user_id", [10, 20]), pl.Series("user_id", ["10", "20"])
    assert ids.find(ids.as_ids(["20", "30", "20"], numbers), numbers).tolist() == [1, -1]
    assert ids.find(ids.as_ids([20, 30], words), words).tolist() == [1, -1]
    assert ids.as_ids(np.array([20]), numbers).dtype == pl.Int64
    small = numbers.cast(pl.UInt8)
    for meant, known in ((["x", "20", "020"], numbers), ([300, 20], small)):
        found = ids.as_ids(meant, known)
        assert (found.name, found.to_list()) == ("user_id", [str(meant[0]), "20"])
        assert ids.find(found, known).tolist() == [-1, 1]


def damage(path: Path) -> None:
    """Cut a file in two."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change_config(run: Path, **changes: Any) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda run: shutil.rmtree(run), "there is no such run"),
        (lambda run: (run / "config.json").unlink(), "config.json is missing"),
        (lambda run: damage(run / "config.json"), r"config.json: damaged"),
        (lambda run: change_config(run, format=99), "format 99, this version reads format"),
        (lambda run: change_config(run, data={"fingerprint": "x"}), "another log than the one trained on"),
        (lambda run: shutil.rmtree(run / "histories"), "histories: missing; copy the log that the run"),
        (lambda run: (run / "histories" / "time.npy").unlink(), "time.npy: missing"),
        (lambda run: damage(run / "histories" / "item.npy"), "item.npy: damaged or cut short"),
        (lambda run: damage(run / "histories" / "users.parquet"), "users.parquet: damaged"),
        (lambda run: (run / "histories" / "items.parquet").unlink(), "items.parquet: missing"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "no checkpoint yet"),
        (
            lambda run: [damage(file) for file in (run / "checkpoints").rglob("*") if file.is_file()],
            "checkpoint",
        ),
    ],
)
def test_damaged_runs_are_refused_in_one_line(copied: Path, harm: Callable[[Path], Any], words: str) -> None:
    harm(copied)
    with pytest.raises(InputError, match=words) as refusal:
        load(copied).recommend("u01", k=1)
    assert "\n" not in str(refusal.value)


def test_fit_leaves_nothing_where_it_fails(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no column 'item_id'"):
        fit(tiny_events().drop("item_id"), tmp_path / "run")
    assert not list(tmp_path.iterdir())
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    with pytest.raises(InputError, match="is prepared already"):
        fit(prepared, tmp_path / "run", items=tiny_items())
    with pytest.raises(InputError, match=r"prepared\.json: missing"):
        fit(prepared, tmp_path / "run")
    assert list(tmp_path.iterdir()) == [prepared]


def test_fit_tells_what_it_took_for_granted(copied: Path) -> None:
    """The run is there already: the same call only reads it."""
    told = fit(copied / "histories", copied, model=MODEL, train=TRAIN).notes
    assert told == ("times are seconds: only so do all of them lie between 1980 and 2100",)


def test_half_lives_are_those_of_the_run(run: Run) -> None:
    table = run.half_lives(bootstrap=0)
    assert {"head", "group", "half_life_days", "low", "high", "events"} <= set(table.columns)
    assert {"jazz", "rock"} <= set(table["group"])


def test_a_timestamp_of_pairs_is_not_silently_left_unread(run: Run) -> None:
    frame = pl.DataFrame({"user_id": ["u01"], "item_id": ["i01"], "timestamp": [END]})
    with pytest.raises(InputError, match="column 'timestamp' is not read; rename it to 'at'"):
        run.score(frame)


def test_context_of_numbers_and_vectors() -> None:
    random = np.random.default_rng(0)
    training = pl.DataFrame(
        {
            "battery": random.random(50),
            "place": pl.Series(random.normal(size=(50, 3)).tolist()),
            "lat": random.uniform(-80, 80, 50),
            "lon": random.uniform(-80, 80, 50),
        }
    )
    encoder = fit_features(training, FeatureSpec({"place": "vector"}))
    histories = Histories.from_arrays(
        np.zeros(1, int), np.zeros(1, int), np.zeros(1, int), items=1,
        config={"features": {"context": {"encoder": encoder.to_json()}}},
    )  # fmt: skip
    missing, notes = asked.context_of(histories, None)
    assert missing.numeric.shape == (1, len(encoder.numeric_names))
    assert notes == ()
    for name, value in (("battery", "0.5"), ("place", [1.0, 2.0, 3.0]), ("battery", 0.9)):
        there, notes = asked.context_of(histories, {name: value})
        assert not np.array_equal(there.numeric, missing.numeric)
        assert notes == ()
    for name, value, wanted in (
        ("battery", "abc", "a number"),
        ("place", "home", "a list of numbers"),
        ("place", [1.0], "a list of numbers"),
    ):
        with pytest.raises(InputError, match=re.escape(f"context {name}={value!r}: give {wanted}")):
            asked.context_of(histories, {name: value})
