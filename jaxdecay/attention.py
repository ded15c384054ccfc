r"""Softmax attention over one user's events with a time-decay bias, at any request times.

$$ y_i = \frac{\sum_j e^{\ell_{ij}}\, v_j + e^{\ell_{i0}}\, v_0}{\sum_j e^{\ell_{ij}} + e^{\ell_{i0}}},
\qquad \ell_{ij} = \frac{\langle q_i, k_j\rangle}{\sqrt d} + \log\varphi(t'_i - t_j) $$

over the events $j$ that request $i$ sees, with any forgetting curve $\varphi$ of the age in days and an
optional *sink* $(\ell_{i0}, v_0)$ that does not fade. With queries of 0 the weights are those of
`jaxdecay.hybrid.dual`, divided by their sum.

**Without a sink an exponential curve hides the request time**: $-\lambda t'_i$ is the same for all events and
cancels in the softmax, whatever the number of heads and rates, in value and gradient. A request after a month
of silence gets what one at once would have got. The ways out: a sink whose value is not 0 (with the value 0
only the length of $y_i$ changes, not its direction), or a curve that is not exponential, under which old
events regain weight against new ones (`power`) or lose it ever faster (`gaussian`).

One head of one user: no axis for either, use `jax.vmap`. Ages are differences of integers.

References:
    Press, Smith, Lewis: Train short, test long (ALiBi, 2022), for a bias that grows with distance; Lin et
    al.: Forgetting transformer (2025); Xiao et al.: Efficient streaming language models with attention sinks
    (2024); Rabe, Staats: Self-attention does not need O(n^2) memory (2021), for the blocks.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxdecay import visibility
from jaxdecay.errors import InputError
from jaxdecay.modes import EXACT, in_days

Sink = tuple[Float[Array, ""] | Float[Array, " q"], Float[Array, " v"]]
"""Logit, one for all requests or one each (a query's product with a learned key), and value."""

_LOWEST = -1e30  # below every logit, and still finite
_PAIRS = 1 << 16  # pairs of request and event up to which all logits lie in memory at once
_BLOCK = 64  # requests in a block otherwise


def attend(
    queries: Float[Array, "q d"],
    keys: Float[Array, "k d"],
    values: Float[Array, "k v"],
    log_kernel: Callable[[Float[Array, "q k"]], Float[Array, "q k"]],
    time: Int[Array, " k"],
    *,
    at: Int[Array, " q"] | None = None,
    seen: Int[Array, " q"] | None = None,
    mask: Bool[Array, " k"] | None = None,
    sink: Sink | None = None,
    block: int | None = None,
    request_time: Literal["used", "ignored"] = "used",
) -> Float[Array, "q v"]:
    r"""What each request attends to, in float32 at least, whatever the precision of queries, keys and values.

    ``log_kernel`` is $\log\varphi$, elementwise, of ages in days from 0; write the logarithm of a curve that
    comes to 0 by hand (``-age / h * LN2``), for that of 0 is not finite. ``time`` and ``at`` are int32
    seconds on one clock; ``at`` is not before what is seen (earlier counts as age 0) and is by default that
    of the event in the same row. Request $i$ sees the first ``seen[i]`` rows, by default those up to its own,
    its own included: order is that of rows, also among ties. ``mask`` is False at padding, on any side.

    ``block``: requests whose logits lie in memory together. By default all of them up to 2^16 pairs of
    request and event, and 64 beyond; a block is computed again for the gradient, so that memory is that of
    ``block * k`` logits. The result is the same to rounding.

    Where ``at`` is given it is meant to matter: an exponential curve without a sink is refused
    (`jaxdecay.visibility`) unless ``request_time`` is "ignored" or its parameters are traced.

    | a request that sees | result | gradient |
    |---|---|---|
    | nothing, no sink | 0 | 0, also towards what is masked |
    | nothing, a sink | the sink's value | 1 to that value, 0 to all else |
    | one event, no sink | that event's value at every age | 0 in queries, keys and the curve |

    >>> log_kernel = lambda age: -age / 5.0 * jnp.log(2.0)  # a half-life of five days
    >>> time, values = jnp.array([0, 5 * 86_400]), jnp.array([[3.0], [0.0]])
    >>> attend(jnp.zeros((2, 4)), jnp.zeros((2, 4)), values, log_kernel, time)[:, 0].round(4).tolist()
    [3.0, 1.0]
    """
    requests = len(queries)
    if (at is None or seen is None) and requests != len(keys):
        raise InputError(
            f"{requests} queries for {len(keys)} keys: give both at and seen, one for each query"
        )
    if block is not None and block < 1:
        raise InputError(f"block={block}: give 1 or more requests")
    if at is not None and sink is None and request_time == "used" and visibility.one_factor(log_kernel):
        raise visibility.refuse("the bias is exponential and there is no sink")
    at = time if at is None else at
    if len(time) != len(keys) or len(at) != requests:
        raise InputError(
            f"{len(time)} times for {len(keys)} keys, {len(at)} request times for {requests} queries: give"
            " one for each"
        )
    seen = 1 + jnp.arange(requests, dtype=jnp.int32) if seen is None else seen
    mask = jnp.ones(len(keys), bool) if mask is None else mask
    wide = jnp.float64 if queries.dtype == jnp.float64 else jnp.float32
    level = jnp.full(requests, _LOWEST) if sink is None else jnp.broadcast_to(sink[0], requests)
    values = jnp.where(mask[:, None], values, 0.0).astype(wide)
    constant = jnp.zeros(values.shape[1], wide) if sink is None else sink[1].astype(wide)

    def rows(queries: Array, at: Array, seen: Array, level: Array) -> Array:
        """The outputs of some of the requests."""
        visible = mask[None] & (jnp.arange(len(keys), dtype=seen.dtype)[None] < seen[:, None])
        # Where an event is not visible it has no age: 0 keeps slopes finite.
        bias = log_kernel(jnp.where(visible, in_days(at[:, None] - time[None]), 0.0))
        match = jnp.einsum("qd,kd->qk", queries, keys, precision=EXACT, preferred_element_type=wide)
        logits = jnp.where(visible, match / keys.shape[1] ** 0.5 + bias.astype(wide), _LOWEST)
        # A softmax is the same whatever is subtracted: no gradient need pass.
        top = lax.stop_gradient(jnp.maximum(logits.max(1, initial=_LOWEST), level))
        weights = jnp.where(visible, jnp.exp(logits - top[:, None]), 0.0)
        unfaded = jnp.exp(level - top) if sink is not None else jnp.zeros_like(top)
        total = weights.sum(1) + unfaded
        summed = jnp.matmul(weights, values, precision=EXACT) + unfaded[:, None] * constant[None]
        return summed / jnp.where(total > 0.0, total, 1.0)[:, None]

    if block is None:
        block = requests if requests * len(keys) <= _PAIRS else _BLOCK
    level = level.astype(wide)
    if block >= requests:
        return rows(queries, at, seen, level)
    short = -requests % block
    blocks = [
        jnp.pad(x, [(0, short)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, block, *x.shape[1:])
        for x in (queries, at, seen, level)
    ]
    parts = lax.map(lambda part: jax.checkpoint(rows)(*part), tuple(blocks))
    return parts.reshape(-1, values.shape[1])[:requests]
