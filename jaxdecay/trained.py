"""A trained run, asked for lists, scores, reasons, drift, similar items and half-lives. Frames in, frames
out, in the ids of the log."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import polars as pl

from jaxdecay import asked, ids, moments, parts, serving, trial
from jaxdecay import update as updates
from jaxdecay.asked import OnUnknown
from jaxdecay.assembly import load_predictor
from jaxdecay.assess import Say
from jaxdecay.data.checks import Nulls
from jaxdecay.data.events import Columns
from jaxdecay.data.times import Unit
from jaxdecay.errors import InputError
from jaxdecay.evaluate import REPEAT_SHARE, Rules
from jaxdecay.expect import whole
from jaxdecay.insight import Insight
from jaxdecay.moments import At
from jaxdecay.protocol import Protocol
from jaxdecay.results import Report
from jaxdecay.steered import Steered, grouped
from jaxdecay.steering import Steering
from jaxdecay.strategies import (
    UNFITTED,
    Mixture,
    Strategies,
    Strategy,
    asked_weights,
    fit_strategies,
    load_strategies,
    needs_fit,
    save_strategies,
    whom,
)

_BLOCK = 8192  # users of one stretch of an answer


class Run(Insight):
    """A trained run, asked for lists, scores and similar items, and for what `jaxdecay.insight.Insight` says.

    Users and items are called by their ids; of a run with hashed ids, by the hashes
    (`jaxdecay.data.anonymise.hash_ids`). ``notes`` says what the last
    call took for granted: the moment it asked for, a time without a zone, users it skipped.

    An instance shows the histories as they were when it was made or last updated through it.
    """

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
        strategy: Strategy | None = None,
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
        strategy: Strategy | None = None,
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
        strategy: Strategy | None = None,
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
            strategy: content, collaborative, factorisation, model or popularity; a mixture of them by weights
                ({"content": 0.7, "popularity": 0.3}); or "policy", which learned them. All but the model
                stand on `fit_policy`. Scores are log-probabilities, and a column served_by has the path
                (cold, lukewarm or warm) and who can tell items apart for this user.
            out: write the answer there as Parquet, part by part in constant memory, and return the path.

        A user for whom fewer than k items are left gets fewer rows (``notes`` counts them). Scores are
        logits: differences within a list are log odds.
        """
        asked.check_on_unknown(on_unknown)
        k = asked.check_k(k, self.histories.items)
        moment = self._moment(at)
        names, index, skipped = self._asked_users(users, on_unknown, popular=True)
        filters = serving.Filters(
            self._seen,
            asked.allowed_items(self.items, allow, deny, where, on_unknown, hint=self._hint("item")),
            self.histories.repeat_share <= REPEAT_SHARE if exclude_seen is None else exclude_seen,
        )
        one, unseen = asked.context_of(self.histories, context)
        _check_steering(steer)
        if steer is not None and steer.group is not None:
            grouped(self.items, steer.group, steer.exposed)  # refused before the model is loaded
        served: list[str] | None = None if strategy is None else []
        system = self.predictor if served is None else self._mixture(strategy, filters, served)
        steered = None if steer is None else Steered(steer, self.items, system, self.histories)

        nothing: list[int] = []

        def block(begin: int) -> pl.DataFrame:
            some = index[begin : begin + _BLOCK]
            when = None if moment.seconds is None else np.full(len(some), moment.seconds)
            requests = asked.requests_at(self.histories, some, when)
            nothing.append(asked.without_past(self.histories, requests))
            alike = one.take(np.zeros(len(some), int))
            if steered is None:
                lists = serving.top_lists(system, requests, alike, filters, k)
            else:
                lists = steered.lists(requests, alike, filters, k)
            who = names[begin : begin + _BLOCK]
            frame = ids.list_frame(who, self.items["item_id"], lists)
            if served is None:
                return frame
            words, served[:] = served[:], []
            return ids.with_words(frame, who, words)

        empty = ids.list_frame(names, self.items["item_id"], ())
        empty = empty if served is None else ids.with_words(empty, names.clear(), [])
        blocks = map(block, range(0, len(index), _BLOCK))
        answer = pl.concat([empty, *blocks]) if out is None else Path(out)
        rows = (
            answer.height if isinstance(answer, pl.DataFrame) else parts.write_parquet(blocks, empty, answer)
        )
        short = asked.shortage(rows, len(index), k)
        if early := sum(nothing):
            who = "1 user" if early == 1 else f"{early} users"
            short = (f"{who} had no event before then: answered like somebody without a history", *short)
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

    def fit_policy(self, *, seed: int = 0, report: Say = lambda line: None) -> pl.DataFrame:
        """Fits what `recommend` needs for a ``strategy``, on the validation events, and keeps it in the run.

        A row for each strategy, for the best mixture that is the same for everybody, and for the policy, over
        all events and over those of each group of users (`jaxdecay.strategies.whom`): strategy, known (all,
        cold, lukewarm or warm), moved (null in rows of all), events, log_likelihood (mean), policy_weight
        (mean), weight in the mixture, half_life_days of the counts.

        See `jaxdecay.strategies.fit.fit_strategies`; ``notes`` say what the policy learned from.
        """
        whole("seed", seed)
        fitted = fit_strategies(load_predictor(self.path), seed=seed, report=report)
        save_strategies(self.path, fitted)
        self.__dict__.pop("_strategies", None)
        self.notes = (f"the policy learned from {fitted.feedback}",)
        return whom.frame(fitted)

    def evaluate(
        self,
        protocol: Protocol | None = None,
        *,
        strategy: Strategy | None = None,
        steer: Steering | None = None,
        report: Say = lambda line: None,
    ) -> Report:
        """How good the run is on held-out events: its model, the same model without decay and the baselines
        (`jaxdecay.assess.assess`) or, with a ``strategy`` or ``steer`` as in `recommend`, such lists beside
        those of the model (`jaxdecay.trial.trial`)."""
        _check_steering(steer)
        return trial.trial(self.path, protocol or Protocol(), strategy=strategy, steer=steer, report=report)

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

    @functools.cached_property
    def _strategies(self) -> Strategies:
        fitted = load_strategies(self.path)  # or refused, before the model is loaded
        return Strategies(self.predictor, fitted)

    def _mixture(self, strategy: Any, filters: serving.Filters, served: list[str]) -> Mixture:
        weights = asked_weights(strategy)
        strategies = self._strategies if needs_fit(weights) else Strategies(self.predictor, UNFITTED)
        applied = Rules(self.histories, filters.seen, filters.exclude_seen)
        return Mixture(strategies, applied, weights, served=served)


def _check_steering(steer: Any) -> None:
    if not isinstance(steer, Steering | None):
        raise InputError(f"steer={steer!r}: give a Steering, such as Steering(trade_off=0.5)")
