"""The heads' own formulas: columns as vectors, popularity, revisit, similarity and the calendar."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import readout
from jaxdecay.encoders import Stack
from jaxdecay.heads.features import Columns
from jaxdecay.heads.popularity import Popularity, popularity
from jaxdecay.heads.revisit import Revisit, with_excitation
from jaxdecay.heads.similarity import OWN_VECTOR, Similarity, calendar
from jaxdecay.history import History, Items, Requests
from jaxdecay.interest import Bank

DAY = 86_400


class TestColumns:
    COLUMNS = Columns((3, 4), (1, 2), 2, 5)
    CODES = jnp.array([[1, 0, 0], [0, 0, 0], [2, 1, 3], [1, 0, 2]], jnp.int32)
    NUMBERS = jnp.array([[0.0, 0.0], [0.0, 0.0], [1.0, -2.0], [0.0, 0.0]])

    def test_embeddings_averaged_over_what_is_present_and_a_linear_map(self) -> None:
        p = toys.moved(self.COLUMNS, Columns.__call__, self.CODES, self.NUMBERS)
        found = toys.call(self.COLUMNS, Columns.__call__, p, self.CODES, self.NUMBERS)
        multi = (p["column_1"][1] + p["column_1"][3]) / 2
        expected = [
            p["column_0"][1],
            np.zeros(5),
            p["column_0"][2] + multi + p["numeric"][0] - 2 * p["numeric"][1],
            p["column_0"][1] + p["column_1"][2],
        ]
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_no_columns_add_nothing_and_have_no_parameters(self) -> None:
        nothing = Columns((), (), 0, 5)
        assert nothing.init(jax.random.key(0), self.CODES[:, :0], self.NUMBERS[:, :0]) == {}
        assert not np.asarray(nothing.apply({}, self.CODES[:, :0], self.NUMBERS[:, :0])).any()


class TestPopularity:
    def test_logarithm_of_the_mixture_of_shares_and_a_uniform_floor(self) -> None:
        head, random = Popularity(2, cold=True), np.random.default_rng(0)
        shares = random.random((2, 3, 4))
        shares = jnp.asarray(shares / shares.sum(-1, keepdims=True), jnp.float32).at[:, 0].set(0.0)
        p = toys.moved(head, Popularity.weights)
        weights, exponents = toys.call(head, Popularity.weights, p)
        cold = np.array([0, 1, 1, 0])
        found = popularity(shares, weights, exponents, jnp.asarray(cold, jnp.int32), items=4)
        for item in range(4):
            name = ("decay_mixture", "exponent"), ("decay_cold_mixture", "cold_exponent")
            logits, exponent = (np.float64(p[one]) for one in name[cold[item]])
            mixture = np.exp(logits) / np.exp(logits).sum()
            expected = exponent * np.log(
                mixture[:2] @ np.asarray(shares, np.float64)[:, :, item] + mixture[2] / 4
            )
            np.testing.assert_allclose(found[:, item], expected, rtol=1e-5)
        assert np.ptp(found[0, cold == 1]) == 0  # before the first event all items are alike

    def test_unknown_items_are_as_known_ones_where_they_have_nothing_of_their_own(self) -> None:
        p = toys.moved(Popularity(2), Popularity.weights)
        assert set(p) == {"exponent", "decay_mixture"}
        (known, unknown), exponents = toys.call(Popularity(2), Popularity.weights, p)
        np.testing.assert_array_equal(known, unknown)
        assert exponents[0] == exponents[1] == p["exponent"]


HISTORY = History(
    user=jnp.array(0, jnp.int32),
    user_categorical=jnp.zeros(0, jnp.int32),
    user_numeric=jnp.zeros(0),
    item=jnp.array([0, 1, 2, 1], jnp.int32),
    time=jnp.array([0, 2 * DAY, 2 * DAY, 5 * DAY], jnp.int32),
    mask=jnp.array([True, True, True, True]),
    behaviour=jnp.array([0, 1, 0, 1], jnp.int32),
    weight=jnp.array([1.0, 2.0, 0.5, -1.0]),
    context_categorical=jnp.zeros((4, 0), jnp.int32),
    context_numeric=jnp.zeros((4, 0)),
)


def asked(*days: float, seen: int = 3) -> Requests:
    n = len(days)
    at = jnp.asarray(np.array(days) * DAY, jnp.int32)
    return Requests(at, jnp.full(n, seen, jnp.int32), jnp.zeros((n, 0), jnp.int32), jnp.zeros((n, 0)))


def ages(requests: Requests, history: History = HISTORY) -> readout.Ages:
    return readout.ages(history.time, history.mask, requests.at, requests.seen, past=1)


class TestRevisit:
    HEAD = Revisit(Bank((2.0,)), groups=2, behaviours=2)
    GROUP = jnp.array([0, 1, 1, 1], jnp.int32)

    def run(self, target: list[int], seen: int = 3) -> tuple[Any, Any, Any]:
        requests = asked(*[10.0] * len(target), seen=seen)
        age, writes = ages(requests), jnp.tile(jnp.array([[0.2, 0.8]]), (4, 1))

        def counts(head: Revisit) -> Any:
            weights = head.kernel_weights(HISTORY, self.GROUP, age, writes)
            return head.counts(HISTORY, requests, age, weights, jnp.asarray(target, jnp.int32))

        p = toys.moved(self.HEAD, counts)
        own, everything = toys.call(self.HEAD, counts, p)
        return p, own, everything

    @pytest.mark.parametrize("seen", [3, 2])
    def test_faded_counts_by_hand(self, seen: int) -> None:
        p, own, everything = self.run([0, 1, 2, 9], seen)
        h = np.exp(np.float64(p["decay"]["log_half_life"][0]))
        # a steady reader: every read weight is 1
        kernel = 0.2 + 0.8 * 2 ** (-np.array([10, 8, 8, 5]) / h)
        group, behaviour = (np.asarray(p[k], np.float64) for k in ("group_strength", "behaviour_strength"))
        strength = np.exp(group[[0, 1, 1, 1]] + behaviour[[0, 1, 0, 1]])
        part = kernel * strength * np.array([1.0, 2.0, 0.5, 0.0])  # a negative weight excites nothing
        part[1 + seen :] = 0.0
        np.testing.assert_allclose(own, [part[0], part[1] + part[3], part[2], 0.0], rtol=1e-5)
        np.testing.assert_allclose(everything, [part.sum()] * 4, rtol=1e-5)

    @pytest.mark.parametrize("recovery", [3.0, np.inf])
    @pytest.mark.parametrize("seen", [3, 2, 0])
    def test_the_item_taken_last_is_held_back_and_training_and_serving_agree(
        self, seen: int, recovery: float
    ) -> None:
        # the event of weight -1 is none that was taken: with 3 or 2 seen item 2 was last, with none item 0
        head = dataclasses.replace(self.HEAD, recovery=recovery)
        requests, targets = asked(10.0, 30.0, 10.0, seen=seen), jnp.array([2, 2, 0], jnp.int32)
        age, writes = ages(requests), jnp.tile(jnp.array([[0.2, 0.8]]), (4, 1))

        def both(head: Revisit) -> Any:
            weights = head.kernel_weights(HISTORY, self.GROUP, age, writes)
            kernel = head.kernel(HISTORY, requests, age, weights)
            return head.counts(HISTORY, requests, age, weights, targets), kernel

        p = toys.moved(head, both)
        (own, everything), kernel = toys.call(head, both, p)
        free, bare = self.HEAD, {k: v for k, v in p.items() if k not in ("decay_satiation", "decay_recovery")}
        (_, all_without), kernel_without = toys.call(free, both, bare)
        last, idle = (2, np.array([8.0, 28.0, 8.0])) if seen else (0, np.array([10.0, 30.0, 10.0]))
        left = np.exp(
            -p["decay_satiation"] * 2 ** (-idle / (recovery * np.exp(p.get("decay_recovery", 0.0))))
        )
        same = np.asarray(HISTORY.item) == last
        expected = np.where(same, left[:, None] * kernel_without, kernel_without)
        assert abs(left - 1).min() > 0.001
        np.testing.assert_allclose(kernel, expected, rtol=1e-5)
        np.testing.assert_allclose(everything, np.sum(kernel, 1), rtol=1e-5)
        mine = np.where(np.asarray(HISTORY.item) == np.asarray(targets)[:, None], kernel, 0.0).sum(1)
        np.testing.assert_allclose(own, mine, rtol=1e-5)
        np.testing.assert_allclose(all_without, np.sum(kernel_without, 1), rtol=1e-5)

    def test_an_item_never_taken_is_not_excited_and_has_no_slope(self) -> None:
        p = self.run([0, 1, 2, 9])[0]

        def excitation(counts: Any) -> Any:
            return toys.call(self.HEAD, Revisit.excitation, p, counts)

        value, slope = jax.value_and_grad(excitation)(jnp.array(0.0))
        assert value < -1e8
        assert slope == 0
        level = float(p["level"])
        np.testing.assert_allclose(excitation(jnp.array([1.0, 2.5])), [level, level + np.log(2.5)], rtol=1e-5)

    def test_intensities_add_up(self) -> None:
        random = np.random.default_rng(0)
        base, excitation = (jnp.asarray(random.normal(size=20), jnp.float32) for _ in range(2))
        whole = with_excitation(base, excitation)
        expected = np.log(np.exp(np.float64(base)) + np.exp(np.float64(excitation)))
        np.testing.assert_allclose(whole, expected, rtol=1e-5)


NONE = Columns((), (), 0, 2)


class TestSimilarity:
    HEAD = Similarity(
        items=3, features=2, decay=Bank((2.0,)), behaviours=2, calendar=True, encoder=Stack("bank", 0),
        item_columns=NONE, user_columns=NONE, context_columns=NONE,
    )  # fmt: skip

    def query(self, requests: Requests, *, calendar: bool = True) -> tuple[Any, Any]:
        head = dataclasses.replace(self.HEAD, calendar=calendar)
        vectors, writes = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.0]]), jnp.full((4, 2), 0.5)

        def query(head: Similarity) -> Any:
            return head.query(HISTORY, requests, ages(requests), vectors, writes)

        p = toys.moved(head, query)
        return p, toys.call(head, query, p)

    def test_faded_mixed_and_softly_normalised_by_hand(self) -> None:
        p, found = self.query(asked(6.0, 100.0))
        p = jax.tree.map(np.float64, p)
        half_life, amplitude = np.exp(p["decay"]["log_half_life"][0]), p["amplitude"]
        vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.0]])
        strength = np.array([1.0, 2.0, 0.5, -1.0]) * (1 + amplitude[[0, 1, 0, 1]])
        for row, at in enumerate((6.0, 100.0)):
            kernel = 0.5 + 0.5 * 2 ** (-(at - np.array([0, 2, 2, 5])) / half_life)
            hours = np.asarray(calendar(jnp.array([int(at * DAY)], jnp.int32)), np.float64)[0]
            q = (kernel * strength) @ vectors + hours @ p["calendar"]
            expected = (
                np.exp(p["log_temperature"]) * q / np.sqrt((q**2).sum() + np.exp(2 * p["log_softness"]))
            )
            np.testing.assert_allclose(found[row], expected, rtol=1e-4)

    def test_without_fading_or_calendar_time_would_not_matter_with_them_it_does(self) -> None:
        _, with_calendar = self.query(asked(1000.0, 1000.5))
        assert not np.allclose(with_calendar[0], with_calendar[1])
        _, idle = self.query(asked(1000.0, 1000.5), calendar=False)  # all but the constant part has faded
        np.testing.assert_allclose(idle[0], idle[1], rtol=1e-6)
        _, fresh = self.query(asked(6.0, 12.0), calendar=False)
        assert not np.allclose(fresh[0], fresh[1])

    def test_an_interest_faded_to_nothing_falls_silent_instead_of_shouting(self) -> None:
        head = dataclasses.replace(self.HEAD, calendar=False)
        requests, vectors, writes = (
            asked(5.0, 400.0),
            jnp.ones((4, 2)),
            jnp.tile(jnp.array([[0.0, 1.0]]), (4, 1)),
        )

        def query(head: Similarity) -> Any:
            return head.query(HISTORY, requests, ages(requests), vectors, writes)

        fresh, faded = np.linalg.norm(toys.call(head, query, toys.moved(head, query)), axis=1)
        assert faded < 1e-3 * fresh

    def test_targets_are_softly_normalised_and_an_unknown_item_has_neither_vector_nor_bias(self) -> None:
        items = Items(
            jnp.array([0, 1, 2, 3, 3], jnp.int32), jnp.zeros(5, jnp.int32),
            jnp.zeros((5, 0), jnp.int32), jnp.zeros((5, 0)),
        )  # fmt: skip

        def everything(head: Similarity) -> Any:
            content = head.content(items)
            vectors = head.vectors(items, content)
            return vectors, head.targets(vectors), head.bias(items, content)

        p = toys.moved(self.HEAD, everything)
        vectors, targets, bias = toys.call(self.HEAD, everything, p)
        length = np.linalg.norm(vectors, axis=1)
        soft = np.sqrt(length**2 + self.HEAD.features * OWN_VECTOR**2)
        np.testing.assert_allclose(targets, vectors / soft[:, None], rtol=1e-5)
        assert not np.any(targets[3:])
        np.testing.assert_array_equal(vectors[:3], p["embedding"])
        np.testing.assert_array_equal(bias, [*p["bias"], 0.0, 0.0])


class TestCalendar:
    def test_hours_and_weekdays_turn_round(self) -> None:
        at = jnp.array([0, 6 * 3600, DAY, 7 * DAY, -DAY, 6 * DAY], jnp.int32)
        monday, morning, tuesday, next_monday, before, sunday = np.asarray(calendar(at))
        np.testing.assert_allclose(monday, [0, 1] * 4, atol=1e-6)
        np.testing.assert_allclose(
            morning[:4], [1, 0, 0, -1], atol=1e-6
        )  # a quarter of a day, half of an overtone
        np.testing.assert_allclose(tuesday[:4], monday[:4], atol=1e-6)
        np.testing.assert_allclose(tuesday[4:6], [np.sin(2 * np.pi / 7), np.cos(2 * np.pi / 7)], atol=1e-6)
        np.testing.assert_allclose(next_monday, monday, atol=1e-6)
        np.testing.assert_allclose(before, sunday, atol=1e-6)
