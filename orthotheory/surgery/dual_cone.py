"""The dual-cone family: every one is a projection on {x : J x >= 0} or its one-row case, from one solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..arrays import Array, array_namespace, check_matrix, check_number, device_of
from . import batch
from .cone import flat, multipliers, put
from .contract import HINT, Aggregator, Card, Rows, Weighted, check_jacobian, combine, divide, preference, rows_of


@dataclass(frozen=True)
class UPGrad(Weighted):
    """Project every gradient on the dual cone and average: x = sum_i p_i P(g_i), P onto {x : J x >= 0}.

    Non-conflicting and linear under positive row scaling, since the cone and its rays do not depend on row lengths
    and P is positively homogeneous. Cost: the Gramian and m small quadratic programs that share it.

    Parameters
    ----------
    preference : sequence of m numbers, optional
        The weights p; 1/m each if not given.
    kernel : "auto", "numba" or "numpy"
        "auto" takes the compiled loop for many small Jacobians where numba is installed; the results agree.
    route : "auto" or "rows"
        "rows" factors the rows (QR) of every Jacobian, "auto" where the pivots of the Gramian ask for it.
    """

    preference: Any = None
    kernel: batch.Kernel = "auto"
    route: Literal["auto", "rows"] = "auto"
    card = Card(
        "UPGrad",
        "quinton2024jacobian",
        "exact",
        "no ridge and no normalization threshold: the authors' package adds 1e-4 to the diagonal of the normalized "
        "Gramian and falls back to the mean below |J|_F = 0.01",
    )

    def __post_init__(self):
        if self.kernel not in ("auto", "numba", "numpy") or self.route not in ("auto", "rows"):
            raise ValueError(
                f"UPGrad.kernel must be auto, numba or numpy and UPGrad.route auto or rows; got {self.kernel!r}, "
                f"{self.route!r}."
            )

    def coefficients(self, rows, *rng):
        xp = array_namespace(rows.unit)
        share = preference(self.preference, rows) * rows.scale
        v = multipliers(flat(rows), route=self.route).v
        return share + combine(share, xp.reshape(v, (*rows.unit.shape[:-1], v.shape[-1])))

    def point(self, rows, *rng):
        xp = array_namespace(rows.unit)
        items = flat(rows)
        share = preference(self.preference, items) * items.scale
        *shape, _, n = rows.unit.shape
        x = multipliers(items, route=self.route).weigh(share, items.unit, items.unit)
        return xp.reshape(x, (*shape, n))

    def init(self, jacobian):
        return ()

    def step(self, jacobian, state):
        check_matrix(jacobian, "UPGrad", hint=HINT)
        if 0 in jacobian.shape:
            return super().step(jacobian, state)
        xp = array_namespace(jacobian)
        *shape, m, n = jacobian.shape
        j = xp.reshape(xp.astype(jacobian, xp.float64, copy=False), (-1, m, n))
        x, undone = batch.upgrad(j, preference(self.preference, jacobian), self.kernel, self.route)
        if bool(xp.any(undone)):
            check_jacobian(jacobian, "UPGrad")
            index = xp.nonzero(undone)[0]
            x = put(x, index, self.update(xp.take(j, index, axis=0)))
        return self._restore(xp.reshape(x, (*shape, n)), jacobian), state


@dataclass(frozen=True)
class DualProj(Weighted):
    """Project the weighted mean on the dual cone: x = P(J^T p).

    Non-conflicting and the closest such point to the mean. One quadratic program.

    Parameters
    ----------
    preference : sequence of m numbers, optional
        The weights p; 1/m each if not given.
    """

    preference: Any = None
    card = Card(
        "DualProj",
        "quinton2024jacobian",
        "exact",
        "no ridge; Gradient Episodic Memory with margin 0 is this projection",
    )

    def coefficients(self, rows, *rng):
        return project_mean(rows, self.preference)[0]

    def point(self, rows, *rng):
        return project_mean(rows, self.preference)[1]


def project_mean(rows: Rows, weights: Any = None) -> tuple[Array, Array]:
    """Return the coefficients and the point of the cone nearest to the weighted mean, relative to `rows.peak`."""
    xp = array_namespace(rows.unit)
    items = flat(rows)
    share = preference(weights, items) * items.scale
    mean = combine(share, items.unit)[:, None, :]
    found = multipliers(items, mean)
    a = share + found.v[:, 0, :]
    x = found.points(mean, items.unit)[:, 0, :]
    *batch, m, n = rows.unit.shape
    return xp.reshape(a, (*batch, m)), xp.reshape(x, (*batch, n))


@dataclass(frozen=True)
class GEM(Aggregator):
    """Gradient Episodic Memory: the first row is the current gradient g, the others R are those of the memories.

        x = g + R^T v,   v = argmin 1/2 |R^T v + g|^2 + eps/2 |v|^2   s.t.  v >= margin,    where some R g < 0

    Solved as one cone projection on the rows [R, sqrt(eps) I]. With margin 0 and eps 0 it is the projection of g on
    {x : R x >= 0}; a positive margin or ridge is absolute, so that scaling J changes the direction.

    Parameters
    ----------
    margin, eps : float
        Lower bound of the multipliers and ridge; the authors' code has 0.5 and 1e-3.
    """

    margin: float = 0.5
    eps: float = 1e-3
    card = Card("GEM", "lopezpaz2017gradient", "exact", "the authors solve the quadratic program with quadprog")

    def __post_init__(self):
        check_number(self.margin, "GEM.margin", open_high=True)
        check_number(self.eps, "GEM.eps", open_high=True)

    def update(self, jacobian, *rng):
        xp = array_namespace(jacobian)
        j = xp.astype(jacobian, xp.float64, copy=False)
        g, r = j[..., :1, :], j[..., 1:, :]
        k = r.shape[-2]
        if k == 0:
            return g[..., 0, :]
        size = rows_of(j).peak[..., None]  # only the ridge and the margin are absolute
        g, r, eps, margin = g / size, r / size, (self.eps**0.5) / size, self.margin
        ridge = eps * xp.eye(k, dtype=j.dtype, device=device_of(j))
        wide = xp.concat([r, xp.broadcast_to(ridge, (*r.shape[:-1], k))], axis=-1)
        start = g + margin * xp.sum(r, axis=-2, keepdims=True)
        start = xp.concat([start, xp.broadcast_to(margin * eps, (*start.shape[:-1], k))], axis=-1)
        rows = flat(rows_of(wide))
        y = xp.reshape(start, (rows.unit.shape[0], 1, -1))
        length = xp.max(xp.abs(y), axis=-1, keepdims=True)
        length = xp.where(length > 0, length, xp.ones_like(length))
        x = length * multipliers(rows, y / length).points(y / length, rows.unit)
        x = xp.reshape(x[..., : j.shape[-1]], g.shape)
        conflict = xp.any(g @ xp.matrix_transpose(r) < 0, axis=-1, keepdims=True)
        return (size * xp.where(conflict, x, g))[..., 0, :]


@dataclass(frozen=True)
class AGEM(Aggregator):
    """Averaged GEM: the first row is the current gradient g, r the mean of the others.

        x = g - min(0, g.r) / |r|^2 r

    The projection of g on the half-space {x : r.x >= 0}; only the mean memory is protected.
    """

    card = Card("A-GEM", "chaudhry2019efficient", "exact", "formula of the paper; a projection on one row")

    def update(self, jacobian, *rng):
        rows = rows_of(jacobian)
        xp = array_namespace(rows.unit)
        j = rows.relative
        g, others = j[..., 0, :], j[..., 1:, :]
        if others.shape[-2] == 0:
            return rows.peak * g
        r = rows_of(xp.sum(others, axis=-2, keepdims=True)).unit[..., 0, :]
        product = xp.sum(g * r, axis=-1, keepdims=True)
        square = xp.sum(r * r, axis=-1, keepdims=True)
        return rows.peak * (g - divide(xp.minimum(product, xp.zeros_like(product)), square) * r)
