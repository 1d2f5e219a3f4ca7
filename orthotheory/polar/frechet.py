"""The derivative of the polar factor: the Hessian of the nuclear norm, its condition, where it does not exist."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_namespace, check_matrix, dtype_name, magnitude, to_host
from .reduction import adjoint
from .svd import svd_of_moderate


def polar_derivative(g: Array, direction: Array) -> Array:
    """Return L(G, E), the derivative of the polar factor of G in the direction E.

    With G = U S V^H and F = U^H E V,

        L(G, E) = U [(F - F^H)_ij / (s_i + s_j)] V^H  +  U S^-1 U^H E (I - V V^H)  +  (I - U U^H) E V S^-1 V^H

    where the second term is there for wide and the third for tall matrices.

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex matrices of full rank.
    direction : array (..., m, n)
        Of the same dtype; its batch axes broadcast with those of g.

    Returns
    -------
    array (..., m, n)

    Raises
    ------
    ValueError
        For a rank-deficient matrix, where the derivative does not exist, and for shapes or dtypes that differ.

    Notes
    -----
    polar(G) is the gradient of the nuclear norm, so L(G, .) is its Hessian: symmetric and positive semidefinite
    [higham2008functions]. F is skewed by 2 / (s_i + s_j): for square real G the smallest singular value alone is no
    danger, the sum of the two smallest is. A non-finite matrix or direction gives NaN. Cost: one thin SVD and 4 to 6
    products.

    >>> angle = 0.1  # the factor of a scaled rotation is the rotation, its derivative turns it further
    >>> g = 2 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    >>> turn = np.array([[-np.sin(angle), -np.cos(angle)], [np.cos(angle), -np.sin(angle)]])
    >>> bool(np.allclose(polar_derivative(g, turn), turn / 2))
    True
    """
    check_matrix(g, "polar_derivative", complex_allowed=True)
    check_matrix(direction, "polar_derivative(direction)", complex_allowed=True)
    if tuple(g.shape[-2:]) != tuple(direction.shape[-2:]) or g.dtype != direction.dtype:
        raise ValueError(
            f"The direction must be {g.shape[-2]} x {g.shape[-1]} in {dtype_name(g)}, as the matrix; got "
            f"{direction.shape[-2]} x {direction.shape[-1]} in {dtype_name(direction)}."
        )
    xp = array_namespace(g, direction)
    factors = _full_rank(g, "The polar factor has no derivative")
    u, s, vh = factors.u, factors.s, factors.vh
    uh, v = adjoint(u), adjoint(vh)
    size = magnitude(direction)
    e = size.normalize(direction)
    left, right = uh @ e, e @ v  # r x n and m x r
    f = left @ v
    inner = (f - adjoint(f)) / (s[..., :, None] + s[..., None, :])
    derivative = u @ inner @ vh
    m, n = g.shape[-2:]
    if m < n:
        derivative = derivative + (u / s[..., None, :]) @ (left - f @ vh)
    elif m > n:
        derivative = derivative + ((right - u @ f) / s[..., None, :]) @ vh
    derivative = derivative * size.scale / factors.scale
    return derivative + xp.astype(factors.nan + size.nan(), derivative.dtype)


def polar_derivative_adjoint(g: Array, cotangent: Array) -> Array:
    """Return L*(G, Y) with <L(G, E), Y> = <E, L*(G, Y)>, what a backward pass multiplies by.

    L is a Hessian, hence symmetric in the real inner product Re tr(X^H Y): the adjoint is L itself. Shapes, errors
    and cost are those of `polar_derivative`.

    >>> g, y = np.diag([1.0, 3.0]), np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> polar_derivative_adjoint(g, y)
    array([[ 0. ,  0.5],
           [-0.5,  0. ]])
    """
    return polar_derivative(g, cotangent)


def polar_condition(g: Array) -> Array:
    """Return the absolute condition number sup |L(G, E)|_F / |E|_F of the polar factor, of the batch shape.

        2 / (s_{n-1} + s_n)  for square real G (0 for 1 x 1),        1 / s_min  for complex or rectangular G

    Infinite for a matrix whose factor has no derivative, NaN for one that is not finite. Cost: the singular values
    [higham2008functions].

    >>> float(polar_condition(np.diag([4.0, 1.0, 1.0])))
    1.0
    """
    check_matrix(g, "polar_condition", complex_allowed=True)
    xp = array_namespace(g)
    size = magnitude(g)
    s = svd_of_moderate(size.normalize(g)).s
    m, n = g.shape[-2:]
    lowest, gain = s[..., -1], 1.0
    if m == n and not xp.isdtype(g.dtype, "complex floating"):
        lowest, gain = (s[..., -1], 0.0) if n == 1 else ((s[..., -2] + s[..., -1]) / 2, 1.0)
    positive = s[..., -1] > 0
    reciprocal = gain / xp.where(positive, lowest, xp.ones_like(lowest)) / size.scale[..., 0, 0]
    return xp.where(positive, reciprocal, xp.full_like(reciprocal, np.inf)) + size.nan()[..., 0, 0]


class _Factors(NamedTuple):
    u: Array
    s: Array
    vh: Array
    scale: Array
    nan: Array


def _full_rank(g: Array, what: str) -> _Factors:
    """Factor the matrices over a power of two; refuse those without full rank, except what is not finite."""
    xp = array_namespace(g)
    size = magnitude(g)
    u, s, vh = svd_of_moderate(size.normalize(g))
    deficient = to_host((s[..., -1] == 0) & size.finite[..., 0, 0])
    if deficient.any():
        where = f" (member {tuple(int(i) for i in np.argwhere(deficient)[0])} of the batch)" if deficient.ndim else ""
        raise ValueError(
            f"{what} at a matrix of rank below {min(g.shape[-2:])}{where}: a small change moves it by a distance of "
            "order one. Perturb the matrix, or restrict it to the space that it spans."
        )
    return _Factors(u, xp.where(s == 0, xp.ones_like(s), s), vh, size.scale, size.nan())
