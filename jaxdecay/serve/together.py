"""One user's events of run and store put together, as the batch model reads them: what is asked of it then,
such as reasons, is exact, whichever way the events came."""

from collections.abc import Sequence

import numpy as np

from jaxdecay.live.interest import Event
from jaxdecay.live.trends import Trends
from jaxdecay.live.weights import Weights
from jaxdecay.predict import Predictor


class Now:
    """The catalogue's counts as they are, in the place of a `jaxdecay.data.catalogue.Catalogue`."""

    def __init__(self, trends: Trends) -> None:
        self._trends = trends

    def at(self, moments: np.ndarray) -> np.ndarray:
        """(R, M, V) float32 shares (`Trends.shares`)."""
        return np.stack([self._trends.shares(int(at)) for at in moments], axis=1)


def together(
    predictor: Predictor, user: int, events: Sequence[Event], weights: Weights, trends: Trends
) -> Predictor:
    """The predictor over histories in which the user, by index, has these events, in the order of time, and
    nobody else has any. An index beyond all users is that of somebody without columns."""
    histories = predictor.histories
    counts = np.array([event.weight for event in events], np.float32) * np.float32(weights.weight)
    rows = max(user + 1 - histories.users, 0)
    offsets = np.zeros(histories.users + rows + 1, np.int64)
    offsets[user + 1 :] = len(events)
    codes, numbers = histories.context_categorical, histories.context_numeric
    alone = histories.replace(
        offsets=offsets,
        item=np.array([event.item for event in events], np.int32),
        time=np.array([event.at for event in events], np.int64) + weights.origin,
        part=np.zeros(len(events), np.int8),
        behaviour=np.array([event.behaviour for event in events], np.int8),
        weight=counts,
        label=np.full(len(events), np.nan, np.float32),
        context_categorical=_rows([event.codes for event in events], codes),
        context_numeric=_rows([event.numbers for event in events], numbers),
        user_categorical=np.pad(histories.user_categorical, ((0, rows), (0, 0))),
        user_numeric=np.pad(histories.user_numeric, ((0, rows), (0, 0))),
    )
    return predictor.over(alone, Now(trends), trends.came)


def _rows(given: Sequence[np.ndarray], like: np.ndarray) -> np.ndarray:
    return np.array([*given], like.dtype).reshape(len(given), like.shape[1])
