"""Exploration: draws have the probabilities that they should, variances what was planted, and new users are
drawn from the prior."""

import jax
import numpy as np
import pytest
import toys
from test_predict import ask
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay import explore
from jaxdecay.assembly import predictor
from jaxdecay.data.requests import Requests
from jaxdecay.errors import InputError
from jaxdecay.predict import Predictor

PRIOR = 0.2


@pytest.fixture(scope="module")
def system() -> Predictor:
    with jax.numpy_rank_promotion("allow"):
        return predictor(*toys.everything())


def requests(n: int) -> Requests:
    """Of users from -1, somebody new, on."""
    zeros = np.zeros(n, np.int64)
    return Requests(
        user=np.arange(-1, n - 1, dtype=np.int32),
        history_end=zeros,
        at=np.full(n, 7),
        target_offsets=np.zeros(n + 1, np.int64),
        targets=np.zeros(0, np.int32),
        event=zeros,
    )


def test_draws_are_those_of_the_softmax_without_replacement() -> None:
    """The first two places against their probability in the Plackett-Luce model."""
    n, temperature = 20_000, 0.7
    scores = np.array([1.0, 0.3, -0.5, 0.0], np.float32)
    moved = explore.perturbed(np.tile(scores, (n, 1)), requests(n), temperature, 3)
    order = np.argsort(-moved, axis=1)[:, :2]
    p = np.exp(scores.astype(np.float64) / temperature)
    p /= p.sum()
    for first in range(4):
        for second in set(range(4)) - {first}:
            expected = p[first] * p[second] / (1 - p[first])
            found = ((order[:, 0] == first) & (order[:, 1] == second)).mean()
            assert abs(found - expected) < 5 * np.sqrt(expected / n)


def test_a_draw_hangs_on_seed_user_and_time_alone() -> None:
    scores, asked = np.zeros((4, 6), np.float32), requests(4)
    all_at_once = explore.perturbed(scores, asked, 1.0, 5)
    alone = asked.take(slice(2, 3))
    assert (explore.perturbed(scores[:1], alone, 1.0, 5) == all_at_once[2]).all()
    assert (explore.perturbed(scores[:1], alone, 1.0, 6) != all_at_once[2]).all()
    assert len(np.unique(all_at_once)) == all_at_once.size


def test_variance_recovers_what_was_planted() -> None:
    """Estimates of deviations from the prior, shrunk as their users' events say: the spread tells how much an
    event says."""
    random = np.random.default_rng(0)
    events, precision = random.integers(1, 400, 20_000), np.array([0.02, 0.2, 0.0])
    true = 1 / (PRIOR**-2 + events[:, None] * precision)
    trained = random.normal(size=true.shape) * np.sqrt(PRIOR**2 - true)
    np.testing.assert_allclose(explore.variance(trained, events, PRIOR), true, rtol=0.1)
    # Wider than the prior allows: an event says no more than one outcome can.
    wide = explore.variance(3 * PRIOR * np.ones((4, 1)), np.array([0, 4, 40, 400]), PRIOR)
    np.testing.assert_allclose(wide[:, 0], [0.04, 1 / 26, 1 / 35, 1 / 125], rtol=1e-6)


def test_read_weights_alone_are_drawn(system: Predictor) -> None:
    events = np.full(system.model.spec.users, 9)
    drawn = explore.thompson(system, events, 1)
    before, after = jax.tree.leaves_with_path(system.params), jax.tree.leaves_with_path(drawn.params)
    for (path, old), (_, new) in zip(before, after, strict=True):
        old, new = np.asarray(old), np.asarray(new)
        if path[-1].key == "user_read":
            assert new.shape == (len(old) + 1, old.shape[1])
            # The toy's deviations are wide, so that users' own are believed: only the new one's are free.
            assert (np.abs(new[:-1] - old) < 6 * PRIOR).all()
            assert 0.05 < np.std(new[-1]) < 0.6
        else:
            np.testing.assert_array_equal(new, old)


def test_scores_move_with_the_seed_for_known_and_new_users(system: Predictor) -> None:
    asked = ask(system.histories, np.array([15, 38]))
    events = np.zeros(system.model.spec.users, np.int64)  # nothing known: drawn from the prior
    first, second, again = (explore.thompson(system, events, seed).scores(asked) for seed in (1, 2, 1))
    assert (first == again).all()
    assert (np.abs(first - second).max(axis=1) > 1e-4).all()
    new = toys.log((20, 20, 9, 9, 9, 6))
    new = new.replace(config=new.config | {"counts": system.histories.config["counts"]})
    wider = Predictor(system.model, system.params, new, system.catalogue, system.reference)
    stranger = ask(new, np.array([len(new.item) - 1]))
    draws = [explore.thompson(wider, events, seed).scores(stranger) for seed in (1, 2)]
    assert np.abs(draws[0] - draws[1]).max() > 1e-4
    assert np.abs(draws[0] - wider.scores(stranger)).max() > 1e-4


def test_a_run_without_read_weights_of_users_is_refused() -> None:
    made = toys.quick()
    bare = toys.pieces(made.histories, toys.bare(made.histories, per_user=False))
    system = predictor(bare, toys.random_params(bare))
    with pytest.raises(InputError, match="none of users' own; train with --per-user"):
        explore.thompson(system, np.zeros(12), 0)
