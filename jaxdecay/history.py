"""What the model is given of one user: a history of events and the requests made of it. No batch axis: use
`jax.vmap`."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float, Int


class History(NamedTuple):
    """N = P + W events of one user in time order, padded on both sides: the first P on the left, the last W
    on the right.

    Times are int32 seconds since ``Spec.origin`` (midnight of a Monday, UTC, so that calendar fields are
    integer remainders). Items and users that were not in the training part have the index one past the last
    that was.
    """

    user: Int[Array, ""]
    user_categorical: Int[Array, " uc"]
    user_numeric: Float[Array, " un"]
    item: Int[Array, " n"]
    time: Int[Array, " n"]
    mask: Bool[Array, " n"]
    behaviour: Int[Array, " n"]
    weight: Float[Array, " n"]
    context_categorical: Int[Array, "n cc"]
    context_numeric: Float[Array, "n cn"]


class Requests(NamedTuple):
    """R requests of one user: when each is made, in what context, and how many of the last W events came
    before it."""

    at: Int[Array, " r"]
    seen: Int[Array, " r"]
    context_categorical: Int[Array, "r cc"]
    context_numeric: Float[Array, "r cn"]


class Items(NamedTuple):
    """The columns of V items that the model reads, the same for every user."""

    index: Int[Array, " v"]
    """Row of the item's own embedding; the number of known items for one that has none."""
    group: Int[Array, " v"]
    """Item group with decay weights of its own; 0 is none."""
    categorical: Int[Array, "v ic"]
    numeric: Float[Array, "v in"]
