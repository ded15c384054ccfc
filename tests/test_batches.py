"""Batches: what is asked for, what it may see, and that nothing but seed, step and host decides."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdecay.data.batches import Batch, Batches
from jaxdecay.data.buckets import least_padding
from jaxdecay.data.catalogue import build_catalogue
from jaxdecay.data.gather import Reference
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError

lengths = st.lists(st.integers(1, 45), min_size=3, max_size=8).map(tuple)


def batches(histories: Histories, **options: Any) -> Batches:
    options: dict[str, Any] = {"window": 8, "tokens": 24} | options
    return Batches(histories, build_catalogue(histories, [3.0]), Reference.of(histories), **options)


def events(batch: Batch) -> np.ndarray[Any, Any]:
    """Rows of the log that are targets of this batch."""
    return np.asarray(batch.requests.context_numeric)[..., 0][batch.valid].astype(int)


def same(one: Batch, other: Batch) -> bool:
    return all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@given(lengths, st.integers(1, 20), st.integers(1, 100), st.integers(0, 2), st.integers(0, 3))
@settings(max_examples=40)
def test_every_training_event_is_a_target_exactly_once_an_epoch(
    lengths: tuple[int, ...], window: int, tokens: int, held_out: int, seed: int
) -> None:
    histories = toys.log(lengths, held_out=held_out)
    if not (histories.part == 0).any():
        return
    source = batches(histories, window=window, tokens=tokens, seed=seed)
    for epoch in range(2):
        steps = range(epoch * source.per_epoch, (epoch + 1) * source.per_epoch)
        found = np.concatenate([events(source[step]) for step in steps])
        assert sorted(found) == np.flatnonzero(histories.part == 0).tolist()
    assert source.targets == len(found)


@given(lengths, st.integers(1, 20), st.integers(0, 20))
@settings(max_examples=40)
def test_training_events_may_stand_anywhere(lengths: tuple[int, ...], window: int, seed: int) -> None:
    histories = toys.log(lengths)
    random = np.random.default_rng(seed)
    histories = histories.replace(part=np.where(random.random(histories.events) < 0.3, 0, 3).astype(np.int8))
    trained = np.flatnonzero(histories.part == 0)
    if not len(trained):
        return
    source = batches(histories, window=window)
    found = np.concatenate([events(source[step]) for step in range(source.per_epoch)])
    assert sorted(found) == trained.tolist()
    assert source.targets == len(trained)
    rows = source.rows
    for user, first, start, end in zip(*rows, strict=True):
        assert first == histories.offsets[user] <= start < end <= histories.offsets[user + 1]
        assert histories.part[end - 1] == 0  # no window is read for nothing
        assert end - start == window or start == first


@pytest.mark.parametrize("request_time", ["used", "ignored"])
def test_an_item_is_a_target_once_it_is_a_candidate(request_time: Any) -> None:
    histories = toys.log((20, 9, 15), items=9, held_out=1)
    came = np.random.default_rng(0).choice(histories.time, 9)
    source = batches(histories, first_seen=came, request_time=request_time)
    asked = np.asarray(histories.time).copy()
    if request_time == "ignored":
        first = histories.offsets[histories.user()]
        asked = asked[np.maximum(np.arange(histories.events) - 1, first)]
    expected = np.flatnonzero((histories.part == 0) & (came[histories.item] < asked))
    found = np.concatenate([events(source[step]) for step in range(source.per_epoch)])
    assert sorted(found) == expected.tolist()
    assert source.targets == len(expected) < (histories.part == 0).sum()


@given(lengths, st.integers(1, 9), st.integers(1, 60), st.integers(0, 2))
@settings(max_examples=30)
def test_in_the_order_of_time_nothing_comes_before_what_ended_earlier(
    lengths: tuple[int, ...], window: int, tokens: int, held_out: int
) -> None:
    histories = toys.log(lengths, held_out=held_out)
    if not (histories.part == 0).any():
        return
    source = batches(histories, window=window, tokens=tokens, in_order=True)
    found = [source[step] for step in range(source.per_epoch)]
    every = np.concatenate([events(batch) for batch in found])
    assert sorted(every) == np.flatnonzero(histories.part == 0).tolist()
    time = np.asarray(histories.time)
    ends, shapes = [], []
    for batch in found:
        rows = np.asarray(batch.requests.context_numeric)[..., 0].astype(int)
        last = [time[row[valid][-1]] for row, valid in zip(rows, batch.valid, strict=True) if valid.any()]
        assert last == sorted(last)
        ends.append(np.array(last))
        shapes.append(batch.history.item.shape[1:])
    assert (np.diff([end.mean() for end in ends]) >= 0).all()
    for shape in set(shapes):  # rows of one shape are in order from batch to batch
        own = np.concatenate([end for end, other in zip(ends, shapes, strict=True) if other == shape])
        assert (np.diff(own) >= 0).all()
    assert all(same(batch, source[source.per_epoch + step]) for step, batch in enumerate(found))


@given(lengths, st.integers(1, 20), st.floats(0.05, 5), st.integers(0, 1))
@settings(max_examples=30)
def test_what_a_target_counts_for_halves_with_the_share_of_targets_after_it(
    lengths: tuple[int, ...], window: int, half_life: float, held_out: int
) -> None:
    histories = toys.log(lengths, held_out=held_out)
    if not (histories.part == 0).any():
        return
    source = batches(histories, window=window, evidence_half_life=half_life)
    found = [source[step] for step in range(source.per_epoch)]
    event = np.concatenate([events(batch) for batch in found])
    counts = np.concatenate([batch.evidence[batch.valid] for batch in found])
    assert counts.mean() == pytest.approx(1, rel=1e-5)
    assert all((batch.evidence[~batch.valid] == 0).all() for batch in found)
    time = np.asarray(histories.time)[event]
    later = (time[None] > time[:, None]).mean(1)
    np.testing.assert_allclose(counts / counts.max(), 2 ** (-later / half_life), rtol=1e-5)
    plain = batches(histories, window=window)
    assert all((batch.evidence == batch.valid).all() for batch in (plain[s] for s in range(plain.per_epoch)))


@pytest.mark.parametrize("request_time", ["used", "ignored"])
def test_evidence_is_that_of_the_targets_that_are_asked_for(request_time: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("jaxdecay.data.batches._MOMENTS", 12)
    histories = toys.log((20, 9, 15), items=9, held_out=1)
    came = np.random.default_rng(0).choice(histories.time, 9)
    source = batches(histories, first_seen=came, request_time=request_time, evidence_half_life=0.3)
    found = [source[step] for step in range(source.per_epoch)]
    asked, counts = (
        np.concatenate([x[batch.valid] for batch, x in zip(found, leaves, strict=True)])
        for leaves in ([batch.requests.at for batch in found], [batch.evidence for batch in found])
    )
    assert len(counts) == source.targets
    assert counts.mean() == pytest.approx(1, rel=1e-5)
    assert len(np.unique(counts)) <= 12
    exact = 2 ** (-(asked[None] > asked[:, None]).mean(1) / 0.3)
    np.testing.assert_allclose(counts, exact / exact.mean(), rtol=0.35)  # twelve steps of a curve
    assert (np.diff(counts[np.argsort(asked, kind="stable")]) >= 0).all()


def test_batches_are_pure_functions_of_seed_step_and_host() -> None:
    histories = toys.log((45, 20, 9, 9, 30, 3))
    one, other = batches(histories, seed=5), batches(histories, seed=5)
    steps = list(range(2 * one.per_epoch))
    forwards = {step: one[step] for step in steps}
    for step in reversed(steps):
        assert same(other[step], forwards[step])
    assert [events(forwards[s]).tolist() for s in steps[: one.per_epoch]] != [
        events(forwards[s]).tolist() for s in steps[one.per_epoch :]
    ]
    different = batches(histories, seed=6)
    assert not all(same(different[step], forwards[step]) for step in steps[: one.per_epoch])
    assert len(batches(histories, epochs=7)) == 7 * one.per_epoch


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_share_out_the_rows_of_every_batch_in_equal_shapes(hosts: int) -> None:
    histories = toys.log((45, 20, 9, 9, 30, 3, 17))
    sources = [batches(histories, host=host, hosts=hosts) for host in range(hosts)]
    assert len({source.per_epoch for source in sources}) == 1
    seen = []
    for step in range(sources[0].per_epoch):
        parts = [source[step] for source in sources]
        assert len({tuple(x.shape for x in jax.tree.leaves(part)) for part in parts}) == 1
        seen += [event for part in parts for event in events(part)]
    assert sorted(seen) == list(range(histories.events))


@given(lengths, st.integers(1, 20), st.integers(0, 1))
@settings(max_examples=30)
def test_a_row_holds_the_whole_past_and_nothing_else(
    lengths: tuple[int, ...], window: int, held_out: int
) -> None:
    histories = toys.log(lengths, held_out=held_out)
    if not (histories.part == 0).any():
        return
    source = batches(histories, window=window)
    for step in range(source.per_epoch):
        batch = source[step]
        past = batch.history.item.shape[1] - batch.target.shape[1]
        for row, user in enumerate(batch.history.user):
            mask, first = batch.history.mask[row], histories.offsets[min(user, histories.users - 1)]
            if user == histories.known_users:
                assert not mask.any()
                continue
            ids = batch.history.context_numeric[row, mask, 0].astype(int)
            assert ids.tolist() == list(range(first, first + len(ids)))
            assert (histories.part[ids] == 0).all()
            assert np.array_equal(batch.history.item[row, mask], histories.item[ids])
            assert mask[past - 1] or past == 0 or not mask[:past].any()
            assert not mask[past + batch.valid[row].sum() :].any()


def test_no_event_at_or_after_the_cut_is_ever_touched() -> None:
    histories = toys.log((45, 20, 9, 9, 30, 3, 17))
    cut = int(np.quantile(histories.time, 0.7))
    histories = histories.replace(
        part=(histories.time >= cut).astype(np.int8),
        config={**histories.config, "split": {"kind": "global-time"}},
    )
    source = batches(histories)
    grid = source.catalogue.grid
    for step in range(source.per_epoch):
        batch = source[step]
        times = batch.history.time[batch.history.mask].astype(np.int64) + source.reference.origin
        assert times.max() < cut
        assert (batch.requests.at[batch.valid].astype(np.int64) + source.reference.origin < cut).all()
        assert (grid[batch.grid[batch.valid]] < cut).all()


def test_targets_are_asked_for_at_their_own_time_in_their_own_context() -> None:
    histories = toys.log((45, 20, 9, 9, 30))
    source = batches(histories)
    for step in range(source.per_epoch):
        batch, ids = source[step], events(source[step])
        at = batch.requests.at[batch.valid].astype(np.int64) + source.reference.origin
        assert np.array_equal(at, histories.time[ids])
        assert np.array_equal(batch.target[batch.valid], histories.item[ids])
        assert np.array_equal(
            batch.requests.context_categorical[batch.valid], histories.context_categorical[ids]
        )
        assert np.array_equal(batch.grid[batch.valid], source.catalogue.index(histories.time[ids]))
        seen = np.broadcast_to(np.arange(batch.target.shape[1]), batch.target.shape)
        assert np.array_equal(batch.requests.seen, seen)


def test_ignored_request_times_are_those_of_the_event_before() -> None:
    histories = toys.log((45, 20, 9, 9, 30))
    source = batches(histories, request_time="ignored")
    for step in range(source.per_epoch):
        batch, ids = source[step], events(source[step])
        at = batch.requests.at[batch.valid].astype(np.int64) + source.reference.origin
        follows = ~np.isin(ids, histories.offsets[:-1])
        assert np.array_equal(at[follows], histories.time[ids[follows] - 1])
        index = source.catalogue.index(histories.time[ids[follows] - 1])
        assert np.array_equal(batch.grid[batch.valid][follows], index)


def test_weights_are_measured_in_the_mean_size_of_the_training_ones() -> None:
    histories = toys.log((20, 20), held_out=5)
    weight = np.where(histories.part == 0, -3.0, 600.0).astype(np.float32)
    weight[0] = 9.0  # thirty events: nine, and twenty-nine of three
    reference = Reference.of(histories.replace(weight=weight))
    assert reference.weight == pytest.approx((9 + 29 * 3) / 30)
    source = batches(histories)
    mean = histories.weight[histories.part == 0].mean()
    batch = source[0]
    ids = batch.history.context_numeric[batch.history.mask][:, 0].astype(int)
    np.testing.assert_allclose(
        batch.history.weight[batch.history.mask], histories.weight[ids] / mean, rtol=1e-5
    )


def test_times_are_seconds_since_the_midnight_of_a_monday() -> None:
    reference = Reference.of(toys.log())
    monday = np.datetime64(reference.origin, "s")
    assert (monday - np.datetime64("2023-11-13T00:00:00")) == np.timedelta64(0, "s")  # START is the Tuesday
    assert reference.seconds(np.array([reference.origin + 5])).dtype == np.int32
    assert reference.seconds(np.array([reference.origin - 5])).tolist() == [-5]
    relative = toys.log()
    relative = relative.replace(config={**relative.config, "clock": "relative"})
    assert Reference.of(relative).origin == 0


@pytest.mark.parametrize("away", [2**31, -(2**31) - 1, 10**12])
def test_a_time_that_32_bits_cannot_hold_is_refused(away: int) -> None:
    reference = Reference.of(toys.log())
    with pytest.raises(InputError, match="check its unit"):
        reference.seconds(np.array([reference.origin + away]))


def test_a_log_without_training_events_is_refused() -> None:
    histories = toys.log((4, 4, 4), held_out=4)
    with pytest.raises(InputError, match="no training events"):
        batches(histories)[0]


def test_few_shapes_are_compiled() -> None:
    source = batches(toys.log(tuple(range(1, 45))))
    shapes = {source[step].target.shape for step in range(source.per_epoch)}
    assert len(shapes) <= 5
    assert dataclasses.replace(source, tokens=1)[0].target.shape[0] == 1


def padding(lengths: list[int], edges: tuple[int, ...]) -> int:
    """Places that lengths take when each is padded to the smallest edge that holds it."""
    return sum(min(edge for edge in edges if edge >= length) for length in lengths)


def fewest(lengths: list[int], classes: int) -> int:
    """By trying every choice of edges among the lengths."""
    values = sorted(set(lengths))
    chosen = itertools.combinations(values, min(classes, len(values)))
    return min(padding(lengths, edges) for edges in chosen if edges[-1] == values[-1])


@given(st.lists(st.integers(1, 60), min_size=1, max_size=25), st.integers(1, 4), st.integers(1, 5))
def test_least_padding_is_the_best_of_all_choices(lengths: list[int], classes: int, step: int) -> None:
    rounded = [-(-length // step) * step for length in lengths]
    found = least_padding(np.array(lengths), classes, step=step)
    edges = tuple(edge for edge, _ in found)
    assert 1 <= len(found) <= classes
    assert list(edges) == sorted(set(edges))
    assert sorted(np.concatenate([members for _, members in found])) == list(range(len(lengths)))
    for edge, members in found:
        assert edge % step == 0
        assert all(lengths[i] <= edge for i in members)
    assert padding(rounded, edges) == fewest(rounded, len(found))
    if len(found) < min(classes, len(set(rounded))):  # one more would have saved less than a tenth
        assert fewest(rounded, len(found) + 1) >= 0.9 * fewest(rounded, len(found))


def test_least_padding_of_very_many_lengths_covers_them_all() -> None:
    lengths = np.random.default_rng(0).permutation(5_000) + 1
    found = least_padding(lengths, 3)
    assert found[-1][0] == 5_000
    assert all(lengths[members].max() <= edge for edge, members in found)
    assert sum(len(members) for _, members in found) == 5_000


def test_no_lengths_need_no_classes() -> None:
    assert least_padding(np.array([], np.int64), 3) == []
