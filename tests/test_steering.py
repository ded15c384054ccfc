"""Steered lists of a run: bounds are kept whatever else is asked for, plain ones stay as they are, and what
cannot be had is refused in a line."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lines import Said, refuser
from tiny import DAY, START, USERS, tiny_events, tiny_items
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.data.requests import requests
from jaxdecay.errors import InputError
from jaxdecay.exposure import share
from jaxdecay.lists import distance
from jaxdecay.metrics import ndcg
from jaxdecay.recommend import load
from jaxdecay.steering import Steering
from jaxdecay.tradeoff import diversity_tradeoff
from jaxdecay.trained import Run

END = START + 61 * DAY
K = 6


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> Run:
    return load(tiny_run)


def steered(run: Run, users: Any = None, k: int = K, **options: Any) -> pl.DataFrame:
    return run.recommend(users, k=k, at=END, steer=Steering(**options))


def jazz(lists: pl.DataFrame, k: int = K) -> np.ndarray:
    """(users, k) whether each place has jazz."""
    joined = lists.join(tiny_items(), on="item_id", how="left", maintain_order="left")
    return (joined["genre"] == "jazz").to_numpy().reshape(-1, k)


def shares(lists: pl.DataFrame, k: int = K) -> np.ndarray:
    return share(jazz(lists, k), np.ones((len(lists) // k, k), bool))


def test_steering_nothing_is_the_plain_list(run: Run) -> None:
    plain = run.recommend(k=K, at=END)
    kept: tuple[dict[str, Any], ...] = (
        {},
        {"group": "genre", "cap": K},
        {"group": "genre", "cap": K, "pool": 1},
    )
    for options in kept:
        assert steered(run, **options).equals(plain)
        assert run.notes == ()
    assert steered(run, explore="temperature", temperature=1e-9, seed=0).equals(plain)


@pytest.mark.parametrize("diversity", ["mmr", "dpp"])
def test_lists_grow_more_diverse_as_relevance_gives_way(run: Run, diversity) -> None:
    vectors = run.predictor.unit_vectors()
    index = dict(zip(run.items["item_id"], run.items["index"], strict=True))
    far = []
    steers = [Steering(), *(Steering(trade_off=value, diversity=diversity) for value in (0.6, 0.2))]
    for steer in steers:
        lists = run.recommend(k=K, at=END, steer=steer)
        assert lists.group_by("user_id").len()["len"].to_list() == [K] * USERS
        assert lists.unique(["user_id", "item_id"]).height == len(lists)
        items = np.array([index[item] for item in lists["item_id"]]).reshape(-1, K)
        far.append(distance(items, vectors).mean())
    assert far[0] + 0.01 < far[1] < far[2]


def test_scores_stay_those_of_the_model(run: Run) -> None:
    some: tuple[dict[str, Any], ...] = (
        {"trade_off": 0.3},
        {"explore": "temperature", "seed": 1, "group": "genre", "exposed": ("jazz",), "least": 0.5},
        {"group": "genre", "exposed": ("jazz",), "least": 0.6, "over": "all"},
    )
    for options in some:
        lists = steered(run, **options)
        again = run.score(lists.select("user_id", "item_id"), at=END)
        np.testing.assert_allclose(lists["score"], again["score"], rtol=1e-4, atol=1e-5)
        assert lists["score"].to_list() != lists.sort("user_id", "score", descending=True)["score"].to_list()


@pytest.mark.parametrize("trade_off", [1.0, 0.4])
@pytest.mark.parametrize("pool", [2, 200])
def test_every_list_keeps_to_its_bounds(run: Run, trade_off: float, pool: int) -> None:
    capped = steered(run, group="genre", cap=3, trade_off=trade_off, pool=pool)
    assert (jazz(capped).sum(axis=1) == 3).all()
    for least, most in ((0.5, 1.0), (0.0, 0.1), (0.3, 0.35)):
        bounds = {"group": "genre", "exposed": ("jazz",), "least": least, "most": most}
        found = shares(steered(run, **bounds, trade_off=trade_off, pool=pool))
        assert (found >= least).all()
        assert (found <= most).all()
    both = steered(run, group="genre", cap=4, exposed=("jazz",), least=0.75, trade_off=trade_off, pool=pool)
    assert (shares(both) >= 0.75).all()
    assert (jazz(both).sum(axis=1) == 4).all()


def test_a_bound_that_holds_anyway_changes_nothing(run: Run) -> None:
    plain = run.recommend(k=K, at=END)
    bounds = {"group": "genre", "exposed": ("jazz",), "least": 0.25}
    before, after = shares(plain), shares(steered(run, **bounds))
    kept = before >= 0.25
    assert 0 < kept.sum() < USERS
    same = (plain["item_id"] == steered(run, **bounds)["item_id"]).to_numpy().reshape(-1, K)
    assert (same.all(axis=1) == kept).all()
    assert (after >= 0.25).all()


def test_over_all_lists_together(run: Run) -> None:
    plain = shares(run.recommend(k=K, at=END)).mean()
    for least, most in ((plain + 0.2, 1.0), (0.0, plain - 0.1)):
        lists = steered(run, group="genre", exposed=("jazz",), least=least, most=most, over="all")
        found = shares(lists)
        assert least - 1e-6 <= found.mean() <= most + 1e-6
        assert abs(found.mean() - (least or most)) < 0.03  # no more than it takes
        assert np.ptp(found) > 0


@pytest.mark.parametrize("over", ["each", "all"])
def test_lists_without_candidates_keep_to_every_bound(run: Run, over) -> None:
    """Whether each keeps to it or all together: an empty list gives nobody any exposure."""
    steer = Steering(group="genre", exposed=("jazz",), least=0.5, over=over)
    own = pl.DataFrame(tiny_events()).filter(pl.col("user_id") == "u01")["item_id"].unique().to_list()
    options: dict[str, Any] = {"k": K, "at": END, "exclude_seen": True, "steer": steer}
    assert run.recommend("u01", allow=own, **options).height == 0
    others = run.recommend(["u01", "u02"], allow=own, deny=["i00"], **options)
    assert set(others["user_id"]) == {"u02"}
    joined = others.join(tiny_items(), on="item_id", how="left", maintain_order="left")
    taken = (joined["genre"] == "jazz").to_numpy()[None]
    assert share(taken, np.ones_like(taken))[0] >= 0.5


def test_people_who_are_all_answered_alike_still_meet_bounds_together(run: Run) -> None:
    """Cold users have one list: no bonus that is the same for all lands within narrow bounds."""
    nobody = [f"new{number}" for number in range(30)]
    steer = Steering(group="genre", exposed=("jazz",), least=0.30, most=0.32, over="all")
    lists = run.recommend(nobody, k=K, at=END, on_unknown="popular", steer=steer)
    found = shares(lists)
    assert 0.3 - 1e-6 <= found.mean() <= 0.32 + 1e-6
    assert np.ptp(found) > 0
    # What each can keep to, all together can.
    each = Steering(group="genre", exposed=("jazz",), least=0.3, most=0.45, over="each")
    alone = shares(run.recommend(nobody, k=K, at=END, on_unknown="popular", steer=each))
    assert ((alone >= 0.3) & (alone <= 0.45)).all()


def test_fewer_candidates_than_places(run: Run) -> None:
    """Bounds are on the share of what there is; lists then end early."""
    allow = ["i00", "i01", "i02", "i03"]  # i00 and i03 are jazz
    steer = Steering(group="genre", exposed=("jazz",), least=0.6)
    lists = run.recommend(["u01", "u02"], k=K, at=END, allow=allow, steer=steer)
    assert lists.group_by("user_id").len()["len"].to_list() == [4, 4]
    assert (shares(lists, 4) >= 0.6).all()
    capped = run.recommend("u01", k=K, at=END, allow=allow, steer=Steering(group="genre", cap=1))
    assert len(capped) == 2
    assert "4 of 6 places are empty" in run.notes[0]


def test_what_can_be_had_is_told_and_can_be_had(run: Run) -> None:
    def ask(least: float) -> pl.DataFrame:
        steer = Steering(group="genre", exposed=("jazz",), least=least)
        return run.recommend(k=K, at=END, deny=["i00", "i03", "i06", "i09"], steer=steer)

    with pytest.raises(
        InputError, match=f"{USERS} lists cannot give jazz at least 0.5 of the exposure"
    ) as told:
        ask(0.5)
    value = float(str(told.value).split("; at least ")[1].split()[0])
    assert value == pytest.approx(1 / sum(1 / np.log2(1 + place) for place in range(1, K + 1)), abs=1e-3)
    assert (shares(ask(value)) >= value).all()
    with pytest.raises(InputError, match="lists together cannot give jazz at least"):
        run.recommend(
            k=K, at=END, deny=["i00", "i03", "i06"],
            steer=Steering(group="genre", exposed=("jazz",), least=0.9, over="all"),
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["temperature", "thompson"])
def test_the_seed_is_noted_and_repeats_the_draw(run: Run, kind) -> None:
    plain = run.recommend(k=K, at=END)
    first = steered(run, explore=kind)
    (note,) = run.notes
    assert note.startswith(f"explored by {kind}, seed ")
    seed = int(note.rsplit(" ", 1)[1])
    assert steered(run, explore=kind, seed=seed).equals(first)
    alone = steered(run, ["u07"], explore=kind, seed=seed)
    assert alone["item_id"].to_list() == first.filter(pl.col("user_id") == "u07")["item_id"].to_list()
    other = steered(run, explore=kind, seed=seed + 1)
    assert not other.equals(first)
    assert not first.equals(plain)


def test_the_trade_off_is_that_of_the_lists(run: Run) -> None:
    """NDCG and distance of the two ends, by lists made one by one."""
    system = run.predictor
    histories = run.histories
    asked = requests(histories, 2)
    found = diversity_tradeoff(system, asked, (1.0, 0.3), k=4)
    assert found.columns == ["trade_off", "ndcg", "distance"]
    scores, vectors = system.scores(asked), system.unit_vectors()
    plain = np.argsort(-scores, axis=1, kind="stable")[:, :4]
    place = [np.flatnonzero(one == target) for one, target in zip(plain, asked.targets, strict=True)]
    ranks = np.array([[one[0] + 1.0 if len(one) else np.inf] for one in place])
    assert found["ndcg"][0] == pytest.approx(ndcg(ranks, k=4).mean())
    pairs = [
        np.mean([1 - vectors[a] @ vectors[b] for a, b in itertools.combinations(one, 2)]) for one in plain
    ]
    assert found["distance"][0] == pytest.approx(np.mean(pairs), abs=1e-5)
    assert found["distance"][1] > found["distance"][0]
    with pytest.raises(InputError, match="trade_off=2: give a number from 0 to 1"):
        diversity_tradeoff(system, asked, (1.0, 2.0))
    with pytest.raises(InputError, match="lists of 2 items or more"):
        diversity_tradeoff(system, asked, k=1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"trade_off": 1.5}, "trade_off=1.5: give a number from 0 to 1"),
        ({"trade_off": float("nan")}, "trade_off=nan: give a number"),
        ({"cap": 0, "group": "genre"}, "cap=0: give a whole number from 1"),
        ({"temperature": 0.0}, "temperature=0: give a number above 0"),
        ({"seed": 3}, "seed=3: nothing is drawn"),
        ({"cap": 2}, "cap counts items by a group"),
        ({"group": "genre"}, "bounds nothing by itself"),
        ({"group": "genre", "least": 0.2}, "least=0.2 and most=1 are shares of items that exposed names"),
        ({"group": "genre", "exposed": ("jazz",)}, "exposed has no bound on its share"),
        ({"group": "genre", "exposed": ("jazz",), "least": 0.5, "most": 0.4}, "least=0.5 is above most=0.4"),
        ({"group": "genre", "exposed": ("jazz",), "least": 0.4, "most": 0.405}, "leave 0.01 or more between"),
        ({"over": "all"}, "over='all' is about a share of the exposure; give exposed"),
        ({"over": "each"}, "over='each' is about a share of the exposure; give exposed"),
        ({"over": "each", "group": "genre", "cap": 2}, "over='each' is about"),
        ({"diversity": "dpp"}, "diversity='dpp': at trade_off=1 relevance alone counts"),
        ({"diversity": "mmr", "trade_off": 1.0}, "give a trade_off below 1, such as 0.5"),
        ({"pool": 50}, "pool=50: no list is chosen from a pool; give a trade_off below 1, a cap"),
        ({"pool": 50, "explore": "temperature"}, "pool=50: no list is chosen"),
        (
            {"pool": 50, "group": "genre", "exposed": ("jazz",), "least": 0.5, "over": "all"},
            "pool=50: no list is chosen",
        ),
        ({"pool": 0, "trade_off": 0.5}, "pool=0: give a whole number from 1"),
        ({"temperature": 2.0}, "temperature=2: nothing is drawn by it; say explore='temperature'"),
        ({"temperature": 1.0, "explore": "thompson"}, "temperature=1: nothing is drawn by it"),
        ({"exposed": ("jazz",), "least": 0.1}, "exposed counts items by a group"),
        (
            {"group": "genre", "exposed": ("jazz",), "least": 0.5, "over": "all", "cap": 2},
            "say over='each'",
        ),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        Steering(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"trade_off": 0.5, "diversity": "mmr", "pool": 200},
        {"group": "genre", "cap": 3, "pool": 200},
        {"group": "genre", "exposed": ("jazz",), "least": 0.5, "over": "each", "pool": 200},
        {"explore": "temperature", "temperature": 1.0, "seed": 3},
    ],
)
def test_what_is_said_beside_what_uses_it_is_the_default(run: Run, options: dict[str, Any]) -> None:
    unsaid = {
        name: options[name] for name in options if name not in ("diversity", "pool", "over", "temperature")
    }
    assert steered(run, **options).equals(steered(run, **unsaid))


def test_columns_and_values_that_are_not_there(run: Run) -> None:
    with pytest.raises(InputError, match=r"group='genres': there are genre, price.*; perhaps 'genre'"):
        steered(run, group="genres", cap=1)
    with pytest.raises(InputError, match=r"exposed 'jaz', .*: there are jazz, rock; perhaps"):
        steered(run, group="genre", exposed=("jaz",), least=0.1)


def test_the_command_line(say: Callable[..., Said], tiny_run: Path) -> None:
    words = f"recommend {tiny_run} --users u01 u02 --at {END} -k {K} --json"
    said = say(f"{words} --trade-off 0.4 --group genre --exposed jazz --least 0.5")
    lists = pl.DataFrame(said.json)
    assert (shares(lists) >= 0.5).all()
    assert say(words).json != said.json
    said = say(f"{words} --explore thompson --seed 4")
    assert "note: explored by thompson, seed 4" in said.err
    refused = refuser(say)
    assert "trade_off=3: give a number from 0 to 1" in refused(f"{words} --trade-off 3").replace("-", "_")
    for option, line in (
        ("diversity dpp", "relevance alone counts"),
        ("pool 200", "no list is chosen from a pool"),
        ("temperature 1", "nothing is drawn by it"),
        ("over each", "is about a share of the exposure"),
        ("cap 2", "counts items by a group"),
        ("group genre", "bounds nothing by itself"),
    ):
        assert line in refused(f"{words} --{option}")
