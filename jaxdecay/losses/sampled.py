r"""The sampled softmax: the normaliser over the catalogue estimated from a few negatives.

With negatives $j_1, \dots, j_n$ shared by all targets, item $i$ expected $m_i$ times among them,

$$ \hat Z_y = e^{s_y} + \sum_{k:\, j_k \ne y} e^{s_{j_k} - \log m_{j_k}}, \qquad
\mathbb E\, \hat Z_y = \sum_i e^{s_i}. $$

Subtracting $\log m$ is the importance weight of Bengio and Senécal (2008), in the two-tower literature the
*logQ correction* (Yi et al. 2019). The target stands in the sum once, for certain: its expected number is 1,
its correction $\log 1 = 0$, and draws of it (accidental hits) are left out, since it is there already. So the
estimate of the normaliser is unbiased for every target, however often the target itself is drawn; correcting
it like the negatives, as is often done, is not (Khrylchenko et al. 2025). A duplicate is a draw like any
other: an item drawn twice where once was expected enters twice.

The logarithm is concave: $\log \hat Z$ is too small on average, by $\mathrm{var}(\hat Z) / 2 Z^2$ to first
order, which falls as $1/n$.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.errors import InputError
from jaxdecay.losses.likelihood import excited, kept, only
from jaxdecay.losses.negatives import Negatives
from jaxdecay.scorer import AnyScorer, Excitation


class Candidates(NamedTuple):
    """Base scores of T targets and of the N negatives they share."""

    target: Float[Array, " t"]
    others: Float[Array, "t n"]
    hit: Bool[Array, "t n"]
    """Whether the negative is the target itself, by accident."""

    def log_partition(self, log_expected: Float[Array, " n"]) -> Float[Array, " t"]:
        r"""$\log \hat Z_y$, from below at least the target's own score."""
        corrected = jnp.where(self.hit, -jnp.inf, self.others - log_expected[None])
        return jax.nn.logsumexp(jnp.concatenate([self.target[:, None], corrected], axis=1), axis=1)


def candidates(
    query: Float[Array, "t d"],
    moment: Int[Array, " t"],
    target: Int[Array, " t"],
    scorer: AnyScorer,
    negatives: Negatives | None,
) -> Candidates:
    """The scores that a loss on negatives needs; raises InputError without any."""
    if negatives is None:
        raise InputError("negatives=None: this loss needs some; draw them with jaxdecay.losses.draw")
    return Candidates(
        scorer.score(query, moment, target),
        scorer.among(query, moment, negatives.item),
        negatives.item[None] == target[:, None],
    )


def sampled_softmax(
    query: Float[Array, "t d"],
    moment: Int[Array, " t"],
    target: Int[Array, " t"],
    scorer: AnyScorer,
    excitation: Excitation | None = None,
    *,
    negatives: Negatives | None = None,
    where: Bool[Array, " t"] | None = None,
) -> Float[Array, " t"]:
    r"""The softmax with the estimated normaliser $\hat Z_y$:

    $$ \ell = -\log\Bigl(\frac{e^{s_y}}{\hat Z_y} + e^{\theta} n_y\Bigr)
    + \log\Bigl(1 + e^{\theta} \sum_i n_i\Bigr) $$

    What the revisit head adds needs no estimate: the mass of the user's own history is summed exactly, as in
    the full softmax, and nothing has to be drawn for it.

    Edge cases: every item once with an expected number of 1 gives the full softmax; only accidental hits
    give $\hat Z_y = e^{s_y}$ and a loss of 0 without excitation.

    References: Bengio and Senécal 2008, *Adaptive importance sampling to accelerate training of a neural
    probabilistic language model*; Yi et al. 2019, *Sampling-bias-corrected neural modeling for large corpus
    item recommendations*; Yang et al. 2020, *Mixed negative sampling for learning two-tower neural networks*;
    Khrylchenko et al. 2025, *Correcting the LogQ correction*.

    >>> from jaxdecay.scorer import Scorer
    >>> scorer = Scorer(jnp.eye(4), jnp.zeros(4), jnp.zeros((1, 4)))
    >>> first = jnp.zeros(1, jnp.int32)
    >>> drawn = Negatives(jnp.array([0, 2]), jnp.log(jnp.array([0.5, 0.5])))

    The first negative is the target; the second stands for 1 / 0.5 items:

    >>> jnp.exp(-sampled_softmax(jnp.zeros((1, 4)), first, first, scorer, negatives=drawn)).tolist()
    [0.33333]
    """
    query, excitation = kept(where, query, excitation)
    found = candidates(query, moment, target, scorer, negatives)
    assert negatives is not None
    return only(where, -excited(found.target - found.log_partition(negatives.log_expected), excitation))
