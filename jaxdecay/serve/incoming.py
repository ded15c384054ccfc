"""Events as they are sent, checked: JSON objects become `jaxdecay.serve.store.Delivered`, or are refused with
one sentence each."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl

from jaxdecay import moments
from jaxdecay.data.categories import SEPARATOR, Categories
from jaxdecay.data.features import Fitted
from jaxdecay.data.scaling import Vectors
from jaxdecay.errors import InputError
from jaxdecay.names import listed, perhaps
from jaxdecay.serve.store import Delivered
from jaxdecay.serve.vocabulary import Vocabulary

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
except ImportError:
    raise InputError("serving needs pydantic, which is missing: pip install 'jaxdecay[serve]'") from None

MOST = 1000
"""Events of one delivery."""
FAR = 1e6
"""Standard deviations: numbers beyond would drown all others."""
_AHEAD = 60  # seconds by which a sender's clock may be fast
_LONGEST = 256


def _id(given: Any) -> str:
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    if not isinstance(given, str):
        raise ValueError("give text or a whole number")
    if not given or len(given.encode("utf-8", "surrogatepass")) > _LONGEST:
        raise ValueError(f"give 1 to {_LONGEST} bytes")
    if not given.isprintable():
        raise ValueError("it holds control characters; leave them out")
    return given


Id = Annotated[str, BeforeValidator(_id, json_schema_input_type=str | int)]
Columns = dict[Annotated[str, Field(max_length=_LONGEST)], bool | int | float | str | list[Any] | None]


class Sent(BaseModel):
    """An event."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    event_id: Id
    """Delivering an event of the same id again changes nothing."""
    user_id: Id
    item_id: Id
    timestamp: Annotated[int, Field(strict=True)] | Annotated[str, Field(max_length=64)]
    """Whole seconds since 1970, or ISO 8601 text."""
    behaviour: Annotated[str, Field(max_length=_LONGEST)] | None = None
    weight: Annotated[float, Field(ge=-1e6, le=1e6, strict=True)] | None = None
    label: Literal[0, 1] | None = None
    context: Columns | None = None
    """Context columns by name."""
    item: Columns | None = None
    """Item columns by name, of an item that the run may not know."""


class Incoming:
    """Checks what is sent against what a run knows."""

    def __init__(self, vocabulary: Vocabulary, config: Mapping[str, Any]) -> None:
        """``config``: of the run's histories."""
        had = ((config["report"].get("read") or {}).get("columns")) or {}
        self._vocabulary, self._clock = vocabulary, config["clock"]
        self.weighted = "weight" in had
        """Whether events must have a weight, as those of the run's log."""

    def checked(self, sent: Sequence[Any]) -> list[Delivered]:
        """The events, all of them. Raises InputError, naming the first that is wrong by its place from 1 and
        its field."""
        if len(sent) > MOST:
            raise InputError(f"{len(sent)} events at once: send at most {MOST}")
        now = int(time.time())
        return [self._one(one, place, now) for place, one in enumerate(sent, 1)]

    def _one(self, given: Any, place: int, now: int) -> Delivered:
        try:
            sent = given if isinstance(given, Sent) else Sent.model_validate(given)
        except ValidationError as error:
            fault: Any = error.errors(include_url=False, include_context=False)[0]
            raise InputError(f"event {place}: {fault_words(fault, whole='the event')}") from None
        try:
            at = self._at(sent.timestamp, now)
            behaviour = self._behaviour(sent.behaviour)
        except InputError as error:
            raise InputError(f"event {place}: {error}") from None
        if self.weighted and sent.weight is None:
            raise InputError(f"event {place}: weight is missing, which the run's log has; give it")
        context = self._context(sent.context, place)
        return Delivered(
            sent.event_id, sent.user_id, sent.item_id, at, behaviour,
            1.0 if sent.weight is None else sent.weight,
            None if sent.label is None else float(sent.label),
            _text(context), _text(sent.item),
        )  # fmt: skip

    def _at(self, given: int | str, now: int) -> int:
        seconds = moments.moment(given, clock=self._clock).seconds
        assert seconds is not None
        if self._clock != "relative" and seconds > now + _AHEAD:
            raise InputError(
                f"timestamp {given!r} lies in the future (it is {moments.iso(now)}); "
                "send events when they have happened"
            )
        if not -(2**31) <= seconds - self._vocabulary.origin < 2**31:
            raise InputError(
                f"timestamp {given!r} lies more than 68 years from the run's log; check its unit"
            )
        return seconds

    def _behaviour(self, given: str | None) -> str:
        known = self._vocabulary.behaviours
        if not known:
            return ""  # as the model was trained: one kind of event
        if given is None:
            raise InputError(f"behaviour is missing; give one of {listed(known)}")
        if given not in known:
            raise InputError(f"behaviour {_short(given)} is not known; {perhaps(given, known)}")
        return given

    def _context(self, given: Columns | None, place: int) -> Columns | None:
        """The columns as they are kept. What is kept will be read again and again, and must never fail."""
        readers, kept = self._vocabulary.context.readers(), {}
        for name, value in (given or {}).items():
            if name not in readers:
                there = f"this run knows {listed(readers)}" if readers else "this run knows none"
                raise InputError(f"event {place}: context column {_short(name)} is not known; {there}")
            reader = readers[name]
            kind, words = _kind(reader)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise InputError(f"event {place}: context {name}={_short(value)}: give {words}")
            if isinstance(value, str) and isinstance(reader, Categories) and reader.multi:
                value = [part.strip() for part in value.split(SEPARATOR)]  # as lists are, beside lists
            kept[name] = value
        if any(not isinstance(value, str | None) for value in kept.values()):
            self._encoded(kept, place)
        if any(isinstance(value, str) and not value.isprintable() for value in kept.values()):
            raise InputError(f"event {place}: context: a text holds control characters; leave them out")
        return kept or None

    def _encoded(self, given: Columns, place: int) -> None:
        """Refuses values that the encoding cannot take, and those that are beyond all measure."""
        context = self._vocabulary.context
        try:
            row = pl.DataFrame({name: [given.get(name)] for name in context.sources()}, strict=False)
            _, numbers = context.apply(row)
        except InputError as error:
            raise InputError(f"event {place}: context: {error}") from None
        except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
            raise InputError(f"event {place}: context: {type(error).__name__}; give plain values") from None
        if not (np.abs(numbers) < FAR).all():
            raise InputError(f"event {place}: context: a number is far beyond all of the run's log; check it")


def _kind(reader: Fitted) -> tuple[type | tuple[type, ...], str]:
    if isinstance(reader, Categories):
        return ((str, list), "text or a list of texts") if reader.multi else (str, "text")
    return (list, "a list of numbers") if isinstance(reader, Vectors) else ((int, float), "a number")


def fault_words(fault: Mapping[str, Any], *, whole: str = "the request") -> str:
    """What is wrong by an error of pydantic, in one line without what was sent in full."""
    places = [str(part) for part in fault["loc"] if part not in ("query", "path")]
    field = ".".join(part for part in places if not part.startswith("function"))
    told = fault["msg"].removeprefix("Value error, ")
    told = "not known; take it out" if fault["type"] == "extra_forbidden" else told[:1].lower() + told[1:]
    more = f" (given: {_short(fault['input'])})" if fault["type"] != "missing" else ""
    return f"{_short(field)[1:-1] or whole}: {told}{more}"


def _short(given: Any) -> str:
    text = ascii(given)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(columns: Columns | None) -> str:
    return json.dumps(columns, allow_nan=False, separators=(",", ":")) if columns else ""
