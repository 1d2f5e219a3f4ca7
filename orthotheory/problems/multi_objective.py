"""Several objectives of one matrix variable, with Pareto sets in closed form.

A point is Pareto critical where some convex combination of the gradients vanishes; the combination is the row of
weights. All problems here know their Pareto set, so that a trajectory can be measured by its distance to it.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import numpy as np

from ..arrays import Array, Backend, array_namespace, backend, backend_of, check_number, frobenius, generator, to_host
from ..names import closest
from ..norms import Frobenius, Norm
from .contract import Constant, Dtype, Problem
from .curvature import Form, smoothness, strong_convexity
from .noise import Gaussian
from .quadratic import log_spectrum, orthogonal

GRID = 1025  # points of [0, 1] that bracket the nearest Pareto point
GOLDEN = (math.sqrt(5) - 1) / 2


class MultiObjective(Problem):
    """Objectives f_1, ..., f_m of a matrix (..., rows, columns). As a `Problem` it is their mean.

    Attributes
    ----------
    objectives : int
        m.
    minima : tuple of float
        min f_i of each objective alone, or a lower bound of it.
    """

    objectives: int
    minima: tuple[float, ...]

    def values(self, w: Array) -> Array:
        """Return f_1(w), ..., f_m(w), shape (batch, m)."""
        raise NotImplementedError

    def jacobian(self, w: Array) -> Array:
        """Return the gradients, shape (batch, m, rows, columns)."""
        raise NotImplementedError

    def noisy_jacobian(self, w: Array, rng: np.random.Generator) -> Array:
        """Return unbiased estimates of the gradients, with independent noise for each objective."""
        if self.noise is None:
            return self.jacobian(w)
        xp = array_namespace(w)
        return xp.stack([self.noise(self.objective(i), w, rng) for i in range(self.objectives)], axis=-3)

    def objective(self, i: int) -> Objective:
        """Return f_i as a problem of its own."""
        if not 0 <= i < self.objectives:
            raise ValueError(f"There are objectives 0 to {self.objectives - 1}; got {i}.")
        return Objective(self, i)

    def smoothness_of(self, i: int) -> Constant:
        """Return L of f_i in the Frobenius norm."""
        raise NotImplementedError

    def pareto_distance(self, w: Array) -> Array:
        """Return the Frobenius distance to the Pareto set, shape (batch)."""
        raise NotImplementedError

    def value(self, w):
        return array_namespace(w).mean(self.values(w), axis=-1)

    def grad(self, w):
        return array_namespace(w).mean(self.jacobian(w), axis=-3)


class Objective(Problem):
    """One objective of several."""

    def __init__(self, whole: MultiObjective, index: int):
        self.whole, self.index = whole, index
        self.start, self.optimal_value = whole.start, whole.minima[index]

    def value(self, w):
        return self.whole.values(w)[..., self.index]

    def grad(self, w):
        return self.whole.jacobian(w)[..., self.index, :, :]

    def smoothness(self, norm: Norm) -> Constant:
        own = self.whole.smoothness_of(self.index)
        return own if norm == Frobenius() else in_norm(norm, float(own), self.start.shape)


class Quadratics(MultiObjective):
    """f_i(W) = 1/2 tr((W - C_i)^T A_i (W - C_i)) with A_i positive definite.

    Parameters
    ----------
    curvatures : array (m, rows, rows)
        A_i, symmetric positive definite.
    centers : array (m, rows, columns)
        C_i, the minimizers.
    start : array (rows, columns)

    Notes
    -----
    The Pareto set is {X(p) : p in the simplex}, X(p) = (sum p_i A_i)^-1 sum p_i A_i C_i (`pareto_point`).
    The distance to it is computed for two objectives (to rounding, by a search on a line) and for curvatures that are
    multiples of one another (X(p) then runs through the convex hull of the centers).
    """

    def __init__(self, curvatures: Array, centers: Array, start: Array, *, noise=None):
        a, c = to_host(curvatures), to_host(centers)
        if a.ndim != 3 or c.ndim != 3 or a.shape != (len(c), c.shape[1], c.shape[1]) or start.shape != c.shape[1:]:
            raise ValueError(
                f"curvatures are (m, rows, rows), centers (m, rows, columns), start (rows, columns); got {a.shape}, "
                f"{c.shape} and {tuple(start.shape)}."
            )
        for i, factor in enumerate(a):
            if not np.array_equal(factor, factor.T) or np.linalg.eigvalsh(factor)[0] <= 0:
                raise ValueError(f"Curvature {i} must be symmetric positive definite.")
        self.curvatures, self.centers, self.start, self.noise = curvatures, centers, start, noise
        self.objectives, self.minima = len(a), (0.0,) * len(a)
        weights = backend_of(start).asarray(np.full(len(a), 1 / len(a), dtype=a.dtype))
        self.optimum = self.pareto_point(weights)
        self.optimal_value = float(to_host(self.value(self.optimum)))

    def values(self, w):
        xp = array_namespace(w)
        error = w[..., None, :, :] - self.centers
        return 0.5 * xp.sum(error * (self.curvatures @ error), axis=(-2, -1))

    def jacobian(self, w):
        return self.curvatures @ (w[..., None, :, :] - self.centers)

    def pareto_point(self, weights: Array) -> Array:
        """Return X(p) for weights (..., m) of the simplex, shape (..., rows, columns)."""
        xp = array_namespace(weights)
        p = weights[..., None, None]
        return xp.linalg.solve(
            xp.sum(p * self.curvatures, axis=-3), xp.sum(p * (self.curvatures @ self.centers), axis=-3)
        )

    def smoothness_of(self, i):
        return Constant(float(np.linalg.eigvalsh(to_host(self.curvatures)[i])[-1]), "exact")

    def pareto_distance(self, w):
        if self.objectives == 2:
            return self._distance_to_curve(w)
        if self._proportional:
            return self._distance_to_hull(w)
        raise ValueError(
            f"The distance to the Pareto set of {self.objectives} quadratics is known where their curvatures are "
            "multiples of one another; use curvature='shared', two objectives, or the record 'stationarity'."
        )

    def smoothness(self, norm: Norm) -> Constant:
        return smoothness(norm, self._mean_form)

    def strong_convexity(self, norm: Norm) -> Constant:
        return strong_convexity(norm, self._mean_form)

    @functools.cached_property
    def _mean_form(self) -> Form:
        mean = to_host(self.curvatures).astype(np.float64).mean(axis=0)
        return Form(mean, np.eye(self.centers.shape[-1]))

    @functools.cached_property
    def _proportional(self) -> bool:
        a = to_host(self.curvatures).astype(np.float64)
        unit = a / np.trace(a, axis1=-2, axis2=-1)[:, None, None]
        return bool(np.abs(unit - unit[0]).max() <= 8 * np.finfo(to_host(self.curvatures).dtype).eps)

    @functools.cached_property
    def _diagonal(self) -> tuple[Array, Array]:
        """B and (a, P, R) with B^-1 X(t) = R + t a / (t a + (1 - t)(1 - a)) (P - R), row by row."""
        a, c = to_host(self.curvatures).astype(np.float64), to_host(self.centers).astype(np.float64)
        root = np.linalg.cholesky(a[0] + a[1])
        half = np.linalg.solve(root, np.linalg.solve(root, a[0]).T)
        share, q = np.linalg.eigh((half + half.T) / 2)
        basis = np.linalg.solve(root.T, q)
        where, dtype = backend_of(self.start), str(to_host(self.start).dtype)
        ends = np.linalg.solve(basis, c[0]), np.linalg.solve(basis, c[1])
        curve = np.stack([share[:, None] * np.ones_like(ends[0]), ends[0], ends[1]])
        return where.asarray(basis, dtype=dtype), where.asarray(curve, dtype=dtype)

    def _distance_to_curve(self, w):
        xp, (basis, curve) = array_namespace(w), self._diagonal
        share, first, second = (curve[i, ...] for i in range(3))

        def distance(t):  # (batch, points) -> (batch, points)
            t = t[..., None, None]
            theta = t * share / (t * share + (1 - t) * (1 - share))
            return frobenius(w[..., None, :, :] - basis @ (second + theta * (first - second)))

        grid = xp.linspace(0.0, 1.0, GRID, dtype=w.dtype, device=backend_of(w).device)
        nearest = xp.argmin(distance(xp.broadcast_to(grid, (*w.shape[:-2], GRID))), axis=-1)
        middle = xp.astype(nearest, w.dtype)[..., None] / (GRID - 1)
        low, high = xp.clip(middle - 1 / (GRID - 1), 0.0, 1.0), xp.clip(middle + 1 / (GRID - 1), 0.0, 1.0)
        for _ in range(60):  # 0.618^60 < 1e-12: below that the distance no longer changes
            left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
            go_left = distance(left) < distance(right)
            low, high = xp.where(go_left, low, left), xp.where(go_left, right, high)
        ends = xp.concat([low, (low + high) / 2, high], axis=-1)
        return xp.min(distance(ends), axis=-1)

    def _distance_to_hull(self, w):
        host, centers = to_host(w).astype(np.float64), to_host(self.centers).astype(np.float64)
        flat = host.reshape(-1, host.shape[-2] * host.shape[-1])
        found = [hull_distance(centers.reshape(len(centers), -1) - x) for x in flat]
        return backend_of(w).asarray(np.reshape(found, host.shape[:-2]), dtype=str(to_host(w).dtype))


class Squares(MultiObjective):
    """f_i(x) = s_i x_i^2 / 2 on column vectors (n, 1): the Pareto set is {0}, but all x with a zero entry are critical.

    Where x_i = 0 the gradient of f_i vanishes, so that the weight can rest on it: weakly Pareto, not Pareto.
    """

    def __init__(self, scales: Array, start: Array, *, noise=None):
        if scales.ndim != 1 or tuple(start.shape) != (scales.shape[0], 1) or float(to_host(scales).min()) <= 0:
            raise ValueError(
                f"scales are n positive numbers and start is (n, 1); got {scales.shape} and {start.shape}."
            )
        self.scales, self.start, self.noise = scales, start, noise
        self.objectives, self.minima = scales.shape[0], (0.0,) * scales.shape[0]
        self.optimum, self.optimal_value = 0 * start, 0.0

    def values(self, w):
        return 0.5 * self.scales * w[..., 0] ** 2

    def jacobian(self, w):
        xp = array_namespace(w)
        eye = xp.eye(self.objectives, dtype=w.dtype, device=backend_of(w).device)
        return (eye * (self.scales * w[..., 0])[..., None, :])[..., None]

    def smoothness_of(self, i):
        return Constant(float(to_host(self.scales)[i]), "exact")

    def smoothness(self, norm: Norm) -> Constant:
        scales = to_host(self.scales).astype(np.float64)
        return smoothness(norm, Form(np.diag(scales) / len(scales), np.eye(1)))

    def pareto_distance(self, w):
        return frobenius(w)


class Fonseca(MultiObjective):
    """f_{1,2}(x) = 1 - exp(-|x -+ 1/sqrt(n)|^2) on column vectors (n, 1): smooth, not convex [fonseca1995overview].

    The Pareto set is the segment between the two minimizers +-(1, ..., 1)/sqrt(n); L = 2, attained there.
    """

    def __init__(self, start: Array, *, noise=None):
        if start.ndim != 2 or start.shape[1] != 1:
            raise ValueError(f"start is a column vector (n, 1); got {tuple(start.shape)}.")
        self.start, self.noise = start, noise
        self.objectives, self.minima = 2, (0.0, 0.0)
        self.end = 0 * start + 1 / math.sqrt(start.shape[0])

    def _parts(self, w):
        xp = array_namespace(w)
        error = xp.stack([w - self.end, w + self.end], axis=-3)
        return error, xp.exp(-xp.sum(error * error, axis=(-2, -1)))

    def values(self, w):
        return 1 - self._parts(w)[1]

    def jacobian(self, w):
        error, decay = self._parts(w)
        return 2 * decay[..., None, None] * error

    def smoothness_of(self, i):
        return Constant(2.0, "exact", "the Hessian is 2 exp(-|e|^2) (I - 2 e e^T), largest at e = 0")

    def smoothness(self, norm: Norm) -> Constant:
        return in_norm(norm, 2.0, self.start.shape)

    def pareto_distance(self, w):
        xp = array_namespace(w)
        along = xp.clip(xp.sum(w * self.end, axis=(-2, -1), keepdims=True), -1.0, 1.0)
        return frobenius(w - along * self.end)


def in_norm(norm: Norm, frobenius_constant: float, shape: tuple[int, ...]) -> Constant:
    """Return the bound of L in a norm that follows from L in the Frobenius norm: that of the Hessian L I."""
    whole = smoothness(norm, Form(frobenius_constant * np.eye(shape[0]), np.eye(shape[1])))
    return Constant(float(whole), "upper", "from the constant in the Frobenius norm")


def hull_distance(points: np.ndarray) -> float:
    """Return the distance of the origin to the convex hull of the rows of a host array (m, n).

    Nonnegative least squares on [points^T; 1^T] against [0; 1], normalized to weights of the simplex.
    """
    from scipy.optimize import nnls

    peak = float(np.abs(points).max())
    if peak == 0.0:
        return 0.0
    scaled = points / peak
    weights, _ = nnls(np.vstack([scaled.T, np.ones(len(points))]), np.append(np.zeros(points.shape[1]), 1.0))
    return peak * float(np.linalg.norm(weights @ scaled) / weights.sum())


def pareto_quadratics(
    *,
    objectives: int = 2,
    rows: int = 2,
    columns: int = 1,
    condition: float = 10.0,
    curvature: Literal["generic", "shared"] = "generic",
    scale_ratio: float = 1.0,
    distance: float = 3.0,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise: Gaussian | None = None,
    device: str | Backend | None = None,
) -> Quadratics:
    """Build quadratics with Gaussian minimizers and log-spaced curvatures from 1 / condition to 1.

    `curvature` is "generic" (a random basis each) or "shared" (one for all: the Pareto set is the hull of the centers);
    f_i is multiplied by scales from 1 to 1 / scale_ratio; the start lies at `distance` from the mean minimizer.
    """
    closest(curvature, dict.fromkeys(("generic", "shared")), "curvature")
    for value, name in ((objectives, "objectives"), (rows, "rows"), (columns, "columns")):
        check_number(value, name, low=1)
    check_number(distance, "distance")
    rng = generator(seed)
    spectrum = log_spectrum(rows, condition)
    bases = [orthogonal(rows, rng) for _ in range(objectives if curvature == "generic" else 1)]
    scales = log_spectrum(objectives, scale_ratio)
    a = np.stack([s * (bases[i % len(bases)] * spectrum) @ bases[i % len(bases)].T for i, s in enumerate(scales)])
    centers = rng.standard_normal((objectives, rows, columns))
    away = rng.standard_normal((rows, columns))
    start = centers.mean(axis=0) + distance * away / np.linalg.norm(away)
    where = backend(device)
    arrays = (where.asarray(x, dtype=dtype) for x in ((a + a.mT) / 2, centers, start))
    return Quadratics(*arrays, noise=noise)


def squares(
    *,
    size: int = 2,
    scale_ratio: float = 1.0,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise: Gaussian | None = None,
    device: str | Backend | None = None,
) -> Squares:
    """Build element-wise squares f_i = s_i x_i^2 / 2 with scales from 1 to 1 / scale_ratio and a Gaussian start."""
    check_number(size, "size", low=1)
    where = backend(device)
    start = generator(seed).standard_normal((size, 1))
    scales = log_spectrum(size, scale_ratio)
    return Squares(where.asarray(scales, dtype=dtype), where.asarray(start, dtype=dtype), noise=noise)


def fonseca(
    *,
    size: int = 2,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise: Gaussian | None = None,
    device: str | Backend | None = None,
) -> Fonseca:
    """Build the two bells of Fonseca and Fleming with a Gaussian start around their middle."""
    check_number(size, "size", low=1)
    where = backend(device)
    return Fonseca(
        where.asarray(generator(seed).standard_normal((size, 1)) / math.sqrt(size), dtype=dtype), noise=noise
    )
