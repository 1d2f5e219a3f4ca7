"""A slow family for fixed-radius methods: a ramp of constant slope that lasts a given number of steps.

f(W) = phi(<D, W>) along one matrix D of rank one with phi the Huber function. On the ramp the gradient does not
shrink, and f falls by lr * slope a step, so that a budget of K steps can be exhausted. With the best radius for K
the gradient over the bound of theorem `trust-region-nonconvex` is q with q^2 + 2 (K + 1) q = K: 0.24 at K = 1,
tending to 1/2.
"""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Array, Backend, array_namespace, backend, check_number, generator, to_host
from ..norms import Norm
from .contract import Constant, Dtype, Problem


class Ramp(Problem):
    """f(W) = phi(<D, W>), phi(t) = L t^2 / 2 for |t| <= slope / L, else slope |t| - slope^2 / (2 L).

    Parameters
    ----------
    direction : array (m, n)
        D; the gradient is phi'(<D, W>) D.
    slope, curvature : float
        The largest |phi'| and the curvature L of phi.
    start : array (m, n)
    """

    def __init__(self, direction: Array, *, slope: float, curvature: float, start: Array, noise=None):
        check_number(slope, "slope", open_low=True, open_high=True)
        check_number(curvature, "curvature", open_low=True, open_high=True)
        self.direction, self.slope, self.curvature = direction, float(slope), float(curvature)
        self.start, self.noise = start, noise
        self.optimum, self.optimal_value = array_namespace(start).zeros_like(start), 0.0

    def value(self, w):
        xp = array_namespace(w)
        t = xp.abs(self._coordinate(w))
        return xp.where(
            t <= self.slope / self.curvature,
            self.curvature * t * t / 2,
            self.slope * t - self.slope**2 / (2 * self.curvature),
        )

    def grad(self, w):
        xp = array_namespace(w)
        slopes = xp.clip(self.curvature * self._coordinate(w), -self.slope, self.slope)
        return slopes[..., None, None] * self.direction

    def smoothness(self, norm: Norm) -> Constant:
        size = float(to_host(norm.dual(self.direction)))
        return Constant(self.curvature * size**2, "exact", "the curvature of phi times the squared dual norm of D")

    def strong_convexity(self, norm: Norm) -> Constant:
        return Constant(0.0, "exact", "the ramp is flat")

    def _coordinate(self, w):
        xp = array_namespace(w)
        return xp.sum(w * self.direction, axis=(-2, -1))


def ramp(
    *,
    budget: int = 100,
    gap: float = 1.0,
    curvature: float = 1.0,
    rows: int = 4,
    columns: int = 3,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise=None,
    device: str | Backend | None = None,
) -> Ramp:
    """Build the ramp that the best fixed radius sqrt(2 gap / (L budget)) just fails to leave in `budget` steps.

    `gap` is f(start) - min f. D = u v^T with random unit vectors, so L is `curvature` in the spectral norm. The
    slope solves gap = (budget + 1) radius slope + slope^2 / (2 L): budget + 1 steps end where the ramp ends.
    """
    check_number(budget, "budget", low=1)
    check_number(gap, "gap", open_low=True, open_high=True)
    check_number(curvature, "curvature", open_low=True, open_high=True)
    rng = generator(seed)
    u, v = (x / np.linalg.norm(x) for x in (rng.standard_normal(rows), rng.standard_normal(columns)))
    radius = math.sqrt(2 * gap / (curvature * budget))
    p, q = curvature * (budget + 1) * radius, 2 * curvature * gap
    slope = q / (p + math.sqrt(p * p + q))
    distance = (gap + slope**2 / (2 * curvature)) / slope
    where = backend(device)
    direction = where.asarray(np.outer(u, v), dtype=dtype)
    return Ramp(direction, slope=slope, curvature=curvature, start=distance * direction, noise=noise)


def best_radius(problem: Problem, norm: Norm, steps: int) -> float:
    """Return sqrt(2 gap / (L steps)), the radius that minimizes the bound gap / (radius steps) + L radius / 2."""
    gap = float(to_host(problem.value(problem.start))) - float(problem.optimal_value or 0.0)
    return math.sqrt(2 * gap / (float(problem.smoothness(norm)) * steps))
