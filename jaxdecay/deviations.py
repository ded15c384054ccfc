r"""Who departs from the average, and by how much: deviations of users, items and behaviours from shared
weights over the curves of a bank.

Rates belong to all; what differs are the weights of the kernel $\varphi_{uj}(t) = \sum_c r_{uc}\, w_{jc}\,
\varphi_c(t)$. Users deviate in how they read ($r$), items and behaviours in how they are written ($w$), as
logits that are added to those of the average before the softmax:

$$ r_u = C\,\mathrm{softmax}(\rho + \delta_u), \qquad w_j = \mathrm{softmax}(\nu + \delta_{i(j)} +
\delta_{b(j)}), \qquad \delta \sim N(0, \sigma^2). $$

The prior is what shrinks: someone seen rarely stays near the average, and someone unknown is the average,
exactly. Tables lie under ``decay`` with the names that `jaxdecay.interest.Bank` and `jaxdecay.priors` use.

>>> module = PerItem(rows=3, curves=2)
>>> table = {"params": {"decay": {"item_write": jnp.array([[0.0, 0.0], [2.0, -2.0], [0.0, 1.0]])}}}
>>> module.apply(table, jnp.array([1, 3])).tolist()
[[2.0, -2.0], [0.0, 0.0]]
>>> module.apply(table, 2.0, method="negative_log_prior").tolist()
1.125
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdecay.interest import rows_of


class _Deviations(nn.Module):
    """A table of deviations from 0; abstract, the classes below say of what."""

    rows: int
    curves: int
    _kind: ClassVar[str]

    def setup(self) -> None:
        shape = (self.rows, self.curves)
        self.table = self.param("decay", lambda _: {self._kind: jnp.zeros(shape, jnp.float32)})[self._kind]

    def __call__(self, index: Int[Array, "..."]) -> Float[Array, "... c"]:
        """Deviations of the logits; 0 for an index outside the table."""
        return rows_of(self.table, index)

    def negative_log_prior(self, sd: Float[Array, ""] | float) -> Float[Array, ""]:
        r"""$\frac{1}{2}\sum(\delta/\sigma)^2$ for the standard deviation $\sigma$ in units of a logit: to be
        added once to the negative log-likelihood of *all* events, hence divided by their number beside a
        mean."""
        return 0.5 * jnp.square(self.table / sd).sum()


class PerUser(_Deviations):
    """How users read. A prior of 0.2 leaves a user of a few dozen events near the average."""

    _kind: ClassVar[str] = "user_read"


class PerItem(_Deviations):
    """How events are written by their item; the usual prior is 0.2."""

    _kind: ClassVar[str] = "item_write"


class PerBehaviour(_Deviations):
    """How events are written by their behaviour (view, purchase, ...): few and often seen, the prior is wide,
    usually 2."""

    _kind: ClassVar[str] = "behaviour_write"
