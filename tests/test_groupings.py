"""Half-lives by item, user, behaviour and column: they are those of the events that belong together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lines import Said
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import load_model
from jaxdecay.curves import mean_kernels
from jaxdecay.errors import InputError
from jaxdecay.groupings import grouping
from jaxdecay.recommend import load
from jaxdecay.spreads import spreads
from jaxdecay.trained import Run


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> Run:
    return load(tiny_run)


@pytest.mark.parametrize(("by", "whose"), [("item", "items"), ("user", "users")])
def test_those_of_single_items_and_users_are_their_own(run: Run, by: str, whose: Any) -> None:
    model, params, _ = load_model(run.path)
    found = run.half_lives(by=by, most=5, bootstrap=0).filter(pl.col("group") != "all")
    names = (run.items["item_id"] if by == "item" else run.users).to_list()
    for spread in spreads(run.histories, model, params, whose):
        own = found.filter(pl.col("head") == spread.head)
        assert len(own) == 5
        single = dict(zip(names, spread.half_lives(), strict=False))
        for row in own.to_dicts():
            assert row["half_life_days"] == pytest.approx(single[row["group"]], rel=5e-3)
        assert own["events"].to_list() == sorted(spread.events.tolist(), reverse=True)[:5]


def test_columns_and_behaviours_group_events(run: Run) -> None:
    histories = run.histories
    train = np.asarray(histories.part) == 0
    behaviour = np.asarray(histories.behaviour)[train]
    by = grouping(run.path, "behaviour")
    for name in by.names:
        kind = histories.config["behaviours"].index(name)
        assert by.members(name).tolist() == (behaviour == kind).tolist()
    genre = run.items["genre"].gather(np.asarray(histories.item)[train])
    by = grouping(run.path, "genre", ["jazz"])
    assert by.names == ("jazz",)
    assert by.members("jazz").tolist() == (genre == "jazz").to_list()
    assert by.members("all").all()
    assert set(grouping(run.path, "country").names) == {"de", "fr"}
    both = run.half_lives(by="genre", bootstrap=0).filter(head="revisit")
    assert set(both["group"]) == {"all", "jazz", "rock"}
    assert both.filter(group="all")["events"].item() == both.filter(pl.col("group") != "all")["events"].sum()


def test_the_mean_of_all_does_not_depend_on_the_grouping(run: Run) -> None:
    model, params, _ = load_model(run.path)
    plain = {
        curve.head: curve for curve in mean_kernels(run.histories, model, params) if curve.group == "all"
    }
    by = grouping(run.path, "country")
    for curve in mean_kernels(run.histories, model, params, by):
        if curve.group == "all":
            np.testing.assert_allclose(curve.value, plain[curve.head].value, rtol=1e-6)


def test_they_have_intervals_and_memory(run: Run) -> None:
    widths = []
    for intervals in ("bootstrap", "laplace"):
        found = run.half_lives(by="behaviour", intervals=intervals)
        known = found.filter(pl.col("half_life_days").is_finite())
        assert {"buy", "view", "all"} <= set(known["group"])
        assert (known["low"] < known["half_life_days"]).all()
        assert (known["high"] > known["half_life_days"]).all()
        widths.append((found["high"] / found["low"]).log().to_numpy())
    both = np.isfinite(widths).all(axis=0)
    assert both.sum() >= 4
    # Of the same run, one about its parameters, the other about the refit.
    assert np.median(np.abs(np.log(widths[0][both] / widths[1][both]))) < np.log(1.5)
    memory = run.effective_memory(by="behaviour")
    assert {"buy", "view", "all"} <= set(memory["group"])
    assert (memory["days_50"] <= memory["days_90"]).all()


def test_on_the_command_line(say: Callable[..., Said], refused: Callable[..., str], tiny_run: Path) -> None:
    told = say("half-lives", tiny_run, "--by item --of i03 i04 --bootstrap 0 --json").json
    assert {row["group"] for row in told} == {"all", "i03", "i04"}
    assert not (tiny_run / "half_lives.json").exists()
    assert "perhaps 'genre'" in refused("half-lives", tiny_run, "--by gener --bootstrap 0")
    assert "item 'i77': never seen" in refused("half-lives", tiny_run, "--by item --of i77 --bootstrap 0")


def test_what_is_not_grouped_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match=r"by 'genra': there are item, .*, price; perhaps 'genre'"):
        run.half_lives(by="genra", bootstrap=0)
