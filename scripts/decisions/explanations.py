"""Whether explanations add up to the score, and whether what they name as the reason is one."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxdecay import asked, cases
from jaxdecay.explain import explain


def explanations(run: Any, triples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Of random users with at least two events and moments (an hour to 90 days after a random event of theirs
    but the first), and a random item, or one of the ten best: the largest difference between a score and the
    sum of its contributions; and in what share the score falls by more without the event that contributes
    most than without another, drawn by lot, both computed anew."""
    found = {}
    for which in ("random", "listed"):
        off, won = np.array(list(_judged(run, which, triples, seed))).T
        found[which] = {
            "triples": triples,
            "largest_difference": float(off.max()),
            "deletion": float(won.mean()),
            "deletion_error": float(won.std() / np.sqrt(len(won))),
        }
    return found


def _judged(run: Any, which: str, triples: int, seed: int) -> Iterator[tuple[float, float]]:
    predictor, histories, random = run.predictor, run.histories, np.random.default_rng(seed)
    offsets = np.asarray(histories.offsets)
    for user in random.choice(np.flatnonzero(np.diff(offsets) > 1), triples):
        event = int(random.integers(offsets[user] + 1, offsets[user + 1]))
        at = np.array([int(histories.time[event] + random.integers(3600, 90 * 86_400))])
        requests = asked.requests_at(histories, np.array([user]), at)
        context, _ = asked.context_of(histories, None)
        item = int(random.integers(histories.items))
        if which == "listed":
            item = int(np.argsort(-predictor.scores(requests, context)[0])[random.integers(10)])
        behaviours = histories.config["behaviours"]
        (told,) = explain(predictor, requests, [item], run.items, behaviours, user=user, context=context)
        events = told.events().sort("contribution", descending=True)["event"].to_numpy()
        drawn = int(random.choice(events[1:]))
        case = predictor.case(requests, context)
        places = np.flatnonzero(np.asarray(case.history.mask)[0])[::-1]
        without = predictor.judge(cases.without(case, places[np.array([events[0], drawn]) - 1]))
        first, other = np.asarray(sum(without.values()))[:, item]
        won = 1.0 if first < other else 0.5 if first == other else 0.0
        yield abs(told.score - float(told.rows["contribution"].sum())), won
