"""What may be asked over HTTP, field by field: anything else is refused."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from jaxdecay.errors import InputError
from jaxdecay.serve.incoming import Id

_LONG = 1000
Number = Annotated[int, Field(description="Length of the list.")]
Condition = Annotated[str, Field(max_length=_LONG, description="As in SQL, over the item columns.")]
Moment = Annotated[str, Field(max_length=64, description="ISO 8601, or whole seconds; by default now.")]
Columns = Annotated[str, Field(max_length=_LONG, description='Context columns, {"name": value}.')]
Ids = Annotated[list[Id], Field(max_length=_LONG)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _InContext(_Asked):
    context: Columns | None = None

    def columns(self) -> dict[str, Any] | None:
        """The context columns by name."""
        if self.context is None:
            return None
        found = plain_json(self.context, "context")
        if not isinstance(found, dict):
            raise InputError('context: give a JSON object of columns, such as {"device": "phone"}')
        return found


class AskedList(_InContext):
    """For a list."""

    user: Id
    k: Number = 10
    at: Moment | None = None
    exclude_seen: bool | None = None
    allow: Ids | None = None
    deny: Ids | None = None
    where: Condition | None = None
    having: Ids = []
    strategy: Annotated[str, Field(max_length=64)] | None = None


class AskedSimilar(_Asked):
    """For items near to one."""

    item: Id
    k: Number = 10
    allow: Ids | None = None
    deny: Ids | None = None
    where: Condition | None = None


class AskedReason(_InContext):
    """For the reasons of a score."""

    user: Id
    item: Id
    at: Moment | None = None
    having: Ids = []


class AskedState(_Asked):
    """For what is left."""

    user: Id
    at: Moment | None = None
    k: Number = 10
    having: Ids = []


def plain_json(given: str | bytes, what: str) -> Any:
    """The value of a JSON text. Raises InputError for anything that is none."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(given, parse_constant=refuse)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{what}: malformed JSON ({error.msg}: {where})") from None
    except (ValueError, RecursionError):  # text that is no UTF-8, NaN, numbers of 5,000 digits; nested deep
        raise InputError(f"{what}: malformed JSON, or values beyond all use; send plain JSON") from None
