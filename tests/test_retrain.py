"""A run trained on over a store: better where the world has moved, refused where it learned nonsense, and
without what was erased."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest
from tiny import DAY, START
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import load_predictor, ndcg_at_10
from jaxdecay.data.histories import Histories
from jaxdecay.data.prepare import PrepareOptions
from jaxdecay.data.requests import requests
from jaxdecay.data.split import SplitOptions
from jaxdecay.errors import InputError
from jaxdecay.generations import before_store
from jaxdecay.live.live import Live
from jaxdecay.model_options import ModelOptions
from jaxdecay.recommend import fit, load
from jaxdecay.retrain import AFTER, BEFORE, METRIC, RetrainOptions, Verdict, retrain
from jaxdecay.serve.combined import Trained, combined
from jaxdecay.serve.follower import Follower
from jaxdecay.serve.memory import MemoryStore
from jaxdecay.serve.service import Service
from jaxdecay.serve.sqlite import SqliteStore
from jaxdecay.serve.store import Delivered, Store, key_of
from jaxdecay.serve.vocabulary import Vocabulary
from jaxdecay.train import TrainOptions

USERS, ITEMS, GROUPS = 32, 24, 4
TRAINED, LIVED = 30, 6  # days
FAST = RetrainOptions(replay=1.0, epochs=4, learning_rate=0.05, decay_learning_rate=0.02)


def taken(group: np.ndarray, days: tuple[int, int], each: int, seed: int) -> list[tuple[str, str, int]]:
    """Events of users who take, at random, items of their own group; ``group``: of each item."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        own = np.flatnonzero(group == user % GROUPS)
        for at in np.sort(random.integers(days[0] * DAY, days[1] * DAY, each)):
            rows.append((f"u{user:02}", f"i{random.choice(own):02}", START + int(at)))
    return rows


BEFORE_GROUPS = np.arange(ITEMS) // (ITEMS // GROUPS)
AFTER_GROUPS = np.arange(ITEMS) % GROUPS
"""No two items of a group were in one before."""


def delivered(rows: Sequence[tuple[str, str, int]], start: int = 0, **more: Any) -> list[Delivered]:
    rows = sorted(rows, key=lambda row: row[2])
    return [Delivered(f"e{number}", *row, **more) for number, row in enumerate(rows, start)]


def store_of(rows: list[tuple[str, str, int]]) -> MemoryStore:
    store = MemoryStore()
    store.append(delivered(rows))
    return store


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows what goes together before the world moves."""
    rows = taken(BEFORE_GROUPS, (0, TRAINED), 16, 0)
    with jax.numpy_rank_promotion("allow"):
        return fit(
            pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row"),
            tmp_path_factory.mktemp("retrain") / "run",
            prepare=PrepareOptions(split=SplitOptions(test=0.0, validation=0.1)),
            model=ModelOptions(
                features=8, modes=1, revisit=False, popularity=False, calendar=False, per_item=False
            ),
            train=TrainOptions(epochs=10, settle_epochs=0, learning_rate=0.03, batch_targets=128, window=16),
        ).path


MOVED = taken(AFTER_GROUPS, (TRAINED, TRAINED + LIVED), 16, 1)


@pytest.fixture(scope="module")
def moved(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemoryStore, Verdict]:
    """Retrained after the world has moved, its store, and what became of it."""
    out, store = tmp_path_factory.mktemp("moved") / "new", store_of(MOVED)
    with jax.numpy_rank_promotion("allow"):
        return out, store, retrain(run, store, out, FAST)


def test_what_has_moved_is_learned(moved: tuple[Path, MemoryStore, Verdict]) -> None:
    out, _, verdict = moved
    assert not verdict.refused
    assert verdict.difference.low > 0.1
    told = verdict.report
    values = [told.figure(system, METRIC).value for system in (AFTER, BEFORE)]
    assert verdict.difference.value == pytest.approx(values[0] - values[1])
    histories = load(out).histories
    newest = histories.time >= histories.time.max() + 1 - DAY
    assert ((histories.part == 1) | (histories.part == 2)).tolist() == newest.tolist()
    assert told.protocol["requests"] == (histories.part == 2).sum()


def test_nonsense_is_refused(
    run: Path, tmp_path: Path, say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items that were mixed up for days; those of the newest day are right."""
    rows, random = taken(BEFORE_GROUPS, (TRAINED, TRAINED + LIVED), 24, 1), np.random.default_rng(0)
    mixed = [row for row in rows if row[2] < START + (TRAINED + LIVED - 1) * DAY]
    items = random.permutation([item for _, item, _ in mixed])
    right = [row for row in rows if row not in mixed]
    store = SqliteStore(tmp_path / "live.sqlite")
    store.append(delivered([(u, str(i), t) for (u, _, t), i in zip(mixed, items, strict=True)] + right))
    store.close()
    link = tmp_path / "served"
    link.symlink_to(run, target_is_directory=True)
    lowered: list[int] = []
    monkeypatch.setattr(os, "nice", lowered.append)
    said = say(
        "retrain", link, "--store", tmp_path / "live.sqlite", "--out", tmp_path / "new", "--replace", link,
        "--epochs 4 --learning-rate 0.05 --decay-learning-rate 0.02 --replay 0",
    )  # fmt: skip
    assert said.status == 2
    assert lowered == [10]
    assert "retrained" in said.out  # the table
    assert "is refused: its ndcg@10 on the newest events is -0." in said.err
    assert link.resolve() == run.resolve()
    assert '"refused": true' in (tmp_path / "new" / "metrics.json").read_text()


def test_a_good_one_takes_the_place(
    run: Path, moved: tuple[Path, MemoryStore, Verdict], tmp_path: Path
) -> None:
    out, store, verdict = moved
    link = tmp_path / "served"
    link.symlink_to(run, target_is_directory=True)
    again = retrain(run, store, out, FAST, replace=link)  # nothing is left to train
    assert again.difference == verdict.difference
    assert link.resolve() == out.resolve()
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: is no symbolic link"):
        retrain(run, store, out, FAST, replace=tmp_path / "file")


def test_what_it_knew_is_not_forgotten(
    run: Path, moved: tuple[Path, MemoryStore, Verdict], tmp_path: Path
) -> None:
    """Beside training on what is new alone."""
    out, store, _ = moved
    retrain(run, store, tmp_path / "new", dataclasses.replace(FAST, replay=0.0))
    old = Histories.load(run / "histories")
    asked, found = requests(old, 1), []
    for one in (out, tmp_path / "new"):
        base = Histories.load(before_store(one))
        assert np.array_equal(base.time, old.time)
        kept = base.replace(part=old.part)
        found.append(ndcg_at_10(load_predictor(one, histories=kept), asked).mean())
    assert found[0] > found[1] + 0.05


def test_it_is_served_over_the_same_store(moved: tuple[Path, MemoryStore, Verdict]) -> None:
    """What follows the store over the run's own events says what the run says of all together."""
    out, store, _ = moved
    offline, at = load(out), START + (TRAINED + LIVED + 3) * DAY
    service = Service(load(out), store)
    for user in ("u00", "u07"):
        expected = offline.recommend([user], 8, at=at)
        found = service.recommend(user, 8, at=at)
        assert list(found.items) == expected["item_id"].to_list()
        np.testing.assert_allclose(found.scores, expected["score"].to_numpy(), atol=1e-5)


def follower(out: Path, store: Store, weights: Any = None) -> Follower:
    run = load(out)
    live = Live.of(run.before_store)
    live = live if weights is None else Live(weights, None, live.trends)
    return Follower(live, Vocabulary(run, live.weights), run.before_store.histories, store)


def test_states_move_only_where_they_say_the_same(run: Path, moved: tuple[Path, Any, Any]) -> None:
    """In place where nothing that they hang on has changed; else from the events."""
    out, store = moved[0], MemoryStore()
    store.append(delivered([("u03", "i03", START + TRAINED * DAY + at) for at in range(40)]))
    first = follower(run, store)
    right = first.state("u03")
    first.close()
    saved = store.state(key_of("u03"))
    assert saved is not None
    wrong = first._codec.pack(right._replace(events=1000))  # by which it is known again
    store.save([saved._replace(data=wrong)])
    assert follower(out, store, first.live.weights).state("u03").events == 1000
    new = follower(out, store).state("u03")
    assert new.events == right.events
    same = new.interest.modes, right.interest.modes
    assert same[0] is not None
    assert same[1] is not None
    assert not np.array_equal(same[0].value, same[1].value)  # other vectors


def test_what_is_erased_is_nowhere(run: Path) -> None:
    store = store_of(MOVED)
    store.append(delivered([("guest", "gift", START + TRAINED * DAY)], 5000))
    store.append(delivered([("u05", "i05", START + (TRAINED + 1) * DAY)], 6000))
    store.forget_user("u04")
    store.forget_event("e5000")
    found = combined(run, store)
    users, items = found.tables["user"]["user_id"].to_list(), found.tables["item"]["item_id"].to_list()
    assert not {"u04", "guest"} & set(users)
    assert "gift" not in items
    left = [row for row in MOVED if row[0] != "u04"]
    own = [row for row in taken(BEFORE_GROUPS, (0, TRAINED), 16, 0) if row[0] != "u04"]
    for histories, expected in (
        (found.base, own),
        (found.histories, [*own, *left, ("u05", "i05", START + (TRAINED + 1) * DAY)]),
    ):
        there = zip(histories.user(), histories.item, histories.time, strict=True)
        assert sorted((users[u], items[i], int(t)) for u, i, t in there) == sorted(expected)
    store.append(delivered([("u04", "i00", START + (TRAINED + 2) * DAY)], 7000))
    again = combined(run, store)
    assert again.tables["user"]["user_id"].to_list()[again.kept :] == ["u04"]  # as somebody new
    assert again.histories.lengths()[-1] == 1


def test_what_is_erased_meanwhile_is_refused(
    run: Path, moved: tuple[Path, MemoryStore, Verdict], tmp_path: Path
) -> None:
    store, out = store_of(MOVED), shutil.copytree(moved[0], tmp_path / "new")
    store.forget_user("u06")
    with pytest.raises(InputError, match="events were erased since it began; remove it, and retrain again"):
        retrain(run, store, out, FAST)


def test_what_was_interrupted_goes_on(
    run: Path, moved: tuple[Path, MemoryStore, Verdict], tmp_path: Path
) -> None:
    verdict = moved[2]

    def stop(line: dict[str, Any]) -> None:
        if line.get("step") == 2 * line.get("steps", 0) // FAST.epochs + 1:  # in the third epoch
            raise KeyboardInterrupt

    begun, later = tmp_path / "new", store_of(MOVED)
    with pytest.raises(KeyboardInterrupt):
        retrain(run, later, begun, FAST, report=stop)
    later.append(delivered([("u01", "i01", START + (TRAINED + LIVED) * DAY)], 9000))
    assert retrain(run, later, begun, FAST).difference == verdict.difference


def test_what_was_trained_on_before_is_old(moved: tuple[Path, MemoryStore, Verdict]) -> None:
    """A retrained run, retrained: new are the events held out then, those that came since, and late ones."""
    out, store, _ = moved
    config = load(out).config["retrained"]
    fresh = [("u01", "i01", START + (TRAINED + LIVED) * DAY), ("u02", "late", START + TRAINED * DAY)]
    store.append(delivered(fresh, 9000))
    found = combined(out, store, Trained(config["number"], config["cut"]))
    histories, items = found.histories, found.tables["item"]["item_id"].to_list()
    late = np.array([items[item] == "late" for item in histories.item])
    new = (histories.time >= config["cut"]) | late
    assert ((histories.part != 0) == new).all()
    assert late.sum() == 1
    assert items[:-1] == load(out).items["item_id"].to_list()  # items keep their places
    assert found.base.events == load(out).before_store.histories.events


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "nothing new happened before the held-out time: wait for more, or hold out less"),
        ([("u01", "i01", START + 99 * DAY)], "1 users took anything new in the held-out time"),
    ],
)
def test_too_little_is_refused(run: Path, tmp_path: Path, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        retrain(run, store_of(rows), tmp_path / "new", RetrainOptions(held="1d" if rows else "20d"))
    assert not list(tmp_path.iterdir())


def test_a_run_of_something_else_is_left_alone(
    run: Path, moved: tuple[Path, MemoryStore, Verdict], tmp_path: Path, refused: Callable[..., str]
) -> None:
    out, store, _ = moved
    with pytest.raises(InputError, match="was begun with another run or other options"):
        retrain(run, store, out, dataclasses.replace(FAST, replay=2.0))
    other = shutil.copytree(run, tmp_path / "other")
    with pytest.raises(InputError, match="was begun with another run or other options"):
        retrain(other, store, other, FAST)
    words = "retrain", run, "--nice 0 --store", tmp_path / "none.sqlite", "--out", tmp_path / "new"
    assert (
        refused(*words) == f"{tmp_path / 'none.sqlite'}: there is no such store; give that of jaxdecay serve"
    )
    for text, bad in (
        ("--margin=-1", "margin=-1.0"),
        ("--held soon", "--held soon is no duration"),
        ("--epochs 0", "epochs=0"),
    ):
        assert refused(*words, text).startswith(bad)
