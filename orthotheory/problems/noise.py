"""Noise models on gradients: additive Gaussian, heavy-tailed, low-rank, and minibatch sampling.

The draws come from a NumPy generator on the host, so that every backend sees the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, backend_of, check_number, dtype_name, standard_normal
from .contract import Problem


@dataclass(frozen=True)
class Gaussian:
    """Add sigma times a standard normal to every entry: E|noise|_F^2 = m n sigma^2."""

    sigma: float = 0.1

    def __post_init__(self) -> None:
        check_number(self.sigma, "sigma")

    def __call__(self, problem: Problem, w: Array, rng: np.random.Generator) -> Array:
        """Return the noisy gradient at w."""
        return problem.grad(w) + float(self.sigma) * standard_normal(w.shape, rng, like=w)


@dataclass(frozen=True)
class HeavyTailed:
    """Add Student's t noise with `freedom` degrees of freedom, scaled to standard deviation sigma where it has one.

    For freedom <= 2 the variance is infinite and sigma is the scale of the t distribution.
    """

    sigma: float = 0.1
    freedom: float = 3.0

    def __post_init__(self) -> None:
        check_number(self.sigma, "sigma")
        check_number(self.freedom, "freedom", open_low=True)

    def __call__(self, problem: Problem, w: Array, rng: np.random.Generator) -> Array:
        """Return the noisy gradient at w."""
        unit = math.sqrt((self.freedom - 2) / self.freedom) if self.freedom > 2 else 1.0
        draws = self.sigma * unit * rng.standard_t(self.freedom, size=w.shape)
        return problem.grad(w) + backend_of(w).asarray(draws.astype(dtype_name(w)))


@dataclass(frozen=True)
class LowRank:
    """Add sigma U V^T / sqrt(rank) with standard normal U (m x rank), V (n x rank): E|noise|_F^2 = m n sigma^2."""

    sigma: float = 0.1
    rank: int = 1

    def __post_init__(self) -> None:
        check_number(self.sigma, "sigma")
        check_number(self.rank, "rank", low=1)

    def __call__(self, problem: Problem, w: Array, rng: np.random.Generator) -> Array:
        """Return the noisy gradient at w."""
        *batch, m, n = w.shape
        u = standard_normal((*batch, m, self.rank), rng, like=w)
        v = standard_normal((*batch, n, self.rank), rng, like=w)
        return problem.grad(w) + (float(self.sigma) / math.sqrt(self.rank)) * (u @ v.mT)


@dataclass(frozen=True)
class Minibatch:
    """Replace the gradient by that of `size` samples drawn uniformly with replacement; needs samples.

    `independent` draws other samples for each run of a batch, where otherwise one minibatch serves them all.
    """

    size: int = 32
    independent: bool = False

    def __post_init__(self) -> None:
        check_number(self.size, "size", low=1)

    def __call__(self, problem: Problem, w: Array, rng: np.random.Generator) -> Array:
        """Return the gradient on a minibatch."""
        if not hasattr(problem, "sample_grad"):
            raise TypeError(
                f"Minibatch noise needs a problem that is a mean over samples (least-squares, digits); "
                f"got {type(problem).__name__}. Use Gaussian, HeavyTailed or LowRank."
            )
        batch = (w[0] if isinstance(w, tuple) else w).shape[:-2] if self.independent else ()
        rows = rng.integers(problem.samples, size=(*batch, self.size))  # type: ignore[attr-defined]
        return problem.sample_grad(w, rows)  # type: ignore[attr-defined]


def take_rows(x: Array, rows: np.ndarray) -> Array:
    """Return the rows of an array (N, m), shape (*rows.shape, m)."""
    where = backend_of(x)
    taken = where.xp.take(x, where.asarray(rows.ravel()), axis=0)
    return where.xp.reshape(taken, (*rows.shape, *x.shape[1:]))


NOISES = {"gaussian": Gaussian, "heavy-tailed": HeavyTailed, "low-rank": LowRank, "minibatch": Minibatch}
