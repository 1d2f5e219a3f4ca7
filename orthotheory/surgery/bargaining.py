"""Bargaining and fairness: the weights that solve G w = w^(-1/alpha), by Newton's method on a convex potential.

    phi(w) = 1/2 w^T G w - sum_i w_i^(1 - 1/alpha) / (1 - 1/alpha)      (-sum log w_i at alpha = 1)

phi is strictly convex with a minimizer exactly where no w >= 0, w != 0 has J^T w = 0; elsewhere the Jacobian is Pareto
stationary (weakly), which is detected, and the update is 0. The Newton step is a least-squares problem in dw / w whose
matrix stacks the rows of J and a diagonal, so that the condition of J is not squared.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, array_namespace, check_number, device_of
from .compensated import dot, two_sum
from .cone import flat, put
from .contract import Card, Rows, Weighted, combine, divide, expand, reduce
from .mgda import min_norm

STATIONARY = 1e-10  # least norm in the hull of the unit rows, below which a Jacobian counts as Pareto stationary
NEWTON_STEPS = 200
TRUST = 0.6  # largest relative change of a weight in a step
CANCELLED = 100.0  # sum_i w_i |g_i| over |x| from which x is polished: 1 / 100 of the digits of a sum are lost before
POLISHINGS = 4


def is_stationary(rows: Rows) -> Array:
    """Say whether 0 lies in the convex hull of the unit rows, to within 1e-10; shape (..., 1)."""
    xp = array_namespace(rows.unit)
    inverse = divide(xp.ones_like(rows.norm), rows.norm)
    _, x = min_norm(Rows(rows.unit, rows.norm, inverse, rows.peak))
    return xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True)) <= STATIONARY


def fair_weights(g: Array, alpha: float, w: Array) -> Array:
    """Solve G w = w^(-1/alpha) from a positive start, for vectors g (..., m, r) whose hull keeps away from 0."""
    xp = array_namespace(g)
    m = g.shape[-2]
    power = 1 - 1 / alpha
    eye = xp.eye(m, dtype=g.dtype, device=device_of(g))
    for _ in range(NEWTON_STEPS):
        y = xp.sum(g * w[..., None], axis=-2)
        ray = xp.sum(w**power, axis=-1, keepdims=True) / xp.sum(y * y, axis=-1, keepdims=True)
        ray = ray ** (1 / (1 + 1 / alpha))  # the minimizer of phi along w
        w, y = w * ray, y * ray
        half = w ** (power / 2)
        stacked = xp.concat([xp.matrix_transpose(g * w[..., None]), eye * (half / alpha**0.5)[..., None, :]], axis=-2)
        wanted = xp.concat([-y, half * alpha**0.5], axis=-1)
        q, r = xp.linalg.qr(stacked)
        u = xp.linalg.solve(r, xp.matrix_transpose(q) @ wanted[..., None])[..., 0]
        largest = xp.max(xp.abs(u), axis=-1, keepdims=True)
        w = w * (1 + u * xp.clip(TRUST / xp.clip(largest, 1e-300, None), None, 1.0))
        if bool(xp.all(largest <= 1e-14)):
            break
    return w


def polish(rows: Rows, g: Array, alpha: float, w: Array) -> tuple[Array, Array]:
    """Return the coefficients c = w * scale of the unit rows and x = sum_i c_i unit_i after Newton steps in doubled
    precision: next to stationarity the weights are large and their sum cancels, while x stays well conditioned.

    Weights, x and g_i . x are carried in two numbers each; a rounded w^(-1/alpha) does no harm, as it only rescales
    its row. `g` are the rows in the coordinates of `reduce`; a step gains eps cond^2 of the Newton matrix.
    """
    xp = array_namespace(w)
    unit, columns = rows.unit, xp.matrix_transpose(rows.unit)
    power = 1 - 1 / alpha
    eye = xp.eye(w.shape[-1], dtype=w.dtype, device=device_of(w))
    half = w ** (power / 2)
    stacked = xp.concat([xp.matrix_transpose(g * w[..., None]), eye * (half / alpha**0.5)[..., None, :]], axis=-2)
    r = xp.linalg.qr(stacked).R
    c, low = w * rows.scale, xp.zeros_like(w)
    for left in range(POLISHINGS, -1, -1):
        high, tail = dot(columns, c[..., None, :])
        x, rest = two_sum(high, tail + (columns @ low[..., None])[..., 0])
        if left == 0:
            return c, x
        high, tail = dot(unit, x[..., None, :])
        s = high + (tail + (unit @ rest[..., None])[..., 0])
        lack = (c / rows.scale) ** power - c * s
        u = xp.linalg.solve(r, xp.linalg.solve(xp.matrix_transpose(r), lack[..., None]))[..., 0]
        c, low = two_sum(c, low + c * xp.clip(u, -TRUST, TRUST))
    raise AssertionError


@dataclass(frozen=True)
class FairGrad(Weighted):
    """Fair resource allocation: positive weights with G w = w^(-1/alpha), i.e. g_i . x = w_i^(-1/alpha) > 0.

    alpha = 1 is Nash-MTL, alpha -> inf tends to the max-min direction. Non-conflicting; degree of homogeneity
    (1 - alpha) / (1 + alpha). Returns 0 at Pareto-stationary Jacobians, where no such weights exist. Cost: 10 to 30
    QR factorizations of 2m x m.

    Parameters
    ----------
    alpha : float
        Fairness, positive.
    """

    alpha: float = 1.0
    card = Card(
        "FairGrad", "ban2024fair", "exact", "Newton's method on a convex potential in place of a bounded least squares"
    )

    def __post_init__(self):
        check_number(self.alpha, f"{type(self).__name__}.alpha", open_low=True, open_high=True)

    @property
    def homogeneity(self) -> float:
        return (1 - self.alpha) / (1 + self.alpha)

    def coefficients(self, rows, *rng):
        return self._solve(rows)[0]

    def point(self, rows, *rng):
        return self._solve(rows)[1]

    def _solve(self, rows: Rows) -> tuple[Array, Array]:
        xp = array_namespace(rows.unit)
        stationary = is_stationary(rows)
        g, q = reduce(rows)
        g = xp.where(stationary[..., None], xp.ones_like(g), g)
        length = xp.where(stationary, xp.ones_like(rows.length), rows.length)
        w = fair_weights(g, self.alpha, length ** (-2 * self.alpha / (1 + self.alpha)))
        c, x = w * rows.scale, expand(combine(w, g), q)
        cancels = xp.sum(w * length, axis=-1) > CANCELLED * xp.sqrt(xp.sum(x * x, axis=-1))
        hard = xp.reshape(cancels & ~stationary[..., 0], (-1,))
        if bool(xp.any(hard)):
            index = xp.nonzero(hard)[0]
            flat_w, flat_g = xp.reshape(w, (-1, w.shape[-1])), xp.reshape(g, (-1, *g.shape[-2:]))
            some = Rows(*(xp.take(a, index, axis=0) for a in flat(rows)))
            new_c, new_x = polish(some, xp.take(flat_g, index, axis=0), self.alpha, xp.take(flat_w, index, axis=0))
            c = xp.reshape(put(xp.reshape(c, flat_w.shape), index, new_c), c.shape)
            x = xp.reshape(put(xp.reshape(x, (-1, x.shape[-1])), index, new_x), x.shape)
        return xp.where(stationary, xp.zeros_like(c), c), xp.where(stationary, xp.zeros_like(x), x)


@dataclass(frozen=True)
class NashMTL(Weighted):
    """The Nash bargaining solution: positive weights with G w = 1 / w, which maximize sum_i log g_i . x on a ball.

    Unchanged by positive row scaling; |x| = sqrt(m). Returns 0 at Pareto-stationary Jacobians, where the bargaining
    has no solution.

    Parameters
    ----------
    max_norm : float, optional
        Longest update; the authors' code has 1. No cap if not given.
    """

    max_norm: float | None = None
    card = Card(
        "Nash-MTL",
        "navon2022multi",
        "exact",
        "Newton's method on a self-concordant potential in place of 20 linearized conic programs; no memory of the "
        "previous weights",
    )

    def __post_init__(self):
        if self.max_norm is not None:
            check_number(self.max_norm, "NashMTL.max_norm", open_low=True, open_high=True)

    @property
    def homogeneity(self) -> float:
        return 0.0

    def coefficients(self, rows, *rng):
        return self._cap(rows) * FairGrad(1.0).coefficients(_equal(rows))

    def point(self, rows, *rng):
        return self._cap(rows) * FairGrad(1.0).point(_equal(rows))

    def _cap(self, rows: Rows) -> float:
        return 1.0 if self.max_norm is None else min(1.0, self.max_norm / rows.unit.shape[-2] ** 0.5)


def _equal(rows: Rows) -> Rows:
    """Return the same rows with lengths in [1, 2): the solution does not depend on them."""
    return rows._replace(scale=array_namespace(rows.unit).astype(rows.norm > 0, rows.norm.dtype))
