"""A trained run, opened: its histories, tables and model, and who and when is meant in asking it."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from jaxdecay import asked, ids, moments, runs, serving
from jaxdecay.asked import OnUnknown
from jaxdecay.assembly import load_predictor
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.generations import before_store, newest
from jaxdecay.moments import At
from jaxdecay.predict import Context, Predictor


class Loaded:
    """What every question to a run stands on. `jaxdecay.trained.Run` has the questions."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config: dict[str, Any] = runs.read_config(self.path)
        """``config.json``: options, spec, versions."""
        self.notes: tuple[str, ...] = ()
        self._open()

    def __repr__(self) -> str:
        one = self.histories
        return f"Run({str(self.path)!r}: {one.users} users, {one.items} items, {one.events} events)"

    def _open(self) -> None:
        self._directory = directory = newest(self.path)
        if not directory.is_dir():
            raise InputError(
                f"{directory}: missing; copy the log that the run was trained on to there (the DIR of "
                "jaxdecay train)"
            )
        try:
            self.histories = Histories.load(directory, verify=True)
            self._user_table = ids.read_table(directory, "user", rows=self.histories.users)
        except InputError as error:
            if directory.name == "histories":
                raise
            raise InputError(f"{error} (or delete it to go back to before the update)") from error
        trained = self.config["data"]["fingerprint"]
        if directory.name == "histories" and self.histories.config["fingerprint"] != trained:
            raise InputError(
                f"{directory}: is another log than the one trained on; copy that one to there, or train again"
            )
        for name in ("items", "predictor", "before_store", "_seen", "_strategies"):
            self.__dict__.pop(name, None)

    @property
    def users(self) -> pl.Series:
        """Their ids, in the order of indices."""
        return self._user_table["user_id"]

    @functools.cached_property
    def items(self) -> pl.DataFrame:
        """Index, item_id, and the item columns as they were given."""
        return ids.read_table(self._directory, "item", rows=self.histories.items)

    @functools.cached_property
    def predictor(self) -> Predictor:
        """The best model by validation over all events of the run, loaded when first needed."""
        return load_predictor(self.path, histories=serving.all_known(self.histories))

    @functools.cached_property
    def before_store(self) -> Predictor:
        """The same over the events that come before those of a store: of a retrained run, whose histories
        hold the store's of then, without these."""
        base = before_store(self.path)
        if base == self._directory:
            return self.predictor
        if self._directory.name != "histories":
            raise InputError(
                f"{self._directory}: a run that was retrained over a store is updated through the store; send"
                " these events there, and delete this directory"
            )
        return load_predictor(self.path, histories=serving.all_known(Histories.load(base, verify=True)))

    @functools.cached_property
    def _seen(self) -> np.ndarray | None:
        return serving.seen_since(serving.all_known(self.histories))

    def index(self, of: Literal["user", "item"], given: Any) -> int:
        """The index of a user or an item by its id; InputError for one never seen."""
        known = self.users if of == "user" else self.items["item_id"]
        names = ids.as_ids([given], known)
        found = ids.find(names, known)
        remedy = f"give an id such as {known[0]!r}"
        ids.refuse_unknown(names, found, remedy, known=known, hint=self._hint(of))
        return int(found[0])

    def _moment(self, at: At | None) -> moments.Moment:
        """The moment asked for; InputError when the log begins later."""
        moment = moments.moment(at, clock=self.histories.clock)
        if (
            moment.seconds is not None
            and self._seen is not None
            and moment.seconds <= (first := int(self._seen.min()))
        ):
            asked_for = moments.iso(moment.seconds)
            raise InputError(
                f"at {asked_for}: the log begins only at {moments.iso(first)}, so nothing is known by then; "
                "give a later time"
            )
        return moment

    def _one_request(
        self, user: Any, items: Sequence[Any], at: At | None, context: Mapping[str, Any] | None
    ) -> tuple[Requests, list[int], Context, Any]:
        """A request of a user with a past, the indices of items, the context, and the user's id."""
        moment = self._moment(at)
        index, asked_for = self.index("user", user), [self.index("item", item) for item in items]
        when = None if moment.seconds is None else np.array([moment.seconds])
        requests = asked.requests_at(self.histories, np.array([index]), when)
        asked.refuse_empty(self.histories, requests, self.users[index])
        one, unseen = asked.context_of(self.histories, context)
        self.notes = (*moment.notes, *unseen)
        return requests, asked_for, one, self.users[index]

    def _asked_users(
        self, users: Any, on_unknown: OnUnknown, *, popular: bool = False
    ) -> tuple[pl.Series, np.ndarray, tuple[str, ...]]:
        if users is None:
            return self.users, np.arange(self.histories.users), ()
        return asked.found(users, self.users, on_unknown, popular=popular, hint=self._hint("user"))

    def _hint(self, kind: str) -> str:
        return asked.hashed(self.histories, kind, self._directory / f"{kind}s.parquet")
