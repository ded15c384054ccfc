"""``jaxdecay plot``: every kind of a run, and one line for what cannot be drawn."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from lines import Said
from polars.testing import assert_frame_equal
from shown import judged
from toys import DAY, any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import half_lives, insight, pictures
from jaxdecay.commands.pictures import Plot
from jaxdecay.curves import Events, mean_kernels
from jaxdecay.findings import Findings
from jaxdecay.intervals import said
from jaxdecay.pictures import Whom

OF_SOMEBODY = {"weights": Whom("u03", "i04"), "trajectory": Whom("u03"), "drift": Whom("u03")}
LACKING = {"ablation": "'without decay' was not evaluated"}


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: copy it before changing it."""
    return judged(tiny_run, tmp_path_factory.mktemp("judged") / "run")


@pytest.fixture(scope="module")
def found(run: Path) -> Findings:
    return Findings(run)


@pytest.mark.parametrize("kind", [kind for kind in pictures.KINDS if kind not in LACKING])
def test_every_kind_is_drawn(found: Findings, kind: str) -> None:
    ax = pictures.draw(kind, found, OF_SOMEBODY.get(kind, Whom()))
    assert ax.get_xlabel()
    assert ax.lines or ax.patches or ax.collections


def test_the_help_names_every_kind() -> None:
    said = (Plot.__doc__ or "").split("KIND is one of")[1]
    assert [kind for kind in pictures.KINDS if not re.search(rf"\b{kind}\b", said)] == []


def test_a_picture_is_written_where_asked(say: Callable[..., Said], run: Path, tmp_path: Path) -> None:
    said = say("plot metrics", run, "--json --out", tmp_path / "a.png")
    assert said.json == {"written": str(tmp_path / "a.png")}
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert say("plot drift", run, "--user u01 --out", tmp_path / "b.svg").status == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "plot halflives RUN",
            r"there is no picture 'halflives': there are half-lives, .*; perhaps 'half-lives'",
        ),
        ("plot zzz RUN", r"there is no picture 'zzz': there are half-lives, spread,"),
        ("plot metrics RUN --out a.gif", r"a\.gif: pictures end in"),
        ("plot drift RUN", r"drift: of which user\? give --user, such as --user u\d\d, who has most events"),
        (
            "plot trajectory RUN --user u99",
            r"user 'u99': never seen in the log of this run \(the nearest is 'u\d9'\); give",
        ),
        (
            "plot trajectory RUN --user u01 --column gener",
            r"item column 'gener': there are .*; perhaps 'genre'",
        ),
        (
            "plot weights RUN --user u01",
            r"weights: of the score of which item\? give --item, such as --item i",
        ),
        (
            "plot weights RUN --user u01 --item i1",
            r"item 'i1': never seen .* \(the nearest is 'i1\d'\); give",
        ),
        ("plot ablation RUN", r"'without decay' was not evaluated, only popularity"),
        ("plot metrics BARE", r"metrics\.json: missing; run jaxdecay evaluate .* first"),
        ("plot training-half-lives OLD", r"history\.jsonl holds no half-lives: .* train it again"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    refused: Callable[..., str], run: Path, tiny_run: Path, tmp_path: Path, words: str, line: str
) -> None:
    places = {"RUN": run, "BARE": tiny_run, "OLD": tmp_path / "old"}
    if "OLD" in words:
        shutil.copytree(run, places["OLD"])
        kept = [json.loads(text) for text in (run / "history.jsonl").read_text().splitlines()]
        texts = (json.dumps({k: v for k, v in one.items() if k != "half_lives"}) for one in kept)
        (places["OLD"] / "history.jsonl").write_text("\n".join(texts) + "\n")
    assert re.search(line, refused(*(places.get(word, word) for word in words.split())))


def test_damaged_figures_are_one_line(refused: Callable[..., str], run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "metrics.json").write_text("{")
    assert "metrics.json: damaged; run jaxdecay evaluate" in refused("plot metrics", copy)


def test_interests_are_called_by_a_column_by_titles_or_by_ids(
    found: Findings, run: Path, tiny_run: Path
) -> None:
    kinds = found.kinds
    assert (kinds.column, kinds.names) == (
        "genre",
        sorted(found.run.items["genre"].unique()),
    )
    assert [kinds.names[kind] for kind in kinds.of] == found.run.items["genre"].to_list()
    titled = Findings(run, column="title").kinds
    assert titled.names == found.run.items["title"].to_list()
    bare = Findings(tiny_run)
    bare.run.items = bare.run.items.select("index", "item_id")
    assert bare.kinds.column is None
    assert bare.kinds.names == bare.run.items["item_id"].to_list()


def test_history_has_the_half_lives_of_what_was_kept(found: Findings) -> None:
    """The line is written while training, the frame made of the checkpoint."""
    frame = half_lives.half_lives(found.run.path, bootstrap=0)
    assert len(frame) > 3
    for head, group, days in frame.select("head", "group", "half_life_days").iter_rows():
        line = found.lines[-1]["half_lives"][head][group]
        assert (np.inf if line is None else line) == pytest.approx(days, rel=1e-5)


def test_half_lives_are_drawn_with_the_intervals_that_were_kept(
    say: Callable[..., Said], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    plain = half_lives.half_lives(copy, bootstrap=0)
    assert plain["low"].is_null().all()
    bounds = plain.with_columns(low=pl.col("half_life_days") / 2, high=pl.col("half_life_days") * 2)
    asked = []

    def bounded(*args: object, **options: object) -> pl.DataFrame:
        asked.append(options["intervals"])
        return bounds

    monkeypatch.setattr(insight, "half_lives", bounded)  # refits take their time
    assert say("half-lives", copy, "--bootstrap 0 --json").status == 0
    assert Findings(copy).half_lives == (bounds, said("laplace"))
    assert say("half-lives", copy, "--bootstrap 4 --json").status == 0
    assert say("half-lives", run, "--bootstrap 0 --intervals laplace").status == 0
    assert asked == ["bootstrap", "laplace", "bootstrap", "laplace"]
    monkeypatch.undo()
    frame, words = Findings(copy).half_lives
    assert words == "95 %, 4 bootstrap refits over users, seed 0"
    assert_frame_equal(frame, bounds)


def test_effective_memory_is_counted_event_by_event(found: Findings) -> None:
    histories, model, params, _ = found._trained
    log = Events.of(histories, model, params)
    time = np.asarray(histories.time)[np.asarray(histories.part) == 0]
    for curve in mean_kernels(histories, model, params):
        if curve.group != "all" or curve.head == "popularity":
            continue
        pairs = []
        for user in np.unique(log.user):
            own = time[log.user == user]
            pairs += [
                ((own[-1] - when) / DAY, np.interp((own[-1] - when) / DAY, curve.age, curve.value))
                for when in own[:-1]
            ]
        pairs.sort()
        row = found.memory.filter(head=curve.head, group="all").row(0, named=True)
        for name, share in (("days_50", 0.5), ("days_90", 0.9)):
            behind = sum(weight for age, weight in pairs if age < row[name] - 1e-9)
            until = sum(weight for age, weight in pairs if age <= row[name] + 1e-9)
            whole = sum(weight for _, weight in pairs)
            assert behind <= share * whole * (1 + 1e-6)
            assert until >= share * whole * (1 - 1e-6)


def test_kernels_begin_where_the_config_says(found: Findings) -> None:
    """At step 0 nothing tells items apart: all groups have one kernel, which training moves."""
    initial = {(curve.head, curve.group): curve for curve in found.initial()}
    learned = {(curve.head, curve.group): curve for curve in found.learned()}
    assert initial.keys() == learned.keys()
    for (head, group), curve in initial.items():
        np.testing.assert_allclose(curve.value, initial[head, "all"].value, atol=1e-6)
        if group != "all":
            moved = np.interp(curve.age, learned[head, group].age, learned[head, group].value)
            assert np.abs(moved - curve.value).max() > 1e-3
