"""Points of least norm in the convex hull of the gradients, by the cone projector.

    min |sum_i w_i g_i|  over w >= 0, sum_i w_i = 1

is the projection of e = (0, ..., 0, 1) on the dual cone of the rows (-g_i / d, -1) in n + 1 dimensions: its point is
proportional to (-x / d, |x|^2 / d^2), so that the small quadratic programs of the whole toolkit have one solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..arrays import Array, array_namespace, check_number
from .cone import flat, multipliers
from .contract import Card, Rows, Weighted, compress, divide, rows_of
from .dual_cone import nearest_to_mean


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


@dataclass(frozen=True)
class CAGrad(Weighted):
    """Conflict-averse gradient: the best worst objective in a ball around the mean gradient g0.

        x = argmax_{|x - g0| <= c |g0|} min_i g_i . x

    By duality x = z / t with z the point of least norm in the hull of the rows (1 - t) g_i + t g0, for the t in (0, 1]
    at which |x - g0| = c |g0|; t is bisected. Where the value is zero (Pareto stationary and the ball meets the dual
    cone) the maximizers are many and the one nearest to g0, its projection on the cone, is returned: the limit of the
    others. Non-conflicting for c >= 1; c = 0 is the mean. Cost: 64 small cone projections.

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
        xp = array_namespace(rows.unit)
        g = compress(rows)
        mean = xp.mean(g, axis=-2)
        radius = self.c * xp.sqrt(xp.sum(mean * mean, axis=-1, keepdims=True))

        def reach(t):
            w, z = _hull(g, mean, t)
            return w, z / t - mean

        low, high = xp.full_like(radius, 1e-13), xp.ones_like(radius)
        _, at_low = reach(low)
        inside = xp.sqrt(xp.sum(at_low**2, axis=-1, keepdims=True)) < radius
        for _ in range(64):
            t = xp.sqrt(low * high)
            far = xp.sqrt(xp.sum(reach(t)[1] ** 2, axis=-1, keepdims=True)) >= radius
            low, high = xp.where(far, t, low), xp.where(far, high, t)
        w, _ = reach(high)
        m = rows.scale.shape[-1]
        a = rows.scale * (1 / m + w * (1 - high) / high)
        a = xp.where(inside, nearest_to_mean(rows), a)
        return a / {"none": 1.0, "linear": 1 + self.c, "quadratic": 1 + self.c**2}[self.rescale]


def _hull(g: Array, mean: Array, t: Array) -> tuple[Array, Array]:
    """Return weights and the point of least norm in the hull of the rows (1 - t) g_i + t mean."""
    mixed = rows_of((1 - t[..., None]) * g + t[..., None] * mean[..., None, :])
    w, z = min_norm(mixed)
    return w, mixed.peak * z
