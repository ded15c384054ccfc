"""What a trained run can say of itself and of its users: reasons, drift, half-lives, memory."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl

from jaxdecay import asked, cohorts, ids
from jaxdecay.counterfactuals import Changes, counterfactuals
from jaxdecay.curves import Grouping
from jaxdecay.drift import DriftOptions, calibrate
from jaxdecay.durations import Duration
from jaxdecay.errors import InputError
from jaxdecay.expect import several
from jaxdecay.explain import Explanation, explain
from jaxdecay.groupings import grouping
from jaxdecay.half_lives import effective_memory, half_lives
from jaxdecay.loaded import Loaded
from jaxdecay.moments import At
from jaxdecay.monitor import Monitor
from jaxdecay.watch import Watched, check_names, watch


class Insight(Loaded):
    """The questions of whoever wants to understand; `jaxdecay.trained.Run` adds those for lists."""

    def explain(
        self, user: Any, item: Any, at: At | None = None, *, context: Mapping[str, Any] | None = None
    ) -> Explanation:
        """Why the item has the score that it has for the user at a moment (``at`` and ``context`` as in
        `recommend`): what each past event adds. Raises InputError where no event came before.

        run.explain("u1", "i9", at="2026-11-22T18:00:00Z").sentence()
        """
        return self.reasons(user, [item], at, context=context)[0]

    def reasons(
        self,
        user: Any,
        items: Sequence[Any],
        at: At | None = None,
        *,
        context: Mapping[str, Any] | None = None,
    ) -> list[Explanation]:
        """The same of several items, such as those of a list; with an encoder it costs hardly more than of
        one."""
        requests, chosen, one, who = self._one_request(user, items, at, context)
        behaviours = self.histories.config["behaviours"]
        return explain(self.predictor, requests, chosen, self.items, behaviours, user=who, context=one)

    def what_if(
        self,
        user: Any,
        item: Any,
        at: At | None = None,
        *,
        without: int | Sequence[int] = (),
        later: Duration | Sequence[Duration] = (),
        having: Any = (),
        behaviour: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> pl.DataFrame:
        """How the score of the item and its rank among all items would be otherwise: change, score,
        difference, rank; a row for what is, and one for each change alone.

        Args:
            without: numbers of events that had not been; 1 is the latest (`explain` has them all).
            later: durations such as 30d, or timedeltas, by which the request came later, nothing having
                happened since.
            having: ids of items that had been taken right before the request. behaviour: how; by default as
                in most events.
        """
        requests, (index,), one, _ = self._one_request(user, [item], at, context)
        taken = [self.index("item", one) for one in ids.as_ids(having, self.items["item_id"])]
        kind = asked.behaviour_of(self.histories, behaviour)
        if behaviour is not None and not taken:
            raise InputError(
                f"behaviour={behaviour!r} is how the items of having were taken; give having, or leave it out"
            )
        changes = Changes(several(without), several(later), taken, kind)
        return counterfactuals(self.predictor, requests, index, self.items, changes, context=one)

    def drift(
        self,
        users: Any = None,
        *,
        by: str = "user",
        column: str | None = None,
        options: DriftOptions | None = None,
        on_unknown: Literal["raise", "skip"] = "raise",
    ) -> Watched:
        """Whose interests moved, when, and where to: the detections over the whole log.

        Args:
            users: ids; None for all users of the run.
            by: user; catalogue; or a user column, whose values are cohorts. column: an item column by whose
                values interests are named (default: the first with few; else the nearest items).

        run.drift(["u1"]).detections
        """
        options = _checked(options)
        asked.check_on_unknown(on_unknown, users=False)
        if users is not None and by != "user":
            raise InputError(f"drift by {by!r} is of all users; leave users out")
        names, index, notes = self._asked_users(users, on_unknown)
        if not len(index) and not notes:
            raise InputError("users: none is given; name some, or leave users out for all of the run")
        few = self.histories.lengths()[index] < 2
        if users is not None and few.any():
            words = f"user {names.filter(pl.Series(few))[0]!r}" if few.sum() == 1 else f"{few.sum()} users"
            if few.all():
                raise InputError(f"{words}: fewer than two events, nothing could drift; ask for others")
            notes = (*notes, f"{words}: fewer than two events, not watched")
        self.notes = notes
        check_names(self.items, self._user_table, by=by, column=column)
        return watch(
            self.histories,
            self.predictor.unit_vectors(),
            self.items,
            self._user_table,
            options,
            by=by,
            chosen=index,
            column=column,
        )

    def monitor(self, options: DriftOptions | None = None) -> Monitor:
        """Watches users for drift as their events arrive, judged by what the users of the run do. Items go by
        their index in `items`.

        monitor = run.monitor(); watching = monitor.update(monitor.init(), at, item)
        """
        options = _checked(options)
        if options.method != "divergence":
            raise InputError(f"a monitor goes by the divergence, not {options.method}; leave the method out")
        vectors = self.predictor.unit_vectors()
        return Monitor(vectors, calibrate(cohorts.of_users(self.histories, vectors), options))

    def half_lives(
        self, *, by: str | None = None, of: Any = None, most: int | None = None, **options: Any
    ) -> pl.DataFrame:
        """What the run has learned: half-lives by head, with intervals; further options of
        `jaxdecay.half_lives.half_lives`.

        Args:
            by: item, user, behaviour, or a column of items or users, each of whose values gets rows (default:
                the item groups of the model). Intervals are of what all share and of the mix of users: what
                is not known of the deviation of a single item or user is not in them.
            of: the only ids or values, or the only one; default: those with the most training events, as
                many as ``most`` (20).
        """
        if "grouping" in options:
            raise InputError("grouping: those of a run go by names; give by, such as item, and perhaps of")
        chosen = self._grouping(by, of, most)
        return half_lives(self.path, grouping=chosen, **options)

    def effective_memory(
        self, *, by: str | None = None, of: Any = None, most: int | None = None
    ) -> pl.DataFrame:
        """How far back lies what a head goes by: head, group, events, days_50, days_90, the ages behind which
        lie 50 and 90 % of the weight. ``by``, ``of`` and ``most`` as in `half_lives`."""
        chosen = self._grouping(by, of, most)
        return effective_memory(self.path, grouping=chosen)

    def _grouping(self, by: str | None, of: Any, most: int | None) -> Grouping | None:
        if by is None and of is not None:
            raise InputError("of names values of by, which is not given; give by, such as item")
        if by is None and most is not None:
            raise InputError("most counts values of by, which is not given; give by, such as item")
        return None if by is None else grouping(self.path, by, of, most=most)


def _checked(options: Any) -> DriftOptions:
    if options is None:
        return DriftOptions()
    if not isinstance(options, DriftOptions):
        raise InputError(
            f"options={options!r}: give a jaxdecay.drift.DriftOptions, such as DriftOptions(fast='4d')"
        )
    return options
