"""What would have been otherwise: the score and place of an item had something not happened, or happened, or
had the request come later. Everything is computed again; nothing is held fixed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from jaxdecay import cases
from jaxdecay.data.requests import Requests
from jaxdecay.durations import Duration, days, show_days
from jaxdecay.errors import InputError
from jaxdecay.expect import whole
from jaxdecay.predict import Case, Context, Predictor

_DAY = 86_400
_REACH = 2**31 - 1  # seconds after the first event of the log, as far as `Reference.seconds` goes


class Changes(NamedTuple):
    """What is changed, each alone."""

    without: Sequence[int] = ()
    """Events that had not been, by number: 1 is the latest."""
    later: Sequence[Duration] = ()
    """Durations such as 30d, or timedeltas, by which the request comes later, nothing having happened
    since."""
    having: Sequence[int] = ()
    """Items that had been taken at the time of the request."""
    behaviour: int = 0
    """How they had been taken."""


def counterfactuals(
    predictor: Predictor,
    request: Requests,
    item: int,
    items: pl.DataFrame,
    changes: Changes,
    *,
    context: Context | None = None,
) -> pl.DataFrame:
    """A row for what is and one for each change: change, score, difference (from what is), rank (of the item
    among all items, from 1; ties count as the mean).

    ``request``: one. ``items``: the table of items of the histories (``item_id``). Raises InputError for an
    event that the history does not have, and for a duration that is none or too long.
    """
    case = predictor.case(request, context, room=1)
    places = np.flatnonzero(np.asarray(case.history.mask)[0])[::-1]
    told: list[tuple[str, Case]] = [("as it is", case)]
    for number in changes.without:
        if whole("without", number, 1) > len(places):
            raise InputError(
                f"without event {number}: the user has {len(places)} events before; 1 is the latest"
            )
        name = items["item_id"][int(np.asarray(case.history.item)[0, places[number - 1]])]
        told.append((f"without event {number} ({name})", cases.without(case, places[number - 1 : number])))
    if changes.later and not predictor.uses_time:
        raise InputError("later: this run does not read the time of the request, so nothing would change")
    for duration in changes.later:
        seconds = days(duration, "later") * _DAY
        if int(case.at[0]) + seconds - predictor.reference.origin > _REACH:
            raise InputError(
                f"later={str(duration)!r}: the request would come over 68 years after the first event of "
                "the log, where times of a run end; give less"
            )
        said = duration if isinstance(duration, str) else show_days(days(duration))
        told.append((f"{said} later", cases.later(case, round(seconds), predictor.reference)))
    for other in changes.having:
        told.append((f"having {items['item_id'][other]}", cases.having(case, other, changes.behaviour)))
    if not predictor.uses_time:
        told = [(name, cases.at_last_event(one, request, predictor.histories)) for name, one in told]
    rows = [_judged(predictor, one, item) for _, one in told]
    return pl.DataFrame(
        {
            "change": [name for name, _ in told],
            "score": [score for score, _ in rows],
            "difference": [score - rows[0][0] for score, _ in rows],
            "rank": [rank for _, rank in rows],
        }
    )


def _judged(predictor: Predictor, case: Case, item: int) -> tuple[float, float]:
    scores = np.asarray(sum(predictor.judge(case).values()))[0]
    ties = int((scores == scores[item]).sum()) - 1
    return float(scores[item]), 1.0 + float((scores > scores[item]).sum()) + 0.5 * ties
