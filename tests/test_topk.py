"""Lists out of many items are those of all scores, sorted, whatever table the items are kept in."""

import importlib.util
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from benchmark_topk import drawn_run
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxdecay.errors import InputError
from jaxdecay.live import search, topk
from jaxdecay.live.lists import TABLES, agreement, lists_by
from jaxdecay.live.live import Live, Reading, events_of
from jaxdecay.live.tables import Table
from jaxdecay.live.trends import Trends
from jaxdecay.live.weights import Popularity
from jaxdecay.recommend import load
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.service import Service

DAY, K = 86_400, 20
HAS_USEARCH = importlib.util.find_spec("usearch") is not None
WAYS = [name for name in TABLES if name != "usearch" or HAS_USEARCH]


class System(NamedTuple):
    """A drawn model of 3000 items, its trends, and what it reads of 20 users, with all their scores."""

    live: Live
    trends: Trends
    readings: list[Reading]
    scores: np.ndarray

    def anew(self) -> Live:
        """To be changed."""
        return Live(self.live.weights, None, self.trends)


@pytest.fixture(scope="module")
def system() -> System:
    with jax.numpy_rank_promotion("allow"):
        run = drawn_run(3000, users=20, features=8)
        live = Live.of(run.predictor)
    at = live.trends.latest + DAY - live.weights.origin
    states = [live.replay(events_of(run.histories, user, live.weights)) for user in range(20)]
    readings = [live.reading(state, user, at) for user, state in enumerate(states)]
    scores = np.stack([live.scores(state, user, at) for user, state in enumerate(states)])
    return System(live, live.trends, readings, scores)


def by_hand(live: Live, reading: Reading) -> np.ndarray:
    """(V,) float64."""
    base = live.weights.targets.astype(np.float64) @ reading.query + live.prior(reading.moment)
    scores = base - np.log(np.exp(base[live.trends.came < reading.moment]).sum())
    scores[reading.items] = np.log(np.exp(scores[reading.items]) + np.exp(reading.excited))
    return scores


def test_scores_are_those_of_the_formula(system: System) -> None:
    for reading, found in zip(system.readings, system.scores, strict=True):
        np.testing.assert_allclose(found, by_hand(system.live, reading), atol=1e-5)


def in_order(scores: np.ndarray, k: int, excluded: np.ndarray) -> list[int]:
    allowed = [item for item in range(len(scores)) if not excluded[item] and scores[item] > -np.inf]
    return sorted(allowed, key=lambda item: (-scores[item], item))[:k]


@given(
    hnp.arrays(np.float32, 23, elements=st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0, 3.0, -np.inf])),
    st.integers(1, 23),
    st.sampled_from([0.0, 0.6, 9.0]),
)
def test_the_short_list_holds_the_best_and_they_are_sorted(scores, k, slack):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "_BLOCK", 3)
        chosen = topk.shortlist(scores, k, slack)
    assert chosen.tolist() == sorted(chosen.tolist())
    assert not np.isneginf(scores[chosen]).any()
    expected = in_order(scores, k, np.zeros(23, bool))
    bound = scores[expected[-1]] - slack if len(expected) == k else -np.inf
    assert set(np.flatnonzero((scores >= bound) & (scores > -np.inf))) <= set(chosen)
    items, found = topk.ordered(chosen, scores[chosen], k)
    assert items.tolist() == expected
    assert found.tolist() == scores[expected].tolist()


def test_few_are_sorted_where_many_are_scored(system: System) -> None:
    assert all(len(topk.shortlist(scores, K)) < 200 for scores in system.scores)


def test_nan_is_refused() -> None:
    scores = np.zeros(1000, np.float32)
    scores[7] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        topk.ordered(chosen := topk.shortlist(scores, K), scores[chosen], K)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_a_smaller_table_is_off_by_no_more_than_it_says(kind: str) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(5000, 16)).astype(np.float32)
    vectors[3] = 0
    table = Table.of(vectors, kind)
    step = 2.0**-8 * np.abs(vectors) if kind == "bfloat16" else np.abs(vectors).max(1, keepdims=True) / 254
    longest = np.linalg.norm(np.broadcast_to(step, vectors.shape), axis=1).max()
    assert 0 < table.error <= 1.001 * longest
    assert table.bytes <= vectors.nbytes * (0.5 if kind == "bfloat16" else 0.3126)
    for query in random.normal(size=(5, 16)).astype(np.float32):
        expected = vectors.astype(np.float64) @ query
        off = np.abs(table.products(query) - expected).max()
        assert 1e-4 < off <= table.radius(query) + 1e-5
        np.testing.assert_allclose(table.exactly(np.array([3, 9]), query), expected[[3, 9]], atol=1e-5)


@pytest.mark.parametrize("excluded", [0.0, 0.9, 0.997, 1.0])
@pytest.mark.parametrize("table", ["float32", "bfloat16", "int8"])
def test_lists_are_those_of_all_scores(system: System, table: str, excluded: float) -> None:
    lists, random = topk.Exact(system.anew(), table), np.random.default_rng(1)
    for reading, scores in zip(system.readings, system.scores, strict=True):
        out = random.random(len(scores)) < excluded
        items, found = lists.best(reading, K, out)
        expected = in_order(scores, K, out)
        assert items.tolist() == expected
        off, new = found - scores[expected], ~np.isin(expected, reading.items)
        assert np.allclose(off[new], off[new].mean() if new.any() else 0.0, atol=1e-5)  # all together
        assert np.abs(off).max(initial=0.0) <= max(lists.table.radius(reading.query) / 2, 1e-6)


def test_scores_are_read_from_the_file_of_a_smaller_table(system: System) -> None:
    live = system.anew()
    lists_by(live, "int8")
    assert live.weights.targets is not system.live.weights.targets
    np.testing.assert_array_equal(live.weights.targets, system.live.weights.targets)


needs_usearch = pytest.mark.skipif(not HAS_USEARCH, reason="usearch is not installed")


@needs_usearch
def test_a_graph_finds_nearly_all_and_the_sum(system: System) -> None:
    live = system.anew()
    found = agreement(lists_by(live, "usearch"), system.readings, K, live)
    assert found.recall > 0.97
    assert found.error < 0.1
    itself = agreement(lists_by(live, "float32"), system.readings, K, live)
    assert itself == (1.0, 0.0)


@needs_usearch
@pytest.mark.parametrize("allowed", [1500, 750, 300, 12, 0])
def test_a_graph_lists_what_may_be_listed_and_nothing_else(
    system: System, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "_FOUND", 200)  # enough, of more, and of all
    live, random = system.anew(), np.random.default_rng(2)
    lists, hits = lists_by(live, "usearch"), 0
    for reading, scores in zip(system.readings, system.scores, strict=True):
        out = np.ones(len(scores), bool)
        out[random.permutation(len(scores))[:allowed]] = False
        items, found = lists.best(reading, K, out)
        assert len(set(items.tolist())) == min(K, allowed)
        assert not out[items].any()
        assert (np.diff(found) <= 0).all()
        hits += len(set(items.tolist()) & set(in_order(scores, K, out)))
    assert hits >= 0.97 * len(system.readings) * min(K, allowed)


@needs_usearch
def test_what_has_become_popular_since_is_listed(system: System) -> None:
    live = Live(system.live.weights, None, Trends(system.trends.rates, 3000))
    for item in range(3000):
        live.trends.add(item, 1000 + item)
    lists = lists_by(live, "usearch")
    reading = system.readings[0]._replace(moment=9000)
    item = int(np.argsort(live.weights.targets @ reading.query)[2800])
    assert item not in lists.best(reading, K, None)[0]
    for _ in range(3000):
        live.trends.add(item, 8000)
    assert item in lists.best(reading, K, None)[0]


def popularity(random: np.random.Generator) -> Popularity:
    rates = np.array([1.0, 0.1, 0.0]) / DAY
    mixture = random.dirichlet(np.ones(4), 2).astype(np.float32)
    return Popularity(
        mixture[:, :3], mixture[:, 3], np.array([1.3, 0.4], np.float32), np.array([2, 5]), rates
    )


def test_popularity_is_made_anew_when_something_is_counted() -> None:
    random = np.random.default_rng(0)
    weights = popularity(random)
    trends = Trends(weights.rates, 7)
    events = [(int(item), int(at)) for item, at in random.integers(0, [7, 30 * DAY], (40, 2))]
    for item, at in events:
        trends.add(item, at)
    events.append((1, 31 * DAY))
    cold = np.isin(np.arange(7), weights.cold).astype(int)
    for at in (30 * DAY, 31 * DAY, 31 * DAY + 1):
        counts = np.zeros((3, 7))
        for item, when in events:
            if when < at:
                counts[:, item] += 0.5 ** (weights.rates * (at - when))
        shares = counts / counts.sum(axis=1, keepdims=True)
        mixed = (weights.mixture[cold] * shares.T).sum(axis=1) + weights.floor[cold] / 7
        found = trends.scores(weights, at)
        np.testing.assert_allclose(found, weights.exponent[cold] * np.log(mixed), atol=1e-6)
        assert trends.scores(weights, at) is found
        assert not found.flags.writeable
        if at == 30 * DAY:
            trends.add(1, 31 * DAY)
            assert trends.scores(weights, at) is found  # what comes at a moment is not seen at it


def test_each_event_is_counted_once_however_many_ask() -> None:
    weights = popularity(np.random.default_rng(0))
    trends, done = Trends(weights.rates, 7), threading.Event()

    def ask() -> None:
        while not done.is_set():
            trends.scores(weights, trends.latest + 1)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for one in askers:
        one.start()
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for at in range(3000):
            trends.add(at % 7, at // 3)
    finally:
        sys.setswitchinterval(often)
        done.set()
    for one in askers:
        one.join()
    trends.shares(1000)
    assert trends.counts[2].tolist() == np.bincount(np.arange(3000) % 7).tolist()  # at rate 0


@pytest.mark.parametrize("table", WAYS)
def test_a_service_lists_by_any_table(tiny_run: Path, table: str) -> None:
    run = load(tiny_run)
    with jax.numpy_rank_promotion("allow"):
        service = Service(run, MemoryStore(), table=table)
        ways: list[dict[str, Any]] = [
            {}, {"deny": ["i03", "i05"]}, {"allow": ["i01", "i02", "i03"], "exclude_seen": False},
        ]  # fmt: skip
        for filters in ways:
            expected = run.recommend(["u05"], k=3, at=1_800_000_000, **filters)
            found = service.recommend("u05", 3, 1_800_000_000, **filters)
            assert list(found.items) == expected["item_id"].to_list()
            np.testing.assert_allclose(found.scores, expected["score"], atol=1e-2)
    words = f"{table} items: recall@15 1.0000 of the exact lists of 40 users, scores off by at most "
    assert (service.notes == ()) if table == "float32" else service.notes[0].startswith(words)


def test_what_is_not_there_is_refused(tiny_run: Path) -> None:
    run = load(tiny_run)
    with jax.numpy_rank_promotion("allow"):
        with pytest.raises(InputError, match=r"table 'int4' is not known; there are float32.*perhaps 'int8'"):
            Service(run, MemoryStore(), table="int4")
        with pytest.raises(InputError, match="item 'nothing': never seen in the log of this run"):
            Service(run, MemoryStore()).recommend("u05", 3, deny=["i03", "nothing"])


def test_what_a_table_needs_is_said(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(InputError, match=r"pip install 'jaxdecay\[search\]'"):
        lists_by(system.anew(), "usearch")
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(InputError, match=r"0 MB of item vectors cannot be written .* set TMPDIR"):
        lists_by(system.anew(), "int8")
