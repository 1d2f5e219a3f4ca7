"""Jacobi rotations: the one-sided SVD and its polar factor, and the two-sided rotation of Hermitian matrices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_namespace, check_matrix, device_of, generator, magnitude
from ..names import closest
from .reduction import adjoint
from .zolotarev import newton_schulz_polish

SWEEPS = 60  # cyclic Jacobi needs about log2(k) + 5 in double precision; random pivots a few times more


def jacobi(g: Array, *, pivots: str = "cyclic", rng: np.random.Generator | int = 0) -> Array:
    """Return the polar factor by one-sided Jacobi: rotate columns until they are orthogonal, G V = U S.

        polar(G) = U V^H, with a Newton-Schulz step

    Parameters
    ----------
    g : array (..., m, n)
        Real or complex, tall, wide or square.
    pivots : "cyclic" or "random"
        Every pair once a sweep in rounds of disjoint pairs, or k (k - 1) / 2 pairs drawn uniformly.
    rng : NumPy generator or seed
        For the random pivots; the same pairs on every backend and in every member of a batch.

    Returns
    -------
    array (..., m, n)
        Singular values at most max(m, n) eps s_1 count as zero and are mapped to zero, as in `thin_svd`. A matrix with
        a non-finite entry gives NaN.

    Raises
    ------
    UnknownName
        For pivots that are neither.
    ValueError, TypeError
        As `polar_factor`.
    ArithmeticError
        Where 60 sweeps do not suffice, which has not been seen.

    Notes
    -----
    Small singular values come with a relative accuracy that depends on the condition of the matrix with unit columns
    only [demmel1992jacobi]. Cyclic pivots converge quadratically in the end; uniformly random ones linearly, in
    expectation by 1 - 2 / (k (k - 1)) a rotation (theorem `jacobi-random-pivot`, for the two-sided method)
    [detherage2025unified]. Cost: about 6 k^2 (m + k) operations a sweep, 5 to 10 sweeps.
    """
    check_matrix(g, "jacobi", complex_allowed=True)
    xp = array_namespace(g)
    size = magnitude(g)
    y = size.normalize(g)
    wide = y.shape[-2] < y.shape[-1]
    x, v, _ = orthogonalize_columns(adjoint(y) if wide else y, pivots=pivots, rng=rng)
    s = column_norms(x)
    kept = s > max(g.shape[-2:]) * float(xp.finfo(g.dtype).eps) * xp.max(s, axis=-1, keepdims=True)
    u = xp.where(kept, x / xp.where(kept, s, xp.ones_like(s)), xp.zeros_like(x))
    p = newton_schulz_polish(u @ adjoint(v))
    return (adjoint(p) if wide else p) + size.nan()


class OneSided(NamedTuple):
    """X V with mutually orthogonal columns, (..., m, k), and the unitary V, (..., k, k), after so many sweeps."""

    columns: Array
    rotations: Array
    sweeps: int


def orthogonalize_columns(x: Array, *, pivots: str = "cyclic", rng: np.random.Generator | int = 0) -> OneSided:
    """Rotate the columns of tall matrices with entries of moderate size until no pair has a cosine above 2 (m + 4) eps.

    A pair is rotated above sqrt(m) eps: a cosine computed twice differs by up to m eps, so that a pair which is left
    alone passes the test, and a rotation leaves a few eps. For odd k, X gets a zero column, and V is (..., k, k + 1).
    """
    draw = closest(pivots, {"cyclic": _tournament, "random": _uniform_pairs}, "pivots")
    xp, device = array_namespace(x), device_of(x)
    k, odd = x.shape[-1], x.shape[-1] % 2
    eye = xp.eye(k, k + odd, dtype=x.dtype, device=device)
    v = xp.broadcast_to(eye, (*x.shape[:-2], k, k + odd))
    if odd:  # no rotation touches the zero column
        x = xp.concat([x, xp.zeros_like(x[..., :1])], axis=-1)
    random = generator(rng)
    rows, eps = x.shape[-2], float(xp.finfo(x.dtype).eps)
    for sweep in range(SWEEPS):
        active = xp.any(_oblique(adjoint(x) @ x, column_norms(x), 2 * (rows + 4) * eps), axis=(-2, -1))[..., None, None]
        if not bool(xp.any(active)):
            return OneSided(x, v, sweep)
        for count, order in draw(k + odd, random):
            where = xp.asarray(order, device=device)
            x, v = xp.take(x, where, axis=-1), xp.take(v, where, axis=-1)
            x, v = _rotate_columns(x, v, count, rows**0.5 * eps, active)
    raise ArithmeticError(f"{SWEEPS} sweeps of {pivots} Jacobi rotations did not orthogonalize {k} columns.")


def column_norms(x: Array) -> Array:
    """Return the Euclidean norms of the columns, shape (..., 1, k)."""
    xp = array_namespace(x)
    return xp.sqrt(xp.sum(xp.abs(x) ** 2, axis=-2, keepdims=True))


def _tournament(k: int, random: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (k / 2, order) for k - 1 rounds; column i meets column i + k / 2, so that all pairs meet once."""
    half = k // 2
    order = np.array([0, half, *range(1, half - 1), *range(half + 1, k), half - 1][: k if half > 1 else 2])
    for _ in range(k - 1):
        yield half, order


def _uniform_pairs(k: int, random: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (1, order) for k (k - 1) / 2 rotations of the first two columns, a uniformly random pair."""
    for _ in range(k * (k - 1) // 2):
        pair = random.choice(k, size=2, replace=False)
        yield 1, np.concatenate([pair, np.delete(np.arange(k), pair)])


def _rotate_columns(x: Array, v: Array, count: int, threshold: float, active: Array) -> tuple[Array, Array]:
    """Make column i of X orthogonal to column i + count, for i < count, and apply the same rotations to V."""
    xp = array_namespace(x)
    left, right = x[..., :count], x[..., count : 2 * count]
    alpha, beta = column_norms(left), column_norms(right)
    gamma = xp.sum((xp.conj(left) if is_complex(x) else left) * right, axis=-2, keepdims=True)
    turn = active & _oblique(gamma, (alpha, beta), threshold)
    c, s, phase = rotation(alpha**2, beta**2, gamma, turn)

    def rotate(z: Array) -> Array:
        a, b = z[..., :count], z[..., count : 2 * count] * phase
        return xp.concat([c * a - s * b, s * a + c * b, z[..., 2 * count :]], axis=-1)

    return rotate(x), rotate(v)


def _oblique(inner: Array, norms: Array | tuple[Array, Array], threshold: float) -> Array:
    """Say which inner products of columns are above the threshold; columns too short to be squared count as zero."""
    xp = array_namespace(inner)
    info = xp.finfo(inner.dtype)
    if not isinstance(norms, tuple):
        off = xp.asarray(~np.eye(inner.shape[-1], dtype=bool), device=device_of(inner))
        return _oblique(inner, (norms, norms.mT), threshold) & off
    shortest = float(info.smallest_normal) ** 0.5 / float(info.eps)
    first, second = norms
    return (xp.abs(inner) > threshold * (first * second)) & (first > shortest) & (second > shortest)


def rotation(alpha: Array, beta: Array, gamma: Array, turn: Array) -> tuple[Array, Array, Array]:
    """Return (c, s, phase) that diagonalize [[alpha, gamma], [conj(gamma), beta]] by the smaller angle.

    The new basis is (c e_1 - s conj(phase) e_2, s e_1 + c conj(phase) e_2); where not `turn` it is the old one.
    """
    xp = array_namespace(gamma)
    size = xp.abs(gamma)
    ones = xp.ones_like(size)
    size = xp.where(turn, size, ones)
    gap = beta - alpha
    t = xp.where(gap >= 0, 2 * size, -2 * size) / (xp.abs(gap) + xp.hypot(gap, 2 * size))
    t = xp.where(turn, t, xp.zeros_like(t))
    c = 1 / xp.sqrt(1 + t * t)
    phase = xp.where(turn, (xp.conj(gamma) if is_complex(gamma) else gamma) / size, xp.ones_like(gamma))
    return c, c * t, phase


def is_complex(x: Array) -> bool:
    """Say whether the dtype is complex."""
    return bool(array_namespace(x).isdtype(x.dtype, "complex floating"))


def rotate_hermitian(a: Array, p: Array, q: Array) -> Array:
    """Return J^H A J with the entry (p, q) of each Hermitian matrix annihilated by a rotation J of two coordinates.

    Parameters
    ----------
    a : array (..., n, n)
        Hermitian.
    p, q : integer arrays of the batch shape, or integers
        The pivot of each matrix, p != q.

    Notes
    -----
    The sum of squares off the diagonal, `off_square`, falls by exactly 2 |a_pq|^2 (theorem `jacobi-random-pivot`).
    A pivot that is below the normal range next to the largest entry is left as it is.
    Cost: O(n^3) for clarity, by products with J.

    >>> import numpy as np
    >>> np.round(rotate_hermitian(np.array([[1.0, 2.0], [2.0, 1.0]]), 0, 1), 12) + 0.0
    array([[-1.,  0.],
           [ 0.,  3.]])
    """
    _check_square(a, "rotate_hermitian")
    xp, device = array_namespace(a), device_of(a)
    scale = magnitude(a)
    a = scale.normalize(a)
    index = xp.arange(a.shape[-1], device=device)
    e_p, e_q = (
        xp.astype(index == xp.asarray(i, device=device)[..., None], a.dtype)[..., None] for i in (p, q)
    )  # (..., n, 1)
    entry = {(i, j): adjoint(x) @ a @ y for i, x in enumerate((e_p, e_q)) for j, y in enumerate((e_p, e_q))}
    alpha, beta = ((xp.real(entry[i, i]) if is_complex(a) else entry[i, i]) for i in (0, 1))
    gamma = entry[0, 1]
    c, s, phase = rotation(alpha, beta, gamma, xp.abs(gamma) >= float(xp.finfo(a.dtype).smallest_normal))
    eye = xp.eye(a.shape[-1], dtype=a.dtype, device=device)
    new_p, new_q = c * e_p - s * phase * e_q, s * e_p + c * phase * e_q
    j = eye - e_p @ e_p.mT - e_q @ e_q.mT + new_p @ e_p.mT + new_q @ e_q.mT
    return scale.scale * (adjoint(j) @ a @ j) + scale.nan()


def hermitian_sweep(a: Array, *, pivots: str = "random", rng: np.random.Generator | int = 0) -> Array:
    """Rotate each Hermitian matrix at n (n - 1) / 2 pivots: all pairs row by row, or pairs drawn uniformly.

    Parameters
    ----------
    a : array (..., n, n)
    pivots : "cyclic" or "random"
    rng : NumPy generator or seed
        Random pivots are drawn for each matrix independently; they are the same on every backend.

    Notes
    -----
    Random pivots contract `off_square` by (1 - 2 / (n (n - 1)))^(n (n - 1) / 2), about 1 / e, in expectation, whatever
    the matrix (theorem `jacobi-random-pivot`).
    """
    _check_square(a, "hermitian_sweep")
    random = closest(pivots, {"cyclic": False, "random": True}, "pivots")
    xp, device = array_namespace(a), device_of(a)
    pairs = np.argwhere(np.triu(np.ones(a.shape[-2:], dtype=bool), 1))
    draw = generator(rng)
    for pair in pairs:
        pivot = pairs[draw.integers(len(pairs), size=a.shape[:-2])] if random else pair
        p, q = (xp.asarray(np.ascontiguousarray(pivot[..., i]), device=device) for i in (0, 1))
        a = rotate_hermitian(a, p, q)
    return a if len(pairs) else a + 0  # a new array for 1 x 1 as well


def _check_square(a: Array, who: str) -> None:
    check_matrix(a, who, complex_allowed=True)
    if a.shape[-2] != a.shape[-1]:
        raise ValueError(f"{who} needs square matrices; got {a.shape[-2]} x {a.shape[-1]}.")


def off_square(a: Array) -> Array:
    """Return the sum of |a_ij|^2 off the diagonal, shape (batch)."""
    xp = array_namespace(a)
    square = xp.abs(a) ** 2
    eye = xp.eye(a.shape[-1], dtype=square.dtype, device=device_of(a))
    return xp.sum(square * (1 - eye), axis=(-2, -1))
