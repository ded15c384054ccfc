r"""Binary losses: is this item the next one, asked of the target and of negatives one by one.

The logit of an item is its log-intensity, at the level that the base scores set themselves:

$$ x_i = \log\bigl(e^{s_i} + \hat Z_y\, e^{\theta} n_i\bigr) = \log \hat Z_y + \log\bigl(\hat p_i + e^{\theta}
n_i\bigr). $$

The revisit head measures its counts against base *probabilities*; a binary loss leaves the sum of $e^{s_i}$
free. So the excitation is brought to the scores' level with the normaliser $\hat Z_y$ that the same negatives
estimate (`jaxdecay.losses.sampled`), and the order of the $x_i$ is the order in which the items are served.
Without a revisit head $x_i = s_i$.

Negatives that lie in the user's own history have their own excitation in $x_i$, like any item that could
have been taken and was not. Were they given the base score alone, nothing would ever speak against coming
back, and $\theta$ would grow without bound; were they left out, neither would anything speak against the very
items that are hardest to tell from the target.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdecay.errors import InputError
from jaxdecay.losses.likelihood import kept, only
from jaxdecay.losses.negatives import Negatives
from jaxdecay.losses.sampled import candidates
from jaxdecay.scorer import AnyScorer, Excitation


def bce(
    query: Float[Array, "t d"],
    moment: Int[Array, " t"],
    target: Int[Array, " t"],
    scorer: AnyScorer,
    excitation: Excitation | None = None,
    *,
    negatives: Negatives | None = None,
    where: Bool[Array, " t"] | None = None,
) -> Float[Array, " t"]:
    r"""Binary cross-entropy of the target against N negatives:

    $$ \ell = -\log \sigma(x_y) - \sum_{k:\, j_k \ne y} \frac{\alpha}{m_{j_k}} \log\bigl(1 -
    \sigma(x_{j_k})\bigr), \qquad \alpha = \frac{N}{V} $$

    The weight is 1 for negatives drawn from all V items alike, as in the source; other draws, expected $m_j$
    times, are weighted so that the sum estimates that of N such draws without bias, and the mixture they
    come from changes its variance only. Accidental hits are left out.

    Reference: Kang and McAuley 2018, *Self-attentive sequential recommendation* (with one negative a target).

    >>> from jaxdecay.scorer import Scorer
    >>> scorer = Scorer(jnp.eye(4), jnp.zeros(4), jnp.zeros((1, 4)))
    >>> first = jnp.zeros(1, jnp.int32)
    >>> drawn = Negatives(jnp.array([0, 2]), jnp.log(jnp.array([0.5, 0.5])))

    Two answers of one half, the third being for the target itself:

    >>> jnp.exp(-bce(jnp.zeros((1, 4)), first, first, scorer, negatives=drawn)).tolist()
    [0.25]
    """
    return gbce(query, moment, target, scorer, excitation, negatives=negatives, where=where, calibration=0.0)


def gbce(
    query: Float[Array, "t d"],
    moment: Int[Array, " t"],
    target: Int[Array, " t"],
    scorer: AnyScorer,
    excitation: Excitation | None = None,
    *,
    negatives: Negatives | None = None,
    where: Bool[Array, " t"] | None = None,
    calibration: float = 0.75,
) -> Float[Array, " t"]:
    r"""Generalised binary cross-entropy, which undoes the overconfidence that few negatives cause:

    $$ \ell = -\beta \log \sigma(x_y) - \sum_{k:\, j_k \ne y} \frac{\alpha}{m_{j_k}} \log\bigl(1 -
    \sigma(x_{j_k})\bigr), \qquad \beta = \alpha \Bigl(t \bigl(1 - \tfrac{1}{\alpha}\bigr) +
    \tfrac{1}{\alpha}\Bigr) = 1 - t\,(1 - \alpha) $$

    with the calibration $t$ and the sampling rate $\alpha = N / V$: how often each item but the target is
    expected among N uniform draws (in the source $k / (V - 1)$ with $k$ negatives other than the target,
    which is the same number for the $k = N (V-1)/V$ that accidental hits leave). $t = 0$ is `bce`; with $t =
    1$ the best $\sigma(x_i)$ is the probability of the item, whatever the number of negatives. The source
    divides the sum by the number of its terms; here it is left whole, so that a target weighs against the
    priors as in a likelihood.

    Reference: Petrov and Macdonald 2023, *gSASRec: reducing overconfidence in sequential recommendation
    trained with negative sampling*.

    >>> from jaxdecay.scorer import Scorer
    >>> scorer = Scorer(jnp.eye(4), jnp.zeros(4), jnp.zeros((1, 4)))
    >>> first = jnp.zeros(1, jnp.int32)
    >>> drawn = Negatives(jnp.array([0, 2]), jnp.log(jnp.array([0.5, 0.5])))

    The target's answer of one half now counts for 1 - 0.5 (1 - 2/4) = 3/4 of one:

    >>> loss = gbce(jnp.zeros((1, 4)), first, first, scorer, negatives=drawn, calibration=0.5)
    >>> (loss / jnp.log(2)).tolist()
    [1.75]
    """
    query, excitation = kept(where, query, excitation)
    found = candidates(query, moment, target, scorer, negatives)
    assert negatives is not None
    wanted, others = found.target, found.others
    if excitation is not None:
        if excitation.negatives is None:
            raise InputError("excitation.negatives=None: a binary loss needs what each negative gains, too")
        level = found.log_partition(negatives.log_expected)
        wanted = jnp.logaddexp(wanted, excitation.target + level)
        others = jnp.logaddexp(others, excitation.negatives + level[:, None])
    rate = negatives.item.shape[0] / scorer.bias.shape[0]
    weight = jnp.where(found.hit, 0.0, rate * jnp.exp(-negatives.log_expected)[None])
    beta = 1.0 - calibration * (1.0 - rate)
    return only(where, beta * jax.nn.softplus(-wanted) + (weight * jax.nn.softplus(others)).sum(-1))
