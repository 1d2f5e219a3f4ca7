"""The thin singular value decomposition, safe over the whole floating-point range, with one rank convention."""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_namespace, check_matrix, magnitude


class ThinSVD(NamedTuple):
    """Factors of x = u diag(s) vh, shapes (..., m, r), (..., r), (..., r, n) with r = min(m, n)."""

    u: Array
    s: Array
    vh: Array


def thin_svd(x: Array) -> ThinSVD:
    """Factor each matrix; singular values at rounding level are returned as exact zeros.

    A singular value counts as zero up to max(m, n) * eps * s_1, the rule of NumPy's `matrix_rank`.
    Scaling by a power of two first makes the result independent of the magnitude of `x`. A matrix with a
    non-finite entry gets NaN factors; its neighbors in the batch are untouched.
    Cost: one thin SVD, about 11 to 13 products of n x n matrices by operation count.
    """
    check_matrix(x, "thin_svd", complex_allowed=True)
    size = magnitude(x)
    u, s, vh = svd_of_moderate(size.normalize(x))
    nan = size.nan()
    return ThinSVD(u + nan, s * size.scale[..., 0] + nan[..., 0], vh + nan)


def svd_of_moderate(y: Array) -> ThinSVD:
    """Factor finite matrices with entries of moderate size, with the same rank rule and no further scaling."""
    xp = array_namespace(y)
    u, s, vh = xp.linalg.svd(y, full_matrices=False)
    floor = max(y.shape[-2:]) * float(xp.finfo(y.dtype).eps)
    return ThinSVD(u, xp.where(s > floor * s[..., :1], s, xp.zeros_like(s)), vh)


def partial_isometry(y: Array) -> Array:
    """Return U V^H over the nonzero singular values of finite matrices with entries of moderate size."""
    u, s, vh = svd_of_moderate(y)
    rank = array_namespace(s).astype(s > 0, s.dtype)
    return (u * rank[..., None, :]) @ vh


def exact(g: Array) -> Array:
    """Return the exact polar factor, by the thin SVD: null spaces are mapped to zero, non-finite matrices to NaN.

    Cost: one thin SVD and one product.
    """
    check_matrix(g, "exact", complex_allowed=True)
    size = magnitude(g)
    return partial_isometry(size.normalize(g)) + size.nan()
