"""Command lines run in this process, for tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jaxdecay.cli import main


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def sayer(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """``say("prepare", path, "--out", out)``; words are split at blanks, paths are taken whole."""

    def say(*words: str | Path) -> Said:
        argv = [part for word in words for part in (word.split() if isinstance(word, str) else [str(word)])]
        capsys.readouterr()
        status = main(argv)
        return Said(status, *capsys.readouterr())

    return say


def refuser(say: Callable[..., Said]) -> Callable[..., str]:
    """The one line of a command that is refused; nothing may be on stdout."""

    def refused(*words: str | Path) -> str:
        said = say(*words)
        assert (said.status, said.out, said.err.count("\n")) == (2, "", 1), said
        name, _, message = said.err.strip().partition(": ")
        assert name == f"jaxdecay {str(words[0]).split()[0]}"
        return message

    return refused
