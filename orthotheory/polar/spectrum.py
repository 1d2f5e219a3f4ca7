"""What a Gram matrix tells about the singular values at the price of a few matrix-vector products.

`lanczos` gives a Gauss quadrature of the spectral density and an estimate of sigma_1; `condition` an estimate of
sigma_1 / sigma_n by a factorization. The limit for a Gaussian matrix of a shape is `gaussian.marchenko_pastur`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..arrays import array_namespace, device_of, generator, to_host
from . import blas
from .symmetric import Operations, Symmetric, Triangle

STEPS = 8


class Quadrature(NamedTuple):
    """Singular values and weights: sum_i weights_i f(values_i) is about the mean of f over the singular values.

    `top` estimates the largest singular value, from below.
    """

    values: np.ndarray  # (..., k), ascending
    weights: np.ndarray  # (..., k), each row sums to one
    top: np.ndarray  # (...)

    def mean(self, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Estimate the mean of f over the singular values."""
        return np.sum(self.weights * f(self.values), axis=-1)

    @property
    def unresolved(self) -> float:
        """Share of the lowest value in the sum of all, the nuclear norm: what happens below it cannot be seen."""
        mass = self.weights * self.values
        return float(np.max(mass[..., 0] / np.sum(mass, axis=-1)))

    def quantiles(self, count: int = 96) -> np.ndarray:
        """Return singular values of equal weight for one matrix, ascending: a smooth density instead of k atoms.

        The i-th value sits in the middle of its weight; between, the logarithm is interpolated. A step that
        oscillates between 1 - E and 1 + E is seen at all its phases, which k nodes would miss.
        """
        middle = np.concatenate([[0.0], np.cumsum(self.weights) - self.weights / 2, [1.0]])
        values = np.maximum(self.values, 1e-8 * self.top)
        logs = np.log(np.concatenate([values[:1] ** 2 / values[min(1, len(values) - 1)], values, values[-1:]]))
        return np.exp(np.interp((np.arange(count) + 0.5) / count, middle, logs))


def density(ops: Operations, gram: Symmetric, *, seed: int = 0) -> Quadrature:
    """Return the quadrature of `STEPS` Lanczos steps, of two or three times as many where they do not resolve it.

    They do while the lowest value carries at most a tenth of the nuclear norm (a quarter after 2 `STEPS`); spectra
    that decay fast need more.
    """
    if isinstance(gram, Triangle):
        return _quadrature(*_tridiagonal_of_one(gram, 3 * STEPS, seed, _resolved))
    for steps in (STEPS, 2 * STEPS):
        alpha, beta = _tridiagonal(ops, gram, steps, seed)
        if _resolved(alpha, beta):
            return _quadrature(alpha, beta)
    return lanczos(ops, gram, 3 * STEPS, seed=seed)


def _resolved(alpha: np.ndarray, beta: np.ndarray) -> bool:
    return _quadrature(alpha, beta).unresolved < (0.1 if alpha.shape[-1] <= STEPS else 0.25)


def lanczos(ops: Operations, gram: Symmetric, steps: int = STEPS, *, seed: int = 0) -> Quadrature:
    """Estimate the singular values of X from R = X X^H by Lanczos with one start vector.

    Parameters
    ----------
    ops, gram
        Operations and the Gram matrix X X^H of their kind; batches give batches.
    steps : int
        Matrix-vector products, at most n.
    seed : int
        Of the Gaussian start vector, the same for every matrix of one size.

    Returns
    -------
    Quadrature
        Exact for polynomials in R of degree below 2 steps, for the measure that the start vector defines; its
        deviation from the mean over all singular values is of order n^(-1/2). `top` is below sigma_1.

    Notes
    -----
    Cost: `steps` symmetric matrix-vector products. So few steps need no reorthogonalization. Nodes and weights are the
    eigenvalues and squared first eigenvector entries of the tridiagonal matrix [golub2010matrices].
    """
    alpha, beta = _tridiagonal(ops, gram, steps, seed)
    return _quadrature(alpha, beta)


def _tridiagonal(ops: Operations, gram: Symmetric, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the diagonals (..., k) and off-diagonals (..., k - 1) of the Lanczos matrix on the host."""
    if isinstance(gram, Triangle):
        return _tridiagonal_of_one(gram, steps, seed)
    xp = array_namespace(gram)
    n = gram.shape[-1]
    start = xp.asarray(_start(n, seed, "d"), dtype=gram.dtype, device=device_of(gram))
    v = start + xp.zeros_like(gram[..., 0])
    before, b = xp.zeros_like(v), xp.zeros_like(v[..., :1])
    alphas, betas = [], []
    for _ in range(min(steps, n)):
        w = ops.matvec(gram, v) - b * before
        a = xp.sum(xp.conj(v) * w if xp.isdtype(w.dtype, "complex floating") else v * w, axis=-1, keepdims=True)
        w = w - a * v
        b = xp.astype(xp.linalg.vector_norm(w, axis=-1, keepdims=True), w.dtype)
        alphas.append(to_host(a)[..., 0].real)
        betas.append(to_host(b)[..., 0].real)
        before, v = v, w / xp.where(b == 0, xp.ones_like(b), b)
    return np.stack(alphas, -1).astype(float), np.stack(betas, -1)[..., :-1].astype(float)


@functools.lru_cache(maxsize=16)
def _start(n: int, seed: int, kind: str) -> np.ndarray:
    v = generator(seed).standard_normal(n)
    return (v / math.sqrt(float(np.sum(v * v)))).astype(kind)


def _tridiagonal_of_one(
    gram: Triangle, steps: int, seed: int, enough: Callable[[np.ndarray, np.ndarray], bool] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Run the same recurrence through SciPy's BLAS, without an allocation; ask every `STEPS` steps if it is enough."""
    a = gram.a
    n, char = a.shape[0], a.dtype.char
    v = _start(n, seed, char).copy()
    vectors = [v, np.empty_like(v), np.zeros_like(v)]
    matvec, dot, axpy, scal = blas.recurrence(a, vectors)
    now, following, before = 0, 1, 2
    alphas: list[float] = []
    betas: list[float] = []
    b = 0.0
    for _ in range(min(steps, n)):
        matvec(now, following)
        if b:
            axpy(-b, before, following)
        alpha = dot(now, following)
        axpy(-alpha, now, following)
        b = math.sqrt(dot(following, following))
        alphas.append(alpha)
        betas.append(b)
        if not b > 0:
            break
        if enough and len(alphas) % STEPS == 0 and enough(np.array(alphas), np.array(betas[:-1])):
            break
        scal(1 / b, following)
        now, following, before = following, before, now
    return np.array(alphas), np.array(betas[: len(alphas) - 1])


def _quadrature(alpha: np.ndarray, beta: np.ndarray) -> Quadrature:
    k = alpha.shape[-1]
    t = np.zeros((*alpha.shape, k))
    index = np.arange(k)
    t[..., index, index] = alpha
    t[..., index[1:], index[:-1]] = beta  # eigh reads the lower triangle
    nodes, vectors = np.linalg.eigh(t)
    values = np.sqrt(np.maximum(nodes, 0.0))
    return Quadrature(values, vectors[..., 0, :] ** 2, values[..., -1])


@dataclass(frozen=True)
class Lanczos:
    """The normalization by an estimate of sigma_1: `safety` times the root of the largest Ritz value of X X^H.

    Parameters
    ----------
    safety : float
        The estimate is below sigma_1: for a thousand values without a gap by up to 2.5 % after eight steps and 1 %
        after sixteen, by rounding for a separated singular value; no bound is proved. Steps that stay tame beyond
        their interval, as rational ones do, need no more.
    steps, seed : int
        As `lanczos`.
    """

    safety: float = 1.02
    steps: int = 2 * STEPS
    seed: int = 0

    def of_operations(self, ops: Operations, gram: Symmetric) -> Any:
        """Return the divisor for each matrix of which the Gram matrix is given, shape (...)."""
        top = self.safety * lanczos(ops, gram, self.steps, seed=self.seed).top
        if isinstance(gram, Triangle):
            return float(top)
        xp = array_namespace(gram)
        like = ops.trace(gram)
        return xp.asarray(top, dtype=like.dtype, device=device_of(like))

    def top(self) -> float:
        """Return the largest singular value to expect after normalization."""
        return 1.0 / self.safety


def condition(ops: Operations, gram: Symmetric, top: float) -> float:
    """Estimate sigma_1 / sigma_n from the Gram matrix by a Cholesky factorization and inverse iteration.

    Parameters
    ----------
    top : float
        sigma_1, or an estimate.

    Returns
    -------
    float
        From below, typically to a few percent; infinity where the condition number is beyond eps^(-1/2), which a
        Gram matrix cannot show.

    Notes
    -----
    Cost: a Cholesky factorization (n^3 / 3 operations) and 2 x 4 triangular solves with a vector; the eigenvalues
    where the operations are not `Blas`.
    """
    if isinstance(gram, Triangle):
        work = ops.copy(gram)
        eps = float(np.finfo(gram.a.dtype).eps)
        growth = math.inf if blas.potrf(work.a) else _growth(len(gram.a), gram.a.dtype.char, _by_cholesky(work.a))
        ops.free(work)
    else:
        xp = array_namespace(gram)
        eps = float(xp.finfo(gram.dtype).eps)
        smallest = float(to_host(xp.linalg.eigvalsh(gram))[0])
        growth = 1 / smallest if smallest > 0 else math.inf
    kappa = top * math.sqrt(growth)
    return kappa if kappa * kappa * eps * 4 < 1 else math.inf


def condition_of_square(x: np.ndarray, top: float) -> float:
    """Estimate sigma_1 / sigma_n of a square NumPy matrix by LU and inverse iteration, up to 1 / eps.

    Cost: an LU factorization (2 n^3 / 3 operations) and 2 x 4 solves with a vector.
    """
    from scipy.linalg import lapack

    getrf, getrs = lapack.get_lapack_funcs(("getrf", "getrs"), (x,))
    lu, pivots, info = getrf(x.T if x.flags.c_contiguous else x)
    if info:
        return math.inf

    def solve(v: np.ndarray) -> np.ndarray:
        return getrs(lu, pivots, getrs(lu, pivots, v, trans=1)[0])[0]

    return top * math.sqrt(_growth(len(x), x.dtype.char, solve))


def _by_cholesky(factor: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def solve(v: np.ndarray) -> np.ndarray:
        blas.trsv(factor, v, "T")
        blas.trsv(factor, v, "N")
        return v

    return solve


def _growth(n: int, kind: str, solve: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the norm of the inverse that `solve` applies, from below, by four power steps."""
    v = _start(n, 1, kind).copy()
    growth = 1.0
    for _ in range(4):
        v = solve(v)
        growth = math.sqrt(blas.dot(v, v))
        if not (math.isfinite(growth) and growth > 0):
            return math.inf
        v = v / v.dtype.type(growth)
    return growth
