"""Quadratics with a matrix variable and a Kronecker Hessian: 1/2 tr(E^T A E B), E = W - W*, and least squares."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from ..arrays import Array, Backend, backend, backend_of, check_number, generator, inner, to_host
from ..names import closest
from ..norms import Norm
from .contract import Constant, Dtype, Problem
from .curvature import Form, smoothness, strong_convexity
from .noise import take_rows


class KroneckerQuadratic(Problem):
    """f(W) = 1/2 tr(E^T A E B) + optimal_value with E = W - optimum; gradient A E B, Hessian B (x) A.

    Parameters
    ----------
    a, b : array (m, m), (n, n)
        Symmetric positive semidefinite factors.
    optimum, start : array (m, n)
        A minimizer and the first iterate.
    """

    def __init__(self, a: Array, b: Array, optimum: Array, start: Array, *, optimal_value: float = 0.0, noise=None):
        shape = (a.shape[-1], b.shape[-1])
        if optimum.shape != shape or start.shape != shape or a.shape != (shape[0],) * 2 or b.shape != (shape[1],) * 2:
            raise ValueError(
                f"A is (m, m), B (n, n), optimum and start (m, n); got {tuple(a.shape)}, {tuple(b.shape)}, "
                f"{tuple(optimum.shape)} and {tuple(start.shape)}."
            )
        for name, factor in (("A", a), ("B", b)):
            host = to_host(factor)
            if not np.array_equal(host, host.T):
                raise ValueError(f"{name} must be symmetric; symmetrize it as ({name} + {name}^T) / 2.")
            eigenvalues = np.linalg.eigvalsh(host)
            if eigenvalues[0] < -1e-8 * abs(eigenvalues[-1]):
                raise ValueError(
                    f"{name} must be positive semidefinite; its smallest eigenvalue is {eigenvalues[0]:g}."
                )
        self.a, self.b, self.optimum, self.start = a, b, optimum, start
        self.optimal_value, self.noise = optimal_value, noise

    @functools.cached_property
    def form(self) -> Form:
        """The factors on the host in float64, from which the constants come."""
        return Form(to_host(self.a).astype(np.float64), to_host(self.b).astype(np.float64))

    def hessian_product(self, d: Array) -> Array:
        """Return H d = A d B."""
        return self.a @ d @ self.b

    def curvature(self, d: Array) -> Array:
        """Return <d, H d>, shape (batch)."""
        return inner(d, self.hessian_product(d))

    def value(self, w):
        return 0.5 * self.curvature(w - self.optimum) + self.optimal_value

    def grad(self, w):
        return self.hessian_product(w - self.optimum)

    def smoothness(self, norm: Norm) -> Constant:
        return smoothness(norm, self.form)

    def strong_convexity(self, norm: Norm) -> Constant:
        return strong_convexity(norm, self.form)


class LeastSquares(KroneckerQuadratic):
    """f(W) = |C W - Y|_F^2 / (2 N) over N rows: A = C^T C / N, B = I; a mean over samples, so minibatches work."""

    def __init__(self, inputs: Array, targets: Array, start: Array, *, noise=None):
        c, y = to_host(inputs), to_host(targets)
        if c.ndim != 2 or y.ndim != 2 or c.shape[0] != y.shape[0]:
            raise ValueError(f"inputs are (N, m) and targets (N, n); got {c.shape} and {y.shape}.")
        where = backend_of(start)
        solution = np.linalg.lstsq(c, y, rcond=None)[0]
        gram = c.T @ c / len(c)
        residual = c @ solution - y
        super().__init__(
            where.asarray((gram + gram.T) / 2),
            where.asarray(np.eye(y.shape[1], dtype=c.dtype)),
            where.asarray(solution),
            start,
            optimal_value=float(np.sum(residual**2)) / (2 * len(c)),
            noise=noise,
        )
        self.inputs, self.targets, self.samples = inputs, targets, len(c)

    def sample_grad(self, w: Array, rows: np.ndarray) -> Array:
        """Return the gradient of the mean over the given rows, shape (size) or (batch, size)."""
        c, y = take_rows(self.inputs, rows), take_rows(self.targets, rows)
        return c.mT @ (c @ w - y) / rows.shape[-1]


def quadratic(
    *,
    rows: int = 16,
    columns: int = 16,
    left_condition: float = 100.0,
    right_condition: float = 1.0,
    alignment: Literal["commuting", "generic"] = "commuting",
    basis: Literal["random", "standard"] = "random",
    dtype: Dtype = "float64",
    seed: int = 0,
    noise=None,
    device: str | Backend | None = None,
) -> KroneckerQuadratic:
    """Build a Kronecker quadratic with log-spaced spectra from 1 / condition to 1.

    Parameters
    ----------
    rows, columns : int
        Shape of the variable.
    left_condition, right_condition : float
        Condition numbers of A and B.
    alignment : "commuting" or "generic"
        Whether the first error shares its singular vectors with A and B, or is Gaussian.
    basis : "random" or "standard"
        Eigenvectors of A and B: Haar-random, or the standard basis (diagonal A and B).
    """
    _check_choices(alignment=(alignment, ("commuting", "generic")), basis=(basis, ("random", "standard")))
    check_number(rows, "rows", low=1)
    check_number(columns, "columns", low=1)
    rng = generator(seed)
    u, v = (orthogonal(k, rng) if basis == "random" else np.eye(k) for k in (rows, columns))
    a = _symmetric(u, log_spectrum(rows, left_condition))
    b = _symmetric(v, log_spectrum(columns, right_condition))
    optimum = rng.standard_normal((rows, columns))
    r = min(rows, columns)
    if alignment == "commuting":
        error = (u[:, :r] * rng.uniform(0.5, 1.5, size=r)) @ v[:, :r].T
    else:
        error = rng.standard_normal((rows, columns))
    where = backend(device)
    arrays = (where.asarray(x, dtype=dtype) for x in (a, b, optimum, optimum + error))
    return KroneckerQuadratic(*arrays, noise=noise)


def least_squares(
    *,
    samples: int = 200,
    rows: int = 16,
    columns: int = 8,
    condition: float = 100.0,
    residual: float = 0.1,
    dtype: Dtype = "float64",
    seed: int = 0,
    noise=None,
    device: str | Backend | None = None,
) -> LeastSquares:
    """Build a matrix least-squares problem with inputs of a given condition number and Gaussian residuals."""
    check_number(samples, "samples", low=max(rows, 1))
    rng = generator(seed)
    spectrum = np.sqrt(samples * log_spectrum(rows, condition**2))
    c = np.linalg.qr(rng.standard_normal((samples, rows)))[0] * spectrum @ orthogonal(rows, rng)
    truth = rng.standard_normal((rows, columns))
    y = c @ truth + residual * rng.standard_normal((samples, columns))
    where = backend(device)
    return LeastSquares(
        where.asarray(c, dtype=dtype),
        where.asarray(y, dtype=dtype),
        where.asarray(np.zeros((rows, columns)), dtype=dtype),
        noise=noise,
    )


def log_spectrum(size: int, condition: float) -> np.ndarray:
    """Return eigenvalues log-spaced from 1 down to 1 / condition (all 1 for size 1)."""
    check_number(condition, "condition", low=1.0, open_high=True)
    return condition ** -(np.arange(size) / max(size - 1, 1))


def orthogonal(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a Haar-distributed orthogonal matrix."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return q * np.sign(np.diag(r))


def _symmetric(vectors: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    a = (vectors * eigenvalues) @ vectors.T
    return (a + a.T) / 2


def _check_choices(**choices) -> None:
    for name, (value, allowed) in choices.items():
        closest(value, dict.fromkeys(allowed), name)
