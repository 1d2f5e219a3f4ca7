"""Problems over a norm ball whose constrained optimum is known: what weight decay drives Lion-K and Muon towards.

The ball has radius R in a norm; run a method with weight_decay = 1 / R in the same norm to constrain it there.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from .. import norms
from ..arrays import Array, Backend, array_namespace, backend, backend_of, check_number, generator, to_host
from ..names import closest
from ..norms import Frobenius, Norm
from .contract import Constant, Dtype, Problem
from .digits import SoftmaxRegression, digits
from .quadratic import KroneckerQuadratic, log_spectrum, orthogonal
from .solvers import projected_gradient


class Constrained(Problem):
    """A problem together with a ball; `optimum` and `optimal_value` are those over the ball.

    Parameters
    ----------
    inner : Problem
        The function; value, gradient, noise and constants are its own.
    ball : Norm
    radius : float
        The feasible set is {W : ball.value(W) <= radius}.
    optimum : array (m, n)
        The minimizer over the ball.
    """

    def __init__(self, inner: Problem, ball: Norm, radius: float, optimum: Array):
        check_number(radius, "radius", open_low=True, open_high=True)
        size = float(to_host(ball.value(optimum)))
        if size > radius * (1 + 1e-9):
            raise ValueError(
                f"The optimum must lie in the ball of radius {radius:g}; its {ball.name} norm is {size:g}."
            )
        self.inner, self.ball, self.radius = inner, ball, float(radius)
        self.start, self.noise = inner.start, inner.noise
        self.optimum, self.optimal_value = optimum, float(to_host(inner.value(optimum)))

    def value(self, w):
        return self.inner.value(w)

    def grad(self, w):
        return self.inner.grad(w)

    def smoothness(self, norm: Norm) -> Constant:
        return self.inner.smoothness(norm)

    def strong_convexity(self, norm: Norm) -> Constant:
        return self.inner.strong_convexity(norm)

    def gap(self, w: Array) -> Array:
        """Return the Frank-Wolfe gap max_V <grad f(W), W - V> over the ball, zero exactly at a KKT point, (batch)."""
        g = self.grad(w)
        return array_namespace(w).sum(g * w, axis=(-2, -1)) + self.radius * self.ball.dual(g)


def projection(
    *,
    ball: str = "spectral",
    radius: float = 1.0,
    rows: int = 6,
    columns: int = 4,
    scale: float = 1.0,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise=None,
    device: str | Backend | None = None,
) -> Constrained:
    """Build f = |W - Y|_F^2 / 2 with Gaussian Y of the given scale; the optimum is Y projected on the ball."""
    where = backend(device)
    norm: Any = norms.make(ball)
    target = where.asarray(scale * generator(seed).standard_normal((rows, columns)), dtype=dtype)
    a, b = (where.asarray(np.eye(k), dtype=dtype) for k in (rows, columns))
    inner = KroneckerQuadratic(a, b, target, 0 * target, noise=noise)
    return Constrained(inner, norm, radius, norm.project(target, radius))


def spectral_face(
    *,
    location: Literal["inside", "face", "vertex"] = "face",
    radius: float = 1.0,
    rows: int = 6,
    columns: int = 4,
    left_condition: float = 10.0,
    right_condition: float = 3.0,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise=None,
    device: str | Backend | None = None,
) -> Constrained:
    """Build a quadratic whose optimum over the spectral ball lies inside, on a face, or at a vertex.

    A vertex has all singular values at the radius, a face half of them. The optimum X* is drawn first; the
    unconstrained one is X* + A^-1 Z B^-1 with Z = U_1 diag(z) V_1^T, z > 0 on the active singular vectors, so that
    -grad f(X*) = Z lies in the normal cone: the KKT condition with known multipliers.
    """
    closest(location, dict.fromkeys(("inside", "face", "vertex")), "location")
    rng = generator(seed)
    r = min(rows, columns)
    active = {"inside": 0, "face": r // 2, "vertex": r}[location]
    u, v = orthogonal(rows, rng)[:, :r], orthogonal(columns, rng)[:, :r]
    s = np.concatenate([np.full(active, radius), radius * rng.uniform(0.2, 0.7, size=r - active)])
    optimum = (u * s) @ v.T
    multiplier = (u[:, :active] * rng.uniform(0.5, 1.5, size=active)) @ v[:, :active].T
    left, right = orthogonal(rows, rng), orthogonal(columns, rng)
    a = (left * log_spectrum(rows, left_condition)) @ left.T
    b = (right * log_spectrum(columns, right_condition)) @ right.T
    a, b = (a + a.T) / 2, (b + b.T) / 2
    free = optimum + np.linalg.solve(a, multiplier) @ np.linalg.inv(b)
    where = backend(device)
    left_factor, right_factor, target = (where.asarray(x, dtype=dtype) for x in (a, b, free))
    inner = KroneckerQuadratic(left_factor, right_factor, target, 0 * target, noise=noise)
    return Constrained(inner, norms.Spectral(), radius, where.asarray(optimum, dtype=dtype))


class StarConvex(Problem):
    """f(x) = (1 + sin(4 theta)^2 / 2) |x|^2 on 1 x 2 matrices, theta the angle of x: star-convex around 0, not convex.

    f is homogeneous of degree two, so <grad f(x), x> = 2 f(x) >= f(x), which is star-convexity around 0.
    """

    def __init__(self, start: Array, noise=None):
        if tuple(start.shape[-2:]) != (1, 2):
            raise ValueError(f"StarConvex lives on matrices of shape (..., 1, 2); got {tuple(start.shape)}.")
        self.start, self.noise = start, noise
        self.optimum, self.optimal_value = 0 * start, 0.0

    def value(self, w):
        xp = array_namespace(w)
        x, y = w[..., 0, 0], w[..., 0, 1]
        return (1 + 0.5 * xp.sin(4 * xp.atan2(y, x)) ** 2) * (x * x + y * y)

    def grad(self, w):
        xp = array_namespace(w)
        x, y = w[..., 0, 0], w[..., 0, 1]
        angle = 4 * xp.atan2(y, x)
        radial = 2 + xp.sin(angle) ** 2  # df/dr / r
        turn = 4 * xp.sin(angle) * xp.cos(angle)  # df/dtheta / r^2
        return xp.stack([radial * x - turn * y, radial * y + turn * x], axis=-1)[..., None, :]

    def smoothness(self, norm: Norm) -> Constant:
        """Return the largest eigenvalue of the Hessian on the circle, which depends on the angle alone, as a bound."""
        angles = np.linspace(0, math.pi / 4, 20_001)
        sin2, cos8, sin8 = np.sin(4 * angles) ** 2, np.cos(8 * angles), np.sin(8 * angles)
        h, first, second = 1 + 0.5 * sin2, 2 * sin8, 16 * cos8  # h and its derivatives in theta
        trace, half = 4 * h + second, np.sqrt((second / 2) ** 2 + first**2)
        top = float(np.max(np.abs(trace / 2) + half)) * (1 + 1e-6)
        ratio = 2.0 if isinstance(norm, norms.MaxEntry) else 1.0  # |x|_2^2 <= 2 |x|_inf^2, equal for the others
        if not isinstance(norm, norms.MaxEntry | norms.Spectral | Frobenius | norms.Nuclear | norms.SumEntry):
            raise ValueError(
                f"StarConvex knows its smoothness in Frobenius, Spectral, Nuclear and entry norms, not {norm.name}."
            )
        return Constant(ratio * top, "upper", "largest Hessian eigenvalue over the angles")

    def strong_convexity(self, norm: Norm) -> Constant:
        return Constant(0.0, "lower", "not convex")


def star_convex(
    *, radius: float = 1.0, dtype: Dtype = "float64", seed: int = 0, noise=None, device: str | Backend | None = None
) -> Constrained:
    """Build the star-convex function over the spectral ball, from a random point of the sphere of that radius."""
    x = generator(seed).standard_normal((1, 2))
    start = backend(device).asarray(radius * x / np.linalg.norm(x), dtype=dtype)
    return Constrained(StarConvex(start, noise), norms.Spectral(), radius, 0 * start)


def digits_budget(
    *,
    radius: float = 0.5,
    regularization: float = 1e-3,
    dtype: Dtype = "float64",
    noise=None,
    device: str | Backend | None = None,
) -> Constrained:
    """Build digits softmax regression with a spectral-norm budget, solved by projected gradient to a gap of 1e-10.

    `tests/contracts/test_constrained.py` solves it again by Frank-Wolfe with exact line search; both agree to 1e-8.
    """
    host: SoftmaxRegression = digits(regularization=regularization)
    solution = projected_gradient(host, norms.Spectral(), radius)
    inner = digits(regularization=regularization, dtype=dtype, noise=noise, device=device)
    return Constrained(inner, norms.Spectral(), radius, backend_of(inner.start).asarray(solution.x, dtype=dtype))
