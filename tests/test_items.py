"""What items are made of: own vectors, columns, their fusion, and what those that are alike share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.baselines.choose import Judge
from jaxdecay.baselines.groups import fit_group_popularity
from jaxdecay.configure import configure
from jaxdecay.curves import mean_kernels
from jaxdecay.data.catalogue import timeline
from jaxdecay.data.requests import of_items, requests
from jaxdecay.errors import InputError
from jaxdecay.evaluate import rules
from jaxdecay.heads.fusion import Fusion
from jaxdecay.history import Items
from jaxdecay.model import Interest, abstract_params
from jaxdecay.model_options import ModelOptions
from jaxdecay.objective import Objective, alone, batch_loss
from jaxdecay.train import TrainOptions

OWN = jnp.array([[0.3, -0.2, 0.5, 0.1], [0.0, 0.0, 0.0, 0.0], [0.1, 0.4, -0.6, 0.2], [0.0, 0.0, 0.0, 0.0]])
CONTENT = jnp.array(
    [[0.2, 0.1, 0.0, -0.3], [0.4, -0.1, 0.2, 0.6], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
)
FUSION = Fusion(0.1)


class TestFusion:
    def test_it_starts_as_the_sum(self) -> None:
        params = toys.start(FUSION, Fusion.__call__, OWN, CONTENT)
        np.testing.assert_allclose(
            toys.call(FUSION, Fusion.__call__, params, OWN, CONTENT), OWN + CONTENT, rtol=1e-6
        )

    def test_it_is_its_formula(self) -> None:
        params = toys.moved(FUSION, Fusion.__call__, OWN, CONTENT)
        found = toys.call(FUSION, Fusion.__call__, params, OWN, CONTENT)
        p = jax.tree.map(np.float64, params)
        own, content = np.float64(OWN), np.float64(CONTENT)

        def sigmoid(x: np.ndarray) -> np.ndarray:
            return 1 / (1 + np.exp(-x))

        normed = content / np.sqrt((content**2).mean(1, keepdims=True) + 1e-6) * p["content"]["norm"]["scale"]
        value, gate = np.split(normed @ p["content"]["in"]["kernel"], 2, axis=1)
        content = content + value * gate * sigmoid(gate) @ p["content"]["out"]["kernel"]
        both = np.concatenate([own, content], 1)
        both /= np.sqrt((both**2).mean(1, keepdims=True) + 0.1**2)
        gates = 2 * sigmoid(both @ p["gates"]["kernel"] + p["gates"]["bias"])
        np.testing.assert_allclose(found, gates[:, :4] * own + gates[:, 4:] * content, rtol=1e-5, atol=1e-6)
        assert not np.allclose(found, own + content, atol=0.1)
        np.testing.assert_array_equal(found[3], 0.0)  # of nothing, nothing


def test_items_that_are_alike_have_level_and_fading_in_common() -> None:
    made, params = toys.everything()
    items = made.constants.items
    known = made.model.spec.items
    new = Items(
        jnp.append(items.index, jnp.full(3, known, jnp.int32)),
        jnp.append(items.group, jnp.full(3, items.group[0], jnp.int32)),
        jnp.concatenate([items.categorical, items.categorical[jnp.array([0, 0, 1])]]),
        jnp.concatenate([items.numeric, items.numeric[jnp.array([0, 0, 1])]]),
    )
    shares = jnp.zeros((2, 1, known + 3))
    scorer, written = toys.call(made.model, Interest.scorer, params, new, shares)
    for rows in (written.vectors, scorer.bias, written.similarity, written.revisit):
        np.testing.assert_array_equal(rows[known], rows[known + 1])
        assert not np.allclose(rows[known], rows[known + 2])
    # what a new item has is what the known one it is like has beside its own
    own = params["similarity"]["bias"][0]
    np.testing.assert_allclose(scorer.bias[known], scorer.bias[0] - own, rtol=1e-5, atol=1e-6)
    for head in ("similarity", "revisit"):
        np.testing.assert_allclose(getattr(written, head)[known], getattr(written, head)[0], rtol=1e-6)


def test_mean_kernels_know_what_items_have_in_common() -> None:
    made, params = toys.everything()
    histories, items = made.histories, made.constants.items
    _, written = toys.call(made.model, Interest.scorer, params, items, made.constants.shares)

    def weights(model: Interest, item: Any, user: Any, behaviour: Any) -> Any:
        """What all events have left in each curve at age 0."""
        assert model.revisit is not None
        bank = model.revisit.decay
        assert bank.user_read is not None
        writes = bank.write_weights(item, items.group[item], behaviour, written.revisit[item])
        return (writes * bank.curves * jax.nn.softmax(bank.user_read[user])).sum(0)

    given = [jnp.asarray(x, jnp.int32) for x in (histories.item, histories.user(), histories.behaviour)]
    left = np.asarray(toys.call(made.model, weights, params, *given), np.float64)
    [found] = [
        c for c in mean_kernels(histories, made.model, params) if (c.head, c.group) == ("revisit", "all")
    ]
    # After a century nothing is left but what never fades.
    assert found.value[-1] == pytest.approx(left[0] / left.sum(), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"item_ids": False}, {"embedding"}),
        ({"fusion": "sum"}, {"fusion"}),
        ({"by_content": False}, {"content_bias"}),
        ({"fades_by_content": False}, {"content_write"}),
    ],
)
def test_what_is_switched_off_has_no_parameters(changes: dict[str, Any], gone: set[str]) -> None:
    histories = toys.log()

    def names(**changes: Any) -> set[str]:
        model = Interest(toys.spec(histories, **changes))
        return {str(key.key) for path, _ in jax.tree.leaves_with_path(abstract_params(model)) for key in path}

    assert gone < names()
    assert not gone & names(**changes)
    assert names() - names(**changes) >= gone


def test_without_columns_none_of_it_makes_sense() -> None:
    histories = toys.log()
    asked: dict[str, Any] = {"item_ids": False, "fusion": "gated", "by_content": True}
    for name, value in asked.items():
        options = ModelOptions(columns=False, **{name: value})
        with pytest.raises(InputError, match=f"{name}={value!r} needs item columns"):
            configure(histories, options)
    made = configure(histories, ModelOptions(**asked))
    assert (made.item_ids, made.fusion, made.by_content) == (False, "gated", True)
    assert made.fades_by_content
    fixed = configure(histories, ModelOptions(**asked, half_lives="fixed", half_life=("7d",)))
    assert fixed.by_content
    assert not fixed.fades_by_content  # the same for all items


class TestIdDropout:
    def test_a_share_of_the_vectors_is_left_out(self) -> None:
        items = toys.everything()[0].constants.items
        keys = jax.random.split(jax.random.key(0), 2_000)
        kept: Any = jax.vmap(lambda key: alone(items, 0.3, key).own)(keys)
        np.testing.assert_allclose(np.mean(kept, axis=0), 0.7, atol=0.05)

    def test_what_is_left_out_learns_nothing_and_its_columns_do(self) -> None:
        made, params = toys.everything()
        objective, batch = Objective(id_dropout=0.5), jax.tree.map(jnp.asarray, made.batches[0])

        def total(params: Any) -> jax.Array:
            return batch_loss(made.model, params, batch, made.constants, objective, jnp.int32(3)).sum()

        slope = jax.jit(jax.grad(total))(params)["similarity"]
        hides = jax.random.split(jax.random.fold_in(jax.random.key(0), 3), 3)[2]
        kept = np.asarray(alone(made.constants.items, 0.5, jax.random.fold_in(hides, 2)).own)
        assert 0 < kept.sum() < len(kept)
        assert not np.asarray(slope["embedding"])[~kept].any()
        assert np.asarray(slope["embedding"])[kept].any(axis=1).all()
        assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(slope["item_columns"]))

    def test_nothing_is_left_out_without_a_step(self) -> None:
        made, params = toys.everything()
        args = made.model, params, made.batches[0], made.constants
        losses = jax.jit(batch_loss, static_argnums=(0, 4))
        never, often = (losses(*args, Objective(id_dropout=share), None) for share in (0.0, 0.9))
        np.testing.assert_array_equal(never, often)

    def test_a_share_is_asked_for(self) -> None:
        with pytest.raises(InputError, match=r"id_dropout=1\.0: give a share from 0 to below 1"):
            TrainOptions(id_dropout=1.0)
        assert TrainOptions(id_dropout=0.2, loss="bce").objective.id_dropout == 0.2
        assert TrainOptions(id_dropout=0.2).objective == Objective(id_dropout=0.2)


class TestColdItems:
    def log(self) -> Any:
        histories = toys.live(toys.log((12, 12, 9, 9, 9), items=9, held_out=3))
        part = histories.part.copy()
        part[histories.item == 5] = np.where(part[histories.item == 5] == 0, 1, part[histories.item == 5])
        return histories.replace(part=part)

    def test_requests_for_them(self) -> None:
        histories = self.log()
        asked = requests(histories, 1)
        cold = of_items(asked, histories, 1, "cold")
        known = set(histories.item[histories.part == 0].tolist())
        assert 5 not in known
        assert set(cold.targets.tolist()) == set(asked.targets.tolist()) - known
        warm = of_items(asked, histories, 1, "warm")
        assert set(warm.targets.tolist()) <= known
        assert len(warm) + len(cold) == len(asked)
        assert of_items(asked, histories, 1, "all") is asked

    def test_of_several_targets_those_are_kept(self) -> None:
        histories = self.log()
        asked = requests(histories, 1, "all")
        cold = of_items(asked, histories, 1, "cold")
        assert set(cold.targets.tolist()) == {5}
        assert len(cold.targets) == (asked.targets == 5).sum() == cold.target_offsets[-1]
        whose = np.repeat(asked.user, np.diff(asked.target_offsets))[asked.targets == 5]
        np.testing.assert_array_equal(cold.user, whose)

    def test_every_item_is_a_candidate_where_asked(self) -> None:
        histories = self.log()
        asked = requests(histories, 0)
        excluded = rules(histories, False).excluded(asked)
        assert excluded is not None
        assert excluded.any()
        assert rules(histories, False, every_item=True).excluded(asked) is None

    def test_the_popularity_of_a_group_is_that_of_its_items(self) -> None:
        histories = self.log()
        judge = Judge.of(histories, requests(histories, 1), every_item=True)
        system = fit_group_popularity(judge, timeline(histories))
        assert system is not None
        assert system.settings["column"] == "genre"
        asked = requests(histories, 1)
        found, half_life = system.scores(asked), system.base.half_life
        group = histories.item_categorical[:, 0]
        for row, at in enumerate(asked.at):
            before = histories.time < at
            faded = np.exp2(-(at - histories.time[before]) / (half_life * toys.DAY))
            counts = np.bincount(histories.item[before], faded, minlength=histories.items)
            of_group = np.bincount(group, counts, minlength=3)
            of_group[0] = 0.0
            np.testing.assert_allclose(found[row], of_group[group], rtol=1e-4)

    def test_there_is_none_without_a_column(self) -> None:
        histories = self.log()
        features = {**toys.FEATURES, "item": toys.columns()}
        bare = histories.replace(config=histories.config | {"features": features})
        judge = Judge.of(bare, requests(bare, 1))
        assert fit_group_popularity(judge, timeline(bare)) is None
