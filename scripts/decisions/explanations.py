"""Whether explanations add up to the score, and whether what they name as the reason is one."""

from typing import Any

import numpy as np

from jaxdecay import cases
from jaxdecay.explain import explain
from jaxdecay.recommend import load


def explanations(run: str, triples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Of random users with at least two events, items and moments (an hour to 90 days after a random event
    of theirs but the first): the largest difference between a score and the sum of its contributions; and in
    what share the score falls by more without the event that contributes most than without another, drawn by
    lot, both computed anew."""
    loaded = load(run)
    predictor, histories = loaded.predictor, loaded.histories
    random = np.random.default_rng(seed)
    offsets = np.asarray(histories.offsets)
    users = random.choice(np.flatnonzero(np.diff(offsets) > 1), triples)
    off, wins, judged = [], 0.0, 0
    for user in users:
        event = int(random.integers(offsets[user] + 1, offsets[user + 1]))
        at = int(histories.time[event] + random.integers(3600, 90 * 86_400))
        name, item = loaded.users[int(user)], int(random.integers(histories.items))
        requests, _, context, _ = loaded._one_request(name, loaded.items["item_id"][item], at, None)
        behaviours = histories.config["behaviours"]
        found = explain(predictor, requests, item, loaded.items, behaviours, user=name, context=context)
        off.append(abs(found.score - float(found.rows["contribution"].sum())))
        events = found.events().sort("contribution", descending=True)["event"].to_numpy()
        other = int(random.choice(events[1:]))
        case = predictor.case(requests, context)
        places = np.flatnonzero(np.asarray(case.history.mask)[0])[::-1]
        both = cases.without(case, places[np.array([events[0], other]) - 1])
        top, drawn = np.asarray(sum(predictor.judge(both).values()))[:, item]
        wins += 1.0 if top < drawn else 0.5 if top == drawn else 0.0
        judged += 1
    return {"triples": judged, "largest_difference": max(off), "deletion": wins / judged}
