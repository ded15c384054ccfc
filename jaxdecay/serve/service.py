"""What a served run answers, however it is asked: the states of a store's users, read at a moment."""

import functools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdecay import asked, moments, serving
from jaxdecay.errors import InputError
from jaxdecay.evaluate import REPEAT_SHARE, Rules
from jaxdecay.explain import Explanation, explain
from jaxdecay.live.interest import Event
from jaxdecay.live.lists import agreement, lists_by
from jaxdecay.live.live import Live, Reading, UserState
from jaxdecay.moments import At
from jaxdecay.predict import Context
from jaxdecay.rank import top_k
from jaxdecay.serve.answers import About, Listed, OfItem, Receipt, Similar, Told
from jaxdecay.serve.committer import Committer
from jaxdecay.serve.follower import Follower
from jaxdecay.serve.incoming import FAR, Incoming
from jaxdecay.serve.left import left, nearness
from jaxdecay.serve.store import Store, key_of
from jaxdecay.serve.together import together
from jaxdecay.serve.vocabulary import Vocabulary
from jaxdecay.strategies import (
    UNFITTED,
    Mixture,
    Strategies,
    Strategy,
    asked_weights,
    load_strategies,
    needs_fit,
)
from jaxdecay.trained import Run

_NEAREST = 10
_SOME = 12  # users by way of example
_MEASURED, _MEASURED_K = 100, 20  # users, and the length of their lists


class Service:
    """A run and a store. Safe to use from several threads."""

    def __init__(self, run: Run, store: Store, *, table: str = "float32") -> None:
        """``table``: how items are kept to be listed, one of `jaxdecay.live.lists.TABLES`; ``notes`` say what
        was measured of one that is not float32.

        Raises InputError for an encoder that does not stream, StoreError for what the store has to say.
        """
        self.run, self.store = run, store
        live = Live.of(run.before_store)
        self._lists = lists_by(live, table)  # first of all, as vectors may leave memory
        self._live, self.vocabulary = live, Vocabulary(run, live.weights)
        self._incoming = Incoming(self.vocabulary, run.histories.config)
        self.follower = Follower(live, self.vocabulary, run.before_store.histories, store)
        self._committer = Committer(store.append)
        self._ids = run.items["item_id"].to_list()
        self._titles = run.items["title"].cast(str).to_list() if "title" in run.items.columns else None
        self._vectors = run.predictor.unit_vectors()
        self._relative = run.histories.clock == "relative"
        self._exclude_seen = run.histories.repeat_share <= REPEAT_SHARE
        self._one_at_a_time = threading.Lock()  # of those who ask strategies, which are made when first asked
        self.notes: tuple[str, ...] = () if table == "float32" else (self._measured(table),)

    def _measured(self, table: str) -> str:
        """How the lists of some users compare with those of the exact scores."""
        users = self.run.users.sample(min(_MEASURED, len(self.run.users)), seed=0).cast(str).to_list()
        k, full = min(_MEASURED_K, len(self._ids)), self._live.weights.targets.nbytes
        found = agreement(self._lists, [self._reading(user) for user in users], k, self._live)
        return (
            f"{table} items: recall@{k} {found.recall:.4f} of the exact lists of {len(users)} users, "
            f"scores off by at most {found.error:.1g}, {self._lists.bytes / 1e6:.1f} MB "
            f"({full / 1e6:.1f} MB in float32)"
        )

    def _reading(self, user: str) -> Reading:
        """Right after the latest event, in no context."""
        when, state, _ = self._at(user, None if self._relative else self._live.trends.latest + 1)
        one, _ = asked.context_of(self.run.histories, None)
        at = when - self._live.weights.origin
        return self._live.reading(state, self.vocabulary.user(user), at, one.categorical[0], one.numeric[0])

    def add(self, sent: Sequence[Any]) -> Receipt:
        """Keeps events (JSON objects). Raises InputError, and then keeps none, if one of them is wrong."""
        delivered = self._incoming.checked(sent)
        known, skipped = [], []
        for one in delivered:
            if one.item in self.vocabulary.items or one.content:
                known.append(one)
            else:
                skipped.append((one.id, f"item {one.item!a} is not known; send its columns as 'item'"))
        new = self._committer.append(known) if known else []
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
        having: Sequence[str] = (),
        strategy: Strategy | None = None,
    ) -> Listed:
        """The k best items for a user, known or not, as `jaxdecay.trained.Run.recommend` lists them.

        ``at`` None is now, when everything counts that has been kept, or, with relative times, right after
        the user's last event. ``having``: items as if they had been taken right before, in the way of most
        events; nothing of that is kept. ``strategy``: as in `Run.recommend`, from the run's own log alone.
        """
        k = asked.check_k(k, len(self._ids))
        out = self._denied(allow, deny, where)
        one, notes = self._context(context)
        self.follower.follow()
        when, state, more = self._at(user, at)
        if exclude_seen is None:
            exclude_seen = self._exclude_seen
        if not self._relative:
            out |= self._live.trends.came >= when
        taken = [self._item(one) for one in having]
        if exclude_seen:
            origin = self._live.weights.origin
            out[[event.item for event in self.follower.history(user) if event.at < when - origin]] = True
            out[taken] = True
        if strategy is None:
            state = self._having(state, taken, when)
            index, since = self.vocabulary.user(user), when - self._live.weights.origin
            reading = self._live.reading(state, index, since, one.categorical[0], one.numeric[0])
            items, best = self._lists.best(reading, k, out)
            served_by = "history" if state.events else "popularity"
        elif taken:
            raise InputError("strategies go by the run's own log: leave out having, or the strategy")
        else:
            scores, served_by = self._by_strategy(strategy, user, when, one, exclude_seen)
            (items,), (best,) = top_k(scores[None], k, excluded=out[None])
            items, best = items[items >= 0], best[items >= 0]
            more = (*more, "strategies go by the run's own log, not by what has come since")
        listed = items.tolist()
        return Listed(
            user, when, self._named(listed), tuple(best.tolist()), served_by, (*notes, *more),
            self._titled(listed),
        )  # fmt: skip

    def _denied(self, allow: Any, deny: Any, where: str | None) -> np.ndarray:
        """(V,) bool: the items that may not be listed."""
        only, never = (self.vocabulary.places(() if given is None else given) for given in (allow, deny))
        out = np.full(len(self._ids), allow is not None)
        if where is None and only is not None and never is not None:
            out[only] = False
            out[never] = True
            return out
        allowed = asked.allowed_items(self.run.items, allow, deny, where, "raise")
        return out if allowed is None else ~allowed

    def _trial(self, items: Sequence[int], when: int) -> list[Event]:
        """These items as if taken a second before."""
        kind, before = asked.behaviour_of(self.run.histories, None), when - 1 - self._live.weights.origin
        if items and not -(2**31) <= before < 2**31:
            raise InputError("at lies 68 years or more from the run's log: leave out having")
        one, _ = asked.context_of(self.run.histories, None)
        return [Event(item, before, kind, 1.0, one.categorical[0], one.numeric[0]) for item in items]

    def _having(self, state: UserState, items: Sequence[int], when: int) -> UserState:
        for event in self._trial(items, when):
            state = self._live.update(state, event)
        return state

    def _by_strategy(
        self, strategy: Strategy, user: str, when: int, context: Context, exclude_seen: bool
    ) -> tuple[np.ndarray, str]:
        """(V,) log-probabilities, and who served."""
        weights, histories = asked_weights(strategy), self.run.histories
        index = -1 if self._forgotten(user) else self.vocabulary.users.get(user, -1)
        requests = asked.requests_at(histories, np.array([index]), np.array([when]))
        with self._one_at_a_time:
            rules = Rules(histories, serving.seen_since(serving.all_known(histories)), exclude_seen)
            strategies = self._strategies if needs_fit(weights) else Strategies(self.run.predictor, UNFITTED)
            served: list[str] = []
            scores = Mixture(strategies, rules, weights, served=served).scores(requests, context)
            return scores[0], served[0]

    @functools.cached_property
    def _strategies(self) -> Strategies:
        return Strategies(self.run.predictor, load_strategies(self.run.path))

    def similar(
        self, item: str, k: int = 10, *, allow: Any = None, deny: Any = None, where: str | None = None
    ) -> Similar:
        """The k items nearest to one, as `jaxdecay.trained.Run.similar`."""
        k = asked.check_k(k, len(self._ids) - 1, "there are {} other items")
        allowed = asked.allowed_items(self.run.items, allow, deny, where, "raise")
        index = self._item(item)
        ((_, items, cosines),) = serving.most_similar(self._vectors, np.array([index]), allowed, k)
        there = items[0] >= 0
        listed = items[0][there].tolist()
        return Similar(
            self._ids[index], self._named(listed), tuple(cosines[0][there].tolist()), self._titled(listed)
        )

    def explain(
        self,
        user: str,
        item: str,
        at: At | None = None,
        *,
        context: Mapping[str, Any] | None = None,
        having: Sequence[str] = (),
    ) -> Explanation:
        """Why the item has the score that `recommend` gives it, as `jaxdecay.trained.Run.explain`: exact over
        the events of run and store. Raises InputError where no event came before."""
        index, (one, _) = self._item(item), self._context(context)
        trial = [self._item(one) for one in having]
        self.follower.follow()
        when, _, _ = self._at(user, at)
        live, place = self._live, self.vocabulary.user(user)
        events = [*self.follower.history(user), *self._trial(trial, when)]
        events.sort(key=lambda event: event.at)
        predictor = together(self.run.predictor, place, events, live.weights, live.trends)
        requests = asked.requests_at(predictor.histories, np.array([place]), np.array([when]))
        asked.refuse_empty(predictor.histories, requests, user)
        behaviours = list(self.vocabulary.behaviours)
        return explain(predictor, requests, [index], self.run.items, behaviours, user=user, context=one)[0]

    def state(self, user: str, at: At | None = None, *, k: int = 10, having: Sequence[str] = ()) -> Told:
        """What is left of a user's events at a moment: in each mode, of the ``k`` items of the user's own of
        which most is left, and the items nearest to the interest. ``having``: as in `recommend`."""
        k = asked.check_k(k, len(self._ids))
        self.follower.follow()
        when, state, _ = self._at(user, at)
        state = self._having(state, [self._item(one) for one in having], when)
        live, index = self._live, self.vocabulary.user(user)
        origin = live.weights.origin
        since = when - origin if live.weights.similarity.timed or not state.events else state.time
        found = left(live, state, index, since)
        near = nearness(live, state, index, since)
        order = np.argsort(-near, kind="stable")[: min(k, _NEAREST)]
        return Told(
            user, when, state.events, state.time + origin if state.events else None, found.modes,
            self._of_items(found.items[:k], found.counts), self._of_items(order, near[order]),
        )  # fmt: skip

    def about(self) -> About:
        """What is served."""
        histories, config = self.run.histories, self.run.histories.config
        busy = np.argsort(-histories.lengths(), kind="stable")
        places = np.unique(np.linspace(0, max(len(busy) - 1, 0), min(_SOME, len(busy))).astype(int))
        some = self.run.users[busy[places].tolist()].to_list()
        return About(
            self.run.path.resolve().name, histories.users, histories.items, histories.events,
            histories.clock, tuple(config["behaviours"]), self._incoming.weighted,
            tuple(one for one in some if not self._forgotten(str(one))),
        )  # fmt: skip

    def _forgotten(self, user: str) -> bool:
        """Whether what the run's own log has of a user counts no more."""
        return key_of(user) in self.store.forgotten()

    def _of_items(self, items: np.ndarray, amounts: np.ndarray) -> tuple[OfItem, ...]:
        titles = self._titles or [None] * len(self._ids)
        pairs = zip(items.tolist(), amounts.tolist(), strict=False)
        return tuple(OfItem(self._ids[item], titles[item], amount) for item, amount in pairs)

    def _named(self, items: Sequence[int]) -> tuple[Any, ...]:
        return tuple(self._ids[item] for item in items)

    def _titled(self, items: Sequence[int]) -> tuple[str | None, ...] | None:
        return None if self._titles is None else tuple(self._titles[item] for item in items)

    def _item(self, given: str) -> int:
        """The index of an item; InputError for one that is not known."""
        if (index := self.vocabulary.items.get(given)) is None:
            return self.run.index("item", given)
        return index

    def _context(self, given: Mapping[str, Any] | None) -> tuple[Context, tuple[str, ...]]:
        try:
            one, notes = asked.context_of(self.run.histories, given)
        except InputError:
            raise
        except (ValueError, OverflowError) as error:  # text that is none, numbers beyond any
            raise InputError("context: a value cannot be read; give plain text and numbers") from error
        if not (np.abs(one.numeric) < FAR).all():
            raise InputError("context: a number is far beyond all of the run's log; check it")
        return one, notes

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
