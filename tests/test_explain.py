"""Explanations: they add up, events left out are as if they had never been, and what would have been
otherwise is what a log that is otherwise says."""

import dataclasses
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest
import toys
from test_predict import ask
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import cases
from jaxdecay.assembly import Pieces, predictor
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.explain import Explanation, explain
from jaxdecay.predict import Predictor

NAMES = ["look", "take"]
TABLE = pl.DataFrame({"item_id": [f"i{item}" for item in range(7)], "title": [f"Item {i}" for i in range(7)]})
EVENTS = np.array([3, 19, 38])


@pytest.fixture(scope="module")
def system() -> Predictor:
    with jax.numpy_rank_promotion("allow"):
        return predictor(*toys.everything())


def told(system: Predictor, requests: Requests, item: int) -> Explanation:
    (found,) = explain(system, requests, [item], TABLE, NAMES, user="u")
    return found


def one(system: Predictor, event: int) -> Requests:
    return ask(system.histories, np.array([event]))


@pytest.mark.parametrize("event", EVENTS)
def test_contributions_add_up_to_the_score(system: Predictor, event: int) -> None:
    requests = one(system, event)
    scores = system.scores(requests)[0]
    for item in range(7):
        found = told(system, requests, item)
        assert found.exact
        assert found.score == pytest.approx(float(scores[item]), abs=1e-5)
        assert found.rows["contribution"].sum() == pytest.approx(found.score, abs=1e-5)
        assert found.not_attributed == 0
        assert found.item == f"i{item}"


def test_rows_are_the_events_of_the_history_the_latest_first(system: Predictor) -> None:
    requests = one(system, 19)
    made = system.histories
    begin, end = int(made.offsets[requests.user[0]]), int(requests.history_end[0])
    found = told(system, requests, 2).rows.filter(pl.col("head") == "similarity", pl.col("source") == "event")
    assert found["item_id"].to_list() == [f"i{item}" for item in made.item[begin:end][::-1]]
    assert found["behaviour"].to_list() == [NAMES[kind] for kind in made.behaviour[begin:end][::-1]]
    assert found["timestamp"].to_list() == made.time[begin:end][::-1].tolist()
    assert found["event"].to_list() == list(range(1, end - begin + 1))
    np.testing.assert_allclose(found["age_days"], (requests.at[0] - made.time[begin:end][::-1]) / toys.DAY)
    revisited = told(system, requests, 2).rows.filter(pl.col("head") == "revisit")
    own = np.array(revisited["item_id"].to_list()) == "i2"
    assert (revisited["contribution"].to_numpy()[~own] == 0).all()


def without_revisit(parts: dict[str, np.ndarray], item: int) -> np.ndarray:
    return np.sum(
        [parts[name][:, min(item, parts[name].shape[1] - 1)] for name in parts if name != "revisit"], 0
    )


def test_contributions_are_shares_of_the_way_from_no_event_to_all(system: Predictor) -> None:
    """Slopes by differences, of the score before anything comes back, where all events are weighted less."""
    case, item, steps, small = system.case(one(system, 19)), 4, 400, 1e-2
    places = np.flatnonzero(np.asarray(case.history.mask)[0])[::-1]
    along = ((np.arange(steps) + 0.5) / steps) ** 2

    def base(by: np.ndarray) -> np.ndarray:
        """Of all weights times ``by`` (S, n)."""
        many = cases.repeated(case, len(by))
        weight = np.asarray(many.history.weight) * by
        return without_revisit(
            system.judge(many._replace(history=many.history._replace(weight=weight))), item
        )

    slopes = []
    for place in places:
        ends = []
        for sign in (1, -1):
            by = np.tile(along[:, None], (1, case.history.weight.shape[1]))
            by[:, place] += sign * small * along
            ends.append(base(by))
        each = (ends[0] - ends[1]) / (2 * small * along)
        slopes.append(float((each * 2 * np.sqrt(along)).mean()))
    found = (
        told(system, one(system, 19), item)
        .rows.filter(pl.col("head") == "similarity", pl.col("source") == "event")["contribution"]
        .to_numpy()
    )
    assert np.abs(slopes).max() > 0.01
    np.testing.assert_allclose(found, slopes, atol=0.01 * np.abs(slopes).max())


def test_an_only_event_adds_all_that_is_lost_without_it(system: Predictor) -> None:
    begin = int(system.histories.offsets[1])
    requests = one(system, begin + 1)
    for item in range(7):
        case = system.case(requests)
        place = np.flatnonzero(np.asarray(case.history.mask)[0])
        left = cases.without(case, place)
        lost = without_revisit(system.judge(case), item) - without_revisit(system.judge(left), item)
        rows = told(system, requests, item).rows.filter(
            pl.col("head") == "similarity", pl.col("source") == "event"
        )
        assert rows["contribution"].to_list() == pytest.approx(lost.tolist(), abs=1e-5)


def shortened(histories: Histories, event: int) -> Histories:
    """The log without an event."""
    arrays = histories.arrays()
    del arrays["offsets"]
    names = [
        name
        for name in arrays
        if len(arrays[name]) == histories.events and not name.startswith(("user_", "item_"))
    ]
    kept = {
        name: np.delete(arrays[name], event, axis=0) if name in names else arrays[name] for name in arrays
    }
    user = np.delete(histories.user(), event)
    return Histories.from_arrays(
        user, kept.pop("item"), kept.pop("time"), users=histories.users, items=histories.items,
        config=histories.config, **kept,
    )  # fmt: skip


def test_a_case_without_an_event_is_that_of_a_log_without_it(system: Predictor) -> None:
    requests = one(system, 19)
    begin, end = int(system.histories.offsets[requests.user[0]]), int(requests.history_end[0])
    case = system.case(requests)
    places = np.flatnonzero(np.asarray(case.history.mask)[0])
    found = np.asarray(sum(system.judge(cases.without(case, places)).values()))
    for row, event in enumerate(range(begin, end)):
        other = Predictor(
            system.model,
            system.params,
            shortened(system.histories, event),
            system.catalogue,
            system.reference,
        )
        asked = dataclasses.replace(requests, history_end=requests.history_end - 1, event=requests.event - 1)
        np.testing.assert_allclose(found[row], other.scores(asked)[0], atol=1e-5)


def test_later_and_having_are_what_a_later_log_says(system: Predictor) -> None:
    requests = one(system, 18)
    case = system.case(requests, room=1)
    found = sum(system.judge(cases.later(case, 30 * toys.DAY, system.reference)).values())
    expected = system.scores(dataclasses.replace(requests, at=requests.at + 30 * toys.DAY))
    np.testing.assert_allclose(found, expected, atol=1e-5)

    made = system.histories  # the next event happens at the very time of the request, as it is in the log
    event = int(requests.event[0])
    weight = float(made.weight[event]) / system.reference.weight
    had = cases.having(case, int(made.item[event]), int(made.behaviour[event]), weight)
    expected = system.scores(dataclasses.replace(requests, history_end=requests.history_end + 1))
    np.testing.assert_allclose(sum(system.judge(had).values()), expected, atol=1e-5)
    full = case._replace(history=case.history._replace(mask=np.ones_like(case.history.mask)))
    with pytest.raises(InputError, match="no room for one event more"):
        cases.having(full, 0, 0)


@pytest.fixture(scope="module")
def deep() -> Predictor:
    histories = toys.log((9, 9))
    spec: Any = toys.spec(histories)
    spec = dataclasses.replace(spec, encoder=dataclasses.replace(spec.encoder, kind="gru", blocks=1))
    made: Pieces = toys.pieces(histories, spec, window=64, batch_targets=64)
    with jax.numpy_rank_promotion("allow"):
        return predictor(made, toys.random_params(made))


def test_reasons_of_several_items_are_those_of_each(system: Predictor, deep: Predictor) -> None:
    for one_of, event in ((system, 19), (deep, 8)):
        requests = one(one_of, event)
        for item, both in zip((3, 0), explain(one_of, requests, [3, 0], TABLE, NAMES, user="u"), strict=True):
            alone = told(one_of, requests, item)
            assert (both.item, both.score) == (alone.item, alone.score)
            assert both.rows.equals(alone.rows)


def test_with_an_encoder_events_are_left_out_one_by_one(deep: Predictor) -> None:
    requests = one(deep, 8)
    found = told(deep, requests, 3)
    assert not found.exact
    assert found.score == pytest.approx(float(deep.scores(requests)[0, 3]), abs=1e-5)
    assert found.rows["contribution"].sum() == pytest.approx(found.score, abs=1e-4)
    assert set(found.rows["head"]) == {"all"}
    first = found.rows.filter(pl.col("event") == 8)["contribution"].item()  # the earliest
    other = Predictor(deep.model, deep.params, shortened(deep.histories, 0), deep.catalogue, deep.reference)
    asked = dataclasses.replace(requests, history_end=requests.history_end - 1, event=requests.event - 1)
    assert first == pytest.approx(found.score - float(other.scores(asked)[0, 3]), abs=1e-4)
    attributed: Any = found.rows.filter(pl.col("source") == "event")["contribution"].sum()
    histories = deep.histories
    for _ in range(8):
        histories = shortened(histories, 0)
    nobody = Predictor(deep.model, deep.params, histories, deep.catalogue, deep.reference)
    asked = dataclasses.replace(requests, history_end=np.array([0]), event=np.array([0]))
    past = found.score - float(nobody.scores(asked)[0, 3])
    assert found.of_the_past == pytest.approx(past, abs=1e-4)
    assert found.not_attributed == pytest.approx(past - attributed, abs=1e-4)
    with pytest.raises(InputError, match=r"an encoder \(gru\) stands between"):
        deep.pieces(deep.case(requests))


def test_reasons_in_words(system: Predictor) -> None:
    found = told(system, one(system, 19), 2)
    words = found.sentence()
    assert words.startswith("Item 2")
    assert words.endswith(".")
    events = found.events()
    assert events["contribution"].abs().is_sorted(descending=True)
    assert events["contribution"].sum() == pytest.approx(
        found.rows.filter(pl.col("source") == "event")["contribution"].sum(), abs=1e-5
    )


@pytest.mark.parametrize(
    ("contributions", "said"),
    [
        (
            (0.996, 0.004),
            "a, because of b (once, 3.0 d ago: 100% of what speaks for it) and 1 more; the past makes it "
            "2.72 times as likely.",
        ),
        (
            (2.982, 0.018),
            "a, because of b (once, 3.0 d ago: 99% of what speaks for it); c (once, 4.0 d ago: 1%); the past "
            "makes it 20 times as likely.",
        ),
        (
            (1.0,) * 300,
            "a, because of b (once, 3.0 d ago: 0% of what speaks for it) and 299 more; the past makes it "
            "over a million times as likely.",
        ),
        (
            (1.0, -1.6),
            "a, hardly because of the past, which makes it 0.55 times as likely: b (once, 3.0 d ago: 100% of "
            "what speaks for it).",
        ),
    ],
)
def test_what_is_told_as_nothing_is_no_reason(contributions: tuple[float, ...], said: str) -> None:
    names = ["b", "c", *(f"d{number}" for number in range(len(contributions) - 2))]
    rows = pl.DataFrame(
        {
            "source": "event",
            "event": range(1, len(names) + 1),
            "item_id": names,
            "behaviour": pl.Series([None] * len(names), dtype=pl.String),
            "timestamp": 0,
            "age_days": [3.0 + place for place in range(len(names))],
            "contribution": contributions,
        }
    )
    assert Explanation("u", "a", None, 0.0, rows, True).sentence() == said


def test_nobody_has_no_reasons(system: Predictor) -> None:
    requests = dataclasses.replace(one(system, 19), user=np.array([-1], np.int32), history_end=np.array([0]))
    requests = dataclasses.replace(requests, history_end=np.array([int(system.histories.offsets[-1])]))
    found = told(system, requests, 1)
    assert found.rows.filter(pl.col("source") == "event").is_empty()
    assert found.rows["contribution"].sum() == pytest.approx(found.score, abs=1e-5)
    assert "nothing in the past speaks for it" in found.sentence()
