r"""Theorem A: when the time of a request can change nothing.

A positive factor changes no ranking. While nothing happens, a state that fades as a whole by one exponential
is only multiplied by such a factor; a softmax over events with an exponential bias is not even that, since
the factor is common to its sum and cancels. In both the ranking stays what it was, however long the user is
away, and the half-life gets no gradient from that time. A configuration of which this holds is refused,
unless it says that it is meant.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxdecay.errors import InputError

_AGES = (0.0, 0.01, 0.3, 2.0, 11.0, 60.0, 400.0, 4000.0)  # days


def refuse(what: str) -> InputError:
    """The error for a configuration whose request time is dead: the reason, and the ways out."""
    return InputError(
        f"request_time='used', but {what}: idle time would multiply all interests by one factor, which"
        " changes no ranking (Theorem A). Ways out: two or more rates, or a kernel that is not exponential; a"
        " term that does not fade (an item bias, a floor, an attention sink); or say request_time='ignored'."
    )


def one_factor(log_kernel: Callable[[Float[Array, "1 a"]], Float[Array, "1 a"]]) -> bool:
    """Whether a kernel is one exponential, or constant: its logarithm a straight line in the age.

    False where that cannot be seen, because its parameters are traced or it takes ages of one shape only.

    >>> one_factor(lambda age: -age / 7.0), one_factor(lambda age: -jnp.log1p(age))
    (True, False)
    """
    age = np.array(_AGES)
    try:
        with jax.ensure_compile_time_eval():
            found = log_kernel(jnp.asarray(age, jnp.result_type(float))[None])
    except TypeError:  # of ages of its own shape alone
        return False
    if isinstance(found, jax.core.Tracer) or not np.isfinite(np.asarray(found)).all():
        return False
    fall = np.asarray(found, np.float64)[0]
    fall -= fall[0]
    return bool(np.allclose(fall[1:] / age[1:], fall[-1] / age[-1], rtol=1e-3, atol=1e-12))
