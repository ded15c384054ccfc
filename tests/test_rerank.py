"""Re-ranking: the greedy choices against NumPy at full length, the plain list at trade-off 1, caps, and empty
places."""

import numpy as np
import pytest
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.lists import distance
from jaxdecay.rerank import rerank

POOL, SIZE, LISTS, K = 12, 3, 5, 6


@pytest.fixture(scope="module")
def pools() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items, scores and vectors; list 1 has 8 candidates, list 2 has 4, and item 7 is unknown."""
    random = np.random.default_rng(0)
    items = np.stack([random.permutation(30)[:POOL] for _ in range(LISTS)]).astype(np.int32)
    scores = -np.sort(-random.normal(size=(LISTS, POOL)).astype(np.float32), axis=1)
    scores[:, 3] = scores[:, 2]
    for row, there in ((1, 8), (2, 4)):
        items[row, there:], scores[row, there:] = -1, -np.inf
    vectors = random.normal(size=(30, SIZE))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = 0
    return items, scores, vectors.astype(np.float32)


def similarity(vectors: np.ndarray, items: np.ndarray) -> np.ndarray:
    found = vectors[items].astype(np.float64)
    return (1 + found @ found.T) / 2


def greedy(items: np.ndarray, vectors: np.ndarray, trade_off: float, value) -> list[int]:
    """Places: each time the one with which the ``value`` of the list is greatest, the first of equals."""
    there, alike = np.flatnonzero(items >= 0), similarity(vectors, items)
    listed: list[int] = []
    for _ in range(min(K, len(there))):
        left = [place for place in there if place not in listed]
        worth = [
            trade_off / np.sqrt(place + 1) + (1 - trade_off) * value(alike, [*listed, place])
            for place in left
        ]
        listed.append(int(left[int(np.argmax(np.round(worth, 6)))]))
    return listed


def sum_of_pairs(alike: np.ndarray, listed: list[int]) -> float:
    return -alike[listed[-1], listed[:-1]].sum() / (K - 1)


def log_determinant(alike: np.ndarray, listed: list[int]) -> float:
    """By how much it grows with the last one."""
    kernel = (1 - 1e-3) * alike
    np.fill_diagonal(kernel, 1.0)
    inside = [np.linalg.slogdet(kernel[np.ix_(some, some)])[1] for some in (listed, listed[:-1])]
    return inside[0] - inside[1]


@pytest.mark.parametrize(("diversity", "value"), [("mmr", sum_of_pairs), ("dpp", log_determinant)])
@pytest.mark.parametrize("trade_off", [0.0, 0.5, 0.8])
def test_each_place_goes_to_the_greatest_gain(pools, diversity, value, trade_off: float) -> None:
    items, scores, vectors = pools
    found = rerank(items, scores, vectors, K, trade_off=trade_off, diversity=diversity)
    for row in range(LISTS):
        expected = greedy(items[row], vectors, trade_off, value)
        assert found[row].tolist() == expected + [-1] * (K - len(expected))


@pytest.mark.parametrize("diversity", ["mmr", "dpp"])
def test_relevance_alone_is_the_plain_list(pools, diversity) -> None:
    items, scores, vectors = pools
    found = rerank(items, scores, vectors, K, diversity=diversity)
    there = np.minimum((items >= 0).sum(axis=1), K)
    assert found.tolist() == [[*range(n), *[-1] * (K - n)] for n in there]


@pytest.mark.parametrize("diversity", ["mmr", "dpp"])
def test_diversity_alone_takes_an_item_of_each_direction(diversity) -> None:
    """Four directions, three items each: the first four places have one of each."""
    vectors = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    items, scores = np.arange(12, dtype=np.int32)[None], np.linspace(1, 0, 12, dtype=np.float32)[None]
    found = rerank(items, scores, vectors, K, trade_off=0.05, diversity=diversity)[0]
    assert sorted(found[:4] // 3) == [0, 1, 2, 3]
    assert found[0] == 0


def test_a_list_by_itself_is_as_among_others(pools) -> None:
    items, scores, vectors = pools
    many = rerank(items, scores, vectors, K, trade_off=0.5)
    for row in range(LISTS):
        alone = rerank(items[row : row + 1], scores[row : row + 1], vectors, K, trade_off=0.5)
        assert alone[0].tolist() == many[row].tolist()
    again = np.tile(items, (60, 1)), np.tile(scores, (60, 1))  # more than one batch
    assert (rerank(*again, vectors, K, trade_off=0.5) == np.tile(many, (60, 1))).all()


@pytest.mark.parametrize("trade_off", [1.0, 0.5])
def test_no_group_exceeds_its_cap(pools, trade_off: float) -> None:
    items, scores, vectors = pools
    group = np.arange(30) % 4 - 1  # a quarter belongs to none
    found = rerank(items, scores, vectors, K, trade_off=trade_off, group=group, cap=1)
    for row in range(LISTS):
        listed = group[items[row, found[row][found[row] >= 0]]]
        assert np.unique(listed[listed >= 0], return_counts=True)[1].max(initial=0) <= 1
    if trade_off == 1:
        for row in range(LISTS):
            used: set[int] = set()
            expected = []
            for place in np.flatnonzero(items[row] >= 0):
                of = int(group[items[row, place]])
                if of < 0 or of not in used:
                    used.add(of)
                    expected.append(int(place))
            assert found[row][found[row] >= 0].tolist() == expected[:K]


def test_distance_is_the_mean_over_pairs() -> None:
    vectors = np.array([[1, 0], [0, 1], [-1, 0], [0, 0]], np.float32)
    found = distance(np.array([[0, 1, 2], [0, 3, -1], [1, -1, -1], [0, 0, 2]]), vectors)
    np.testing.assert_allclose(found, [(1 + 2 + 1) / 3, 1, np.nan, (0 + 2 + 2) / 3], atol=1e-12)
