"""A trained run, asked for lists, scores, reasons, drift, similar items and half-lives. Frames in, frames
out, in the ids of the log."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import polars as pl

from jaxdecay import asked, ids, moments, parts, runs, serving
from jaxdecay import update as updates
from jaxdecay.asked import OnUnknown
from jaxdecay.assembly import load_predictor
from jaxdecay.counterfactuals import Changes, counterfactuals
from jaxdecay.data.checks import Nulls
from jaxdecay.data.events import Columns
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.data.times import Unit
from jaxdecay.drift import DriftOptions
from jaxdecay.errors import InputError
from jaxdecay.evaluate import REPEAT_SHARE
from jaxdecay.explain import Explanation, explain
from jaxdecay.generations import newest
from jaxdecay.groupings import grouping
from jaxdecay.moments import At
from jaxdecay.predict import Context, Predictor
from jaxdecay.steered import Steered
from jaxdecay.steering import Steering
from jaxdecay.watch import Watched, watch

_BLOCK = 8192  # users of one stretch of an answer


class Run:
    """A trained run, asked for lists, scores, reasons, similar items and half-lives.

    Users and items are called by their ids; of a run with hashed ids, by the hashes
    (`jaxdecay.data.anonymise.hash_ids`). ``notes`` says what the last
    call took for granted: the moment it asked for, a time without a zone, users it skipped.

    An instance shows the histories as they were when it was made or last updated through it.
    """

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
        for name in ("items", "predictor", "_seen"):
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
    def _seen(self) -> np.ndarray | None:
        return serving.seen_since(serving.all_known(self.histories))

    @overload
    def recommend(
        self,
        users: Any = None,
        k: int = 10,
        at: At | None = None,
        *,
        exclude_seen: bool | None = None,
        allow: Any = None,
        deny: Any = None,
        where: pl.Expr | str | None = None,
        on_unknown: OnUnknown = "raise",
        context: Mapping[str, Any] | None = None,
        steer: Steering | None = None,
        out: None = None,
    ) -> pl.DataFrame: ...
    @overload
    def recommend(
        self,
        users: Any = None,
        k: int = 10,
        at: At | None = None,
        *,
        exclude_seen: bool | None = None,
        allow: Any = None,
        deny: Any = None,
        where: pl.Expr | str | None = None,
        on_unknown: OnUnknown = "raise",
        context: Mapping[str, Any] | None = None,
        steer: Steering | None = None,
        out: str | Path,
    ) -> Path: ...
    def recommend(
        self,
        users: Any = None,
        k: int = 10,
        at: At | None = None,
        *,
        exclude_seen: bool | None = None,
        allow: Any = None,
        deny: Any = None,
        where: pl.Expr | str | None = None,
        on_unknown: OnUnknown = "raise",
        context: Mapping[str, Any] | None = None,
        steer: Steering | None = None,
        out: str | Path | None = None,
    ) -> pl.DataFrame | Path:
        """The k best items of each user at a moment: user_id, item_id, score, rank (from 1), users in the
        order asked for.

        Args:
            users: ids, each answered once; None for all users of the run.
            at: when (ISO 8601, date, datetime or whole seconds; UTC where no zone is given). Default: now, or
                with relative times right after each user's last event. Only events strictly before ``at`` are
                visible, and only items seen before it are listed.
            exclude_seen: leave out what the user already had; default: unless more than 5 % of the training
                events are repeats.
            allow, deny: item ids that alone, or that never, may be listed. where: a Polars expression (or SQL
                text) over the item columns.
            on_unknown: of users and items never seen. raise: InputError names them. skip: as if not asked
                for. popular: such users get the list of somebody without a history
                (user_id is text then, if one of them cannot be of the log's type).
            context: context columns of the request by name; those not given are missing.
            steer: what lists are to be besides their best scores: diverse, of few items of a group, with a
                share of the exposure for one, or drawn (the seed is in ``notes``). Then ranks do not follow
                scores.
            out: write the answer there as Parquet, part by part in constant memory, and return the path.

        A user for whom fewer than k items are left gets fewer rows (``notes`` counts them). Scores are
        logits: differences within a list are log odds.
        """
        asked.check_on_unknown(on_unknown)
        k = asked.check_k(k, self.histories.items)
        moment = self._moment(at)
        names, index, skipped = self._asked_users(users, on_unknown)
        filters = serving.Filters(
            self._seen,
            asked.allowed_items(self.items, allow, deny, where, on_unknown, hint=self._hint("item")),
            self.histories.repeat_share <= REPEAT_SHARE if exclude_seen is None else exclude_seen,
        )
        one, unseen = asked.context_of(self.histories, context)
        steered = None if steer is None else Steered(steer, self.items, self.predictor, self.histories)

        def block(begin: int) -> pl.DataFrame:
            some = index[begin : begin + _BLOCK]
            when = None if moment.seconds is None else np.full(len(some), moment.seconds)
            requests = asked.requests_at(self.histories, some, when)
            alike = one.take(np.zeros(len(some), int))
            if steered is None:
                lists = serving.top_lists(self.predictor, requests, alike, filters, k)
            else:
                lists = steered.lists(requests, alike, filters, k)
            return ids.list_frame(names[begin : begin + _BLOCK], self.items["item_id"], lists)

        empty = ids.list_frame(names, self.items["item_id"], ())
        blocks = map(block, range(0, len(index), _BLOCK))
        answer = pl.concat([empty, *blocks]) if out is None else Path(out)
        rows = (
            answer.height if isinstance(answer, pl.DataFrame) else parts.write_parquet(blocks, empty, answer)
        )
        short = asked.shortage(rows, len(index), k)
        self.notes = (*moment.notes, *unseen, *skipped, *(steered.notes if steered else ()), *short)
        return answer

    def similar(
        self,
        items: Any,
        k: int = 10,
        *,
        allow: Any = None,
        deny: Any = None,
        where: pl.Expr | str | None = None,
        on_unknown: Literal["raise", "skip"] = "raise",
    ) -> pl.DataFrame:
        """The k items nearest to each of ``items`` by the cosine of their learned vectors: item_id,
        similar_id, score, rank.

        ``allow``, ``deny`` and ``where`` are those of `recommend`; ``on_unknown`` is, too, but for "popular".
        An item of which the model knows nothing (new, and without columns) is near to none and gets no rows;
        ``notes`` counts the places left empty.
        """
        asked.check_on_unknown(on_unknown, users=False)
        k = asked.check_k(k, self.histories.items - 1, "there are {} other items")
        known, hint = self.items["item_id"], self._hint("item")
        names, index, skipped = asked.found(items, known, on_unknown, hint=hint)
        allowed = asked.allowed_items(self.items, allow, deny, where, on_unknown, hint=hint)
        lists = serving.most_similar(self.predictor.unit_vectors(), index, allowed, k)
        answer = ids.list_frame(names, known.alias("similar_id"), lists)
        self.notes = (*skipped, *asked.shortage(answer.height, len(index), k))
        return answer

    def score(
        self,
        pairs: Any,
        at: At | None = None,
        *,
        on_unknown: OnUnknown = "raise",
        context: Mapping[str, Any] | None = None,
    ) -> pl.DataFrame:
        """The pairs (a frame or a path: user_id, item_id, optionally at) with a column score (Float32), on
        the scale of `recommend`.

        ``at``: the moment of all pairs, where they have no column of that name. ``on_unknown``: raise; skip
        leaves out pairs of users or items never seen; popular takes unknown users as ones without a history
        (unknown items are refused).
        """
        asked.check_on_unknown(on_unknown)
        frame, name = asked.read_pairs(pairs)
        known = {"user": self.users, "item": self.items["item_id"]}
        names = {kind: ids.typed(frame[f"{kind}_id"], ids_) for kind, ids_ in known.items()}
        index = {kind: ids.find(names[kind], ids_) for kind, ids_ in known.items()}
        for kind, found in index.items():
            if on_unknown == "raise" or (on_unknown == "popular" and kind == "item"):
                remedy = "leave its pairs out, or say on_unknown='skip'"
                ids.refuse_unknown(names[kind], found, remedy, known=known[kind], hint=self._hint(kind))
        if "at" in frame.columns:
            when, notes = moments.moments(
                frame["at"], where=f"{name}: column 'at'", clock=self.histories.clock
            )
        else:
            moment = self._moment(at)
            when, notes = moment.seconds, moment.notes
        if on_unknown == "skip":
            stay = (index["user"] >= 0) & (index["item"] >= 0)
            notes += (
                (f"{int((~stay).sum())} pairs of users or items never seen are left out",)
                if not stay.all()
                else ()
            )
            frame, index = (
                frame.filter(pl.Series(stay, dtype=pl.Boolean)),
                {kind: found[stay] for kind, found in index.items()},
            )
            when = when[stay] if isinstance(when, np.ndarray) else when
        requests, row = asked.unique_requests(self.histories, index["user"], when)
        one, unseen = asked.context_of(self.histories, context)
        contexts = one.take(np.zeros(len(requests), int))
        values = serving.pair_scores(self.predictor, requests, contexts, row, index["item"])
        self.notes = (*notes, *unseen)
        return frame.with_columns(pl.Series("score", values, dtype=pl.Float32))

    def explain(
        self, user: Any, item: Any, at: At | None = None, *, context: Mapping[str, Any] | None = None
    ) -> Explanation:
        """Why the item has the score that it has for the user at a moment (``at`` and ``context`` as in
        `recommend`): what each past event adds. Raises InputError where no event came before.

        run.explain("u1", "i9", at="2026-11-22T18:00:00Z").sentence()
        """
        requests, index, one, names = self._one_request(user, item, at, context)
        behaviours = self.histories.config["behaviours"]
        return explain(self.predictor, requests, index, self.items, behaviours, user=names[0], context=one)

    def what_if(
        self,
        user: Any,
        item: Any,
        at: At | None = None,
        *,
        without: Sequence[int] = (),
        later: Sequence[str] = (),
        having: Any = (),
        behaviour: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> pl.DataFrame:
        """How the score of the item and its rank among all items would be otherwise: change, score,
        difference, rank; a row for what is, and one for each change alone.

        Args:
            without: numbers of events that had not been; 1 is the latest (`explain` has them all).
            later: durations such as 30d by which the request came later, nothing having happened since.
            having: ids of items that had been taken right before the request. behaviour: how; by default as
                in most events.
        """
        requests, index, one, _ = self._one_request(user, item, at, context)
        taken = asked.found(having, self.items["item_id"], "raise", hint=self._hint("item"))[1]
        kind = asked.behaviour_of(self.histories, behaviour)
        changes = Changes(without, later, taken.tolist(), kind)
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
        asked.check_on_unknown(on_unknown, users=False)
        if users is not None and by != "user":
            raise InputError(f"drift by {by!r} is of all users; leave users out")
        _, index, self.notes = self._asked_users(users, on_unknown)
        return watch(
            self.histories,
            self.predictor.unit_vectors(),
            self.items,
            self._user_table,
            options or DriftOptions(),
            by=by,
            chosen=index,
            column=column,
        )

    def half_lives(
        self, *, by: str | None = None, of: Sequence[Any] | None = None, most: int = 20, **options: Any
    ) -> pl.DataFrame:
        """What the run has learned: half-lives by head, with intervals; further options of
        `jaxdecay.half_lives.half_lives`.

        Args:
            by: item, user, behaviour, or a column of items or users, each of whose values gets rows (default:
                the item groups of the model). Intervals are of what all share and of the mix of users: what
                is not known of the deviation of a single item or user is not in them.
            of: the only ids or values; default: those with the most training events, as many as ``most``.
        """
        from jaxdecay.half_lives import half_lives

        chosen = None if by is None else grouping(self.path, by, of, most=most)
        return half_lives(self.path, grouping=chosen, **options)

    def effective_memory(
        self, *, by: str | None = None, of: Sequence[Any] | None = None, most: int = 20
    ) -> pl.DataFrame:
        """How far back lies what a head goes by: head, group, events, days_50, days_90, the ages behind which
        lie 50 and 90 % of the weight. ``by``, ``of`` and ``most`` as in `half_lives`."""
        from jaxdecay.half_lives import effective_memory

        chosen = None if by is None else grouping(self.path, by, of, most=most)
        return effective_memory(self.path, grouping=chosen)

    def update(
        self,
        events: Any,
        *,
        items: Any = None,
        users: Any = None,
        columns: Columns | None = None,
        unit: Unit | None = None,
        salt: Path | None = None,
        nulls: Nulls | None = None,
    ) -> dict[str, Any]:
        """Adds new events, of known and unknown users and items, without retraining; see
        `jaxdecay.update.update`. Returns its report."""
        report = updates.update(
            self.path, events, items=items, users=users, columns=columns, unit=unit, salt=salt, nulls=nulls
        )
        self.notes = (*report["read"]["assumed"], *report["warnings"])
        self._open()
        return report

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
        self, user: Any, item: Any, at: At | None, context: Mapping[str, Any] | None
    ) -> tuple[Requests, int, Context, pl.Series]:
        """A request of a user with a past, the index of an item, the context, and the user's id."""
        moment = self._moment(at)
        names, index, _ = asked.found([user], self.users, "raise", hint=self._hint("user"))
        known, hint = self.items["item_id"], self._hint("item")
        asked_for = int(asked.found([item], known, "raise", hint=hint)[1][0])
        when = None if moment.seconds is None else np.array([moment.seconds])
        requests = asked.requests_at(self.histories, index, when)
        asked.refuse_empty(self.histories, requests, names[0])
        one, unseen = asked.context_of(self.histories, context)
        self.notes = (*moment.notes, *unseen)
        return requests, asked_for, one, names

    def _asked_users(
        self, users: Any, on_unknown: OnUnknown
    ) -> tuple[pl.Series, np.ndarray, tuple[str, ...]]:
        if users is None:
            return self.users, np.arange(self.histories.users), ()
        return asked.found(users, self.users, on_unknown, hint=self._hint("user"))

    def _hint(self, kind: str) -> str:
        return asked.hashed(self.histories, kind, self._directory / f"{kind}s.parquet")
