"""Events that were no choice (label 0, or a weight not above 0): seen, but no targets, and counted by
nobody."""

import numpy as np
import pytest
import toys

from jaxdecay.baselines.counts import visible
from jaxdecay.data.batches import Batches
from jaxdecay.data.catalogue import build_catalogue, first_seen, timeline
from jaxdecay.data.gather import Reference
from jaxdecay.data.histories import Histories
from jaxdecay.data.requests import requests
from jaxdecay.errors import InputError


@pytest.fixture(scope="module")
def histories() -> Histories:
    """Two users: 0 takes 0, 1, 2, 3 and then, in validation, 0 and 1 again; 1 takes 2 and 3. The second event
    and the last of user 0 have label 0, the third a weight of -1."""
    return Histories.from_arrays(
        user=np.array([0, 0, 0, 0, 0, 0, 1, 1]),
        item=np.array([0, 1, 2, 3, 0, 1, 2, 3]),
        time=np.arange(8) * 86_400 + 1_700_000_000,
        label=np.array([1, 0, np.nan, 1, 1, 0, 1, 1], np.float32),
        weight=np.array([1, 1, -1, 1, 1, 1, 2, 2], np.float32),
        part=np.array([0, 0, 0, 0, 1, 1, 0, 0], np.int8),
    )


def test_which(histories: Histories) -> None:
    assert histories.chosen.tolist() == [True, False, False, True, True, False, True, True]


def test_they_are_no_targets_of_training_but_in_its_histories(histories: Histories) -> None:
    catalogue = build_catalogue(histories, [np.inf])
    batches = Batches(histories, catalogue, Reference.of(histories), window=4, tokens=64)
    assert batches.targets == 4
    made = [batches[step] for step in range(batches.per_epoch)]
    assert sum(int(batch.valid.sum()) for batch in made) == 4
    assert sum(int(batch.history.mask.sum()) for batch in made) == 6
    weights = np.concatenate([batch.history.weight[batch.history.mask] for batch in made])
    assert sorted(np.round(weights * Reference.of(histories).weight)) == [-1, 0, 1, 1, 2, 2]


def test_no_popularity_counts_them_though_their_items_are_known(histories: Histories) -> None:
    assert timeline(histories).item.tolist() == [0, 3, 0, 2, 3]
    assert (first_seen(histories) <= histories.time.max()).all()


def test_no_baseline_takes_them_for_own_items(histories: Histories) -> None:
    asked = requests(histories, 1)
    own = visible(histories, asked)
    assert [(int(r), int(i)) for r, i in zip(own.row, own.item, strict=True)] == [
        (0, 0),
        (0, 3),
        (1, 0),
        (1, 3),
    ]
    assert histories.item[own.last].tolist() == own.item.tolist()
    assert own.last.tolist() == [0, 3, 4, 3]


def test_requests_for_what_was_chosen(histories: Histories) -> None:
    assert len(requests(histories, 1)) == 2
    assert requests(histories, 1, chosen=True).targets.tolist() == [0]


def test_a_log_of_nothing_but_refusals_is_refused() -> None:
    log = toys.log((4,) * 3, items=5)
    refused = log.replace(label=np.zeros(log.events, np.float32))
    batches = Batches(refused, build_catalogue(log, [np.inf]), Reference.of(log), window=4)
    with pytest.raises(InputError, match="nothing to learn from"):
        _ = batches.targets
