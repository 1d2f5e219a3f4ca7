"""The thin singular value decomposition, safe over the whole floating-point range, with one rank convention."""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, array_namespace, finite_matrices, power_of_two_scale


class ThinSVD(NamedTuple):
    """Factors of x = u diag(s) vh, shapes (..., m, r), (..., r), (..., r, n) with r = min(m, n)."""

    u: Array
    s: Array
    vh: Array


def thin_svd(x: Array) -> ThinSVD:
    """Factor each matrix; singular values at rounding level are returned as exact zeros.

    A singular value counts as zero below max(m, n) * eps * s_1, the rule of NumPy's `matrix_rank`.
    Scaling by a power of two first makes the result independent of the magnitude of `x`. A matrix with a
    non-finite entry gets NaN factors; its neighbors in the batch are untouched.
    Cost: one thin SVD, about 11 to 13 products of n x n matrices by operation count.
    """
    xp = array_namespace(x)
    finite = finite_matrices(x)
    scale = power_of_two_scale(x)
    y = xp.where(finite, x / scale, xp.zeros_like(x))
    u, s, vh = xp.linalg.svd(y, full_matrices=False)
    nothing = xp.zeros_like(s)
    floor = max(x.shape[-2:]) * float(xp.finfo(x.dtype).eps)
    s = xp.where(s > floor * s[..., :1], s, nothing)
    nan = xp.where(finite[..., 0], nothing, nothing + float("nan"))
    return ThinSVD(u + nan[..., None, :], s * scale[..., 0] + nan, vh + nan[..., :, None])
