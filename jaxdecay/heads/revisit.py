r"""Revisit: the faded count of this very item, as a self-exciting intensity beside the other heads'.

$$ \rho_i(t) = \log\bigl(1 + e^{\theta} n_i(t) / p_i(t)\bigr),
\qquad n_i(t) = \sum_{j:\,\text{item}_j = i} a_j\, \varphi_{uj}(t - t_j) $$

With $p_i$ the probability under the other heads, this makes the intensity of item $i$ equal to $p_i +
e^{\theta} n_i$: the multivariate Hawkes process in which an item excites itself, seen at the times of
events (Hawkes 1971; for repeat consumption Wang et al., *SLRC*, 2019). The head is sparse: the normaliser
over the catalogue is $1 + e^{\theta}\sum_i n_i$, the faded mass of the user's history, whatever the number
of items, and the probability that the next choice is a repeat by excitation is $e^{\theta} N / (1 +
e^{\theta} N)$.

Satiation: what was taken last is not what is wanted next, however much it is liked. The count of the item
taken last is multiplied by $\exp(-\sigma\, 2^{-(t - t_{\text{last}}) / h_\sigma})$, with $\sigma$ and the
half-life $h_\sigma$ of recovery learned. Below 0 $\sigma$ says the opposite: the same once more.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdecay import readout
from jaxdecay.encoders import latest
from jaxdecay.history import History, Requests
from jaxdecay.interest import Bank
from jaxdecay.modes import in_days


class Revisit(nn.Module):
    """The bank of faded counts, how strongly a group or behaviour excites, the level $\\theta$, satiation.

    ``recovery``: days from which on the half-life of satiation is learned; infinite for one that stays, 0 for
    none.
    """

    decay: Bank
    groups: int = 0
    behaviours: int = 1
    recovery: float = 0.0

    def setup(self) -> None:
        zeros = nn.initializers.zeros
        self.level = self.param("level", zeros, ())
        self.group_strength = self.param("group_strength", zeros, (self.groups,)) if self.groups else None
        self.behaviour_strength = self.param("behaviour_strength", zeros, (self.behaviours,))
        if self.recovery:
            self.satiation = self.param("decay_satiation", zeros, ())
        if 0 < self.recovery < float("inf"):
            self.recovery_shift = self.param("decay_recovery", zeros, ())

    def kernel_weights(
        self, history: History, group: Int[Array, " n"], ages: readout.Ages, writes: Float[Array, "n c"]
    ) -> tuple[Float[Array, "n c"], Float[Array, "r c"]]:
        """What each event writes into and each request reads from the curves; writes include strength and
        event weight."""
        strength = self.behaviour_strength[history.behaviour]
        if self.group_strength is not None:
            strength += self.group_strength[group]
        amplitude = jnp.exp(strength) * jnp.maximum(history.weight, 0.0)
        reads = self.decay.read_weights(history.user, ages)
        return amplitude[:, None] * writes, reads

    def counts(
        self,
        history: History,
        requests: Requests,
        ages: readout.Ages,
        kernel_weights: tuple[Float[Array, "n c"], Float[Array, "r c"]],
        target: Int[Array, " r"],
    ) -> tuple[Float[Array, " r"], Float[Array, " r"]]:
        """The faded count of each request's target item, and that of all items together (never negative)."""
        basis, (writes, reads) = self.decay.basis(), kernel_weights
        own = readout.read_own(basis, writes, history.item, reads, target, ages)
        everything = readout.read(basis, writes, jnp.ones((writes.shape[0], 1), jnp.float32), reads, ages)[
            :, 0
        ]
        if self.recovery:
            last, left = self.satiated(history, requests, ages)
            everything -= (1.0 - left) * readout.read_own(basis, writes, history.item, reads, last, ages)
            own *= jnp.where(target == last, left, 1.0)
        return jnp.maximum(own, 0.0), jnp.maximum(everything, 0.0)

    def counts_of(
        self,
        history: History,
        requests: Requests,
        ages: readout.Ages,
        kernel_weights: tuple[Float[Array, "n c"], Float[Array, "r c"]],
        items: Int[Array, " k"],
    ) -> Float[Array, "r k"]:
        """The faded count of each of the given items at each request (never negative); an item may be named
        twice."""
        same = (history.item[:, None] == items[None]).astype(jnp.float32)
        writes, reads = kernel_weights
        found = readout.read(self.decay.basis(), writes, same, reads, ages)
        if self.recovery:
            last, left = self.satiated(history, requests, ages)
            found *= jnp.where(items[None] == last[:, None], left[:, None], 1.0)
        return jnp.maximum(found, 0.0)

    def satiated(
        self, history: History, requests: Requests, ages: readout.Ages
    ) -> tuple[Int[Array, " r"], Float[Array, " r"]]:
        """The item taken last before each request (-1 for none), and what satiation leaves of its count."""
        taken = history.mask & (history.weight > 0)
        row = latest(taken, ages.past.shape[0] + requests.seen)
        idle = in_days(requests.at - history.time[row])
        fading = self.satiation * jnp.ones_like(idle)
        if self.recovery < float("inf"):
            fading *= jnp.exp2(-idle / (self.recovery * jnp.exp(self.recovery_shift)))
        return jnp.where(row < 0, -1, history.item[row]), jnp.exp(-fading)

    def kernel(
        self,
        history: History,
        requests: Requests,
        ages: readout.Ages,
        kernel_weights: tuple[Float[Array, "n c"], Float[Array, "r c"]],
    ) -> Float[Array, "r n"]:
        """What each event still adds to the count of its own item at each request."""
        left = readout.kernel(self.decay.basis(), *kernel_weights, ages)
        if not self.recovery:
            return left
        last, fresh = self.satiated(history, requests, ages)
        return jnp.where(history.item[None] == last[:, None], fresh[:, None] * left, left)

    def excitation(self, counts: Float[Array, "..."]) -> Float[Array, "..."]:
        r"""$\theta + \log n$, the logarithm of the intensity that the counts add; very negative where there
        is none."""
        present = counts > 1e-30
        return jnp.where(present, self.level + jnp.log(jnp.where(present, counts, 1.0)), -1e9)


def with_excitation(base: Float[Array, "..."], excitation: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""Log-intensity from the base log-probability: $\log(p + e^{\theta} n) = \log p + \rho$."""
    return jnp.logaddexp(base, excitation)
