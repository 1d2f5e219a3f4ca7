"""Points of least norm in the convex hull of the gradients, by the cone projector.

    min |sum_i w_i g_i|  over w >= 0, sum_i w_i = 1

is the projection of e = (0, ..., 0, 1) on the dual cone of the rows (-g_i / d, -1) in n + 1 dimensions: its point is
proportional to (-x / d, |x|^2 / d^2), so that the small quadratic programs of the whole toolkit have one solver.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, array_namespace
from .cone import flat, multipliers
from .contract import Card, Rows, Weighted, divide, rows_of


def min_norm(rows: Rows) -> tuple[Array, Array]:
    """Return weights w of the simplex (..., m) and the point of least norm relative to `rows.peak`, (..., n).

    Exact also for dependent rows, where the point is unique and the weights are not. A zero row makes the point zero.
    Cost: one cone projection.
    """
    xp = array_namespace(rows.unit)
    *batch, m, n = rows.unit.shape
    items = flat(rows)
    alive = items.norm > 0
    zero_row = xp.any(~alive, axis=-1, keepdims=True)
    largest = xp.max(items.scale, axis=-1, keepdims=True)
    d = xp.min(xp.where(alive, items.scale, largest), axis=-1, keepdims=True)
    d = xp.where(d > 0, d, xp.ones_like(d))
    lifted = -xp.concat([items.unit * (items.scale / d)[..., None], xp.ones_like(items.norm)[..., None]], axis=-1)
    lifted_rows = rows_of(lifted)
    e = xp.zeros_like(lifted[:, :1, :])
    e[..., n] = 1.0
    found = multipliers(lifted_rows, e)
    w = divide(found.v[:, 0, :], lifted_rows.scale)  # the common factor `peak` drops out
    on_zero = xp.astype(~alive, w.dtype)
    w = xp.where(zero_row, on_zero, w)
    w = w / xp.sum(w, axis=-1, keepdims=True)
    p = found.points(e, lifted_rows.unit)[:, 0, :]
    x = -d * p[:, :n] / (1 - p[:, n:])
    x = xp.where(zero_row, xp.zeros_like(x), x)
    return xp.reshape(w, (*batch, m)), xp.reshape(x, (*batch, n))


@dataclass(frozen=True)
class MGDA(Weighted):
    """The multiple-gradient descent algorithm: the point of least norm in the hull of the gradients.

        x = J^T w,   w = argmin |J^T w|  over the simplex,        g_i . x >= |x|^2

    Non-conflicting; zero exactly at weakly Pareto-stationary Jacobians. Exact: the usual Frank-Wolfe loop of 100 steps
    leaves conflicts of several percent. Cost: one cone projection.
    """

    card = Card(
        "MGDA", "desideri2012multiple", "exact", "solved exactly; the usual code stops a Frank-Wolfe loop at 100 steps"
    )

    def coefficients(self, rows, *rng):
        return min_norm(rows)[0] * rows.scale

    def update(self, jacobian, *rng):
        rows = rows_of(jacobian)
        return rows.peak * min_norm(rows)[1]
