r"""Forward decay: how far an event lies from a landmark, over how far the request does."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdecay.kernels.ages import LN2, Number, counted


def forward(age: Float[Array, "..."], elapsed: Number, exponent: Number) -> Float[Array, "..."]:
    r"""$\varphi(t) = \Bigl(\dfrac{T-t}{T}\Bigr)^\beta$ with $\beta$ = ``exponent`` and $T$ = ``elapsed``
    $>0$, the days from the landmark (a registration, the start of a log) to the request.

    Forward decay $g(t_j-L)/g(t_q-L)$ with $g(n)=n^\beta$. An event is worth what it was worth when it
    happened, relative to an event of now: the weight of two events never changes, as under the exponential,
    but the fading slows down as $T$ grows.

    Half-life: `forward_half_life`, $T(1-2^{-1/\beta})$, which grows with $T$. Guarantees: within $[0, 1]$;
    monotone; not completely monotone (it ends at the landmark); streams exactly with one state on the clock
    $\ln(t-L)$, not on that of the wall. Exponents: $0\le\beta\le 100$.

    | age or parameter | value | gradient |
    |---|---|---|
    | age 0 | 1 | $-\beta/T$ in the age, 0 in $T$ and $\beta$ |
    | negative age | 1 | 0 |
    | age $T$ or more: at the landmark, or before | 0 | 0, by definition |
    | infinite age | 0 | 0 |
    | masked | the caller's `where` | 0, never NaN |
    | $\beta=0$ | 1 since the landmark: a landmark window | 0 in the age and $T$ |
    | $T$ infinite | 1: never fades | 0 |

    Source: Cormode, Shkapenyuk, Srivastava & Xu, *Forward decay: a practical time decay model for streaming
    systems*, ICDE (2009).

    >>> forward(jnp.array([0.0, 5.0, 10.0, 12.0]), 10.0, 2.0).tolist()
    [1.0, 0.25, 0.0, 0.0]
    """
    ratio = counted(age) / elapsed
    since = ratio < 1.0
    return jnp.where(since, jnp.exp(exponent * jnp.log1p(-jnp.where(since, ratio, 0.0))), 0.0)


def forward_half_life(elapsed: Number, exponent: Number) -> Float[Array, "..."]:
    r"""$h = T\,(1-2^{-1/\beta})$ days: the age at which `forward` has fallen to one half.

    >>> forward_half_life(jnp.array(12.0), 1.0).tolist()
    6.0
    """
    return -elapsed * jnp.expm1(-LN2 / jnp.asarray(exponent, jnp.result_type(elapsed)))
