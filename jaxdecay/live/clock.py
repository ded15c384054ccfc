"""What time makes of events, in NumPy and float64: how the curves of a bank fade, and the calendar."""

import numpy as np

from jaxdecay.live.weights import Bank, Weights

DAY, WEEK = 86_400, 604_800
# Sine and cosine, side by side, of a day, of half of it, of a week and of half of it.
_LENGTH = np.array([DAY, DAY, WEEK, WEEK]).repeat(2)
_TURN = 2 * np.pi * np.array([1, 2, 1, 2]).repeat(2) / _LENGTH
_QUARTER = np.array([0.0, np.pi / 2] * 4)


def faded(bank: Bank, age: np.ndarray) -> np.ndarray:
    """(..., C) every curve at the ages (...), in seconds."""
    days = np.asarray(age, np.float64)[..., None] / DAY
    left = np.exp(-bank.rate * days)
    if bank.sharpness:
        wave = 0.5 + 0.5 * np.cos(bank.frequency * days)
        left[..., -len(bank.sharpness) :] *= wave ** np.array(bank.sharpness)
    return left


def calendar(at: int) -> np.ndarray:
    """(8,) as `jaxdecay.heads.similarity.calendar`."""
    angle = at % _LENGTH * _TURN
    return np.sin(angle + _QUARTER).astype(np.float32)


def read_weights(bank: Bank, user: int, known: int, mass: np.ndarray | None) -> np.ndarray:
    """(C,) float32 how a user reads, of whom the first ``known`` have a way of their own; ``mass``: how many
    events each mode still holds."""
    logits = np.zeros(len(bank.rate), np.float32)
    if bank.reads is not None and user < min(known, len(bank.reads)):
        logits = bank.reads[user]
    if bank.adaptive is not None:
        assert mass is not None
        logits = logits + np.log1p(np.maximum(mass, 0.0)).astype(np.float32) @ bank.adaptive
    shares = np.exp(logits - logits.max())
    return shares * np.float32(len(shares) / shares.sum())


def longest_half_life(weights: Weights) -> float | None:
    """In days, of all that a state holds; None where something in it never fades."""
    banks = [one.bank for one in (weights.similarity, weights.revisit) if one and one.bank]
    slowest = min((float(bank.rate.min()) for bank in banks), default=0.0)
    longest = np.log(2) / slowest if slowest > 0 else np.inf
    if weights.revisit is not None and weights.revisit.satiation:
        longest = max(longest, weights.revisit.recovery)
    return float(longest) if np.isfinite(longest) else None
