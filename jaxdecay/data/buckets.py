"""Classes of like length: which padded lengths to compile for, so that short histories pay little for long
ones."""

import numpy as np

_DISTINCT = 256
_WORTH = 0.9


def least_padding(
    lengths: np.ndarray, classes: int, *, step: int = 1, worth: int = 0
) -> list[tuple[int, np.ndarray]]:
    """Splits lengths into at most ``classes``, each padded to its largest, with the fewest padded places in
    all.

    Exact by dynamic programming over the distinct lengths (rounded up to a multiple of ``step``; of more
    than 256 of them, over their quantiles). Fewer classes are used where one more would save less than
    10 % or fewer than ``worth`` places, since each costs a compilation.

    Returns each class's padded length and the indices of its members, shortest first; nothing for no lengths.

    >>> [(edge, members.tolist()) for edge, members in least_padding(np.array([2, 90, 3, 100]), 2)]
    [(3, [0, 2]), (100, [1, 3])]
    """
    if not len(lengths):
        return []
    padded = -(-np.asarray(lengths) // step) * step
    edges = np.unique(padded)
    if len(edges) > _DISTINCT:
        edges = np.unique(np.quantile(padded, np.linspace(0, 1, _DISTINCT), method="higher"))
    upto = np.cumsum(np.bincount(np.searchsorted(edges, padded), minlength=len(edges)))

    places = (edges * upto).astype(np.float64)  # with one class up to each edge
    totals, choices = [places[-1]], []
    for _ in range(min(classes, len(edges)) - 1):
        options = places[None, :] + edges[:, None] * (upto[:, None] - upto[None, :])
        options[np.triu_indices(len(edges))] = np.inf
        choices.append(options.argmin(axis=1))
        places = options.min(axis=1)
        totals.append(places[-1])
    used = 1
    while used < len(totals) and totals[used - 1] - totals[used] > max(
        (1 - _WORTH) * totals[used - 1], worth
    ):
        used += 1

    chosen = [len(edges) - 1]
    for choice in reversed(choices[: used - 1]):
        chosen.append(int(choice[chosen[-1]]))
    limits = edges[sorted(chosen)]
    group = np.searchsorted(limits, padded)
    return [(int(limit), np.flatnonzero(group == i)) for i, limit in enumerate(limits)]
