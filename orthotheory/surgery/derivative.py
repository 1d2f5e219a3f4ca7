"""Derivatives of projections on dual cones and of aggregators along a direction, with the margin that vouches for them.

The projection x = g + J^T v on {x : J x >= 0} is piecewise smooth: as long as the set F of rows with v > 0 stays,

    dx = P (dg + dJ^T v) - J_F^+ dJ_F x,        P = I - J_F^+ J_F,

and F stays near a point of strict complementarity, where for every row either its multiplier or its slack is positive.
For a fixed J this is the projector on the null space of the active rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..arrays import Array, array_namespace, device_of
from ..polar.svd import svd_of_moderate
from .bargaining import FairGrad, NashMTL
from .cone import project
from .contract import Aggregator, check_jacobian, combine, divide, gram, preference, rows_of
from .dual_cone import DualProj, UPGrad
from .mgda import MGDA

ACTIVE = 1e-9  # relative size of a multiplier from which its row is active, and margin from which a set is strict


class Directional(NamedTuple):
    """A point, its derivative along the given direction, and how far the active set is from changing.

    `margin` is the least over the rows of the larger of multiplier and slack, relative to the lengths they belong to;
    0 where active rows are dependent and move, so that there is no derivative to speak of.
    """

    point: Array  # (..., n) or (..., k, n)
    tangent: Array  # of the same shape
    margin: Array  # (...) or (..., k)

    @property
    def strict(self) -> Array:
        """Whether strict complementarity holds, so that `tangent` is the derivative."""
        return self.margin > ACTIVE


def project_jvp(jacobian: Array, g: Array, d_jacobian: Array, d_g: Array) -> Directional:
    """Project g on {x : J x >= 0}, and differentiate the projection along (d_jacobian, d_g).

    Parameters
    ----------
    jacobian, d_jacobian : array (..., m, n), float64
    g, d_g : array (..., k, n), float64
        k points a cone.

    Raises
    ------
    ValueError
        Where a direction has another shape than what it is one of; else as `project`.

    Notes
    -----
    Exact on the active set that was found. Cost: the projection and one SVD of the active rows for each point.
    """
    _check_direction(jacobian, d_jacobian)
    _check_direction(g, d_g)
    xp = array_namespace(jacobian, g)
    rows = rows_of(jacobian)
    found = project(rows.unit, g)  # the cone does not depend on the length of a row, and multipliers stay moderate
    length = xp.sqrt(xp.sum(g * g, axis=-1))[..., None]
    x, v, norm = found.point, found.multipliers, rows.norm[..., None, :]
    force = divide(v * norm, length + 0 * v)
    active = force > ACTIVE
    v = xp.where(active, v, xp.zeros_like(v))
    step = divide(d_jacobian / rows.peak[..., None], rows.scale[..., None] + xp.zeros_like(d_jacobian))
    step = divide(step, rows.norm[..., None] + xp.zeros_like(step))  # of rows of unit length
    h = divide(rows.unit, rows.norm[..., None] + xp.zeros_like(rows.unit))
    one = xp.astype(active, h.dtype)
    u, s, vh = svd_of_moderate(one[..., None] * h[..., None, :, :])
    pushed = d_g + (v * norm) @ step
    wanted = one * ((x @ xp.matrix_transpose(step)) + pushed @ xp.matrix_transpose(h))
    along = divide((xp.matrix_transpose(u) @ wanted[..., None])[..., 0], s)
    tangent = pushed - (xp.matrix_transpose(vh) @ along[..., None])[..., 0]
    slack = divide(x @ xp.matrix_transpose(h), length + 0 * v)
    alive, moves = (rows.norm > 0)[..., None, :], xp.any(d_jacobian != 0, axis=-1)[..., None, :]
    free = xp.where(moves, xp.zeros_like(slack), xp.ones_like(slack))  # a zero row constrains nothing until it moves
    margin = xp.min(xp.where(alive, xp.maximum(force, slack), free), axis=-1)
    dependent = xp.sum(xp.astype(s > 0, s.dtype), axis=-1) < xp.sum(one, axis=-1)
    margin = xp.where(dependent & xp.any(moves & active, axis=-1), xp.zeros_like(margin), margin)
    return Directional(x, tangent, xp.clip(margin, 0.0, None))


def jvp(rule: Aggregator, jacobian: Array, direction: Array) -> Directional:
    """Aggregate, and differentiate the update along a direction of the Jacobian.

    For UPGrad, DualProj, MGDA, FairGrad and NashMTL without `max_norm`, by differentiating the conditions that define
    the update on its active set. float64, shapes (..., m, n).

    Raises
    ------
    TypeError
        For another rule. ValueError for a direction of another shape.

    >>> import numpy as np
    >>> jvp(UPGrad(), np.array([[1.0, 0.0], [-1.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])).tangent
    array([-0.25,  0.75])
    """
    form = FORMS.get(type(rule))
    if form is None or getattr(rule, "max_norm", None) is not None:
        allowed = ", ".join(t.__name__ for t in FORMS)
        raise TypeError(f"jvp differentiates {allowed} (NashMTL without max_norm); got {rule!r}.")
    check_jacobian(jacobian, "jvp")
    _check_direction(jacobian, direction)
    rows = rows_of(jacobian)
    x, dx, margin = form(rule, rows.relative, direction / rows.peak[..., None])
    unit = rows.peak**rule.homogeneity
    return Directional(unit * x, unit * dx, margin)


def _upgrad(rule: Any, j: Array, dj: Array) -> Directional:
    xp = array_namespace(j)
    found = project_jvp(j, j, dj, dj)
    p = preference(rule.preference, j) + xp.zeros_like(j[..., 0])
    margin = xp.min(xp.where(p > 0, found.margin, xp.ones_like(p)), axis=-1)
    return Directional(combine(p, found.point), combine(p, found.tangent), margin)


def _dual_proj(rule: Any, j: Array, dj: Array) -> Directional:
    p = preference(rule.preference, j) + array_namespace(j).zeros_like(j[..., 0])
    found = project_jvp(j, combine(p, j)[..., None, :], dj, combine(p, dj)[..., None, :])
    return Directional(found.point[..., 0, :], found.tangent[..., 0, :], found.margin[..., 0])


def _mgda(rule: Any, j: Array, dj: Array) -> Directional:
    """G w = mu and sum w = 1 on the support."""
    xp, m = array_namespace(j), j.shape[-2]
    w, x = rule.weights(j), rule(j)
    length, square = xp.sqrt(xp.sum(j * j, axis=-1)), xp.sum(x * x, axis=-1, keepdims=True)
    slack = divide((j @ x[..., None])[..., 0] - square, length * xp.sqrt(square))
    support = w > ACTIVE
    one = xp.astype(support, j.dtype)
    scale = xp.max(length, axis=-1)[..., None, None]
    a = gram(one[..., None] * j) + xp.eye(m, dtype=j.dtype, device=device_of(j)) * (1 - one)[..., None]
    edge = one[..., None] * scale**2
    corner = xp.zeros_like(edge[..., :1, :])
    system = xp.concat(
        [xp.concat([a, edge], axis=-1), xp.concat([xp.matrix_transpose(edge), corner], axis=-1)], axis=-2
    )
    change = one * ((dj @ x[..., None])[..., 0] + (j @ combine(w, dj)[..., None])[..., 0])
    right = xp.concat([-change, xp.zeros_like(change[..., :1])], axis=-1)
    u, s, vh = svd_of_moderate(system)
    along = divide((xp.matrix_transpose(u) @ right[..., None])[..., 0], s)
    dw = one * (xp.matrix_transpose(vh) @ along[..., None])[..., :m, 0]
    margin = xp.min(xp.maximum(w, slack), axis=-1)
    margin = xp.where(xp.all(s > 0, axis=-1) & (square[..., 0] > 0), margin, xp.zeros_like(margin))
    return Directional(x, combine(w, dj) + combine(dw, j), margin)


def _bargain(rule: Any, j: Array, dj: Array) -> Directional:
    """G w = w^(-1 / alpha), alpha = 1 for Nash: with D = diag(w) the system D G D + diag(w^(1 - 1 / alpha)) / alpha."""
    xp, alpha = array_namespace(j), float(getattr(rule, "alpha", 1.0))
    w, x = rule.weights(j), rule(j)
    alive = xp.all(w > 0, axis=-1)
    w = xp.where(alive[..., None], w, xp.ones_like(w))
    change = (dj @ combine(w, j)[..., None])[..., 0] + (j @ combine(w, dj)[..., None])[..., 0]
    eye = xp.eye(j.shape[-2], dtype=j.dtype, device=device_of(j))
    system = gram(w[..., None] * j) + eye * (w ** (1 - 1 / alpha) / alpha)[..., None]
    dw = -w * xp.linalg.solve(system, (w * change)[..., None])[..., 0]
    one = xp.astype(alive, j.dtype)
    return Directional(x, one[..., None] * (combine(w, dj) + combine(dw, j)), one)


def _check_direction(x: Array, d: Array) -> None:
    if d.shape != x.shape:
        raise ValueError(f"A direction needs the shape {tuple(x.shape)} of its point; got {tuple(d.shape)}.")


FORMS: dict[type[Aggregator], Callable[[Any, Array, Array], Directional]] = {
    UPGrad: _upgrad,
    DualProj: _dual_proj,
    MGDA: _mgda,
    FairGrad: _bargain,
    NashMTL: _bargain,
}

__all__ = ["Directional", "jvp", "project_jvp"]
