"""Polar factors on a subspace: the power iteration of Dion, and the randomized polar factor of low-rank matrices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_namespace, backend_of, check_matrix, check_number, generator, magnitude
from .qr import householder_qr
from .reduction import adjoint
from .svd import exact


class PowerStep(NamedTuple):
    """P with orthonormal columns, R = M^H P, and Q = R with columns of length one, the next warm start.

    P Q^H is the direction of the step, P R^H the part of M that it has seen (Dion keeps the rest as error feedback).
    """

    p: Array
    r: Array
    q: Array


def power_step(m: Array, q: Array, *, epsilon: float = 0.0) -> PowerStep:
    """Do one warm-started step of the power iteration for the leading singular subspaces, as in Dion.

        P = qr(M Q),    R = M^H P,    Q <- R with columns divided by their length

    Parameters
    ----------
    m : array (..., m, n)
    q : array (..., n, rank)
        The warm start: the last Q, or any matrix of full rank, rank <= min(m, n).
    epsilon : float
        Added to the lengths. 0 (ours) does not depend on the scale of M; the authors' code has 1e-8.

    Returns
    -------
    PowerStep
        P Q^H is a polar factor of the projection P P^H M only when the columns of R are orthogonal, that is when Q
        has converged to singular vectors: the columns of Q are normalized, not orthogonalized (claim
        `dion-orthonormal-update`). Columns of R that vanish stay zero in Q.

    Raises
    ------
    ValueError, TypeError
        For shapes that do not match or dtypes that are not floating.

    Notes
    -----
    A matrix that is zero or not finite gives P = R = 0 and returns Q as it came. Cost: 2 products with rank columns and
    a QR of m by rank [ahn2025dion].
    """
    check_matrix(m, "power_step", complex_allowed=True)
    check_matrix(q, "power_step", complex_allowed=True)
    check_number(epsilon, "epsilon")
    epsilon = epsilon if hasattr(epsilon, "shape") and epsilon.shape else float(epsilon)
    if q.shape[-2] != m.shape[-1] or q.shape[-1] > min(m.shape[-2:]):
        raise ValueError(
            f"power_step needs q of shape (..., {m.shape[-1]}, rank) with rank <= {min(m.shape[-2:])}; "
            f"got {tuple(q.shape)}."
        )
    xp = array_namespace(m, q)
    size = magnitude(m)
    y = size.normalize(m)
    seen = xp.any(xp.abs(y) > 0, axis=(-2, -1), keepdims=True)
    p = householder_qr(y @ q)
    p = xp.where(seen, p, xp.zeros_like(p))
    r = adjoint(y) @ p
    length = xp.sqrt(xp.sum(xp.abs(r) ** 2, axis=-2, keepdims=True)) + epsilon / size.scale
    columns = r / xp.where(length == 0, xp.ones_like(length), length)
    return PowerStep(p, r * size.scale, xp.where(seen, columns, q))


def randomized_polar(
    g: Array, rank: int, rng: np.random.Generator | int = 0, *, oversampling: int = 8, powers: int = 1
) -> Array:
    """Return Q polar(Q^H G), where Q spans a random sketch of the range of G.

        Y = (G G^H)^powers G W, W Gaussian (n, rank + oversampling);  Q = qr(Y)

    Parameters
    ----------
    g : array (..., m, n)
    rank : int
        Number of directions wanted.
    rng : NumPy generator or seed
        The same sketch on every backend and for every member of a batch.
    oversampling, powers : int
        Further columns of the sketch, and products that sharpen it; each is followed by a QR.

    Returns
    -------
    array (..., m, n)
        The polar factor of the projection Q Q^H G, a partial isometry of rank at most rank + oversampling. It is the
        polar factor of G, null spaces mapped to zero, where the rank of G is not larger than the sketch. In any case
        <G, X> is the nuclear norm of Q^H G, so X is the best step within the sketched range.

    Notes
    -----
    Cost: 2 powers + 2 products with rank + oversampling columns, as many QR, and an SVD of the short matrix
    [halko2011finding].
    """
    check_matrix(g, "randomized_polar", complex_allowed=True)
    for name, value, least in (("rank", rank, 1), ("oversampling", oversampling, 0), ("powers", powers, 0)):
        if value != int(value) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}; got {value}.")
    xp = array_namespace(g)
    size = magnitude(g)
    y = size.normalize(g)
    columns = min(rank + oversampling, *g.shape[-2:])
    draws = generator(rng).standard_normal((g.shape[-1], columns))
    sketch = xp.astype(backend_of(g).asarray(draws), g.dtype)
    q = householder_qr(y @ sketch)
    for _ in range(powers):
        q = householder_qr(y @ householder_qr(adjoint(y) @ q))
    return q @ exact(adjoint(q) @ y) + size.nan()
