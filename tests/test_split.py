"""Splits, folds and requests: what must hold for every log, and small logs worked out by hand."""

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdecay.data.histories import Histories
from jaxdecay.data.split import (
    Requests,
    SplitOptions,
    assign_parts,
    describe_split,
    known_first,
    repeat_share,
    requests,
    rolling_folds,
    sample,
    withheld,
)
from jaxdecay.errors import InputError

EVENTS = 60


def make(
    user: list[int], time: list[int], kind: str = "global-time", item: Any = None, **options: Any
) -> Histories:
    """A log split as asked, its items numbered by row unless given."""
    clock = options.pop("clock", "utc")
    chosen = SplitOptions(kind=kind, **options)  # pyrefly: ignore[bad-argument-type]
    items = np.arange(len(user)) if item is None else np.asarray(item)
    histories = Histories.from_arrays(np.array(user), items, np.array(time), config={"clock": clock})
    part = assign_parts(histories.time, histories.offsets, chosen, clock=clock)
    histories = histories.replace(part=part)
    histories.config["split"] = describe_split(histories, chosen)
    return histories


logs = st.builds(
    lambda user, time: (user.tolist(), time.tolist()),
    hnp.arrays(np.int64, EVENTS, elements=st.integers(0, 8)),
    hnp.arrays(np.int64, EVENTS, elements=st.integers(0, 40)),  # with many ties
)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.4])


def parts_by_user(histories: Histories) -> list[list[int]]:
    return [part.tolist() for part in np.split(histories.part, histories.offsets[1:-1])]


@given(logs, shares, shares)
def test_global_time_never_trains_on_what_comes_after(log: Any, test: float, validation: float) -> None:
    try:
        histories = make(*log, test=test, validation=validation)
    except InputError:
        assert len(set(log[1])) <= (test > 0) + (validation > 0)  # each cut needs an event before it
        return
    part, time = histories.part, histories.time
    for earlier, later in ((0, 1), (0, 2), (1, 2)):
        if (part == earlier).any() and (part == later).any():
            assert time[part == earlier].max() < time[part == later].min()
    assert (part == 0).any()
    assert (part == 1).any() == (validation > 0)
    assert (part == 2).any() == (test > 0)
    split = histories.config["split"]
    if test:
        assert (part == 2).tolist() == (time >= split["test_from"]).tolist()


@given(logs, shares, shares, st.sampled_from(["global-time", "leave-one-out", "per-user-time"]))
def test_parts_of_a_user_follow_each_other(log: Any, test: float, validation: float, kind: str) -> None:
    try:
        histories = make(log[0], log[1], kind, test=test, validation=validation)
    except InputError:
        return
    for part in parts_by_user(histories):
        assert part == sorted(part)
    json.dumps(histories.config)


@given(logs)
def test_leave_one_out_holds_out_exactly_the_last_two(log: Any) -> None:
    histories = make(log[0], log[1], "leave-one-out")
    for part in parts_by_user(histories):
        n = len(part)
        assert part == ([0] * n if n < 3 else [0] * (n - 2) + [1, 2])


@given(logs, shares, shares)
def test_per_user_time_holds_out_the_last_share(log: Any, test: float, validation: float) -> None:
    histories = make(log[0], log[1], "per-user-time", test=test, validation=validation)
    for part in parts_by_user(histories):
        n = len(part)
        if n < 3:
            assert part == [0] * n
            continue
        assert part.count(0) >= 1
        for number, share in ((1, validation), (2, test)):
            assert (part.count(number) >= 1) == (share > 0)
            assert part.count(number) <= max(1, share * n + 0.5)


def test_ties_keep_file_order() -> None:
    histories = make([0] * 5, [7] * 5, "leave-one-out", item=[3, 1, 4, 0, 2])
    assert histories.item.tolist() == [3, 1, 4, 0, 2]
    assert histories.part.tolist() == [0, 0, 0, 1, 2]


def test_shares_of_a_log_without_ties_are_exact() -> None:
    histories = make([0] * 100, list(range(100)), test=0.1, validation=0.2)
    assert np.bincount(histories.part).tolist() == [70, 20, 10]
    split = histories.config["split"]
    assert (split["validation_from"], split["test_from"]) == (70, 90)
    assert split["events"] == {"train": 70, "validation": 20, "test": 10}
    assert split["warnings"] == []


def test_users_who_come_after_the_cut_are_kept_as_cold() -> None:
    histories = make([0] * 8 + [1] * 2, list(range(10)), test=0.2, validation=0.1)
    assert histories.config["split"]["cold_users"] == 1
    assert histories.config["split"]["users"] == {"train": 1, "validation": 1, "test": 1}
    asked = requests(histories, 2)
    assert asked.user.tolist() == [1, 1]
    assert (asked.history_end - histories.offsets[asked.user]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("user", "time", "options", "message"),
    [
        ([0, 1, 2], [1, 2, 3], {}, "nobody has two events"),
        ([0, 0, 1], [5, 5, 5], {}, "1 distinct times are too few"),
        ([0, 0, 1], [5, 5, 6], {}, "2 distinct times are too few.*leave-one-out"),
        ([0, 0, 1], [1, 2, 3], {"kind": "leave-one-out"}, "nobody has three events.*global-time"),
        ([0, 0, 0], [1, 2, 3], {"clock": "relative"}, "--split per-user-time --clock relative"),
        ([0, 0], [1, 2], {"test": 1.0}, r"--split.test 1.0"),
        ([0, 0], [1, 2], {"validation": -0.1}, r"--split.validation -0.1"),
        ([0, 0], [1, 2], {"test": 0.6, "validation": 0.4}, "leave nothing to train"),
        ([0, 0], [1, 2], {"folds": 0}, r"--split.folds 0"),
    ],
)
def test_what_cannot_be_split_is_refused_in_one_line(
    user: Any, time: Any, options: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(user, time, **options)
    assert "\n" not in str(caught.value)


def test_leave_one_out_warns_of_the_future() -> None:
    histories = make([0] * 4 + [1] * 4, [0, 1, 2, 3, 10, 11, 12, 13], "leave-one-out")
    (warning,) = histories.config["split"]["warnings"]
    assert "50% of training events" in warning  # two of four; the held-out events lie at 2, 3, 12 and 13
    relative = make([0] * 4 + [1] * 4, [0, 1, 2, 3, 0, 1, 2, 3], "per-user-time", clock="relative")
    assert relative.config["split"]["warnings"] == []


@given(logs, st.integers(1, 4))
def test_rolling_folds_in_time_validate_after_they_train(log: Any, folds: int) -> None:
    try:
        histories = make(*log)
    except InputError:
        return
    try:
        parts = rolling_folds(histories, folds, share=0.2)
    except InputError:
        assert len(np.unique(histories.time[histories.part == 0])) <= folds
        return
    time, end = histories.time, -1
    assert len(parts) == folds
    for part in parts:
        assert (part[histories.part > 0] == -1).all()
        assert time[part == 0].max() < time[part == 1].min()
        assert end < time[part == 1].min()  # the folds follow each other
        assert ((part == 0) == (time < time[part == 1].min())).all()
        end = time[part == 1].max()
    assert ((parts[-1] >= 0) == (histories.part == 0)).all()


@given(logs, st.integers(1, 3), st.sampled_from(["leave-one-out", "per-user-time"]))
def test_rolling_folds_by_user_step_through_each_history(log: Any, folds: int, kind: str) -> None:
    histories = make(log[0], log[1], kind)
    parts = rolling_folds(histories, folds)
    for user, outer in enumerate(parts_by_user(histories)):
        train = outer.count(0)
        for fold, part in enumerate(parts_by_user(histories.replace(part=p)) for p in parts):
            mine, left = part[user], folds - fold
            window = 1 if kind == "leave-one-out" else max(1, round(0.1 * train))
            if train <= folds * window:
                assert mine[:train] == [0] * train
            else:
                later = window * (left - 1)
                assert mine[:train] == [0] * (train - window - later) + [1] * window + [-1] * later
            assert mine[train:] == [-1] * (len(outer) - train)


def test_rolling_folds_refuse_too_many() -> None:
    histories = make([0] * 8, list(range(8)))
    with pytest.raises(InputError, match="20 rolling folds"):
        rolling_folds(histories, 20)
    with pytest.raises(InputError, match="distinct times are too few for 8 folds"):
        rolling_folds(histories, 8, share=0.1)


def test_repeat_share_counts_earlier_takings_in_training_only() -> None:
    user = np.array([0, 0, 0, 0, 1, 1])
    item = np.array([5, 5, 6, 5, 5, 5])
    assert repeat_share(user, item, np.array([0, 0, 0, 0, 0, 0])) == 3 / 6
    assert repeat_share(user, item, np.array([0, 0, 0, 1, 0, 2])) == 1 / 4
    assert repeat_share(user, item, np.array([1, 1, 1, 1, 1, 1])) == 0


@given(
    hnp.arrays(np.int32, 30, elements=st.integers(0, 12)), hnp.arrays(np.int8, 30, elements=st.integers(0, 2))
)
def test_known_first_is_a_permutation_that_keeps_order(codes: np.ndarray, part: np.ndarray) -> None:
    new, known = known_first(codes, part, 13)
    assert sorted(new.tolist()) == list(range(13))
    in_training = sorted(set(codes[part == 0].tolist()))
    assert known == len(in_training)
    assert new[in_training].tolist() == list(range(known))
    assert new[sorted(set(range(13)) - set(in_training))].tolist() == list(range(known, 13))


def toy() -> Histories:
    """User 0 has five events (three train), user 1 has three, user 2 comes after the cut."""
    user, time = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 1, 2, 8, 9, 3, 8, 8, 9, 9, 10]
    item = [0, 1, 0, 2, 2, 3, 4, 0, 1, 1, 5]
    histories = Histories.from_arrays(np.array(user), np.array(item), np.array(time))
    part = np.where(histories.time < 8, 0, 2).astype(np.int8)
    return histories.replace(part=part, config={**histories.config, "split": {"kind": "global-time"}})


def rows(asked: Requests) -> list[tuple[int, int, int, list[int], int]]:
    bounds = asked.target_offsets
    targets = [asked.targets[begin:end] for begin, end in pairwise(bounds)]
    columns = (asked.user, asked.history_end, asked.at, targets, asked.event)
    return [
        (int(u), int(h), int(t), list(map(int, i)), int(e)) for u, h, t, i, e in zip(*columns, strict=True)
    ]


def test_successive_requests_move_on() -> None:
    assert rows(requests(toy(), 2, "successive")) == [
        (0, 3, 8, [2], 3),
        (0, 4, 9, [2], 4),
        (1, 6, 8, [4], 6),
        (1, 7, 8, [0], 7),
        (2, 8, 9, [1], 8),
        (2, 9, 9, [1], 9),
        (2, 10, 10, [5], 10),
    ]
    assert rows(requests(toy(), 2)) == rows(requests(toy(), 2, "successive"))


def test_last_requests() -> None:
    assert rows(requests(toy(), 2, "last")) == [(0, 4, 9, [2], 4), (1, 7, 8, [0], 7), (2, 10, 10, [5], 10)]


def test_all_requests_ask_once_for_different_items() -> None:
    assert rows(requests(toy(), 2, "all")) == [(0, 3, 8, [2], 3), (1, 6, 8, [4, 0], 6), (2, 8, 9, [1, 5], 8)]


@pytest.mark.parametrize("targets", ["last", "successive", "all"])
def test_a_part_without_events_asks_nothing(targets: Any) -> None:
    asked = requests(toy(), 1, targets)
    assert rows(withheld(asked, toy())) == []
    assert asked.target_offsets.tolist() == [0]
    assert len(sample(asked, 5, seed=0)) == 0


def test_targets_are_named() -> None:
    histories = toy()
    histories.config["split"]["targets"] = "some"
    with pytest.raises(InputError, match="targets 'some'"):
        requests(histories, 2)


def test_withheld_takes_the_time_of_the_last_visible_event() -> None:
    asked = withheld(requests(toy(), 2, "successive"), toy())
    # user 2 has nothing to see at first: the end of training, which is user 1's event at 3
    assert asked.at.tolist() == [2, 8, 3, 8, 3, 9, 9]
    assert asked.history_end.tolist() == requests(toy(), 2).history_end.tolist()


@given(logs, st.sampled_from(["last", "successive", "all"]))
def test_a_request_sees_no_target_and_nothing_later(log: Any, targets: Any) -> None:
    try:
        histories = make(*log)
    except InputError:
        return
    for part in (1, 2):
        asked = requests(histories, part, targets)
        assert (histories.part[asked.event] == part).all()
        assert (asked.history_end <= asked.event).all()
        assert (histories.offsets[asked.user] <= asked.history_end).all()
        assert (asked.at == histories.time[asked.event]).all()
        assert (withheld(asked, histories).at <= asked.at).all()
        assert asked.targets[asked.target_offsets[:-1]].tolist() == histories.item[asked.event].tolist()
        for _, _, _, items, _ in rows(asked):
            assert len(items) == len(set(items))


def test_sample_and_take_keep_requests_whole() -> None:
    asked = requests(toy(), 2, "all")
    assert rows(asked.take(np.array([2, 0]))) == [rows(asked)[2], rows(asked)[0]]
    assert rows(asked.take(np.array([False, True, True]))) == rows(asked)[1:]
    assert rows(asked.take(slice(0, 0))) == []
    drawn = sample(asked, 2, seed=3)
    assert rows(drawn) == rows(sample(asked, 2, seed=3))
    assert [row for row in rows(asked) if row in rows(drawn)] == rows(drawn)
    assert sample(asked, 3, seed=0) is asked
