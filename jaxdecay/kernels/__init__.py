r"""Forgetting curves $\varphi(\text{age})$ as plain functions of arrays: how much of an event is left.

Ages, half-lives, periods and stabilities are in days. The age comes first, then the parameters; all are
float32 or float64 arrays (parameters may be Python floats) and broadcast against one another. There is no
batch axis: `jax.vmap`. Every curve has $\varphi(0)=1$, except the `erlang` bump of degree 1 or more, which
rises from 0. The parameter ``half_life`` is the age $h$ at which $\varphi(h)=\frac{1}{2}$
(of a `damped_cosine`: of its envelope); where another
parameter is the natural one, a function beside the curve gives the half-life (`bank_half_life`,
`fsrs_half_life`, `piecewise_half_life`, `forward_half_life`).

**Which ages count.** A negative age counts as 0 and an infinite one as 1e8 days, with a gradient of 0 in the
age in both cases. Value and gradient are therefore finite for every age in float32, and a mask applied
afterwards (``jnp.where(mask, curve, 0.0)``) is safe: whatever stands in the masked places, no gradient
becomes NaN. An age that is NaN stays NaN. All this holds for half-lives from a second to a century
and for the shapes that each docstring names; parameters are not checked and not clipped.

| curve | half-life | monotone | completely monotone | streams exactly |
|---|---|---|---|---|
| `exponential` | $h$ | yes | yes | 1 state |
| `bank` | `bank_half_life` | yes | yes | K states, and one for the floor |
| `raised_cosine` | quarter of a period, less if sharper | no | no | 2 sharpness + 1 real states |
| `damped_cosine` | $h$, of its envelope | no | no | 3 real states |
| `erlang` | $h$, after its peak | no | no | degree + 1 states |
| `q_exponential`, `power`, `hyperbolic` | $h$ | yes | yes | no |
| `fsrs` | `fsrs_half_life` | yes | yes | no |
| `logarithmic` | $h$ | yes | yes | no |
| `weibull` | $h$ | yes | up to shape 1 | at shape 1 |
| `gaussian` | $h$ | yes | no | no |
| `logistic` | $h$ | yes | up to steepness 1 | at steepness 1 |
| `piecewise` | `piecewise_half_life` | if its values descend | no | no |
| `forward` | `forward_half_life` | yes | no | 1 state, on the clock of the logarithm |

*Completely monotone* curves are the positive mixtures of exponentials (Bernstein's theorem): few modes
approximate them, and while a user is idle the old events regain relative weight. Under a log-concave curve
(`gaussian`, `weibull` above shape 1, `logistic` above steepness 1) the newest event takes over instead.
*Streams exactly* says that a state of fixed size gives the same sums as all events; only sums of terms
$t^m e^{-\lambda t}\cos\omega t$ do so on the clock of the wall.
"""

from jaxdecay.kernels.ages import LN2, LONGEST, Number, counted
from jaxdecay.kernels.exponentials import bank, bank_half_life, exponential, regressed_half_life
from jaxdecay.kernels.landmarks import forward, forward_half_life
from jaxdecay.kernels.powers import fsrs, fsrs_half_life, hyperbolic, logarithmic, power, q_exponential
from jaxdecay.kernels.segments import piecewise, piecewise_half_life
from jaxdecay.kernels.stretched import gaussian, logistic, weibull
from jaxdecay.kernels.waves import (
    damped_cosine,
    erlang,
    half_over_peak,
    harmonics,
    raised_cosine,
)

__all__ = [
    "LN2",
    "LONGEST",
    "Number",
    "bank",
    "bank_half_life",
    "counted",
    "damped_cosine",
    "erlang",
    "exponential",
    "forward",
    "forward_half_life",
    "fsrs",
    "fsrs_half_life",
    "gaussian",
    "half_over_peak",
    "harmonics",
    "hyperbolic",
    "logarithmic",
    "logistic",
    "piecewise",
    "piecewise_half_life",
    "power",
    "q_exponential",
    "raised_cosine",
    "regressed_half_life",
    "weibull",
]
