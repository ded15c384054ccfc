"""The commands of ``jaxdecay``, each a frozen dataclass of its options with `perform`, and `show` for people.

The modules are imported one by one, when their command is asked for, so that none pays for another's
libraries.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from jaxdecay.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Command(Settings, ABC):
    """A command; everything but `perform` is about what is printed."""

    json: bool = False
    """Print one JSON value on stdout, and nothing else there."""
    verbose: bool = False
    """Let the libraries below say on stderr what they have to say."""

    @abstractmethod
    def perform(self) -> Any:
        """Does it. Progress and notes go to stderr."""

    def plain(self, result: Any) -> Any:
        """The result as JSON."""
        return result

    @abstractmethod
    def show(self, result: Any) -> None:
        """Prints the result for people on stdout."""

    def fault(self, result: Any) -> str | None:
        """One line when the result is bad news in itself, for exit status 2."""
        return None

    def part_of(self, options: type[T]) -> T:
        """Those of its options that are fields of another dataclass, as that."""
        return options(**{field.name: getattr(self, field.name) for field in fields(options)})  # type: ignore[arg-type]
