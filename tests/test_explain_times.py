"""Reasons where there are no dates, and where the request time is withheld from the model: they add up, and
an event left out is as if it had never been, whenever the request was made."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest
import toys
from test_explain import TABLE, shortened, told
from test_predict import ask
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.counterfactuals import Changes, counterfactuals
from jaxdecay.data.catalogue import first_seen
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.predict import Predictor
from jaxdecay.trained import Run

USERS = pl.DataFrame({"index": range(5), "user_id": [f"u{user}" for user in range(5)]})


def made(histories: Histories, **changes: Any) -> Predictor:
    spec = toys.bare(histories, behaviours=2, popularity_half_lives=(3.0,), **changes)
    with jax.numpy_rank_promotion("allow"):
        pieces = toys.pieces(histories, spec, window=64, batch_targets=64)
        return predictor(pieces, toys.random_params(pieces))


@pytest.fixture(scope="module", params=["exact", "one by one"])
def withheld(request: pytest.FixtureRequest) -> Predictor:
    """A model that the request time is withheld from; popularity and candidates move with time."""
    histories = toys.live(toys.log())
    if request.param == "exact":
        return made(histories, request_time="ignored")
    spec: Any = toys.bare(histories)
    return made(
        histories, request_time="ignored", encoder=dataclasses.replace(spec.encoder, kind="gru", blocks=1)
    )


def over(system: Predictor, histories: Histories) -> Predictor:
    return Predictor(system.model, system.params, histories, system.catalogue, system.reference)


def anew(system: Predictor, requests: Requests, event: int) -> np.ndarray:
    """(V,) scores on a log without an event that the request sees."""
    asked = dataclasses.replace(
        requests, history_end=requests.history_end - 1, event=np.maximum(requests.event - 1, 0)
    )
    return over(system, shortened(system.histories, event)).scores(asked)[0]


def removable(system: Predictor) -> list[int]:
    """Events without which every item came when it did."""
    came = first_seen(system.histories)
    events = range(system.histories.events)
    return [one for one in events if (first_seen(shortened(system.histories, one)) == came).all()]


def seeing(system: Predictor, events: int) -> Requests:
    """A request of the first user who can see so many events, any of which may go, a week after the last."""
    histories, free = system.histories, set(removable(system))
    begin = next(first for first in histories.offsets[:-1] if set(range(first, first + events)) <= free)
    requests = ask(histories, np.array([begin + events]))
    return dataclasses.replace(
        requests, at=np.asarray(histories.time[begin + events - 1 :][:1]) + 7 * toys.DAY
    )


@pytest.mark.parametrize("events", [1, 2, 6])
def test_without_the_request_time_an_event_left_out_has_never_been(withheld: Predictor, events: int) -> None:
    requests = seeing(withheld, events)
    end, item = int(requests.history_end[0]), 2
    scores = withheld.scores(requests)[0]
    found = told(withheld, requests, item)
    assert found.score == pytest.approx(float(scores[item]), abs=1e-5)
    assert found.rows["contribution"].sum() == pytest.approx(found.score, abs=1e-4)
    changes = Changes(without=range(1, events + 1))
    frame = counterfactuals(withheld, requests, item, TABLE, changes)
    expected = [scores[item], *(anew(withheld, requests, end - place)[item] for place in changes.without)]
    np.testing.assert_allclose(frame["score"], expected, atol=1e-4)
    if not found.exact:
        alone = found.rows.filter(pl.col("source") == "event").sort("event")["contribution"]
        np.testing.assert_allclose(alone, frame["score"][0] - frame["score"][1:], atol=1e-4)


def test_without_the_request_time_it_does_not_matter_when(withheld: Predictor) -> None:
    requests = seeing(withheld, 6)
    later = dataclasses.replace(requests, at=requests.at + 90 * toys.DAY)
    one, other = (told(withheld, asked, 3) for asked in (requests, later))
    assert one.at == other.at == int(withheld.histories.time[requests.history_end[0] - 1])
    assert one.rows.equals(other.rows)
    assert one.rows["age_days"].min() == 0
    with pytest.raises(InputError, match="does not read the time of the request"):
        counterfactuals(withheld, requests, 3, TABLE, Changes(later=["30d"]))


@pytest.fixture(scope="module")
def run() -> Run:
    """Of a log whose times count from each user's first event, as it is when opened."""
    histories = toys.log()
    first = np.asarray(histories.time)[histories.offsets[:-1]]
    config = histories.config | {"clock": "relative", "features": {}}
    histories = histories.replace(time=histories.time - first[histories.user()], config=config)
    opened = Run.__new__(Run)
    found: dict[str, Any] = {"histories": histories, "_user_table": USERS, "items": TABLE, "notes": ()}
    found |= {"predictor": made(histories), "_directory": Path("nowhere")}
    opened.__dict__.update(found)
    return opened


def test_with_relative_times_reasons_are_as_of_the_last_event(run: Run) -> None:
    system, histories = run.predictor, run.histories
    begin, end = histories.offsets[1:3]
    found = run.explain("u1", "i4")
    assert run.notes == ("at was not given: asked right after each user's last event (times are relative)",)
    assert found.at == histories.time[end - 1]
    events = found.rows.filter(pl.col("source") == "event", pl.col("head") == "similarity")
    assert events["timestamp"].to_list() == np.asarray(histories.time)[begin:end][::-1].tolist()
    assert events["age_days"].min() == 0
    scored = run.score(pl.DataFrame({"user_id": ["u1"], "item_id": ["i4"]}))["score"].item()
    assert found.score == pytest.approx(scored, abs=1e-5)
    assert found.rows["contribution"].sum() == pytest.approx(found.score, abs=1e-5)
    assert found.sentence().startswith("Item 4")

    whole = Requests(
        user=np.array([1], np.int32), history_end=np.array([end]), at=np.array([found.at]),
        target_offsets=np.zeros(2, np.int64), targets=np.zeros(0, np.int32), event=np.zeros(1, np.int64),
    )  # fmt: skip
    frame = run.what_if("u1", "i4", without=[1, 2, 20], later=["30d"])
    expected = [anew(system, whole, int(end) - number)[4] for number in (1, 2, 20)]
    later = dataclasses.replace(whole, at=whole.at + 30 * toys.DAY)
    np.testing.assert_allclose(frame["score"][1:], [*expected, system.scores(later)[0, 4]], atol=1e-5)
    assert abs(frame["difference"][4]) > 1e-3


def test_with_relative_times_a_moment_counts_from_the_first_event(run: Run) -> None:
    histories = run.histories
    begin, end = histories.offsets[1:3]
    time = np.asarray(histories.time)[begin:end]
    middle = int(time[8]) + 1
    found = run.explain("u1", "i4", at=middle)
    assert found.at == middle
    assert found.rows["event"].max() == (time < middle).sum()
    scored = run.score(pl.DataFrame({"user_id": ["u1"], "item_id": ["i4"]}), middle)["score"].item()
    assert found.rows["contribution"].sum() == pytest.approx(scored, abs=1e-5)
    with pytest.raises(InputError, match="user 'u1' has no event before 0: the first is at 0; give a later"):
        run.explain("u1", "i4", at=0)
    with pytest.raises(InputError, match="times are relative; give whole seconds since the user's first"):
        run.explain("u1", "i4", at="2026-11-22")
