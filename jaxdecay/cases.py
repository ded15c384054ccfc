"""What would have been: a user's history and request with something changed, to be scored again.

Each function takes one case (B = 1, `jaxdecay.predict.Case`) and gives one of as many rows as it says.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxdecay.data.gather import Reference
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests, withheld
from jaxdecay.errors import InputError
from jaxdecay.history import History
from jaxdecay.predict import Case

_PER_EVENT = ("item", "time", "mask", "behaviour", "weight", "context_categorical", "context_numeric")


def repeated(case: Case, times: int) -> Case:
    """The same case so many times."""
    history, asked = (
        jax.tree.map(lambda x: np.repeat(np.asarray(x), times, axis=0), part)
        for part in (case.history, case.asked)
    )
    return Case(history, asked, np.repeat(case.at, times))


def without(case: Case, events: np.ndarray) -> Case:
    """(E,) cases, each without one of the ``events`` (E,), which are places in the history: as if it had
    never been."""
    found = repeated(case, len(events))
    length = found.history.mask.shape[1]
    place = np.arange(length)[None]
    # What comes before the event moves up by one place, since padding stands on the left.
    source = np.where(place <= events[:, None], place - 1, place)
    rows = np.arange(len(events))[:, None]
    moved = {name: getattr(found.history, name)[rows, source] for name in _PER_EVENT}
    moved["mask"] &= source >= 0
    return found._replace(history=_padded(found.history._replace(**moved)))


def without_any(case: Case) -> Case:
    """The case without any event: as if the user had never been."""
    history = case.history
    return case._replace(history=_padded(history._replace(mask=np.zeros_like(history.mask))))


def later(case: Case, seconds: int, reference: Reference) -> Case:
    """The request made so many seconds later, nothing having happened since. ``reference``: what the model's
    times are measured from. Raises InputError for a time that they cannot reach."""
    at = case.at + seconds
    return Case(case.history, case.asked._replace(at=reference.seconds(at)[:, None]), at)


def at_last_event(case: Case, request: Requests, histories: Histories) -> Case:
    """The case made of one ``request`` asked as a model is that the request time is withheld from: at the
    time of the last event that is left, and without any as `jaxdecay.data.requests.withheld` says."""
    nobody = withheld(dataclasses.replace(request, history_end=histories.offsets[request.user]), histories)
    mask, time = np.asarray(case.history.mask), np.asarray(case.history.time)
    last = np.where(mask, time, np.iinfo(np.int32).min).max(axis=1)
    moved = np.where(mask.any(axis=1), last - case.asked.at[:, 0].astype(np.int64), nobody.at - case.at)
    asked = (case.asked.at + moved[:, None]).astype(np.int32)
    return Case(case.history, case.asked._replace(at=asked), case.at + moved)


def having(case: Case, item: int, behaviour: int, weight: float = 1.0) -> Case:
    """The same with an event on this item, of this behaviour and weight, at the time of the request."""
    mask = case.history.mask
    if mask[:, 0].any():
        raise InputError("having: the case has no room for one event more; make it with room=1")
    shifted = {name: np.roll(getattr(case.history, name), -1, axis=1) for name in _PER_EVENT}
    at = case.asked.at[:, 0]
    last: dict[str, Any] = {
        "item": item,
        "time": at,
        "mask": True,
        "behaviour": behaviour,
        "weight": weight,
        "context_categorical": case.asked.context_categorical[:, 0],
        "context_numeric": case.asked.context_numeric[:, 0],
    }
    for name, value in last.items():
        shifted[name][:, -1] = value
    return case._replace(history=case.history._replace(**shifted))


def _padded(history: History) -> History:
    """Padding as it is gathered: of item 0, without weight."""
    there = history.mask
    changed = {}
    for name in _PER_EVENT:
        values = getattr(history, name)
        where = there.reshape(*there.shape, *(1,) * (values.ndim - 2))
        changed[name] = values if name in ("time", "mask") else np.where(where, values, values.dtype.type(0))
    return history._replace(**changed)
