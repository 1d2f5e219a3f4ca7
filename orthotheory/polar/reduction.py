"""What the matrix iterations share: QR, scaling, a lower bound, the decision on the rank, grouping of batches."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..arrays import Array, array_namespace, check_matrix, check_number, device_of, frobenius, magnitude, to_host
from .svd import partial_isometry

Solver = Callable[[Array, float], Array]


def through_square(g: Array, who: str, solve: Solver, *, low: float | None = None) -> Array:
    """Return Q polar(R) for g = Q R, or the exact factor where the rank is in doubt.

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square; wide ones are transposed first.
    who : str
        Name for error messages.
    solve : function of (x, low)
        Returns the polar factors of nonsingular square matrices (batch, k, k) with singular values in [low, 1].
    low : float, optional
        Lower bound of the smallest over the largest singular value, for all matrices. Where it is not given, it is
        measured: norms of R and of its inverse bound the extreme singular values rigorously (up to rounding).

    Notes
    -----
    An iteration cannot see the rank: it amplifies the roundings in a null space to singular values of any size. So
    every matrix whose measured bound is not above max(m, n) eps, the rule of `thin_svd`, gets its factor from the
    SVD, in which null spaces are mapped to zero. The bound is at most k times too low, so this includes full-rank
    matrices with a condition number above 1 / (max(m, n) k eps), for the exact factor has the same accuracy.

    Measured bounds are rounded down to a power of four: members of a batch with the same bound are solved together,
    and no member depends on its neighbors. Cost besides `solve`: one QR, one inverse and one product.
    """
    check_matrix(g, who, complex_allowed=True)
    if low is not None:
        check_number(low, "low", high=1.0, open_low=True, open_high=True)
    xp = array_namespace(g)
    size = magnitude(g)
    y = xp.reshape(size.normalize(g), (math.prod(g.shape[:-2]), *g.shape[-2:]))
    wide = y.shape[-2] < y.shape[-1]
    y = adjoint(y) if wide else y
    q, r = xp.linalg.qr(y, mode="reduced")
    top, bounds = spectrum_bounds(r, floor=y.shape[-2] * float(xp.finfo(y.dtype).eps))
    r = r / top[:, None, None]

    def factor(bound: float, members: Array) -> Array:
        if bound == 0:
            return partial_isometry(xp.take(y, members, axis=0))
        return xp.take(q, members, axis=0) @ solve(xp.take(r, members, axis=0), low or bound)

    groups = {bound: np.flatnonzero(bounds == bound) for bound in np.unique(bounds).tolist()}
    if not groups:
        return g + size.nan()
    parts = [factor(bound, xp.asarray(members, device=device_of(g))) for bound, members in groups.items()]
    order = xp.asarray(np.argsort(np.concatenate(list(groups.values()))), device=device_of(g))
    p = xp.take(xp.concat(parts, axis=0), order, axis=0)
    return xp.reshape(adjoint(p) if wide else p, g.shape) + size.nan()


def spectrum_bounds(r: Array, *, floor: float) -> tuple[Array, np.ndarray]:
    """Bound the singular values of triangular matrices (batch, k, k).

    Returns
    -------
    top : array (batch,)
        Upper bounds of the largest ones; 1 for the zero matrix.
    bounds : NumPy array (batch,) of float64
        Powers of four, at most 1/4, below smallest / top, and 0 where smallest / top may be below the floor.
    """
    xp = array_namespace(r)
    top = operator_norm_bound(r)
    top = xp.where(top > 0, top, xp.ones_like(top))
    # the smallest singular value is at most the smallest pivot; the others can be inverted without a division by zero
    regular = xp.min(xp.abs(xp.linalg.diagonal(r)), axis=-1) > floor * top
    eye = xp.eye(r.shape[-1], dtype=r.dtype, device=device_of(r))
    inverse = xp.linalg.inv(xp.where(regular[:, None, None], r / top[:, None, None], eye))
    host = to_host(xp.where(regular, operator_norm_bound(inverse), xp.ones_like(top) / floor)).astype(float)
    sure = host < 1 / floor  # false for what overflowed to infinity or NaN
    exponent = np.ceil(np.log2(np.where(sure, host, 1.0)) / 2)
    return top, np.where(sure, 4.0 ** -np.maximum(exponent, 1.0), 0.0)


def operator_norm_bound(x: Array) -> Array:
    """Return the smaller of the Frobenius norm and sqrt(|x|_1 |x|_inf), upper bounds of the spectral norm."""
    xp = array_namespace(x)
    size = xp.abs(x)
    columns, rows = (xp.max(xp.sum(size, axis=axis), axis=-1) for axis in (-2, -1))
    return xp.minimum(frobenius(x), xp.sqrt(columns) * xp.sqrt(rows))


def adjoint(x: Array) -> Array:
    """Return the conjugate transpose."""
    xp = array_namespace(x)
    return xp.conj(x).mT if xp.isdtype(x.dtype, "complex floating") else x.mT
