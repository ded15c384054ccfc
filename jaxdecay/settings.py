"""Options from a dataclass, a TOML file and the command line: the line wins over the file, the file over the
defaults.

The file becomes words of the command line, so that an option means the same in both, is checked once, and is
refused in the same words.

Options stand in groups (``--columns.user``, in a file ``[columns]`` and ``user = "…"``). The group may be
left out where the rest of the name belongs to one option only: ``--targets last`` is ``--split.targets
last``.
"""

import contextlib
import difflib
import io
import re
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro

from jaxdecay.errors import InputError

T = TypeVar("T")
_FLAT = tyro.conf.OmitArgPrefixes[int].__metadata__[0]  # type: ignore[attr-defined]
_POSITIONAL = tyro.conf.Positional[int].__metadata__[0]  # type: ignore[attr-defined]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every command takes."""

    config: Path | None = None
    """TOML file of options; the command line wins over it."""

    short: ClassVar[Mapping[str, str]] = {}
    """Further names of options."""


class Option(NamedTuple):
    """One option as the command line spells it."""

    name: str
    """Without the leading dashes, words joined by hyphens: "epochs", "split.kind"."""
    path: str
    """With its group, whether or not the command line needs that: "train.epochs"."""
    type: Any
    """Without None and without annotations."""
    optional: bool
    """Whether None is a value of it."""

    @property
    def flag(self) -> bool:
        """Takes no value: ``--name`` or ``--no-name``."""
        return self.type is bool and not self.optional

    @property
    def many(self) -> bool:
        """Takes any number of values."""
        return get_origin(self.type) in (tuple, list)

    def words(self, value: bool) -> list[str]:
        """A yes or no as the command line spells it."""
        if not self.flag:
            return [f"--{self.name}", str(value)]
        group, dot, last = self.name.rpartition(".")
        return [f"--{self.name}" if value else f"--{group}{dot}no-{last}"]


def parse(command: type[T], argv: Sequence[str], *, prog: str) -> T:
    """The options of ``command`` (a frozen dataclass) as given by ``argv`` and by the TOML file that
    ``--config`` in it names.

    Prints help and exits with status 0 for ``--help``. Raises InputError, in one line, for everything that
    cannot be used, keys of the file that are no options included.
    """
    options = list(options_of(command))
    short = getattr(command, "short", {})
    words, given = [], set()
    for word in argv:
        spelled, name = _spelled(word, options, short)
        words += spelled
        given.add(name)
    words = _valued(words, options)
    for file in _config_files(words):
        words += _from_file(file, options, short, given, prog)
    return _parsed(command, words, prog)


def options_of(command: type, *, name: str = "", path: str = "") -> Iterator[Option]:
    """Every option of a dataclass, groups and all; positional arguments are none."""
    hints = get_type_hints(command, include_extras=True)
    for field in fields(command):
        hint, marks = hints[field.name], ()
        if hasattr(hint, "__metadata__"):
            hint, marks = hint.__origin__, hint.__metadata__
        if _POSITIONAL in marks:
            continue
        word = field.name.replace("_", "-")
        if is_dataclass(hint):
            inner = name if _FLAT in marks else f"{name}{word}."
            yield from options_of(hint, name=inner, path=f"{path}{word}.")  # type: ignore[arg-type]
        else:
            kind = hint
            if get_origin(hint) in (Union, types.UnionType):
                kinds = [one for one in get_args(hint) if one is not type(None)]
                kind = kinds[0] if len(kinds) == 1 else hint
            yield Option(f"{name}{word}", f"{path}{word}", kind, kind is not hint)


def find(
    name: str, options: Sequence[Option], short: Mapping[str, str] = types.MappingProxyType({})
) -> Option | None:
    """The option meant by a name with or without its group, hyphens or underscores alike; None if there is
    none, or more than one."""
    name = name.replace("_", "-")
    name = short.get(name, name)
    for option in options:
        if name in (option.name, option.path):
            return option
    meant = [option for option in options if option.path.rpartition(".")[2] == name]
    return meant[0] if len(meant) == 1 else None


def spell(message: str, command: type) -> str:
    """A message that names options as Python does, ``on_unknown='skip'``, in the words of the command line,
    ``--on-unknown skip``."""
    for option in options_of(command):
        name = option.path.rpartition(".")[2].replace("-", "_")
        message = re.sub(rf"\b{name}=''", f"--{option.name} ''", message)
        message = re.sub(rf"\b{name}='([^']+)'", rf"--{option.name} \1", message)
        message = re.sub(rf"\b{name}=True", f"--{option.name}", message)
    return message


def _spelled(word: str, options: Sequence[Option], short: Mapping[str, str]) -> tuple[list[str], str | None]:
    """A word as tyro knows it, and the option that it names; words that name none stay as they are."""
    if re.fullmatch(r"-[a-z]", word) and any(option.name == word[1:] for option in options):
        return [f"-{word}"], word[1:]
    if not word.startswith("--") or word == "--":
        return [word], None
    name, equals, value = word[2:].partition("=")
    option = find(name, options, short)
    if option is not None:
        return [f"--{option.name}{equals}{value}"], option.name
    off = re.fullmatch(r"(.*\.)?no-(.+)", name.replace("_", "-"))
    if off and not equals:
        option = find((off[1] or "") + off[2], options, short)
        if option is not None and option.type is bool:
            return option.words(False), option.name
    return [word], None


def _valued(words: list[str], options: Sequence[Option]) -> list[str]:
    """``--exclude-history`` as ``--exclude-history True``, where None is the default and tyro wants a
    value."""
    undecided = {f"--{option.name}" for option in options if option.type is bool and option.optional}
    result = []
    for word, after in zip_longest(words, words[1:]):
        result += [word, "True"] if word in undecided and after not in ("True", "False", "None") else [word]
    return result


def _config_files(words: Sequence[str]) -> list[Path]:
    given = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--config"]
    given += [word.partition("=")[2] for word in words if word.startswith("--config=")]
    return [Path(given[-1])] if given else []


def _from_file(
    file: Path, options: Sequence[Option], short: Mapping[str, str], given: set[str | None], prog: str
) -> list[str]:
    """The options of a TOML file that the command line has not given, as its words."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read ({error.strerror}); give a TOML file with --config"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: is no TOML ({' '.join(str(error).split())}); correct it") from None
    words, unknown = [], []
    for key, value in _leaves(table, options, short):
        option = find(key, options, short)
        if option is None or option.name == "config":
            unknown.append(key)
        elif option.name not in given:
            words += _words_of(file, option, value)
    if unknown:
        last = [option.path.rpartition(".")[2] for option in options]
        near = difflib.get_close_matches(unknown[0].rpartition(".")[2], last, n=1)
        perhaps = f"; perhaps {near[0]}" if near else ""
        raise InputError(f"{file}: {', '.join(unknown)}: no option of {prog}{perhaps}; see {prog} --help")
    return words


def _leaves(
    table: Mapping[str, Any], options: Sequence[Option], short: Mapping[str, str], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Keys with the names of their tables before them, and values; a table that is itself the value of an
    option stays one."""
    for key, value in table.items():
        name = f"{prefix}{key.replace('_', '-')}"
        option = find(name, options, short)
        if isinstance(value, dict) and not _takes_table(option):
            yield from _leaves(value, options, short, f"{name}.")
        else:
            yield name, value


def _takes_table(option: Option | None) -> bool:
    kind = get_origin(option.type) if option else None
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _words_of(file: Path, option: Option, value: Any) -> list[str]:
    """One setting of a file as words of the command line."""
    if isinstance(value, dict):
        return [f"--{option.name}", *(str(word) for pair in value.items() for word in pair)]
    if option.type is bool:
        if not isinstance(value, bool):
            raise InputError(f"{file}: {option.path} = {value!r}: give true or false")
        return option.words(value)
    if isinstance(value, list):
        if not option.many:
            raise InputError(f"{file}: {option.path} = {value!r}: give one value, not a list")
        return [f"--{option.name}", *map(_text, value)]
    return [f"--{option.name}", _text(value)] if option.many else [f"--{option.name}={_text(value)}"]


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _parsed(command: type[T], words: list[str], prog: str) -> T:
    """What tyro makes of the words; its box on stderr, or an InputError of the dataclasses, as one line."""
    said = io.StringIO()
    marks = (tyro.conf.PositionalMetavarFromFieldName,)
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(command, args=words, prog=prog, config=marks)
    except SystemExit as stop:
        if not stop.code:
            raise
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__context__
        raise cause or InputError(_one_line(said.getvalue(), prog)) from None


def _one_line(box: str, prog: str) -> str:
    """The fault in a box of tyro's, the option that it thinks was meant, and where help is."""
    rows = [row.strip("│\n").rstrip() for row in box.splitlines() if row[:1] not in "╭╰"]
    brief = [
        "\n" if re.fullmatch(r"[\s─-]*", row) else row.strip() for row in rows if not row.startswith(" " * 9)
    ]
    parts = " ".join(brief).strip().split("\n")
    parts = (
        parts if "╭" in box else parts[1:]
    )  # a terminal without such lines has the title in a row of its own
    fault = re.sub(r"^Error parsing (\S+): ", r"\1: ", parts[0].strip()).rstrip(".")
    hints = (part for part in parts[1:] if part.strip().startswith(("Perhaps", "Arguments similar")))
    meant = [found[1] for part in hints if (found := re.search(r"\s(--[\w.-]+)[^:]*$", part))]
    perhaps = f"; perhaps {meant[0]}" if meant else ""
    return f"{fault[:1].lower()}{fault[1:]}{perhaps}; see {prog} --help"
