"""What a person may have typed for an option, checked in the same words everywhere."""

import numbers
import operator
from collections.abc import Iterable
from typing import Any

from jaxdecay.errors import InputError


def whole(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """The value as an int; InputError, with the name, unless it is a whole number from ``least`` to ``most``
    (None: without bound). True, text and 2.0 are none."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        upto = "" if most is None else f" to {most}"
        raise InputError(f"{name}={value!r}: give a whole number from {least}{upto}")
    return number


def several(given: Any) -> list[Any]:
    """What was given for a list: a single value, text included, is a list of one.

    >>> several("30d"), several((1, 2)), several(5)
    (['30d'], [1, 2], [5])
    """
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]


def is_number(value: Any) -> bool:
    """Whether it is one, of Python or NumPy; True is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def told(value: Any) -> str:
    """As a message says it: numbers without what does not matter."""
    return f"{value:g}" if is_number(value) else repr(value)
