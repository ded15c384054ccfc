"""A log of 40 users and 15 items with columns of every kind, small enough to train on in a test."""

import numpy as np
import polars as pl

START, DAY = 1_700_006_400, 86_400  # midnight, UTC
USERS, ITEMS = 40, 15


def tiny_events(seed: int = 0) -> pl.DataFrame:
    """20 events of each user, a fifth of them repeats of the user's last item; ids are text.

    Each user has 16 events in the first 48 days, two in the next six and two in the last six. A split by time
    cuts there, so that all users have training histories of one length, and there is one shape to compile.
    """
    random = np.random.default_rng(seed)
    rows = []
    for user in range(USERS):
        spans = ((0, 48, 16), (48, 54, 2), (54, 60, 2))
        times = START + np.sort(np.concatenate([random.integers(a * DAY, b * DAY, n) for a, b, n in spans]))
        item = -1
        for time in times:
            item = item if item >= 0 and random.random() < 0.2 else int(random.integers(ITEMS))
            rows.append((f"u{user:02}", f"i{item:02}", int(time)))
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return events.with_columns(
        behaviour=pl.Series(random.choice(["buy", "view"], len(rows))),
        device=pl.Series(random.choice(["phone", "tv"], len(rows))),
    )


def tiny_items() -> pl.DataFrame:
    """Every third item is jazz, the others rock; the price of i00 is missing."""
    return pl.DataFrame(
        {
            "item_id": [f"i{item:02}" for item in range(ITEMS)],
            "genre": ["jazz" if item % 3 == 0 else "rock" for item in range(ITEMS)],
            "price": [None, *(float(item) for item in range(1, ITEMS))],
        }
    )


def tiny_users() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": [f"u{user:02}" for user in range(USERS)],
            "country": ["de" if user % 2 else "fr" for user in range(USERS)],
        }
    )
