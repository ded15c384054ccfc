"""A step of training: the loss it reports, what it moves and how fast, and that training learns something."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import checkpointing, loop, runs
from jaxdecay.assembly import Pieces, assemble
from jaxdecay.configure import configure
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.model_options import ModelOptions
from jaxdecay.optimizer import groups_of, optimizer
from jaxdecay.priors import half_life_priors, penalty, smooth_half_life
from jaxdecay.train import State, TrainOptions, init_state, make_train_step


def begin(made: Pieces, params: Any, **options: Any) -> tuple[Any, State]:
    """A step and the state before it."""
    defaults: dict[str, Any] = {"batch_targets": 32.0, "targets": 96, "average_steps": 6.0}
    state = jax.jit(lambda params: init_state(params, made.optimizer))(params)
    return make_train_step(made.model, made.optimizer, **(defaults | options)), state


def test_the_loss_is_the_mean_of_the_targets_likelihoods() -> None:
    made, _ = toys.training()
    params = toys.random_params(made)
    step, state = begin(made, params)
    batch = dataclasses.replace(made.batches, evidence_half_life=0.3)[0]
    assert len(np.unique(batch.evidence)) > 2
    expected = -(batch.evidence * toys.log_likelihood(made.model, params, batch, made.constants)).sum() / 32
    after, loss = step(state, batch, made.constants)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(after.loss) == float(loss)
    assert int(after.step) == 1


def test_the_first_average_is_mostly_the_newest_and_later_ones_the_mean_of_an_epoch() -> None:
    made, _ = toys.training()
    step, state = begin(made, toys.random_params(made), average_steps=4.0)
    average = np.asarray(state.average["similarity"]["embedding"], np.float64)
    for now in range(12):
        state, _ = step(state, made.batches[now], made.constants)
        keep = min(1 - 1 / 4, (1 + now) / (10 + now))
        average = keep * average + (1 - keep) * np.asarray(
            state.params["similarity"]["embedding"], np.float64
        )
        np.testing.assert_allclose(state.average["similarity"]["embedding"], average, rtol=1e-5)


@pytest.mark.parametrize(
    ("train", "word"),
    [({"evidence_half_life": 0.5}, r"evidence_half_life=0\.5"), ({"order": "time"}, "order='time'")],
)
def test_a_clock_without_a_latest_event_is_refused_where_that_matters(train: Any, word: str) -> None:
    relative = toys.log()
    relative = relative.replace(config={**relative.config, "clock": "relative"})
    options = ModelOptions(features=3, columns=False)
    with pytest.raises(InputError, match=f"{word}: times count from each user's first event"):
        assemble(relative, configure(relative, options), options, TrainOptions(**train))


def test_in_the_order_of_time_rows_are_short_the_average_is_young_and_nothing_settles() -> None:
    histories = toys.log()
    made = toys.pieces(histories, toys.spec(histories), order="time")
    assert made.batches.in_order
    assert (made.batches.window, made.batches.epochs) == (4, 30)
    assert toys.pieces(histories, toys.spec(histories), order="time", window=7).batches.window == 7
    shuffled = toys.pieces(histories, toys.spec(histories))
    assert not shuffled.batches.in_order
    assert (shuffled.batches.window, shuffled.batches.epochs) == (64, 34)
    options = TrainOptions(order="time")
    assert (options.average_epochs, options.settling) == (0.05, 0)
    assert (TrainOptions().average_epochs, TrainOptions().settling) == (1.0, 4)
    assert TrainOptions(order="time", average=0.4).average_epochs == pytest.approx(0.02)
    object.__setattr__(options, "order", "random")  # past the types that tests check
    with pytest.raises(InputError, match="order='random': give one of shuffled, time"):
        options.__post_init__()


def test_training_learns_that_users_come_back() -> None:
    random = np.random.default_rng(0)
    lengths = (8,) * 24
    favourite = np.repeat(
        random.integers(0, 9, (24, 2)), 4, axis=1
    ).ravel()  # two items a user, one after the other
    histories = toys.log(lengths, items=9).replace(item=favourite.astype(np.int32))
    spec = toys.bare(histories, behaviours=2)
    made = toys.pieces(histories, spec, window=8, batch_targets=64, learning_rate=0.03)
    step, state = begin(made, toys.random_params(made, scale=0.01), batch_targets=64.0)
    losses = []
    for now in range(15 * made.batches.per_epoch):
        state, loss = step(state, made.batches[now], made.constants)
        losses.append(float(loss))
    per_epoch = np.reshape(losses, (15, -1)).mean(1)
    # it begins knowing little of nine items; at best all but a user's two first choices are sure
    assert per_epoch[-1] < 0.8 * per_epoch[0] < np.log(9)
    assert np.isfinite(losses).all()


class TestOptimizer:
    PARAMS = {  # noqa: RUF012
        "similarity": {
            "embedding": jnp.ones(2),
            "hours": jnp.ones(2),
            "log_temperature": jnp.ones(()),
            "decay": {"write": jnp.ones(3), "log_half_life": jnp.ones(2)},
        },
        "popularity": {"decay_mixture": jnp.ones(2), "exponent": jnp.ones(())},
    }

    def test_every_parameter_belongs_to_one_group(self) -> None:
        assert groups_of(self.PARAMS) == {
            "similarity": {
                "embedding": "rest",
                "hours": "rest",
                "log_temperature": "scales",
                "decay": {"write": "decay", "log_half_life": "paces"},
            },
            "popularity": {"decay_mixture": "decay", "exponent": "levels"},
        }
        made, params = toys.everything()
        names = jax.tree.leaves_with_path(groups_of(params))
        for path, group in names:
            inside = any(str(key.key).startswith("decay") for key in path)
            assert (group in ("decay", "paces")) == inside
        assert {group for _, group in names} == {"paces", "decay", "levels", "scales", "rest"}
        assert made.model.spec.per_item

    def moved(self, **options: Any) -> Any:
        tx = optimizer(0.001, 0.1, **options)
        gradient = jax.tree.map(jnp.ones_like, self.PARAMS)
        updates, _ = tx.update(gradient, tx.init(self.PARAMS), self.PARAMS)
        return updates

    def test_what_fades_learns_faster_and_takes_no_weight_decay(self) -> None:
        # Adam's first step has the size of the learning rate, whatever the gradient
        updates = self.moved(weight_decay=0.5)
        np.testing.assert_allclose(updates["similarity"]["decay"]["write"], -0.1, rtol=1e-3)
        np.testing.assert_allclose(updates["popularity"]["decay_mixture"], -0.1, rtol=1e-3)
        np.testing.assert_allclose(updates["popularity"]["exponent"], -0.1, rtol=1e-3)
        np.testing.assert_allclose(updates["similarity"]["hours"], -0.001 * (1 + 0.5), rtol=1e-3)
        np.testing.assert_allclose(updates["similarity"]["embedding"], -0.001, rtol=1e-3)  # it has a prior

    def test_frozen_half_lives_stay_while_weights_go_on(self) -> None:
        updates = self.moved(freeze_paces=True)
        assert not np.asarray(updates["similarity"]["decay"]["log_half_life"]).any()
        np.testing.assert_allclose(updates["similarity"]["decay"]["write"], -0.1, rtol=1e-3)
        np.testing.assert_allclose(updates["similarity"]["embedding"], -0.001, rtol=1e-3)


def test_settling_moves_decay_and_levels_alone_and_ever_less() -> None:
    made, _ = toys.training()
    step, state = begin(made, toys.random_params(made), settle_steps=6)
    state = state.replace(settling=jnp.int32(0))
    sizes = []
    for now in range(7):
        before = jax.tree.map(np.asarray, state.params)
        state, _ = step(state, made.batches[now], made.constants)
        change = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, state.params)
        groups = groups_of(state.params)
        largest = {
            name: max(
                x for x, g in zip(jax.tree.leaves(change), jax.tree.leaves(groups), strict=True) if g == name
            )
            for name in ("rest", "scales", "levels", "decay", "paces")
        }
        assert largest["rest"] == largest["scales"] == 0
        sizes.append(largest["decay"])
    assert sizes[0] > 0
    assert max(sizes[3:]) < 0.5 * sizes[0]


def test_settling_keeps_the_mean_over_its_second_half() -> None:
    made, _ = toys.training()
    step, state = begin(made, toys.random_params(made), settle_steps=6)
    state = state.replace(settling=jnp.int32(0))
    seen = []
    for now in range(6):
        state, _ = step(state, made.batches[now], made.constants)
        seen.append(jax.tree.map(np.array, state.params["revisit"]["decay"]))
    mean = jax.tree.map(lambda *values: np.mean(values, axis=0), *seen[3:])
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5),
        mean,
        dict(state.average["revisit"]["decay"]),
    )


def with_weight(made: Pieces, event: int, weight: float) -> Pieces:
    """The same batches, but that one event's weight has gone wrong since it was prepared."""
    weights = made.histories.weight.copy()
    weights[event] = weight
    histories = made.histories.replace(weight=weights)
    return made._replace(batches=dataclasses.replace(made.batches, histories=histories))


@pytest.mark.parametrize("weight", [np.inf, np.nan])
def test_a_loss_that_is_not_finite_stops_and_names_step_batch_and_users(
    weight: float, tmp_path: Path
) -> None:
    made, options = toys.training(checkpoint_steps=1)
    place, user = 2, None
    ids = made.batches[place].requests.context_numeric
    event = int(ids[0, 3, 0])  # not a user's last: it is read by the targets after it
    user = int(made.batches[place].history.user[0])
    broken = with_weight(made, event, weight)
    lines: list[dict[str, Any]] = []
    with pytest.raises(InputError, match=rf"step {place + 1} \(batch {place}, epoch 0\)") as caught:
        loop.train(
            tmp_path, broken.model, broken.optimizer, broken.batches, broken.constants, toys.how_far, options,
            report=lines.append,
        )  # fmt: skip
    message = str(caught.value)
    assert "\n" not in message
    known = made.histories.known_users
    users = [one for one in np.unique(made.batches[place].history.user) if one < known][:5]
    assert f"(index {', '.join(map(str, users))}, ..." in message
    assert user in users
    # what was saved before it is whole, nothing of it was saved
    with checkpointing.checkpointer(tmp_path) as checkpoints:
        assert checkpoints.latest.step == place
    assert len(runs.HistoryLog.lines(tmp_path)) == 0


def test_a_loss_that_is_not_finite_at_the_last_step_of_an_epoch_is_not_saved(tmp_path: Path) -> None:
    made, options = toys.training()
    last = made.batches.per_epoch - 1
    broken = with_weight(made, int(made.batches[last].requests.context_numeric[0, 3, 0]), np.inf)
    with pytest.raises(InputError, match=rf"step {last + 1} "):
        loop.train(
            tmp_path, broken.model, broken.optimizer, broken.batches, broken.constants, toys.how_far, options
        )
    assert runs.HistoryLog.lines(tmp_path) == []
    with pytest.raises(InputError, match="no checkpoint"):
        checkpointing.best_step(tmp_path)


HALF_LIFE = 6.0


def simulated(users: int = 60, events: int = 60, items: int = 25, seed: int = 0) -> Histories:
    """Users who come back to what they took with an intensity that halves every six days, or to anything."""
    random = np.random.default_rng(seed)
    time = np.cumsum(random.exponential(0.5, (users, events)), axis=1)
    item = np.zeros((users, events), int)
    for u in range(users):
        for e in range(events):
            intensity = np.full(items, 1 / items)
            np.add.at(intensity, item[u, :e], 0.8 * 2 ** (-(time[u, e] - time[u, :e]) / HALF_LIFE))
            item[u, e] = random.choice(items, p=intensity / intensity.sum())
    return Histories.from_arrays(
        np.repeat(np.arange(users), events),
        item.ravel(),
        toys.START + (time.ravel() * toys.DAY).astype(np.int64),
        config={"repeat_share": 0.5, "split": {"kind": "leave-one-out"}},
    )


def test_a_planted_half_life_is_found_again() -> None:
    histories = simulated()
    spec = toys.bare(histories, similarity_half_lives=(), revisit_half_lives=(3.0,), features=1)
    options = TrainOptions(window=60, batch_targets=900, learning_rate=1e-3, decay_learning_rate=0.1)
    made = assemble(histories, spec, ModelOptions(), options)
    step, state = begin(
        made, toys.random_params(made, scale=0.0), batch_targets=900.0, targets=3600, average_steps=20
    )
    for now in range(120):
        state, _ = step(state, made.batches[now], made.constants)
    decay = state.average["revisit"]["decay"]
    found = float(smooth_half_life(decay, decay["write"][None])[0])
    assert found == pytest.approx(HALF_LIFE, rel=0.15)
    assert float(penalty(state.average, half_life_priors([], []))) < 50
