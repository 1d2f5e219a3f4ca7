"""Powers of symmetric positive semidefinite matrices, as preconditioners need them."""

from __future__ import annotations

from ..arrays import Array, array_namespace, check_matrix, magnitude


def inverse_root(a: Array, power: float = 0.5) -> Array:
    """Return A^(-power) of symmetric positive semidefinite matrices (..., k, k), on their range.

    Eigenvalues up to k eps times the largest count as zero and stay zero (the pseudo-inverse), so A = 0 gives 0. A
    matrix with a non-finite entry gives NaN and leaves its neighbors untouched. Only the symmetric part counts.
    Cost: one eigenvalue decomposition and one product.

    >>> import numpy as np
    >>> inverse_root(np.diag([4.0, 0.0]))
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    check_matrix(a, "inverse_root")
    if a.shape[-1] != a.shape[-2]:
        raise ValueError(f"inverse_root needs square matrices; got shape {tuple(a.shape)}.")
    xp = array_namespace(a)
    size = magnitude(a)
    y = size.normalize(a)
    values, vectors = xp.linalg.eigh((y + y.mT) / 2)
    floor = a.shape[-1] * float(xp.finfo(a.dtype).eps) * values[..., -1:]
    kept = values > xp.maximum(floor, xp.zeros_like(floor))
    powers = xp.where(kept, xp.where(kept, values, xp.ones_like(values)) ** -power, xp.zeros_like(values))
    return size.scale**-power * ((vectors * powers[..., None, :]) @ vectors.mT) + size.nan()


def symmetrize(a: Array) -> Array:
    """Return (A + A^T) / 2."""
    return (a + a.mT) / 2


def trace(a: Array) -> Array:
    """Return the trace of each matrix, shape (..., 1, 1)."""
    xp = array_namespace(a)
    return xp.sum(xp.linalg.diagonal(a), axis=-1)[..., None, None]
