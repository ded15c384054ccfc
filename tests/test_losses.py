"""Every loss against sums in float64, and what draws of negatives promise."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import expit, softmax

from jaxdecay import losses
from jaxdecay.data.catalogue import Timeline
from jaxdecay.data.tally import build_tally
from jaxdecay.errors import InputError
from jaxdecay.heads.popularity import popularity
from jaxdecay.losses import Negatives, draw
from jaxdecay.scorer import Excitation, Scorer, SparseScorer

T, V, N, D, G, R = 6, 9, 7, 3, 2, 2  # targets, items, negatives, features, points of time, rates
MOMENTS = np.array([7, 12])  # the points of time, in seconds
HALF_LIVES = (1.0, np.inf)  # in seconds: what is left of an event is a float32, exactly
CALIBRATION = 0.6
LOSSES: dict[str, Callable[..., jax.Array]] = {
    "softmax": jax.jit(losses.softmax),
    "sampled": jax.jit(losses.sampled_softmax),
    "bce": jax.jit(losses.bce),
    "gbce": jax.jit(functools.partial(losses.gbce, calibration=CALIBRATION)),
}
every_loss = pytest.mark.parametrize("name", LOSSES)
DRAWING = [name for name in LOSSES if name != "softmax"]


class Problem(NamedTuple):
    """The arguments of a loss; ``gained`` (T, V) is what the revisit head adds to each item, ``shares``
    (R, G, V) what popularity is made of."""

    query: jax.Array
    grid: jax.Array
    target: jax.Array
    scorer: SparseScorer
    excitation: Excitation
    negatives: Negatives
    gained: np.ndarray
    shares: np.ndarray

    def args(self, name: str) -> tuple[Any, ...]:
        """Those of a loss of this name but for ``excitation`` and ``negatives``."""
        if name == "softmax":
            return self.query, self.grid, self.target, self.dense()
        return self.query, jnp.asarray(MOMENTS, jnp.int32)[self.grid], self.target, self.scorer

    def dense(self) -> Scorer:
        """The scorer at the points of time."""
        targets, bias, _, mixture, exponent, cold, came = self.scorer
        trend = popularity(jnp.asarray(self.shares, bias.dtype), mixture, exponent, cold, items=V)
        made = Scorer(targets, bias, trend)
        if came is None:
            return made
        return made.from_entry(jnp.searchsorted(jnp.asarray(MOMENTS), came, side="right"))

    def loss(self, name: str, *, excited: bool = True, **changes: Any) -> jax.Array:
        made = self._replace(**changes)
        added = made.excitation if excited else None
        return LOSSES[name](*made.args(name), added, negatives=made.negatives)


def problem(seed: int = 0, *, scale: float = 1.0, dtype: Any = np.float32) -> Problem:
    """Items are excited now and then; negatives hold duplicates and accidental hits."""
    random = np.random.default_rng(seed)

    def array(x: Any) -> jax.Array:
        return jnp.asarray(x, dtype)

    def log(gained: np.ndarray) -> jax.Array:
        return array(np.where(gained > 0, np.log(np.where(gained > 0, gained, 1.0)), -1e9))

    target = np.array([0, 1, 2, 3, 8, 8])
    item = np.array([1, 5, 5, 0, 7, 8, 3])
    gained = np.where(random.random((T, V)) < 0.6, random.gamma(1.0, 2.0, (T, V)), 0.0)
    events = Timeline(
        random.integers(0, V, 20, np.int32), np.sort(random.integers(0, MOMENTS[-1], 20)), V, False
    )
    left = np.where(events.time < MOMENTS[:, None], 1.0, 0.0)
    kept = np.stack([left * 2.0 ** -((MOMENTS[:, None] - events.time) / h) for h in HALF_LIVES])
    shares = (kept @ (events.item[:, None] == np.arange(V))) / kept.sum(-1, keepdims=True)
    counted = build_tally(
        events, tuple(h / 86_400 for h in HALF_LIVES), items=V, origin=0, until=int(MOMENTS[-1])
    )
    scorer = SparseScorer(
        array(scale * random.normal(size=(V, D))),
        array(scale * random.normal(size=V)),
        jax.tree.map(lambda x: array(x) if x.dtype == np.float32 else x, counted.replace(search_steps=5)),
        array([softmax(one.normal(size=R + 1)) for one in (random, np.random.default_rng(seed + 100))]),
        array([0.7, 0.4]),
        jnp.asarray(np.arange(V) % 3 == 0, jnp.int32),
    )
    return Problem(
        array(scale * random.normal(size=(T, D))),
        jnp.asarray(random.integers(0, G, T), jnp.int32),
        jnp.asarray(target, jnp.int32),
        scorer,
        Excitation(log(gained[np.arange(T), target]), log(gained.sum(1)), log(gained[:, item])),
        Negatives(jnp.asarray(item, jnp.int32), array(np.log(random.uniform(0.2, 2.0, V))[item])),
        gained,
        shares,
    )


def floats(scorer: SparseScorer) -> dict[str, jax.Array]:
    """What of it has slopes."""
    return {name: getattr(scorer, name) for name in ("targets", "bias", "mixture", "exponent")}


def scores(made: Problem) -> np.ndarray:
    """(T, V) base scores in float64."""
    targets, bias, mixtures, exponents = (np.asarray(x, np.float64) for x in floats(made.scorer).values())
    shares, trend = made.shares, np.zeros((G, V))
    for item, cold in enumerate(made.scorer.cold.tolist()):
        mixed = mixtures[cold][:-1] @ shares[:, :, item] + mixtures[cold][-1] / V
        trend[:, item] = exponents[cold] * np.log(mixed)
    return np.asarray(made.query, np.float64) @ targets.T + bias + trend[np.asarray(made.grid)]


def oracle(name: str, made: Problem, gained: np.ndarray) -> np.ndarray:
    """(T,) losses by their definitions, a target and a negative at a time."""
    found = []
    items, expected = np.asarray(made.negatives.item), np.exp(np.float64(made.negatives.log_expected))
    intensities = np.exp(scores(made))
    if made.scorer.came is not None:
        intensities *= np.asarray(made.scorer.came) < MOMENTS[made.grid][:, None]
    for base, added, y in zip(intensities, gained, np.asarray(made.target), strict=True):
        drawn = [(j, m) for j, m in zip(items, expected, strict=True) if j != y]
        total = base.sum() if name == "softmax" else base[y] + sum(base[j] / m for j, m in drawn)
        if name in ("softmax", "sampled"):
            found.append(-np.log((base[y] / total + added[y]) / (1 + added.sum())))
            continue
        x = np.log(np.maximum(base + total * added, 1e-300))
        alpha, t = N / V, CALIBRATION if name == "gbce" else 0.0
        beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
        wrong = sum(alpha / m * np.log(1 - expit(x[j])) for j, m in drawn)
        found.append(-beta * np.log(expit(x[y])) - wrong)
    return np.array(found)


@every_loss
@pytest.mark.parametrize("excited", [True, False])
def test_values_are_those_of_the_definition(name: str, excited: bool) -> None:
    made = problem()
    expected = oracle(name, made, made.gained if excited else 0 * made.gained)
    found = jax.jit(lambda scorer: made.loss(name, scorer=scorer, excited=excited))
    np.testing.assert_allclose(found(made.scorer), expected, rtol=1e-5)


@pytest.mark.parametrize("name", DRAWING)
def test_a_scorer_of_every_item_gives_the_same(name: str) -> None:
    made = problem()
    args = made.query, made.grid, made.target, made.dense(), made.excitation
    np.testing.assert_allclose(LOSSES[name](*args, negatives=made.negatives), made.loss(name), rtol=1e-5)


@every_loss
def test_what_is_no_candidate_yet_has_no_share_and_no_slope(name: str) -> None:
    made = problem(3)
    made = made._replace(grid=jnp.array([0, 1, 0, 1, 0, 1], jnp.int32))
    came = np.where(np.arange(V) == 7, MOMENTS[1], -1)  # never; 1 and 5 for the second point
    came[[1, 5]] = MOMENTS[0]
    gained = made.gained * (came < MOMENTS[made.grid][:, None])  # nobody took them before
    target, drawn = np.asarray(made.target), np.asarray(made.negatives.item)
    log = jnp.log(jnp.maximum(jnp.asarray(gained, jnp.float32), 1e-30))
    of_all = jnp.asarray(np.log(gained.sum(1)), jnp.float32)
    made = made._replace(
        scorer=made.scorer._replace(came=jnp.asarray(came, jnp.int32)),
        excitation=Excitation(log[np.arange(T), target], of_all, log[:, drawn]),
    )
    expected = oracle(name, made, gained)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(scorer: Any) -> Any:
        values = made.loss(name, scorer=made.scorer._replace(**scorer))
        return values[:1].sum(), values

    (_, found), slope = loss(floats(made.scorer))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    absent = [1, 5, 7]  # for the first target, at the first point
    assert not np.asarray(slope["bias"])[absent].any()
    assert not np.asarray(slope["targets"])[absent].any()
    assert np.asarray(slope["bias"])[[0, 3, 8]].all()


@every_loss
def test_slopes_are_those_of_finite_differences_in_float64(name: str) -> None:
    with jax.enable_x64(True):
        made = problem(1, dtype=np.float64)

        @jax.jit
        def loss(query: Any, scorer: Any, target: Any, total: Any, negatives: Any) -> jax.Array:
            excitation = Excitation(target, total, negatives)
            whole = made.scorer._replace(**scorer)
            return made.loss(name, query=query, scorer=whole, excitation=excitation)

        args = made.query, floats(made.scorer), *made.excitation
        np.testing.assert_allclose(loss(*args), oracle(name, made, made.gained), rtol=1e-12)
        check_grads(loss, args, 1, ["rev"], 1e-5, 1e-5)


@every_loss
def test_targets_that_do_not_count_give_nothing_and_no_slope(name: str) -> None:
    made = problem(2)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(scorer: Any, where: Any, query: Any, excitation: Any) -> Any:
        args = made._replace(query=query, scorer=made.scorer._replace(**scorer)).args(name)
        values = LOSSES[name](*args, excitation, negatives=made.negatives, where=where)
        return values.sum(), values

    where = jnp.array([True, False, True, True, False, False])
    broken = jax.tree.map(
        lambda x: jnp.where(where.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.nan),
        (made.query, made.excitation),
    )
    (_, found), slopes = loss(floats(made.scorer), where, *broken)
    np.testing.assert_allclose(found, np.where(where, made.loss(name), 0.0), rtol=1e-6)
    _, expected = loss(floats(made.scorer), where, made.query, made.excitation)
    jax.tree.map(np.testing.assert_array_equal, slopes, expected)
    assert all(np.asarray(slope).any() for slope in jax.tree.leaves(slopes))
    (_, nothing), slopes = loss(floats(made.scorer), jnp.zeros(T, bool), *broken)
    assert not np.asarray(nothing).any()
    assert not any(np.asarray(slope).any() for slope in jax.tree.leaves(slopes))


@every_loss
def test_no_score_is_too_flat_or_too_steep(name: str) -> None:
    made = problem(3, scale=30.0)
    bias = made.scorer.bias.at[0].set(3e3).at[1].set(-3e3).at[5].set(3e3)
    excitation = made.excitation._replace(target=made.excitation.target.at[4:].set(-1e9))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(query: Any, bias: Any) -> Any:
        scorer = made.scorer._replace(bias=bias)
        values = made.loss(name, query=query, scorer=scorer, excitation=excitation)
        return values.sum(), values

    for some in (bias, bias.at[8].set(-3e3)):
        (_, values), slopes = loss(made.query, some)
        assert np.isfinite(values).all()
        assert np.isfinite(slopes).all()
    assert np.max(values) > 1e3


@every_loss
def test_compiled_and_mapped_are_one_by_one(name: str) -> None:
    both = [problem(4), problem(5)]
    stacked = [jnp.stack(x) for x in zip(*map(jax.tree.leaves, both), strict=True)]

    def loss(leaves: Any) -> jax.Array:
        made: Problem = jax.tree.unflatten(jax.tree.structure(both[0]), leaves)
        return made.loss(name)

    together = jax.jit(jax.vmap(loss))(stacked)
    for found, made in zip(together, both, strict=True):
        np.testing.assert_allclose(found, made.loss(name), rtol=1e-5)


@pytest.mark.parametrize("name", DRAWING)
def test_without_what_it_needs_a_loss_says_so(name: str) -> None:
    made = problem()
    with pytest.raises(InputError, match="negatives=None"):
        LOSSES[name](*made.args(name), made.excitation)
    if name != "sampled":
        with pytest.raises(InputError, match=r"excitation\.negatives=None"):
            made.loss(name, excitation=Excitation(*made.excitation[:2]))


def all_items(dtype: Any = np.float32) -> Negatives:
    order = np.random.default_rng(6).permutation(V)
    return Negatives(jnp.asarray(order, jnp.int32), jnp.zeros(V, dtype))


def test_every_item_as_a_negative_is_the_full_softmax() -> None:
    made = problem(6)
    found = made.loss("sampled", negatives=all_items())
    np.testing.assert_allclose(found, made.loss("softmax"), rtol=1e-5, atol=1e-6)


def test_an_item_drawn_twice_counts_twice() -> None:
    made = problem(7)
    twice = Negatives(jnp.array([5, 5], jnp.int32), jnp.full(2, jnp.log(0.6)))
    once = Negatives(jnp.array([5], jnp.int32), jnp.full(1, jnp.log(0.3)))
    found = made.loss("sampled", negatives=twice)
    np.testing.assert_allclose(found, made.loss("sampled", negatives=once), rtol=1e-5)


TAKEN = np.array([40, 0, 7, 1, 3, 90, 12, 5, 22])  # of each item in training


@functools.cache
def many_draws(uniform: float, count: int = 16, times: int = 4_000) -> Negatives:
    """(times, count) negatives."""
    cumulative = jnp.asarray(np.cumsum(TAKEN), jnp.int32)
    keys = jax.random.split(jax.random.key(8), times)
    return jax.jit(jax.vmap(lambda key: draw(key, cumulative, count, uniform=uniform)))(keys)


@pytest.mark.parametrize("uniform", [0.0, 0.3, 1.0])
def test_items_are_drawn_as_often_as_expected(uniform: float) -> None:
    drawn = many_draws(uniform)
    times, count = drawn.item.shape
    evenly = round(uniform * count)
    expected = evenly / V + (count - evenly) * TAKEN / TAKEN.sum()
    np.testing.assert_allclose(drawn.log_expected, np.log(expected[drawn.item]), rtol=1e-5, atol=1e-6)
    assert expected.sum() == pytest.approx(count)
    found = np.bincount(np.ravel(drawn.item), minlength=V)
    error = np.sqrt(times * expected)  # a sum of independent draws varies no more than a Poisson count
    assert (np.abs(found - times * expected) <= 4.5 * error).all()
    assert (found[1] == 0) == (uniform == 0)
    within = np.bincount(np.ravel(drawn.item[:, :evenly]), minlength=V)
    assert (np.abs(within - times * evenly / V) <= 4.5 * np.sqrt(times * evenly / V)).all()


def test_draws_are_independent_of_each_other_and_a_function_of_the_key() -> None:
    drawn = np.asarray(many_draws(0.0).item)
    first, last = drawn[:, 0] == 5, drawn[:, -1] == 5
    together = np.mean(first & last) - np.mean(first) * np.mean(last)
    assert abs(together) < 4.5 * 0.25 / np.sqrt(len(drawn))
    again = draw(jax.random.split(jax.random.key(8), 4_000)[7], jnp.cumsum(TAKEN), 16, uniform=0.0)
    np.testing.assert_array_equal(again.item, drawn[7])


def over_draws(name: str, made: Problem, uniform: float) -> np.ndarray:
    """(times, T) losses without a revisit head."""
    loss = jax.jit(jax.vmap(lambda drawn: made.loss(name, excited=False, negatives=drawn)))
    return np.asarray(loss(many_draws(uniform)), np.float64)


def assert_mean(values: np.ndarray, expected: np.ndarray) -> None:
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert (error < 0.02 * expected).all()
    assert (np.abs(values.mean(axis=0) - expected) < 4.5 * error).all()


@pytest.mark.parametrize("uniform", [0.3, 1.0])
def test_the_sampled_normaliser_is_unbiased_for_every_target(uniform: float) -> None:
    made = problem(8)
    base = scores(made)
    own = base[np.arange(T), np.asarray(made.target)]
    assert_mean(np.exp(over_draws("sampled", made, uniform) + own), np.exp(base).sum(1))


@pytest.mark.parametrize("uniform", [0.3, 1.0])
def test_a_binary_loss_is_on_average_that_of_uniform_draws(uniform: float) -> None:
    made = problem(9)
    base, target = scores(made), np.asarray(made.target)
    wrong = np.where(np.arange(V) == target[:, None], 0.0, np.log1p(np.exp(base))).sum(1)
    expected = np.log1p(np.exp(-base[np.arange(T), target])) + 16 / V * wrong
    assert_mean(over_draws("bce", made, uniform), expected)


def test_more_negatives_bring_the_sampled_softmax_to_the_full_one() -> None:
    made = problem(10)
    whole = made.loss("softmax")

    def error(count: int) -> float:
        drawn = many_draws(0.5, count, 64)
        found = jax.vmap(lambda drawn: made.loss("sampled", negatives=drawn))(drawn)
        return float(np.sqrt(np.square(found - whole[None]).mean()))

    # the loss moves by at most as much as the logarithm of the normaliser, which is a mean of draws
    expected = 0.5 / V + 0.5 * TAKEN / TAKEN.sum()
    drawn = np.where(np.arange(V) == np.asarray(made.target)[:, None], 0.0, np.exp(scores(made))) / expected
    evenly, taken = drawn.var(1), (np.square(drawn) * TAKEN).sum(1) / TAKEN.sum()
    taken -= np.square((drawn * TAKEN).sum(1) / TAKEN.sum())
    relative = (evenly + taken) / 2 / np.square(np.exp(scores(made)).sum(1))
    assert error(4_096) < error(64) / 4  # falls with the square root: to an eighth
    assert error(4_096) < 1.3 * np.sqrt(relative.mean() / 4_096)


@pytest.mark.parametrize("calibration", [0.0, 0.5, 1.0])
def test_gbce_is_best_where_its_paper_says(calibration: float) -> None:
    """One uniform negative, all cases enumerated: the best odds are beta / alpha p / (1 - p), with
    calibration 1 those of the probability itself."""
    p, alpha = np.random.default_rng(12).dirichlet(np.ones(V)), 1 / V
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    best = jnp.asarray(np.log(beta / alpha * p / (1 - p)), jnp.float32)
    zero = jnp.zeros(V, jnp.int32)

    def expected(bias: jax.Array) -> jax.Array:
        def of_negative(item: jax.Array) -> jax.Array:
            drawn = Negatives(item[None], jnp.full(1, jnp.log(alpha)))
            scorer = Scorer(jnp.zeros((V, 1)), bias, jnp.zeros((1, V)))
            query, target = jnp.zeros((V, 1)), jnp.arange(V, dtype=jnp.int32)
            values = losses.gbce(query, zero, target, scorer, negatives=drawn, calibration=calibration)
            return (jnp.asarray(p, jnp.float32) * values).sum()

        return jax.vmap(of_negative)(jnp.arange(V, dtype=jnp.int32)).mean()

    slope = jax.jit(jax.grad(expected))
    np.testing.assert_allclose(slope(best), np.zeros(V), atol=1e-6)
    assert np.abs(slope(best + 0.1)).min() > 1e-6
