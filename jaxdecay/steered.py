"""Lists that are steered: from scores to a pool of candidates, and from there to what `Steering` asks for."""

import secrets
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import polars as pl

from jaxdecay import explore, exposure, serving
from jaxdecay.columns import coded
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.names import listed, perhaps
from jaxdecay.pools import candidates, fitting
from jaxdecay.predict import Context, Predictor
from jaxdecay.rank import top_k
from jaxdecay.react import Reacting
from jaxdecay.rerank import rerank
from jaxdecay.steering import POOL, Steering
from jaxdecay.strategies import Mixture


class Steered:
    """Makes lists as asked, for the items of a run."""

    def __init__(
        self, steering: Steering, items: pl.DataFrame, system: Predictor | Mixture, histories: Histories
    ) -> None:
        """``items``: the table of items. ``system``: the model, or strategies. ``histories``: as they were
        split for training, which tell how much is known of each user. Raises InputError for a column, value
        or head that there is not, and for strategies that do not read what is to be moved."""
        self.steering = steering
        predictor = system.strategies.predictor if isinstance(system, Mixture) else system
        self._group: np.ndarray | None = None
        self._chosen: np.ndarray | None = None
        if steering.group is not None:
            self._group, self._chosen = grouped(items, steering.group, steering.exposed)
        self._seed = secrets.randbelow(2**32) if steering.seed is None else steering.seed
        self._system: serving.Scoring = system
        self._reacting = Reacting(predictor, steering.react) if steering.react else None
        if self._reacting is not None:
            self._system = _read_by(system, self._reacting, f"react={steering.react:g}")
        if steering.explore == "thompson":
            known = histories.user()[histories.part == 0]
            events = np.bincount(known, minlength=predictor.model.spec.users)
            drawn = explore.thompson(predictor, events, self._seed)
            self._system = _read_by(system, drawn, "explore='thompson'")
        diverse = steering.trade_off < 1
        vectors = predictor.unit_vectors() if diverse else np.zeros((len(items), 1), np.float32)
        self._vectors = jnp.asarray(vectors)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was drawn, and for how many was reacted."""
        said = []
        if self.steering.explore != "none":
            said.append(f"explored by {self.steering.explore}, seed {self._seed}")
        if (one := self._reacting) is not None:
            said.append(f"drift: for {one.alarmed} of {one.asked} users what came lately counts for more")
        return tuple(said)

    def lists(
        self, requests: Requests, context: Context, filters: serving.Filters, k: int
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """As `jaxdecay.serving.top_lists`, but for the order; scores are those of the model or strategies.

        Raises InputError, with what can be had instead, for a share of the exposure that cannot be met.
        """
        scored = serving.scored(self._system, requests, context, filters)
        steered = (
            (chunk, scores, self.moved(asked, scores), excluded) for chunk, asked, scores, excluded in scored
        )
        if self.steering.over == "all":
            yield from self._together(steered, k)
            return
        for chunk, scores, moved, excluded in steered:
            items = self.one_by_one(moved, excluded, k)
            yield chunk, items, _scores_of(items, scores)

    def moved(self, asked: Requests, scores: np.ndarray) -> np.ndarray:
        """What the lists are ordered by before they are reranked."""
        steering = self.steering
        if steering.explore != "temperature":
            return scores
        temperature = 1.0 if steering.temperature is None else steering.temperature
        return explore.perturbed(scores, asked, temperature, self._seed)

    def one_by_one(self, scores: np.ndarray, excluded: np.ndarray | None, k: int) -> np.ndarray:
        """(R, k) items of lists of which each keeps to the bounds itself, from (R, V) scores.

        A pool that cannot fill its list within the bounds is widened until it can, or is all there is. Raises
        InputError for a share of the exposure that cannot be met.
        """
        steering = self.steering
        if steering.trade_off == 1 and self._group is None:
            return top_k(scores, k, excluded=excluded)[0]
        found = np.full((len(scores), k), -1, np.int32)
        # Where a cap leaves room for fewer than k items, no pool will fill a list.
        everything = fitting(np.arange(scores.shape[1])[None], self._group, steering.cap, self._chosen)
        full = min(k, int(everything.sum()))
        rows, size = np.arange(len(scores)), max(steering.pool or POOL, k)
        while len(rows):
            mask = None if excluded is None else excluded[rows]
            pool, best, whole = candidates(scores[rows], mask, size, k, self._chosen)
            left = fitting(pool, self._group, steering.cap, self._chosen)
            length = np.minimum(left.sum(axis=1), k)
            met = self._met(length, left)
            ready = whole | ((length == full) & met)
            if (whole & ~met).any():
                self._refuse(length[whole & ~met], left[whole & ~met])
            for n in np.unique(length[ready & (length > 0)]):
                some = np.flatnonzero(ready & (length == n))
                found[rows[some], :n] = self._listed(pool[some], best[some], int(n), left[some])
            rows, size = rows[~ready], size * 4
        return found

    def _listed(self, pool: np.ndarray, best: np.ndarray, n: int, left: np.ndarray) -> np.ndarray:
        """(r, n) items."""
        steering = self.steering
        places = rerank(
            pool,
            best,
            self._vectors,
            n,
            trade_off=steering.trade_off,
            diversity=steering.diversity or "mmr",
            group=self._group,
            cap=steering.cap,
            chosen=self._chosen,
            reach=self._reach(n),
            left=None if self._chosen is None else left,
        )
        return np.take_along_axis(pool, places, axis=1)

    def _reach(self, n: int) -> exposure.Reach | None:
        if self._chosen is None:
            return None
        return exposure.completions(n, self.steering.least, self.steering.most)

    def _met(self, length: np.ndarray, left: np.ndarray) -> np.ndarray:
        """(r,) whether a list of each length can keep to the bounds of the exposure."""
        met = np.ones(len(length), bool)
        for n in np.unique(length[length > 0]):
            reach, some = self._reach(int(n)), length == n
            if reach is not None:
                met[some] = exposure.feasible(reach, left[some, 0], left[some, 1])
        return met

    def _refuse(self, length: np.ndarray, left: np.ndarray) -> None:
        steering = self.steering
        different = np.unique(np.column_stack([length, np.minimum(left, length[:, None])]), axis=0)
        bounds = steering.least, steering.most
        values = [exposure.nearest(places, *bounds, *counts) for places, *counts in different.tolist()]
        one = "1 list" if len(length) == 1 else f"{len(length)} lists"
        self._unreachable(one, min(values), max(values))

    def _unreachable(self, what: str, low: float, high: float) -> None:
        steering = self.steering
        name, value = ("least", low) if low < steering.least else ("most", high)
        if name == "least" and not value:
            raise InputError(
                f"{what} cannot give {listed(steering.exposed)} any of the exposure: none of its items may "
                "be listed there; let other items be listed"
            )
        raise InputError(
            f"{what} cannot give {listed(steering.exposed)} at {name} {getattr(steering, name):g} of the "
            f"exposure; at {name} {value:.4g} can be had: ask for that, or let other items be listed"
        )

    def _together(
        self, steered: Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray | None]], k: int
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Lists that keep to the bounds together; an empty one has no exposure to share."""
        assert self._chosen is not None
        pools, bests, scores = [], [], []
        for _, plain, moved, excluded in steered:
            pool, best, _ = candidates(moved, excluded, 2 * k, k, self._chosen)
            pools.append(pool)
            bests.append(best)
            scores.append(_scores_of(pool, plain))
        if not pools:
            return
        pool, best, score = np.concatenate(pools), np.concatenate(bests), np.concatenate(scores)
        own = self._chosen[pool] & (pool >= 0)
        least, most = self.steering.least, self.steering.most
        order, share = exposure.together(best, own, k, least, most)
        if share < least - 1e-9 or share > most + 1e-9:
            low, high = np.floor(share * 1e4) / 1e4, np.ceil(share * 1e4) / 1e4
            self._unreachable(f"{len(pool)} lists together", float(low), float(high))
        yield (
            slice(0, len(pool)),
            np.take_along_axis(pool, order, axis=1),
            np.take_along_axis(score, order, axis=1),
        )


def _read_by(system: Predictor | Mixture, reader: Predictor | Reacting, what: str) -> serving.Scoring:
    """The system with other read weights; ``what`` moves them."""
    return system.read_by(reader, what) if isinstance(system, Mixture) else reader


def grouped(
    items: pl.DataFrame, column: str, values: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray | None]:
    """(V,) int32 code of each item's group by a column, -1 where it has no value; and (V,) bool, which items
    have one of ``values``, or None for no values. Raises InputError for a column or value that is not there.
    """
    names, of = coded(items, column, f"group={column!r}")
    for value in values:
        if value not in names:
            raise InputError(f"exposed {value!r}, column {column!r}: {perhaps(value, names)}")
    chosen = np.isin(of, [names.index(value) for value in values]) if values else None
    return of.astype(np.int32), chosen


def _scores_of(items: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(R, k) float32 of items listed, -inf where there is none."""
    found = np.take_along_axis(scores, np.maximum(items, 0), axis=1)
    return np.where(items >= 0, found, np.float32(-np.inf))
