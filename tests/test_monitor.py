"""Drift while events arrive is drift over the log."""

import numpy as np
import pytest

from jaxdecay import divergence_numpy as face
from jaxdecay.drift import calibrate, detect
from jaxdecay.monitor import Monitor
from jaxdecay.streams import Streams

DAY = 86_400
START = 1_700_000_000
VECTORS = np.concatenate([np.eye(4, 6, dtype=np.float32), np.zeros((1, 6), np.float32)])
PACES = face.Paces(np.log(2) / 2, np.log(2) / 20, 0.7, 5.0)


@pytest.fixture(scope="module")
def streams() -> Streams:
    """Users who like one item most, half of them another from the middle on; the last is of nothing known."""
    random = np.random.default_rng(0)
    users, events = 40, 60
    liked = random.integers(4, size=(users, 1)) * np.ones(events, int)
    liked[::2, 30:] = (liked[::2, 30:] + 1) % 4
    item = np.where(random.random((users, events)) < 0.6, liked, random.integers(5, size=(users, events)))
    gap = random.lognormal(-1, 1, (users, events)) * DAY
    time = START + np.cumsum(gap, axis=1).astype(np.int64).ravel()
    return Streams(np.arange(users + 1) * events, time, item.ravel(), VECTORS)


def test_event_by_event_it_finds_what_is_found_over_the_log(streams: Streams) -> None:
    found, monitor = detect(streams), Monitor(VECTORS, calibrate(streams))
    assert monitor.half_lives == found.half_lives
    assert len(found.detections) > 5
    statistic, detected = [], []
    for stream in range(len(streams.offsets) - 1):
        watching = monitor.init()
        assert not monitor.direction(watching).any()
        for event in range(streams.offsets[stream], streams.offsets[stream + 1]):
            watching = monitor.update(watching, streams.time[event], streams.item[event])
            statistic.append(watching.statistic)
            detected += [event] * watching.detected
    np.testing.assert_allclose(statistic, found.statistic, rtol=1e-3, atol=1e-3)
    assert detected == found.detections["event"].to_list()


def test_a_late_event_counts_as_it_would_have_in_time() -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(12, 6)).astype(np.float32)
    times = np.sort(random.integers(0, 40 * DAY, 12))

    def after(order: np.ndarray) -> face.Trace:
        trace = face.init(6)
        for one in order:
            trace = face.update(PACES, trace, times[one], vectors[one], float(vectors[one] @ vectors[one]))
        return trace

    in_time, late = after(np.arange(12)), after(np.array([3, 0, 1, 5, 2, 4, 9, 6, 11, 10, 7, 8]))
    np.testing.assert_allclose(late.sums, in_time.sums, rtol=1e-5, atol=1e-6)
    for one, two in zip(late[1:], in_time[1:], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5)
    assert face.statistic(PACES, late) == pytest.approx(face.statistic(PACES, in_time), rel=1e-4)
    assert face.statistic(PACES, face.init(6)) == 0


def test_the_direction_is_where_interest_went(streams: Streams) -> None:
    monitor = Monitor(VECTORS, calibrate(streams))
    watching = monitor.init()
    for event, item in enumerate([0] * 40 + [1] * 4):
        watching = monitor.update(watching, START + event * DAY // 4, item)
    direction = monitor.direction(watching)
    assert VECTORS[1] @ direction > 0.6
    assert VECTORS[0] @ direction < -0.6
    before = watching
    assert monitor.update(before, START + 400 * DAY, 4) == before._replace(detected=False)
