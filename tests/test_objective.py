"""The loss of a batch: what a model and drawn negatives make of it, and how large its pieces are."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from scipy.special import expit
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import assembly, losses
from jaxdecay.assembly import Pieces
from jaxdecay.data.requests import requests
from jaxdecay.errors import InputError
from jaxdecay.evaluate import rules
from jaxdecay.model import Interest
from jaxdecay.objective import Objective, batch_log_likelihood, batch_loss, hidden
from jaxdecay.train import TrainOptions, init_state, make_train_step

GBCE = Objective("gbce", 6, 0.5, 0.4, 3)
batch_losses = jax.jit(batch_loss, static_argnums=(0, 4))


def parts(made: Pieces, params: Any, batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """(B, W, V) base scores and intensities added by the revisit head, by asking for every item as the
    target."""
    constants = made.constants
    scorer, written = toys.call(made.model, Interest.scorer, params, constants.items, constants.shares)

    @jax.jit
    @jax.vmap
    def read(item: Any) -> Any:
        def user(history: Any, requests: Any, target: Any) -> Any:
            target = jnp.broadcast_to(item, target.shape)
            return made.model.apply({"params": params}, history, requests, target, constants.items, written)

        return jax.vmap(user)(batch.history, batch.requests, batch.target)

    found = read(jnp.arange(made.model.spec.items, dtype=jnp.int32))
    query, targets = (np.asarray(x, np.float64) for x in (found.query[0], scorer.targets))
    base = query @ targets.T + np.asarray(scorer.bias) + np.asarray(scorer.popularity)[batch.grid]
    return base, np.moveaxis(np.exp(np.float64(found.excitation.target)), 0, -1)


@pytest.mark.parametrize("loss", ["sampled-softmax", "gbce"])
def test_each_loss_reads_scores_and_counts_of_the_negatives_drawn(loss: Any) -> None:
    made, params = toys.everything()
    objective, batch = GBCE._replace(loss=loss), made.batches[0]
    found = batch_losses(made.model, params, batch, made.constants, objective, jnp.int32(5))
    key = jax.random.split(jax.random.fold_in(jax.random.key(3), 5), 3)[0]
    drawn = losses.draw(key, made.constants.taken, 6, uniform=0.5)
    base, added = parts(made, params, batch)
    own = np.asarray(batch.target)[..., None]
    base_own, added_own = (np.take_along_axis(x, own, -1)[..., 0] for x in (base, added))
    base_drawn, others = base[..., drawn.item], added[..., drawn.item]
    assert others[np.asarray(batch.valid)].max() > 0.1
    once = np.where(np.asarray(drawn.item) == own, 0.0, np.exp(-np.float64(drawn.log_expected)))
    partition = np.exp(base_own) + (once * np.exp(base_drawn)).sum(-1)
    if loss == "sampled-softmax":
        expected = np.log1p(added.sum(-1)) - np.log(np.exp(base_own) / partition + added_own)
    else:
        items = made.model.spec.items
        beta = 1 - 0.4 * (1 - 6 / items)
        right = expit(np.log(np.exp(base_own) + partition * added_own))
        wrong = expit(np.log(np.exp(base_drawn) + partition[..., None] * others))
        expected = -beta * np.log(right) - 6 / items * (once * np.log1p(-wrong)).sum(-1)
    np.testing.assert_allclose(found, np.where(batch.valid, expected, 0.0), rtol=2e-4, atol=1e-5)


def test_satiation_reaches_negatives_too() -> None:
    histories = toys.log((9, 9), items=5)
    made = toys.pieces(histories, toys.bare(histories, behaviours=2, recovery=2.0), window=16)
    params, constants, batch = toys.random_params(made), made.constants, made.batches[0]
    _, added = parts(made, params, batch)
    written = toys.call(made.model, Interest.scorer, params, constants.items, constants.shares)[1]
    items = jnp.array([3, 0, 4, 4, 1, 2], jnp.int32)

    def user(history: Any, requests: Any, target: Any) -> Any:
        args = (history, requests, target, constants.items, written, items)
        read: Any = made.model.apply({"params": params}, *args)
        return read.excitation.negatives

    found = jax.jit(jax.vmap(user))(batch.history, batch.requests, batch.target)
    valid = np.asarray(batch.valid)
    np.testing.assert_allclose(np.exp(np.float64(found))[valid], added[valid][:, items], rtol=1e-4)


def test_negatives_differ_from_step_to_step_and_not_from_call_to_call() -> None:
    made, params = toys.everything()
    args = made.model, params, made.batches[0], made.constants, GBCE
    one, again, other = (np.asarray(batch_losses(*args, jnp.int32(step))) for step in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def sizes(jaxpr: Any) -> set[tuple[int, ...]]:
    """Shapes of everything that is computed on the way, calls inside calls included."""
    found = set()
    for equation in jaxpr.eqns:
        found |= {tuple(out.aval.shape) for out in equation.outvars if hasattr(out.aval, "shape")}
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found |= sizes(inner)
    return found


@pytest.mark.parametrize(("loss", "dense"), [("softmax", True), ("sampled-softmax", False), ("bce", False)])
def test_losses_on_negatives_compute_nothing_for_all_items_but_their_vectors(loss: Any, dense: bool) -> None:
    items = 211
    histories = toys.log((120, 100), items=items)
    made = toys.pieces(histories, toys.spec(histories), window=128, batch_targets=256, loss=loss)
    params = jax.eval_shape(lambda: toys.random_params(made))
    objective = GBCE._replace(loss=loss)

    def total(params: Any, batch: Any) -> jax.Array:
        return batch_loss(made.model, params, batch, made.constants, objective, jnp.int32(0)).sum()

    computed = sizes(jax.make_jaxpr(jax.grad(total))(params, made.batches[0]).jaxpr)
    of_items = {shape for shape in computed if items in shape}
    widest = max(int(np.prod(shape)) // items for shape in of_items)
    assert (items, 3) in of_items
    assert (widest >= 100) == dense
    assert widest >= 100 or widest <= 12  # features, columns, modes, the network of the columns


def test_a_step_takes_its_loss_from_the_objective() -> None:
    made, _ = toys.training()
    params = toys.random_params(made)
    options = TrainOptions(loss="bce", negatives=4)
    assert options.objective == Objective("bce", 4, 0.5, 0.75, 0)
    assert TrainOptions(negatives=7, seed=9).objective == Objective(seed=9)
    # as in the run of test_resume, so that it is compiled once
    counts: dict[str, Any] = {"batch_targets": 32.0, "targets": 96, "average_steps": 3.0, "settle_steps": 0}
    step = make_train_step(made.model, made.optimizer, objective=options.objective, **counts)
    state = jax.jit(lambda params: init_state(params, made.optimizer))(params)
    for now in range(2):
        same = Objective("gbce", 4, 0.5, 0.0, 0)
        args = (made.model, state.params, made.batches[now], made.constants, same)
        expected = float(batch_losses(*args, jnp.int32(now)).sum() / 32)
        state, loss = step(state, made.batches[now], made.constants)
        assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives": 0}, "negatives=0: give a whole number from 1"),
        ({"uniform_negatives": 1.5}, r"uniform_negatives=1\.5: give a number from 0 to 1"),
        ({"evidence_half_life": 0.0}, r"evidence_half_life=0\.0: give a number from 0\.01"),
        ({"calibration": -0.1}, r"calibration=-0\.1: give a number from 0 to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainOptions(**options)


def test_a_loss_that_is_none_is_refused() -> None:
    options = TrainOptions()
    object.__setattr__(options, "loss", "hinge")  # past the types that tests check
    with pytest.raises(InputError, match="'hinge': give one of softmax, sampled-softmax, gbce, bce"):
        options.__post_init__()


def test_what_is_drawn_by_are_the_targets_of_training() -> None:
    histories = toys.log(held_out=2)
    weight = histories.weight.copy()
    weight[3] = -1.0  # no choice
    made = toys.pieces(histories.replace(weight=weight), toys.spec(histories), window=64)
    kept = (histories.part == 0) & (np.arange(histories.events) != 3)
    times = np.bincount(histories.item[kept], minlength=made.model.spec.items)
    np.testing.assert_array_equal(np.diff(made.constants.taken, prepend=0), times)
    assert made.constants.taken[-1] == made.batches.targets


def test_a_loss_is_given_what_it_reads_alone() -> None:
    live = toys.live(toys.log((30, 40), items=9))
    of_softmax = toys.pieces(live, toys.spec(live)).constants
    of_others = toys.pieces(live, toys.spec(live), loss="sampled-softmax").constants
    made = toys.pieces(live, toys.spec(live))
    args = made.model, toys.random_params(made), made.batches[0]
    with pytest.raises(InputError, match="not for a loss on negatives: assemble them with the loss"):
        batch_loss(*args, of_softmax, GBCE, jnp.int32(0))
    with pytest.raises(InputError, match="not for the softmax"):
        batch_loss(*args, of_others, Objective(), None)
    assert of_softmax.tally is None is of_softmax.came
    assert of_others.shares is None is of_others.entry
    first = np.array([live.time[live.item == item].min() for item in range(9)])
    origin = toys.pieces(live, toys.spec(live)).reference.origin
    np.testing.assert_array_equal(of_others.came, first - origin)
    always = toys.log((30, 40), items=9)
    assert toys.pieces(always, toys.spec(always), loss="bce").constants.came is None


@pytest.mark.parametrize("coarse", [False, True])
def test_items_are_candidates_once_they_came_where_evaluation_says_so(coarse: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr(assembly, "_GRID", 6 if coarse else 512)
    histories = toys.log((30, 40), items=9)
    always = toys.pieces(histories, toys.spec(histories), window=64)
    assert not np.asarray(always.constants.entry).any()
    assert always.batches.targets == histories.events
    live = toys.live(histories)
    made = toys.pieces(live, toys.spec(live), window=64)
    assert (len(made.catalogue.grid) <= 6) == coarse
    first = np.array([live.time[live.item == item].min() for item in range(9)])
    # all events are targets but for those at an item's first moment, and every target is a candidate
    assert made.batches.targets == (live.time > first[live.item]).sum() < live.events
    entry, now = np.asarray(made.constants.entry), made.catalogue.index(live.time)
    assert (entry[live.item] <= now)[live.time > first[live.item]].all()
    excluded = rules(live).excluded(requests(live, 0))
    assert excluded is not None
    candidates = entry[None] <= now[:, None]
    assert candidates[~excluded].all()
    assert candidates[excluded].any() == coarse  # within a cell of the grid


@pytest.mark.parametrize("still", [{}, {"popularity_half_lives": ()}])
def test_a_model_without_popularity_learns_under_a_split_by_time(still: Any) -> None:
    live = toys.live(toys.log((30, 40), items=9))
    made = toys.pieces(live, toys.spec(live, **still), window=64)
    first = np.array([live.time[live.item == item].min() for item in range(9)])
    assert made.batches.targets == (live.time > first[live.item]).sum()

    @jax.jit
    @jax.grad
    def slope(params: Any, batch: Any) -> jax.Array:
        return batch_log_likelihood(made.model, params, batch, made.constants).sum()

    found = slope(toys.random_params(made), made.batches[0])
    assert np.asarray(found["similarity"]["embedding"]).any()


def test_the_latest_items_are_hidden_and_never_the_others() -> None:
    histories = toys.log((30, 40), items=9)
    made = toys.pieces(histories, toys.spec(histories, cold_items=True), window=64)
    constants, train = made.constants, histories.part == 0
    first = [histories.time[train & (histories.item == item)].min() for item in range(made.model.spec.items)]
    shares = [(histories.time[train] >= one).mean() for one in first]
    np.testing.assert_allclose(constants.since, shares, rtol=1e-6)
    items = made.model.spec.items
    since = jnp.linspace(0.0, 0.5, items)
    spread = constants.replace(since=since)
    index = jax.vmap(lambda key: hidden(spread, key).index)(jax.random.split(jax.random.key(0), 4_000))
    gone = np.asarray(index != jnp.arange(items)[None])
    assert np.asarray(index)[gone].min() == np.asarray(index)[gone].max() == items
    # hidden if it came after a moment drawn evenly from the last 0.3, and then one time in four
    expected = 0.25 * np.clip(1 - np.asarray(since) / 0.3, 0.0, 1.0)
    np.testing.assert_allclose(gone.mean(0), expected, atol=0.03)
    assert not gone[:, since > 0.3].any()
    assert (since > 0.3).any()


def test_a_hidden_item_has_what_an_unknown_one_has_and_only_a_loss_with_a_step_hides() -> None:
    histories = toys.log((30, 40), items=9)
    made = toys.pieces(histories, toys.spec(histories, cold_items=True), window=64)
    params, constants, items = toys.random_params(made), made.constants, made.model.spec.items
    args = made.model, Interest.scorer, params
    without = constants.items._replace(index=constants.items.index.at[4].set(items))
    scorer, written = toys.call(*args, without, constants.shares)
    twin = jax.tree.map(lambda x: jnp.concatenate([x, x[4:5]]), constants.items)
    twin = twin._replace(index=twin.index.at[-1].set(items))  # came after training, in all else as item 4
    assert constants.shares is not None
    shares = jnp.concatenate([constants.shares, constants.shares[:, :, 4:5]], -1)
    wide, others = toys.call(*args, twin, shares)
    np.testing.assert_array_equal(written.vectors[4], others.vectors[-1])
    np.testing.assert_array_equal(scorer.bias[4], wide.bias[-1])
    head = params["similarity"]
    content = toys.call(made.model, lambda model, items: model.similarity.content(items), params, without)
    np.testing.assert_allclose(
        scorer.bias[4], head["cold_level"] + content[4] @ head["content_bias"], rtol=1e-5
    )
    batch = jax.tree.map(jnp.asarray, made.batches[0])

    @jax.jit
    @jax.grad
    def slope(params: Any, constants: Any) -> jax.Array:
        return batch_loss(made.model, params, batch, constants, Objective(), None).sum()

    quiet = slope(params, constants)
    heard = slope(params, constants.replace(items=without))
    for one, other in ((quiet, heard), (heard, quiet)):
        assert np.asarray(one["similarity"]["embedding"])[4].any() == (one is quiet)
        assert (other["similarity"]["cold_level"] == 0) == (other is quiet)
        assert (other["popularity"]["cold_exponent"] == 0) == (other is quiet)
