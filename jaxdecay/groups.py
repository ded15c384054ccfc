"""Which requests and targets a figure is about: repeats and novelties, cold users, warm items, ages, users.

NumPy only. A group is a mask over the N targets of all requests. Ages are those at the request time: of the
user's last visible event ("last-event", how long the user was away) and of the user's last visible event
with the target itself ("own-event", how old the interest is that comes back). Users are grouped by how many
of their events are visible ("activity") and by the values of their own columns ("user:country=de", and
"user:country=(no value)" of those who have none, or one that training never saw).
"""

import numpy as np

from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import Requests

DAY = 86_400.0
MAIN = ("all", "repeats", "novelties", "cold", "warm")
AGE_EDGES = np.array([1 / 24, 1, 7, 30, 90, 365])
"""Days."""
AGES = ("<1h", "1h-1d", "1d-7d", "7d-30d", "30d-90d", "90d-365d", ">365d")
NO_AGE = len(AGES)
"""The bucket of what has no age: a user without history, an item the user never had."""
ACTIVITY_EDGES = np.array([1, 5, 20, 100])
"""Events."""
ACTIVITY = ("none", "1-4", "5-19", "20-99", "100+")
NO_VALUE = "(no value)"
MOST_VALUES = 20
"""User columns of more values make no groups."""


def age_bucket(days: np.ndarray) -> np.ndarray:
    """int8 index into ``AGES``, ``NO_AGE`` for NaN; an age on an edge belongs to the older bucket."""
    bucket = np.searchsorted(AGE_EDGES, days, side="right")
    return np.where(np.isnan(days), NO_AGE, bucket).astype(np.int8)


def groups(requests: Requests, own: np.ndarray, last: np.ndarray, known_items: int) -> dict[str, np.ndarray]:
    """(N,) bool masks by name, those that hold nothing left out (but "all").

    Args:
        own: (N,) age bucket of the user's last event with each target. last: (R,) age bucket of the last
        event.
        known_items: items below this one occur in the training part.
    """
    lengths = np.diff(requests.target_offsets)
    idle = np.repeat(last, lengths)
    masks = {
        "all": np.ones(len(own), bool),
        "repeats": own != NO_AGE,
        "novelties": own == NO_AGE,
        "cold": idle == NO_AGE,
        "warm": requests.targets < known_items,
    }
    for bucket, name in enumerate((*AGES, "none")):
        masks[f"last-event:{name}"] = idle == bucket
    for bucket, name in enumerate((*AGES, "never")):
        masks[f"own-event:{name}"] = own == bucket
    return {name: mask for name, mask in masks.items() if name == "all" or mask.any()}


def by_user(requests: Requests, histories: Histories) -> dict[str, np.ndarray]:
    """(N,) bool masks by name of users of one activity, and of one value, or none, of each categorical user
    column of single values; those that hold nothing left out."""
    seen = requests.history_end - histories.offsets[requests.user]
    bucket = np.searchsorted(ACTIVITY_EDGES, seen, side="right")
    masks = {f"activity:{name}": bucket == place for place, name in enumerate(ACTIVITY)}
    described = (histories.config.get("features") or {}).get("user") or {}
    widths = described.get("widths", ())
    starts = np.cumsum([0, *widths])
    for place, coded in enumerate(described.get("encoder", {}).get("coded", ())):
        values = coded.get("values", ())
        if widths[place] > 1 or len(values) > MOST_VALUES:
            continue
        code = histories.user_categorical[requests.user, starts[place]]
        for number, value in enumerate(values, start=1):
            masks[f"user:{coded['column']}={value}"] = code == number
        masks[f"user:{coded['column']}={NO_VALUE}"] = code == 0
    lengths = np.diff(requests.target_offsets)
    return {name: np.repeat(mask, lengths) for name, mask in masks.items() if mask.any()}


def padded(values: np.ndarray, offsets: np.ndarray, fill: float) -> np.ndarray:
    """(N,) values of all targets to (R, T), T the most targets of one request."""
    lengths = np.diff(offsets)
    width = int(lengths.max(initial=1))
    if len(values) == len(lengths) and width == 1:
        return values[:, None]
    table = np.full((len(lengths), width), fill, values.dtype)
    row = np.repeat(np.arange(len(lengths)), lengths)
    table[row, np.arange(len(values)) - offsets[row]] = values
    return table
