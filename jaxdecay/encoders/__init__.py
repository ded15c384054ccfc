"""Encoders: a history of events as what each of them means where it stands, in the order of its rows.

An encoder is a Flax module of one user: vectors of N events in, vectors of the same shape out, row j of which
depends on the events up to and including j alone. `Stack` is what a model holds; its blocks mix a history by
`bank` (decayed states, linear in the history), `transformer` (attention by content and distance in events) or
`hstu` (by content, distance and time).
"""

from jaxdecay.encoders.events import Places, latest, places
from jaxdecay.encoders.stack import FeedForward, Stack

__all__ = ["FeedForward", "Places", "Stack", "latest", "places"]
