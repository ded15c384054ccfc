r"""Gated recurrent units as sequence mixers: a state that each event rewrites as it sees fit.

$$ h_j = \mathrm{cell}(h_{j-1}, x_j), \qquad y_j = W_o\, h_j $$

with the cell of a GRU or an LSTM. No time enters. It streams: what it carries is the cell's state, as many
numbers as the width (GRU) or twice that (LSTM), in float32. An event that does not count hands it on as it
is. Not linear in the events: a late one or a deleted one is answered by replay.

References:
    Cho et al.: Learning phrase representations using RNN encoder-decoder (2014), for the GRU; Hochreiter,
    Schmidhuber: Long short-term memory (1997); Hidasi et al.: Session-based recommendations with recurrent
    neural networks (GRU4Rec, 2016).
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdecay.encoders.events import Places

State = Any
"""An array of the width (GRU), or two (LSTM: memory and output)."""


class Recurrent(nn.Module):
    """A layer of ``cell``, of the width of what it reads."""

    cell: Literal["gru", "lstm"]
    dtype: jax.typing.DTypeLike = jnp.float32

    @nn.nowrap
    def start(self, width: int) -> State:
        """What is carried before the first event: zeros."""
        nothing = jnp.zeros(width, jnp.float32)
        return nothing if self.cell == "gru" else (nothing, nothing)

    @nn.compact
    def __call__(
        self, x: Float[Array, "n d"], places: Places, carry: State | None = None
    ) -> tuple[Float[Array, "n d"], State | None]:
        """With a ``carry`` the state after the rows comes beside what they find."""
        width = x.shape[1]
        cells = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
        cell = cells[self.cell](width, dtype=self.dtype, name="cell")
        start = self.start(width) if carry is None else carry
        # On a mesh the state must vary over devices from the start, as the events do.
        start = jax.tree.map(lambda part: jnp.where(False, x[0].astype(part.dtype), part), start)
        over = nn.scan(_step, variable_broadcast="params", split_rngs={"params": False})
        after, states = over(cell, start, (x, places.mask))
        zeros = nn.initializers.zeros
        found = nn.Dense(width, dtype=self.dtype, kernel_init=zeros, name="out")(states)
        return found, None if carry is None else after


def _step(
    cell: nn.RNNCellBase, state: State, event: tuple[Float[Array, " d"], Bool[Array, ""]]
) -> tuple[State, Float[Array, " d"]]:
    x, counts = event
    fresh, _ = cell(state, x)
    # Sums of float32 states and half-precision gates are float32.
    state = jax.tree.map(lambda new, old: jnp.where(counts, new.astype(old.dtype), old), fresh, state)
    return state, jax.tree.leaves(state)[-1]
