"""First weights of the runs of a sweep: one draw a seed, the same for every method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import backend_of, dtype_name, generator, to_host

# First error W - W*: Gaussian; sharing the singular vectors of the Hessian; of rank one; with equal singular values;
# or, where the optimum is not to be used, Gaussian weights of variance 1 / rows.
STARTS = dict.fromkeys(("generic", "commuting", "low-rank", "flat", "start"))


def starts(problem, error: str | list, seeds: Sequence[int]) -> Any:
    """Draw first weights, one a seed: shape (seeds, m, n), or a tuple of such; a given matrix is that of every seed."""
    if not isinstance(error, str):
        given = np.array(error)
        if isinstance(problem.start, tuple) or given.shape != problem.start.shape:
            own = problem.start if isinstance(problem.start, tuple) else (problem.start,)
            raise ValueError(f"The start is one matrix {given.shape}; the problem needs {[b.shape for b in own]}.")
        return _like(problem.start, np.broadcast_to(given, (len(seeds), *given.shape)))
    if error == "start":
        blocks = problem.start if isinstance(problem.start, tuple) else (problem.start,)
        rngs = [generator(seed) for seed in seeds]
        drawn = [[rng.standard_normal(b.shape) / np.sqrt(b.shape[0]) for b in blocks] for rng in rngs]
        whole = tuple(_like(b, np.array(x)) for b, x in zip(blocks, zip(*drawn, strict=True), strict=True))
        return whole if isinstance(problem.start, tuple) else whole[0]
    if problem.optimum is None or isinstance(problem.start, tuple):
        raise ValueError(f"{type(problem).__name__} has no known optimum of one matrix; use start = 'start'.")
    optimum = to_host(problem.optimum)
    return _like(problem.start, np.array([optimum + _error(problem, error, generator(seed)) for seed in seeds]))


def _like(start, host: np.ndarray):
    return backend_of(start).asarray(host, dtype=dtype_name(start))


def _error(problem, error: str, rng: np.random.Generator) -> np.ndarray:
    m, n = problem.start.shape
    drawn = rng.standard_normal((m, n))
    if error == "generic":
        return drawn
    r = min(m, n)
    u, _, vt = np.linalg.svd(drawn, full_matrices=False)
    if error == "low-rank":
        return np.sqrt(m * n) * u[:, :1] @ vt[:1]
    if error == "flat":
        return np.sqrt(max(m, n)) * u @ vt
    if error == "commuting":
        left, right = (np.linalg.eigh(to_host(x))[1][:, ::-1][:, :r] for x in (problem.a, problem.b))
        return np.sqrt(max(m, n)) * (left * rng.uniform(0.5, 1.5, size=r)) @ right.T
    raise ValueError(f"start is {', '.join(STARTS)}; got {error!r}.")
