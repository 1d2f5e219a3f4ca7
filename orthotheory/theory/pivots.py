"""Jacobi's method with uniformly random pivots contracts at a rate that no matrix changes, in expectation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from ..polar.jacobi import off_square, rotate_hermitian
from .contract import Assumption, Size, Theorem

Pivots = Callable[[int], np.ndarray]


def all_pivots(n: int) -> np.ndarray:
    """Return every pair p < q, shape (n (n - 1) / 2, 2)."""
    return np.argwhere(np.triu(np.ones((n, n), dtype=bool), 1))


def neighboring_pivots(n: int) -> np.ndarray:
    """Return the pairs (p, p + 1) alone."""
    return np.stack([np.arange(n - 1), np.arange(1, n)], axis=-1)


def mean_after_one_rotation(a: np.ndarray, pivots: Pivots = all_pivots) -> np.ndarray:
    """Return the mean of the off-diagonal squares over rotations at all given pivots: an expectation, enumerated."""
    p, q = pivots(len(a)).T
    rotated = rotate_hermitian(np.broadcast_to(a, (len(p), *a.shape)), p, q)
    return np.atleast_1d(off_square(rotated).mean())


def predicted(a: np.ndarray) -> np.ndarray:
    """Return (1 - 2 / (n (n - 1))) off(A)."""
    n = len(a)
    return np.atleast_1d((1 - 2 / (n * (n - 1))) * off_square(a))


def _cases(size: Size) -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    for n in (3, 8, 16) if size == "smoke" else (3, 5, 8, 16, 24, 32):
        a = rng.standard_normal((n, n))
        yield f"Gaussian symmetric, n = {n}", a + a.T
        b = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
        yield f"Gaussian Hermitian, n = {n}", b + np.conj(b.T)
    yield "Hilbert matrix, n = 6", 1 / (1.0 + np.add.outer(np.arange(6), np.arange(6)))
    yield "one entry off the diagonal, n = 5", np.eye(5) + 0.5 * (np.eye(5, k=4) + np.eye(5, k=-4))


jacobi_random_pivot = Theorem(
    label="jacobi-random-pivot",
    title="A uniformly random Jacobi rotation contracts by a factor that depends on the size alone",
    statement=(
        r"\mathbb{E}_{(p,q)}\,\operatorname{off}\bigl(J_{pq}^*AJ_{pq}\bigr)"
        r"=\Bigl(1-\frac{2}{n(n-1)}\Bigr)\operatorname{off}(A),\qquad "
        r"\operatorname{off}(A)=\sum_{i\ne j}|a_{ij}|^2"
    ),
    assumes=(
        Assumption("the matrix is Hermitian and n >= 2", lambda a: len(a) >= 2 and np.allclose(a, np.conj(a.T))),
        Assumption("it is not diagonal", lambda a: float(off_square(a)) > 0),
    ),
    kind="identity",
    lhs=mean_after_one_rotation,
    rhs=predicted,
    cases=_cases,
    broken=lambda t: dataclasses.replace(t, lhs=lambda a: mean_after_one_rotation(a, neighboring_pivots)),
    mistake="pivots that are neighbors only",
    source="[detherage2025unified]; elementary: a rotation removes exactly 2 |a_pq|^2",
    tolerance=1e-12,
    reason="products with a rotation, n roundings each",
)
