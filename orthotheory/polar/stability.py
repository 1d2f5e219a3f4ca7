"""When steps may share a Gram matrix: a model of the rounding errors of Gram-side blocks, and the restarts it chooses.

A block reads its steps from R = X X^H. A rounding error delta of R, relative to its norm, moves the eigenvalue t = s^2
of a small singular value s by delta, and the rest of the block, s g(t) with g the product of the h of its steps,
by s g'(t) delta; the later blocks amplify that by their slope. Re-forming the Gram matrix from X removes the error,
because X has only errors relative to its own norm.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from .evaluate import Step
from .schedule import odd_value

# Errors in units of u |X| and of u sqrt(n) |R|, fitted to runs in float32 on log-spaced spectra.
DIRECT, GRAM = 0.15, 0.75
POINTS = 400


def rounding(
    steps: Sequence[Step], blocks: Sequence[int], low: float, dtype: str = "float32", *, n: int = 192
) -> float:
    """Return the predicted spectral-norm error by rounding, for singular values in [low, 1].

        u max over s of the sum over blocks of   DIRECT |X| amp(X)  +  GRAM sqrt(n) sum over steps k of the block
            |R_k| s_k |g_k'(t_k)| amp(X after the block),      amp(X) = max(|p'(s)|, |p(s) / s|)

    with p the composition of all steps after X, and g_k the rest of the block of step k. amp is how p magnifies a
    perturbation of X, in a singular value or between two small ones. A model, not a bound: it is right within a factor
    of about three where errors are small, and says that a block is useless where they are not.
    """
    s = np.geomspace(low, 1.0, POINTS)
    values = [s]
    for step in steps:
        values.append(_value(step, values[-1]))
    slopes = [_slope(step, v) for step, v in zip(steps, values, strict=False)]
    later = [np.ones_like(s)]
    for slope in reversed(slopes):
        later.append(later[-1] * slope)
    later = later[::-1]  # later[k]: derivative of all steps from k on
    amp = [np.maximum(np.abs(d), np.abs(values[-1] / v)) for d, v in zip(later, values, strict=True)]
    total = np.zeros_like(s)
    start = 0
    for size in blocks:
        end = start + size
        total += DIRECT * float(np.abs(values[start]).max()) * amp[start]
        for k in range(start, end):
            v = values[k]
            bend = np.prod(slopes[k:end], axis=0) - values[end] / v  # v g'(v^2) = (p' - p / v) / (2 v), p of the block
            total += GRAM * math.sqrt(n) * float(np.abs(v).max()) ** 2 * np.abs(bend / (2 * v)) * amp[end]
        start = end
    return float(np.finfo(dtype).eps) / 2 * float(total.max())


def restarts(
    steps: Sequence[Step], low: float, dtype: str = "float32", *, allowance: float = 2.0, n: int = 192
) -> tuple[int, ...]:
    """Return the fewest blocks with a predicted rounding error of at most `allowance` times the direct iteration's.

    Among partitions with that many blocks the one with the smallest error. Up to twelve steps, all 2^(K - 1)
    partitions are compared.

    Raises
    ------
    ValueError
        For more than twelve steps.
    """
    count = len(steps)
    if count > 12:
        raise ValueError(f"All partitions of up to 12 steps are compared; got {count} steps.")
    limit = allowance * rounding(steps, (1,) * count, low, dtype, n=n)
    for cuts in range(count):
        choices = []
        for places in itertools.combinations(range(1, count), cuts):
            edges = (0, *places, count)
            sizes = tuple(b - a for a, b in itertools.pairwise(edges))
            choices.append((rounding(steps, sizes, low, dtype, n=n), sizes))
        error, sizes = min(choices)
        if error <= limit:
            return sizes
    return (1,) * count


def _value(step: Step, s: np.ndarray) -> np.ndarray:
    return odd_value(step, s) if isinstance(step, tuple) else step(s)


def _slope(step: Step, s: np.ndarray) -> np.ndarray:
    """Return the derivative, for rational steps by a central difference that is exact to 1e-9."""
    if isinstance(step, tuple):
        return np.polynomial.polynomial.polyval(s * s, [(2 * i + 1) * c for i, c in enumerate(step)])
    h = 1e-5 * s
    return (step(s + h) - step(s - h)) / (2 * h)
