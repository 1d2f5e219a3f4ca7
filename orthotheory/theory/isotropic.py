"""Q9: the isotropic curvature model, min over Q of -<G, Q> + E h(|Q u|), u uniform on the sphere, h(t) = t^p.

The objective is convex and depends on Q through its singular values where Q shares the singular vectors of G, so the
minimizer has singular values q with p q_i E[|Qu|^{p-2} u_i^2] = g_i. The squares u_i^2 follow a Dirichlet law with
all parameters 1/2, whose moments are coefficients of a power series: for even p everything is exact, without draws.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .contract import Assumption, Size, Theorem


class Isotropic(NamedTuple):
    """Singular values g of the gradient, positive and descending, the dimension n >= len(g) of u, and a power p."""

    gradient: np.ndarray
    dimension: int
    power: float


def dirichlet_moments(a: np.ndarray, alpha: np.ndarray, top: int) -> np.ndarray:
    """Return E(sum_i a_i x_i)^k, k = 0, ..., top, x ~ Dirichlet(alpha): k!/(|alpha|)_k [z^k] prod (1 - a_i z)^-alpha_i.

    `a` and `alpha` are (..., n); returns (..., top + 1). The coefficients c_k obey k c_k = sum_{m <= k} P_m c_{k-m}
    with P_m = sum_i alpha_i a_i^m; for a >= 0 all terms are nonnegative and nothing cancels.
    """
    powers = np.sum(alpha[..., None, :] * a[..., None, :] ** np.arange(1, top + 1)[:, None], axis=-1)
    total = alpha.sum(axis=-1)
    moments = np.ones((*total.shape, top + 1))
    coefficients, factor = moments.copy(), 1.0  # factor = k! / (|alpha|)_k
    for k in range(1, top + 1):
        reverse = coefficients[..., :k][..., ::-1]
        coefficients[..., k] = np.einsum("...m,...m->...", powers[..., :k], reverse) / k
        factor = factor * k / (total + k - 1)
        moments[..., k] = factor * coefficients[..., k]
    return moments


def tilted(case: Isotropic, tilts: np.ndarray) -> np.ndarray:
    """Return the parameters 1/2 + tilts, (..., n): weighting by u_i^2 adds 1 to parameter i, up to a factor."""
    alpha = np.full((*tilts.shape[:-1], case.dimension), 0.5)
    alpha[..., : tilts.shape[-1]] += tilts
    return alpha


def weighted_squares(case: Isotropic, q: np.ndarray) -> np.ndarray:
    """Return E[|Qu|^{p-2} u_i^2] for each i, exactly, for even p."""
    r, n = len(q), case.dimension
    a = np.concatenate([q**2, np.zeros(n - r)])
    order = round(case.power) // 2 - 1
    return dirichlet_moments(np.broadcast_to(a, (r, n)), tilted(case, np.eye(r)), order)[:, order] / n


def second_squares(case: Isotropic, q: np.ndarray) -> np.ndarray:
    """Return E[|Qu|^{p-4} u_i^2 u_j^2] for p >= 4, (r, r)."""
    r, n = len(q), case.dimension
    a = np.concatenate([q**2, np.zeros(n - r)])
    order = round(case.power) // 2 - 2
    pairs = np.eye(r)[:, None, :] + np.eye(r)[None, :, :]
    found = dirichlet_moments(np.broadcast_to(a, (r, r, n)), tilted(case, pairs), order)[..., order]
    return found * (1 + 2 * np.eye(r)) / (n * (n + 2))


def optimal_update(case: Isotropic, limit: int = 100) -> np.ndarray:
    """Return the singular values of the minimizer by Newton's method in log q, from the polar factor; p even.

    There the equations log(p q_i W_i) = log g_i have the Jacobian I + (p - 2) S with S a stochastic matrix.
    """
    g, p = case.gradient, case.power
    q = np.full(len(g), (g.sum() / p) ** (1 / (p - 1)))
    for _ in range(limit):
        w = weighted_squares(case, q)
        residual = np.log(g / (p * q * w))
        if np.max(np.abs(residual)) <= 1e-13 * p:
            break
        slope = np.eye(len(g))
        if p > 2:
            slope = slope + (p - 2) * second_squares(case, q) * q**2 / w[:, None]
        move = np.linalg.solve(slope, residual)
        q = q * np.exp(move * min(1.0, 1 / np.max(np.abs(move))))
    return q


def sphere_rule(points: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes (k, 3) and weights of the sphere in three dimensions, exact to degree `points` - 1 or more."""
    z, w = np.polynomial.legendre.leggauss(points)
    angle = 2 * np.pi * np.arange(2 * points) / (2 * points)
    ring = np.sqrt(1 - z**2)[:, None] * np.stack([np.cos(angle), np.sin(angle)])[:, None, :]
    nodes = np.stack([*ring, np.broadcast_to(z[:, None], ring[0].shape)], axis=-1).reshape(-1, 3)
    return nodes, np.repeat(w, 2 * points) / (4 * points)


def objective(case: Isotropic, q: np.ndarray) -> float:
    """Return -<G, Q> + E|Qu|^p by quadrature, for n = 3: a second road to the same model, for any p."""
    nodes, weights = sphere_rule()
    sizes = np.sqrt(nodes[:, : len(q)] ** 2 @ q**2)
    return float(weights @ sizes**case.power - case.gradient @ q)


def softer_update(case: Isotropic) -> np.ndarray:
    """Return the minimizer for any p > 1 and n = 3 by SciPy on the quadrature."""
    from scipy.optimize import minimize

    nodes, weights = sphere_rule()
    squares, p = nodes[:, : len(case.gradient)] ** 2, case.power

    def slope(x):
        q = np.exp(x)
        sizes = np.sqrt(squares @ q**2)
        return q * (p * q * ((weights * sizes ** (p - 2)) @ squares) - case.gradient)

    start = np.log(case.gradient)
    return np.exp(minimize(lambda x: objective(case, np.exp(x)), start, jac=slope, method="BFGS", tol=1e-10).x)


def _draws(size: Size, *, softer: bool = False) -> Iterator[tuple[str, Isotropic]]:
    yield "diag(4, 2, 1), p = 2", Isotropic(np.array([4.0, 2.0, 1.0]), 3, 1.9 if softer else 2)
    rng = np.random.default_rng(1)
    for i in range(0 if softer else 8 if size == "smoke" else 60):
        r = int(rng.integers(2, 6))
        g = np.sort(10 ** rng.uniform(-1.5, 1.5, r))[::-1]
        p = int(rng.choice([2, 4, 6, 8, 20, 60]))
        yield f"draw {i}: rank {r}, p = {p}", Isotropic(g, r + int(rng.integers(0, 3)), p)


def _update(case: Isotropic) -> np.ndarray:
    return optimal_update(case) if case.power % 2 == 0 else softer_update(case)


def _is_stationary(case: Isotropic) -> bool:
    if case.power % 2:
        return True
    q = _update(case)
    return bool(np.allclose(case.power * q * weighted_squares(case, q), case.gradient, rtol=1e-9 * case.power, atol=0))


def neighbor_ratios(case: Isotropic) -> np.ndarray:
    """Return 1, then q_i / q_{i+1}: both ends of the statement in one array."""
    q = _update(case)
    return np.concatenate([np.ones(len(q) - 1), q[:-1] / q[1:]])


def allowed_ratios(case: Isotropic) -> np.ndarray:
    """Return q_i / q_{i+1}, then g_i / g_{i+1}."""
    q, g = _update(case), case.gradient
    return np.concatenate([q[:-1] / q[1:], g[:-1] / g[1:]])


isotropic_order = Theorem(
    label="isotropic-order",
    title="Isotropic curvature keeps the order of the singular values and draws their ratios together",
    statement=r"Q=\arg\min\ -\langle G,Q\rangle+\mathbb E\,\|Qu\|^p,\ p\ge2:\qquad "
    r"1\le\frac{q_i}{q_j}\le\frac{g_i}{g_j}\quad(g_i\ge g_j),\qquad p=2:\ Q\propto G",
    assumes=(
        Assumption("h'(t)/t does not fall, p >= 2", lambda c: c.power >= 2),
        Assumption("g is positive and sorted, and u has room for it", lambda c: _is_sorted(c)),
        Assumption("Q is stationary for the convex objective", _is_stationary),
    ),
    kind="upper",
    lhs=neighbor_ratios,
    rhs=allowed_ratios,
    cases=_draws,
    # the exponent 1.9 would be refused by the first assumption: the control drops that one
    broken=lambda t: dataclasses.replace(t, assumes=t.assumes[1:], cases=lambda size: _draws(size, softer=True)),
    mistake="p = 1.9 in place of 2, where the ratios are drawn apart",
    source="ours: exchange of u_i and u_j; for general growth in the abstract of [su2025isotropic]",
    tolerance=1e-10,
    reason="Newton's residual is below 1e-13 p, and equality holds at p = 2",
)


def _is_sorted(case: Isotropic) -> bool:
    g = case.gradient
    return bool(np.all(g > 0) and np.all(np.diff(g) <= 0) and case.dimension >= len(g) >= 2)


# The hard wall


POWERS = (30, 100, 300)


class Wall(NamedTuple):
    """Singular values of a square gradient, whose updates are taken at growing powers."""

    gradient: np.ndarray


def scaled_spread(case: Wall) -> np.ndarray:
    """Return p log(q_1 / q_r), extrapolated in 1/p from neighboring powers: (p' s' - p s) / (p' - p)."""
    g = case.gradient
    updates = [optimal_update(Isotropic(g, len(g), p)) for p in POWERS]
    s = np.array([p * np.log(q[0] / q[-1]) for p, q in zip(POWERS, updates, strict=True)])
    p = np.array(POWERS, dtype=float)
    return np.diff(p * s) / np.diff(p)


def bingham_spread(case: Wall, scale: float = 1.0) -> np.ndarray:
    """Return x_1 - x_r of the law exp(sum x_i u_i^2) on the sphere whose second moments are g / sum g.

    x from Newton's method on the convex log E exp(sum x_i u_i^2) - <x, g> / sum g, with x_r = 0.
    """
    g = case.gradient / case.gradient.sum()
    r, x = len(g), np.zeros(len(g))
    top = 120
    factorial = np.cumprod(np.concatenate([[1.0], np.arange(1, top + 1)]))
    for _ in range(100):

        def mean(tilts, x=x):  # E[u^2 ... exp(sum x u^2)] up to the common factor of the tilt
            alpha = 0.5 + tilts
            return (dirichlet_moments(np.broadcast_to(x, alpha.shape), alpha, top) / factorial).sum(axis=-1)

        eye = np.eye(r)
        whole = mean(np.zeros((1, r)))[0]
        first = mean(eye) / r / whole
        second = mean(eye[:, None] + eye[None]) * (1 + 2 * eye) / (r * (r + 2)) / whole
        residual = g - first
        if np.max(np.abs(residual)) <= 1e-13:
            break
        move = np.linalg.lstsq(second - np.outer(first, first), residual, rcond=1e-10)[0]
        x = x + move * min(1.0, 2 / np.max(np.abs(move)))
        x = x - x.min()
    return np.full(len(POWERS) - 1, scale * (x[0] - x[-1]))


def _walls(size: Size) -> Iterator[tuple[str, Wall]]:
    rng = np.random.default_rng(2)
    yield "diag(4, 2, 1)", Wall(np.array([4.0, 2.0, 1.0]))
    for i in range(2 if size == "smoke" else 6):
        r = int(rng.integers(2, 5))
        yield f"draw {i}, rank {r}", Wall(np.sort(rng.uniform(0.5, 3.0, r))[::-1])


isotropic_wall = Theorem(
    label="isotropic-wall",
    title="A wall of curvature makes the polar factor optimal, with a spread that falls as 1 / p",
    statement=r"p\,\log\frac{q_i}{q_j}\to x_i-x_j\ (p\to\infty),\qquad "
    r"\frac{\mathbb E\,u_i^2e^{\sum_kx_ku_k^2}}{\mathbb E\,e^{\sum_kx_ku_k^2}}=\frac{g_i}{\|G\|_*}",
    assumes=(
        Assumption("G has full rank, so that the moments of a law on the sphere are matched",
                   lambda c: bool(c.gradient.min() > 0)),
    ),
    kind="asymptotic",
    lhs=scaled_spread,
    rhs=bingham_spread,
    cases=_walls,
    broken=lambda t: dataclasses.replace(t, rhs=lambda c: bingham_spread(c, 0.5)),
    mistake="the squares in |Qu|^2 forgotten, half of x",
    source="ours; that the wall makes the polar factor optimal is in the abstract of [su2025isotropic]",
    tolerance=1e-3,
    reason="one extrapolation in 1/p leaves the second order, (x/p)^2 with p of 100 and 300 and x below 10",
)  # fmt: skip

THEOREMS = (isotropic_order, isotropic_wall)
