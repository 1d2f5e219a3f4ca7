"""Orthogonal matrices from free parameters: Cayley and its Neumann series, Householder products, Givens rotations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, array_namespace, check_matrix, device_of


def cayley(skew: Array) -> Array:
    """Return the Cayley transform C(S) = (I + S)(I - S)^-1 of skew-symmetric matrices, shape (..., n, n).

    Orthogonal without the eigenvalue -1; C(-S) = C(S)^T, which is what (I - S)(I + S)^-1 gives. Raises ValueError
    for matrices that are not square or not skew to rounding. Cost: one linear solve, 4/3 products
    [higham2008functions].

    >>> cayley(np.array([[0.0, -1.0], [1.0, 0.0]]))
    array([[ 0., -1.],
           [ 1.,  0.]])
    """
    eye = _identity(skew, "cayley")
    return array_namespace(skew).linalg.solve(eye - skew, eye + skew)


def cayley_neumann(skew: Array, terms: int = 4) -> Array:
    """Return the truncated series of the Cayley transform [qiu2025orthogonal],

        R_N = I + 2 (S + ... + S^(N-2)) + S^(N-1) = C(S) (I - S^(N-1)).

    Parameters
    ----------
    skew : array (..., n, n)
        Skew-symmetric, spectral norm below 1.
    terms : int
        N, at least 2. For even N the product R_N^T R_N differs from I by theta^(2 (N - 1)), for odd N by about
        2 theta^(N - 1), theta the spectral norm of S (theorem `cayley-neumann-defect`): an even number is better than
        the next odd one. The authors' code has 5.

    Raises
    ------
    ValueError
        For fewer than two terms, matrices that are not square or not skew.

    Notes
    -----
    Cost: N - 2 products.

    >>> r = cayley_neumann(np.array([[0.0, -0.1], [0.1, 0.0]]))
    >>> bool(abs(r @ r.T - np.eye(2)).max() < 1.1e-6)
    True
    """
    if terms < 2:
        raise ValueError(f"terms must be at least 2; got {terms}.")
    eye = _identity(skew, "cayley_neumann")
    total, power = eye, skew
    for _ in range(terms - 2):
        total, power = total + 2 * power, power @ skew
    return total + power


def cayley_neumann_defect(angles: Array, terms: int) -> Array:
    """Return |R_N^T R_N - I|_2 for S with eigenvalues +-i theta: the largest over the thetas, shape (...).

    even N: theta^(2 (N - 1)),   odd N: |(1 -+ theta^(N - 1))^2 - 1|, minus where 4 divides N - 1
    """
    xp = array_namespace(angles)
    power = xp.abs(angles) ** (terms - 1)
    if terms % 2 == 0:
        return xp.max(power * power, axis=-1)
    sign = 1.0 if (terms - 1) % 4 == 0 else -1.0
    return xp.max(xp.abs((1 - sign * power) ** 2 - 1), axis=-1)


def householder_product(u: Array) -> Array:
    """Return H_1 ... H_r with H_i = I - 2 u_i u_i^H / |u_i|^2 for the columns of u, in the compact form

        I - U T^-1 U^H,   T = strict_upper(U^H U) + diag(U^H U) / 2.

    Parameters
    ----------
    u : array (..., n, r)
        Real or complex; a zero column is refused, it reflects nothing.

    Returns
    -------
    array (..., n, n)
        Unitary to rounding for any directions, dependent ones as well; NaN where u is not finite.

    Raises
    ------
    ValueError
        For a zero column.

    Notes
    -----
    Columns are scaled to unit length first, so that their magnitudes do not matter. An update of rank r: what makes
    reflections an adaptive low-rank adaptation [yuan2024bridging]. Cost: n^2 r operations and a triangular solve.

    >>> householder_product(np.array([[1.0], [0.0]]))
    array([[-1.,  0.],
           [ 0.,  1.]])
    """
    check_matrix(u, "householder_product", complex_allowed=True)
    xp = array_namespace(u)
    peak = xp.max(xp.abs(u), axis=-2, keepdims=True)
    if bool(xp.any(peak == 0)):
        raise ValueError("householder_product needs nonzero columns: I - 2 u u^H / |u|^2 is undefined for u = 0.")
    finite = xp.isfinite(peak)
    v = xp.where(finite, u, xp.ones_like(u)) / xp.where(finite, peak, xp.ones_like(peak))
    v = v / xp.sqrt(xp.sum(xp.abs(v) ** 2, axis=-2, keepdims=True))
    vh = xp.conj(v).mT if xp.isdtype(v.dtype, "complex floating") else v.mT
    half = xp.eye(v.shape[-1], dtype=v.dtype, device=device_of(v)) / 2
    compact = xp.triu(vh @ v, k=1) + half
    product = xp.eye(v.shape[-2], dtype=v.dtype, device=device_of(v)) - v @ xp.linalg.solve(compact, vh)
    return xp.where(xp.all(finite, axis=-1, keepdims=True), product, xp.full_like(product, np.nan))


def tree_pairs(n: int) -> list[tuple[int, int]]:
    """Return the n - 1 index pairs of GOFT's rotations [ma2024parameter], ceil(log2 n) rounds of disjoint pairs.

    >>> tree_pairs(4)
    [(0, 1), (2, 3), (0, 2)]
    """
    pairs, stride = [], 1
    while stride < n:
        pairs += [(i, i + stride) for i in range(0, n - stride, 2 * stride)]
        stride *= 2
    return pairs


def givens_product(angles: Any, pairs: list[tuple[int, int]], n: int) -> np.ndarray:
    """Return the product of the rotations by the angles in the planes of the pairs, the first one acting first.

    n - 1 angles can send any one vector to any other of its length (`align`), but reach a set of dimension n - 1 of
    the n (n - 1) / 2 of SO(n): not every rotation (claim `givens-tree-reaches-every-rotation`).
    """
    angles = np.asarray(angles, dtype=float)
    if angles.shape != (len(pairs),):
        raise ValueError(
            f"givens_product needs one angle for each of the {len(pairs)} planes; got shape {angles.shape}."
        )
    q = np.eye(n)
    for angle, (i, j) in zip(angles, pairs, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        q[[i, j]] = np.array([[c, -s], [s, c]]) @ q[[i, j]]
    return q


def align(vector: np.ndarray) -> np.ndarray:
    """Return the n - 1 angles of the tree whose rotation sends a vector to its length times the first unit vector.

    >>> q = givens_product(align(np.array([3.0, 4.0])), tree_pairs(2), 2)
    >>> np.round(q @ np.array([3.0, 4.0]), 12)
    array([5., 0.])
    """
    v = np.array(vector, dtype=float)
    angles = []
    for i, j in tree_pairs(len(v)):
        angles.append(-np.arctan2(v[j], v[i]))
        v[i], v[j] = np.hypot(v[i], v[j]), 0.0
    return np.array(angles)


def _identity(skew: Array, who: str) -> Array:
    """Return I of the shape of a skew-symmetric matrix, or refuse the matrix."""
    check_matrix(skew, who)
    xp = array_namespace(skew)
    n = skew.shape[-1]
    if skew.shape[-2] != n:
        raise ValueError(f"{who} needs square matrices; got {skew.shape[-2]} x {n}.")
    slack = 8 * float(xp.finfo(skew.dtype).eps) * xp.max(xp.abs(skew), axis=(-2, -1), keepdims=True)
    if bool(xp.any(xp.abs(skew + skew.mT) > slack)):
        raise ValueError(f"{who} needs skew-symmetric matrices, S = -S^T; take (A - A^T) / 2 of what you have.")
    return xp.eye(n, dtype=skew.dtype, device=device_of(skew))
