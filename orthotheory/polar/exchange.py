"""Remez' exchange for the best odd polynomial on [1 - d, 1 + d], in float64, to full relative accuracy at both ends.

`floor` is 1 - d and `spread` is d: both are carried, so that neither a tiny floor nor a tiny d loses digits. Up to
d = 0.6 the polynomial is found as a correction of the Pade step, with the error E accurate to 1e-13 of itself; above,
1 - E is. Points are tau in [-1, 1], with t = x^2 = 1 + d^2 + 2 d tau; polynomials of t are Chebyshev series in tau.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev
from numpy.polynomial.polynomial import Polynomial

from ..arrays import Array

DEGREES = range(3, 34, 2)
NEAR = 0.6
_S = (1 + np.cos(np.pi * (np.arange(40) + 0.5) / 40)) / 2  # Gauss nodes of the weight 1 / sqrt(s (1 - s)) on [0, 1]


class Leveled(NamedTuple):
    """The best odd polynomial on [1 - d, 1 + d]: in powers, E, 1 - E, the q + 2 points, and in Chebyshev form."""

    coefficients: tuple[float, ...]
    error: float
    floor: float
    points: tuple[float, ...]
    chebyshev: tuple[float, ...]


def classical_coefficient(k: int) -> float:
    """Return c_k = binomial(2k, k) / 4^k, the Taylor coefficients of (1 - w)^(-1/2).

    >>> [classical_coefficient(k) for k in range(4)]
    [1.0, 0.5, 0.375, 0.3125]
    """
    c = 1.0
    for j in range(1, k + 1):
        c *= (2 * j - 1) / (2 * j)
    return c


@lru_cache
def classical_step(degree: int) -> tuple[float, ...]:
    """Return the Newton-Schulz (Pade) polynomial x sum_{k <= q} c_k (1 - x^2)^k of a degree 2q + 1.

    1 - p has a zero of order q + 1 at 1, and 0 <= p <= 1 on [0, 1] (theorem `newton-schulz-factor` for q = 1, 2).

    >>> classical_step(5)
    (1.875, -1.25, 0.375)
    """
    q = half_degree(degree)
    h = Polynomial([0.0])
    for k in range(q, -1, -1):
        h = h * Polynomial([1.0, -1.0]) + classical_coefficient(k)
    return tuple(float(c) for c in h.coef)


def half_degree(degree: int) -> int:
    """Return q of the degree 2q + 1; refuse what is not odd, from 3 to 33."""
    if degree not in DEGREES:
        raise ValueError(f"degree must be odd, from 3 to 33; got {degree}.")
    return (int(degree) - 1) // 2


@lru_cache(maxsize=1 << 16)
def level(q: int, floor: float, spread: float) -> Leveled:
    """Return the best odd polynomial of degree 2q + 1 on [floor, 2 - floor]; about 1 ms, memoized."""
    solver = cubic if q == 1 else _near if spread <= NEAR else _wide
    coefficients, error, rest, points, series = solver(q, floor, spread)
    powers, points, series = (tuple(float(c) for c in part) for part in (coefficients, points, series))
    return Leveled(powers, float(error), float(rest), points, series)


def cubic(q: int, floor: float, d: float) -> tuple:
    """Return coefficients, E, 1 - E, the points and the Chebyshev form in closed form: E = tanh(-log(y) / 2)."""
    alpha = (1 + d * d / 3) ** -0.5
    y = floor * (2 - floor) * alpha**3
    rate = -np.log(y) if d > 0.5 else 1.5 * np.log1p(d * d / 3) - np.log1p(-d * d)
    beta = 2 / (1 + y)
    a, b = 1.5 * alpha * beta, -0.5 * alpha**3 * beta
    return (a, b), np.tanh(rate / 2), y * beta, (floor, 1 / alpha, 2 - floor), (a + b * (1 + d * d), 2 * d * b)


def _exchange(q: int, floor: float, d: float, solve: Callable) -> tuple[Array, float, Array]:
    """Level the error on the points, move them to its extrema, repeat; return the series, the level, the points.

    Points are tau in [-1, 1], with t = x^2 = 1 + d^2 + 2 d tau. `solve(tau, x)` returns the series in tau, the level
    and the series whose roots are the interior extrema.
    """
    xi = -np.cos(np.pi * np.arange(q + 2) / (q + 1))
    tau = xi + d * (xi * xi - 1) / 2
    settled = False
    for _ in range(30):
        x = np.concatenate([[floor], np.sqrt(floor * floor + 2 * d * (1 + tau[1:-1])), [2 - floor]])
        series, level, slope = solve(tau, x)
        if settled:
            return series, level, x
        roots = np.sort(chebyshev.chebroots(slope).real)
        settled = np.max(np.abs(roots - tau[1:-1])) < 1e-8  # the next points are right to the square of it
        tau = np.concatenate([[-1.0], np.clip(roots, -1, 1), [1.0]])
    raise ArithmeticError(f"Remez' exchange did not settle for degree {2 * q + 1} on [{floor}, {2 - floor}].")


def _wide(q: int, floor: float, d: float) -> tuple:
    """Solve h(t_i) -+ floor f / x_i = 0 or 2 / x_i for h and f = (1 - E) / floor, which stays of order 1."""
    sign = (-1.0) ** np.arange(q + 2)

    def solve(tau: Array, x: Array) -> tuple:
        rows = np.column_stack([chebyshev.chebvander(tau, q), -sign * floor / x])
        *h, f = np.linalg.solve(rows, (1 - sign) / x)
        moving = chebyshev.chebmul([(1 + d * d) / d, 2.0], chebyshev.chebder(h))
        return h, f, chebyshev.chebadd(h, moving)

    h, f, x = _exchange(q, floor, d, solve)
    return _monomials(h, floor, d, 0), 1 - floor * f, floor * f, x, h


def _near(q: int, floor: float, d: float) -> tuple:
    """Solve for the correction of the Pade step, in units of d^(q+1); d = 0 is the limit.

    With w = 1 - x^2 the Pade step leaves 1 - p = x w^(q+1) (1/pi) int_0^1 s^(q+1) / (1 - w s) ds / sqrt(s (1 - s)),
    by Gauss quadrature without cancellation (the pole stays at 0.19 from [0, 1]: 2.3^-80), and p' = (2q + 1) c_q w^q.
    """
    sign = (-1.0) ** np.arange(q + 2)
    slope = (2 * q + 1) * classical_coefficient(q) * (-2.0) ** q * chebyshev.chebpow([d / 2, 1.0], q)

    def remainder(tau: Array) -> Array:
        w = -(d + 2 * tau)  # in units of d
        return w ** (q + 1) * np.mean(_S ** (q + 1) / (1 - d * w[:, None] * _S), axis=1)

    def solve(tau: Array, x: Array) -> tuple:
        *g, level = np.linalg.solve(np.column_stack([chebyshev.chebvander(tau, q), sign / x]), remainder(tau))
        moving = chebyshev.chebadd(d * np.array(g), chebyshev.chebmul([1 + d * d, 2 * d], chebyshev.chebder(g)))
        return g, level, chebyshev.chebadd(slope, moving)

    g, level, x = _exchange(q, floor, d, solve)
    error = level * d ** (q + 1)
    nodes = chebyshev.chebpts1(q + 1)
    h = (1 + d * d + 2 * d * nodes) ** -0.5 + d ** (q + 1) * (chebyshev.chebval(nodes, g) - remainder(nodes))
    series = np.linalg.solve(chebyshev.chebvander(nodes, q), h)
    coefficients = np.array(classical_step(2 * q + 1)) + _monomials(g, floor, d, q + 1)
    return coefficients, error, 1 - error, x, series


def _monomials(series: Sequence[float], floor: float, d: float, power: int) -> Array:
    """Return d^power sum_k a_k T_k(tau) in powers of t, through s = (t - floor^2) / (4 d), where nothing cancels.

    In powers of s in [0, 1] the Chebyshev polynomials have integer coefficients of alternating sign, and so has a
    function like 1 / sqrt(t) in them.
    """
    shifted = [Polynomial([1.0]), Polynomial([-1.0, 2.0])]
    while len(shifted) < len(series):
        shifted.append(Polynomial([-2.0, 4.0]) * shifted[-1] - shifted[-2])
    in_s = sum((a * t for a, t in zip(series, shifted, strict=False)), Polynomial([0.0])).coef
    in_t = Polynomial([0.0])
    for j in reversed(range(len(in_s))):
        in_t = in_t * Polynomial([-floor * floor, 1.0]) + in_s[j] * d ** (power - j) / 4.0**j
    return np.pad(in_t.coef, (0, len(series) - len(in_t.coef)))  # what underflows is trimmed by NumPy
