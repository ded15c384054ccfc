"""Parameters in a larger model: what was known says the same, what is new is as what the model does not
know."""

import dataclasses

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.assembly import predictor
from jaxdecay.carried import carried
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import requests
from jaxdecay.layout import tables_by
from jaxdecay.model import Interest, abstract_params

EVENTS = ("part", "behaviour", "weight", "label", "context_categorical", "context_numeric")


def known(histories: Histories, users: int, items: int) -> Histories:
    counts = histories.config["counts"] | {"known_users": users, "known_items": items}
    return histories.replace(config=histories.config | {"counts": counts})


def without(histories: Histories, user: int) -> Histories:
    """The same without a user; those behind him move up."""
    keep, there = histories.user() != user, np.arange(histories.users) != user
    columns = {name: getattr(histories, name)[keep] for name in EVENTS}
    for kind in ("categorical", "numeric"):
        columns[f"user_{kind}"] = getattr(histories, f"user_{kind}")[there]
        columns[f"item_{kind}"] = getattr(histories, f"item_{kind}")
    place = np.cumsum(there) - 1
    return Histories.from_arrays(
        place[histories.user()[keep]], histories.item[keep], histories.time[keep],
        items=histories.items, config=histories.config | {"counts": {}}, **columns,
    )  # fmt: skip


@pytest.mark.parametrize("cold", [False, True])
def test_scores_stay(cold: bool) -> None:
    """The model knows users 0 to 3 and items 0 to 4; then user 2 goes, and user 4 and items 5 and 6 are
    known."""
    whole = toys.live(toys.log(held_out=2))
    made = toys.pieces(whole, toys.spec(whole, popularity_half_lives=(), cold_items=cold))
    model = Interest(dataclasses.replace(made.model.spec, users=4, items=5))
    params = toys.random_params(made._replace(model=model))
    grown = Interest(dataclasses.replace(made.model.spec, users=4, items=7))
    larger = carried(params, model, grown, users=np.array([0, 1, 3]))
    assert jax.tree.map(np.shape, larger) == jax.tree.map(np.shape, abstract_params(grown))

    asked = requests(whole, 1)
    before = made._replace(model=model, histories=known(whole, 4, 5))
    expected = predictor(before, params).scores(asked)[asked.user != 2]
    after = without(whole, 2)
    found = predictor(made._replace(model=grown, histories=after), larger).scores(requests(after, 1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rows_of_users_and_items_are_told_apart() -> None:
    model = toys.everything()[0].model
    assert {path[-1] for path in tables_by(model, "items")} == {"embedding", "bias", "item_write"}
    assert {path[-1] for path in tables_by(model, "users")} == {"user_read"}
