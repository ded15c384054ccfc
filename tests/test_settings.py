"""Options: the line over the file over the defaults, names with and without their group, and what is
refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import tyro

from jaxdecay.errors import InputError
from jaxdecay.settings import Settings, find, options_of, parse, spell


@dataclass(frozen=True)
class Split:
    """How."""

    kind: Literal["time", "last"] = "time"
    """Which."""
    share: float = 0.1
    """How much."""

    def __post_init__(self) -> None:
        if self.share < 0:
            raise InputError(f"--split.share {self.share}: give a share from 0 on")


@dataclass(frozen=True)
class Learn:
    """How to learn."""

    epochs: int = 3
    """Passes."""
    rates: tuple[float, ...] = (0.1,)
    """Rates."""
    shuffle: bool = True
    """Whether to."""
    share: float = 0.5
    """Of another kind."""


@dataclass(frozen=True, kw_only=True)
class Job(Settings):
    """Does a job."""

    short: ClassVar[Mapping[str, str]] = {"split": "split.kind"}

    source: tyro.conf.Positional[Path]
    """From."""
    out: Path
    """To."""
    k: int = 10
    """Length."""
    remove: bool | None = None
    """Perhaps."""
    split: Split = field(default_factory=Split)
    learn: tyro.conf.OmitArgPrefixes[Learn] = field(default_factory=Learn)
    encodings: Mapping[str, Literal["text", "rank"]] = field(default_factory=dict)
    """By column."""


def job(words: str | Sequence[str], tmp_path: Path | None = None, toml: str = "") -> Job:
    argv = words.split() if isinstance(words, str) else list(words)
    if tmp_path is not None:
        (tmp_path / "job.toml").write_text(toml)
        argv += ["--config", str(tmp_path / "job.toml")]
    return parse(Job, ["log", "--out", "there", *argv], prog="job")


def test_names_with_and_without_their_group() -> None:
    assert job("--split last --epochs 5 --rates -1 2").split == Split("last")
    assert job("--split.kind last").split == job("--kind last").split == Split("last")
    assert job("--learn.epochs 5").learn == job("--epochs=5").learn == Learn(5)
    assert job("-k 3").k == job("--k 3").k == 3
    assert not job("--no-shuffle").learn.shuffle
    assert not job("--learn.no-shuffle").learn.shuffle
    assert job("--rates -1 2").learn.rates == (-1, 2)


def test_the_option_that_a_name_means() -> None:
    options = list(options_of(Job))
    assert (meant := find("share", options)) is not None
    assert meant.path == "learn.share"  # the other one is not called so without its group
    assert find("kind", options) == find("split.kind", options)
    assert find("nothing", options) is None
    assert (
        find("share", [option for option in options if option.name != "share"] * 2) is None
    )  # two of a name


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", None),
        ("--remove", True),
        ("--no-remove", False),
        ("--remove False", False),
        ("--remove=True", True),
    ],
)
def test_yes_no_or_undecided(words: str, expected: bool | None) -> None:
    assert job(words).remove is expected


def test_the_line_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    toml = """
        k = 4
        remove = false
        split = "last"
        [learn]
        epochs = 7
        rates = [0.5, -0.25]
        shuffle = false
        [encodings]
        a_b = "rank"
    """
    made = job("--learn.epochs 9 -k 5", tmp_path, toml)
    assert made.k == 5
    assert made.remove is False
    assert made.split == Split("last")
    assert made.learn == Learn(9, (0.5, -0.25), False)
    assert made.encodings == {"a_b": "rank"}
    assert job("--shuffle", tmp_path, toml).learn.shuffle
    assert job("--remove", tmp_path, toml).remove is True
    (tmp_path / "out.toml").write_text('out = "here"')
    assert parse(Job, ["log", "--config", str(tmp_path / "out.toml")], prog="job").out == Path("here")


def test_a_table_named_like_a_short_name_is_its_group(tmp_path: Path) -> None:
    assert job("", tmp_path, "[split]\nkind = 'last'\nshare = 0.2").split == Split("last", 0.2)


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        (
            "epoch = 3\n[split]\nsort = 1",
            "epoch, split.sort: no option of job; perhaps epochs; see job --help",
        ),
        ("source = 'x'", "source: no option of job"),
        ("config = 'x'", "config: no option of job"),
        ("shuffle = 'yes'", "learn.shuffle = 'yes': give true or false"),
        ("epochs = [1, 2]", "learn.epochs = [1, 2]: give one value, not a list"),
        ("epochs = 'many'", "--epochs: invalid literal"),
        ("split = 'never'", "'never'"),
        ("epochs = ", "is no TOML"),
        ("[split]\nshare = -1", "--split.share -1.0: give a share from 0 on"),
    ],
)
def test_what_a_file_may_not_say(toml: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        job("", tmp_path, toml)
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--epoch 3", "unrecognized options: --epoch, 3; perhaps --epochs; see job --help"),
        ("--epochs", "missing value for argument '--epochs'"),
        ("--split.share -1", "--split.share -1.0: give a share from 0 on"),
        ("--config nowhere.toml", "nowhere.toml: cannot be read (No such file or directory)"),
        ("more", "unrecognized options: more"),
    ],
)
def test_what_the_line_may_not_say(words: str, expected: str) -> None:
    with pytest.raises(InputError) as refusal:
        job(words)
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_messages_are_spelled_as_on_the_line() -> None:
    said = spell("split: kind='last' needs remove=True, or say epochs=3", Job)
    assert said == "split: --split.kind last needs --remove, or say epochs=3"
    assert spell("kind='' is none", Job) == "--split.kind '' is none"


def test_help_is_printed_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        job("--help")
    assert not stop.value.code
    assert "--split.share" in capsys.readouterr().out
