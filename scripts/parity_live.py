"""Whether states that follow every event give the scores that the model gives to whole histories, for every
user of a run.

    python scripts/parity_live.py runs/first --json parity.json

The run's log is played once more in the order of time. Every user is asked for right before the last event of
theirs, when the catalogue's counts stand as they stood then, and again a month after the end of the log. For
both: the largest difference of a score, and the users whose 20 best items are the same, the same but for
items that the model scores within 1e-5 of each other, or others. Exit status 1 for a difference above 1e-5 or
a list of others.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.live.live import Live, UserState, events_of
from jaxdecay.live.trends import Trends
from jaxdecay.predict import Predictor
from jaxdecay.recommend import load

DIFFERENCE, TOP, MONTH, TOGETHER = 1e-5, 20, 30 * 86_400, 256


class Compared:
    """Scores of the same requests from both sides."""

    def __init__(self, live: Live, system: Predictor, requests: Requests) -> None:
        self._live, self._system, self._requests = live, system, requests
        self._waiting: dict[int, np.ndarray] = {}
        self.differences: list[float] = []
        self.lists = {"same": 0, "ties": 0, "others": 0}

    def add(self, place: int, state: UserState) -> None:
        """The request of this place, read from a state as things stand."""
        histories, asked = self._system.histories, self._requests
        event, at = asked.event[place], int(asked.at[place]) - self._live.weights.origin
        context = histories.context_categorical[event], histories.context_numeric[event]
        self._waiting[place] = self._live.scores(state, int(asked.user[place]), at, *context)
        if len(self._waiting) == TOGETHER:
            self.settle()

    def settle(self) -> None:
        """Asks the model for those that have come since."""
        if not self._waiting:
            return
        places = np.array(list(self._waiting))
        expected = self._system.scores(self._requests.take(places))
        for found, model in zip(self._waiting.values(), expected, strict=True):
            self._compare(found, model)
        self._waiting = {}

    def _compare(self, found: np.ndarray, expected: np.ndarray) -> None:
        self.differences.append(float(np.abs(found - expected).max()))
        one, two = (np.argsort(-scores, kind="stable")[:TOP] for scores in (found, expected))
        if (one == two).all():
            self.lists["same"] += 1
        else:
            tied = np.abs(expected[one] - expected[two]).max() <= DIFFERENCE
            self.lists["ties" if tied else "others"] += 1

    def figures(self) -> dict[str, Any]:
        worst = {"worst": max(self.differences), "median": float(np.median(self.differences))}
        return {"difference": worst, f"top_{TOP}": self.lists}

    @property
    def equal(self) -> bool:
        return max(self.differences) <= DIFFERENCE and not self.lists["others"]


def requests_of(histories: Histories) -> tuple[Requests, Requests]:
    """Of every user with events: right before the last one, at its time and in its context; and a month after
    the log, in the same context."""
    users = np.flatnonzero(histories.lengths())
    last = np.asarray(histories.offsets)[users + 1] - 1
    late = np.full(len(users), int(histories.time.max()) + MONTH)
    none = np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32)
    before = Requests(users, last, np.asarray(histories.time)[last], *none, last)
    return before, Requests(users, last + 1, late, *none, last)


def compare(system: Predictor) -> dict[str, Compared]:
    """Plays the log of a trained model once more and asks both."""
    histories, live = system.histories, Live.of(system)
    live.trends = Trends(live.trends.rates, histories.items)
    before, later = requests_of(histories)
    early, late = Compared(live, system, before), Compared(live, system, later)
    asks = dict(zip(before.event.tolist(), range(len(before)), strict=True))
    states = [live.init() for _ in range(histories.users)]
    events = [iter(events_of(histories, user, live.weights)) for user in range(histories.users)]
    owner, chosen = histories.user().tolist(), histories.chosen.tolist()
    for row in np.argsort(np.asarray(histories.time), kind="stable").tolist():
        user, event = owner[row], next(events[owner[row]])
        if row in asks:
            early.add(asks[row], states[user])
        states[user] = live.update(states[user], event)
        live.trends.add(event.item, event.at + live.weights.origin, chosen=chosen[row])
    for place, user in enumerate(later.user.tolist()):
        late.add(place, states[user])
    early.settle(), late.settle()
    return {"before the last event": early, "a month after the log": late}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    system, start = load(options.run).predictor, time.perf_counter()
    compared = compare(system)
    encoder, histories = system.model.spec.encoder, system.histories
    figures = {
        "encoder": f"{encoder.blocks} {encoder.kind}" if encoder.blocks else "identity",
        "events": len(histories.time),
        "users": int((histories.lengths() > 0).sum()),
        "longest_history": int(histories.lengths().max()),
        "items": histories.items,
        **{when: one.figures() for when, one in compared.items()},
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all(one.equal for one in compared.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
