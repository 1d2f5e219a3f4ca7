"""What rounding will do to a plan, by running it on a small matrix with a known polar factor."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from .normalization import Normalization
from .plan import Step
from .spectrum import Lanczos
from .symmetric import NotPositiveDefinite

PROBE = 256  # longest short side of a probe; beyond it rounding errors grow with the square root
SIEVE = 48  # a first probe that refuses most of what fails
DRAWS = 3
LOSS = 10.0


class Trial(NamedTuple):
    """What is tried: steps in blocks after a normalization, on singular values in [ratio, 1]."""

    steps: tuple[Step, ...]
    blocks: tuple[int, ...]
    normalization: Normalization | Lanczos
    ratio: float
    dtype: str
    gram_dtype: str | None = None


def predicted_error(trial: Trial, exact: float, shape: tuple[int, int], limit: float = math.inf) -> float:
    """Return the error that a plan will have on a shape, from a run on a probe; infinite where it breaks.

    The larger of `exact`, its error in exact arithmetic, and what a probe of the same short side up to `PROBE` and of
    aspect ratio up to 4 shows; beyond that side what rounding adds grows with the square root. The rounding of the
    probe itself counts: no algorithm avoids it. Blocks that lose more than `LOSS` times what the direct iteration of
    the same steps loses break down on other draws, and count as broken. Where a probe of side `SIEVE` already exceeds
    the limit, its error is returned.
    """
    aspect = min(max(shape) / min(shape), 4.0)
    side = min(shape)
    for n in dict.fromkeys((min(side, SIEVE), min(side, PROBE))):
        error = max(exact, probe_error(trial, (n, round(aspect * n))))
        if error > limit:
            break
        direct = trial._replace(blocks=(1,) * len(trial.steps), gram_dtype=None)
        if error > LOSS * max(exact, probe_error(direct, (n, round(aspect * n)))):
            return math.inf
    return exact + (error - exact) * math.sqrt(max(1.0, side / n))


@functools.lru_cache(maxsize=4096)
def probe_error(trial: Trial, shape: tuple[int, int]) -> float:
    """Return |X - U V^T|_2 on a wide probe with log-spaced singular values, median over draws."""
    from .engine import apply

    steps, blocks, normalization, ratio, dtype, gram_dtype = trial
    errors = []
    for seed in range(DRAWS):
        u, s, v = _probe(ratio, shape, seed)
        try:
            with np.errstate(all="ignore"):
                x = apply(((u * s) @ v).astype(dtype), steps, blocks, normalization, gram_dtype=gram_dtype)
        except NotPositiveDefinite:
            return math.inf
        if not np.isfinite(x).all():
            return math.inf
        errors.append(float(np.linalg.norm(x - u @ v, 2)))
    return float(np.median(errors))


@functools.lru_cache(maxsize=256)
def floor(low: float, side: int, dtype: str) -> float:
    """Return how far rounding a square probe to the precision moves its exact polar factor, median over draws."""
    n = min(side, PROBE)
    errors = []
    for seed in range(DRAWS):
        u, s, v = _probe(low, (n, n), seed)
        a, _, b = np.linalg.svd(((u * s) @ v).astype(dtype).astype("float64"))
        errors.append(float(np.linalg.norm(a @ b - u @ v, 2)))
    return float(np.median(errors)) * math.sqrt(max(1.0, side / n))


@functools.lru_cache(maxsize=64)
def _probe(low: float, shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.Generator(np.random.Philox(seed))
    u, _ = np.linalg.qr(rng.standard_normal((shape[0], shape[0])))
    v, _ = np.linalg.qr(rng.standard_normal((shape[1], shape[0])))
    return u, np.geomspace(1.0, low, shape[0]), v.T
