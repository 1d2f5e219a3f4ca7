"""Align representations: orthogonal Procrustes, compatible alignment across widths, and lambda-orthogonality."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..arrays import (
    Array,
    array_namespace,
    backend_of,
    check_matrix,
    check_number,
    device_of,
    dtype_name,
    magnitude,
    to_host,
)


class Alignment(NamedTuple):
    """An orthogonal B with Y ~ X B^T, and the singular values of Y^T X that say how unique it is."""

    b: Array  # (..., p, q)
    s: Array  # (..., min(p, q)); B is unique if the last is positive (for rotations, if the last two do not cancel)


def procrustes(x: Array, y: Array, *, rotation: bool = False) -> Alignment:
    """Return argmin |X B^T - Y|_F over orthogonal B, the orthogonal factor of Y^T X.

        Y^T X = U diag(s) V^T,   B = U V^T

    Parameters
    ----------
    x, y : array (..., samples, n)
        Rows correspond.
    rotation : bool
        Only det B = 1: the last singular vector is flipped where det(U V^T) = -1.

    Notes
    -----
    B is orthogonal at any rank (it is completed by the SVD), not the partial isometry of `polar_factor`. The minimum is
    |X|^2 + |Y|^2 - 2 sum s [schonemann1966generalized]. A non-finite member of a batch gives NaN.
    """
    check_matrix(x, "procrustes (x)")
    check_matrix(y, "procrustes (y)")
    if x.shape != y.shape or x.dtype != y.dtype:
        raise ValueError(
            f"procrustes needs X and Y of one shape and dtype; got {tuple(x.shape)} {dtype_name(x)} and "
            f"{tuple(y.shape)} {dtype_name(y)}. For other widths use compatible_alignment."
        )
    xp = array_namespace(x, y)
    (cx, sx, nan_x), (cy, sy, nan_y) = _scaled(x), _scaled(y)
    u, s, vh = xp.linalg.svd(cy.mT @ cx, full_matrices=False)
    if rotation:
        sign = xp.sign(xp.linalg.det(u @ vh))[..., None]
        last = xp.arange(s.shape[-1], device=device_of(s)) == s.shape[-1] - 1
        flip = xp.where(last, sign, xp.ones_like(s))
        u, s = u * flip[..., None, :], s * flip
    nan = nan_x + nan_y
    return Alignment(u @ vh + nan, s * sx[..., 0] * sy[..., 0] + nan[..., 0])


def compatible_alignment(new: Array, old: Array) -> Alignment:
    """Return the orthogonal B (n, n) for which the first entries of B h_new come closest to h_old (n_old <= n).

    Old features are padded with zeros to the new width, which makes it a Procrustes problem; the geometry of the new
    features is kept exactly. A closed form for what [ricci2024backward] learns by a parametrized layer; reconstructed.
    """
    check_matrix(old, "compatible_alignment (old)")
    xp = array_namespace(new, old)
    extra = new.shape[-1] - old.shape[-1]
    if extra < 0:
        raise ValueError(f"The new features must be at least as wide as the old ones; got {new.shape} and {old.shape}.")
    if not extra:
        return procrustes(new, old)
    zeros = xp.zeros((*old.shape[:-1], extra), dtype=old.dtype, device=device_of(old))
    return procrustes(new, xp.concat([old, zeros], axis=-1))


class Relaxed(NamedTuple):
    """A solution of the lambda-orthogonal problem and its two measures."""

    w: Array  # (n, n)
    fit: float  # |X W - Y|_F
    defect: float  # |W^T W - I|_F


def lambda_orthogonality(x: Array, y: Array, lam: float) -> Relaxed:
    """Return argmin |X W - Y|_F subject to |W^T W - I|_F <= lam, from Procrustes (0) to least squares (large).

    Parameters
    ----------
    x, y : array (samples, n)
        X of full column rank. The solver runs on the host in float64; W has their kind and dtype.

    Notes
    -----
    The solution minimizes |X W - Y|^2 / 2 + mu |W^T W - I|^2 / 4 for a multiplier mu found by bisection; for exact
    minimizers fit rises and defect falls with mu, so both are monotone in lam. The penalty is not convex: L-BFGS starts
    from Procrustes; started from least squares it ended in the same place in each of 900 random problems.
    Reconstructed as a constrained problem; the authors add a gated penalty to a training loss [ricci2025lambda].
    """
    from scipy.optimize import brentq

    check_matrix(x, "lambda_orthogonality (x)")
    check_number(lam, "lam")
    if x.ndim != 2 or x.shape != y.shape or x.shape[0] < x.shape[1]:
        raise ValueError(f"lambda_orthogonality needs X and Y (samples, n), samples >= n; got {x.shape} and {y.shape}.")
    hx, hy = (to_host(v).astype(np.float64) for v in (x, y))
    gram, cross = hx.T @ hx, hx.T @ hy
    least = np.linalg.lstsq(hx, hy, rcond=None)[0]
    rigid = to_host(procrustes(hx, hy).b).T

    def measured(w: np.ndarray) -> Relaxed:
        defect = float(np.linalg.norm(w.T @ w - np.eye(len(w))))
        return Relaxed(w, float(np.linalg.norm(hx @ w - hy)), defect)

    if lam == 0:
        best = rigid
    elif measured(least).defect <= lam:
        best = least
    else:
        scale = float(np.linalg.norm(gram, 2))
        solved: dict[float, np.ndarray] = {}

        def excess(log_mu: float) -> float:
            mu = scale * math.exp(log_mu)
            solved[log_mu] = _penalized(gram, cross, mu, rigid)
            return measured(solved[log_mu]).defect - lam

        low, high = -2.0, 2.0
        while excess(low) < 0:
            low -= 4.0
        while excess(high) > 0:
            high += 4.0
        root = brentq(excess, low, high, xtol=1e-12, rtol=1e-14)
        best = min(solved.items(), key=lambda item: abs(item[0] - root))[1]
    result = measured(best)
    return result._replace(w=backend_of(x).asarray(best, dtype_name(x)))


def _penalized(gram: np.ndarray, cross: np.ndarray, mu: float, start: np.ndarray) -> np.ndarray:
    """Minimize <W, G W> / 2 - <C, W> + mu |W^T W - I|^2 / 4 by L-BFGS."""
    from scipy.optimize import minimize

    n = len(gram)

    def both(flat):
        w = flat.reshape(n, n)
        slack = w.T @ w - np.eye(n)
        value = 0.5 * np.sum(w * (gram @ w)) - np.sum(cross * w) + mu / 4 * np.sum(slack**2)
        return value, (gram @ w - cross + mu * w @ slack).ravel()

    options = {"maxiter": 5000, "ftol": 0, "gtol": 1e-11, "maxcor": 30}
    return minimize(both, start.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(n, n)


def _scaled(x: Array) -> tuple[Array, Array, Array]:
    size = magnitude(x)
    return size.normalize(x), size.scale, size.nan()


__all__ = ["Alignment", "Relaxed", "compatible_alignment", "lambda_orthogonality", "procrustes"]
