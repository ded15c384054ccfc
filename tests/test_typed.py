"""What people type that cannot be meant, of drift, reasons, half-lives, pictures and the page: one line that
says what to do, before anything is computed. What is meant all the same is taken."""

import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import polars as pl
import pytest
from lines import Said
from tiny import DAY, START
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import counterfactuals, half_lives, insight, page, pictures
from jaxdecay.drift import DriftOptions
from jaxdecay.errors import InputError
from jaxdecay.findings import Findings
from jaxdecay.groupings import grouping
from jaxdecay.pictures import Whom
from jaxdecay.recommend import load
from jaxdecay.steering import Steering
from jaxdecay.trained import Run

END = START + 61 * DAY
ASK = ("u07", "i03", END)


@pytest.fixture(scope="module")
def run(tiny_run: Path) -> Run:
    return load(tiny_run)


@pytest.fixture
def untyped() -> Iterator[None]:
    """As for those who call the library: nothing looks at types before it does."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be computed: it would be a TypeError."""
    for module, name in (
        (counterfactuals, "_judged"), (half_lives, "load_model"), (insight, "explain"), (insight, "watch"),
        (page, "page"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, None)
    monkeypatch.setattr(pictures, "KINDS", dict.fromkeys(pictures.KINDS))


WHOLE = "give a whole number from"
# Without their types: people have none.
Options: Any = DriftOptions
Steer: Any = Steering
Opened: Any = Findings
draw: Any = pictures.draw
OPTIONS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda run: Steer(trade_off="0.5"), r"trade_off='0\.5': give a number from 0 to 1"),
    (lambda run: Steer(trade_off=None), "trade_off=None: give a number from 0 to 1"),
    (lambda run: Steer(trade_off=0.5, pool=20.0), f"pool=20\\.0: {WHOLE} 1$"),
    (lambda run: Steer(group="genre", cap=True), f"cap=True: {WHOLE} 1$"),
    (lambda run: Steer(group=3, cap=1), "group=3: give the name of an item column"),
    (lambda run: Steer(explore="temperature", temperature="1"), "temperature='1': give a number above 0"),
    (lambda run: Steer(explore="temperature", seed=1.5), rf"seed=1\.5: {WHOLE} 0$"),
    (lambda run: Steer(react="1"), "react='1': give a number from 0"),
    (lambda run: run.recommend("u07", steer={"trade_off": 0.5}), "steer=.*: give a Steering, such as"),
    (lambda run: run.what_if(*ASK, without=["1"]), f"without='1': {WHOLE} 1$"),
    (lambda run: run.what_if(*ASK, without=[1.5]), rf"without=1\.5: {WHOLE} 1$"),
    (lambda run: run.what_if(*ASK, without=[None]), f"without=None: {WHOLE} 1$"),
    (lambda run: run.what_if(*ASK, without=[True]), f"without=True: {WHOLE} 1$"),
    (lambda run: run.what_if(*ASK, without=0), f"without=0: {WHOLE} 1$"),
    (lambda run: run.what_if(*ASK, later=[30]), "later=30 is no duration; write a number above 0 and s"),
    (lambda run: run.what_if(*ASK, later=[None]), "later=None is no duration"),
    (lambda run: run.what_if(*ASK, later="soon"), "later='soon' is no duration"),
    (lambda run: run.what_if(*ASK, later="100y"), "later='100y': the request would come over 68 years"),
    (lambda run: run.what_if(*ASK, later="9" * 40 + "y"), "over 68 years after the first event of the log"),
    (lambda run: run.what_if(*ASK, later=datetime.timedelta(-1)), r"later=.*days=-1\) is no duration"),
    (lambda run: run.what_if(*ASK, behaviour="buy"), "behaviour='buy' is how the items of having were taken"),
    (lambda run: run.what_if(*ASK, having="i77"), "item 'i77': never seen .*give an id such as 'i00'$"),
    (lambda run: run.explain("u07", "i03x"), r"\(the nearest is 'i03'\); give an id such as 'i00'$"),
    (lambda run: run.explain(*ASK, context="x"), "context 'x': give columns with their values, such as"),
    (lambda run: run.half_lives(by=5), "by 5: there are item, user, behaviour, country, genre, price$"),
    (lambda run: run.half_lives(by=["item"]), r"by \['item'\]: there are .*; perhaps 'item'$"),
    (lambda run: run.effective_memory(by="colour"), "by 'colour': there are [^;]*$"),
    (lambda run: run.half_lives(by="genre", most=2.5), rf"most=2\.5: {WHOLE} 1 to 1000$"),
    (lambda run: run.half_lives(by="genre", most="3"), f"most='3': {WHOLE} 1 to 1000$"),
    (lambda run: run.half_lives(by="genre", most=5000), f"most=5000: {WHOLE} 1 to 1000$"),
    (lambda run: run.half_lives(most=3), "most counts values of by, which is not given; give by"),
    (lambda run: run.half_lives(by="genre", of="jazz", most=3), "and of names them; leave one of them out"),
    (lambda run: run.half_lives(by="genre", of=[]), "of names nothing; leave it out"),
    (lambda run: run.half_lives(by="genre", of="jaz"), r"genre 'jaz': never .* 'jazz'\); give one such as"),
    (lambda run: run.half_lives(by="genre", of=["folk", "pop"]), "genre 'folk', 'pop': never seen"),
    (lambda run: run.half_lives(by="price", of=[9.74]), r"price '9\.74': never seen .*such as '1\.0'$"),
    (lambda run: run.half_lives(bootstrap=2.5), rf"bootstrap=2\.5: {WHOLE} 0$"),
    (lambda run: run.half_lives(bootstrap="no"), f"bootstrap='no': {WHOLE} 0$"),
    (lambda run: run.half_lives(bootstrap=None), f"bootstrap=None: {WHOLE} 0$"),
    (lambda run: run.half_lives(bootstrap=-1), f"bootstrap=-1: {WHOLE} 0$"),
    (lambda run: run.half_lives(bootstrap=1), "give 0 for no intervals, or at least 2 refits"),
    (lambda run: run.half_lives(seed=-3), f"seed=-3: {WHOLE} 0$"),
    (lambda run: run.half_lives(grouping="genre"), "grouping: those of a run go by names; give by"),
    (lambda run: run.drift([]), "users: none is given; name some, or leave users out"),
    (lambda run: run.drift("nobody"), "leave them out, or say on_unknown='skip'$"),
    (lambda run: run.drift(options={"fast": "4d"}), r"options=\{'fast': '4d'\}: give a jaxdecay\.drift"),
    (lambda run: run.monitor({}), r"options=\{\}: give a jaxdecay\.drift\.DriftOptions, such as"),
    (lambda run: Options(false_alarms=None), "false_alarms=None: give a share between 0 and 1"),
    (lambda run: Options(false_alarms="5%"), "false_alarms='5%': give a share .*, such as 0.05"),
    (lambda run: Options(fast=4), "fast=4 is no duration; write"),
    (lambda run: Options(slow=""), "slow='' is no duration; write"),
    (lambda run: Options(seed="a"), f"seed='a': {WHOLE} 0$"),
    (lambda run: Opened(run.path, seed="x"), f"seed='x': {WHOLE} 0$"),
    (lambda run: Opened(run.path, column=3), "item column 3: there are genre, price$"),
    (lambda run: Opened(run.path, column=""), "item column '': there are genre, price$"),
    (lambda run: draw(3, Opened(run.path)), "there is no picture 3: there are half-lives"),
    (lambda run: draw("memory", Opened(run.path), Whom("u01")), "user='u01': the picture memory"),
]  # fmt: skip


@pytest.mark.usefixtures("untyped", "idle")
@pytest.mark.parametrize(("ask", "line"), OPTIONS)
def test_in_python_it_is_one_line_before_anything_is_computed(
    run: Run, ask: Callable[[Any], Any], line: str
) -> None:
    with pytest.raises(InputError, match=line) as refusal:
        ask(run)
    assert "\n" not in str(refusal.value)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"column": 3}, "item column 3: there are genre, price$"),
        ({"column": ""}, "item column '': there are genre, price$"),
        ({"by": 3}, "drift by 3: there are user, catalogue, country$"),
        ({"by": None}, "drift by None: there are user, catalogue, country$"),
    ],
)
def test_drift_is_by_what_is_there(run: Run, options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        run.drift(**options)


EXPLAIN = f"explain RUN --user u07 --item i03 --at {END}"


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("drift RUN --seed -1", f"seed=-1: {WHOLE} 0"),
        ("drift RUN --most 0", f"most=0: {WHOLE} 1"),
        ("drift RUN --fast=", "--fast '' is no duration"),
        ("drift RUN --users", "users: none is given"),
        ("drift RUN --users nobody", "leave them out, or say --on-unknown skip\n"),
        ("drift RUN --out DIR", "DIR: is a directory; name a file in it, such as DIR/NAME.parquet"),
        ("drift RUN --out drift.csv", "drift.csv: give a name that ends in .parquet or"),
        ("half-lives RUN --seed -3", f"seed=-3: {WHOLE} 0"),
        ("half-lives RUN --seed -3 --intervals laplace", f"seed=-3: {WHOLE} 0"),
        ("policy RUN --seed -1", f"seed=-1: {WHOLE} 0"),
        ("evaluate RUN --seed -1", f"seed=-1: {WHOLE} 0"),
        ("half-lives RUN --by genre --of", "of names nothing"),
        ("half-lives RUN --most 3", "most counts values of by, which is not given"),
        (f"{EXPLAIN} --behaviour buy", "--behaviour buy is how the items of having were taken"),
        (f"{EXPLAIN} --most -3", f"most=-3: {WHOLE} 1"),
        (f"{EXPLAIN} --without 99", "the user has 20 events before"),
        (f"{EXPLAIN} --later 100y", "--later 100y: the request would come over 68 years"),
        ("plot trajectory RUN --user u01 --seed -1", f"seed=-1: {WHOLE} 0"),
        ("plot trajectory RUN --user u01 --item i01", "--item i01: the picture trajectory does not go by it"),
        ("plot trajectory RUN --user u01 --column colour", "item column 'colour': there are genre, price\n"),
        ("plot kernels RUN --user u01", "--user u01: the picture kernels does not go by it; leave it out"),
        ("plot kernels RUN --column genre", "--column genre: the picture kernels does not go by it"),
        ("plot metrics RUN --by activity", "--by activity: the picture metrics does not go by it"),
        ("plot kernels RUN --seed 0", "--seed 0: the picture kernels does not go by it"),
        ("report RUN --out report.html --column colour", "item column 'colour': there are genre, price"),
        ("report RUN --out report.html --seed -1", f"seed=-1: {WHOLE} 0"),
        ("report RUN --out report.txt", "report.txt: give a name that ends in .html or .htm"),
        ("report RUN --out DIR", "DIR: is a directory; name a file in it, such as DIR/NAME.html"),
    ],
)
def test_on_the_command_line_too(
    refused: Callable[..., str], tiny_run: Path, tmp_path: Path, words: str, line: str
) -> None:
    places = {"RUN": tiny_run, "DIR": tmp_path}
    told = refused(*(places.get(word, word) for word in words.split())) + "\n"
    assert line.replace("DIR", str(tmp_path)) in told


def test_one_value_is_a_list_of_one(run: Run) -> None:
    asked = run.what_if(*ASK, without=1, later="30d", having="i04")
    assert asked.rows() == run.what_if(*ASK, without=[1], later=["30d"], having=["i04"]).rows()
    day = run.what_if(*ASK, later=datetime.timedelta(hours=36))
    assert day["change"].to_list() == ["as it is", "36.0 h later"]
    assert day["score"].to_list() == run.what_if(*ASK, later=["1.5d"])["score"].to_list()
    assert grouping(run.path, "genre", "jazz").names == ("jazz",)
    assert grouping(run.path, "item", "i04").names == ("i04",)


@pytest.mark.parametrize("of", [3, 3.0, "3", ["3.0"], [3, 3.0]])
def test_numbers_of_a_column_are_called_as_people_write_them(run: Run, of: Any) -> None:
    found = grouping(run.path, "price", of)
    assert found.names == ("3.0",)
    own = run.items["price"].gather(run.histories.item[run.histories.part == 0]) == 3
    assert found.members("3.0").tolist() == own.fill_null(False).to_list()


def test_drift_of_those_who_are_known(say: Callable[..., Said], tiny_run: Path) -> None:
    told = say("drift", tiny_run, "--users u03 nobody --on-unknown skip --false-alarms 0.9 --json")
    assert told.json["watched"] == 1
    assert "user 'nobody': never seen, skipped" in told.err


def test_a_share_of_false_alarms_is_read_from_shuffled_streams(run: Run) -> None:
    """40 users, shuffled 13 times to have 500 streams."""
    with pytest.raises(InputError, match=r"read from 520 shuffled streams, .*; give at least 0\.001924$"):
        run.monitor(DriftOptions(false_alarms=0.0019))
    strict, loose = (run.monitor(DriftOptions(false_alarms=share)) for share in (0.001924, 0.5))
    assert strict.threshold > loose.threshold


def test_a_monitor_knows_its_items(run: Run) -> None:
    monitor = run.monitor(DriftOptions(false_alarms=0.5))
    for item in (-1, len(run.items), 9999):
        with pytest.raises(InputError, match=f"item {item}: give the index of an item, from 0 to 14"):
            monitor.update(monitor.init(), END, item)
    assert monitor.update(monitor.init(), END, len(run.items) - 1).trace.time == END


def test_interests_go_by_a_column_of_some_values(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    alike = run.items.with_columns(pl.lit("one").alias("genre"))
    monkeypatch.setattr(Run, "items", alike)
    with pytest.raises(InputError, match="item column 'genre' has 1 values; give one of 2 to 10000"):
        Findings(run.path, column="genre")


def test_one_value_or_a_number_stands_for_a_list_of_names(untyped: None) -> None:
    assert Steer(group="genre", exposed="jazz", least=0.2).exposed == ("jazz",)
    assert Steer(group="price", exposed=(9.5, "3"), least=0.2).exposed == ("9.5", "3")
