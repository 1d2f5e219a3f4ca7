"""PRISM [yang2026prism], reconstructed: a Newton-Schulz step with one coefficient fitted to the spectrum at hand.

Reconstructed from the abstract: a least-squares fit on a Gaussian sketch, no spectral bounds. The exact form of the
objective and its quartic are ours; the intervals for the coefficient are quoted from memory of the paper and checked
here only for what stands beside `INTERVALS`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.polynomial import polynomial

from ..arrays import Array, array_namespace, check_matrix, device_of, generator, standard_normal, to_host
from .schedule import FROBENIUS

SERIES = (1.0, 1 / 2, 3 / 8)  # of (1 - r)^(-1/2)
INTERVALS = {1: (1 / 2, 1.0), 2: (3 / 8, 29 / 20)}  # up from classical Newton-Schulz; each maps (0, 1.155] into itself


class PrismStep(NamedTuple):
    """The next iterate and the coefficient of each matrix, shape (batch)."""

    x: Array
    alpha: np.ndarray


def prism(g: Array, *, steps: int = 10, order: int = 2, sketch: int = 8, rng: np.random.Generator | int = 0) -> Array:
    """Return an approximate polar factor by Newton-Schulz steps whose last coefficient follows the spectrum.

        R = I - X X^H,   X <- (f(R) + alpha R^d) X,   alpha = argmin |Z (I - X_+ X_+^H)|_F

    with f the series of (1 - R)^(-1/2) before R^d and Z a Gaussian sketch.

    Parameters
    ----------
    g : array (..., m, n)
    steps : int
        Each costs what a step of degree 2 d + 1 costs.
    order : 1 or 2
        d: cubic or quintic steps.
    sketch : int
        Rows of Z, shared by a batch; the fit costs (2 d + 1) products of sketch x m with m x m.
    rng : generator or seed

    Returns
    -------
    array (..., m, n)
        Zero gives zero, a non-finite matrix NaN for itself alone.

    Raises
    ------
    ValueError, TypeError
        For an order that is not 1 or 2, no steps, an empty sketch, a vector or a dtype that is not floating.

    Notes
    -----
    Reconstructed, see the module. With alpha fixed at its lower bound this is the classical iteration.

    >>> g = np.diag([1.0, 0.1])
    >>> bool(np.allclose(prism(g, steps=8), np.eye(2), atol=1e-12))
    True
    """
    check_matrix(g, "prism", complex_allowed=True)
    if order not in INTERVALS:
        raise ValueError(f"order must be 1 or 2; got {order}.")
    if steps < 1 or sketch < 1:
        raise ValueError(f"steps and sketch must be at least 1; got steps={steps}, sketch={sketch}.")
    rng = generator(rng)
    wide = g.shape[-2] <= g.shape[-1]
    x = FROBENIUS(g if wide else g.mT)
    for _ in range(steps):
        z = standard_normal((sketch, x.shape[-2]), rng, like=array_namespace(x).real(x) if _is_complex(x) else x)
        x = prism_step(x, z, order=order).x
    return x if wide else x.mT


def prism_step(x: Array, z: Array, *, order: int = 2) -> PrismStep:
    """Fit the coefficient to the sketch z (p, m) of wide normalized matrices (..., m, n), m <= n, and take the step."""
    xp = array_namespace(x)
    eye = xp.eye(x.shape[-2], dtype=x.dtype, device=device_of(x))
    r = eye - x @ (xp.conj(x).mT if _is_complex(x) else x.mT)
    alpha = fitted(moments(r, z, 4 * order + 2), order)
    last = xp.asarray(alpha, dtype=xp.real(x).dtype if _is_complex(x) else x.dtype, device=device_of(x))
    series = eye + sum_of_powers(r, SERIES[1:order])
    power = r if order == 1 else r @ r
    return PrismStep((series + last[..., None, None] * power) @ x, alpha)


def sum_of_powers(r: Array, coefficients: tuple[float, ...]) -> Array:
    """Return c_1 R + c_2 R^2 + ... ; zero without coefficients."""
    total, power = 0 * r, r
    for i, c in enumerate(coefficients):
        total = total + c * power
        power = power @ r if i + 1 < len(coefficients) else power
    return total


def moments(r: Array, z: Array, highest: int) -> np.ndarray:
    """Return Re tr(Z R^k Z^H) for k = 0, ..., highest, on the host, shape (batch, highest + 1)."""
    xp = array_namespace(r)
    rows = [xp.broadcast_to(xp.astype(z, r.dtype), (*r.shape[:-2], *z.shape))]
    for _ in range((highest + 1) // 2):
        rows.append(rows[-1] @ r)
    values = []
    for k in range(highest + 1):
        a, b = rows[k // 2], rows[(k + 1) // 2]
        product = xp.real(xp.conj(a) * b) if _is_complex(r) else a * b
        values.append(to_host(xp.sum(product, axis=(-2, -1))))
    return np.stack(values, axis=-1).astype(float)


def fitted(t: np.ndarray, order: int) -> np.ndarray:
    """Minimize the quartic |Z (I - (I - R) (f(R) + alpha R^d)^2)|_F^2 over the interval, from the moments of Z."""
    f, top = np.array(SERIES[:order]), np.eye(order + 1)[order]
    one_minus = np.array([1.0, -1.0])
    parts = [
        polynomial.polysub([1.0], polynomial.polymul(one_minus, polynomial.polymul(f, f))),
        -2 * polynomial.polymul(one_minus, polynomial.polymul(f, top)),
        -polynomial.polymul(one_minus, polynomial.polymul(top, top)),
    ]
    low, high = INTERVALS[order]
    alpha = np.full(t.shape[:-1], low)
    for index in np.ndindex(t.shape[:-1]):
        hankel = t[index]
        if not np.isfinite(hankel).all():
            continue
        quartic = np.zeros(5)
        for i, p in enumerate(parts):
            for j, q in enumerate(parts):
                product = polynomial.polymul(p, q)
                quartic[i + j] += product @ hankel[: len(product)]
        slope = np.trim_zeros(polynomial.polyder(quartic), "b")
        stationary = polynomial.polyroots(slope) if len(slope) else np.empty(0)  # a constant: X has converged
        real = stationary[np.abs(stationary.imag) <= 1e-9 * np.abs(stationary)].real
        candidates = np.array([low, high, *real[(real > low) & (real < high)]])
        alpha[index] = candidates[np.argmin(polynomial.polyval(candidates, quartic))]
    return alpha


def _is_complex(a: Array) -> bool:
    return bool(array_namespace(a).isdtype(a.dtype, "complex floating"))
