"""The fields of a JSON object, each of the kind it must have, or one line that says what is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxdecay.errors import InputError

_AGAIN = "copy the model again"
_REQUIRED: Any = object()


@dataclass(frozen=True)
class Fields:
    """Fields read from ``path``. One that is absent or null has its default, and is refused without one."""

    path: Path
    values: Mapping[str, Any]

    def count(self, name: str, default: int = _REQUIRED) -> int:
        """A whole number from 1 on."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{self.path}: {name} {value!r} is no whole number from 1 on; {_AGAIN}")
        return value

    def number(self, name: str, default: float = _REQUIRED) -> float:
        """A finite number above 0."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise InputError(f"{self.path}: {name} {value!r} is no number above 0; {_AGAIN}")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise InputError(f"{self.path}: {name} {value!r} is neither true nor false; {_AGAIN}")
        return value

    def text(self, name: str, default: str = _REQUIRED) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise InputError(f"{self.path}: {name} {value!r} is no text; {_AGAIN}")
        return value

    def one_of(self, name: str, choices: Mapping[str, Any], default: str = _REQUIRED) -> Any:
        """What a word stands for."""
        word = self.text(name, default)
        if word not in choices:
            raise InputError(f"{self.path}: {name} {word!r} is not known; known are {', '.join(choices)}")
        return choices[word]

    def _value(self, name: str, default: Any) -> Any:
        value = self.values.get(name)
        if value is None:
            if default is _REQUIRED:
                raise InputError(f"{self.path}: {name} is missing; {_AGAIN}")
            return default
        return value
