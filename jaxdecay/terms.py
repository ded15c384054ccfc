r"""The arithmetic of exponential polynomials, on plain arrays: what `jaxdecay.algebra` calculates with.

A term is $t^n e^{-\lambda t}(c\cos\omega t+s\sin\omega t)=\operatorname{Re}\,a\,t^n e^{pt}$ with the
amplitude $a=c-is$ and the pole $p=-\lambda+i\omega$. Ages $t$ in days.
"""

import math
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from jaxdecay.errors import InputError

_ENDED = 50.0  # mean lifetimes after which what fades is gone: 2e-22 of it is left
_TURNS = 30_000  # of the fastest oscillation, that a search looks at
_PER_TURN = 32
_REACHED = 1e-6  # how far below half a curve must get: rounding does not bring a floor of one half there


class Terms(NamedTuple):
    """M terms; the last two fields are known without looking at the arrays."""

    rate: Any
    """(m,) per day."""
    frequency: Any
    """(m,) radians per day; 0 where the term does not oscillate."""
    cosine: Any
    """(m,) amplitude of the cosine, or of the whole term where it does not oscillate."""
    sine: Any
    """(m,) amplitude of the sine; 0 where the term does not oscillate."""
    degree: tuple[int, ...]
    oscillates: tuple[bool, ...]

    @property
    def pole(self) -> Complex[Array, " m"]:
        return jax.lax.complex(-self.rate, self.frequency)

    @property
    def amplitude(self) -> Complex[Array, " m"]:
        return jax.lax.complex(self.cosine, -self.sine)

    @property
    def concrete(self) -> bool:
        """Whether rates and frequencies are numbers that can be compared, not tracers."""
        return not any(isinstance(x, jax.core.Tracer) for x in (self.rate, self.frequency))


def curve(terms: Terms, age: Any, xp: ModuleType = jnp) -> Any:
    """The sum of the terms at ages (a,), in JAX or NumPy."""
    rate, frequency, cosine, sine = (x[None] for x in terms[:4])
    age = age[:, None]
    fade = xp.exp(-rate * age)
    if any(terms.degree):
        # The root first and the power after it: apart, t^n and e^(-λt) leave the range of floats.
        root = age * xp.exp(-rate * age / np.maximum(terms.degree, 1).astype(rate.dtype)[None])
        fade = xp.stack([root[:, m] ** n if n else fade[:, m] for m, n in enumerate(terms.degree)], -1)
    if not any(terms.oscillates):
        return (fade * cosine).sum(-1)
    angle = frequency * age
    return (fade * (cosine * xp.cos(angle) + sine * xp.sin(angle))).sum(-1)


def joined(a: Terms, b: Terms) -> Terms:
    """The sum of two curves."""
    return Terms(
        jnp.concatenate([a.rate, b.rate]),
        jnp.concatenate([a.frequency, b.frequency]),
        jnp.concatenate([a.cosine, b.cosine]),
        jnp.concatenate([a.sine, b.sine]),
        a.degree + b.degree,
        a.oscillates + b.oscillates,
    )


def product(a: Terms, b: Terms) -> Terms:
    r"""Term by term: $\operatorname{Re}x\operatorname{Re}y=\frac{1}{2}\operatorname{Re}(xy+x\bar y)$, which
    is one term where one of the two does not oscillate."""
    pairs = [
        (i, j, sign, 0.5 if both else 1.0)
        for i, first in enumerate(a.oscillates)
        for j, second in enumerate(b.oscillates)
        for both in [first and second]
        for sign in ((1.0, -1.0) if both else (1.0,))
    ]
    i, j, sign, share = (np.array(column) for column in zip(*pairs, strict=True))
    sign, share = jnp.asarray(sign, a.rate.dtype), jnp.asarray(share, a.rate.dtype)
    return Terms(
        a.rate[i] + b.rate[j],
        a.frequency[i] + sign * b.frequency[j],
        share * (a.cosine[i] * b.cosine[j] - sign * a.sine[i] * b.sine[j]),
        share * (a.sine[i] * b.cosine[j] + sign * a.cosine[i] * b.sine[j]),
        tuple(a.degree[m] + b.degree[n] for m, n in zip(i, j, strict=True)),
        tuple(a.oscillates[m] or b.oscillates[n] for m, n in zip(i, j, strict=True)),
    )


def convolution(a: Terms, b: Terms) -> Terms:
    r"""$\int_0^t \varphi_a(u)\varphi_b(t-u)\,du$ by partial fractions.

    Apart from equal poles, a term $a\,t^n e^{pt}$ becomes $a\,\partial_p^n\bigl(e^{pt}\,B(p)\bigr)$ with the
    Laplace transform $B$ of the other curve. Equal poles: $t^n e^{pt} * t^m e^{pt} = \frac{n!\,m!}{(n+m+1)!}
    t^{n+m+1} e^{pt}$.
    """
    same = _same_poles(a, b)
    parts = [*_fractions(a, b, same), *_fractions(b, a, (same[0].T, same[1].T))]
    for mask, theirs in zip(same, (b.amplitude, b.amplitude.conj()), strict=True):
        for i, j in np.argwhere(mask):
            n, m = a.degree[i], b.degree[j]
            share = 0.5 * math.factorial(n) * math.factorial(m) / math.factorial(n + m + 1)
            parts.append((a, int(i), n + m + 1, share * a.amplitude[i] * theirs[j]))
    amplitude = jnp.stack([part[3] for part in parts])
    oscillates = tuple(source.oscillates[i] for source, i, _, _ in parts)
    return Terms(
        jnp.stack([source.rate[i] for source, i, _, _ in parts]),
        jnp.stack([source.frequency[i] for source, i, _, _ in parts]),
        amplitude.real,
        jnp.where(np.array(oscillates), -amplitude.imag, 0),
        tuple(degree for _, _, degree, _ in parts),
        oscillates,
    )


def _fractions(a: Terms, b: Terms, same: tuple[np.ndarray, np.ndarray]) -> list[tuple[Terms, int, int, Any]]:
    """The terms of a convolution that have the poles of ``a``: which, of what degree, with what
    amplitude."""
    found = []
    for order in range(max(a.degree) + 1):
        slope = _transform(b, a.pole, order, same)
        found += [
            (a, i, n - order, math.comb(n, order) * a.amplitude[i] * slope[i])
            for i, n in enumerate(a.degree)
            if n >= order
        ]
    return found


def _transform(
    terms: Terms, at: Complex[Array, " s"], order: int, skip: tuple[np.ndarray, np.ndarray]
) -> Complex[Array, " s"]:
    r"""Derivative of some order of the Laplace transform, without the pairs (s, m) that are to be skipped:
    those at the pole $p$, and those at $\bar p$."""
    total = jnp.zeros_like(at)
    for conjugate, leave in enumerate(skip):
        pole, amplitude = terms.pole, terms.amplitude
        if conjugate:
            pole, amplitude = pole.conj(), amplitude.conj()
        gap = jnp.where(leave, 1, at[:, None] - pole[None])
        power = jnp.stack([gap[:, m] ** (n + 1 + order) for m, n in enumerate(terms.degree)], -1)
        scale = np.array([0.5 * (-1) ** order * math.factorial(n + order) for n in terms.degree])
        amplitude = jnp.asarray(scale, amplitude.dtype) * amplitude
        total = total + jnp.where(leave, 0, amplitude[None] / power).sum(-1)
    return total


def _same_poles(a: Terms, b: Terms) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs (i, j) have equal poles, and which have conjugate ones; refuses pairs too close to tell."""
    shape = len(a.degree), len(b.degree)
    if not (a.concrete and b.concrete):
        return np.zeros(shape, bool), np.zeros(shape, bool)
    p, q = (-np.asarray(x.rate, float) + 1j * np.asarray(x.frequency, float) for x in (a, b))
    powers = np.add.outer(a.degree, b.degree) + 1
    size = np.maximum(abs(p)[:, None], abs(q)[None])
    enough = size * float(jnp.finfo(a.rate.dtype).eps) ** (0.5 / powers)
    for pole in (q, q.conj()):
        gap = abs(p[:, None] - pole[None])
        for i, j in np.argwhere((gap > 0) & (gap < enough))[:1]:
            raise InputError(
                f"convolve: rates {-p[i].real:.7g} and {-q[j].real:.7g} per day, frequencies"
                f" {p[i].imag:.7g} and {q[j].imag:.7g}, are too close for {a.rate.dtype}, which needs them"
                f" {enough[i, j]:.1g} apart; make them equal, which is exact, or calculate in float64"
            )
    return p[:, None] == q[None], p[:, None] == q.conj()[None]


def merged(terms: Terms) -> Terms:
    """Amplitudes of equal terms added up, oscillations of frequency 0 made plain; of concrete rates."""
    if not terms.concrete:
        raise InputError("merged: the rates are traced; merge the kernel outside jit, grad and vmap")
    keys = [(*pole, degree) for pole, degree in zip(_pole_keys(terms), terms.degree, strict=True)]
    kept = list(dict.fromkeys(keys))
    take = np.array([keys.index(key) for key in kept])
    same = np.array([[key == other for other in keys] for key in kept])
    turned = jnp.sign(terms.frequency) * terms.sine  # a wave that turns the other way
    return Terms(
        terms.rate[take],
        abs(terms.frequency)[take],
        jnp.where(same, terms.cosine[None], 0).sum(1),
        jnp.where(same, turned[None], 0).sum(1),
        tuple(degree for _, _, degree in kept),
        tuple(frequency > 0 for _, frequency, _ in kept),
    )


def states(terms: Terms) -> int:
    """Real numbers in the state: for each pole its highest degree and one, twice where it oscillates."""
    poles = _pole_keys(terms) if terms.concrete else enumerate(terms.oscillates)
    longest: dict[tuple[float, float], int] = {}
    for pole, degree in zip(poles, terms.degree, strict=True):
        longest[pole] = max(longest.get(pole, 0), degree)
    return sum((degree + 1) * (2 if frequency else 1) for (_, frequency), degree in longest.items())


def _pole_keys(terms: Terms) -> list[tuple[float, float]]:
    """Rate and frequency of each term, to be compared."""
    rate, frequency = np.asarray(terms.rate), abs(np.asarray(terms.frequency))
    return list(zip(rate.tolist(), frequency.tolist(), strict=True))


def half_life(terms: Terms) -> float:
    """The first age after its peak at which the sum has fallen to half of it, in NumPy and float64; see
    `jaxdecay.algebra.Kernel.half_life`."""
    arrays: dict[str, Any] = {
        name: np.asarray(getattr(terms, name), np.float64) for name in Terms._fields[:4]
    }
    terms = terms._replace(**arrays)
    grid = _search_grid(terms)
    top = int(_sampled(terms, grid).argmax())
    low, high = grid[max(top - 1, 0)], grid[min(top + 1, len(grid) - 1)]
    for _ in range(4):  # the peak lies between these two
        near = np.linspace(low, high, 101)
        peak = int(_sampled(terms, near).argmax())
        low, high = near[max(peak - 1, 0)], near[min(peak + 1, 100)]
    half = 0.5 * _sampled(terms, near[peak : peak + 1])[0]
    later = np.concatenate([near[peak : peak + 1], grid[grid > near[peak]]])
    values = _sampled(terms, later)
    if half <= 0 or not (values < (1 - _REACHED) * half).any():
        return math.inf
    below = values <= half
    low, high = later[below.argmax() - 1], later[below.argmax()]
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if _sampled(terms, np.array([middle]))[0] <= half else (middle, high)
    return float(high)


def _search_grid(terms: Terms) -> np.ndarray:
    """Ages from 0 until what fades is gone: evenly spaced in the logarithm, and in the age as well if the
    sum oscillates."""
    rate, frequency = terms.rate, abs(terms.frequency)
    speeds = np.concatenate([rate[rate > 0], frequency[frequency > 0]])
    if not speeds.size:
        return np.array([0.0, 1.0])
    end = (_ENDED + 5.0 * max(terms.degree)) / speeds.min()
    grid = np.concatenate([[0.0], np.geomspace(1e-4 / speeds.max(), end, 4000)])
    if frequency.max() > 0:
        turn = 2 * np.pi / frequency.max()
        turns = min(math.ceil(end / turn), _TURNS)
        grid = np.union1d(grid, np.linspace(0.0, turns * turn, turns * _PER_TURN + 1))
    return grid


def _sampled(terms: Terms, age: np.ndarray) -> np.ndarray:
    """The curve, a million numbers at a time."""
    parts = np.array_split(age, age.size * len(terms.degree) // 2**20 + 1)
    return np.concatenate([curve(terms, part, np) for part in parts])
