"""``jaxdecay``: one command after another, from a log of events to recommendations.

Results go to stdout, everything else to stderr. Exit status 0; 2 with one line on stderr that says what to
do; 130 after an interruption.
"""

import contextlib
import importlib
import json
import logging
import math
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from jaxdecay import __version__
from jaxdecay.errors import InputError

if TYPE_CHECKING:
    from jaxdecay.commands import Command

COMMANDS = {
    "doctor": ("machine:Doctor", "what this machine offers, and what is missing"),
    "datasets": ("logs:Datasets", "public logs by name: terms, download, or your own copy"),
    "simulate": ("logs:Simulate", "a log with planted half-lives, and the truth beside it"),
    "embed": ("text:Embed", "titles and other texts as vectors, by a language model of your own"),
    "prepare": ("logs:Prepare", "a log of events, checked, cleaned and split, as arrays"),
    "train": ("training:Train", "a model of fading interest; resumes what was interrupted"),
    "fine-tune": ("finetune:FineTune", "a run and the language model behind its texts, on together"),
    "retrain": ("retrain:Retrain", "a run on, with what its store has had since"),
    "evaluate": ("evaluation:Evaluate", "the table: the model, without decay, and baselines"),
    "recommend": ("use:Recommend", "what users may want at a moment"),
    "similar": ("use:Similar", "the items nearest to items"),
    "explain": ("why:Explain", "why an item has its score, and what would be otherwise"),
    "drift": ("why:Drift", "whose interests moved, when and where to"),
    "policy": ("policy:FitPolicy", "strategies, and a policy over them, fitted on validation"),
    "half-lives": ("use:HalfLives", "the half-lives learned, with intervals"),
    "plot": ("pictures:Plot", "one picture of a run"),
    "report": ("pictures:Report", "one page on a run, for people"),
    "update": ("updating:Update", "new events into a run or its live store, without retraining"),
    "serve": ("live:Serve", "a run, live over HTTP: events in, lists out, at any moment"),
}
USAGE = 2
INTERRUPTED = 130


def run() -> None:
    """The command ``jaxdecay``: `main`, and out."""
    status = main()
    if status:
        # An orderly shutdown after a failure may crash on threads that still compile, or have them complain.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line (default: that of the process) and returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words else "--help"
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"jaxdecay {__version__}")
        return 0
    try:
        with _terminable():
            return _run(name, words[1:])
    except InputError as error:
        return _fail(name, str(error))
    except KeyboardInterrupt:
        _fail(name, "interrupted; nothing half-written is left")
        return INTERRUPTED
    except (
        BrokenPipeError,
        SystemExit,
    ):  # whoever read the output has seen enough; the latter is rich's word for it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("jaxdecay"):
            raise
        return _fail(
            name, f"the package {error.name} is missing; pip install jaxdecay brings all that it needs"
        )
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(
            name, f"{where}{error.strerror or error}; free some space, or check the path and its permissions"
        )


def overview() -> str:
    """What ``jaxdecay --help`` prints."""
    width = max(map(len, COMMANDS))
    rows = (f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    return "\n".join(
        [
            "usage: jaxdecay COMMAND ...",
            "",
            "Interest that fades, learned end to end.",
            "",
            *rows,
            "",
            "jaxdecay COMMAND --help tells its options; all take --json, and --config FILE.toml for options.",
        ]
    )


def _run(name: str, words: Sequence[str]) -> int:
    if name not in COMMANDS:
        raise InputError(f"there is no command {name!r}; there are {', '.join(COMMANDS)}")
    with _quiet("--verbose" in words):
        module, _, kind = COMMANDS[name][0].partition(":")
        kind = getattr(importlib.import_module(f"jaxdecay.commands.{module}"), kind)
        from jaxdecay.settings import parse, spell

        try:
            command = parse(kind, words, prog=f"jaxdecay {name}")
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result alone
                result = command.perform()
        except InputError as error:
            raise InputError(spell(str(error), kind)) from error
        except SystemExit:  # help was asked for, and printed
            return 0
        _print(command, result)
    fault = command.fault(result)
    return 0 if fault is None else _fail(name, fault)


def _print(command: "Command", result: Any) -> None:
    from jaxdecay.progress import leading

    if not leading():
        return
    if command.json:
        print(json.dumps(_finite(command.plain(result)), ensure_ascii=False, allow_nan=False))
    else:
        command.show(result)
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity: both become null."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _fail(name: str, message: str) -> int:
    print(f"jaxdecay {name}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return USAGE


@contextlib.contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Keeps the libraries below from talking on stderr, unless that is wanted."""
    if verbose:
        yield
        return
    for variable, level in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("GRPC_VERBOSITY", "ERROR")):
        os.environ.setdefault(variable, level)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what goes wrong below comes up as an exception, too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turns SIGTERM into the exception of Ctrl-C, so that what is half-written is removed; training has a
    handler of its own."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
