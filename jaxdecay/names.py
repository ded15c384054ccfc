"""What there is instead of a name that there is not."""

import difflib
import itertools
from collections.abc import Iterable, Sequence

_WORD = 4  # letters of a name that may begin another
_SOME, _ALL = 12, 40  # names that are listed: of many, and where that is all of them


def nearest(name: object, names: Sequence[str]) -> str | None:
    """The one of ``names`` that a person may have meant by ``name``, or None.

    >>> nearest("user_id", ["movieId", "userId"]), nearest("timestamp", ["time"])
    ('userId', 'time')
    >>> nearest("colour", ["country"]), nearest(["country"], ["country"])
    (None, 'country')
    >>> nearest("i00x", ["i001", "i009", "i090"])  # of equally near ones the one that begins alike
    'i001'
    """
    plain, meant = {_plain(other): other for other in reversed(names)}, _plain(str(name))
    found = difflib.get_close_matches(meant, plain, n=8, cutoff=0.65)
    if found:
        return plain[min(found, key=lambda other: (-_alike(meant, other), -_together(meant, other), other))]
    return next((plain[one] for one in plain if _begins(meant, one) or _begins(one, meant)), None)


def listed(names: Iterable[object], most: int = _SOME) -> str:
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
    shown = listed(names, _ALL if len(names) <= _ALL else _SOME)
    return f"there are {shown or 'none'}" + (f"; perhaps {near!r}" if near is not None else "")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, one).ratio()


def _together(one: str, other: str) -> int:
    """How many letters both begin with."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _begins(short: str, long: str) -> bool:
    return len(short) >= _WORD and long.startswith(short)
