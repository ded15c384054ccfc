"""A name that is not there: one line with the nearest one that is, before a model is loaded for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_events, tiny_items

from jaxdecay import findings, half_lives, loaded, trained
from jaxdecay.data import prepare as preparing

ASKED = "explain {run} --user u07 --at 1705190400 --item i14"
LISTED = "recommend {run} --users u39"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("drift {run} --column genres", "item column 'genres': there are genre, price; perhaps 'genre'"),
        ("drift {run} --by countri", "drift by 'countri': there are user, catalogue, country; perhaps"),
        ("drift {run} --users u39x", "'u39x': never seen in the log of this run (the nearest is 'u39')"),
        (f"{LISTED}x", "(the nearest is 'u39')"),
        (f"{LISTED} --group genres --cap 2", ".group genres: there are genre, price; perhaps 'genre'"),
        (f"{LISTED} --group genres --cap 2 --react 1", "perhaps 'genre'"),
        (f"{LISTED} --group genres --cap 2 --explore thompson", "perhaps 'genre'"),
        (f"{LISTED} --group genre --exposed jaz --least 0.5", "there are jazz, rock; perhaps 'jazz'"),
        (f"{LISTED} --allow i14x", "(the nearest is 'i14')"),
        (f"{LISTED} --deny i14x", "(the nearest is 'i14')"),
        (f"{LISTED} --where genres='jazz'", "the item columns item_id, genre, price; perhaps 'genre'"),
        (f"{LISTED} --where genre='jaz'", "where: none of 15 items fits; genre is jazz, rock"),
        (f"{LISTED} --strategy contents", "perhaps 'content'"),
        (f"{LISTED} --strategy content", "no strategies have been fitted yet"),
        ("similar {run} --items i14x", "(the nearest is 'i14')"),
        (f"{ASKED}x", "(the nearest is 'i14')"),
        (f"{ASKED} --having i14x", "(the nearest is 'i14')"),
        (f"{ASKED} --having i02 --behaviour views", "perhaps 'view'"),
        (f"{ASKED} --context devise=phone", "perhaps 'device'"),
        ("half-lives {run} --by genres", "perhaps 'genre'"),
        ("half-lives {run} --by genre --of jaz", "(the nearest is 'jazz')"),
        ("half-lives {run} --by item --of i14x", "(the nearest is 'i14')"),
        ("plot trajectory {run} --user u01 --column genres", "perhaps 'genre'"),
        ("plot trajectory {run} --user u39x", "(the nearest is 'u39')"),
        ("plot weights {run} --user u07 --item i14x", "(the nearest is 'i14')"),
        ("plot kernel {run}", "perhaps 'kernels'"),
        ("report {run} --column genres --out page.html", "perhaps 'genre'"),
    ],
)
def test_it_is_refused_before_the_model_is_loaded(
    words: str, line: str, refused: Callable[..., str], tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*given: Any, **named: Any) -> None:
        raise AssertionError("the model is loaded")

    for module in (findings, half_lives):
        monkeypatch.setattr(module, "load_model", load)
    for module in (findings, loaded, trained):
        monkeypatch.setattr(module, "load_predictor", load)
    assert line in refused(words.format(run=tiny_run))


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("--item-features.encodings genres category", "items.csv: there is no column 'genres'; there are"),
        ("--user-features.encodings country category", "the table of users: there is no column 'country'"),
        ("--context-features.encodings devise category", "events.csv: there is no column 'devise'"),
    ],
)
def test_an_encoding_of_no_column_is_refused_before_the_log_is_cleaned(
    option: str, line: str, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clean(*given: Any) -> None:
        raise AssertionError("the log is cleaned")

    monkeypatch.setattr(preparing, "clean", clean)
    log, items = tmp_path / "events.csv", tmp_path / "items.csv"
    tiny_events().write_csv(log)
    tiny_items().write_csv(items)
    said = refused("prepare", log, f"{option} --items", items, "--out", tmp_path / "out")
    assert line in said
    assert option.split()[0] in said
