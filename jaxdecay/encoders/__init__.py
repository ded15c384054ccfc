"""Encoders: a history of events as what each of them means where it stands, in the order of its rows.

An encoder is a Flax module of one user: vectors of N events in, vectors of the same shape out, row j of which
depends on the events up to and including j alone. `Stack` is what a model holds; its blocks mix a history by
`bank` (decayed states), `gru` or `lstm` (gated states), `cnn` (the last few events), `transformer` (attention
by content, distance in events and age) or `hstu` (by content, distance and time until the next event), or
not at all (`mlp`). All but attention carry a state of fixed size from event to event, a transformer the
last events themselves (`Stack.step`).
"""

from jaxdecay.encoders.events import Places, latest, places
from jaxdecay.encoders.stack import Carry, FeedForward, Stack

__all__ = ["Carry", "FeedForward", "Places", "Stack", "latest", "places"]
