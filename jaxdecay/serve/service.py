"""What a served run answers, however it is asked: the states of a store's users, read at a moment."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxdecay import asked, moments
from jaxdecay.errors import InputError
from jaxdecay.evaluate import REPEAT_SHARE
from jaxdecay.live.live import Live, UserState
from jaxdecay.moments import At
from jaxdecay.rank import top_k
from jaxdecay.serve.follower import Follower
from jaxdecay.serve.incoming import Incoming
from jaxdecay.serve.store import Store
from jaxdecay.serve.vocabulary import Vocabulary
from jaxdecay.trained import Run


class Receipt(NamedTuple):
    """What became of events that were sent. What was kept is durable."""

    kept: int
    repeated: int
    """Of ids that had come before."""
    skipped: tuple[tuple[str, str], ...]
    """Ids of events that were not kept, and why."""


@dataclasses.dataclass(frozen=True)
class Listed:
    """A list."""

    user: str
    at: int
    """Seconds: only what came strictly before is seen."""
    items: tuple[Any, ...]
    """Best first."""
    scores: tuple[float, ...]
    served_by: str
    """"history", or "popularity" for somebody of whom nothing is known."""
    notes: tuple[str, ...]


class Service:
    """A run and a store. Safe to use from several threads."""

    def __init__(self, run: Run, store: Store) -> None:
        """Raises InputError for an encoder that does not stream, StoreError for what the store has to say."""
        self.run, self.store = run, store
        live = Live.of(run.before_store)
        self._live, self.vocabulary = live, Vocabulary(run, live.weights)
        self._incoming = Incoming(self.vocabulary, run.histories.config)
        self.follower = Follower(live, self.vocabulary, run.before_store.histories, store)
        self._ids = run.items["item_id"].to_list()
        self._relative = run.histories.clock == "relative"
        self._exclude_seen = run.histories.repeat_share <= REPEAT_SHARE

    def add(self, sent: Sequence[Any]) -> Receipt:
        """Keeps events (JSON objects). Raises InputError, and then keeps none, if one of them is wrong."""
        delivered = self._incoming.checked(sent)
        known, skipped = [], []
        for one in delivered:
            if one.item in self.vocabulary.items or one.content:
                known.append(one)
            else:
                skipped.append((one.id, f"item {one.item!a} is not known; send its columns as 'item'"))
        new = self.store.append(known) if known else []
        self.follower.follow()
        return Receipt(sum(new), len(new) - sum(new), tuple(skipped))

    def recommend(
        self,
        user: str,
        k: int = 10,
        at: At | None = None,
        *,
        exclude_seen: bool | None = None,
        allow: Any = None,
        deny: Any = None,
        where: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Listed:
        """The k best items for a user, known or not, as `jaxdecay.trained.Run.recommend` lists them.

        ``at`` None is now, when everything counts that has been kept, or, with relative times, right after
        the user's last event.
        """
        k = asked.check_k(k, len(self._ids))
        allowed = asked.allowed_items(self.run.items, allow, deny, where, "raise")
        one, notes = asked.context_of(self.run.histories, context)
        self.follower.follow()
        when, state, more = self._at(user, at)
        live, origin = self._live, self._live.weights.origin
        scores = live.scores(
            state, self.vocabulary.user(user), when - origin, one.categorical[0], one.numeric[0]
        )
        out = np.zeros(len(scores), bool) if self._relative else live.trends.came >= when
        if allowed is not None:
            out |= ~allowed
        if self._exclude_seen if exclude_seen is None else exclude_seen:
            before = [event.item for event in self.follower.history(user) if event.at < when - origin]
            out[before] = True
        items, best = top_k(scores[None], k, excluded=out[None])
        there = items[0] >= 0
        return Listed(
            user, when,
            tuple(self._ids[item] for item in items[0][there]),
            tuple(best[0][there].tolist()),
            "history" if state.events else "popularity",
            (*notes, *more),
        )  # fmt: skip

    def _at(self, user: str, at: At | None) -> tuple[int, UserState, tuple[str, ...]]:
        """When, the user's state by then, and notes."""
        origin, notes = self._live.weights.origin, ()
        if at is None:
            state = self.follower.state(user)
            after = state.time + origin + 1
            return (after if self._relative else max(int(time.time()), after)), state, ()
        when = moments.moment(at, clock=self.run.histories.clock)
        assert when.seconds is not None
        if when.seconds <= self._live.trends.latest and not self._relative:
            notes = ("at lies before the latest event: what is popular is as of that event",)
        return when.seconds, self.follower.before(user, when.seconds), (*when.notes, *notes)

    def forget_user(self, user: str) -> int:
        """Erases what is kept of a user, whose past in the run's own log counts no more, either; returns how
        many events there were. Parameters forget only at retraining."""
        known = self.follower.state(user).events
        self.store.forget_user(user)
        self.follower.follow()
        return known

    def forget_event(self, id: str) -> None:
        """Erases an event. Raises InputError where there is none of that id."""
        if self.store.forget_event(id) is None:
            raise InputError(f"event {ascii(id)[:60]}: not there, or erased before")
        self.follower.follow()

    def close(self) -> None:
        """Saves what took long to make, and lets go of the store."""
        self.follower.close()
        self.store.close()
