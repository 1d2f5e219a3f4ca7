"""Projection on the dual cone {x : J x >= 0} of the rows of J: exact, without a ridge, with a certificate.

    min |x - g|^2  s.t.  J x >= 0        x = g + J^T v,   v >= 0,   J x >= 0,   v * (J x) = 0

The cone does not depend on the length of a row, so every row is first divided by a power of two. Items are solved by
batched block principal pivoting on the Gramian where the pivots say that its squared condition does no harm, and on
the triangular factor of the rows otherwise; what remains undecided there (dependent rows) goes to the active-set
method of Lawson and Hanson (`scipy.optimize.nnls`), which is finite for every input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..arrays import Array, array_namespace, backend_of, device_of, magnitude, to_host
from .compensated import dot, two_sum
from .contract import Rows, check_jacobian, combine, divide, gram, rows_of
from .pivoting import LANE_BYTES, LeastSquares, Normal, back_substitute, forward_substitute, pivot

# Below this pivot of the unit-diagonal Gramian, i.e. squared sine of a row to the span of the others in the support,
# the Gramian is not used: a multiplier of the Gram route then carries a relative error of at most a few eps / PIVOT.
PIVOT = 1e-2
UNFINISHED = 1e-10  # residual at which SciPy's active-set method has not done its work
CORRECTIONS = 3  # each gains a factor of eps / squared sine: enough for rows that are nearly opposite to 1e-7


class Projection(NamedTuple):
    """A projection and its certificate.

    `residual` is max_i |min(v_i, h_i x)| for unit rows h_i and a point of unit norm, measured at the returned point:
    zero exactly at the solution. `refined` marks what needed the factor of the rows, `fallback` what needed the
    active-set method.
    """

    point: Array  # (..., n) or (..., k, n)
    multipliers: Array  # (..., m) or (..., k, m): point = g + multipliers @ jacobian
    residual: Array  # (...) or (..., k)
    refined: Array
    fallback: Array


class Multipliers(NamedTuple):
    """Multipliers (b, k, m) of the unit rows for each point; which were refined or fell back, (b, k).

    `lane` are the numbers of the refined ones among the b k problems and `point` their projections, (lanes, n), which
    are more accurate than combining rows by rounded multipliers.
    """

    v: Array
    refined: Array
    fallback: Array
    lane: Array | None = None
    point: Array | None = None

    def points(self, y: Array, h: Array) -> Array:
        """Return the projections (b, k, n) of y."""
        xp = array_namespace(h)
        x = y + self.v @ h
        if self.lane is None:
            return x
        return xp.reshape(put(xp.reshape(x, (-1, x.shape[-1])), self.lane, self.point), x.shape)

    def weigh(self, p: Array, y: Array, h: Array) -> Array:
        """Return sum_i p_i x_i of the projections x_i of y_i, shapes (b, k), (b, k, n), (b, m, n) -> (b, n)."""
        if self.lane is None:
            return combine(p, y) + combine(combine(p, self.v), h)
        return combine(p, self.points(y, h))


def project(jacobian: Array, g: Array, *, route: str = "auto") -> Projection:
    """Project g on {x : J x >= 0}.

    Parameters
    ----------
    jacobian : array (..., m, n)
    g : array (..., n) or (..., k, n)
        One point, or k points a cone, of the dtype of the Jacobian.
    route : "auto" or "rows"
        "rows" factors the rows (QR) for every item, "auto" only where the pivots of the Gramian ask for it.

    Returns
    -------
    Projection
        Point, multipliers and certificate; where rows are dependent the point is unique and the multipliers are not.

    Raises
    ------
    ValueError, TypeError
        For a Jacobian or a point that is not finite (the row is named), shapes that do not match, or a bad dtype.

    Notes
    -----
    Computed in float64 and returned in the dtype of the Jacobian. A zero row constrains nothing. Scaling g by t > 0
    scales the point by t and scaling a row by a power of two changes nothing. Cost: the Gramian, a few m x m
    eliminations for each point, one combination of rows [kim2011fast, judice1994block, lawson1995solving].

    >>> import numpy as np
    >>> project(np.array([[1.0, 0.0], [-1.0, 1.0]]), np.array([1.0, -1.0])).point
    array([0., 0.])
    """
    xp = array_namespace(jacobian, g)
    check_jacobian(jacobian, "project")
    one = g.ndim == jacobian.ndim - 1
    points = g[..., None, :] if one else g
    batch, (m, n), k = jacobian.shape[:-2], jacobian.shape[-2:], points.shape[-2]
    if points.shape != (*batch, k, n):
        raise ValueError(
            f"project needs g of shape (..., n) or (..., k, n) beside a Jacobian (..., m, n); got {tuple(g.shape)} and "
            f"{tuple(jacobian.shape)}."
        )
    if points.dtype != jacobian.dtype:
        raise TypeError(f"project needs one dtype; got g {points.dtype} and a Jacobian {jacobian.dtype}.")
    if k:
        check_jacobian(points, "project, the points g,")
    rows = flat(rows_of(jacobian))
    b = rows.unit.shape[0]
    y = xp.reshape(xp.astype(points, xp.float64, copy=False), (b, k, n))
    size = magnitude(y, axes=1) if y.size else None
    scale = size.scale if size else xp.ones((b, k, 1), dtype=y.dtype, device=device_of(y))
    y = y / scale
    found = multipliers(rows, y, route=route)
    x = found.points(y, rows.unit)
    residual = natural_residual(found.v, x @ xp.matrix_transpose(rows.unit), rows.norm, y)
    v = scale / rows.peak[:, None, :] * divide(found.v, rows.scale[:, None, :])
    tail = () if one else (k,)
    return Projection(
        xp.astype(xp.reshape(scale * x, (*batch, *tail, n)), jacobian.dtype, copy=False),
        xp.astype(xp.reshape(v, (*batch, *tail, m)), jacobian.dtype, copy=False),
        *(xp.reshape(a, (*batch, *tail)) for a in (residual, found.refined, found.fallback)),
    )


def natural_residual(v: Array, hx: Array, norm: Array, y: Array) -> Array:
    """Return max_i |min(v_i, h_i x)| for unit rows h_i relative to |y|.

    Shapes (b, k, m), (b, k, m), (b, m), (b, k, n) -> (b, k).
    """
    xp = array_namespace(v)
    length = xp.sqrt(xp.sum(y * y, axis=-1))[..., None]
    alive = (norm > 0)[:, None, :]
    value = xp.where(alive, xp.minimum(v * norm[:, None, :], divide(hx, norm[:, None, :] + xp.zeros_like(hx))), 0 * v)
    return xp.max(xp.abs(divide(value, length + xp.zeros_like(value))), axis=-1)


def flat(rows: Rows) -> Rows:
    """Make all batch axes one."""
    xp = array_namespace(rows.unit)
    *batch, m, n = rows.unit.shape
    b = int(np.prod(batch))
    shapes = ((b, m, n), (b, m), (b, m), (b, 1))
    return Rows(*(xp.reshape(a, s) for a, s in zip(rows, shapes, strict=True)))


def multipliers(rows: Rows, points: Array | None = None, *, route: str = "auto") -> Multipliers:
    """Return the multipliers for the points (b, k, n), of norm about 1; for the unit rows themselves where None."""
    if route not in ("auto", "rows"):
        raise ValueError(f"route must be 'auto' or 'rows'; got {route!r}.")
    xp, h = array_namespace(rows.unit), rows.unit
    c = gram(h)
    q = c if points is None else points @ xp.matrix_transpose(h)
    b, k, _ = q.shape
    device = device_of(q)
    if route == "rows":
        v, hard = xp.zeros_like(q), xp.ones((b, k), dtype=xp.bool, device=device)
    else:
        v, hard = by_gramian(c, q)
    return by_rows(h, points, v, hard) if bool(xp.any(hard)) else Multipliers(v, hard, xp.zeros_like(hard))


def by_gramian(c: Array, q: Array) -> tuple[Array, Array]:
    """Return the multipliers (b, k, m) from Gramians and inner products, and where they are not good enough."""
    xp = array_namespace(c)
    b, k, m = q.shape
    if b * k == 0:
        return xp.zeros_like(q), xp.zeros((b, k), dtype=xp.bool, device=device_of(q))
    values, hard = [], []
    for part in chunks(b, max(1, LANE_BYTES // (8 * m * m * max(k, 1))), c):
        lanes_c = xp.permute_dims(c[part, :, :], (1, 2, 0))[..., None]
        size = lanes_c.shape[2] * k
        lanes_c = xp.reshape(xp.broadcast_to(lanes_c, (m, m, lanes_c.shape[2], k)), (m, m, size))
        lanes_q = xp.reshape(xp.permute_dims(q[part, :, :], (2, 0, 1)), (m, size))
        found = pivot(Normal(lanes_c, lanes_q), size, m)
        values.append(xp.permute_dims(xp.reshape(found.v, (m, -1, k)), (1, 2, 0)))
        hard.append(xp.reshape(~(found.solved & (found.least >= PIVOT)), (-1, k)))
    return xp.concat(values), xp.concat(hard)


def chunks(count: int, size: int, like: Array) -> Iterator[slice]:
    """Cut a batch into slices that fit the cache of a processor; a GPU takes all of it."""
    whole = backend_of(like).device != "cpu"
    step = count if whole else size
    return (slice(i, min(i + step, count)) for i in range(0, count, step))


def by_rows(h: Array, points: Array | None, v: Array, hard: Array) -> Multipliers:
    """Solve the hard problems from the rows themselves, and correct them in doubled precision."""
    xp, device = array_namespace(h), device_of(h)
    b, k, m = v.shape
    n = h.shape[-1]
    lane = xp.nonzero(xp.reshape(hard, (-1,)))[0]
    owner, lanes = lane // k, lane.shape[0]
    rows = xp.take(h, owner, axis=0)
    y = xp.take(xp.reshape(h if points is None else points, (b * k, n)), lane, axis=0)
    system = xp.concat([xp.matrix_transpose(rows), y[..., None]], axis=-1)  # (lanes, n, m + 1)
    if n > m + 1:
        system = xp.linalg.qr(system).R
    least_squares = LeastSquares(+xp.permute_dims(system[..., :m], (1, 2, 0)), +xp.permute_dims(system[..., m], (1, 0)))
    found = pivot(least_squares, lanes, m)
    values = xp.permute_dims(found.v, (1, 0))
    if not bool(xp.all(found.solved)):
        values = backend_of(h).asarray(active_set(to_host(system), to_host(values), to_host(found.solved)))
    values, x = correct(least_squares, rows, y, values)
    whole = put(xp.reshape(v, (b * k, m)), lane, values)
    fallback = put(xp.zeros((b * k,), dtype=xp.bool, device=device), lane, ~found.solved)
    return Multipliers(xp.reshape(whole, (b, k, m)), hard, xp.reshape(fallback, (b, k)), lane, x)


def correct(system: LeastSquares, rows: Array, y: Array, v: Array) -> tuple[Array, Array]:
    """Solve again on the support found, by residuals in doubled precision; return multipliers and points.

    With dv = -(R_F^T R_F)^-1 H_F x the error of x = y + H^T v falls by eps cond(H_F)^2 each time, and x is accurate to
    rounding although v may be large. What does not improve the complementarity residual is not taken.
    """
    xp = array_namespace(rows)
    support = xp.permute_dims(v > 0, (1, 0))
    _, t, _ = system.factor(support)
    diagonal = [t[k, k, :] for k in range(t.shape[0])]
    columns = xp.matrix_transpose(rows)
    low, best = xp.zeros_like(v), (v, y, xp.full_like(v[:, 0], math.inf))
    for _ in range(CORRECTIONS + 1):
        high, tail = dot(columns, v[:, None, :])
        x, rest = two_sum(y, high)
        x = x + (rest + tail + (columns @ low[..., None])[..., 0])
        high, tail = dot(rows, x[:, None, :])
        hx = high + tail
        residual = xp.max(xp.abs(xp.minimum(v + low, hx)), axis=-1)  # nearly unit rows and points
        better = (residual < best[2])[:, None]
        best = (xp.where(better, v + low, best[0]), xp.where(better, x, best[1]), xp.minimum(residual, best[2]))
        step = xp.where(support, -xp.permute_dims(hx, (1, 0)), xp.zeros_like(t[0, :, :]))
        step = back_substitute(t, forward_substitute(t, step), diagonal)
        v, low = two_sum(v, low + xp.permute_dims(step, (1, 0)))
    return best[0], best[1]


def put(total: Array, index: Array, values: Array) -> Array:
    """Return `total` with total[index] = values along the first axis, in operations that every backend has."""
    xp = array_namespace(total)
    position = xp.zeros((total.shape[0],), dtype=index.dtype, device=device_of(total))
    mark = xp.zeros((total.shape[0],), dtype=xp.bool, device=device_of(total))
    order = xp.searchsorted(index, xp.arange(total.shape[0], dtype=index.dtype, device=device_of(total)))
    position = xp.clip(order, 0, index.shape[0] - 1)
    mark = xp.take(index, position) == xp.arange(total.shape[0], dtype=index.dtype, device=device_of(total))
    new = xp.take(values, position, axis=0)
    return xp.where(mark[(...,) + (None,) * (total.ndim - 1)], new, total)


def active_set(system: np.ndarray, values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Solve min |R v + p| over v >= 0 on the host for the lanes that are not good; zero rows stay out.

    SciPy's solver is checked: on dependent columns it may stop too early (1.17.1 does in 2 of 10,000 problems with
    small integers), and `lawson_hanson` solves what it leaves.
    """
    from scipy.optimize import nnls

    values = values.copy()
    m = values.shape[1]
    for lane in np.nonzero(~good)[0]:
        r, p = system[lane, :, :m], system[lane, :, m]
        alive = np.any(r != 0, axis=0)
        values[lane] = 0.0
        if alive.any():
            a = r[:, alive]
            try:
                v = nnls(a, -p, maxiter=100 * m)[0]
            except RuntimeError:
                v = np.zeros(a.shape[1])
            if np.max(np.abs(np.minimum(v, a.T @ (a @ v + p)))) > UNFINISHED:
                v = lawson_hanson(a, -p)
            values[lane, alive] = v
    return values


def lawson_hanson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return argmin |a v - b| over v >= 0 for nearly unit columns [lawson1995solving].

    A column enters where the residual has a positive component along it, so that it cannot depend on those inside;
    what would turn negative leaves. Each entry lowers the residual, which makes the method finite.
    """
    m = a.shape[1]
    v, inside = np.zeros(m), np.zeros(m, bool)
    for _ in range(30 * m):
        gain = np.where(inside, -1.0, a.T @ (b - a @ v))
        if gain.max() <= 8 * m * np.finfo(float).eps * np.linalg.norm(b):
            break
        inside[np.argmax(gain)] = True
        while True:
            wanted = np.zeros(m)
            wanted[inside] = np.linalg.lstsq(a[:, inside], b, rcond=None)[0]
            negative = inside & (wanted <= 0)
            if not negative.any():
                break
            step = np.min(v[negative] / np.maximum(v[negative] - wanted[negative], 1e-300))
            v = v + step * (wanted - v)
            inside &= ~(negative & (v <= 1e-300 + 4 * np.finfo(float).eps * np.abs(v).max()))
            v[~inside] = 0.0
        v = wanted
    return v


__all__ = ["Multipliers", "Projection", "flat", "multipliers", "natural_residual", "project"]
