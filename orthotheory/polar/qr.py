"""Orthonormal bases by QR: for contrast, since they are not polar factors.

All of them return Q with Q^H Q = I and G = Q R, R upper triangular with a positive diagonal, for tall matrices, and the
adjoint of Q(G^H) for wide ones. The polar factor is the nearest to G among all matrices with orthonormal columns, and
turns with it: polar(U G V) = U polar(G) V. Q depends on the order of the columns, and is away from the polar factor by
order one unless the columns of G are nearly orthogonal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array, array_namespace, check_matrix, device_of, magnitude, standard_normal
from .reduction import adjoint

SKETCH_BLOCK, OVERSAMPLING = 128, 1.25  # rows of Dion's sketch: 128 ceil(1.25 n / 128)


def householder_qr(g: Array) -> Array:
    """Return the orthonormal factor of the Householder QR factorization with a positive diagonal of R.

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square.

    Returns
    -------
    array (..., m, n)
        Orthonormal columns (rows of a wide matrix) at every rank: where R has a zero on the diagonal, the column is an
        arbitrary completion, and the zero matrix gives columns of the identity. NaN where g is not finite.

    Notes
    -----
    The diagonal makes Q unique at full rank. Cost: about 4/3 products for a square matrix.
    """
    return _orient(g, "householder_qr", lambda x: _signed_qr(x)[0])


def cholesky_qr2(g: Array) -> Array:
    """Return the orthonormal factor by Cholesky-QR, run twice: R^H R = G^H G, Q = G R^-1.

    As `householder_qr`, for condition numbers up to about eps^(-1/2) / 8 [yamamoto2015roundoff]; past that the Gram
    matrix is not positive definite to working precision or Q not orthonormal, and Householder QR takes over for that
    matrix. One run leaves an error of eps kappa^2 in orthonormality, the second repairs it.
    Cost: 2 Gram matrices and 2 triangular solutions, about 4 products.
    """
    return _orient(g, "cholesky_qr2", lambda x: _or_householder(x, *_cholesky_qr(*_cholesky_qr(x))))


def randomized_cholesky_qr(g: Array, rng: np.random.Generator | int = 0) -> Array:
    """Return the orthonormal factor by a sketched QR and one Cholesky-QR, with the parameters of Dion.

        S Gaussian (k, m) / sqrt(k), k = 128 ceil(1.25 n / 128);  S G = Q1 R1;  Cholesky-QR of G R1^-1

    As `householder_qr`, for condition numbers up to about 1 / eps: G R1^-1 has a condition number of a small constant,
    whatever that of G. Householder QR takes over for square and wide matrices and where Cholesky breaks down, as in
    the authors' code [ahn2025dion]. The sketch is the same on every backend and for every member of a batch.
    Cost: the sketch, a small QR, a Gram matrix and 2 triangular solutions.
    """

    def factor(x: Array) -> Array:
        rows, columns = x.shape[-2:]
        if rows == columns:
            return _signed_qr(x)[0]
        count = SKETCH_BLOCK * int(np.ceil(OVERSAMPLING * columns / SKETCH_BLOCK))
        _, r = _signed_qr(standard_normal((count, rows), rng, like=_real(x)) / count**0.5 @ x)
        return _or_householder(x, *_cholesky_qr(*_divide(x, r)))

    check_matrix(g, "randomized_cholesky_qr", complex_allowed=True)
    if g.shape[-2] < g.shape[-1]:
        return householder_qr(g)
    return _orient(g, "randomized_cholesky_qr", factor)


def _orient(g: Array, who: str, factor: Callable[[Array], Array]) -> Array:
    check_matrix(g, who, complex_allowed=True)
    size = magnitude(g)
    y = size.normalize(g)
    q = factor(y) if y.shape[-2] >= y.shape[-1] else adjoint(factor(adjoint(y)))
    return q + size.nan()


def _signed_qr(x: Array) -> tuple[Array, Array]:
    """Return Q and R with the diagonal of R made positive; a zero stays."""
    xp = array_namespace(x)
    q, r = xp.linalg.qr(x, mode="reduced")
    diagonal = xp.linalg.diagonal(r)
    size = xp.abs(diagonal)
    phase = xp.where(size == 0, xp.ones_like(diagonal), diagonal / xp.where(size == 0, xp.ones_like(size), size))
    return q * phase[..., None, :], adjoint(adjoint(r) * phase[..., None, :])


def _cholesky_qr(x: Array, sound: Array | None = None) -> tuple[Array, Array]:
    """Return X R^-1 with R^H R = X^H X, and where all factorizations so far existed."""
    xp = array_namespace(x)
    lower, positive = _cholesky(adjoint(x) @ x)
    q, invertible = _divide(x, adjoint(lower))
    sound = positive & invertible if sound is None else sound & positive & invertible
    return xp.where(sound, q, x), sound


def _cholesky(gram: Array) -> tuple[Array, Array]:
    """Return the lower factors, the identity where there is none, and where there is one, (..., 1, 1)."""
    xp = array_namespace(gram)
    eye = xp.broadcast_to(xp.eye(gram.shape[-1], dtype=gram.dtype, device=device_of(gram)), gram.shape)
    try:
        lower = xp.linalg.cholesky(gram)
    except np.linalg.LinAlgError:  # at least one has none
        if gram.ndim == 2:
            return eye, xp.zeros((1, 1), dtype=xp.bool, device=device_of(gram))
        parts = [_cholesky(gram[i, ...]) for i in range(gram.shape[0])]
        return xp.stack([part[0] for part in parts]), xp.stack([part[1] for part in parts])
    sound = xp.all(xp.isfinite(xp.abs(lower)), axis=(-2, -1), keepdims=True)
    return xp.where(sound, lower, eye), sound


def _divide(x: Array, r: Array) -> tuple[Array, Array]:
    """Return X R^-1 for upper triangular R, and where R has no zero on its diagonal (X R^-1 is X where it has)."""
    xp = array_namespace(x)
    invertible = xp.all(xp.abs(xp.linalg.diagonal(r)) > 0, axis=-1)[..., None, None]
    eye = xp.eye(r.shape[-1], dtype=r.dtype, device=device_of(r))
    return adjoint(xp.linalg.solve(adjoint(xp.where(invertible, r, eye)), adjoint(x))), invertible


def _or_householder(x: Array, q: Array, sound: Array) -> Array:
    """Keep Q where it exists and is orthonormal to rounding, sqrt(m) k eps; replace it by Householder's elsewhere."""
    xp = array_namespace(x)
    defect = xp.abs(adjoint(q) @ q - xp.eye(q.shape[-1], dtype=q.dtype, device=device_of(q)))
    rounding = 8 * q.shape[-2] ** 0.5 * q.shape[-1] * float(xp.finfo(q.dtype).eps)
    sound = sound & (xp.max(defect, axis=(-2, -1), keepdims=True) <= rounding)
    return q if bool(xp.all(sound)) else xp.where(sound, q, _signed_qr(x)[0])


def _real(x: Array) -> Array:
    """Return an array with the real dtype that belongs to x."""
    xp = array_namespace(x)
    return xp.real(x) if xp.isdtype(x.dtype, "complex floating") else x
