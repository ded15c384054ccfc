r"""The streaming face of every kernel of the algebra, on every clock.

A mode $t^n e^{-\lambda t}(c\cos\omega t+s\sin\omega t)$ is read from a chain of $n+1$ complex states
$z_k=\sum_j (t-t_j)^k e^{-(\lambda-i\omega)(t-t_j)}\,b_j$. When a gap $g$ has passed, each has become

$$ z_k \leftarrow e^{-(\lambda-i\omega)g} \sum_{i\le k} \binom{k}{i} g^{k-i} z_i, $$

an event adds itself to $z_0$, and the kernel's value is $\sum_m \mathrm{Re}\,(c_m-is_m)\,z_{m,n_m}$: the sum
of $\varphi(t-t_j)\,b_j$ over all events, whatever the phases and degrees. Kernels without either stream more
cheaply by `jaxdecay.state`, with `Kernel.modes`.

Gaps are in the unit of the kernel's half-lives on whatever clock: days, or what `jaxdecay.clocks.gaps_on`
gives. A state is an array and linear in the events: two that have been advanced to the same reading are
merged by adding them, and an event is deleted by writing it with a minus when it has been advanced as far. No
batch axis: use `jax.vmap`.

Source: Jordan chains of a linear realisation; as a memory of events, the gamma model of de Vries & Principe
(1992).
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jaxdecay.algebra import Kernel
from jaxdecay.modes import EXACT, Modes


def init(kernel: Kernel, width: int) -> Float[Array, "p s d"]:
    """The state before any event, of vectors of ``width`` numbers: real parts and, if a mode oscillates,
    imaginary parts of the chains of all modes, one after the other."""
    return jnp.zeros((2 if any(kernel.oscillates) else 1, len(_places(kernel)), width), kernel.rate.dtype)


def advance(kernel: Kernel, state: Float[Array, "p s d"], gap: Num[Array, ""]) -> Float[Array, "p s d"]:
    """The state when a gap, 0 or more, has passed.

    >>> from jaxdecay import algebra
    >>> kernel = algebra.erlang(0.5, 3)  # peaks after 4 days
    >>> state = write(kernel, init(kernel, 1), jnp.array([2.0]))
    >>> float(read(kernel, advance(kernel, state, jnp.array(4.0)))[0] / kernel(jnp.array(4.0)))
    2.0
    """
    gap = gap.astype(kernel.rate.dtype)
    mode = np.array([m for m, _ in _places(kernel)])
    modes = Modes(kernel.rate[mode], kernel.frequency[mode] if any(kernel.oscillates) else None)
    if any(kernel.degree):
        state = jnp.einsum("st,ptd->psd", _shifted(kernel, gap), state, precision=EXACT)
    return modes.advance(state, modes.phasors(gap))


def write(kernel: Kernel, state: Float[Array, "p s d"], event: Float[Array, " d"]) -> Float[Array, "p s d"]:
    """The state after an event now."""
    heads = np.array([place == 0 for _, place in _places(kernel)])
    return state.at[0, heads].add(event[None])


def read(kernel: Kernel, state: Float[Array, "p s d"]) -> Float[Array, " d"]:
    """What the kernel has left of all events now."""
    tails = np.cumsum(np.array(kernel.degree) + 1) - 1
    real = jnp.matmul(kernel.cosine, state[0, tails], precision=EXACT)
    return real if len(state) == 1 else real + jnp.matmul(kernel.sine, state[1, tails], precision=EXACT)


def _places(kernel: Kernel) -> list[tuple[int, int]]:
    """Mode and power of the age of every state."""
    return [(m, power) for m, degree in enumerate(kernel.degree) for power in range(degree + 1)]


def _shifted(kernel: Kernel, gap: Num[Array, ""]) -> Float[Array, "s s"]:
    r"""What each state takes of each other: $\binom{k}{i} g^{k-i}$ within a chain."""
    places = _places(kernel)
    power = np.array([[k - i if m == n else -1 for n, i in places] for m, k in places])
    share = np.array([[math.comb(k, i) if m == n else 0 for n, i in places] for m, k in places])
    powers = jnp.stack([gap**n for n in range(1 + power.max())])
    return jnp.asarray(share, gap.dtype) * jnp.where(power >= 0, powers[np.maximum(power, 0)], 0.0)
