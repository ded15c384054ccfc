"""A strategy, or steered lists, on trial: beside the run's model in one table, under the protocol of every
evaluation. What has to be chosen was chosen on validation; nothing is fitted to what judges."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay import assess, exposure, ids, lists, runs
from jaxdecay.assembly import load_predictor
from jaxdecay.assess import MODEL, Say
from jaxdecay.data.requests import Requests, withheld
from jaxdecay.evaluate import Rules, System, evaluate, rules
from jaxdecay.figures import ListMetric
from jaxdecay.predict import Context, Predictor
from jaxdecay.protocol import Protocol
from jaxdecay.results import Report
from jaxdecay.serving import Filters
from jaxdecay.steered import Steered, grouped
from jaxdecay.steering import Steering
from jaxdecay.strategies import Mixture, Strategy, asked_weights, load_for, needs_fit


@dataclass(frozen=True, eq=False)
class Made:
    """A `jaxdecay.evaluate.System` of lists that were made for R requests; what is not listed is never
    recommended."""

    name: str
    requests: Requests
    """Ascending in ``event``."""
    listed: np.ndarray
    """(R, k) int32 items, -1 for none, with the request time given."""
    listed_withheld: np.ndarray
    """(R, k) with it withheld."""
    items: int
    """V."""
    uses_time: bool
    settings: dict[str, Any]

    def scores(self, requests: Requests) -> np.ndarray:
        """(R, V) float32: minus the place, -inf for what is not listed."""
        which = np.searchsorted(self.requests.event, requests.event)
        told = requests.at == self.requests.at[which]
        listed = np.where(told[:, None], self.listed[which], self.listed_withheld[which])
        row, place = np.nonzero(listed >= 0)
        scores = np.full((len(requests), self.items), -np.inf, np.float32)
        scores[row, listed[row, place]] = -place
        return scores


def trial(
    run: str | Path,
    protocol: Protocol,
    *,
    strategy: Strategy | None = None,
    steer: Steering | None = None,
    report: Say = lambda line: None,
) -> Report:
    """The model of a run beside a ``strategy``, and beside lists (of the strategy, or else of the model) as
    ``steer`` says, on the log it was trained on; with neither, `jaxdecay.assess.assess`.

    Beside the metrics of every evaluation but AUC there are distance@k, the mean cosine distance within
    lists, and with items that ``steer`` exposes exposure@k, their mean share of the exposure. A list is made
    for the greatest k of the protocol, and its beginning is judged for smaller ones. Draws have the seed of
    the protocol where ``steer`` has none. Writes ``metrics-strategy.json``, ``metrics-steered.json`` or, for
    both, ``metrics-strategy-steered.json``.

    Raises InputError for what `assess`, strategies and `Steered` refuse.
    """
    if strategy is None and steer is None:
        return assess.assess(run, protocol, report=report)
    run, weights = Path(run), None if strategy is None else asked_weights(strategy)
    model = load_predictor(run)
    asked, of = assess.requests_of(model.histories, protocol)
    every_item = protocol.items == "cold"
    applied = rules(model.histories, protocol.exclude_history, every_item=every_item)
    model.name = MODEL
    system: Predictor | Mixture = model
    systems: list[System] = []
    facts: dict[str, Any] = {}
    of_lists: dict[str, ListMetric] = {"distance": _distance(model.unit_vectors())}
    if strategy is not None:
        facts["strategy"] = said = _said(strategy)
        system = Mixture(load_for(run, model, weights), applied, weights, name=f"strategy {said}")
        systems.append(system)
    if steer is not None:
        if steer.explore != "none" and steer.seed is None:
            steer = dataclasses.replace(steer, seed=protocol.seed)
        items = ids.read_table(run / "histories", "item", rows=model.histories.items)
        maker = Steered(steer, items, system, model.histories)
        report({"doing": f"steering the lists of {len(asked)} requests"})
        systems.insert(0, _made(maker, system, asked, applied, max(protocol.k)))
        facts["steered"] = _options(steer)
        if steer.group is not None and steer.exposed:
            of_lists["exposure"] = _exposure(grouped(items, steer.group, steer.exposed)[1])
    systems.append(model)
    report({"doing": f"ranking {model.histories.items} items for {len(asked)} requests"})
    found = evaluate(
        systems,
        model.histories,
        asked,
        k=protocol.k,
        exclude_history=protocol.exclude_history,
        every_item=every_item,
        of_lists=of_lists,
        reference=MODEL,
        bootstrap=protocol.bootstrap,
        seed=protocol.seed,
    )
    if protocol.part == "validation" and strategy is not None and needs_fit(weights):
        warning = "strategies were fitted on the validation part: judge them on the test part"
        facts["warnings"] = [*found.protocol["warnings"], warning]
    facts |= {"part": protocol.part, "targets_of": protocol.items, "sample": of}
    facts["half_lives"] = runs.read_config(run)["half_lives"]
    found = dataclasses.replace(found, protocol={**found.protocol, **facts})
    assess.write(run, protocol, found, *words_of(strategy, steer))
    return found


def words_of(strategy: Any, steer: Any) -> list[str]:
    """What the file with the figures has in its name (`jaxdecay.protocol.file_of`)."""
    return [word for word, one in (("strategy", strategy), ("steered", steer)) if one is not None]


def _made(maker: Steered, system: Predictor | Mixture, asked: Requests, applied: Rules, k: int) -> Made:
    """The lists of all requests, since bounds may be on all of them together."""
    asked, histories = asked.take(np.argsort(asked.event)), system.histories
    filters = Filters(applied.seen, None, applied.exclude_history)

    def listed(told: Requests) -> np.ndarray:
        found = np.full((len(told), k), -1, np.int32)
        order = np.argsort(told.at, kind="stable")  # popularity is counted fastest so
        event = told.event[order]
        context = Context(histories.context_categorical[event], histories.context_numeric[event])
        for chunk, items, _ in maker.lists(told.take(order), context, filters, k):
            found[order[chunk]] = items
        return found

    given = listed(asked)
    settings = {"notes": list(maker.notes)}
    other = listed(withheld(asked, histories)) if system.uses_time else given
    name = "steered" if isinstance(system, Predictor) else f"{system.name}, steered"
    return Made(name, asked, given, other, histories.items, system.uses_time, settings)


def _distance(vectors: np.ndarray) -> ListMetric:
    return lambda items: lists.distance(items, vectors)


def _exposure(chosen: np.ndarray | None) -> ListMetric:
    assert chosen is not None
    return lambda items: exposure.share(chosen[items] & (items >= 0), items >= 0)


def _said(strategy: Strategy) -> str:
    if isinstance(strategy, str):
        return strategy
    return " ".join(f"{name}={weight:g}" for name, weight in strategy.items() if weight)


def _options(steer: Steering) -> str:
    """Those that differ from the defaults."""
    given = dataclasses.asdict(steer)
    plain = dataclasses.asdict(Steering())
    return ", ".join(f"{name} {_word(value)}" for name, value in given.items() if value != plain[name])


def _word(value: Any) -> str:
    return (
        " ".join(value)
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
