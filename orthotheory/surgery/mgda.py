"""Points of least norm in the convex hull of the gradients, by the cone projector.

    min |sum_i w_i g_i|  over w >= 0, sum_i w_i = 1

is the projection of e = (0, ..., 0, 1) on the dual cone of the rows (-g_i / d, -1) in n + 1 dimensions: its point is
proportional to (-x / d, |x|^2 / d^2), so that the small quadratic programs of the whole toolkit have one solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..arrays import Array, array_namespace, check_number
from .cone import flat, multipliers, put
from .contract import Card, Rows, Weighted, check_jacobian, divide, expand, reduce, rows_of
from .dual_cone import project_mean

BISECTIONS = 60  # halvings of 36 decades on a logarithmic scale: t to a relative 1e-16
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


@dataclass(frozen=True)
class CAGrad(Weighted):
    """Conflict-averse gradient: the best worst objective in a ball around the mean gradient g0.

        x = argmax_{|x - g0| <= c |g0|} min_i g_i . x

    By duality x = z / t with z the point of least norm in the hull of the rows (1 - t) g_i + t g0, for the t in (0, 1]
    at which |x - g0| = c |g0|; t is bisected. Where the value is zero (Pareto stationary and the ball meets the dual
    cone) the maximizers are many and the one nearest to g0, its projection on the cone, is returned: the limit of the
    others. Non-conflicting for c >= 1; c = 0 is the mean. Cost: 60 small cone projections.

    Parameters
    ----------
    c : float
        Radius of the ball relative to |g0|.
    rescale : "none", "linear" or "quadratic"
        Divide by 1, 1 + c or 1 + c^2, as the authors' code offers.
    """

    c: float = 0.5
    rescale: Literal["none", "linear", "quadratic"] = "none"
    card = Card(
        "CAGrad",
        "liu2021conflict",
        "exact",
        "solved exactly; where the dual vanishes the authors' code returns about g0 and TorchJD 0, ours the nearest "
        "maximizer",
    )

    def __post_init__(self):
        check_number(self.c, "CAGrad.c", open_high=True)
        if self.rescale not in ("none", "linear", "quadratic"):
            raise ValueError(f"CAGrad.rescale must be none, linear or quadratic; got {self.rescale!r}.")

    def coefficients(self, rows, *rng):
        return self._solve(rows)[0]

    def point(self, rows, *rng):
        return self._solve(rows)[1]

    def _solve(self, rows: Rows) -> tuple[Array, Array]:
        xp, m = array_namespace(rows.unit), rows.unit.shape[-2]
        g, q = reduce(rows)
        mean = xp.mean(g, axis=-2)
        radius = self.c * _length(mean)
        low, high = xp.full_like(radius, 1e-36), xp.ones_like(radius)
        for _ in range(BISECTIONS):
            t = xp.sqrt(low * high)
            far = _length(_hull(g, mean, t)[1] / t - mean) >= radius
            low, high = xp.where(far, t, low), xp.where(far, high, t)
        w, z = _hull(g, mean, high)
        a, x = rows.scale * (1 / m + w * (1 - high) / high), expand(z / high, q)
        near_a, near_x = project_mean(rows)
        shortest = xp.min(rows.length, axis=-1, keepdims=True)
        stationary = _length(min_norm(rows)[1]) <= VANISHING * shortest
        inside = stationary & (_length(near_x - xp.mean(rows.relative, axis=-2)) <= radius * (1 + 1e-12))
        rescale = {"none": 1.0, "linear": 1 + self.c, "quadratic": 1 + self.c**2}[self.rescale]
        return xp.where(inside, near_a, a) / rescale, xp.where(inside, near_x, x) / rescale


def _length(x: Array) -> Array:
    xp = array_namespace(x)
    return xp.sqrt(xp.sum(x * x, axis=-1, keepdims=True))


def _hull(g: Array, mean: Array, t: Array) -> tuple[Array, Array]:
    """Return weights and the point of least norm in the hull of the rows (1 - t) g_i + t mean; rounding is 0."""
    xp = array_namespace(g)
    mixed = rows_of((1 - t[..., None]) * g + t[..., None] * mean[..., None, :])
    w, z = min_norm(mixed)
    noise = 1e-13 * xp.min(mixed.length, axis=-1, keepdims=True)
    return w, mixed.peak * xp.where(_length(z) > noise, z, xp.zeros_like(z))
