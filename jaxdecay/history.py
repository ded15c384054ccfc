"""What the model is given of one user: a history of events and the requests made of it. No batch axis: use
`jax.vmap`."""

from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Int


class History(NamedTuple):
    """N = P + W events of one user in time order, padded on both sides: the first P on the left, the last W
    on the right.

    Times are int32 seconds since ``Spec.origin`` (midnight of a Monday, UTC, so that calendar fields are
    integer remainders). Items and users that were not in the training part have the index one past the last
    that was.
    """

    user: Int[Any, ""]
    user_categorical: Int[Any, " uc"]
    user_numeric: Float[Any, " un"]
    item: Int[Any, " n"]
    time: Int[Any, " n"]
    mask: Bool[Any, " n"]
    behaviour: Int[Any, " n"]
    weight: Float[Any, " n"]
    context_categorical: Int[Any, "n cc"]
    context_numeric: Float[Any, "n cn"]


class Requests(NamedTuple):
    """R requests of one user: when each is made, in what context, and how many of the last W events came
    before it."""

    at: Int[Any, " r"]
    seen: Int[Any, " r"]
    context_categorical: Int[Any, "r cc"]
    context_numeric: Float[Any, "r cn"]


class Items(NamedTuple):
    """The columns of V items that the model reads, the same for every user."""

    index: Int[Any, " v"]
    """Row of the item's own embedding; the number of known items for one that has none."""
    group: Int[Any, " v"]
    """Item group with decay weights of its own; 0 is none."""
    categorical: Int[Any, "v ic"]
    numeric: Float[Any, "v in"]
    own: Bool[Any, " v"] | None = None
    """Whether the item's own vector counts; None: wherever it has one."""
