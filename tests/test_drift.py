"""Drift over a log: planted changes are found where they were planted and called what they are, chance is
not, and pooled streams are their events added up."""

import numpy as np
import polars as pl
import pytest

from jaxdecay import cohorts
from jaxdecay.alarms import adwin
from jaxdecay.changes import Namer, by_items, by_kind, changes
from jaxdecay.data.histories import Histories
from jaxdecay.drift import Drift, DriftOptions, detect, onset
from jaxdecay.errors import InputError
from jaxdecay.streams import Streams
from jaxdecay.watch import watch

DAY = 86_400
START = 1_700_000_000
KINDS = 6
EVENTS = 120
CHANGE = 80
USERS = 60
MOVED = USERS // 3
VECTORS = np.eye(KINDS, dtype=np.float32)


def picks(random: np.random.Generator, moved: bool) -> np.ndarray:
    """Items of one user: mostly of two kinds, and after the change, of two others."""
    likes = np.full(KINDS, 0.05)
    likes[random.choice(4, 2, replace=False)] = 0.4
    item = random.choice(KINDS, EVENTS, p=likes / likes.sum())
    if moved:
        item[CHANGE:] = random.choice([4, 5], EVENTS - CHANGE)
    return item


@pytest.fixture(scope="module")
def streams() -> Streams:
    """The first third of the users move on at an event, the others never do."""
    random = np.random.default_rng(0)
    item = np.concatenate([picks(random, user < MOVED) for user in range(USERS)])
    gap = random.lognormal(-1, 1, (USERS, EVENTS)) * DAY
    time = START + np.cumsum(gap, axis=1).astype(np.int64).ravel()
    return Streams(np.arange(USERS + 1) * EVENTS, time, item, VECTORS)


@pytest.fixture(scope="module")
def drift(streams: Streams) -> Drift:
    return detect(streams)


def test_who_moved_is_found_soon_and_hardly_anybody_else(streams: Streams, drift: Drift) -> None:
    found = drift.detections.with_columns(place=pl.col("event") % EVENTS, moved=pl.col("stream") < MOVED)
    others = found.filter(~pl.col("moved"))["stream"].n_unique()
    assert others <= 0.15 * (USERS - MOVED)
    after = found.filter("moved", pl.col("place") >= CHANGE).group_by("stream").agg(pl.col("place").min())
    assert len(after) >= 0.9 * MOVED
    assert after["place"].median() - CHANGE <= 8  # pyrefly: ignore[unsupported-operation]
    started = [onset(streams, event, drift.half_lives) % EVENTS for event in found.filter("moved")["event"]]
    assert np.median(np.abs(np.array(started) - CHANGE)) <= 3
    assert (
        found["since"].to_list()
        == streams.time[[onset(streams, event, drift.half_lives) for event in found["event"]]].tolist()
    )
    assert (found["statistic"] > drift.threshold).all()


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_the_threshold_keeps_to_the_share_of_false_alarms(share: float) -> None:
    random = np.random.default_rng(1)
    users = 400
    item = np.concatenate([picks(random, False)[:40] for _ in range(users)])
    time = START + np.cumsum(random.lognormal(-1, 1, (users, 40)) * DAY, axis=1).astype(np.int64).ravel()
    found = detect(Streams(np.arange(users + 1) * 40, time, item, VECTORS), DriftOptions(false_alarms=share))
    alarmed = found.detections["stream"].n_unique() / users
    assert alarmed == pytest.approx(share, abs=3 * (share / users) ** 0.5)
    assert found.watched == users


@pytest.mark.parametrize("method", ["cosine", "page-hinkley", "cusum"])
def test_older_ways_find_a_plain_change_too(streams: Streams, method) -> None:
    found = detect(streams, DriftOptions(method=method)).detections.with_columns(
        place=pl.col("event") % EVENTS
    )
    after = found.filter(pl.col("stream") < MOVED, pl.col("place") >= CHANGE)["stream"].n_unique()
    assert after >= MOVED / 2


def test_adwin_finds_where_errors_grow() -> None:
    pytest.importorskip("river")
    random = np.random.default_rng(2)
    errors = random.random((2, 300)).astype(np.float32) * 0.1
    errors[0, 200:] += 0.8
    mask = np.ones((2, 300), bool)
    mask[:, -10:] = False
    found = adwin(errors, mask, delta=0.01)
    assert not found[1].any()
    assert 200 <= np.flatnonzero(found[0])[0] <= 240
    assert not found[:, -10:].any()


def test_some_streams_are_watched_like_all(streams: Streams, drift: Drift) -> None:
    some = np.array([7, 3])
    found = detect(streams.take(some), among=streams)
    assert found.threshold == drift.threshold
    for place, stream in enumerate(some):
        own = slice(stream * EVENTS, (stream + 1) * EVENTS)
        np.testing.assert_allclose(
            found.statistic[place * EVENTS : (place + 1) * EVENTS], drift.statistic[own], atol=1e-5
        )


def told(items: list[int], days: list[float], moved: bool = True) -> pl.DataFrame:
    """What a change at the last event of one user is called: half-lives of 2 and 20 days."""
    time = START + np.round(np.array(days) * DAY).astype(np.int64)
    streams = Streams(np.array([0, len(items)]), time, np.array(items), VECTORS)
    event = len(items) - 1
    detections = pl.DataFrame({"stream": [0], "event": [event], "timestamp": [int(time[-1])]})
    found = Drift(detections, np.zeros(len(items), np.float32), 5.0, (2.0, 20.0), 1)
    frame = changes(found, streams, by_kind(np.arange(KINDS), list("abcdef")))
    near = changes(found, streams, by_items(VECTORS, list("abcdef")))
    assert frame["change"].item() == near["change"].item()
    if frame["rising"].item().to_list():
        assert near["rising"].item()[0] == frame["rising"].item()[0]
    return frame


def test_changes_are_called_what_they_are() -> None:
    long = [float(day) for day in range(0, 40, 2)]
    lately = [40.0, 41.0, 42.0]
    emerging = told([0] * 20 + [1] * 3, long + lately)
    assert emerging.select("change", "rising", "falling").rows() == [("emerging", ["b"], ["a"])]
    once = [-60.0, -59.0]
    assert told([1, 1] + [0] * 20 + [1] * 3, once + long + lately)["change"].item() == "returning"
    once = [30.0, 31.0]  # nine days before: longer than three half-lives of two days
    away = told([0] * 15 + [1, 1] + [0] * 4 + [1] * 3, long[:15] + once + long[16:] + lately)
    assert away["change"].item() == "returning"
    both = [0, 0, 1] * 6 + [0, 0] + [1] * 3
    assert told(both, long + lately)["change"].item() == "shifting"
    spread = told([0] * 20 + [1, 2, 3, 4, 5, 0], [*long, 40, 40.1, 40.2, 40.3, 40.4, 40.5])
    assert spread["falling"].item().to_list() == ["a"]


def test_what_vanishes_has_a_name() -> None:
    kinds, names = 10, list("abcdefghij")
    vectors = np.eye(kinds)

    def called(items: list[int], half_lives: tuple[float, float], *namers: Namer) -> list[tuple]:
        """As of the last of events that are a day apart."""
        time = START + np.arange(len(items)) * DAY
        streams = Streams(np.array([0, len(items)]), time, np.array(items), vectors)
        detections = pl.DataFrame({"stream": [0], "event": [len(items) - 1], "timestamp": [int(time[-1])]})
        found = Drift(detections, np.zeros(len(items), np.float32), 5.0, half_lives, 1)
        told = (changes(found, streams, namer).select("change", "rising", "falling") for namer in namers)
        return [row for frame in told for row in frame.rows()]

    # Five go and five come, none of them by much.
    many = [4, 3, 2, 1, 0] * 24 + [5, 6, 7, 8, 9] * 2
    both = by_kind(np.arange(kinds), names), by_items(vectors, names)
    for change, rising, falling in called(many, (30.0, 300.0), *both):
        assert (change, rising, len(falling)) == ("vanishing", [], 1)
        assert falling[0] in "abcde"
    # Within one kind nothing went.
    within = called(many, (30.0, 300.0), by_kind(np.zeros(kinds, int), ["all"]))
    assert within == [("shifting", [], [])]


def log(users: int, clock: str = "utc") -> Histories:
    random = np.random.default_rng(3)
    user = np.repeat(np.arange(users), 30)
    time = START + np.sort(random.integers(0, 20 * DAY, (users, 30)), axis=1).ravel()
    config = {"clock": clock, "behaviours": [], "counts": {"known_users": users, "known_items": KINDS}}
    return Histories.from_arrays(user, random.integers(0, KINDS, len(user)), time, items=KINDS, config=config)


def test_a_day_of_a_cohort_is_the_mean_of_its_events() -> None:
    histories = log(8)
    cohort = np.array([0, 1, 0, 1, 0, -1, 0, 1])
    random = np.random.default_rng(4)
    vectors = random.normal(size=(KINDS, 3))
    vectors[2] = 0  # unknown
    kind = np.array([0, 1, 0, 1, 0, -1])
    streams, share = cohorts.pooled(histories, cohort, vectors, kind, 2)
    assert share is not None
    user, item = histories.user(), np.asarray(histories.item)
    day = np.asarray(histories.time) // DAY
    for stream in (0, 1):
        rows = range(*streams.offsets[stream : stream + 2])
        own = (cohort[user] == stream) & (item != 2)
        assert [int(streams.time[row]) for row in rows] == [
            int(one) * DAY + DAY // 2 for one in np.unique(day[own])
        ]
        for row in rows:
            events = item[own & (day == streams.time[row] // DAY)]
            np.testing.assert_allclose(streams.vectors[row], vectors[events].mean(0))
            of = kind[events][kind[events] >= 0]
            expected = np.bincount(of, minlength=2) / max(1, len(of))
            np.testing.assert_allclose(share[row], expected)
    with pytest.raises(InputError, match="times are relative"):
        cohorts.pooled(log(2, "relative"), np.zeros(2, int), vectors)


ITEMS = pl.DataFrame({"index": range(KINDS), "item_id": list("abcdef"), "genre": ["jazz", "rock"] * 3})
PEOPLE = pl.DataFrame(
    {"index": range(8), "user_id": [f"u{user}" for user in range(8)], "land": ["de", "fr"] * 4}
)


def test_users_cohorts_and_the_catalogue_are_called_by_name() -> None:
    histories = log(8)

    def seen(**options):
        return watch(histories, VECTORS, ITEMS, PEOPLE, DriftOptions(false_alarms=0.99), **options)

    own = seen(chosen=np.array([5, 2]))
    assert own.owners.to_list() == ["u5", "u2"]
    assert set(own.detections["user_id"]) <= {"u5", "u2"}
    assert own.detections["timestamp"].is_sorted()
    assert {*own.detections["rising"].explode(), *own.detections["falling"].explode()} <= {
        "jazz",
        "rock",
        None,
    }
    assert own.alarmed == own.detections["user_id"].n_unique() <= own.watched == 2
    line = own.statistic("u2")
    assert line["timestamp"].to_list() == np.asarray(histories.time)[60:90].tolist()
    with pytest.raises(InputError, match="'u1' was not watched"):
        own.statistic("u1")
    land = seen(by="land")
    assert land.owners.to_list() == ["de", "fr"]
    assert land.detections.columns[0] == "land"
    assert seen(by="catalogue").owners.to_list() == ["catalogue"]
    assert set(seen(column="item_id").detections["rising"].explode().drop_nulls()) <= set("abcdef")
    for options, words in (
        ({"by": "lamd"}, "drift by 'lamd': there are user, catalogue, land; perhaps 'land'"),
        ({"column": "gendre"}, "item column 'gendre': there are .*; perhaps 'genre'"),
    ):
        with pytest.raises(InputError, match=words):
            seen(**options)


def test_what_was_no_choice_says_nothing() -> None:
    histories = log(2)
    shown = np.arange(60) % 3 == 0
    histories = histories.replace(label=np.where(shown, 0.0, 1.0).astype(np.float32))
    found = detect(cohorts.of_users(histories, VECTORS))
    item = np.where(shown, (np.asarray(histories.item) + 1) % KINDS, histories.item).astype(np.int32)
    other = detect(cohorts.of_users(histories.replace(item=item), VECTORS))
    np.testing.assert_allclose(found.statistic, other.statistic)
    assert found.threshold == other.threshold
    days = [
        cohorts.pooled(one, np.zeros(2, int), VECTORS).streams
        for one in (histories, histories.replace(item=item))
    ]
    np.testing.assert_allclose(days[0].vectors, days[1].vectors)


def test_what_cannot_be_watched_is_refused() -> None:
    with pytest.raises(InputError, match="give a share between 0 and 1"):
        DriftOptions(false_alarms=0.0)
    one = Streams(np.array([0, 1]), np.array([START]), np.array([0]), VECTORS)
    with pytest.raises(InputError, match="nothing that could drift"):
        detect(one)
    two = Streams(np.array([0, 2]), np.array([START, START + DAY]), np.array([0, 1]), VECTORS)
    with pytest.raises(InputError, match="fast=9d is no shorter than slow=3d"):
        detect(two, DriftOptions(fast="9d", slow="3d"))
