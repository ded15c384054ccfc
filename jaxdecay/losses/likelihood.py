r"""The full softmax: the likelihood of what was chosen next, over the whole catalogue.

A request takes item $i$ with intensity $p_i + e^{\theta} n_i$: the base probability $p_i = e^{s_i} /
\sum_{i'} e^{s_{i'}}$, with the base score $s_i = \langle q, v_i\rangle + b_i + \mathrm{pop}_i(t)$, and a
faded count $n_i$ for the few items of the user's own history. The log-likelihood of the target $y$ is
$\log(p_y + e^{\theta} n_y) - \log(1 + e^{\theta} \sum_i n_i)$.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.losses.negatives import Negatives
from jaxdecay.losses.partition import log_partition
from jaxdecay.scorer import Excitation, Scorer


def log_likelihood(
    query: Float[Array, "t d"],
    moment: Int[Array, " t"],
    target: Int[Array, " t"],
    scorer: Scorer,
    excitation: Excitation | None = None,
    *,
    item_chunk: int = 20_000,
) -> Float[Array, " t"]:
    """Log-likelihood of each target item among the scorer's candidates."""
    base = scorer.score(query, moment, target) - log_partition(query, moment, scorer, item_chunk)
    return excited(base, excitation)


def softmax(
    query: Float[Array, "t d"],
    moment: Int[Array, " t"],
    target: Int[Array, " t"],
    scorer: Scorer,
    excitation: Excitation | None = None,
    *,
    negatives: Negatives | None = None,
    where: Bool[Array, " t"] | None = None,
    item_chunk: int = 20_000,
) -> Float[Array, " t"]:
    r"""Full softmax (cross-entropy over the catalogue):

    $$ \ell = -\log(p_y + e^{\theta} n_y) + \log\Bigl(1 + e^{\theta} \sum_i n_i\Bigr),
    \qquad p_y = \frac{e^{s_y}}{\sum_i e^{s_i}} $$

    Exact, whatever ``item_chunk``; it bounds the scores held at a time. ``negatives`` are not read: every
    item is one.

    >>> from jaxdecay.scorer import Scorer
    >>> scorer = Scorer(jnp.eye(4), jnp.zeros(4), jnp.zeros((1, 4)))
    >>> first = jnp.zeros(1, jnp.int32)
    >>> jnp.exp(-softmax(jnp.zeros((1, 4)), first, first, scorer)).tolist()
    [0.25]

    With an excitation of 1 for the target, which is all of it, (1/4 + 1) / (1 + 1):

    >>> one = jnp.zeros(1)
    >>> jnp.exp(-softmax(jnp.zeros((1, 4)), first, first, scorer, Excitation(one, one))).tolist()
    [0.625]
    """
    query, excitation = kept(where, query, excitation)
    return only(where, -log_likelihood(query, moment, target, scorer, excitation, item_chunk=item_chunk))


def excited(base: Float[Array, " t"], excitation: Excitation | None) -> Float[Array, " t"]:
    r"""The log-likelihood with the revisit head from the base log-probability: $\log(p_y + e^{\theta} n_y) -
    \log(1 + e^{\theta} \sum_i n_i)$."""
    if excitation is None:
        return base
    return jnp.logaddexp(base, excitation.target) - jax.nn.softplus(excitation.total)


def kept(
    where: Bool[Array, " t"] | None, query: Float[Array, "t d"], excitation: Excitation | None
) -> tuple[Float[Array, "t d"], Excitation | None]:
    """Queries and excitation with zeros where the target does not count, so that whatever stands there gives
    no slope, NaN included."""
    if where is None:
        return query, excitation

    def zeroed(x: Array) -> Array:
        return jnp.where(where.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)

    return zeroed(query), jax.tree.map(zeroed, excitation)


def only(where: Bool[Array, " t"] | None, loss: Float[Array, " t"]) -> Float[Array, " t"]:
    """The loss, 0 where the target does not count."""
    return loss if where is None else jnp.where(where, loss, 0.0)
