"""The baselines that stand in every table, in the order of the table.

Everything is counted or fitted from the training part and the catalogue events; half-lives, windows and the
like are chosen by NDCG@10 on validation requests. Histories and catalogue counts move on with the requests,
parameters do not.
"""

from jaxdecay.baselines.choose import Judge
from jaxdecay.baselines.counts import OwnCounts, fit_decayed_own_counts, own_counts
from jaxdecay.baselines.factorisation import Factorisation, fit_factorisation
from jaxdecay.baselines.neighbours import Neighbours, fit_neighbours
from jaxdecay.baselines.popularity import Popularity, fit_decayed, fit_windowed, popularity
from jaxdecay.data.catalogue import timeline
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests

__all__ = ["Factorisation", "Neighbours", "OwnCounts", "Popularity", "fit_baselines"]


def fit_baselines(
    histories: Histories, validation: Requests, *, exclude_history: bool | None = None, seed: int = 0
) -> list[Popularity | OwnCounts | Neighbours | Factorisation]:
    """All baselines, fitted.

    Args:
        validation: the requests to choose by; at most 5,000 of them are used, drawn by ``seed``. Without
        any, nothing
            fades and windows are the longest.
        exclude_history: as it will be in the evaluation.

    With a relative clock there is no popularity at a time, and so neither a windowed nor a decayed one.
    """
    judge = Judge.of(histories, validation, seed=seed, exclude_history=exclude_history)
    events = timeline(histories)
    plain = popularity(events)
    own = own_counts(histories, float("inf"), plain, name="own counts")
    recent = own_counts(histories, 0.0, plain, name="most recent")
    if events.relative:
        decayed, by_time = plain, []
    else:
        decayed = fit_decayed(judge, events)
        by_time = [fit_windowed(judge, events), decayed]
    return [
        plain,
        *by_time,
        recent,
        own,
        fit_decayed_own_counts(judge, decayed),
        fit_neighbours(judge, decayed),
        fit_factorisation(judge, decayed, seed=seed),
    ]
