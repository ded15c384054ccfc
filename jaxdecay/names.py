"""What there is instead of a name that there is not."""

import difflib
from collections.abc import Iterable, Sequence

_WORD = 4  # letters of a name that may begin another


def nearest(name: object, names: Sequence[str]) -> str | None:
    """The one of ``names`` that a person may have meant by ``name``, or None.

    >>> nearest("user_id", ["movieId", "userId"]), nearest("timestamp", ["time"])
    ('userId', 'time')
    >>> nearest("colour", ["country"]), nearest(["country"], ["country"])
    (None, 'country')
    """
    plain, meant = {_plain(other): other for other in reversed(names)}, _plain(str(name))
    found = difflib.get_close_matches(meant, plain, n=1, cutoff=0.65)
    found += [other for other in plain if _begins(meant, other) or _begins(other, meant)]
    return plain[found[0]] if found else None


def listed(names: Iterable[object], most: int = 12) -> str:
    """``a, b, c``, cut after ``most`` with a count of the rest."""
    names = list(names)
    shown = ", ".join(str(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def perhaps(name: object, names: Sequence[str]) -> str:
    """``there are a, b; perhaps 'b'``: what there is instead of a name, the nearest where one is near.

    >>> perhaps("genre", ["index", "genres"])
    "there are index, genres; perhaps 'genres'"
    >>> perhaps("genre", [])
    'there are none'
    """
    near = nearest(name, names)
    return f"there are {listed(names, 40) or 'none'}" + (f"; perhaps {near!r}" if near is not None else "")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _begins(short: str, long: str) -> bool:
    return len(short) >= _WORD and long.startswith(short)
