r"""Why an item stands where it stands: a score taken apart into what each past event adds.

Scores are sums of heads: log-probabilities, and what the revisit head adds to them for items that come back.
Without an encoder the interest that the similarity head reads is a sum over events, $x = x_0 + \sum_j x_j$
($x_0$: what is beside them), softly normalised, and compared with all items. What an event adds to the
log-probability $f$ is its part of the way from no event to all of them, along which all grow together:

$$ c_j = x_j^\top \int_0^1 \nabla f\bigl(x_0 + \alpha \textstyle\sum_k x_k\bigr)\, d\alpha, \qquad
   \sum_j c_j = f(x) - f(x_0). $$

So normalisation and normaliser are shared out with it: an only event adds all that the history does, one that
says what others say shares with them, one that speaks for everything speaks for nothing, and what has faded
away adds nothing. Read weights are held as they are. The rest of a score is what it is without any event. The
revisit head's part is shared among the events of that very item as their counts are.

With an encoder events are left out one by one (as if they had never been, everything computed again). What
the past adds beyond that is said: one event may stand in for another, or matter only beside another.

References:
    Aumann, Shapley: Values of non-atomic games (1974); Sundararajan, Taly, Yan: Axiomatic attribution for
    deep networks (integrated gradients, 2017).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from jaxdecay import cases
from jaxdecay.data.requests import Requests
from jaxdecay.durations import show_days
from jaxdecay.heads.similarity import Pieces
from jaxdecay.predict import Case, Context, Predictor

_DAY = 86_400.0
_AT_ONCE = 64  # cases
_FEW = 3  # reasons in a sentence
_HARDLY = 1.1  # times as likely, below which it is not the past that speaks for an item
_NODES = 24  # of the quadrature along a path
_SAID = 0.005  # share of what speaks for an item from which on it is one: others would be told as 0 %

_OF_EVENTS = {
    "event": pl.UInt32,
    "item_id": None,  # as in the log
    "behaviour": pl.String,
    "timestamp": pl.Int64,
    "age_days": pl.Float64,
}
_NUMBERS = ("weight", "similarity", "contribution")


@dataclass(frozen=True)
class Explanation:
    """A score and what it is the sum of."""

    user: Any
    item: Any
    at: int | None
    """Seconds."""
    score: float
    """As `jaxdecay.trained.Run.recommend` gives it."""
    rows: pl.DataFrame
    """What adds up to the score, the latest event first, then what is no event:

    - head: similarity, revisit, bias, popularity, normaliser; ``all`` where events are left out one by one;
    - source: event, or user, context, calendar, item, catalogue; with an encoder "without any event", and
      "not attributed": what the past adds beyond what its events add one by one;
    - of an event: its number (1 is the latest), item_id, behaviour, timestamp (seconds), age_days, weight
      (with which it stands in the interest, under revisit in the count of the item: its kernel at its age,
      times what its behaviour and its own weight multiply it by; no share, so that it may be above 1),
      similarity (cosine between what it wrote and the item);
    - contribution.
    """
    exact: bool
    """Whether the score was taken apart exactly, or by leaving events out one by one."""
    titles: Mapping[Any, str] = field(default_factory=dict, repr=False)
    """What items are called, by id, where the log says so."""

    @property
    def not_attributed(self) -> float:
        """What no row but the one of that name accounts for; 0 where the score was taken apart exactly."""
        rest = self.rows.filter(pl.col("source") == "not attributed")["contribution"]
        return float(rest.sum())

    @property
    def of_the_past(self) -> float:
        """What the past adds to the score altogether."""
        by = self.rows.filter(pl.col("source").is_in(["event", "not attributed"]))["contribution"]
        return float(by.sum())

    def events(self) -> pl.DataFrame:
        """Each past event once, with what it adds by all heads together, the strongest first."""
        keys = ["event", "item_id", "behaviour", "timestamp", "age_days"]
        own = self.rows.filter(pl.col("source") == "event")
        both = own.group_by(keys, maintain_order=True).agg(pl.col("contribution").sum())
        return both.sort(pl.col("contribution").abs(), descending=True, maintain_order=True)

    def sentence(self) -> str:
        """The reasons in plain words, the weightiest first."""
        return _sentence(self)


def explain(
    predictor: Predictor,
    request: Requests,
    chosen: Sequence[int],
    items: pl.DataFrame,
    behaviours: list[str],
    *,
    user: Any,
    context: Context | None = None,
) -> list[Explanation]:
    """The scores of the ``chosen`` items, by index, for one request, each taken apart.

    ``items`` is the table of items of the histories (``item_id``, perhaps ``title``), ``behaviours`` their
    names in order.
    """
    case = predictor.case(request, context)
    judged = predictor.judge(case)
    places = np.flatnonzero(np.asarray(case.history.mask)[0])[::-1]  # the latest first
    exact = not predictor.model.spec.encoder.blocks
    without = None if exact else _without(predictor, request, case, chosen, places)
    told = _told(case, places, items, behaviours, predictor)
    found = []
    for place, item in enumerate(chosen):
        parts = {name: float(part[0, min(item, part.shape[1] - 1)]) for name, part in judged.items()}
        score = float(sum(parts.values()))
        if without is None:
            frames = _taken_apart(predictor, case, item, parts, places)
        else:
            frames = _left_out(score, *without[:, place].astype(np.float64))
        made = _rows(frames, told)
        titles = _titles(made, items, item)
        found.append(Explanation(user, items["item_id"][item], int(case.at[0]), score, made, exact, titles))
    return found


def _rows(frames: "_Frames", told: pl.DataFrame) -> pl.DataFrame:
    nothing = told.clear(1)
    rows = [
        (told if source == "event" else nothing).select(
            pl.lit(head).alias("head"),
            pl.lit(source).alias("source"),
            *_OF_EVENTS,
            *(
                pl.Series(name, np.full(height, numbers.get(name, np.nan), np.float32), nan_to_null=True)
                for name in _NUMBERS
            ),
        )
        for head, source, numbers in frames
        if (height := len(told) if source == "event" else 1)
    ]
    return pl.concat(rows)


_Frames = Iterable[tuple[str, str, dict[str, Any]]]
"""Head, source, and numbers: of every event, or one."""


def _taken_apart(
    predictor: Predictor, case: Case, item: int, parts: dict[str, float], places: np.ndarray
) -> _Frames:
    pieces, counts, targets = predictor.pieces(case)
    written, kernel = pieces.written[0, places], pieces.kernel[0, places]
    events = np.asarray(kernel[:, None] * written)
    lengths = np.linalg.norm(written, axis=1) * np.linalg.norm(targets[item])
    base = ("similarity", "bias", "popularity", "normaliser")
    path, score = _Path(predictor, case, pieces, targets, item), sum(parts[name] for name in base)
    added = path.shared(events, score)
    yield "similarity", "event", {
        "weight": kernel * pieces.values[0, places],
        "similarity": written @ targets[item] / np.maximum(lengths, 1e-12),
        "contribution": added,
    }  # fmt: skip
    if predictor.model.spec.revisit:
        own = np.where(np.asarray(case.history.item)[0, places] == item, np.maximum(counts[0, places], 0), 0)
        share = own / own.sum() if own.sum() > 0 else own
        yield "revisit", "event", {"weight": own, "contribution": parts["revisit"] * share}
    for source, part in path.beside.items():
        yield "similarity", source, {"contribution": part}
    yield "bias", "item", {"contribution": parts["bias"]}
    yield "popularity", "catalogue", {"contribution": parts["popularity"]}
    others = added.sum() + sum(path.beside.values()) + parts["bias"] + parts["popularity"]
    yield "normaliser", "catalogue", {"contribution": score - others}


class _Path:
    """From a history without events to the one that is, as one item's log-probability sees it."""

    def __init__(
        self, predictor: Predictor, case: Case, pieces: Pieces, targets: np.ndarray, item: int
    ) -> None:
        self._predictor, self._case, self._item = predictor, case, item
        self._targets = targets.astype(np.float64)
        self._temperature, self._softness = float(pieces.temperature), float(pieces.softness)
        beside = [np.zeros(targets.shape[1]), *(np.asarray(part[0]) for part in pieces.beside.values())]
        self._start = np.sum(beside, axis=0)
        (scale,) = self._scale(self._start[None])
        self.beside = {
            name: float(scale * (part[0] @ self._targets[item])) for name, part in pieces.beside.items()
        }
        """What user, context and calendar add without any event."""
        self._without = float(self._log_probabilities(self._start[None])[0][0, item])

    def shared(self, events: np.ndarray, score: float) -> np.ndarray:
        """(n,) what each of ``events`` (n, D) adds; together what leads to the ``score``."""
        interest = events.sum(axis=0, dtype=np.float64)
        node, weight = np.polynomial.legendre.leggauss(_NODES)
        # Squares of the nodes: most happens where the length begins to count.
        along, weight = ((node + 1) / 2) ** 2, weight * (node + 1) / 2
        sums = self._start + along[:, None] * interest
        probable, there = self._log_probabilities(sums)
        usual = np.exp(probable[:, there]) @ self._targets[there]
        apart = self._targets[self._item] - usual
        held = (apart * sums).sum(axis=1, keepdims=True) * sums / self._squares(sums)[:, None]
        slope = (weight * self._scale(sums)) @ (apart - held)
        # What the quadrature leaves goes where all of them point; without a direction there is nothing.
        rest = score - self._without - interest @ slope
        return events @ (slope + rest * interest / max(float(interest @ interest), 1e-30))

    def _log_probabilities(self, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._predictor.log_probabilities(self._case, self._scale(sums)[:, None] * sums)

    def _scale(self, sums: np.ndarray) -> np.ndarray:
        return self._temperature / np.sqrt(self._squares(sums))

    def _squares(self, sums: np.ndarray) -> np.ndarray:
        return np.square(sums).sum(axis=1) + self._softness


def _without(
    predictor: Predictor, request: Requests, case: Case, chosen: Sequence[int], places: np.ndarray
) -> np.ndarray:
    """(1 + n, C) the scores of the chosen items without any event, and without each of them alone."""
    found = np.empty((1 + len(places), len(chosen)), np.float32)
    found[0] = _of_items(predictor.judge(cases.without_any(case)), chosen)[0]
    for begin in range(0, len(places), _AT_ONCE):
        some = places[begin : begin + _AT_ONCE]
        filled = np.append(some, np.repeat(some[-1:], _AT_ONCE - len(some)))  # one shape to compile
        left = cases.without(case, filled)
        if not predictor.uses_time:
            left = cases.at_last_event(left, request, predictor.histories)
        found[1 + begin : 1 + begin + len(some)] = _of_items(predictor.judge(left), chosen)[: len(some)]
    return found


def _of_items(judged: dict[str, np.ndarray], chosen: Sequence[int]) -> np.ndarray:
    """(B, C) the scores of the chosen items."""
    parts = [part[:, np.minimum(chosen, part.shape[1] - 1)] for part in judged.values()]
    return np.sum(parts, axis=0)


def _left_out(score: float, without_any: float, *without: float) -> _Frames:
    lost = score - np.array(without)
    yield "all", "event", {"contribution": lost}
    yield "all", "without any event", {"contribution": without_any}
    yield "all", "not attributed", {"contribution": score - without_any - lost.sum()}


def _titles(rows: pl.DataFrame, items: pl.DataFrame, item: int) -> dict[Any, str]:
    if "title" not in items.columns:
        return {}
    told = items.filter(pl.col("item_id").is_in(rows["item_id"].drop_nulls().implode()))
    return dict(pl.concat([told, items[[item]]]).select("item_id", "title").drop_nulls().iter_rows())


def _told(
    case: Case, places: np.ndarray, items: pl.DataFrame, behaviours: list[str], predictor: Predictor
) -> pl.DataFrame:
    """What is known of the events themselves."""
    history = case.history
    seconds = np.asarray(history.time)[0, places].astype(np.int64) + predictor.reference.origin
    which = np.asarray(history.behaviour)[0, places]
    names = pl.Series(behaviours, dtype=pl.String)
    return pl.DataFrame(
        {
            "event": np.arange(1, len(places) + 1, dtype=np.uint32),
            "item_id": items["item_id"].gather(np.asarray(history.item)[0, places]),
            "behaviour": names.gather(which)
            if len(names)
            else pl.Series([None] * len(which), dtype=pl.String),
            "timestamp": seconds,
            "age_days": (case.at[0] - seconds) / _DAY,
        }
    )


def _sentence(explanation: Explanation) -> str:
    def name(item: Any) -> str:
        # A bare number in a sentence would read as one of its figures.
        return str(explanation.titles.get(item) or (f"item {item}" if isinstance(item, int) else item))

    events = explanation.events()
    gathered = (
        events.group_by("item_id", maintain_order=True)
        .agg(pl.col("contribution").sum(), pl.col("age_days").min(), pl.col("behaviour").first(), pl.len())
        .filter(pl.col("contribution") > 0)
        .sort("contribution", descending=True, maintain_order=True)
    )
    total = gathered["contribution"].sum()
    share = pl.col("contribution") / pl.col("contribution").sum()
    worth = (share >= _SAID) | (pl.int_range(pl.len()) == 0)
    reasons = []
    for row in gathered.filter(worth).head(_FEW).iter_rows(named=True):
        times = "once" if row["len"] == 1 else f"{row['len']} times"
        when = f"{times}, {'last ' if row['len'] > 1 else ''}{_ago(row['age_days'])}"
        how = f"{row['behaviour']} " if row["behaviour"] and row["len"] == 1 else ""
        thing = "earlier events with it" if row["item_id"] == explanation.item else name(row["item_id"])
        of = "" if reasons else " of what speaks for it"
        reasons.append(f"{thing} ({how}{when}: {row['contribution'] / total:.0%}{of})")
    if not reasons:
        return f"{name(explanation.item)}: nothing in the past speaks for it, but what everybody takes."
    more = len(gathered) - len(reasons)
    because = f"{'; '.join(reasons)}{f' and {more} more' if more > 0 else ''}"
    # An intensity, so that its logarithm's change is a factor.
    times_as = float(np.exp(min(explanation.of_the_past, 14.0)))
    said = f"{times_as:.2f}" if times_as < 10 else f"{times_as:,.0f}" if times_as < 1e6 else "over a million"
    if times_as < _HARDLY:
        return (
            f"{name(explanation.item)}, hardly because of the past, which makes it {said} times as likely: "
            f"{because}."
        )
    return f"{name(explanation.item)}, because of {because}; the past makes it {said} times as likely."


def _ago(days: float) -> str:
    return "just now" if days < 1 / 1_440 else f"{show_days(days)} ago"
