"""Events as they are sent, checked: JSON objects become `jaxdecay.serve.store.Delivered`, or are refused with
one sentence each."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from jaxdecay import moments
from jaxdecay.data.categories import Categories
from jaxdecay.data.features import Fitted
from jaxdecay.data.refusals import listed, perhaps
from jaxdecay.data.scaling import Vectors
from jaxdecay.errors import InputError
from jaxdecay.serve.store import Delivered
from jaxdecay.serve.vocabulary import Vocabulary

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
except ImportError:
    raise InputError("serving needs pydantic, which is missing: pip install 'jaxdecay[serve]'") from None

MOST = 1000
"""Events of one delivery."""
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
    timestamp: Annotated[int | str, Field(union_mode="left_to_right")]
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
        self._weighted = "weight" in had

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
            raise InputError(f"event {place}: {first_fault(error)}") from None
        try:
            at = self._at(sent.timestamp, now)
            behaviour = self._behaviour(sent.behaviour)
        except InputError as error:
            raise InputError(f"event {place}: {error}") from None
        if self._weighted and sent.weight is None:
            raise InputError(f"event {place}: weight is missing, which the run's log has; give it")
        self._context(sent.context, place)
        return Delivered(
            sent.event_id, sent.user_id, sent.item_id, at, behaviour,
            1.0 if sent.weight is None else sent.weight,
            None if sent.label is None else float(sent.label),
            _text(sent.context), _text(sent.item),
        )  # fmt: skip

    def _at(self, given: int | str, now: int) -> int:
        seconds = moments.moment(given, clock=self._clock).seconds
        assert seconds is not None
        if self._clock != "relative" and seconds > now + _AHEAD:
            raise InputError(
                f"timestamp {given!r} lies in the future (it is {moments.iso(now)}); "
                "send events when they have happened"
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

    def _context(self, given: Columns | None, place: int) -> None:
        readers = self._vocabulary.context.readers()
        for name, value in (given or {}).items():
            if name not in readers:
                there = f"this run knows {listed(readers)}" if readers else "this run knows none"
                raise InputError(f"event {place}: context column {_short(name)} is not known; {there}")
            kind, words = _kind(readers[name])
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise InputError(f"event {place}: context {name}={_short(value)}: give {words}")


def _kind(reader: Fitted) -> tuple[type | tuple[type, ...], str]:
    if isinstance(reader, Categories):
        return ((str, list), "text or a list of texts") if reader.width > 1 else (str, "text")
    return (list, "a list of numbers") if isinstance(reader, Vectors) else ((int, float), "a number")


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, in one line without what was sent in full."""
    fault = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in fault["loc"] if not str(part).startswith("function"))
    told = fault["msg"].removeprefix("Value error, ")
    more = f" (given: {_short(fault['input'])})" if fault["type"] != "missing" else ""
    return f"{field or 'the event'}: {told[:1].lower()}{told[1:]}{more}"


def _short(given: Any) -> str:
    text = ascii(given)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(columns: Columns | None) -> str:
    return json.dumps(columns, allow_nan=False, separators=(",", ":")) if columns else ""
