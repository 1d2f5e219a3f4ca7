"""Points of least norm in the convex hull of the gradients, by the cone projector.

    min |sum_i w_i g_i|  over w >= 0, sum_i w_i = 1

is the projection of e = (0, ..., 0, 1) on the dual cone of the rows (-g_i / d, -1) in n + 1 dimensions: its point is
proportional to (-x / d, |x|^2 / d^2), so that the small quadratic programs of the whole toolkit have one solver.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, array_namespace
from .cone import flat, multipliers, put
from .contract import Card, Rows, Weighted, check_jacobian, divide, rows_of

SHORT, VANISHING = 0.1, 1e-10  # relative to the shortest row: solve again; as good as zero


def min_norm(rows: Rows) -> tuple[Array, Array]:
    """Return weights w of the simplex (..., m) and the point of least norm relative to `rows.peak`, (..., n).

    Exact also for dependent rows, where the point is unique and the weights are not. A zero row makes the point zero.
    Solved with d the shortest row and, where the point is much shorter, again with d its length, so that its error is
    relative to itself. Cost: one or two cone projections.
    """
    xp = array_namespace(rows.unit)
    *batch, m, n = rows.unit.shape
    items = flat(rows)
    alive = items.norm > 0
    zero_row = xp.any(~alive, axis=-1, keepdims=True)
    largest = xp.max(items.scale, axis=-1, keepdims=True)
    d = xp.min(xp.where(alive, items.scale, largest), axis=-1, keepdims=True)
    d = xp.where(d > 0, d, xp.ones_like(d))
    w, x = _lifted(items, d)
    ratio = xp.sqrt(xp.sum((x / d) ** 2, axis=-1, keepdims=True))
    summed = xp.sum(w * items.length, axis=-1, keepdims=True)  # what cancelled
    short = (ratio < SHORT) & (ratio > VANISHING) & (d * ratio > VANISHING * 1e-3 * summed) & ~zero_row
    if bool(xp.any(short)):
        again = xp.nonzero(short[:, 0])[0]
        some = Rows(*(xp.take(a, again, axis=0) for a in items))
        length = xp.take(d * ratio, again, axis=0)
        w_some, x_some = _lifted(some, length)
        w, x = put(w, again, w_some), put(x, again, x_some)
    uniform = xp.astype(~alive, w.dtype) / xp.sum(xp.astype(~alive | ~zero_row, w.dtype), axis=-1, keepdims=True)
    w = xp.where(zero_row, uniform, w)
    x = xp.where(zero_row, xp.zeros_like(x), x)
    return xp.reshape(w, (*batch, m)), xp.reshape(x, (*batch, n))


def _lifted(items: Rows, d: Array) -> tuple[Array, Array]:
    """Solve in n + 1 dimensions for one batch axis; `d` (b, 1) is the unit of length."""
    xp, n = array_namespace(items.unit), items.unit.shape[-1]
    one = xp.ones_like(items.norm)[..., None]
    lifted = rows_of(-xp.concat([items.unit * (items.scale / d)[..., None], one], axis=-1))
    e = xp.zeros_like(lifted.unit[:, :1, :])
    e[..., n] = 1.0
    found = multipliers(lifted, e)
    w = divide(found.v[:, 0, :], lifted.scale)  # the common factor `peak` drops out
    p = found.points(e, lifted.unit)[:, 0, :]
    return w / xp.sum(w, axis=-1, keepdims=True), -divide(d * p[:, :n], 1 - p[:, n:] + 0 * p[:, :n])


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

    def point(self, rows, *rng):
        return min_norm(rows)[1]

    def weights(self, jacobian: Array) -> Array:
        """Return w of the simplex with update = w @ jacobian, (..., m); zero rows share all of it."""
        check_jacobian(jacobian, "MGDA")
        if 0 in jacobian.shape:
            return super().weights(jacobian)
        return self._restore(min_norm(rows_of(jacobian))[0], jacobian)
