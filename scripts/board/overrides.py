"""NAME=VALUE words that change every system's options, checked like options of the command line."""

import difflib
import json
from collections.abc import Iterable
from typing import Any

from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.settings import Option, options_of, parse
from jaxdecay.train import TrainOptions

PEER: dict[str, type] = {
    **dict.fromkeys(
        ("epochs", "every", "patience", "top", "factors", "blocks", "heads", "length", "batch"), int
    ),
    "rate": float,
    "dropout": float,
    "loss": str,
    "negatives": int,
    "temperature": float,
}
"""Options of scripts/peers/rectools_rank.py that say how a peer is trained, but for which one it is."""


def parse_overrides(words: Iterable[str]) -> dict[str, Any]:
    """Values by name: options of models, ``train.`` those of training, ``peer.`` those of peers.

    A value is as on the command line, or JSON: ``preset=base``, ``popularity=false``,
    ``periods=["1d", "7d"]``.

    Of words of one name the last counts. Raises InputError for a name that is no option, and a value that it
    cannot take.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise InputError(f"--override {word}: give NAME=VALUE, such as features=8 or train.epochs=2")
        name = name.replace("-", "_")
        group, _, last = name.rpartition(".")
        owner = {"": ModelOptions, "train": TrainOptions}.get(group)
        options = {o.name.replace("-", "_"): o for o in options_of(owner)} if owner and last != "seed" else {}
        if group == "peer" and last in PEER:
            found[name] = _number_or_word(PEER[last], text, word)
        elif owner and last in options:
            found[name] = _value(owner, options[last], last, text, word)
        else:
            names = [
                *_names(ModelOptions, ""),
                *_names(TrainOptions, "train."),
                *(f"peer.{one}" for one in PEER),
            ]
            near = difflib.get_close_matches(name, names, n=1)
            perhaps = f"; perhaps {near[0]}" if near else ""
            raise InputError(
                f"--override {word}: {name} is no option; give one of models, train.NAME or peer.NAME"
                f"{perhaps}"
            )
    return found


def _names(owner: type, prefix: str) -> list[str]:
    return [prefix + option.name.replace("-", "_") for option in options_of(owner) if option.name != "seed"]


def _value(owner: type, option: Option, name: str, text: str, word: str) -> Any:
    """What the command line would make of it."""
    value = _json(text)
    if option.flag:
        if not isinstance(value, bool):
            raise InputError(f"--override {word}: give true or false")
        return value
    several = value if isinstance(value, list) else [value if isinstance(value, str | None) else text]
    try:
        return getattr(parse(owner, [f"--{option.name}", *map(str, several)], prog="--override"), name)
    except InputError as error:
        raise InputError(f"--override {word}: {error}") from None


def _number_or_word(kind: type, text: str, word: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise InputError(
            f"--override {word}: give {'a whole number' if kind is int else 'a number'}"
        ) from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
